#!/usr/bin/env python3
"""assay_torch (gpu/pytorch) against PyTorch's five calls: run by `make test-pytorch`.

    python tests/test_pytorch_module.py [-k WORDS] [--problems 300] [--seed 1]

The tests are in the files beside this one, test_pytorch_module_*.py, each of which runs alone in the
same way. Each test runs on the CPU, and once more on a GPU where PyTorch sees one; what needs a GPU is
an announced skip without it. The library is build/libassay.so or ASSAY_LIBRARY.
One line a failure; at the end `N passed, N failed, N skipped`. Exit status 1 if any failed. Without
torch it says so and exits 0.
"""

import glob
import importlib
import os
import sys

import pytorch_module_fixture as fixture

if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    files = sorted(glob.glob(os.path.join(here, "test_pytorch_module_*.py")))
    names = [os.path.splitext(os.path.basename(file))[0] for file in files]
    sys.exit(fixture.main(sys.modules[__name__], *map(importlib.import_module, names)))
