"""An eager call on a GPU that repeats an earlier one of its module: straight to the plan.

The first call with a shape of x goes the long way (chain_operator.run) and leaves a RepeatedCall in
its module. Later ones compare all that the plan was made of, cheapest first, and launch: half of the
long way's cost to the host. Whatever differs, or watches, goes the long way again.
"""

import weakref

import torch

from . import plan_cache
from .chain_operator import ALIGNMENT, Request, geometry, ready, tf32_is_allowed


class RepeatedCall:
    """What a call must be like to be the one that made `plan`."""

    __slots__ = (
        "plan",  # weak: the cache says how long a plan lives
        "images",
        "device",
        "x_dtype",
        "y_dtype",
        "parameters",
        "weight_shape",
        "weight_stride",
        "weight_dtype",
        "bias_shape",
        "scaling_factor",
        "asked",
        "tf32",
        "attributes",
    )

    def __init__(self, plan, x, weight, conv_bias, bias, attributes, asked, scaling_factor):
        parameters = (weight, bias) if conv_bias is None else (weight, conv_bias, bias)
        self.plan = weakref.ref(plan)
        self.images = x.shape[0]
        self.device, self.x_dtype, self.y_dtype = plan.device, x.dtype, attributes[-1]
        self.parameters = [(p.data_ptr(), v) for p, v in zip(parameters, plan.versions)]
        self.weight_shape, self.weight_stride = weight.shape, weight.stride()
        self.weight_dtype, self.bias_shape = weight.dtype, bias.shape
        self.scaling_factor = scaling_factor  # the module's own object
        self.asked, self.tf32 = asked, tf32_is_allowed()
        self.attributes = attributes  # what follows bias among the operator's arguments

    def plan_if_same(self, x, conv, weight, conv_bias, bias, scaling_factor, asked):
        """The plan, where it computes the call with these; else None. x is a plain tensor of the
        plan's shape."""
        plan = self.plan()
        if (
            plan is None
            or not plan.cached
            or not x.is_cuda
            or x.dtype is not self.x_dtype
            or x.get_device() != self.device
            or scaling_factor is not self.scaling_factor
            or asked != self.asked
            or self.attributes[:5] != geometry(conv)
        ):
            return None
        parameters = (weight, bias) if conv_bias is None else (weight, conv_bias, bias)
        if (
            self.parameters != [(p.data_ptr(), _version(p)) for p in parameters]
            or weight.shape != self.weight_shape
            or weight.stride() != self.weight_stride
            or weight.dtype is not self.weight_dtype
            or bias.shape != self.bias_shape
            or not plan.alive()
            or (asked is None and tf32_is_allowed() is not self.tf32)
            or torch.cuda.current_device() != self.device
            or torch.cuda.is_current_stream_capturing()
        ):
            return None
        plan_cache.used(plan)
        return plan

    def run(self, plan, x):
        x = ready(x, ALIGNMENT)
        y = torch.empty(plan.out_shape, dtype=torch.float32, device=x.device)
        plan_cache.run_gpu(plan, x, y, self.images)
        return y if self.y_dtype is torch.float32 else y.to(self.y_dtype)


def _version(parameter):
    return None if parameter.is_inference() else parameter._version


def remembered(x, weight, conv_bias, bias, attributes, asked, scaling_factor):
    """A RepeatedCall for the call that was just made with these, or None where only the long way
    will do: parameters whose changes are not counted, a batch that is computed in pieces."""
    request = Request(x, weight, conv_bias, bias, *attributes[:-1])
    plan = plan_cache.peek(request)
    if plan is None or plan.snapshot is not None or plan.images < x.shape[0]:
        return None
    return RepeatedCall(plan, x, weight, conv_bias, bias, attributes, asked, scaling_factor)
