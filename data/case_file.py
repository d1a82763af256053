"""Case files of assay, version 1, read and written with h5py; and the operator as its definition.

    y = sigmoid(scaling_factor * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))

Shared by the scripts in data/ and by tests/test_pytorch.py. The format is described in README.md.
"""

import os

import h5py
import numpy as np
import torch

WEIGHT, CONV_BIAS, BIAS = "conv_transpose.weight", "conv_transpose.bias", "bias"
DEFAULTS = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}


class BadInput(Exception):
    """What was asked cannot be done; the message is one line for the person who asked."""


def pair(value):
    """(h, w) of an attribute that is an integer, or one or two of them."""
    values = [int(v) for v in np.ravel(value)]
    if len(values) not in (1, 2):
        raise BadInput(f"an attribute has {len(values)} values, wanted 1 or 2 (h, w)")
    return (values[0], values[-1])


def output_size(size, kernel, stride, padding, output_padding, dilation):
    """The length of one axis of y."""
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1


def conv_transpose2d(x, weight, stride, padding, output_padding, dilation, groups):
    """The convolution as it is defined: every (input pixel, tap) adds x * W to one output.

    x [N, Cin, H, W], weight [Cin, Cout/groups, kH, kW], both float64 -> [N, Cout, Ho, Wo].
    Products that fall outside of the output are not formed and nothing is padded with zeros, so
    NaN and Inf reach exactly those outputs that the definition gives them to. Plain elementwise
    sums in a fixed order (kh, kw, then in_channels): the same bits everywhere.
    """
    n, cin, h, w = x.shape
    _, cout_group, kh, kw = weight.shape
    cin_group = cin // groups
    out_h = output_size(h, kh, stride[0], padding[0], output_padding[0], dilation[0])
    out_w = output_size(w, kw, stride[1], padding[1], output_padding[1], dilation[1])
    z = torch.zeros(n, groups * cout_group, out_h, out_w, dtype=torch.float64)

    def span(size, out, step, offset):
        """The input indices i with i * step + offset in [0, out), and those outputs."""
        first = max(0, -(offset // step))
        last = min(size - 1, (out - 1 - offset) // step)
        if first > last:
            return None
        return slice(first, last + 1), slice(first * step + offset, last * step + offset + 1, step)

    for i in range(kh):
        rows = span(h, out_h, stride[0], i * dilation[0] - padding[0])
        for j in range(kw):
            columns = span(w, out_w, stride[1], j * dilation[1] - padding[1])
            if rows is None or columns is None:
                continue
            for c in range(cin):
                g = c // cin_group
                target = z[:, g * cout_group : (g + 1) * cout_group, rows[1], columns[1]]
                source = x[:, c : c + 1, rows[0], columns[0]]
                target += source * weight[c, :, i, j].view(1, -1, 1, 1)
    return z


def softmax(z):
    """exp(z - max) / sum over channels; a NaN or +Inf logit makes its whole pixel NaN."""
    e = torch.exp(z - z.amax(dim=1, keepdim=True))
    return e / e.sum(dim=1, keepdim=True)


def epilogue(z, conv_bias, bias, scaling_factor):
    """z [N, Cout, Ho, Wo] -> y, in float64. conv_bias may be None; bias has Cout elements or 1."""
    if conv_bias is not None:
        z = z + conv_bias.double().view(1, -1, 1, 1)
    return torch.sigmoid(scaling_factor * (softmax(z) + bias.double().reshape(1, -1, 1, 1)))


class Case:
    """A problem and its tensors: `input` and `params` (name -> array) in their storage types, the
    attributes of the root group in `attributes`, and `expected` (or None)."""

    def __init__(self, input, params, scaling_factor, expected=None, **attributes):
        self.input, self.params = np.asarray(input), {k: np.asarray(v) for k, v in params.items()}
        self.scaling_factor, self.expected = scaling_factor, expected
        self.attributes = attributes

    def attribute(self, name):
        value = self.attributes.get(name, DEFAULTS[name])
        return int(np.ravel(value)[0]) if name == "groups" else pair(value)

    def tensor(self, name):
        """A parameter, or "input", as float64 (exact for each storage type); None if absent."""
        array = self.input if name == "input" else self.params.get(name)
        return None if array is None else torch.from_numpy(array.astype(np.float64))

    def geometry(self):
        return [
            self.attribute(k) for k in ("stride", "padding", "output_padding", "dilation", "groups")
        ]

    def out_channels(self):
        return self.params[WEIGHT].shape[1] * self.attribute("groups")

    def logits(self):
        """The convolution without its bias, by the definition."""
        return conv_transpose2d(self.tensor("input"), self.tensor(WEIGHT), *self.geometry())

    def evaluate(self, z=None):
        """y in float64, from the given convolution or from the definition's."""
        z = self.logits() if z is None else z
        return epilogue(z, self.tensor(CONV_BIAS), self.tensor(BIAS), float(self.scaling_factor))

    def descriptor(self):
        """The problem in assay's letters, every pair written out."""
        n, cin, h, w = self.input.shape
        _, _, kh, kw = self.params[WEIGHT].shape
        (sh, sw), (ph, pw), (oh, ow), (dh, dw), groups = self.geometry()
        text = (
            f"mb{n}ic{cin}ih{h}iw{w}oc{self.out_channels()}kh{kh}kw{kw}sh{sh}sw{sw}ph{ph}pw{pw}"
            f"oph{oh}opw{ow}dh{dh}dw{dw}g{groups}"
        )
        text += "" if CONV_BIAS in self.params else "cb0"
        text += "bs1" if self.params[BIAS].size == 1 and self.out_channels() > 1 else ""
        return text + f"sf{float(self.scaling_factor):.9g}"


def write_case(path, case, format_attribute="assay-case", version=1, comment=None, **storage):
    """Writes `case` under a temporary name and renames it when whole. `storage` holds h5py's
    options (chunks, compression, ...) for /input and /expected. OSError where it cannot."""
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"'{path}' is not a regular file")
    temporary = f"{path}.part{os.getpid()}"
    try:
        with h5py.File(temporary, "w") as f:
            f.attrs["format"] = format_attribute
            f.attrs["version"] = version
            for name, value in case.attributes.items():
                f.attrs[name] = value
            f.attrs["scaling_factor"] = case.scaling_factor
            if comment:
                f.attrs["comment"] = comment
            f.create_dataset("input", data=case.input, **storage)
            for name, value in case.params.items():
                f.create_dataset("params/" + name, data=value)
            if case.expected is not None:
                f.create_dataset("expected", data=case.expected, **storage)
        os.replace(temporary, path)
    except RuntimeError as error:  # h5py's, of a disk that is full
        raise OSError(str(error)) from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def read_case(path):
    """The case in the file `path`. Trusts the file to be valid: judging it is assay's work."""
    with h5py.File(path, "r") as f:
        attributes = {k: f.attrs[k] for k in DEFAULTS if k in f.attrs}
        params = {k: v[()] for k, v in f["params"].items()}
        expected = f["expected"][()] if "expected" in f else None
        return Case(f["input"][()], params, f.attrs["scaling_factor"], expected, **attributes)
