#!/usr/bin/env python3
"""ModelNew in threads, on streams, in CUDA graphs, on several devices."""

import copy
import sys
import threading

import pytorch_module_fixture as fixture
import torch
import assay_torch
from assay_torch import plan_cache
from pytorch_module_fixture import Skip, close, exact, on, pair


@on("cpu", "cuda")
def test_threads(device):
    model, new = pair(device, arithmetic="fp32")
    failures = []

    def work(seed):
        generator = torch.Generator().manual_seed(seed)
        try:
            with torch.no_grad():
                for i in range(12):
                    x = torch.randn(1 + seed % 3, 6, 4 + i % 4, 5, generator=generator).to(device)
                    close(new(x), exact(model, x))
        except Exception as error:
            failures.append(f"thread {seed}: {error}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


@on("cuda")
def test_streams(device):
    model, new = pair(device, (64, 128, 4, 2, 1, 1, (128, 1, 1), 2.0), arithmetic="fp32")
    streams = [torch.cuda.Stream() for _ in range(4)]
    xs = [torch.randn(4, 64, 32, 32, device=device) for _ in range(16)]
    torch.cuda.synchronize()
    ys = []
    with torch.no_grad():
        for i, x in enumerate(xs):
            with torch.cuda.stream(streams[i % 4]):
                ys.append(new(x))
        torch.cuda.synchronize()
        for x, y in zip(xs, ys):
            close(y, exact(model, x))


@on("cuda")
def test_graph(device):
    assay_torch.clear_plans()
    model, new = pair(device, arithmetic="fp32")
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            new(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = new(x)
        for _ in range(3):
            x.copy_(torch.randn_like(x))
            graph.replay()
            close(y, exact(model, x))
            close(new(x), exact(model, x))  # another plan, between replays
        old = copy.deepcopy(model)
        for m in (model, new):
            m.conv_transpose.weight.mul_(0.5)
        for _ in range(2):
            close(new(x), exact(model, x))
            graph.replay()
            close(y, exact(old, x))  # the parameters of the capture
        again = torch.cuda.CUDAGraph()
        with torch.cuda.graph(again):
            z = new(x)
        again.replay()
        graph.replay()
        close(z, exact(model, x))
        close(y, exact(old, x))
    assert sum(line.startswith("graph") for line in plan_cache.plans()) == 2


@on("cuda")
def test_capture_of_what_is_not_ready_is_refused(device):
    _, new = pair(device)
    x = torch.randn(2, 6, 5, 9, device=device)
    graph, message = torch.cuda.CUDAGraph(), ""
    with torch.no_grad():
        try:
            with torch.cuda.graph(graph):
                new(x)
        except RuntimeError as error:
            message = str(error)
        assert "before the capture" in message, message
        new(x)  # the device is well
        torch.cuda.synchronize()


@on("cuda")
def test_graphed_training(device):
    model, new = pair(device, arithmetic="fp32")
    x = torch.randn(2, 6, 5, 7, device=device)
    graphed = torch.cuda.make_graphed_callables(copy.deepcopy(new), (x,))
    for _ in range(3):
        grads = []
        for m in (model, graphed):
            for p in m.parameters():
                p.grad = None
            (m(x) - 0.3).square().sum().backward()
            grads.append([p.grad.clone() for p in m.parameters()])
            with torch.no_grad():
                for p in m.parameters():
                    p.sub_(0.1 * p.grad)
        for a, b in zip(*grads):
            close(b, a, 1e-3 * max(1.0, a.abs().max().item()))


@on("cuda")
def test_second_device(device):
    if torch.cuda.device_count() < 2:
        raise Skip("one CUDA device")
    for number in (1, 0, 1):
        model, new = pair(f"cuda:{number}", arithmetic="fp32")
        x = torch.randn(2, 6, 5, 7, device=f"cuda:{number}")
        with torch.no_grad():
            close(new(x), exact(model, x))
        assert torch.cuda.current_device() == 0


if __name__ == "__main__":
    sys.exit(fixture.main(sys.modules[__name__]))
