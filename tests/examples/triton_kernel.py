#!/usr/bin/env python3
"""The operator as one Triton kernel, run on a case file: a modest kernel to put before assay.

    assay verify --impl "exec:python3 tests/examples/triton_kernel.py {case} {output}" CASE

    y = sigmoid(scaling_factor * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))

Direct convolution, gathered: output pixel (oh, ow) takes tap (kh, kw) from the input pixel

    ih = (oh + padding_h - kh * dilation_h) / stride_h      where that divides and is in range

One program holds PIXELS output pixels x all channels in registers, in fp32, so softmax needs
nothing from its neighbours. It visits each tap for each pixel, stride_h * stride_w times as many as
have work; a tuned kernel takes the output apart by phase. Taps without an input pixel are selected
away and not multiplied by zero: Inf in the weights reaches only the outputs that use it.

Exit status: 0, 2 for bad input, 3 where triton, torch or a CUDA GPU is missing.
"""

import argparse
import sys

try:
    import h5py
    import numpy as np
    import torch
    import triton
    import triton.language as tl
except ImportError as error:
    print(f"error: {error}: this example needs torch, triton and h5py", file=sys.stderr)
    sys.exit(3)


@triton.jit
def conv_transpose2d_softmax(
    x_ptr,  # [N, IN_GROUP * groups, height, width]
    w_ptr,  # [IN_GROUP * groups, OUT_GROUP, KERNEL_H, KERNEL_W]
    conv_bias_ptr,  # [out_channels]
    bias_ptr,  # [out_channels]
    y_ptr,  # [N, out_channels, out_h, out_w]
    scaling_factor,
    pixels,  # N * out_h * out_w
    in_channels,
    height,
    width,
    out_channels,
    out_h,
    out_w,
    pad_h,
    pad_w,
    IN_GROUP: tl.constexpr,
    OUT_GROUP: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,  # out_channels, up to a power of two
):
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    ow = pixel % out_w
    oh = pixel // out_w % out_h
    n = pixel // out_w // out_h
    channel = tl.arange(0, CHANNELS)
    in_y = (pixel < pixels)[:, None] & (channel < out_channels)[None, :]
    group = channel // OUT_GROUP
    w_channel = (group.to(tl.int64) * IN_GROUP * OUT_GROUP + channel % OUT_GROUP) * (
        KERNEL_H * KERNEL_W
    )

    z = tl.zeros((PIXELS, CHANNELS), dtype=tl.float32)
    for kh in range(KERNEL_H):
        for kw in range(KERNEL_W):
            # Shifted to be positive where it counts: // of a negative number is not a floor here.
            top = oh + pad_h - kh * DILATION_H
            left = ow + pad_w - kw * DILATION_W
            ih, iw = top // STRIDE_H, left // STRIDE_W
            has_tap = (top >= 0) & (top % STRIDE_H == 0) & (ih < height)
            has_tap &= (left >= 0) & (left % STRIDE_W == 0) & (iw < width)
            take = in_y & has_tap[:, None]
            x_pixel = (n * in_channels * height + ih) * width + iw
            for c in range(IN_GROUP):
                x_channel = (group * IN_GROUP + c).to(tl.int64) * height * width
                w_offset = w_channel + c * OUT_GROUP * KERNEL_H * KERNEL_W + kh * KERNEL_W + kw
                x = tl.load(x_ptr + x_pixel[:, None] + x_channel[None, :], mask=take, other=0.0)
                w = tl.load(w_ptr + w_offset, mask=channel < out_channels, other=0.0)
                z = tl.where(take, z + x * w[None, :], z)

    conv_bias = tl.load(conv_bias_ptr + channel, mask=channel < out_channels, other=0.0)
    bias = tl.load(bias_ptr + channel, mask=channel < out_channels, other=0.0)
    z = tl.where(in_y, z + conv_bias[None, :], float("-inf"))
    # NOTE: the maximum may pass over a NaN; then exp(NaN - max) is NaN, and the sum makes all NaN.
    z = z - tl.max(z, axis=1)[:, None]
    e = tl.where(in_y, tl.exp(z), 0.0)
    p = e / tl.sum(e, axis=1)[:, None]
    t = (p + bias[None, :]) * scaling_factor
    y = 1.0 / (1.0 + tl.exp(-t))
    y_pixel = (n * out_channels * out_h + oh) * out_w + ow
    y_channel = channel.to(tl.int64) * out_h * out_w
    tl.store(y_ptr + y_pixel[:, None] + y_channel[None, :], y, mask=in_y)


def forward(x, weight, conv_bias, bias, stride, padding, output_padding, dilation, groups, scale):
    """y on the GPU of x. conv_bias [Cout], bias [Cout]; stride and so on are (h, w)."""
    n, in_channels, height, width = x.shape
    _, out_group, kernel_h, kernel_w = weight.shape
    out_channels = out_group * groups
    out_h, out_w = (
        (size - 1) * s - 2 * p + d * (k - 1) + op + 1
        for size, k, s, p, op, d in zip(
            (height, width),
            (kernel_h, kernel_w),
            stride,
            padding,
            output_padding,
            dilation,
            strict=True,
        )
    )
    y = torch.empty(n, out_channels, out_h, out_w, device=x.device)
    channels = triton.next_power_of_2(out_channels)
    block = max(1, min(64, 4096 // channels))
    pixels = n * out_h * out_w
    if pixels:
        conv_transpose2d_softmax[(triton.cdiv(pixels, block),)](
            x,
            weight,
            conv_bias,
            bias,
            y,
            scale,
            pixels,
            in_channels,
            height,
            width,
            out_channels,
            out_h,
            out_w,
            *padding,
            IN_GROUP=in_channels // groups,
            OUT_GROUP=out_group,
            KERNEL_H=kernel_h,
            KERNEL_W=kernel_w,
            STRIDE_H=stride[0],
            STRIDE_W=stride[1],
            DILATION_H=dilation[0],
            DILATION_W=dilation[1],
            PIXELS=block,
            CHANNELS=channels,
        )
    return y


def read_case(path):
    """The arguments of forward, on the GPU."""
    with h5py.File(path, "r") as f:

        def tensor(name):
            return torch.from_numpy(f[name][()].astype(np.float32)).cuda()

        def attribute(name, default):
            values = np.ravel(f.attrs.get(name, default))
            return (int(values[0]), int(values[-1]))

        groups = attribute("groups", 1)[0]
        weight = tensor("params/conv_transpose.weight")
        out_channels = weight.shape[1] * groups
        if "conv_transpose.bias" in f["params"]:
            conv_bias = tensor("params/conv_transpose.bias")
        else:
            conv_bias = torch.zeros(out_channels, device="cuda")
        bias = tensor("params/bias").reshape(-1).expand(out_channels).contiguous()
        geometry = [
            attribute(name, default)
            for name, default in (
                ("stride", 1),
                ("padding", 0),
                ("output_padding", 0),
                ("dilation", 1),
            )
        ]
        scale = float(np.float32(f.attrs["scaling_factor"]))
        return tensor("input"), weight, conv_bias, bias, *geometry, groups, scale


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("case")
    parser.add_argument("output")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("error: this example needs a CUDA GPU, and PyTorch sees none", file=sys.stderr)
        sys.exit(3)
    try:
        y = forward(*read_case(options.case)).cpu().numpy()
        with h5py.File(options.output, "w") as f:
            f["output"] = y
    except (OSError, KeyError, ValueError) as error:
        print(f"error: '{options.case}': {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
