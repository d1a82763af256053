"""What the tests of assay_torch share: Model beside ModelNew, comparison, and what runs the tests.

A test is a function test_<thing>_<condition>_<expectation>; `@on("cpu", "cuda")` runs it once for each
device, its argument. What needs a GPU is an announced skip without one.
"""

import argparse
import copy
import os
import sys
import time
import traceback

try:
    import torch
except ImportError as error:
    print(f"test_pytorch_module: skipped: {error} (make test-pytorch installs it)")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = os.path.join(ROOT, "gpu", "pytorch")
sys.path.insert(0, PACKAGE)
import assay_torch  # noqa: E402
from assay_torch import Model, ModelNew  # noqa: E402

SMALL = (6, 9, 4, 2, 1, 1, (9, 1, 1), 2.0)  # constructor arguments
OPTIONS = None  # main() sets them


class Skip(Exception):
    pass


def pair(device, arguments=SMALL, dtype=torch.float32, spread=True, **more):
    """Model and ModelNew with the same parameters; logits spread over a few units."""
    new_only = {k: more.pop(k) for k in ["arithmetic"] if k in more}
    model = Model(*arguments, **more)
    if spread:
        with torch.no_grad():
            model.conv_transpose.weight.mul_(6)
    new = ModelNew(*arguments, **more, **new_only)
    new.load_state_dict(model.state_dict())
    return model.to(device, dtype), new.to(device, dtype)


def exact(model, x):
    return copy.deepcopy(model).double()(x.double())


TOLERANCE = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float64: 1e-14}


def close(y, want, tolerance=None):
    tolerance = tolerance or TOLERANCE[y.dtype]
    if y.shape != want.shape:
        raise AssertionError(f"shape {list(y.shape)}, expected {list(want.shape)}")
    error = (y.double() - want.double()).abs().max().item() if y.numel() else 0.0
    if not error <= tolerance:  # NaN fails
        raise AssertionError(f"error {error:.3g} above {tolerance:.3g}")
    return error


def same_error(f, g):
    """f and g raise the same thing; returns it."""
    raised = []
    for call in (f, g):
        try:
            call()
            raised.append(None)
        except Exception as error:
            raised.append(error)
    a, b = raised
    assert a is not None, "Model does not refuse"
    assert b is not None, f"ModelNew accepts what Model refuses with: {a}"
    assert type(a) is type(b) and str(a) == str(b), f"{type(b).__name__}: {b}, expected: {a}"


def on(*devices):
    """Runs the test once for each device."""

    def mark(test):
        test.devices = devices
        return test

    return mark


# ---- running them --------------------------------------------------------------------------------


def main(*modules):
    """Runs the tests of `modules`; the exit status."""
    global OPTIONS
    parser = argparse.ArgumentParser(description=modules[0].__doc__.split("\n")[0])
    parser.add_argument("-k", default="", help="only tests whose name holds this")
    parser.add_argument("--problems", type=int, default=300, help="random problems on each device")
    parser.add_argument("--seed", type=int, default=1)
    OPTIONS = parser.parse_args()
    files = [module.__file__ for module in modules]
    tests = {
        name: f
        for m in modules
        for name, f in vars(m).items()
        if name.startswith("test_") and callable(f)
    }
    library = assay_torch.library_path()
    if not os.path.exists(library):
        print(f"test_pytorch_module: '{library}' is not there: make lib builds it")
        print("0 passed, 1 failed, 0 skipped")
        return 1
    gpu = torch.cuda.is_available() and "with CUDA" in assay_torch.build()
    why = "PyTorch sees no GPU" if not torch.cuda.is_available() else "built without CUDA"
    print(f"torch {torch.__version__}, {assay_torch.build()}, seed {OPTIONS.seed}")
    passed = failed = skipped = 0
    for name, test in tests.items():
        for device in getattr(test, "devices", (None,)):
            title = name if device is None else f"{name}[{device}]"
            if OPTIONS.k not in title:
                continue
            if device == "cuda" and not gpu:
                print(f"skip - {title}: {why}")
                skipped += 1
                continue
            torch.manual_seed(OPTIONS.seed)
            torch.backends.cudnn.allow_tf32 = False  # Model's convolutions are in fp32
            begin = time.monotonic()
            try:
                test() if device is None else test(device)
                passed += 1
                seconds = time.monotonic() - begin
                print(f"ok - {title}" + (f" ({seconds:.1f} s)" if seconds >= 1 else ""), flush=True)
            except Skip as reason:
                skipped += 1
                print(f"skip - {title}: {reason}")
            except Exception as error:
                failed += 1
                print(f"FAILED {title}, {place(error, files)}: {words(error)}", flush=True)
                if os.environ.get("V") == "1":
                    traceback.print_exception(error)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def place(error, files):
    """The file and line of the test in which it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((f for f in reversed(frames) if f.filename in files), frames[-1])
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"


def words(error):
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"
