#!/usr/bin/env python3
"""assay against PyTorch: run by `make test-pytorch`.

    python tests/test_pytorch.py [--assay build/assay] [--problems 300] [--seed 1] [SECTION...]

Sections:
  oracle      random problems: /expected of `assay golden` against the same chain in torch.float64
  validation  random arguments, right and wrong: ConvTranspose2d and assay accept the same ones
  check       `assay check` accepts PyTorch's float32 output and refuses its bfloat16 one
  exec        `assay verify --impl exec:...` with tests/examples/run_module.py
  files       case files made in Python (README's lines, from_pytorch.py) and read by assay
  golden      make_golden.py makes what is in data/golden
  triton      tests/examples/triton_kernel.py, where there is a GPU

One line a failure, with what runs it again; at the end `N passed, N failed`. Exit status 1 if any
failed. Without torch or h5py it says so and exits 0.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings

try:
    import h5py
    import numpy as np
    import torch
except ImportError as error:
    print(f"test_pytorch: skipped: {error} (make test-pytorch installs it)")
    print("0 passed, 0 failed")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "data"))
sys.path.insert(0, os.path.join(ROOT, "tests", "examples"))
from case_file import BIAS, CONV_BIAS, WEIGHT, read_case  # noqa: E402
from run_module import Model, build  # noqa: E402
from run_module import read_case as read_arguments  # noqa: E402

U64 = 2.0**-53
FILLS = ("kernelbench", "conditioned", "exact", "impulse", "extreme", "special")
NOT_FINITE = ("special",)


class Tally:
    passed = failed = 0

    def check(self, good, what):
        """Counts one check; says what failed."""
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {what}", flush=True)
        return good


def run(*command):
    """(exit status, stdout, stderr) of a command; status 'timeout' after two minutes."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return "timeout", "", ""
    return done.returncode, done.stdout, done.stderr.strip()


def quoted(command):
    return " ".join(f"'{word}'" if " " in word else word for word in command)


# ---- the chain in PyTorch ------------------------------------------------------------------------


def torch_chain(case, dtype):
    """(logits without conv bias, y) of PyTorch's own functions, in `dtype` on the CPU."""
    x, weight = case.tensor("input").to(dtype), case.tensor(WEIGHT).to(dtype)
    conv_bias, bias = case.tensor(CONV_BIAS), case.tensor(BIAS)
    stride, padding, output_padding, dilation, groups = case.geometry()
    z = torch.nn.functional.conv_transpose2d(
        x,
        weight,
        None if conv_bias is None else conv_bias.to(dtype),
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )
    p = torch.softmax(z, dim=1)
    y = torch.sigmoid((p + bias.to(dtype).reshape(1, -1, 1, 1)) * float(case.scaling_factor))
    return z, y


def float64_bound(case, z, y):
    """What two honest float64 evaluations of y may differ by, element by element.

    Each sum of K products is within gamma(K) of sum |x||W|, whatever its order; so two logits of a
    pixel are within d, the largest of twice that over its channels, with the roundings of z - max.
    exp and the division turn d into a relative error of p of at most exp(2 d) - 1; the sum over
    channels, exp, the division and the sigmoid have a few roundings of their own; and the sigmoid's
    slope is scale * y * (1 - y) <= |scale| / 4.
    """
    x, weight = case.tensor("input").nan_to_num(0, 0, 0), case.tensor(WEIGHT).nan_to_num(0, 0, 0)
    stride, padding, output_padding, dilation, groups = case.geometry()
    size = torch.nn.functional.conv_transpose2d(
        x.abs(), weight.abs(), None, stride, padding, output_padding, groups, dilation
    )
    if CONV_BIAS in case.params:
        size = size + case.tensor(CONV_BIAS).nan_to_num(0, 0, 0).abs().view(1, -1, 1, 1)
    terms = weight.shape[0] // groups * weight.shape[2] * weight.shape[3] + 2
    scale, channels = abs(float(case.scaling_factor)), size.shape[1]
    d = (2 * terms * U64 * size + 4 * U64 * z.nan_to_num(0, 0, 0).abs()).amax(dim=1, keepdim=True)
    p = torch.softmax(z, dim=1).nan_to_num(0, 0, 0)
    bias = case.tensor(BIAS).nan_to_num(0, 0, 0).abs().reshape(1, -1, 1, 1)
    before = p * (torch.expm1(2 * d) + 2 * (channels + 8) * U64) + 8 * U64 * (p + bias)
    return scale / 4 * before + 16 * U64


def compare(case, expected):
    """The largest error of `expected` over its bound; inf where NaN stands in other places."""
    z, y = torch_chain(case, torch.float64)
    expected = torch.from_numpy(expected.astype(np.float64))
    if y.shape != expected.shape or not torch.equal(y.isnan(), expected.isnan()):
        return float("inf")
    bound = float64_bound(case, z, y)
    ratio = ((y - expected).abs() / bound)[~y.isnan()]
    return ratio.max().item() if ratio.numel() else 0.0


# ---- random problems -----------------------------------------------------------------------------

KEYS = (
    "mb",
    "ic",
    "ih",
    "iw",
    "oc",
    "kh",
    "kw",
    "sh",
    "sw",
    "ph",
    "pw",
    "oph",
    "opw",
    "dh",
    "dw",
    "g",
)


def random_problem(rng):
    """A dictionary of KEYS, accepted by ConvTranspose2d (output of at most some 10^5 elements)."""
    while True:
        groups = rng.choice([1, 1, 1, 2, 3, 4])
        q = {
            "mb": rng.randint(1, 3),
            "ic": groups * rng.randint(1, 6),
            "ih": rng.choice([1, 2, 3, 4, 5, 7, 8, 11, 16]),
            "iw": rng.choice([1, 2, 3, 4, 5, 7, 8, 11, 16]),
            "oc": groups * rng.choice([1, 2, 3, 4, 5, 7, 13]),
            "g": groups,
        }
        for axis in "hw":
            q["k" + axis] = rng.randint(1, 5)
            q["s" + axis] = rng.randint(1, 4)
            q["d" + axis] = rng.choice([1, 1, 1, 2, 3])
            q["p" + axis] = rng.randint(0, q["d" + axis] * q["k" + axis])
            q["op" + axis] = rng.randint(0, max(q["s" + axis], q["d" + axis]) - 1)
        if rng.random() < 0.4:  # the same on both axes
            for key in ("k", "s", "d", "p", "op"):
                q[key + "w"] = q[key + "h"]
        if min(output(q)) >= 1:
            return q


def output(q):
    return [
        (q["i" + a] - 1) * q["s" + a]
        - 2 * q["p" + a]
        + q["d" + a] * (q["k" + a] - 1)
        + q["op" + a]
        + 1
        for a in "hw"
    ]


def descriptor(q, rng=None, conv_bias=True, bias_one=False, scale=None):
    """In letters; with `rng`, at times in the short form without what is a default."""
    short = rng is not None and rng.random() < 0.5
    defaults = {"sh": 1, "ph": 0, "oph": 0, "dh": 1, "g": 1, "mb": 1}
    text = ""
    for key in KEYS:
        if short and key.endswith("w") and q[key] == q[key[:-1] + "h"]:
            continue
        if short and key in defaults and q[key] == defaults[key]:
            continue
        text += f"{key}{q[key]}"
    text += "" if conv_bias else "cb0"
    text += "bs1" if bias_one else ""
    return text + ("" if scale is None else f"sf{scale:g}")


# ---- sections ------------------------------------------------------------------------------------


def section_oracle(options, tally, folder):
    rng = random.Random(options.seed)
    path, worst = os.path.join(folder, "oracle.h5"), 0.0
    for number in range(options.problems):
        q = random_problem(rng)
        scale = rng.choice([None, None, 1, -2, 0.5, 0, 3.25])
        text = descriptor(q, rng, rng.random() < 0.7, rng.random() < 0.2, scale)
        fill = FILLS[number % len(FILLS)]
        command = [options.assay, "golden", "--expected", "f64", "--out", path]
        command += ["--fill", fill, "--seed", str(rng.randrange(1 << 32)), text]
        status, _, message = run(*command)
        if not tally.check(status == 0, f"{quoted(command)}: exit {status}: {message}"):
            continue
        case = read_case(path)
        shape = (q["mb"], q["oc"], *output(q))
        found = case.expected.shape
        tally.check(found == shape, f"{quoted(command)}: /expected is {found}, PyTorch's {shape}")
        finite = bool(np.isfinite(case.expected).all())
        if fill not in NOT_FINITE:
            tally.check(finite, f"{quoted(command)}: NaN or Inf in /expected")
        ratio = compare(case, case.expected)
        worst = max(worst, ratio)
        tally.check(ratio <= 1, f"{quoted(command)}: {ratio:.3g} of the float64 bound off PyTorch")
        os.unlink(path)
    print(f"oracle: {options.problems} problems, worst error over the float64 bound {worst:.2g}")


def torch_accepts(q, conv_bias):
    """Whether ConvTranspose2d takes these arguments, and why not.

    In float64, and with a batch of one where it is 0: oneDNN's float32 path, and an early return
    for empty batches, skip the checks of output_padding and of an output that is empty.
    """
    try:
        layer = torch.nn.ConvTranspose2d(
            q["ic"],
            q["oc"],
            (q["kh"], q["kw"]),
            stride=(q["sh"], q["sw"]),
            padding=(q["ph"], q["pw"]),
            output_padding=(q["oph"], q["opw"]),
            dilation=(q["dh"], q["dw"]),
            groups=q["g"],
            bias=conv_bias,
            dtype=torch.float64,
        )
        with torch.no_grad():
            layer(torch.zeros(max(q["mb"], 1), q["ic"], q["ih"], q["iw"], dtype=torch.float64))
        return True, ""
    except (RuntimeError, ValueError, IndexError) as error:
        return False, str(error).splitlines()[0][:100]


def damaged_problem(rng):
    """An accepted problem with one or two arguments moved: about half are then refused."""
    q = random_problem(rng)
    q["ih"], q["iw"] = min(q["ih"], 5), min(q["iw"], 5)
    for _ in range(rng.choice([1, 1, 1, 2])):
        key = rng.choice(KEYS[1:])
        kind = key.rstrip("hw") if key not in ("ih", "iw") else "i"
        if kind in ("p", "op"):
            q[key] = rng.choice([-1, q[key] + 1, q[key] + 2, q[key] * 2 + 3])
        elif kind == "g":
            q[key] = rng.choice([0, 2, 3, 5])
        elif kind in ("s", "d"):
            q[key] = rng.choice([-1, 0, 1, 1, 2, 5])
        else:
            q[key] = rng.choice([0, 1, q[key] + 1])
    if rng.random() < 0.05:
        q["mb"] = 0
    return q


LARGE = (
    # Descriptor by its differences from a 1 x 1 problem: attributes at the edge of PyTorch's int.
    {"sh": 2**31 - 1, "sw": 2**31 - 1},
    {"sh": 2**31, "sw": 2**31},
    {"dh": 2**31 - 1, "dw": 2**31 - 1},
    {"dh": 2**31, "dw": 2**31},
    {"ph": 2**31, "pw": 2**31},
    {"ph": 2**62, "pw": 2**62},
)


def section_validation(options, tally, folder):
    rng = random.Random(options.seed + 1)
    path, accepted = os.path.join(folder, "validation.h5"), 0
    one = dict.fromkeys(KEYS, 1) | dict.fromkeys(("ph", "pw", "oph", "opw"), 0)
    problems = [one | change for change in LARGE]
    problems += [damaged_problem(rng) for _ in range(2 * options.problems)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensors with no elements
        for q in problems:
            conv_bias = rng.random() < 0.7
            text = descriptor(q, None, conv_bias)
            accepts, reason = torch_accepts(q, conv_bias)
            accepted += accepts
            command = [options.assay, "golden", "--expected", "none", "--out", path, text]
            status, _, message = run(*command)
            said = f"PyTorch: {'accepted' if accepts else reason}"
            tally.check(
                status == (0 if accepts else 2),
                f"{quoted(command)}: exit {status} {message}; {said}",
            )
            if status == 2:
                one_line = message and len(message.splitlines()) == 1
                tally.check(one_line, f"{quoted(command)}: wanted one line, got {message!r}")
                tally.check(
                    not os.path.exists(path), f"{quoted(command)}: refused, but wrote a file"
                )
            if os.path.exists(path):
                os.unlink(path)
    print(f"validation: {len(problems)} argument sets, {accepted} that PyTorch accepts")


def write_output(path, y):
    with h5py.File(path, "w") as f:
        f["output"] = y.to(torch.float32).numpy()


def golden_files():
    folder = os.path.join(ROOT, "data", "golden")
    return [
        os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".h5")
    ]


def section_check(options, tally, folder):
    path, refused = os.path.join(folder, "output.h5"), 0
    for file in golden_files():
        case = read_case(file)
        y64 = torch_chain(case, torch.float64)[1]
        y32 = torch_chain(case, torch.float32)[1]
        write_output(path, y32)
        command = [options.assay, "check", file, path]
        status, out, message = run(*command)
        said = f"{os.path.basename(file)}: exit {status}: {(out + message).strip()}"
        tally.check(status == 0, f"check refuses PyTorch's float32 output of {said}")

        y16 = torch_chain(case, torch.bfloat16)[1]
        both = y64.isfinite() & y16.isfinite()
        error = (y16.double() - y64)[both].abs()
        if not error.numel() or error.max() < 1e-3 or not torch.equal(y64.isnan(), y32.isnan()):
            continue  # nothing to see: one channel, scale 0, ...
        write_output(path, y16)
        status, out, message = run(*command)
        said = f"{os.path.basename(file)}, off by {error.max():.2g}: exit {status}: {out.strip()}"
        tally.check(status == 1, f"check accepts PyTorch's bfloat16 output of {said} {message}")
        refused += 1

        wrong = y32.clone()
        wrong.view(-1)[wrong.numel() // 2] = float("nan")
        if torch.equal(wrong.isnan(), y32.isnan()):
            continue
        write_output(path, wrong)
        status, _, _ = run(*command)
        tally.check(status == 1, f"check accepts a NaN in {os.path.basename(file)}: exit {status}")
    print(f"check: {len(golden_files())} golden cases in float32, {refused} in bfloat16")


def verdicts(options, implementation, *cases):
    """[(case, verdict, line)] of assay verify --json."""
    command = [options.assay, "verify", "--json", "--impl", implementation, *cases]
    status, out, message = run(*command)
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    found = [(line.get("case"), line.get("verdict"), line) for line in lines if "verdict" in line]
    return status, found, f"{quoted(command)}: exit {status} {message}"


def section_exec(options, tally, folder):
    script = os.path.join(ROOT, "tests", "examples", "run_module.py")
    names = ("home_small", "pairs_all_different", "groups_2", "bias_one_element", "channels_257")
    cases = [os.path.join(ROOT, "data", "golden", name + ".h5") for name in names]
    cases.append("mb2ic4ih5oc6kh3sh2ph1oph1")
    implementation = f"exec:{sys.executable} {script} {{case}} {{output}}"
    status, found, said = verdicts(options, implementation, *cases)
    tally.check(status == 0, said)
    tally.check(len(found) == len(cases), f"{said}: {len(found)} verdicts of {len(cases)}")
    for case, verdict, line in found:
        tally.check(verdict == "pass", f"run_module.py on {case}: {verdict}: {json.dumps(line)}")

    implementation = f"exec:{sys.executable} {script} --dtype bfloat16 {{case}} {{output}}"
    status, found, said = verdicts(options, implementation, cases[0])
    failed = status == 1 and [verdict for _, verdict, _ in found] == ["fail"]
    tally.check(failed, f"run_module.py in bfloat16 was not refused: {said}")

    implementation = f"exec:{sys.executable} {script} --module missing.py {{case}} {{output}}"
    status, found, said = verdicts(options, implementation, cases[0])
    tally.check(status not in (0, "timeout"), f"a command that fails was not refused: {said}")
    net, output = os.path.join(folder, "net.py"), os.path.join(folder, "y.h5")
    with open(net, "w") as f:
        f.write(NET)
    for name, wanted in (("Net", 0), ("Silent", 2), ("Asserts", 2), ("Missing", 2)):
        words = [script, "--module", f"{net}:{name}", cases[0], output]
        status, _, message = run(sys.executable, *words)
        good = status == wanted and len(message.splitlines()) == (wanted != 0)
        tally.check(good, f"{quoted(words)}: exit {status} {message!r}, wanted {wanted}")
    print(f"exec: run_module.py on {len(cases)} cases")


NET = f"""
from __future__ import annotations
import dataclasses, sys
sys.path.insert(0, {os.path.join(ROOT, "tests", "examples")!r})
import run_module
@dataclasses.dataclass
class Options:
    seed: int = 0
class Net(run_module.Model):
    pass
class Silent(Net):
    def forward(self, x):
        raise ValueError
class Asserts(Net):
    def forward(self, x):
        assert x is None
"""


MODULE = """
from __future__ import annotations
import dataclasses
import torch
@dataclasses.dataclass
class Options:
    seed: int = 0
class Model(torch.nn.Module):
    def __init__(self, cin, cout, kernel_size, stride, padding, output_padding, bias_shape, scale):
        super().__init__()
        self.conv_transpose = torch.nn.ConvTranspose2d(
            cin, cout, kernel_size, stride=stride, padding=padding, output_padding=output_padding)
        self.bias = torch.nn.Parameter(torch.randn(bias_shape))
        self.scaling_factor = scale
    def forward(self, x):
        p = torch.softmax(self.conv_transpose(x), dim=1)
        return torch.sigmoid((p + self.bias) * self.scaling_factor)
class Other(Model):
    def forward(self, x):
        return torch.softmax(torch.sigmoid(self.conv_transpose(x)), dim=1)
class Named(Model):
    def __init__(self, scaling_factor):
        super().__init__(6, 9, (4, 3), 2, 1, 1, (9, 1, 1), None)
        del self.scaling_factor
        self.by = scaling_factor
    def forward(self, x):
        return torch.sigmoid((torch.softmax(self.conv_transpose(x), dim=1) + self.bias) * self.by)
def get_inputs():
    return [torch.rand(2, 6, 5, 7)]
def get_init_inputs():
    return [6, 9, (4, 3), 2, 1, 1, (9, 1, 1), 0.3]
"""


# In place of MODULE's functions, each with nothing or no tensor to use.
NO_INPUTS = (
    "def get_inputs(): return []",
    "def get_inputs(): raise KeyError",
    "def get_inputs(): return [torch.rand(1, 6, 3, 3).to_sparse()]",
    "def get_inputs(): return [torch.full((1, 6, 3, 3), 2**60 + 1)]",
    "def get_init_inputs(): raise KeyError",
    "raise SystemExit(0)",
)


def section_files(options, tally, folder):
    path = os.path.join(folder, "five.h5")
    torch.manual_seed(options.seed)
    model = Model(5, 7, 4, 2, 1, 1, (7, 1, 1), 2.0)
    x = torch.randn(2, 5, 6, 4)
    with h5py.File(path, "w") as f:
        f.attrs.update(format="assay-case", version=1, stride=2, padding=1, output_padding=1)
        f.attrs["scaling_factor"] = 2.0
        f["input"] = x.numpy()
        for name, tensor in model.state_dict().items():
            f["params/" + name] = tensor.numpy()
    for implementation in ("cpu-direct", "cpu-gemm"):
        status, found, said = verdicts(options, implementation, path)
        good = status == 0 and [verdict for _, verdict, _ in found] == ["pass"]
        tally.check(good, f"README's lines: {said}")

    # The state_dict comes back from the file, and the output of the module with it is the same.
    x_read, params, arguments = read_arguments(path)
    again = build(Model, params, arguments)
    with torch.no_grad():
        same = torch.equal(x_read, x) and torch.equal(again(x_read), model(x))
    tally.check(same, "state_dict through a case file: the module is another one")

    module, script = (
        os.path.join(folder, "module.py"),
        os.path.join(ROOT, "data", "from_pytorch.py"),
    )
    with open(module, "w") as f:
        f.write(MODULE)
    checkpoint, batch = os.path.join(folder, "checkpoint.pt"), os.path.join(folder, "batch.pt")
    torch.save({"state_dict": model.state_dict()}, checkpoint)
    torch.save([x, x[:1].half()], batch)
    empty = os.path.join(folder, "empty.pt")
    torch.save([], empty)
    broken = [os.path.join(folder, f"broken{i}.py") for i in range(len(NO_INPUTS))]
    for name, text in zip(broken, NO_INPUTS):
        with open(name, "w") as f:
            f.write(MODULE + text + "\n")
    made = os.path.join(folder, "made{i}.h5")
    init = ["stride=2", "padding=1", "output_padding=1", "scaling_factor=2.0"]
    good = (
        (["--module", module], 1),
        (["--module", module + ":Model", "--input", "random", "--shape", "1,6,3,2"], 1),
        (["--module", module, "--input", "module", "--input", "module", "--expected", "f32"], 2),
        (["--module", module + ":Named", "--init", "scaling_factor=0.3"], 1),
        (["--state-dict", checkpoint, "--input", batch, "--init", *init], 2),
    )
    for words, count in good:
        status, _, message = run(sys.executable, script, *words, "--out", made)
        said = f"from_pytorch.py {quoted(words)}: exit {status} {message}"
        files = [made.replace("{i}", str(i)) for i in range(count)]
        if not tally.check(status == 0 and all(map(os.path.exists, files)), said):
            continue
        status, found, said = verdicts(options, "cpu-gemm", *files)
        passed = [verdict for _, verdict, _ in found] == ["pass"] * count
        tally.check(status == 0 and passed, f"made by from_pytorch.py {quoted(words)}: {said}")
        for file in files:
            os.unlink(file)
    bad = (
        ["--module", module + ":Other"],
        ["--module", module + ":None_"],
        ["--module", os.path.join(folder, "missing.py")],
        ["--module", module, "--input", "random", "--shape", "1,5,3,2"],
        ["--module", module, "--input", "random"],
        ["--module", module, "--input", module],
        ["--module", module, "--input", empty],
        ["--module", module, "--input", "random", "--shape", "99999999,6,99999,9999"],
        *(["--module", name] for name in broken),
        ["--module", module, "--init", "stride"],
        ["--state-dict", checkpoint, "--input", batch],
        [
            "--state-dict",
            checkpoint,
            "--input",
            batch,
            "--init",
            "output_padding=2",
            *init[:2],
            init[3],
        ],
        ["--state-dict", checkpoint, "--input", batch, "--init", "stride=1", *init],
        ["--state-dict", batch, "--input", batch, "--init", *init],
        *(
            ["--state-dict", checkpoint, "--input", batch, "--init", *init[:3], scale]
            for scale in (
                "scaling_factor=1e39",
                "scaling_factor=1e-50",
                "scaling_factor=1" + "0" * 400,
            )
        ),
    )
    for words in bad:
        status, _, message = run(sys.executable, script, *words, "--out", made)
        said = f"from_pytorch.py {quoted(words)}: exit {status} {message!r}"
        tally.check(
            status == 2 and len(message.splitlines()) == 1, f"wanted exit 2 and a line: {said}"
        )
    # Where the file cannot stand, and where a disk is full: what was there stays.
    words = [sys.executable, script, "--module", module, "--out"]
    kept = os.path.join(folder, "kept")
    big = ["--input", "random", "--shape", "64,6,32,32"]
    pipe, link = os.path.join(folder, "pipe"), os.path.join(folder, "link")
    os.mkfifo(pipe)
    os.symlink(kept, link)
    for path in (link, pipe, folder, os.path.join(folder, "missing", "case.h5")):
        status, _, message = run(*words, path)
        expected = 0 if path == link else 3
        tally.check(
            status == expected and len(message.splitlines()) == (status != 0),
            f"from_pytorch.py --out {path}: exit {status} {message!r}, wanted {expected}",
        )
    whole = os.path.islink(link) and os.path.exists(kept) and not os.path.isfile(pipe)
    tally.check(whole, "from_pytorch.py --out: a link or a pipe was replaced")
    size = os.path.getsize(kept) if os.path.exists(kept) else 0
    limited = ["bash", "-c", 'ulimit -f 800 && "$@"', "bash", *words, kept, *big]
    status, _, message = run(*limited)
    said = f"from_pytorch.py on a full disk: exit {status} {message!r}"
    tally.check(status == 3 and len(message.splitlines()) == 1, said)
    left = [name for name in os.listdir(folder) if ".part" in name]
    same = os.path.exists(kept) and os.path.getsize(kept) == size
    tally.check(same and not left, f"{said}: {left} is left, or the file before is not")
    print(f"files: {len(good)} requests that can be met, {len(bad)} that cannot")


def section_golden(options, tally, folder):
    script, worst = os.path.join(ROOT, "data", "make_golden.py"), 0.0
    status, out, message = run(sys.executable, script, "--out", folder)
    tally.check(status == 0, f"make_golden.py: exit {status} {message} {out}")
    for file in golden_files():
        name = os.path.basename(file)
        made = os.path.join(folder, name)
        if not tally.check(os.path.exists(made), f"{name}: make_golden.py does not make it"):
            continue
        old, new = read_case(file), read_case(made)
        same = old.input.tobytes() == new.input.tobytes() and old.descriptor() == new.descriptor()
        same &= all(old.params[k].tobytes() == v.tobytes() for k, v in new.params.items())
        tally.check(same, f"{name}: make_golden.py makes other inputs")
        ratio = compare(old, new.expected) if old.expected.dtype == np.float64 else 0.0
        worst = max(worst, ratio)
        tally.check(ratio <= 1, f"{name}: {ratio:.3g} of the float64 bound off PyTorch")
        status, found, said = verdicts(options, "cpu-direct", file)
        tally.check(status == 0 and found and found[0][1] == "pass", said)
    print(f"golden: {len(golden_files())} files, worst error over the float64 bound {worst:.2g}")


def section_triton(options, tally, folder):
    script = os.path.join(ROOT, "tests", "examples", "triton_kernel.py")
    path = os.path.join(folder, "triton.h5")
    ran = 0
    for file in golden_files():
        status, _, message = run(sys.executable, script, file, path)
        if status == 3:
            tally.check(
                len(message.splitlines()) == 1, f"triton_kernel.py: wanted a line: {message!r}"
            )
            print(f"triton: skipped: {message}")
            return
        if tally.check(status == 0, f"triton_kernel.py {file}: exit {status} {message}"):
            status, out, message = run(options.assay, "check", file, path)
            said = f"{os.path.basename(file)}: exit {status}: {(out + message).strip()}"
            tally.check(status == 0, f"check refuses triton_kernel.py's output of {said}")
            ran += 1
    print(f"triton: {ran} golden cases")


SECTIONS = {
    name[len("section_") :]: function
    for name, function in list(globals().items())
    if name.startswith("section_")
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    program = os.environ.get("ASSAY", os.path.join(ROOT, "build", "assay"))
    parser.add_argument("--assay", default=program, help="default: $ASSAY, or build/assay")
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section '{unknown.pop()}': there are {', '.join(SECTIONS)}")
    options.assay = os.path.abspath(options.assay)
    if not os.access(options.assay, os.X_OK):
        parser.error(f"'{options.assay}' is not a program: make builds it")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, seed {options.seed}")
    tally = Tally()
    for name in options.sections or SECTIONS:
        with tempfile.TemporaryDirectory(prefix="assay-pytorch-") as folder:
            SECTIONS[name](options, tally, folder)
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
