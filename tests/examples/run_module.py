#!/usr/bin/env python3
"""Runs a PyTorch module on a case file and writes its output, for assay's `exec:`.

    assay verify --impl "exec:python3 tests/examples/run_module.py {case} {output}" CASE
    ... run_module.py --module net.py:Net {case} {output}

The module is built with in_channels, out_channels, kernel_size, stride, padding, output_padding,
bias_shape and scaling_factor, and with groups and dilation if its constructor has them; then it
gets the case's parameters as its state_dict. The default is the five steps, below.
Exit status: 0, 2 for bad input, 3 where torch, h5py or the device is missing.
"""

import argparse
import importlib.util
import inspect
import sys

try:
    import h5py
    import numpy as np
    import torch
except ImportError as error:
    print(f"error: {error}: pip install torch h5py", file=sys.stderr)
    sys.exit(3)


class Model(torch.nn.Module):
    """conv_transpose2d -> softmax(dim=1) -> + bias -> * scaling_factor -> sigmoid."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding,
        output_padding,
        bias_shape,
        scaling_factor,
        groups=1,
        dilation=1,
    ):
        super().__init__()
        self.conv_transpose = torch.nn.ConvTranspose2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            dilation=dilation,
        )
        self.bias = torch.nn.Parameter(torch.randn(bias_shape))
        self.scaling_factor = scaling_factor

    def forward(self, x):
        x = self.conv_transpose(x)
        x = torch.softmax(x, dim=1)
        x = x + self.bias
        x = x * self.scaling_factor
        return torch.sigmoid(x)


def read_case(path):
    """(x, the state_dict, the arguments of the constructor)."""
    with h5py.File(path, "r") as f:
        x = torch.from_numpy(f["input"][()].astype(np.float32))
        params = {k: torch.from_numpy(v[()].astype(np.float32)) for k, v in f["params"].items()}

        def attribute(name, default):
            values = np.ravel(f.attrs.get(name, default))
            return (int(values[0]), int(values[-1]))

        groups = attribute("groups", 1)[0]
        weight, bias = params["conv_transpose.weight"], params["bias"]
        out_channels = weight.shape[1] * groups
        # [Cout] would be added along the width: it stands for [Cout, 1, 1].
        params["bias"] = bias.reshape((-1, 1, 1))
        arguments = {
            "in_channels": weight.shape[0],
            "out_channels": out_channels,
            "kernel_size": tuple(weight.shape[2:]),
            "stride": attribute("stride", 1),
            "padding": attribute("padding", 0),
            "output_padding": attribute("output_padding", 0),
            "bias_shape": tuple(params["bias"].shape),
            "scaling_factor": float(np.float32(f.attrs["scaling_factor"])),
            "groups": groups,
            "dilation": attribute("dilation", 1),
        }
    return x, params, arguments


def load_class(text):
    path, _, name = text.rpartition(":")
    if not path:
        path, name = text, "Model"
    specification = importlib.util.spec_from_file_location("module_under_test", path)
    if specification is None:
        raise ValueError(f"--module '{text}': wanted FILE.py:CLASS")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look there
    specification.loader.exec_module(module)
    return getattr(module, name)


def build(factory, params, arguments):
    accepted = inspect.signature(factory).parameters
    for name, default in (("groups", 1), ("dilation", (1, 1))):
        if name not in accepted and arguments.pop(name) != default:
            raise ValueError(f"the module's constructor has no '{name}', which the case needs")
    module = factory(**arguments)
    if "conv_transpose.bias" not in params:
        module.conv_transpose.bias = None
    module.load_state_dict(params)
    return module.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("case")
    parser.add_argument("output")
    parser.add_argument("--module", metavar="FILE.py:CLASS", help="default: the five steps")
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64", "bfloat16", "float16"),
        default="float32",
        help="of the computation; the output is stored as float32",
    )
    parser.add_argument("--tf32", action="store_true", help="allow TF32 on the GPU")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("error: --device cuda: PyTorch sees no GPU", file=sys.stderr)
        sys.exit(3)
    torch.backends.cudnn.allow_tf32 = options.tf32
    torch.backends.cuda.matmul.allow_tf32 = options.tf32

    try:
        x, params, arguments = read_case(options.case)
        module = build(load_class(options.module) if options.module else Model, params, arguments)
        dtype = getattr(torch, options.dtype)
        module, x = module.to(options.device, dtype), x.to(options.device, dtype)
        with torch.no_grad():
            y = module(x).float().cpu().contiguous().numpy()
        with h5py.File(options.output, "w") as f:
            f["output"] = y
    except Exception as error:
        said = " ".join(str(error).split())[:240]
        print(f"error: '{options.case}': {type(error).__name__}: {said}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
