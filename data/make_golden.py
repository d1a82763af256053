#!/usr/bin/env python3
"""Makes the golden case files in data/golden/ with PyTorch (CPU, float64) and h5py.

    python data/make_golden.py --out data/golden        write them all, and check them
    python data/make_golden.py --list                   one line a case, write nothing

/expected is computed from the tensors as they are stored, in float64, by the definition of the
operator (case_file.py: a loop over the taps, nothing padded), and checked here:
  * where all tensors are finite, against torch.nn.functional.conv_transpose2d in float64, relative
    to the sum of |x||W| that each logit is made of;
  * where they are not, that PyTorch puts NaN and Inf in the same places;
  * that a case can tell: leaving out the convolution, or flipping the kernel, moves y by more than
    SENSITIVITY. Cases that cannot by construction (one channel, scale 0, ...) say so: blind=True.
Inputs are the same bits on every machine (NumPy's PCG64, a seed per case made from its name);
/expected may differ in the last bit of float64 with PyTorch's exp.

What the cases cover, each at least once: sizes 1 to 64, batch 1 to 4, Cout 1, 3, 21, 257, pairs for
every argument, output_padding up to max(stride, dilation) - 1 on either side, dilation with empty
phases, groups and depthwise, stride > kernel (outputs that no tap reaches), padding that crops past
whole taps, no conv bias, bias of one element and of both shapes, scale negative, zero and
fractional, logits of +-1e4, NaN, Inf, -0 and subnormals, Inf biases; and of the format: attributes
as scalars, pairs, small integers, or missing, fixed-length strings, input stored as float16, int8
and float64, weights as float16 and big-endian float32, compressed chunks, expected as float64 and
float32.
"""

import argparse
import os
import sys
import zlib

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from case_file import BIAS, CONV_BIAS, WEIGHT, BadInput, Case, pair, write_case

SENSITIVITY = 0.03
AGREEMENT = 1e-13  # of the float64 forms; some hundred times the rounding of the longest sum here
INF, NAN = np.inf, np.nan
CASES = {}


def case(function):
    """Registers a function that returns the arguments of make() as the case of its name."""
    CASES[function.__name__] = function
    return function


def make(
    name,
    shape,
    out_channels,
    kernel,
    scaling_factor=2.0,
    conv_bias=True,
    bias_shape=None,
    spread=3.0,
    edit=None,
    input_dtype="<f4",
    weight_dtype="<f4",
    expected_dtype="<f8",
    storage=None,
    blind=False,
    finite=True,
    header=None,
    **attributes,
):
    """One case. shape = (N, Cin, H, W). Logits have a standard deviation of about `spread` where
    taps are densest. edit(rng, tensors) changes the drawn tensors before y is computed; `header`
    goes to write_case; `attributes` are written as they are given."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    groups = int(attributes.get("groups", 1))
    stride, dilation = pair(attributes.get("stride", 1)), pair(attributes.get("dilation", 1))
    kh, kw = pair(kernel)

    def taps(k, s, d):
        return -(-k // (s // np.gcd(s, d)))

    terms = shape[1] // groups * taps(kh, stride[0], dilation[0]) * taps(kw, stride[1], dilation[1])
    amplitude = 3 * spread / terms**0.5  # uniform in (-1, 1) has the standard deviation 1 / sqrt(3)
    tensors = {
        "input": rng.uniform(-1, 1, shape),
        WEIGHT: rng.uniform(-1, 1, (shape[1], out_channels // groups, kh, kw)) * amplitude,
        CONV_BIAS: rng.uniform(-1, 1, out_channels),
        BIAS: rng.uniform(-0.75, 0.75, bias_shape or (out_channels, 1, 1)),
    }
    if not conv_bias:
        del tensors[CONV_BIAS]
    tensors = {k: np.asarray(v, np.float32) for k, v in tensors.items()}
    if edit:
        edit(rng, tensors)
    for key, dtype in (("input", input_dtype), (WEIGHT, weight_dtype)):
        stored = tensors[key].astype(dtype)
        assert np.array_equal(stored.astype(np.float32), tensors[key], equal_nan=True), name
        tensors[key] = stored

    result = Case(tensors.pop("input"), tensors, scaling_factor, **attributes)
    result.expected = result.evaluate().numpy().astype(expected_dtype)
    return result, dict(storage or {}, **(header or {})), blind, finite


# fmt: off

# ---- shapes --------------------------------------------------------------------------------------


@case
def one_element():
    return dict(shape=(1, 1, 1, 1), out_channels=1, kernel=1, blind=True)


@case
def attributes_missing():
    """All five convolution attributes are left out: PyTorch's defaults."""
    return dict(shape=(2, 3, 5, 7), out_channels=4, kernel=3)


@case
def home_small():
    return dict(
        shape=(2, 8, 5, 5), out_channels=16, kernel=4, stride=2, padding=1, output_padding=1,
        dilation=1, groups=1,
    )


@case
def home_channels():
    """The home case's channels and arguments on 3 x 3 pixels; expected in float32."""
    return dict(
        shape=(1, 64, 3, 3), out_channels=128, kernel=4, stride=2, padding=1, output_padding=1,
        expected_dtype="<f4",
    )


@case
def pairs_all_different():
    return dict(
        shape=(2, 4, 6, 9), out_channels=5, kernel=(3, 5), stride=(3, 2), padding=(1, 3),
        output_padding=(2, 1), dilation=(1, 2),
    )


@case
def pairs_all_different_swapped():
    return dict(
        shape=(2, 4, 9, 6), out_channels=5, kernel=(5, 3), stride=(2, 3), padding=(3, 1),
        output_padding=(1, 2), dilation=(2, 1),
    )


@case
def batch_four():
    return dict(shape=(4, 6, 4, 3), out_channels=7, kernel=2, stride=2, bias_shape=(7,))


@case
def size_64():
    """64 x 64, chunked with shuffle and gzip, chunks that do not divide the extents."""
    return dict(
        shape=(1, 2, 64, 64), out_channels=3, kernel=3, padding=1, input_dtype="<f2",
        expected_dtype="<f4", edit=round_input_to_float16, storage=dict(chunks=(1, 1, 24, 40),
        compression="gzip", compression_opts=9, shuffle=True),
    )


@case
def row_of_64():
    return dict(shape=(3, 4, 1, 64), out_channels=6, kernel=(1, 4), stride=(1, 2), padding=(0, 1))


@case
def column_of_64():
    return dict(shape=(3, 4, 64, 1), out_channels=6, kernel=(4, 1), stride=(2, 1), padding=(1, 0))


@case
def primes():
    return dict(
        shape=(3, 13, 7, 11), out_channels=17, kernel=5, stride=3, padding=2, output_padding=2,
    )


@case
def pointwise():
    """A 1 x 1 kernel: a matrix product at each pixel."""
    return dict(shape=(2, 31, 5, 8), out_channels=33, kernel=1)


@case
def one_pixel_in():
    """Every tap goes to a pixel of its own."""
    return dict(shape=(4, 16, 1, 1), out_channels=12, kernel=(7, 6))


@case
def one_pixel_out():
    return dict(shape=(2, 16, 3, 3), out_channels=9, kernel=3, padding=2)


# ---- output channels -----------------------------------------------------------------------------


@case
def channels_1():
    """softmax over one channel is 1: y depends on the bias alone."""
    return dict(
        shape=(2, 5, 7, 5), out_channels=1, kernel=3, stride=2, padding=1, output_padding=1,
        blind=True,
    )


@case
def channels_3():
    return dict(shape=(2, 32, 8, 8), out_channels=3, kernel=4, stride=2, padding=1)


@case
def channels_21():
    """Upsampling by 4 of 21 score maps, as segmentation networks do."""
    return dict(
        shape=(1, 21, 6, 5), out_channels=21, kernel=8, stride=4, padding=2, conv_bias=False,
    )


@case
def channels_257():
    return dict(
        shape=(1, 5, 6, 7), out_channels=257, kernel=3, stride=2, padding=1, output_padding=1,
    )


# ---- stride, padding, dilation -------------------------------------------------------------------


@case
def stride_above_kernel():
    """Stride 5, kernel 2, output_padding 4: most outputs have no tap: softmax(conv_bias)."""
    return dict(shape=(2, 6, 4, 3), out_channels=8, kernel=2, stride=5, output_padding=4)


@case
def stride_above_kernel_cropped():
    """As above, cropped, with pairs, and no conv bias: outputs with no tap are exactly 1 / Cout."""
    return dict(
        shape=(1, 6, 5, 4), out_channels=8, kernel=(2, 1), stride=(4, 3), padding=(3, 1),
        output_padding=(0, 2), conv_bias=False,
    )


@case
def padding_crops():
    """padding > dilation * (kernel - 1): whole rows of x are cropped away."""
    return dict(shape=(2, 5, 12, 13), out_channels=6, kernel=3, padding=(5, 4), bias_shape=(6,))


@case
def padding_crops_strided():
    return dict(shape=(1, 5, 8, 9), out_channels=6, kernel=4, stride=2, padding=6, output_padding=1)


@case
def dilation_output_padding():
    """output_padding of dilation - 1 and of stride - 1, whichever is larger on each axis."""
    return dict(
        shape=(2, 4, 5, 6), out_channels=5, kernel=(3, 2), stride=(2, 4), padding=(2, 1),
        output_padding=(3, 3), dilation=(4, 3),
    )


@case
def dilation_shares_factor():
    """stride 4 and dilation 2 reach only every second phase; stride 2 and dilation 2 only one."""
    return dict(
        shape=(1, 6, 5, 7), out_channels=7, kernel=3, stride=(4, 2), padding=(1, 2),
        output_padding=(3, 1), dilation=2,
    )


@case
def dilation_stride_1():
    return dict(
        shape=(2, 4, 9, 8), out_channels=10, kernel=3, padding=3, output_padding=2, dilation=3,
    )


@case
def dilation_coprime():
    return dict(
        shape=(1, 3, 7, 6), out_channels=5, kernel=4, stride=3, padding=4, output_padding=4,
        dilation=5,
    )


# ---- groups and biases ---------------------------------------------------------------------------


@case
def groups_2():
    return dict(
        shape=(2, 6, 5, 6), out_channels=10, kernel=4, stride=2, padding=1, output_padding=1,
        groups=2,
    )


@case
def groups_3_dilated():
    return dict(
        shape=(2, 9, 5, 4), out_channels=6, kernel=(2, 3), stride=(2, 1), padding=(0, 1),
        output_padding=(1, 1), dilation=(1, 2), groups=3, conv_bias=False,
    )


@case
def depthwise():
    return dict(
        shape=(1, 21, 6, 6), out_channels=21, kernel=4, stride=2, padding=1, groups=21,
        conv_bias=False,
    )


@case
def depthwise_multiplier():
    return dict(shape=(2, 4, 5, 7), out_channels=12, kernel=3, stride=(1, 2), padding=1, groups=4)


@case
def bias_one_element():
    return dict(shape=(2, 5, 4, 6), out_channels=8, kernel=3, stride=2, bias_shape=(1,))


@case
def bias_one_element_1_1_1():
    return dict(shape=(1, 5, 4, 6), out_channels=8, kernel=2, bias_shape=(1, 1, 1), conv_bias=False)


@case
def scale_negative():
    return dict(
        shape=(2, 5, 4, 6), out_channels=8, kernel=3, stride=2, padding=1,
        scaling_factor=np.float32(-3.7),
    )


@case
def scale_zero():
    """y is 0.5 exactly."""
    return dict(
        shape=(1, 3, 4, 4), out_channels=5, kernel=3, stride=2, scaling_factor=0.0, blind=True,
        expected_dtype="<f4",
    )


@case
def scale_tenth():
    """The float32 nearest to 0.1; y moves by a few percent at most."""
    return dict(
        shape=(1, 5, 4, 6), out_channels=4, kernel=3, stride=2, scaling_factor=np.float32(0.1),
        blind=True,
    )


@case
def scale_large():
    """y saturates near 0 and near 1, where the sigmoid's tails are judged."""
    return dict(shape=(1, 6, 5, 5), out_channels=6, kernel=3, padding=1, scaling_factor=60)


# ---- values --------------------------------------------------------------------------------------


def round_input_to_float16(rng, t):
    t["input"] = t["input"].astype(np.float16).astype(np.float32)


def integers(rng, t):
    """x in -128 .. 127 with both ends, W small multiples of 1/64: logits are exact in any order."""
    t["input"] = rng.integers(-128, 128, t["input"].shape).astype(np.float32)
    t["input"].flat[:2] = (-128, 127)
    t[WEIGHT] = (rng.integers(-3, 4, t[WEIGHT].shape) / 64).astype(np.float32)
    t[CONV_BIAS] = (rng.integers(-8, 9, t[CONV_BIAS].shape) / 8).astype(np.float32)


@case
def exact_int8_input():
    return dict(
        shape=(2, 6, 6, 7), out_channels=9, kernel=3, stride=2, padding=1, output_padding=1,
        input_dtype="i1", edit=integers,
    )


@case
def float16_input_and_weights():
    def edit(rng, t):
        round_input_to_float16(rng, t)
        t[WEIGHT] = t[WEIGHT].astype(np.float16).astype(np.float32)

    return dict(
        shape=(1, 12, 6, 5), out_channels=10, kernel=4, stride=2, padding=1, edit=edit,
        input_dtype="<f2", weight_dtype="<f2",
    )


@case
def float64_input():
    """float32 values stored as float64, and weights as big-endian float32."""
    return dict(
        shape=(1, 3, 6, 5), out_channels=6, kernel=3, stride=2, input_dtype="<f8",
        weight_dtype=">f4",
    )


@case
def attribute_types():
    """int32 and uint8 attributes, an integer scale, a fixed-length format string."""
    return dict(
        shape=(1, 4, 5, 4), out_channels=6, kernel=3, stride=np.int32(2), padding=np.uint8([1, 0]),
        output_padding=np.int16([0, 1]), dilation=np.uint64([1, 1]), groups=np.int8(2),
        scaling_factor=3, header=dict(format_attribute=np.bytes_("assay-case"),
        version=np.uint16(1)),
    )


@case
def impulse():
    """One pixel of each channel is 1: the kernel itself stands in the output."""

    def edit(rng, t):
        t["input"][:] = 0
        for c in range(t["input"].shape[1]):
            t["input"][c % 2, c, (c * 2) % 5, (c * 3) % 6] = 1

    return dict(
        shape=(2, 6, 5, 6), out_channels=7, kernel=(4, 3), stride=(2, 3), padding=1,
        output_padding=(1, 2), edit=edit, spread=1.5,
    )


@case
def logits_1e4():
    """Image 0: logits spread over +-1e4. Images 1 and 2: ordinary ones with 1e4 added to, or
    taken from, every channel: softmax must take off the maximum, and the pixel's own."""

    def edit(rng, t):
        t["input"][0] *= 3000
        t[WEIGHT][0] = 1.0
        t["input"][1:, 0] = 0
        t["input"][1, 0, ::2] = 10000
        t["input"][2, 0, ::2] = -10000

    return dict(shape=(3, 3, 5, 6), out_channels=6, kernel=3, stride=2, padding=1, edit=edit)


@case
def logits_equal():
    """All logits of a pixel are equal and some hundreds: softmax is 1 / Cout."""

    def edit(rng, t):
        t[WEIGHT][:] = t[WEIGHT][:, :1] * 1000
        t[CONV_BIAS][:] = np.float32(0.5)

    return dict(
        shape=(1, 2, 6, 5), out_channels=8, kernel=4, stride=2, padding=1, edit=edit, blind=True,
    )


@case
def nan_and_inf_in_input():
    """NaN, +Inf, -Inf at pixels apart, one at a border that is cropped; and Inf * 0 = NaN."""

    def edit(rng, t):
        t["input"][0, 0, 1, 1] = NAN
        t["input"][0, 1, 4, 5] = INF
        t["input"][1, 2, 0, 0] = -INF
        t["input"][1, 0, 5, 2] = -INF
        t[WEIGHT][0] = np.abs(t[WEIGHT][0])  # -Inf at every channel of x: no channel is left
        t[WEIGHT][1, :, 1, 1] = 0

    return dict(
        shape=(2, 3, 6, 7), out_channels=5, kernel=3, stride=2, padding=1, output_padding=1,
        edit=edit, finite=False,
    )


@case
def minus_inf_logits():
    """-Inf in some channels of the output: these get probability 0, the others stay finite."""

    def edit(rng, t):
        t["input"] = np.abs(t["input"]) + np.float32(0.1)
        t["input"][0, 0, 2, 2] = INF
        t[WEIGHT][0, :2] = -np.abs(t[WEIGHT][0, :2]) - np.float32(0.1)
        t[WEIGHT][0, 2:] = -0.0
        t[WEIGHT][1, 3, 0, 1] = -INF

    return dict(
        shape=(1, 3, 5, 5), out_channels=6, kernel=3, stride=2, padding=1, edit=edit, finite=False,
    )


@case
def nan_and_inf_in_weights():
    """A tap of NaN and taps of +-Inf with stride 3: only the phases they reach are touched."""

    def edit(rng, t):
        t["input"] = np.abs(t["input"]) + np.float32(0.1)
        t["input"][0, :, 2, 3] = 0
        t[WEIGHT][0, 2, 0, 0] = NAN
        t[WEIGHT][1, 1, 1, 2] = INF
        t[WEIGHT][2, 4, 2, 1] = -INF

    return dict(
        shape=(2, 3, 4, 6), out_channels=5, kernel=3, stride=3, padding=1, edit=edit, finite=False,
    )


@case
def inf_times_padding():
    """An Inf weight whose tap falls outside of y for the only x it meets: y is finite throughout.
    A kernel that multiplies padding zeros by it returns NaN."""

    def edit(rng, t):
        t[WEIGHT][:, :, 0, :] = INF
        t["input"][:, :, -1, -1] = 0.25

    return dict(
        shape=(1, 4, 1, 8), out_channels=6, kernel=3, stride=2, padding=1, edit=edit, finite=False,
        blind=True,
    )


@case
def inf_in_biases():
    """A channel masked by a conv bias of -Inf; bias of +-Inf saturates y to exactly 1 and 0."""

    def edit(rng, t):
        t[CONV_BIAS][1] = -INF
        t[BIAS][3], t[BIAS][4] = INF, -INF

    return dict(shape=(1, 4, 5, 4), out_channels=6, kernel=3, stride=2, edit=edit, finite=False)


@case
def subnormals_and_minus_zero():
    """-0 and subnormals in every tensor. Flushing them to zero moves logits by 1e-12 at most, so
    both who flushes and who does not is right."""

    def edit(rng, t):
        t["input"][0, 0, ::2, ::2] = -0.0
        t["input"][0, 1, 1::2, :] = 1e-42
        t["input"][0, 1, ::2, 1] = -1.401298464324817e-45
        t[WEIGHT][0, :, 0, 0] = -0.0
        t[WEIGHT][1, 2, 1, 1] = 1e30
        t[WEIGHT][2, 3, 2, 2] = 1e-40
        t["input"][0, 1][np.abs(t["input"][0, 1]) > 1e-30] = 0.0
        t[CONV_BIAS][:2] = (-0.0, 1e-41)
        t[BIAS][:3] = np.float32([[[-0.0]], [[1e-45]], [[-1e-39]]])

    return dict(shape=(1, 3, 6, 5), out_channels=5, kernel=3, stride=2, padding=1, edit=edit)

# fmt: on


# ---- checks --------------------------------------------------------------------------------------


def torch_conv_transpose2d(case, x, weight):
    stride, padding, output_padding, dilation, groups = case.geometry()
    return F.conv_transpose2d(
        x, weight, None, stride, padding, output_padding, groups=groups, dilation=dilation
    )


def check_against_torch(name, case, finite):
    """The two float64 forms of the convolution and of y; returns their largest differences."""
    x, weight = case.tensor("input"), case.tensor(WEIGHT)
    tensors = [x, weight] + [torch.from_numpy(p.astype(np.float64)) for p in case.params.values()]
    assert all(t.isfinite().all() for t in tensors) == finite, f"{name}: finite= is wrong"
    ours, theirs = case.logits(), torch_conv_transpose2d(case, x, weight)
    assert ours.shape == theirs.shape, f"{name}: {ours.shape} against PyTorch's {theirs.shape}"
    ours_y, theirs_y = case.evaluate(ours), case.evaluate(theirs)
    if not finite:
        for a, b in ((ours, theirs), (ours_y, theirs_y)):
            same = torch.equal(a.isnan(), b.isnan()) and torch.equal(a.isinf(), b.isinf())
            assert same, f"{name}: PyTorch puts NaN or Inf elsewhere"
        keep = ours.isfinite()
        scale = torch_conv_transpose2d(case, x.nan_to_num().abs(), weight.nan_to_num(0, 0, 0).abs())
    else:
        keep = torch.ones_like(ours, dtype=torch.bool)
        scale = torch_conv_transpose2d(case, x.abs(), weight.abs())
    relative = (
        ((ours - theirs).abs() / scale.clamp_min(1e-300))[keep].max().item() if keep.any() else 0.0
    )
    keep = ours_y.isfinite()
    y_difference = (ours_y - theirs_y).abs()[keep].max().item() if keep.any() else 0.0
    logit_size = max(1.0, ours[ours.isfinite()].abs().max().item())
    assert relative <= AGREEMENT, f"{name}: logits differ from PyTorch's by {relative:.2g}"
    assert y_difference <= AGREEMENT * logit_size, f"{name}: y differs by {y_difference:.2g}"
    return relative, y_difference


def sensitivity(case):
    """How far y moves, where finite, without the convolution and with the kernel flipped."""
    z = case.logits()
    y = case.evaluate(z)
    flipped = Case(case.input, dict(case.params), case.scaling_factor, **case.attributes)
    flipped.params[WEIGHT] = case.params[WEIGHT][:, :, ::-1, ::-1]
    moved = []
    for wrong in (case.evaluate(torch.zeros_like(z)), flipped.evaluate()):
        both = y.isfinite() & wrong.isfinite()
        moved.append((y - wrong)[both].abs().max().item() if both.any() else INF)
    return moved


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", metavar="FOLDER", help="where the .h5 files go; made if missing")
    parser.add_argument(
        "--list", action="store_true", help="check and list the cases, write nothing"
    )
    options = parser.parse_args()
    if not options.out and not options.list:
        parser.error("where to? say --out FOLDER, or --list")
    torch.set_num_threads(1)
    if options.out:
        os.makedirs(options.out, exist_ok=True)

    versions = f"torch {torch.__version__}, h5py {h5py.__version__}, numpy {np.__version__}"
    print(versions, file=sys.stderr)
    print(
        f"{'case':28} {'bytes':>7} {'conv diff':>9} {'y diff':>8} {'no conv':>8} {'flipped':>8}"
        "  descriptor"
    )
    total, worst, worst_y = 0, 0.0, 0.0
    for name, function in CASES.items():
        result, header, blind, finite = make(name, **function())
        relative, y_difference = check_against_torch(name, result, finite)
        worst, worst_y = max(worst, relative), max(worst_y, y_difference)
        moved = sensitivity(result)
        kernel_is_one = result.params[WEIGHT].shape[2:] == (1, 1)
        seen = moved[0] if kernel_is_one else min(moved)
        assert blind or seen > SENSITIVITY, f"{name}: cannot tell, {moved}; its data hides mistakes"
        size = 0
        if options.out:
            path = os.path.join(options.out, name + ".h5")
            comment = " ".join((function.__doc__ or "").split())
            write_case(path, result, comment=comment, **header)
            size = os.path.getsize(path)
            total += size
        print(
            f"{name:28} {size:7} {relative:9.1e} {y_difference:8.1e} {moved[0]:8.2g} "
            f"{moved[1]:8.2g}  {result.descriptor()}"
        )
    print(
        f"{len(CASES)} cases, {total} bytes; against PyTorch's float64: "
        f"convolution {worst:.1e} of sum |x||W|, y {worst_y:.1e} at most"
    )


if __name__ == "__main__":
    try:
        main()
    except (BadInput, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, BadInput) else 3)
