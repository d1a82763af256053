#!/usr/bin/env python3
"""Makes case files from a PyTorch module, or a checkpoint, and inputs.

    python data/from_pytorch.py --module model.py --out case.h5
    python data/from_pytorch.py --module model.py:Net --init in_channels=16 out_channels=32 \\
        kernel_size=4 stride=2 padding=1 scaling_factor=2.0 --weights trained.pt \\
        --input random --shape 2,16,8,8 --seed 7 --out case.h5
    python data/from_pytorch.py --state-dict trained.pt --init stride=2 padding=1 \\
        scaling_factor=2.0 --input batch.pt --out case.h5

A module is a class with one ConvTranspose2d, a parameter `bias` and a number `scaling_factor` (an
attribute, else --init scaling_factor=...), under these names or with --name. Its arguments come
from --init or from the file's own get_init_inputs(), its input from --input or the file's
get_inputs(), as in KernelBench. The parameters are those of its constructor with --seed, or those
of --weights. A checkpoint alone (--state-dict) says nothing about stride, padding and so on: --init
gives them.

/expected is what the module returns in float64. It is compared with the operator's definition,

    sigmoid(scaling_factor * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))

and a module that computes anything else is refused. Tensors must be float32 values, whatever type
holds them; nothing is rounded in silence. More than one --input makes more than one file: --out
then holds {i}, the number of the input from 0.

Exit status: 0 made, 2 the request or an input is bad, 3 a file cannot be written.

NOTE: --module runs the code of that file. Checkpoints and inputs are loaded as tensors alone.
"""

import argparse
import ast
import importlib.util
import os
import re
import sys

import numpy as np
import torch
import torch.nn.functional as F
from case_file import BIAS, CONV_BIAS, DEFAULTS, WEIGHT, BadInput, Case, epilogue, pair, write_case

# Of y, in float64, per unit of the largest logit: thousands of roundings, far below any mistake.
AGREEMENT = 1e-11


class FiveSteps(torch.nn.Module):
    """conv_transpose2d -> softmax(dim=1) -> + bias -> * scaling_factor -> sigmoid."""

    def __init__(self, weight, conv_bias, bias, scaling_factor, **geometry):
        super().__init__()
        self.conv_transpose = torch.nn.ConvTranspose2d(
            weight.shape[0],
            weight.shape[1] * geometry["groups"],
            tuple(weight.shape[2:]),
            bias=conv_bias is not None,
            **geometry,
        )
        self.bias = torch.nn.Parameter(bias)
        self.scaling_factor = scaling_factor
        with torch.no_grad():
            self.conv_transpose.weight.copy_(weight)
            if conv_bias is not None:
                self.conv_transpose.bias.copy_(conv_bias)

    def forward(self, x):
        p = torch.softmax(self.conv_transpose(x), dim=1)
        return torch.sigmoid((p + self.bias) * self.scaling_factor)


# ---- what the command line names -----------------------------------------------------------------


def parse_arguments(words):
    """["stride=2", "padding=(1, 0)"] -> {"stride": 2, "padding": (1, 0)}."""
    arguments = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise BadInput(f"--init '{word}': wanted name=value")
        if name in arguments:
            raise BadInput(f"--init '{word}': '{name}' is given twice")
        try:
            arguments[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise BadInput(f"--init '{word}': '{text}' is not a Python literal") from None
    return arguments


def load_tensors(path, option):
    """A file of torch.save or a .npy; never runs code from the file."""
    try:
        if path.endswith(".npy"):
            return torch.from_numpy(np.load(path, allow_pickle=False))
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadInput(f"{option} '{path}': no such file") from None
    except Exception:
        raise BadInput(f"{option} '{path}': not a file of tensors (torch.save, or .npy)") from None


def one_line(error):
    return (" ".join(str(error).split()) or type(error).__name__)[:240]


def load_module_file(path):
    if not os.path.isfile(path):
        raise BadInput(f"--module '{path}': no such file")
    specification = importlib.util.spec_from_file_location("module_under_test", path)
    if specification is None:
        raise BadInput(f"--module '{path}': not a .py file")
    source = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = source  # dataclasses look there
    try:
        specification.loader.exec_module(source)
    except (Exception, SystemExit) as error:
        name = type(error).__name__
        raise BadInput(f"--module '{path}': {name}: {one_line(error)}") from None
    return source


def called(source, name):
    """What the file's own function gives."""
    try:
        return list(getattr(source, name)())
    except Exception as error:
        raise BadInput(f"{name}(): {type(error).__name__}: {one_line(error)}") from None


def build_module(source, path, class_name, arguments, weights):
    """The module named, with its arguments and, where given, weights."""
    factory = getattr(source, class_name, None)
    if not isinstance(factory, type) or not issubclass(factory, torch.nn.Module):
        raise BadInput(f"--module '{path}': has no torch.nn.Module named '{class_name}'")
    positional = []
    if not arguments and hasattr(source, "get_init_inputs"):
        positional = called(source, "get_init_inputs")
    try:
        module = factory(*positional, **arguments)
        if weights is not None:
            module.load_state_dict(weights)
    except Exception as error:
        raise BadInput(f"--module '{path}:{class_name}': {one_line(error)}") from None
    return module.eval()


def state_dict_of(checkpoint, path, option):
    """The tensors of a checkpoint: nested under a usual key or not, with a common prefix or not."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
            break
    if not isinstance(checkpoint, dict) or not all(
        isinstance(value, torch.Tensor) for value in checkpoint.values()
    ):
        raise BadInput(f"{option} '{path}': not a state_dict (a dictionary of tensors)")
    prefixes = {"", "module.", "_orig_mod.", "model."}
    for prefix in prefixes:
        if prefix and checkpoint and all(key.startswith(prefix) for key in checkpoint):
            return {key[len(prefix) :]: value for key, value in checkpoint.items()}
    return checkpoint


def inputs_of(options, in_channels, source):
    """The list of input tensors that the options ask for."""
    inputs = []
    for name in options.input or (["module"] if hasattr(source, "get_inputs") else ["random"]):
        if name == "random":
            if not options.shape:
                raise BadInput("--input random needs --shape N,C,H,W")
            if not re.fullmatch(r"\d+(,\d+){3}", options.shape):
                raise BadInput(f"--shape '{options.shape}': wanted N,C,H,W")
            shape = [int(word) for word in options.shape.split(",")]
            generator = torch.Generator().manual_seed(options.seed + len(inputs))
            try:
                inputs.append(torch.randn(shape, generator=generator))
            except RuntimeError as error:
                raise BadInput(f"--shape '{options.shape}': {one_line(error)}") from None
        elif name == "module":
            if not hasattr(source, "get_inputs"):
                raise BadInput("--input module: the module's file has no get_inputs()")
            torch.manual_seed(options.seed + len(inputs))
            inputs += called(source, "get_inputs")[:1]
        else:
            loaded = load_tensors(name, "--input")
            inputs += loaded if isinstance(loaded, (list, tuple)) else [loaded]
    if not inputs:
        raise BadInput("there is no input: a list of none was given")
    for i, x in enumerate(inputs):
        if not isinstance(x, torch.Tensor) or x.dim() != 4:
            found = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise BadInput(f"input {i}: wanted a tensor [N, Cin, H, W], found {found}")
        if x.shape[1] != in_channels:
            raise BadInput(f"input {i}: has {x.shape[1]} channels, the layer takes {in_channels}")
    return inputs


# ---- the operator in the module ------------------------------------------------------------------


def float32_array(name, tensor):
    """The tensor as float32; refuses one that would have to be rounded."""
    if tensor.is_complex():
        raise BadInput(f"'{name}' is complex: wanted float32")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise BadInput(f"'{name}' is sparse or quantized: wanted float32")
    tensor = tensor.detach().cpu()
    rounded = tensor.to(torch.float32)
    same = torch.equal(rounded.double().nan_to_num(7), tensor.double().nan_to_num(7))
    if not tensor.is_floating_point():  # a double does not hold every integer either
        same = same and torch.equal(rounded.to(tensor.dtype), tensor)
    if not same:
        raise BadInput(f"'{name}' ({tensor.dtype}) is not exact in float32: round it with .float()")
    return rounded.contiguous().numpy()


def geometry_of(arguments):
    unknown = set(arguments) - set(DEFAULTS) - {"scaling_factor"}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise BadInput(
            f"--init: '{names}' cannot be told to a checkpoint; its tensors have the sizes"
        )
    geometry = {name: arguments.get(name, default) for name, default in DEFAULTS.items()}
    for name, value in geometry.items():
        words = value if isinstance(value, tuple) else (value,)
        if len(words) > 2 or not all(type(word) is int for word in words):
            raise BadInput(f"--init {name}={value}: wanted an integer or two (h, w)")
    return {name: value if name == "groups" else pair(value) for name, value in geometry.items()}


def scaling_factor_of(value):
    try:
        exact = float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise BadInput(f"scaling_factor '{value}': wanted a number") from None
    with np.errstate(over="ignore"):
        rounded = np.float32(exact)  # float32 times a Python number: PyTorch rounds it first
    if np.isinf(rounded) and not np.isinf(exact) or rounded == 0 and exact != 0:
        does = "underflows" if rounded == 0 else "overflows"
        raise BadInput(f"scaling_factor '{exact:g}': it {does} float32")
    return rounded


def find_layer(module, name):
    """(its name, the ConvTranspose2d)."""
    found = [(n, m) for n, m in module.named_modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    if name:
        found = [entry for entry in found if entry[0] == name]
    if len(found) != 1:
        names = ", ".join(n or "itself" for n, _ in found) or "none"
        raise BadInput(
            f"wanted one ConvTranspose2d, found {names}; choose one with --name conv=NAME"
        )
    return found[0]


def take_apart(module, arguments, names):
    """The case without input and expected: parameters, attributes, scale."""
    _, layer = find_layer(module, names.get("conv"))
    if layer.padding_mode != "zeros":
        raise BadInput(f"padding_mode '{layer.padding_mode}': wanted zeros")
    bias_name, scale_name = names.get("bias", "bias"), names.get("scale", "scaling_factor")
    bias = dict(module.named_parameters()).get(bias_name)
    bias = dict(module.named_buffers()).get(bias_name) if bias is None else bias
    if bias is None:
        raise BadInput(
            f"the module has no parameter '{bias_name}'; choose one with --name bias=NAME"
        )
    scale = getattr(module, scale_name, arguments.get("scaling_factor"))
    if scale is None:
        raise BadInput(f"the module has no '{scale_name}'; choose it with --name scale=NAME")
    params = {WEIGHT: float32_array(WEIGHT, layer.weight), BIAS: float32_array(BIAS, bias)}
    if layer.bias is not None:
        params[CONV_BIAS] = float32_array(CONV_BIAS, layer.bias)
    geometry = {name: getattr(layer, name) for name in DEFAULTS}
    return params, geometry, scaling_factor_of(scale)


def check_bias(params, groups):
    cout = params[WEIGHT].shape[1] * groups
    shape = params[BIAS].shape
    if shape not in ((cout,), (cout, 1, 1), (1, cout, 1, 1)) and params[BIAS].size != 1:
        raise BadInput(
            f"'{BIAS}' has the shape {shape}: wanted ({cout}, 1, 1), ({cout},) or one element"
        )
    params[BIAS] = params[BIAS].reshape(-1) if len(shape) > 3 else params[BIAS]


def expected_of(module, case, index):
    """The module's y in float64, once it is known to be the operator's."""
    x = case.tensor("input")
    stride, padding, output_padding, dilation, groups = case.geometry()
    try:
        z = F.conv_transpose2d(
            x, case.tensor(WEIGHT), None, stride, padding, output_padding, groups, dilation
        )
        with torch.no_grad():
            y = module.double()(x)
    except Exception as error:
        raise BadInput(f"input {index}: PyTorch says: {one_line(error)}") from None
    conv_bias = case.tensor(CONV_BIAS)
    definition = epilogue(z, conv_bias, case.tensor(BIAS), float(case.scaling_factor))
    if not isinstance(y, torch.Tensor) or y.shape != definition.shape:
        found = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        raise BadInput(
            f"input {index}: the module returns {found}, wanted {tuple(definition.shape)}"
        )
    if not torch.equal(y.isnan(), definition.isnan()):
        raise BadInput(f"input {index}: the module returns NaN elsewhere than the operator")
    finite = z[z.isfinite()]
    size = max(1.0, finite.abs().max().item() if finite.numel() else 0.0)
    size *= max(1.0, abs(float(case.scaling_factor)))
    difference = (y - definition).nan_to_num(0).abs()
    largest = difference.max().item() if difference.numel() else 0.0
    if largest > AGREEMENT * size:
        raise BadInput(
            f"input {index}: the module is not the operator: its output differs from "
            f"sigmoid(scaling_factor * (softmax(conv_transpose2d(x)) + bias)) by {largest:.3g}"
        )
    return y.numpy()


def make_cases(options):
    arguments = parse_arguments(options.init)
    names = dict(word.partition("=")[::2] for word in options.name)
    if set(names) - {"conv", "bias", "scale"}:
        raise BadInput(f"--name '{options.name[0]}': wanted conv=, bias= or scale=")
    torch.manual_seed(options.seed)
    source = module = None
    if options.module:
        path, _, class_name = options.module.rpartition(":")
        if not path or not class_name.isidentifier():
            path, class_name = options.module, "Model"
        weights = None
        if options.weights:
            weights = state_dict_of(
                load_tensors(options.weights, "--weights"), options.weights, "--weights"
            )
        source = load_module_file(path)
        if isinstance(arguments.get("scaling_factor"), float):
            arguments["scaling_factor"] = float(scaling_factor_of(arguments["scaling_factor"]))
        module = build_module(source, path, class_name, arguments, weights)
        params, geometry, scale = take_apart(module, arguments, names)
    else:
        path = options.state_dict
        tensors = state_dict_of(load_tensors(path, "--state-dict"), path, "--state-dict")
        for name in (WEIGHT, BIAS):
            if name not in tensors:
                found = ", ".join(list(tensors)[:6])
                raise BadInput(f"--state-dict '{path}': no '{name}'; it holds: {found}")
        if "scaling_factor" not in arguments:
            raise BadInput("--state-dict needs --init scaling_factor=NUMBER")
        params = {
            name: float32_array(name, tensors[name])
            for name in (WEIGHT, CONV_BIAS, BIAS)
            if name in tensors
        }
        if params[WEIGHT].ndim != 4:
            raise BadInput(f"'{WEIGHT}' has rank {params[WEIGHT].ndim}: wanted 4")
        geometry, scale = geometry_of(arguments), scaling_factor_of(arguments["scaling_factor"])
    check_bias(params, geometry["groups"])
    if module is None:
        tensors = [
            torch.from_numpy(params[n]) if n in params else None for n in (WEIGHT, CONV_BIAS)
        ]
        try:
            module = FiveSteps(*tensors, torch.from_numpy(params[BIAS]), float(scale), **geometry)
        except Exception as error:
            raise BadInput(f"--state-dict '{path}': PyTorch says: {one_line(error)}") from None
        if params[BIAS].ndim == 1:
            module.bias.data = module.bias.data.view(-1, 1, 1)
    # y in float64 is defined by the scale that the file holds.
    if isinstance(getattr(module, names.get("scale", "scaling_factor"), None), float):
        setattr(module, names.get("scale", "scaling_factor"), float(scale))

    inputs = inputs_of(options, params[WEIGHT].shape[0], source)
    if len(inputs) > 1 and "{i}" not in options.out:
        raise BadInput(f"--out '{options.out}': {len(inputs)} inputs need a name with {{i}}")
    for i, x in enumerate(inputs):
        case = Case(float32_array(f"input {i}", x), params, scale, **geometry)
        expected = expected_of(module, case, i)
        if options.expected != "none":
            case.expected = expected.astype({"f64": "<f8", "f32": "<f4"}[options.expected])
        path = options.out.replace("{i}", str(i))
        write_case(path, case, comment=f"made by from_pytorch.py, torch {torch.__version__}")
        print(f"{path}  {case.descriptor()}")


def main():
    parser = argparse.ArgumentParser(
        description="Makes case files from a PyTorch module, or a checkpoint, and inputs.",
        epilog="The docstring of this file says what a module has to look like.",
    )
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument("--module", metavar="FILE.py[:CLASS]", help="the class; default Model")
    origin.add_argument("--state-dict", metavar="FILE.pt", help="a checkpoint of the five steps")
    parser.add_argument("--weights", metavar="FILE.pt", help="a checkpoint to load into the module")
    parser.add_argument("--init", metavar="NAME=VALUE", nargs="+", action="extend", default=[])
    parser.add_argument(
        "--name",
        metavar="ROLE=NAME",
        nargs="+",
        action="extend",
        default=[],
        help="what conv, bias or scale is called in the module",
    )
    parser.add_argument(
        "--input",
        metavar="FILE|random|module",
        action="append",
        help=".pt or .npy; random (normal, needs --shape); module: the file's get_inputs()",
    )
    parser.add_argument("--shape", metavar="N,C,H,W", help="of a random input")
    parser.add_argument("--seed", type=int, default=0, help="of parameters and random inputs")
    parser.add_argument("--expected", choices=("f64", "f32", "none"), default="f64")
    parser.add_argument("--out", metavar="FILE.h5", required=True, help="{i}: number of the input")
    make_cases(parser.parse_args())


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: cannot write: {one_line(error)}", file=sys.stderr)
        sys.exit(3)
