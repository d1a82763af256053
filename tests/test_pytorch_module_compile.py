#!/usr/bin/env python3
"""ModelNew under torch.compile, torch.export and what traces."""

import io
import sys
import warnings

import pytorch_module_fixture as fixture
import torch
from assay_torch import ModelNew, chain_operator
from pytorch_module_fixture import SMALL, close, exact, on, pair


@on("cpu", "cuda")
def test_compile(device):
    torch._dynamo.reset()
    model, new = pair(device, arithmetic="fp32")
    compiled = torch.compile(new, fullgraph=True)
    for shape in ((2, 6, 5, 7), (3, 6, 5, 7), (4, 6, 8, 7)):  # the second makes sizes dynamic
        x = torch.randn(shape, device=device)
        with torch.no_grad():
            close(compiled(x), exact(model, x))
    with torch.no_grad():
        new.bias.add_(0.5)
        model.bias.add_(0.5)
        close(compiled(x), exact(model, x))
    around = torch.compile(lambda x: 2 * new(x.relu() + 1), fullgraph=True)
    with torch.no_grad():
        close(around(x), 2 * exact(model, x.relu() + 1), 1e-5)
    x = torch.randn(2, 6, 5, 7, device=device, requires_grad=True)
    compiled(x).square().sum().backward()
    got = [x.grad, *[p.grad for p in new.parameters()]]
    x.grad = None
    model(x).square().sum().backward()
    for a, b in zip([x.grad, *[p.grad for p in model.parameters()]], got):
        close(b, a, 2e-3 * max(1.0, a.abs().max().item()))


@on("cpu", "cuda")
def test_compile_autocast_and_half(device):
    torch._dynamo.reset()
    model, new = pair(device)
    compiled = torch.compile(new, fullgraph=True)
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
        y = compiled(x)
        assert y.dtype is torch.float32
        close(y, model(x), 4e-2)
    model, new = pair(device, dtype=torch.bfloat16)
    with torch.no_grad():
        y = torch.compile(new, fullgraph=True)(x.bfloat16())
        assert y.dtype is torch.bfloat16
        close(y, exact(model, x.bfloat16()))


@on("cpu", "cuda")
def test_compile_of_transforms(device):
    model, new = pair(device, arithmetic="fp32")
    x = torch.randn(2, 6, 5, 7, device=device)
    graphs = []

    def keep(graph, inputs):
        graphs.append(graph.code)
        return graph

    transforms = {
        "none": lambda m: m,
        "jvp": lambda m: lambda x: torch.func.jvp(m, (x,), (torch.ones_like(x),))[1],
        "grad": lambda m: torch.func.grad(lambda x: m(x).square().sum()),
        "jacfwd": lambda m: torch.func.jacfwd(lambda x: m(x).sum((0, 2, 3))),
    }
    for name, transform in transforms.items():
        torch._dynamo.reset()
        graphs.clear()
        with torch.no_grad():
            y = torch.compile(transform(new), backend=keep, fullgraph=True)(x)
            try:
                close(y, transform(model)(x), 1e-2 if device == "cuda" else 1e-5)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from None
        ours = "conv_transpose2d_softmax_sigmoid" in "".join(graphs)
        assert ours == (name == "none"), f"{name}: {graphs}"


@on("cuda")
def test_compile_with_graphs_sees_changed_parameters(device):
    torch._dynamo.reset()
    model, new = pair(device, arithmetic="fp32")
    compiled = torch.compile(new, mode="reduce-overhead", fullgraph=True)
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad():
        for step in range(6):
            close(compiled(x), exact(model, x))
            for m in (model, new):
                m.conv_transpose.weight.mul_(0.9)


@on("cpu", "cuda")
def test_export(device):
    model, new = pair(device, arithmetic="fp32")
    x = torch.randn(2, 6, 5, 7, device=device)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(new, (x,), dynamic_shapes=({0: batch},))
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert targets == ["assay.conv_transpose2d_softmax_sigmoid.default"], targets
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    again = torch.export.load(file).module()
    x = torch.randn(5, 6, 5, 7, device=device)
    with torch.no_grad():
        close(again(x), exact(model, x))


@on("cpu", "cuda")
def test_operator_is_registered_as_pytorch_wants(device):
    _, new = pair(device)
    conv = new.conv_transpose
    for x, dtype in (
        (torch.randn(2, 6, 5, 7, device=device), torch.float32),
        (torch.randn(2, 6, 5, 7, device=device, requires_grad=True), torch.float32),
    ):
        arguments = (
            x,
            conv.weight,
            conv.bias,
            new.bias,
            *chain_operator.geometry(conv),
            2.0,
            "fp32",
            dtype,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.library.opcheck(
                torch.ops.assay.conv_transpose2d_softmax_sigmoid.default,
                arguments,
                atol=1e-3,
                rtol=1e-3,
            )


@on("cpu", "cuda")
def test_tracers(device):
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    model, new = pair(device)
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad():
        graph = make_fx(new)(x)
        close(graph(x), new(x), 1e-300)
        assert "assay" in graph.code
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(new, x, check_trace=False)
        close(traced(x), new(x), 1e-300)
    with FakeTensorMode():
        fake = ModelNew(*SMALL)(torch.empty(2, 6, 5, 7))
    with torch.device("meta"):
        meta = ModelNew(*SMALL)(torch.empty(2, 6, 5, 7))
    assert fake.shape == meta.shape == new(x).shape
    with torch.no_grad():
        symbolic = torch.func.grad(lambda x: new(x).sum())(x)
        want = torch.func.grad(lambda x: model(x).sum())(x)
        close(symbolic, want, 2e-3)
        close(torch.func.vmap(new)(x[None]), model(x)[None], 1e-2)
        want = torch.func.jvp(model, (x,), (torch.ones_like(x),))[1]
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            tangent = torch.autograd.forward_ad.unpack_dual(new(dual)).tangent
            close(tangent, want, 2e-3)


if __name__ == "__main__":
    sys.exit(fixture.main(sys.modules[__name__]))
