#!/usr/bin/env python3
"""Times ModelNew from Python beside the bare kernel and PyTorch's own forms, in one run on one GPU.

    python3 gpu/pytorch/bench.py                                     # home case, tf32 and fp32
    python3 gpu/pytorch/bench.py --record results/h200.jsonl --commit $(git rev-parse --short=12 HEAD)

Implementations, each for tf32 (PyTorch's default for convolutions) and fp32:

    assay-plan                     the kernel through the C ABI on fixed buffers: the yardstick
    assay-torch-graph              ModelNew in a CUDA graph, replayed
    assay-torch                    ModelNew called
    pytorch-eager, pytorch-compile, pytorch-compile-max-autotune    the five steps
    kernelbench-Model, kernelbench-ModelNew    as KernelBench times: see below

Device times are CUDA events, the device kept busy until the call is enqueued, two inputs in turn; the
implementations of a class take turns, one sample each a round, in an order drawn for each round, so
that drift, and the clock that the kernel before leaves, meet all alike. `wall` is the host's clock
around a call and a synchronisation on an idle device, ours in turns of their own; `+ us` the median
over these rounds of its difference to the bare kernel's: what Python costs from end to end. `host us`
is what the call keeps the host while the device is busy: on a stream of work only that counts, and
nothing of it where the kernels take longer. A small case (home@mb1) shows both best.
KernelBench's way: correct on 5 seeds at atol = rtol = 1e-4 (its strictest, float32), then the mean
of 100 calls between CUDA events after 256 MB were written, the host's time included.

Records have the keys of `assay bench --json`, one object a line; max_abs_error is against PyTorch in
float64 on the first image.
"""

import argparse
import datetime
import json
import os
import random
import secrets
import statistics
import sys
import time

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "tests")]
import assay_torch  # noqa: E402
import kernelbench_91  # noqa: E402
import pytorch_peers as peers  # noqa: E402
from assay_torch import binding, chain_operator, plan_cache  # noqa: E402

WALL_ROUNDS, WALL_ROUNDS_PYTORCH = 100, 20


def allow_tf32(allowed):
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def model_new(p, source):
    """ModelNew with the parameters of a peers.Model."""
    new = assay_torch.ModelNew(
        p.cin,
        p.cout,
        p.kernel,
        p.stride,
        p.padding,
        p.output_padding,
        (p.bias_count, 1, 1),
        p.scale,
        groups=p.groups,
        dilation=p.dilation,
    ).cuda()
    new.conv_transpose.weight.data.copy_(source.weight)
    if p.conv_bias:
        new.conv_transpose.bias.data.copy_(source.conv_bias)
    else:
        new.conv_transpose.bias = None
    new.bias.data.copy_(source.bias)
    return new


def bare(new, inputs):
    """One call of the library a sample, on buffers made before."""
    conv = new.conv_transpose
    request = chain_operator.Request(
        inputs[0],
        conv.weight,
        conv.bias,
        new.bias,
        *chain_operator.geometry(conv),
        new.scaling_factor,
        chain_operator.DEFAULT,
    )
    plan = plan_cache.find(request)
    y = torch.empty(plan.out_shape, device="cuda")
    run, stream = binding.library().assay_plan_run, torch.cuda.current_stream().cuda_stream
    images, to = inputs[0].shape[0], y.data_ptr()

    def call(x):
        binding.check(run(plan.handle, x.data_ptr(), to, images, stream))
        return y

    return call, plan.note


def graphed(new, inputs):
    """A graph for each input."""
    made = {}
    for x in inputs:
        new(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = new(x)
        made[x.data_ptr()] = (graph, y)

    def call(x):
        graph, y = made[x.data_ptr()]
        graph.replay()
        return y

    return call


def host_clock(call, x, busy):
    """Seconds (until the call returns, until the device is done); the device idle or busy before."""
    torch.cuda.synchronize()
    if busy:
        torch.cuda._sleep(peers.HEAD_START_CYCLES)
    begin = time.perf_counter()
    y = call(x)
    returned = time.perf_counter()
    torch.cuda.synchronize()
    done = time.perf_counter()
    del y
    return returned - begin, done - begin


def walls(forms, inputs, rng):
    """{name: seconds from end to end on an idle device, one a round} and {name: the median seconds
    until the call returns, the device busy}. Ours apart from PyTorch's forms, which heat."""
    wall = {name: [] for name in forms}
    host = {name: [] for name in forms}
    ours = [name for name in forms if name.startswith("assay-")]
    theirs = [name for name in forms if name not in ours]
    for names, rounds in ((ours, WALL_ROUNDS), (theirs, WALL_ROUNDS_PYTORCH)):
        for i in range(rounds):
            rng.shuffle(names)
            for name in names:
                wall[name].append(host_clock(forms[name][0], inputs[i % 2], False)[1])
        for i in range(rounds):
            for name in names:
                host[name].append(host_clock(forms[name][0], inputs[i % 2], True)[0])
    return wall, {name: statistics.median(times) for name, times in host.items()}


def products(implementation, cls, plan_note):
    """(ceiling, how many products each product costs) of what computes: of the variant that the plan
    names where it is ours, of the class where it is PyTorch."""
    if implementation.startswith("pytorch") or "-Model-" in implementation or not plan_note:
        return cls, 1
    variant = plan_note.split(":")[0]
    if variant.endswith("fp16x3"):
        return "fp16", 3
    if variant.endswith("fp16"):
        return "fp16", 1
    return ("tf32" if variant.endswith("tf32") else "fp32"), 1


class Run:
    def __init__(self, args, timer, ceilings):
        self.args, self.timer, self.ceilings = args, timer, ceilings
        self.name = secrets.token_hex(4)
        self.machine = peers.machine_name(False)
        self.table, self.failed = [], 0
        self.plan_notes = {}  # of each class: what the library's plan says of itself

    def emit(self, p, case, implementation, cls, samples, **more):
        record = {
            "schema": 1,
            "kind": "bench",
            "time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "run": self.name,
            "commit": self.args.commit,
            "machine": self.machine,
            "case": case,
            "problem": p.text,
            "implementation": implementation,
            "class": cls,
            "verdict": None,
            "reason": None,
            "max_abs_error": None,
            "seed": self.args.seed,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(),
            "note": f"PyTorch {torch.__version__}",
            **more,
        }
        if samples:
            median, low, high = peers.confidence(samples)
            bytes_s = 1e-9 * p.bytes() / self.ceilings["copy"]
            unit, passes = products(implementation, cls, self.plan_notes.get(cls))
            flops_s = passes * 1e-12 * p.flops() / self.ceilings[unit]
            floor = max(bytes_s, flops_s)
            record.update(
                median_s=median,
                ci_low_s=low,
                ci_high_s=high,
                gflops=1e-9 * p.flops() / median,
                gbytes_per_s=1e-9 * p.bytes() / median,
                floor_s=floor,
                over_floor=median / floor,
                bound_by="bytes" if bytes_s >= flops_s else "fp32" if unit == "fp32" else "tensor",
                ceiling_copy_gbytes_per_s=self.ceilings["copy"],
                ceiling_write_gbytes_per_s=self.ceilings["write"],
                ceiling_fp16_tflops=self.ceilings["fp16"],
                ceiling_tf32_tflops=self.ceilings["tf32"],
                ceiling_fp32_tflops=self.ceilings["fp32"],
                rounds=len(samples),
                samples_s=samples,
            )
        text = json.dumps(record, separators=(",", ":"))
        self.failed += record["reason"] is not None
        if self.args.json:
            print(text, flush=True)
        if self.args.record:
            with open(self.args.record, "a") as f:
                f.write(text + "\n")
        self.table.append(record)

    def talk(self, line):
        print(line, file=sys.stderr if self.args.json else sys.stdout, flush=True)


def forms_of(p, model, new, inputs, names):
    """{name: (call, note)} of one class; what cannot be made is (None, why)."""
    makers = {
        "assay-plan": lambda: bare(new, inputs),
        "assay-torch": lambda: (new, ""),
        "assay-torch-graph": lambda: (graphed(new, inputs), ""),
        "pytorch-eager": lambda: (model, ""),
        "pytorch-compile": lambda: (torch.compile(model, fullgraph=True), ""),
        "pytorch-compile-max-autotune": lambda: (
            torch.compile(model, mode="max-autotune", fullgraph=True),
            "",
        ),
    }
    forms = {}
    for name, make in makers.items():
        if names and name not in names:
            continue
        try:
            forms[name] = make()
            forms[name][0](inputs[0])  # compiles, too
            torch.cuda.synchronize()
        except Exception as e:  # one that fails must not cost the others
            forms[name] = (None, f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}")
    return forms


def bench_class(run, case, p, cls):
    args, timer = run.args, run.timer
    torch._dynamo.reset()
    allow_tf32(cls == "tf32")
    generator = torch.Generator(device="cuda").manual_seed(args.seed)
    inputs = [
        torch.rand((p.batch, p.cin, *p.size), device="cuda", generator=generator) * 2 - 1
        for _ in range(2)
    ]
    model = peers.Model(p, args.seed).cuda()
    new = model_new(p, model)
    exact = peers.Model(p, args.seed).cuda().double()(inputs[0][:1].double())
    small = p.bytes() < 2 * timer.l2
    rng = random.Random(args.seed)
    with torch.no_grad():
        forms = forms_of(p, model, new, inputs, args.impl)
        samples, errors = {}, {}
        for name, (call, why) in list(forms.items()):
            if call is None:
                run.talk(f"✗ {name}-{cls}: {why}")
                run.emit(p, case, f"{name}-{cls}", cls, None, reason=why)
                del forms[name]
                continue
            errors[name] = (call(inputs[0])[:1].double() - exact).abs().max().item()
            for i in range(3):
                timer.once(lambda: call(inputs[i % 2]), small)
            samples[name] = []
        begin = time.monotonic()
        while (
            len(next(iter(samples.values()))) < peers.MIN_SAMPLES
            or time.monotonic() - begin < args.budget
        ):
            x = inputs[len(next(iter(samples.values()))) % 2]
            for name in rng.sample(list(forms), len(forms)):
                call = forms[name][0]
                samples[name].append(timer.once(lambda: call(x), small))
        run.plan_notes[cls] = forms["assay-plan"][1] if "assay-plan" in forms else None
        wall, host = walls(forms, inputs, rng)
    base = statistics.median(samples["assay-plan"]) if "assay-plan" in samples else None
    run.talk(
        f"\n{case}, {cls}: {len(next(iter(samples.values())))} rounds\n"
        f"  {'implementation':34s} {'device ms':>10s} {'x plan':>8s} {'wall ms':>9s} "
        f"{'+ us':>7s} {'host us':>8s}  {'error':>7s}"
    )
    for name in forms:
        median = statistics.median(samples[name])
        note = forms[name][1] or ("assay-" in name and assay_torch.build()) or ""
        run.emit(
            p,
            case,
            f"{name}-{cls}",
            cls,
            samples[name],
            max_abs_error=errors[name],
            wall_s=statistics.median(wall[name]),
            host_s=host[name],
            note=f"PyTorch {torch.__version__}" + (f"; {note}" if note else ""),
        )
        over = f"{median / base:8.3f}" if base else " " * 8
        more = " " * 7
        if base:
            differences = [a - b for a, b in zip(wall[name], wall["assay-plan"])]
            more = f"{1e6 * statistics.median(differences):7.0f}"
        run.talk(
            f"  {name + '-' + cls:34s} {1e3 * median:10.4f} {over} "
            f"{1e3 * statistics.median(wall[name]):9.4f} {more} {1e6 * host[name]:8.1f}  {errors[name]:7.1e}  {forms[name][1]}"
        )


# ---- as KernelBench measures ---------------------------------------------------------------------


def kernelbench_times(call, arguments, trials=100):
    """Seconds between events around each call, the host's time included; the first is left out."""
    for _ in range(3):
        call(*arguments)
        torch.cuda.synchronize()
    torch.cuda.empty_cache()
    times = []
    for _ in range(trials + 1):
        torch.cuda.synchronize()
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.empty(32 * 1024 * 1024, dtype=torch.int64, device="cuda").fill_(42)
        start.record()
        call(*arguments)
        stop.record()
        torch.cuda.synchronize()
        times.append(1e-3 * start.elapsed_time(stop))
    return times[1:]


def bench_kernelbench(run, cls):
    allow_tf32(cls == "tf32")
    p = peers.Problem("home")
    worst, passed, trials = 0.0, 0, 5
    for trial in range(trials):
        modules = []
        for factory in (kernelbench_91.Model, kernelbench_91.ModelNew):
            torch.manual_seed(42 + trial)
            inputs = [x.cuda() for x in kernelbench_91.get_inputs()] if not modules else inputs
            torch.manual_seed(42 + trial)
            modules.append(factory(*kernelbench_91.get_init_inputs()).cuda())
        with torch.no_grad():
            want, y = (m(*inputs) for m in modules)
            passed += torch.allclose(y, want, atol=1e-4, rtol=1e-4)
            worst = max(worst, (y - want).abs().max().item())
            del want, y
    means = {}
    for name, module in zip(("Model", "ModelNew"), modules):
        with torch.no_grad():
            samples = kernelbench_times(module, inputs)
        means[name] = statistics.fmean(samples)
        reason = None if passed == trials else f"{passed} of {trials} trials within 1e-4"
        run.emit(
            p,
            "kernelbench-91",
            f"kernelbench-{name}-{cls}",
            cls,
            samples,
            max_abs_error=worst if name == "ModelNew" else None,
            reason=reason if name == "ModelNew" else None,
            note=f"PyTorch {torch.__version__}; mean {means[name]:.6g} s; error against Model",
        )
    run.talk(
        f"\nKernelBench level 2 problem 91, {cls}: {passed} of {trials} trials within 1e-4 "
        f"(worst {worst:.1e}), {1e3 * means['Model']:.3f} ms -> "
        f"{1e3 * means['ModelNew']:.3f} ms, speed-up {means['Model'] / means['ModelNew']:.1f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", default=["home"], help="descriptor, home or home@mbN")
    parser.add_argument("--impl", type=lambda s: s.split(","), help="only these, comma-separated")
    parser.add_argument(
        "--class",
        dest="classes",
        type=lambda s: s.split(","),
        default=["tf32", "fp32"],
        help="tf32, fp32 or both (the default)",
    )
    parser.add_argument("--budget", type=float, default=6.0, help="seconds for each class")
    parser.add_argument("--no-kernelbench", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", help="append records to this file (.jsonl)")
    parser.add_argument("--json", action="store_true", help="records on standard output")
    parser.add_argument("--commit", default="unknown", help="the commit that is measured")
    args = parser.parse_args()
    try:
        cases = [(text, peers.Problem(text)) for text in args.case]
        if not torch.cuda.is_available():
            raise peers.BadInput("PyTorch sees no CUDA device")
        if not set(args.classes) <= {"tf32", "fp32"}:
            raise peers.BadInput(f"--class {','.join(args.classes)}: there are tf32 and fp32")
        assay_torch.build()
    except (peers.BadInput, assay_torch.LibraryError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    torch.set_grad_enabled(False)
    timer = peers.CudaTimer("cuda")
    run = Run(args, timer, timer.ceilings())
    run.talk(
        f"{run.machine}, PyTorch {torch.__version__}, {assay_torch.build()}\nceilings: "
        + ", ".join(f"{k} {v:.0f}" for k, v in run.ceilings.items())
        + " (GB/s, TFLOP/s)"
    )
    for case, p in cases:
        for cls in args.classes:
            bench_class(run, case, p, cls)
            torch.cuda.empty_cache()
    if not args.no_kernelbench:
        for cls in args.classes:
            bench_kernelbench(run, cls)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
