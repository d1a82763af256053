"""The operator: eager, compiled, exported, differentiated.

    y = sigmoid(scaling_factor * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))

x [N, Cin, H, W], W [Cin, Cout / groups, kH, kW], conv_bias [Cout] or None, bias one element or Cout
along dimension 1; y [N, Cout, Ho, Wo], contiguous, of the given dtype. Operands of float32, float16
and bfloat16 are computed in float32 (or the asked class) by the library; float64 and empty inputs by
PyTorch's operators. The gradient recomputes the logits with PyTorch's operators.
"""

from typing import Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import binding, plan_cache

DEFAULT = ""  # arithmetic: as torch.backends.cudnn.allow_tf32 says
ALIGNMENT = 256  # of x and y on a GPU, bytes


def five_steps(
    x, weight, conv_bias, bias, stride, padding, output_padding, dilation, groups, scaling_factor
):
    """The definition, by PyTorch's operators."""
    y = F.conv_transpose2d(x, weight, conv_bias, stride, padding, output_padding, groups, dilation)
    y = torch.softmax(y, dim=1)
    y = y + bias
    y = y * scaling_factor
    return torch.sigmoid(y)


def geometry(conv):
    """The operator's arguments from stride to groups, of a torch.nn.ConvTranspose2d."""
    return conv.stride, conv.padding, conv.output_padding, conv.dilation, conv.groups


def tf32_is_allowed():
    """torch.backends.cudnn.allow_tf32, which refuses to answer where the newer switches differ."""
    try:
        return torch._C._get_cudnn_allow_tf32()
    except RuntimeError:
        return torch.backends.cudnn.conv.fp32_precision == "tf32"


class Request:
    """What a plan is made for; plan_cache's key."""

    __slots__ = (
        "x_shape",
        "parameters",
        "stride",
        "padding",
        "output_padding",
        "dilation",
        "groups",
        "scaling_factor",
        "arithmetic",
        "device",
        "key",
    )

    def __init__(
        self,
        x,
        weight,
        conv_bias,
        bias,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        scaling_factor,
        arithmetic,
    ):
        self.x_shape = x.shape
        self.parameters = (weight, bias) if conv_bias is None else (weight, conv_bias, bias)
        self.stride, self.padding = tuple(stride), tuple(padding)
        self.output_padding, self.dilation = tuple(output_padding), tuple(dilation)
        self.groups, self.scaling_factor = groups, scaling_factor
        self.device = x.device.index if x.is_cuda else binding.CPU
        if not x.is_cuda:
            arithmetic = "fp32"
        elif arithmetic == DEFAULT:
            narrow = x.dtype is not torch.float32
            arithmetic = "tf32" if narrow or tf32_is_allowed() else "fp32"
        self.arithmetic = arithmetic
        self.key = (
            self.device,
            self.x_shape,
            arithmetic,
            self.stride,
            self.padding,
            self.output_padding,
            self.dilation,
            groups,
            scaling_factor,
            weight.shape,
            weight.stride(),
            weight.dtype,
            bias.shape,
            *[p.data_ptr() for p in self.parameters],
            len(self.parameters),
        )


def run(
    x: Tensor,
    weight: Tensor,
    conv_bias: Optional[Tensor],
    bias: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    scaling_factor: float,
    arithmetic: str,
    dtype: torch.dtype,
) -> Tensor:
    """The operator on real tensors, without autograd."""
    attributes = (stride, padding, output_padding, dilation, groups, scaling_factor)
    if x.dtype is torch.float64 or x.dim() != 4 or x.numel() == 0:
        return five_steps(x, weight, conv_bias, bias, *attributes).to(dtype)
    request = Request(x, weight, conv_bias, bias, *attributes, arithmetic)
    for p in request.parameters:
        if p.device != x.device:
            raise RuntimeError(
                f"ModelNew: the input is on {x.device}, and a parameter is on {p.device}"
            )
    try:
        if not x.is_cuda:
            return _on_cpu(request, x, dtype)
        if x.device.index == torch.cuda.current_device():
            return _on_gpu(request, x, dtype)
        with torch.cuda.device(x.device):
            return _on_gpu(request, x, dtype)
    except binding.LibraryError as error:
        if error.status == binding.BAD_INPUT:
            # PyTorch's own words where it refuses too; what only the library refuses runs there.
            return five_steps(x.to(weight.dtype), weight, conv_bias, bias, *attributes).to(dtype)
        raise


def ready(x, alignment):
    """x as the library reads it: float32, NCHW, aligned."""
    if x.is_neg():
        x = x.resolve_neg()
    if x.dtype is not torch.float32 or not x.is_contiguous():
        x = x.to(torch.float32, memory_format=torch.contiguous_format).contiguous()
    return x.clone() if x.data_ptr() % alignment else x


def _on_cpu(request, x, dtype):
    plan = plan_cache.find(request)
    x = ready(x, 16)
    y = torch.empty(plan.out_shape, dtype=torch.float32)
    plan_cache.run_cpu(plan, x, y, x.shape[0])
    return y if dtype is torch.float32 else y.to(dtype)


def _on_gpu(request, x, dtype):
    if torch.cuda.is_current_stream_capturing():
        plan = plan_cache.find_for_capture(request)
    else:
        plan = plan_cache.find(request)
    x = ready(x, ALIGNMENT)
    y = torch.empty(plan.out_shape, dtype=torch.float32, device=x.device)
    images = x.shape[0]
    if plan.images >= images:
        plan_cache.run_gpu(plan, x, y, images)
    else:  # device memory has no room for the workspace of all
        for first in range(0, images, plan.images):
            piece = x[first : first + plan.images].clone()
            result = torch.empty((len(piece), *y.shape[1:]), dtype=y.dtype, device=y.device)
            plan_cache.run_gpu(plan, piece, result, len(piece))
            y[first : first + plan.images] = result
    return y if dtype is torch.float32 else y.to(dtype)


# ---- gradients -----------------------------------------------------------------------------------


def gradients(
    grad,
    x,
    weight,
    conv_bias,
    bias,
    y,
    stride,
    padding,
    output_padding,
    dilation,
    groups,
    scaling_factor,
    needs,
):
    """Gradients of (x, weight, conv_bias, bias) where `needs` says so, by PyTorch's operators; they
    can be differentiated again. The logits are recomputed, the softmax with them."""
    compute = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), bias.dtype)
    with torch.autocast(device_type=x.device.type, enabled=False):
        x_, weight_ = x.to(compute), weight.to(compute)
        conv_bias_ = None if conv_bias is None else conv_bias.to(compute)
        logits = F.conv_transpose2d(
            x_, weight_, conv_bias_, stride, padding, output_padding, groups, dilation
        )
        p = torch.softmax(logits, dim=1)
        dp = torch.ops.aten.sigmoid_backward(grad.to(compute), y.to(compute)) * scaling_factor
        d_bias = dp.sum_to_size(bias.shape).to(bias.dtype) if needs[3] else None
        d_x = d_weight = d_conv_bias = None
        mask = [needs[0], needs[1], needs[2] and conv_bias is not None]
        if any(mask):
            d_logits = torch.ops.aten._softmax_backward_data(dp, p, 1, compute)
            d_x, d_weight, d_conv_bias = torch.ops.aten.convolution_backward(
                d_logits,
                x_,
                weight_,
                [weight.shape[1] * groups],
                stride,
                padding,
                dilation,
                True,
                output_padding,
                groups,
                mask,
            )
            d_x = d_x.to(x.dtype) if mask[0] else None
            d_weight = d_weight.to(weight.dtype) if mask[1] else None
            d_conv_bias = d_conv_bias.to(conv_bias.dtype) if mask[2] else None
    return d_x, d_weight, d_conv_bias, d_bias


def _setup_context(ctx, inputs, output):
    x, weight, conv_bias, bias, *attributes, _, _ = inputs
    ctx.save_for_backward(x, weight, conv_bias, bias, output)
    ctx.attributes = attributes


def _backward(ctx, grad):
    result = gradients(grad, *ctx.saved_tensors, *ctx.attributes, ctx.needs_input_grad[:4])
    return (*result, *[None] * 8)


class Direct(torch.autograd.Function):
    """The operator with its gradient, past the dispatcher: a fraction of its cost to the host.
    `compute` is run, or what computes the same from x and the rest."""

    @staticmethod
    def forward(ctx, compute, *inputs):
        y = compute(*inputs)
        _setup_context(ctx, inputs, y)
        return y

    @staticmethod
    def backward(ctx, grad):
        result = gradients(grad, *ctx.saved_tensors, *ctx.attributes, ctx.needs_input_grad[1:5])
        return (None, *result, *[None] * 8)


# ---- registration --------------------------------------------------------------------------------


# A graph that torch.compile captures would keep the parameters of its capture without a word.
_TAGS = {}
if hasattr(torch.Tag, "cudagraph_unsafe"):
    _TAGS["tags"] = [torch.Tag.cudagraph_unsafe]


conv_transpose2d_softmax_sigmoid = torch.library.custom_op(
    "assay::conv_transpose2d_softmax_sigmoid", run, mutates_args=(), **_TAGS
)


@conv_transpose2d_softmax_sigmoid.register_fake
def _(
    x,
    weight,
    conv_bias,
    bias,
    stride,
    padding,
    output_padding,
    dilation,
    groups,
    scaling_factor,
    arithmetic,
    dtype,
):
    torch._check(
        x.dim() == 4 and x.shape[1] == weight.shape[0],
        lambda: f"ModelNew: expected an input of [N, {weight.shape[0]}, H, W], got {list(x.shape)}",
    )
    size = [
        (x.shape[2 + i] - 1) * stride[i]
        - 2 * padding[i]
        + dilation[i] * (weight.shape[2 + i] - 1)
        + output_padding[i]
        + 1
        for i in range(2)
    ]
    return x.new_empty((x.shape[0], weight.shape[1] * groups, *size), dtype=dtype)


conv_transpose2d_softmax_sigmoid.register_autograd(_backward, setup_context=_setup_context)
