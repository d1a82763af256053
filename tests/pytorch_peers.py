#!/usr/bin/env python3
"""Times PyTorch's own forms of the operator, as peers beside `assay bench`.

    python3 tests/pytorch_peers.py home                              # CUDA: eager and torch.compile
    python3 tests/pytorch_peers.py --suite data/suites/networks.txt --record results/h200.jsonl \\
                                   --commit $(git rev-parse --short=12 HEAD)
    python3 tests/pytorch_peers.py --cpu home@mb32                   # PyTorch's CPU path

y = sigmoid(scaling_factor * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias)), as five
PyTorch calls. Implementations: pytorch-{eager,compile,compile-max-autotune}-{tf32,fp32} on CUDA
(tf32 is PyTorch's default for convolutions), pytorch-{eager,compile}-cpu with --cpu.

Timing has the same manners as `assay bench`: CUDA events with the device kept busy until the call is
enqueued, inputs that take turns and an L2 that is flushed where the tensors are small, warm-up, at
least 10 samples, a stop when the median's 95 % confidence interval is within 0.5 % on either side or
at the budget, ceilings (copy, matrix rates) measured in the same run. Records have the keys of
`assay bench --json`, one JSON object a line; max_abs_error is against PyTorch in float64 on the first
image. Calls are timed as a Python program makes them, so small problems hold the host's time too
unless torch.compile's CUDA graphs remove it.
"""

import argparse
import datetime
import json
import math
import platform
import re
import statistics
import sys
import time

import torch

HOME = "mb128ic64ih64oc128kh4sh2ph1oph1"
KEYS = ("mb", "ic", "ih", "iw", "oc", "kh", "kw", "sh", "sw", "ph", "pw", "oph", "opw", "dh", "dw",
        "g", "sf", "cb", "bs")
MIN_SAMPLES, HALF_WIDTH = 10, 0.005
HEAD_START_CYCLES = 400_000  # about 0.2 ms: the time in which Python enqueues a call


class BadInput(Exception):
    """What was asked cannot be done; the message is one line."""


# ---- problems ------------------------------------------------------------------------------------


class Problem:
    """A descriptor (ref/descriptor.h), read."""

    def __init__(self, text):
        if text == "home" or text.startswith("home@mb"):
            text = HOME if text == "home" else re.sub(r"^mb\d+", text[5:], HOME)
        got = {}
        rest = text
        while rest:
            m = re.match(r"([a-z]+)(-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)", rest)
            if not m or m[1] not in KEYS or m[1] in got:
                raise BadInput(f"'{text}' is not a problem descriptor, from '{rest}' on")
            got[m[1]] = float(m[2]) if m[1] == "sf" else int(m[2])
            rest = rest[m.end():]
        for key in ("mb", "ic", "ih", "oc", "kh"):
            if key not in got:
                raise BadInput(f"'{text}' lacks '{key}'")
        self.text = text
        self.batch, self.cin, self.cout, self.groups = (
            got["mb"], got["ic"], got["oc"], got.get("g", 1))

        def both(h, w, default=None):
            return (got.get(h, default), got.get(w, got.get(h, default)))

        self.size = both("ih", "iw")
        self.kernel = both("kh", "kw")
        self.stride = both("sh", "sw", 1)
        self.padding = both("ph", "pw", 0)
        self.output_padding = both("oph", "opw", 0)
        self.dilation = both("dh", "dw", 1)
        self.scale = got.get("sf", 2.0)
        self.conv_bias = bool(got.get("cb", 1))
        self.bias_count = got.get("bs", self.cout)
        self.out = tuple(
            (self.size[i] - 1) * self.stride[i] - 2 * self.padding[i]
            + self.dilation[i] * (self.kernel[i] - 1) + self.output_padding[i] + 1
            for i in range(2))

    def flops(self):
        """2 for every (input pixel, kernel tap) pair whose output exists, times channels."""
        pairs = 1
        for i in range(2):
            pairs *= sum(
                0 <= p * self.stride[i] + k * self.dilation[i] - self.padding[i] < self.out[i]
                for p in range(self.size[i]) for k in range(self.kernel[i]))
        return 2.0 * self.batch * self.cin * (self.cout // self.groups) * pairs

    def bytes(self):
        """x, W and the biases read once, y written once."""
        x = self.batch * self.cin * self.size[0] * self.size[1]
        w = self.cin * (self.cout // self.groups) * self.kernel[0] * self.kernel[1]
        y = self.batch * self.cout * self.out[0] * self.out[1]
        return 4.0 * (x + w + y + (self.cout if self.conv_bias else 0) + self.bias_count)


class Model(torch.nn.Module):
    """The original five steps. Weights spread the logits over a few units."""

    def __init__(self, p, seed):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        terms = p.cin // p.groups * math.ceil(p.kernel[0] / p.stride[0]) * math.ceil(
            p.kernel[1] / p.stride[1])
        shape = (p.cin, p.cout // p.groups, *p.kernel)
        self.weight = torch.nn.Parameter(
            torch.randn(shape, generator=g) * 1.5 * (3.0 / terms) ** 0.5, requires_grad=False)
        self.conv_bias = torch.nn.Parameter(
            torch.randn(p.cout, generator=g), requires_grad=False) if p.conv_bias else None
        self.bias = torch.nn.Parameter(
            0.5 * torch.randn((p.bias_count, 1, 1), generator=g), requires_grad=False)
        self.p = p

    def forward(self, x):
        p = self.p
        y = torch.nn.functional.conv_transpose2d(
            x, self.weight, self.conv_bias, p.stride, p.padding, p.output_padding, p.groups,
            p.dilation)
        y = torch.softmax(y, dim=1)
        y = y + self.bias
        y = y * p.scale
        return torch.sigmoid(y)


# ---- timing --------------------------------------------------------------------------------------


def confidence(samples):
    """Median and the order statistics that enclose it with 95 % confidence."""
    s, n = sorted(samples), len(samples)
    low = max(1, math.floor(0.5 * (n - 1.96 * math.sqrt(n))))
    return statistics.median(s), s[low - 1], s[n - low]


def sample_until_done(sample, budget_s):
    samples, begin = [], time.monotonic()
    while True:
        samples.append(sample(len(samples)))
        if len(samples) < MIN_SAMPLES:
            continue
        median, low, high = confidence(samples)
        if max(median - low, high - median) <= HALF_WIDTH * median:
            return samples
        if time.monotonic() - begin >= budget_s or len(samples) >= 4096:
            return samples


class CudaTimer:
    def __init__(self, device):
        self.l2 = torch.cuda.get_device_properties(device).L2_cache_size
        self.flush = torch.empty(2 * self.l2, dtype=torch.uint8, device=device)
        self.start = torch.cuda.Event(enable_timing=True)
        self.stop = torch.cuda.Event(enable_timing=True)

    def once(self, call, flush):
        if flush:
            self.flush.fill_(1)
        torch.cuda.synchronize()
        torch.cuda._sleep(HEAD_START_CYCLES)
        self.start.record()
        result = call()
        self.stop.record()
        torch.cuda.synchronize()
        del result
        return 1e-3 * self.start.elapsed_time(self.stop)

    def samples(self, call, inputs, flush, budget_s):
        for i in range(3):
            self.once(lambda: call(inputs[i % len(inputs)]), flush)
        return sample_until_done(
            lambda i: self.once(lambda: call(inputs[i % len(inputs)]), flush), budget_s)

    def ceilings(self):
        """GB/s of a copy and of a fill; TFLOP/s of fp16, tf32 and fp32 products of 8192."""
        def median(call):
            return statistics.median([self.once(call, False) for _ in range(8)][1:])

        n, count = 8192, 1 << 29
        a = torch.empty(count, device="cuda").uniform_(-1, 1)
        b = torch.empty_like(a)
        copy = 8e-9 * count / median(lambda: b.copy_(a))
        write = 4e-9 * count / median(lambda: b.fill_(1.0))
        del a, b
        torch.cuda.empty_cache()
        rates = {}
        for name, dtype, tf32 in (("fp16", torch.float16, False), ("tf32", torch.float32, True),
                                  ("fp32", torch.float32, False)):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a = torch.empty(n, n, device="cuda").uniform_(-1, 1).to(dtype)
            b = torch.empty(n, n, device="cuda").uniform_(-1, 1).to(dtype)
            rates[name] = 2e-12 * n ** 3 / median(lambda: a @ b)
        del a, b
        torch.cuda.empty_cache()
        return {"copy": copy, "write": write, **rates}


def cpu_samples(call, inputs, budget_s):
    def once(i):
        begin = time.perf_counter()
        call(inputs[i % len(inputs)])
        return time.perf_counter() - begin

    once(0)
    once(1)
    return sample_until_done(once, budget_s)


# ---- implementations -----------------------------------------------------------------------------


def implementations(cpu):
    """(name, torch.compile mode or None for eager, class)"""
    if cpu:
        return [("pytorch-eager-cpu", None, "fp32"), ("pytorch-compile-cpu", "default", "fp32")]
    return [(f"pytorch-{form}-{cls}", mode, cls)
            for cls in ("tf32", "fp32")
            for form, mode in (("eager", None), ("compile", "default"),
                               ("compile-max-autotune", "max-autotune"))]


def run_case(name, p, args, timer, ceilings, emit):
    device = "cpu" if args.cpu else "cuda"
    generator = torch.Generator(device=device).manual_seed(args.seed)
    inputs = [torch.rand((p.batch, p.cin, *p.size), device=device, generator=generator) * 2 - 1
              for _ in range(2)]
    model = Model(p, args.seed).to(device)
    small = timer is not None and p.bytes() < 2 * timer.l2
    exact = Model(p, args.seed).to(device).double()(inputs[0][:1].double())
    for implementation, mode, cls in implementations(args.cpu):
        if args.impl and implementation not in args.impl:
            continue
        record = {"schema": 1, "time": datetime.datetime.now(datetime.timezone.utc).strftime(
                      "%Y-%m-%dT%H:%M:%SZ"), "commit": args.commit, "machine": args.machine,
                  "case": name, "problem": p.text, "implementation": implementation, "class": cls,
                  "verdict": None, "reason": None, "max_abs_error": None, "seed": args.seed,
                  "threads": torch.get_num_threads(), "device": args.device_name,
                  "note": f"PyTorch {torch.__version__}"}
        try:
            torch._dynamo.reset()
            torch.backends.cudnn.allow_tf32 = cls == "tf32"
            torch.backends.cuda.matmul.allow_tf32 = cls == "tf32"
            call = model if mode is None else torch.compile(model, mode=mode, fullgraph=True)
            with torch.inference_mode():
                begin = time.monotonic()
                y = call(inputs[0])
                error = (y[:1].double() - exact).abs().max().item()
                del y
                record["prepare_s"] = time.monotonic() - begin
                samples = (cpu_samples(call, inputs, args.budget) if args.cpu
                           else timer.samples(call, inputs, small, args.budget))
        except Exception as e:  # one implementation that fails must not cost the others
            record["reason"] = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
            emit(record, f"✗ {implementation:32s} {name:18s} {record['reason'][:80]}")
            continue
        median, low, high = confidence(samples)
        record.update(max_abs_error=error, median_s=median, ci_low_s=low, ci_high_s=high,
                      gflops=1e-9 * p.flops() / median, gbytes_per_s=1e-9 * p.bytes() / median)
        over = ""
        if ceilings:
            bytes_s = 1e-9 * p.bytes() / ceilings["copy"]
            flops_s = 1e-12 * p.flops() / ceilings[cls]
            floor = max(bytes_s, flops_s)
            record.update(
                floor_s=floor, over_floor=median / floor,
                bound_by="bytes" if bytes_s >= flops_s else "fp32" if cls == "fp32" else "tensor",
                ceiling_copy_gbytes_per_s=ceilings["copy"],
                ceiling_write_gbytes_per_s=ceilings["write"],
                ceiling_fp16_tflops=ceilings["fp16"], ceiling_tf32_tflops=ceilings["tf32"],
                ceiling_fp32_tflops=ceilings["fp32"])
            over = f"{median / floor:8.2f} x floor ({record['bound_by']})"
        record["samples_s"] = samples
        emit(record, f"  {implementation:32s} {name:18s} {1e3 * median:10.4f} ms "
                     f"({1e3 * low:.4f} to {1e3 * high:.4f}, {len(samples)} samples)"
                     f"  error {error:.1e}{over}")


def cases_of(args):
    cases = [(text, Problem(text)) for text in args.case]
    if args.suite:
        with open(args.suite) as f:
            for number, line in enumerate(f, 1):
                words = line.split("#")[0].split()
                if not words:
                    continue
                if len(words) < 2:
                    raise BadInput(f"{args.suite}:{number}: wanted NAME CASE")
                cases.append((words[0], Problem(words[1])))
    if not cases:
        raise BadInput("no case: name a descriptor, 'home', or --suite FILE")
    return cases


def machine_name(cpu):
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            name = next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    name += f", {torch.get_num_threads()} cores"
    return name if cpu else f"{name}, {torch.cuda.get_device_name()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", help="descriptor, home or home@mbN")
    parser.add_argument("--suite", help="also the cases of a suite file")
    parser.add_argument("--impl", type=lambda s: s.split(","), help="only these, comma-separated")
    parser.add_argument("--cpu", action="store_true", help="PyTorch's CPU path")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds for each (default 10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", help="append records to this file (.jsonl)")
    parser.add_argument("--json", action="store_true", help="records on standard output")
    parser.add_argument("--commit", default="unknown", help="the commit that is measured")
    args = parser.parse_args()
    try:
        cases = cases_of(args)
        if not args.cpu and not torch.cuda.is_available():
            raise BadInput("PyTorch sees no CUDA device; --cpu times its CPU path")
    except (BadInput, OSError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    args.machine = machine_name(args.cpu)
    args.device_name = None if args.cpu else torch.cuda.get_device_name()
    torch.set_grad_enabled(False)
    timer = None if args.cpu else CudaTimer("cuda")
    ceilings = None if args.cpu else timer.ceilings()
    talk = sys.stderr if args.json else sys.stdout
    print(f"{args.machine}, PyTorch {torch.__version__}, commit {args.commit}", file=talk)
    if ceilings:
        print("ceilings: " + ", ".join(f"{k} {v:.0f}" for k, v in ceilings.items())
              + " (GB/s, TFLOP/s)", file=talk)
    failed = 0

    def emit(record, line):
        nonlocal failed
        failed += record["reason"] is not None
        text = json.dumps(record, separators=(",", ":"))
        print(line, file=talk, flush=True)
        if args.json:
            print(text, flush=True)
        if args.record:
            with open(args.record, "a") as f:
                f.write(text + "\n")

    for name, p in cases:
        run_case(name, p, args, timer, ceilings, emit)
        if not args.cpu:
            torch.cuda.empty_cache()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
