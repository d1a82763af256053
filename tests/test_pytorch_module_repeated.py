#!/usr/bin/env python3
"""ModelNew's repeated calls on a GPU: straight to the plan, and the long way after any change."""

import copy
import pickle
import sys
from unittest import mock

import pytorch_module_fixture as fixture
import torch
from pytorch_module_fixture import SMALL, close, exact, on, pair, same_error
from torch.utils._python_dispatch import TorchDispatchMode

import assay_torch
from assay_torch import ModelNew, chain_operator, module, plan_cache
from assay_torch.repeated_call import RepeatedCall


def long_ways(call, *arguments):
    """(the result, how often the operator was computed the long way)"""
    count, run = 0, module.run

    def counted(*more):
        nonlocal count
        count += 1
        return run(*more)

    module.run = counted
    try:
        return call(*arguments), count
    finally:
        module.run = run


def repeats(new, x, want, tolerance=None):
    """The call goes straight to its plan."""
    y, count = long_ways(new, x)
    assert count == 0, "the long way"
    close(y, want, tolerance)
    return y


@on("cuda")
def test_repeated_call_goes_straight_to_its_plan(device):
    model, new = pair(device, arithmetic="fp32")
    x, other = torch.randn(2, 2, 6, 5, 7, device=device)
    with torch.no_grad():
        assert long_ways(new, x)[1] == 1
        for x in (x, other, other.contiguous(memory_format=torch.channels_last), x.flip(2)):
            repeats(new, x, exact(model, x))
        with torch.inference_mode():
            assert repeats(new, x, exact(model, x)).is_inference()
        new(torch.randn(2, 6, 3, 3, device=device))
        repeats(new, x, exact(model, x))  # each shape has its own
    x.requires_grad_()
    want = model(x)
    y = repeats(new, x, exact(model, x))
    grads = [torch.autograd.grad(v.square().sum(), x)[0] for v in (y, want)]
    close(grads[0], grads[1], 2e-3)
    for m in (model, new):
        m(x.detach()).square().sum().backward()
    for a, b in zip(model.parameters(), new.parameters()):
        close(b.grad, a.grad, 2e-3 * max(1.0, a.grad.abs().max().item()))
    half, new = pair(device, dtype=torch.float16)
    x = x.detach().half()
    with torch.no_grad():
        new(x)
        assert repeats(new, x, exact(half, x)).dtype is torch.float16


@on("cuda")
def test_repeated_call_sees_every_change(device):
    x = torch.randn(2, 6, 5, 7, device=device)

    def parameter(change):
        return lambda m: change(m.conv_transpose.weight)

    def set_conv(**values):
        return lambda m: [setattr(m.conv_transpose, k, v) for k, v in values.items()]

    def transpose(weight):  # same storage, address and version
        weight.data = weight.data.transpose(2, 3)

    def another_module(m):
        torch.manual_seed(7)
        m.conv_transpose = torch.nn.ConvTranspose2d(6, 9, 4, 2, 1, 1).to(device)

    def there_and_back(m):  # memory that is used again, at the same version
        m.cpu()
        m.conv_transpose.weight.data.mul_(0.5)
        m.to(device)

    changes = {
        "weight.mul_": parameter(lambda weight: weight.mul_(0.5)),
        "weight.data of the same storage": parameter(transpose),
        "another weight.data": lambda m: setattr(
            m.conv_transpose.weight, "data", m.conv_transpose.weight.data * 0.5
        ),
        "another Parameter": lambda m: setattr(m, "bias", torch.nn.Parameter(m.bias * 0.5)),
        "conv_transpose.bias": lambda m: m.conv_transpose.bias.add_(0.5),
        "no conv bias": lambda m: setattr(m.conv_transpose, "bias", None),
        "stride": set_conv(stride=(1, 1), output_padding=(0, 0)),
        "scaling_factor": lambda m: setattr(m, "scaling_factor", -0.5),
        "another module": another_module,
        "the CPU and back": there_and_back,
    }
    for what, change in changes.items():
        model, new = pair(device, arithmetic="fp32")
        with torch.no_grad():
            new(x)
            repeats(new, x, exact(model, x))
            for m in (model, new):
                change(m)
            y, count = long_ways(new, x)
            assert count == 1, f"{what} is not seen"
            close(y, exact(model, x))
            repeats(new, x, exact(model, x))


@on("cuda")
def test_repeated_call_sees_what_is_asked_of_it(device):
    model, new = pair(device)
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad():
        new(x)
        repeats(new, x, exact(model, x))
        torch.backends.cudnn.allow_tf32 = True
        assert long_ways(new, x)[1] == 1
        repeats(new, x, exact(model, x), 2e-3)
        new.arithmetic = "fp32"
        assert long_ways(new, x)[1] == 1
        repeats(new, x, exact(model, x))
        same_error(lambda: model(x.half()), lambda: new(x.half()))
        repeats(new, x, exact(model, x))
        held = list(plan_cache._plans.values())
        assay_torch.clear_plans()
        assert long_ways(new, x)[1] == 1, "a plan that left the cache runs on"
        del held
        other = ModelNew(*SMALL).to(device)
        for width in range(plan_cache.MAX_PLANS):  # they take the plan's place
            other(torch.randn(1, 6, 3, 1 + width, device=device))
        assert long_ways(new, x)[1] == 1
        with torch.autocast(device, dtype=torch.bfloat16):
            y, count = long_ways(new, x)
            assert count == 1
            close(y, model(x), 4e-2)
        for again in (copy.deepcopy(new), pickle.loads(pickle.dumps(new))):
            y, count = long_ways(again, x)
            assert count == 1
            close(y, exact(model, x))
        replaced = {k: v * 0.5 for k, v in new.state_dict().items()}
        wide = copy.deepcopy(model)
        wide.load_state_dict(replaced)
        close(torch.func.functional_call(new, replaced, (x,)), exact(wide, x))
    with torch.inference_mode():
        replaced = {k: v * 0.5 for k, v in new.state_dict().items()}
        close(torch.func.functional_call(new, replaced, (x,)), exact(wide, x))


def test_repeated_call_takes_inference_tensors_the_long_way():
    _, new = pair("cpu")
    conv, x = new.conv_transpose, torch.randn(2, 6, 5, 7)
    assay_torch.clear_plans()
    with torch.no_grad():
        new(x)
    (plan,) = plan_cache._plans.values()
    attributes = (*chain_operator.geometry(conv), 2.0, "fp32", x.dtype)
    parameters = (conv.weight, conv.bias, new.bias)
    call = RepeatedCall(plan, x, *parameters, attributes, None, new.scaling_factor)
    on_gpu = mock.Mock(is_cuda=True, dtype=x.dtype, get_device=lambda: plan.device)
    with mock.patch.multiple(
        torch.cuda,
        current_device=lambda: plan.device,
        is_current_stream_capturing=lambda: False,
    ):

        def same(weight):
            rest = (conv.bias, new.bias, new.scaling_factor, None)
            return call.plan_if_same(on_gpu, conv, weight, *rest)

        assert same(conv.weight) is plan
        with torch.inference_mode():
            assert same(conv.weight * 0.5) is None


@on("cuda")
def test_repeated_call_that_is_watched_is_dispatched(device):
    model, new = pair(device, arithmetic="fp32")
    x = torch.randn(2, 6, 5, 7, device=device)
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
            seen.append(str(operator))
            return operator(*arguments, **(keywords or {}))

    with torch.no_grad():
        new(x)
        with Watch():
            close(new(x), exact(model, x))
        assert any("conv_transpose2d_softmax_sigmoid" in name for name in seen), seen
        close(torch.func.vmap(new)(x[None]), model(x)[None], 1e-2)
        traced = torch.jit.trace(new, x, check_trace=False)
        assert "conv_transpose2d_softmax_sigmoid" in str(traced.graph)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            tangent = torch.autograd.forward_ad.unpack_dual(new(dual)).tangent
            assert tangent is not None
        torch._dynamo.reset()
        compiled = torch.compile(new, fullgraph=True)
        for _ in range(2):
            close(compiled(x), exact(model, x))
        repeats(new, x, exact(model, x))


if __name__ == "__main__":
    sys.exit(fixture.main(sys.modules[__name__]))
