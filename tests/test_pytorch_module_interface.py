#!/usr/bin/env python3
"""assay_torch as KernelBench and its users meet it: constructor, state_dict, the library's place."""

import copy
import inspect
import io
import os
import pickle
import subprocess
import sys

import pytorch_module_fixture as fixture
import torch
import assay_torch
from assay_torch import Model, ModelNew
from pytorch_module_fixture import PACKAGE, SMALL, close, on, pair


@on("cpu", "cuda")
def test_state_dict_round_trip(device):
    model, new = pair(device)
    assert list(new.state_dict()) == list(model.state_dict())
    assert list(new.state_dict()) == ["bias", "conv_transpose.weight", "conv_transpose.bias"]
    file = io.BytesIO()
    torch.save(new.state_dict(), file)
    file.seek(0)
    again = Model(*SMALL).to(device)
    again.load_state_dict(torch.load(file))
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
        close(copy.deepcopy(new)(x), new(x), 1e-300)
        close(pickle.loads(pickle.dumps(new))(x), new(x), 1e-300)


def test_constructor_is_the_same():
    want = list(inspect.signature(Model.__init__).parameters)
    got = list(inspect.signature(ModelNew.__init__).parameters)
    assert got[: len(want)] == want and got[len(want) :] == ["arithmetic"]
    try:
        ModelNew(*SMALL, arithmetic="fp8")
        raise AssertionError("arithmetic='fp8' is accepted")
    except ValueError as error:
        assert "fp8" in str(error)


def test_missing_library_is_one_clear_line():
    program = (
        "import torch, assay_torch\n"
        "m = assay_torch.ModelNew(2, 3, 3, 1, 1, 0, (3, 1, 1), 2.0)\n"
        "try: m(torch.randn(1, 2, 3, 3))\n"
        "except assay_torch.LibraryError as e: print(e)\n"
    )
    environment = dict(os.environ, PYTHONPATH=PACKAGE, ASSAY_LIBRARY="/nowhere/libassay.so")
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, text=True, capture_output=True
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 1, done.stdout + done.stderr
    assert "/nowhere/libassay.so" in lines[0] and "make lib" in lines[0], lines


def test_build_says_what_it_is():
    assert assay_torch.build().startswith("libassay 1, commit "), assay_torch.build()


@on("cpu", "cuda")
def test_kernelbench_file(device):
    with open(os.path.join(PACKAGE, "kernelbench_91.py")) as f:
        text = f.read()
    names = {"__name__": "kernelbench"}
    exec(compile(text, "<string>", "exec"), names)
    torch.manual_seed(42)
    init = names["get_init_inputs"]()
    (x,) = names["get_inputs"]()
    assert list(x.shape) == [128, 64, 64, 64]
    torch.manual_seed(42)
    model = names["Model"](*init)
    torch.manual_seed(42)
    new = names["ModelNew"](*init)
    x = x[:1] if device == "cpu" else x
    model, new, x = model.to(device), new.to(device), x.to(device)
    with torch.no_grad():
        y, want = new(x), model(x)
        assert torch.allclose(y, want, atol=1e-4, rtol=1e-4)


if __name__ == "__main__":
    sys.exit(fixture.main(sys.modules[__name__]))
