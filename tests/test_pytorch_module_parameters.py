#!/usr/bin/env python3
"""ModelNew's plans follow its parameters."""

import gc
import sys
import warnings

import pytorch_module_fixture as fixture
import torch
import torch.nn.utils.prune
import assay_torch
from assay_torch import Model, plan_cache
from pytorch_module_fixture import SMALL, close, exact, on, pair


@on("cpu", "cuda")
def test_changed_parameters_are_seen(device):
    model, new = pair(device, arithmetic="fp32")
    x = torch.randn(2, 6, 5, 7, device=device)

    def agree(what):
        with torch.no_grad():
            try:
                close(new(x), exact(model, x))
            except AssertionError as error:
                raise AssertionError(f"after {what}: {error}") from None

    agree("the start")
    with torch.no_grad():
        for m in (model, new):
            m.conv_transpose.weight.mul_(0.5)
    agree("weight.mul_")
    with torch.no_grad():
        for m in (model, new):
            m.bias.add_(0.25)
            m.conv_transpose.bias[3] = 2.0
    agree("changes of the biases")
    other = Model(*SMALL).to(device)
    model.load_state_dict(other.state_dict())
    new.load_state_dict(other.state_dict())
    agree("load_state_dict")
    new.conv_transpose.weight.data = model.conv_transpose.weight.data.clone()
    agree("another weight.data")
    for m in (model, new):
        m.conv_transpose.bias = None
    agree("no conv bias")
    model.scaling_factor = new.scaling_factor = -0.75
    agree("another scaling_factor")
    for m in (model, new):
        m.bias.data.add_(1.0)
    if device == "cuda":
        assay_torch.clear_plans()  # nothing counts changes through .data
    agree("bias.data.add_")
    values = {k: v * 1.5 for k, v in model.state_dict().items()}
    for _ in range(3):
        want = torch.func.functional_call(model, values, (x,))
        close(torch.func.functional_call(new, values, (x,)), want, 1e-2)
        values = {k: v * 0.9 for k, v in values.items()}
    with torch.inference_mode():
        model, new = pair(device, arithmetic="fp32")
        close(new(x), exact(model, x))
        for m in (model, new):
            m.conv_transpose.weight.mul_(0.5)
        close(new(x), exact(model, x))


class Halved(torch.nn.ConvTranspose2d):
    def forward(self, x, output_size=None):
        return 0.5 * super().forward(x, output_size)


@on("cpu", "cuda")
def test_layer_that_is_more_than_its_convolution_is_called(device):
    def keep_half(layer):
        torch.nn.utils.prune.l1_unstructured(layer, "weight", 0.5)

    def own_forward(layer):
        layer.forward = lambda x: 0.5 * torch.nn.ConvTranspose2d.forward(layer, x)

    changes = {
        "weight_norm": torch.nn.utils.weight_norm,
        "parametrized weight_norm": torch.nn.utils.parametrizations.weight_norm,
        "prune": keep_half,
        "forward hook": lambda layer: layer.register_forward_hook(lambda m, x, y: 0.5 * y),
        "own forward": own_forward,
        "class": lambda layer: setattr(layer, "__class__", Halved),
    }
    x = torch.randn(2, 6, 5, 7, device=device)
    for what, change in changes.items():
        model, new = pair(device, arithmetic="fp32")
        with torch.no_grad():
            new(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weight_norm's new form is the other one
            for m in (model, new):
                change(m.conv_transpose)
        for step in range(3):  # the weight follows what it is made of
            for m in (model, new):
                optimizer = torch.optim.SGD(m.parameters(), lr=0.5)
                optimizer.zero_grad()
                (m(x) - 0.3).square().sum().backward()
                optimizer.step()
        with torch.no_grad():
            try:
                close(new(x), model(x), 2e-4)
            except AssertionError as error:
                raise AssertionError(f"{what}: {error}") from None


@on("cpu", "cuda")
def test_weights_are_packed_once_and_again_when_they_change(device):
    _, new = pair(device)
    x = torch.randn(2, 6, 5, 7, device=device)
    assay_torch.clear_plans()
    packed = []
    with torch.no_grad():
        for change in (False, False, False, True, False, True):
            if change:
                new.conv_transpose.weight.mul_(0.5)
            new(x)
            packed.append(*plan_cache._plans.values())
    changes = [a is not b for a, b in zip(packed, packed[1:])]
    assert changes == [False, False, True, False, True], changes


@on("cpu", "cuda")
def test_reused_memory_is_not_taken_for_old_parameters(device):
    x = torch.randn(1, 6, 4, 4, device=device)
    for _ in range(30):  # freed weights give their addresses to the next
        model, new = pair(device, arithmetic="fp32")
        with torch.no_grad():
            close(new(x), exact(model, x))
        del model, new


@on("cpu", "cuda")
def test_plans_are_bounded_and_go_with_their_parameters(device):
    assay_torch.clear_plans()
    _, new = pair(device)
    with torch.no_grad():
        for width in range(1, 2 * plan_cache.MAX_PLANS):
            new(torch.randn(1, 6, 3, width, device=device))
        assert len(plan_cache.plans()) == plan_cache.MAX_PLANS
        for _ in range(40):
            new.bias.add_(0.01)
            new(torch.randn(1, 6, 3, 5, device=device))
        assert len(plan_cache.plans()) == plan_cache.MAX_PLANS
        del new
        gc.collect()
        _, new = pair(device)
        new(torch.randn(1, 6, 3, 3, device=device))
        assert len(plan_cache.plans()) == 1, plan_cache.plans()


if __name__ == "__main__":
    sys.exit(fixture.main(sys.modules[__name__]))
