#!/usr/bin/env python3
"""ModelNew's gradients against those of Model."""

import sys

import pytorch_module_fixture as fixture
import torch
from assay_torch import chain_operator
from pytorch_module_fixture import close, on, pair


@on("cpu", "cuda")
def test_gradcheck(device):
    for arguments, more in (
        ((3, 4, 3, 2, 1, 1, (4, 1, 1), 2.0), {}),
        ((4, 4, (2, 3), (1, 2), (0, 1), (0, 1), (1,), -0.7), {"groups": 2, "dilation": (1, 2)}),
    ):
        _, new = pair(device, arguments, torch.float64, **more)
        x = torch.randn(
            2, arguments[0], 3, 2, dtype=torch.float64, device=device, requires_grad=True
        )
        values = [p.detach().clone().requires_grad_() for p in new.parameters()]
        names = [name for name, _ in new.named_parameters()]

        def call(x, *values):
            return torch.func.functional_call(new, dict(zip(names, values)), (x,))

        assert torch.autograd.gradcheck(call, (x, *values), nondet_tol=1e-9)
        assert torch.autograd.gradgradcheck(call, (x, *values), atol=1e-4, nondet_tol=1e-9)

        def dispatched(x, bias, weight, conv_bias):
            conv = new.conv_transpose
            return chain_operator.conv_transpose2d_softmax_sigmoid(
                x,
                weight,
                conv_bias,
                bias,
                *chain_operator.geometry(conv),
                new.scaling_factor,
                "",
                torch.float64,
            )

        assert names == ["bias", "conv_transpose.weight", "conv_transpose.bias"]
        assert torch.autograd.gradcheck(dispatched, (x, *values), nondet_tol=1e-9)


@on("cpu", "cuda")
def test_gradients_agree_with_the_five_steps(device):
    wanted = [
        (True,) * 4,
        (True, False, False, False),
        (False, True, False, False),
        (False, False, True, False),
        (False, False, False, True),
    ]
    for dtype, tolerance in ((torch.float32, 2e-3), (torch.bfloat16, 1e-1)):
        model, new = pair(device, dtype=dtype, arithmetic="fp32")
        for needs in wanted:
            grads = []
            torch.manual_seed(5)
            start = torch.randn(2, 6, 5, 7, device=device).to(dtype)
            for m in (model, new):
                x = start.clone().requires_grad_(needs[0])
                leaves = [x, m.conv_transpose.weight, m.conv_transpose.bias, m.bias]
                for leaf, need in zip(leaves, needs):
                    leaf.requires_grad_(need)
                    leaf.grad = None
                y = m(x)
                (y * torch.linspace(-1, 1, y.shape[-1], device=device)).sum().backward()
                grads.append([leaf.grad for leaf in leaves])
            for a, b, need in zip(*grads, needs):
                assert (a is not None) == (b is not None) == need
                if need:
                    scale = max(1.0, a.abs().max().item())
                    assert a.dtype is b.dtype
                    close(b.float() / scale, a.float() / scale, tolerance)


@on("cpu", "cuda")
def test_training_steps(device):
    model, new = pair(device, arithmetic="fp32")
    for step in range(4):
        torch.manual_seed(step)
        x = torch.randn(3, 6, 5, 7, device=device)
        for m in (model, new):
            optimizer = torch.optim.SGD(m.parameters(), lr=0.5)
            optimizer.zero_grad()
            (m(x) - 0.3).square().sum().backward()
            optimizer.step()
    for a, b in zip(model.parameters(), new.parameters()):
        close(b, a, 2e-4)


if __name__ == "__main__":
    sys.exit(fixture.main(sys.modules[__name__]))
