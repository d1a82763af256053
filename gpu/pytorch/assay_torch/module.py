"""Model: the five PyTorch calls. ModelNew: the same module on libassay.so."""

from numbers import Integral

import torch
from torch import nn
from torch.autograd import forward_ad

from . import plan_cache
from .chain_operator import DEFAULT, Direct, conv_transpose2d_softmax_sigmoid, geometry, run
from .repeated_call import remembered

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_NONE = lambda: None  # noqa: E731
_dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
_functorch_level = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", _NONE)


class Model(nn.Module):
    """sigmoid(scaling_factor * (softmax(conv_transpose2d(x), dim=1) + bias)), step by step.

    Arguments as torch.nn.ConvTranspose2d has them; bias_shape is the shape of `bias`, which is added
    after the softmax, e.g. (out_channels, 1, 1). Parameters: conv_transpose.weight,
    conv_transpose.bias, bias.
    """

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
        *,
        groups=1,
        dilation=1,
    ):
        super().__init__()
        self.conv_transpose = nn.ConvTranspose2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            dilation=dilation,
        )
        self.bias = nn.Parameter(torch.randn(bias_shape))
        self.scaling_factor = scaling_factor

    def forward(self, x):
        x = self.conv_transpose(x)
        x = torch.softmax(x, dim=1)
        x = x + self.bias
        x = x * self.scaling_factor
        return torch.sigmoid(x)


class ModelNew(Model):
    """Model in one kernel: same arguments, state_dict, inputs and outputs.

    arithmetic: what the convolution may round its operands to, "fp32" or "tf32" (10 bits). Left out,
    it is what PyTorch's own convolution would do: torch.backends.cudnn.allow_tf32. Results agree
    with Model within the rounding of that class; the CPU computes in fp32.

    What the library does not cover (unbatched input, float64, integers, a bias along other
    dimensions than the channels, a layer that is more than its convolution) is computed by Model's
    five calls, errors included.
    """

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
        *,
        groups=1,
        dilation=1,
        arithmetic=None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            bias_shape,
            scaling_factor,
            groups=groups,
            dilation=dilation,
        )
        if arithmetic not in (None, "fp32", "tf32"):
            raise ValueError(f"arithmetic must be 'fp32', 'tf32' or None, got {arithmetic!r}")
        self.arithmetic = arithmetic
        self._calls = {}  # shape of x -> RepeatedCall

    def __getstate__(self):  # copies and pickles make their own plans
        return {**self.__dict__, "_calls": {}}

    def extra_repr(self):
        return f"scaling_factor={self.scaling_factor}, arithmetic={self.arithmetic!r}"

    def forward(self, x):
        if not torch.compiler.is_compiling():
            y = self._repeat(x)
            if y is not None:
                return y
        conv, bias = self.conv_transpose, self.bias
        if not isinstance(x, torch.Tensor) or not _is_plain(conv):
            return super().forward(x)
        weight, conv_bias, scaling_factor = conv.weight, conv.bias, self.scaling_factor
        kind = x.device.type
        autocast = kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind)
        if not _covered(x, conv, weight, conv_bias, bias, scaling_factor, autocast):
            return super().forward(x)
        arithmetic = self.arithmetic or DEFAULT
        dtype = x.dtype
        if autocast:
            # The convolution would be in half precision, the softmax and what follows in float32.
            dtype, arithmetic = torch.float32, self.arithmetic or "tf32"
        if bias.dtype is not dtype and bias.dim() > 0:  # a scalar's type does not widen
            dtype = torch.promote_types(dtype, bias.dtype)
        attributes = (
            *geometry(conv),
            float(scaling_factor),
            arithmetic,
            dtype,
        )
        arguments = (x, weight, conv_bias, bias, *attributes)
        if _is_transformed():
            return super().forward(x)  # vmap, jvp and the like have rules for the five calls only
        if torch.compiler.is_compiling() or _is_watched(x, weight):
            return conv_transpose2d_softmax_sigmoid(*arguments)
        capturing = x.is_cuda and torch.cuda.is_current_stream_capturing()
        if _needs_gradient(x, weight, conv_bias, bias):
            if capturing:
                # A captured training step changes the parameters that a plan holds a copy of.
                return super().forward(x)
            y = Direct.apply(run, *arguments)
        else:
            y = run(*arguments)
        if x.is_cuda and not capturing and not autocast:
            if len(self._calls) >= plan_cache.MAX_PLANS:
                self._calls.clear()
            call = remembered(
                x, weight, conv_bias, bias, attributes, self.arithmetic, scaling_factor
            )
            if call is not None:
                self._calls[x.shape] = call
        return y

    def _repeat(self, x):
        """The result where an earlier call was like this one; else None."""
        calls = self._calls
        if not calls or type(x) is not torch.Tensor or _is_transformed():
            return None
        call, conv = calls.get(x.shape), self._modules.get("conv_transpose")
        if call is None or conv is None:
            return None
        parameters = conv._parameters  # past Module.__getattr__: half a microsecond each
        weight, conv_bias = parameters.get("weight"), parameters.get("bias")
        bias = self._parameters.get("bias")
        if (
            weight is None
            or bias is None
            or (conv_bias is None and "bias" not in parameters)
            or not _is_plain(conv)
            or _is_watched(x, weight)
            or torch.is_autocast_enabled("cuda")
        ):
            return None
        plan = call.plan_if_same(
            x, conv, weight, conv_bias, bias, self.scaling_factor, self.arithmetic
        )
        if plan is None:
            return None
        if _needs_gradient(x, weight, conv_bias, bias):
            compute = lambda x, *_: call.run(plan, x)  # noqa: E731
            return Direct.apply(compute, x, weight, conv_bias, bias, *call.attributes)
        return call.run(plan, x)


def _is_plain(conv):
    """Whether to call `conv` is to compute its convolution and nothing else: hooks may set its
    weight first (weight_norm, prune), another class or forward may compute anything."""
    return (
        type(conv).forward is nn.ConvTranspose2d.forward
        and "forward" not in conv.__dict__
        and not conv._forward_pre_hooks
        and not conv._forward_hooks
        and not conv._backward_pre_hooks
        and not conv._backward_hooks
    )


def _is_pair(value):
    """(h, w) as the library takes it; what else PyTorch takes, (1,) for (1, 1), is for PyTorch."""
    return isinstance(value, tuple) and [isinstance(v, Integral) for v in value] == [True, True]


def _covered(x, conv, weight, conv_bias, bias, scaling_factor, autocast):
    """Whether the operator computes what the five calls would. Where they would refuse, they shall
    say so: False."""
    if x.dim() != 4 or x.dtype not in _FLOATS or weight.dim() != 4:
        return False
    if x.layout is not torch.strided:
        return False
    if x.device != weight.device or x.device != bias.device:
        return False
    if x.device.type not in ("cpu", "cuda", "meta"):
        return False
    dtypes = {x.dtype, weight.dtype, bias.dtype}
    if conv_bias is not None:
        dtypes.add(conv_bias.dtype)
        if conv_bias.device != x.device:
            return False
    if autocast:
        if torch.float64 in dtypes or not dtypes.issubset(_FLOATS):
            return False
    elif x.dtype is not weight.dtype or (conv_bias is not None and conv_bias.dtype is not x.dtype):
        return False
    elif torch.float64 in dtypes and len(dtypes) > 1 or bias.dtype not in _FLOATS:
        return False
    if not isinstance(scaling_factor, (int, float)) or x.shape[1] != weight.shape[0]:
        return False
    if bias.dim() > 4 or not all(map(_is_pair, geometry(conv)[:4])):
        return False
    out_channels = weight.shape[1] * conv.groups
    return bias.numel() == 1 or (
        bias.numel() == out_channels and bias.dim() >= 3 and bias.shape[-3] == out_channels
    )


def _needs_gradient(x, weight, conv_bias, bias):
    return torch.is_grad_enabled() and (
        x.requires_grad
        or weight.requires_grad
        or bias.requires_grad
        or (conv_bias is not None and conv_bias.requires_grad)
    )


@torch.compiler.assume_constant_result  # the compiler's own guards say when it changes
def _is_in_functorch():
    return _functorch_level() is not None


def _is_transformed():
    return _is_in_functorch() or forward_ad._current_level >= 0


def _is_watched(x, weight):
    """Whether something watches the operators that are called: then they must be dispatched."""
    return (
        x.is_meta
        or type(x) is not torch.Tensor
        and type(x) is not nn.Parameter
        or type(weight) is not nn.Parameter
        and type(weight) is not torch.Tensor
        or _dispatch_modes() > 0
        or torch.jit.is_tracing()
    )
