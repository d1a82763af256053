"""KernelBench level 2, problem 91, in KernelBench's form: ConvTranspose2d, softmax, + bias, scale, sigmoid.

ModelNew is assay_torch's, so the package and its library must be found: PYTHONPATH=gpu/pytorch, and
build/libassay.so (make lib) or ASSAY_LIBRARY. Measured as KernelBench measures by gpu/pytorch/bench.py.
"""

import os
import sys

import torch
from torch import nn

try:
    import assay_torch
except ImportError:
    if "__file__" not in globals():  # the text was given to exec
        raise
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import assay_torch


class Model(nn.Module):
    """The five steps."""

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
    ):
        super().__init__()
        self.conv_transpose = nn.ConvTranspose2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
        )
        self.bias = nn.Parameter(torch.randn(bias_shape))
        self.scaling_factor = scaling_factor

    def forward(self, x):
        x = self.conv_transpose(x)
        x = torch.softmax(x, dim=1)
        x = x + self.bias
        x = x * self.scaling_factor
        return torch.sigmoid(x)


class ModelNew(assay_torch.ModelNew):
    """The same in one kernel."""


batch_size = 128
in_channels, out_channels = 64, 128
height, width = 64, 64
kernel_size, stride, padding, output_padding = 4, 2, 1, 1
bias_shape = (out_channels, 1, 1)
scaling_factor = 2.0


def get_inputs():
    return [torch.rand(batch_size, in_channels, height, width)]


def get_init_inputs():
    return [
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding,
        output_padding,
        bias_shape,
        scaling_factor,
    ]
