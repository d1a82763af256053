#!/usr/bin/env python3
"""ModelNew against Model on inputs of every kind: problems, types, layouts, refusals."""

import copy
import random
import sys

import pytorch_module_fixture as fixture
import torch
from pytorch_module_fixture import SMALL, close, exact, on, pair, same_error


@on("cpu", "cuda")
def test_random_problems(device):
    rng = random.Random(fixture.OPTIONS.seed)
    for number in range(fixture.OPTIONS.problems):
        stride, dilation = (
            [rng.choice([1, 1, 2, 2, 3]) for _ in "hw"],
            [rng.choice([1, 1, 1, 2]) for _ in "hw"],
        )
        groups = rng.choice([1, 1, 1, 2])
        cin, cout = groups * rng.randint(1, 20), groups * rng.randint(1, 40)
        kernel = [rng.randint(1, 5) for _ in "hw"]
        padding = [rng.randint(0, min(2, dilation[i] * (kernel[i] - 1) // 2)) for i in range(2)]
        outer = [rng.randint(0, max(stride[i], dilation[i]) - 1) for i in range(2)]
        bias_shape = rng.choice([(cout, 1, 1), (1, cout, 1, 1), (1,), (1, 1, 1), ()])
        arguments = (
            cin,
            cout,
            tuple(kernel),
            tuple(stride),
            tuple(padding),
            tuple(outer),
            bias_shape,
            rng.choice([2.0, -1.5, 0.3, 1]),
        )
        torch.manual_seed(fixture.OPTIONS.seed + number)
        model, new = pair(
            device, arguments, groups=groups, dilation=tuple(dilation), arithmetic="fp32"
        )
        if rng.random() < 0.2:
            model.conv_transpose.bias = new.conv_transpose.bias = None
        x = torch.randn(rng.randint(1, 3), cin, rng.randint(1, 9), rng.randint(1, 9), device=device)
        try:
            with torch.no_grad():
                close(new(x), exact(model, x))
        except Exception as error:
            raise AssertionError(
                f"problem {number}, {arguments}, groups {groups}, dilation "
                f"{dilation}, x {list(x.shape)}: {error}"
            ) from None


@on("cpu", "cuda")
def test_dtypes(device):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        model, new = pair(device, dtype=dtype)
        x = torch.randn(2, 6, 5, 7, device=device).to(dtype)
        with torch.no_grad():
            y = new(x)
            assert y.dtype is dtype and model(x).dtype is dtype
            close(y, exact(model, x))
    # A bias of another type than the convolution's is promoted with it.
    for inner, outer in (
        (torch.float16, torch.float32),
        (torch.float32, torch.float16),
        (torch.float16, torch.bfloat16),
    ):
        for shape in ((9, 1, 1), (1,), ()):  # of no dimensions, it is not
            model, new = pair(device, (*SMALL[:6], shape, 2.0), dtype=inner)
            model.bias.data, new.bias.data = model.bias.data.to(outer), new.bias.data.to(outer)
            x = torch.randn(1, 6, 4, 4, device=device).to(inner)
            with torch.no_grad():
                assert new(x).dtype is model(x).dtype, (inner, outer, shape)
                close(new(x).float(), model(x).float(), 5e-3)


@on("cpu", "cuda")
def test_layouts(device):
    model, new = pair(device, arithmetic="fp32")
    wide = torch.randn(4, 12, 10, 14, device=device)
    cases = {
        "contiguous": wide[:, :6].contiguous(),
        "channels_last": wide[:, :6].contiguous(memory_format=torch.channels_last),
        "transposed": wide[:, :6].transpose(2, 3),
        "steps": wide[::2, ::2, 1::3, ::2],
        "flipped rows": wide[:, :6].flip(2),
        "expanded": wide[:1, :6].expand(3, -1, -1, -1),
        "odd address": torch.randn(1 + 6 * 5 * 7, device=device)[1:].view(1, 6, 5, 7),
        "one image of a batch": wide[:, :6].contiguous()[1:2],
        "negative view": torch.randn(2, 6, 5, 7, device=device, dtype=torch.complex64).conj().imag,
    }
    for name, x in cases.items():
        with torch.no_grad():
            y, want = new(x), model(x)
            close(y, exact(model, x))
            assert y.stride() == want.stride(), f"{name}: strides {y.stride()}, {want.stride()}"
    last = copy.deepcopy(new).to(memory_format=torch.channels_last)
    with torch.no_grad():
        close(last(cases["contiguous"]), new(cases["contiguous"]), 1e-300)


@on("cpu", "cuda")
def test_autocast(device):
    model, new = pair(device)
    for dtype in (torch.bfloat16, torch.float16):
        for inner in (torch.float32, dtype):
            x = torch.randn(2, 6, 5, 7, device=device).to(inner)
            with torch.no_grad(), torch.autocast(device, dtype=dtype):
                y, want = new(x), model(x)
                assert y.dtype is want.dtype, f"{y.dtype}, expected {want.dtype}"
                close(y, want, 4e-2 if dtype is torch.bfloat16 else 6e-3)
    x = torch.randn(2, 6, 5, 7, device=device, requires_grad=True)
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = new(x).square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype is p.dtype for p in new.parameters())


@on("cpu", "cuda")
def test_empty_and_unbatched(device):
    model, new = pair(device)
    for shape in ((0, 6, 5, 7), (6, 5, 7)):
        x = torch.randn(shape, device=device)
        with torch.no_grad():
            assert torch.equal(new(x), model(x)), shape
    x = torch.randn(0, 6, 5, 7, device=device, requires_grad=True)
    new(x).sum().backward()
    assert x.grad.shape == x.shape


@on("cpu", "cuda")
def test_refusals_are_pytorchs(device):
    model, new = pair(device)
    for x in (
        torch.randn(2, 5, 5, 7),
        torch.randn(2, 6),
        torch.randn(2, 6, 5, 7).half(),
        torch.randn(2, 6, 5, 7).double(),
        torch.randint(9, (2, 6, 5, 7)),
        torch.randn(2, 6, 5, 7, dtype=torch.complex64),
        torch.randn(1, 2, 6, 5, 7),
    ):
        x = x.to(device)
        same_error(lambda: model(x), lambda: new(x))
    x = torch.randn(2, 6, 5, 7, device=device)
    for x in (x.to_sparse(), [x], x.cpu().numpy(), None):
        same_error(lambda: model(x), lambda: new(x))
    # The output would have no rows.
    arguments = (3, 4, 1, 1, 2, 0, (4, 1, 1), 2.0)
    model, new = pair(device, arguments)
    x = torch.randn(1, 3, 2, 2, device=device)
    same_error(lambda: model(x), lambda: new(x))
    arguments = (3, 4, 3, 2, 1, 2, (4, 1, 1), 2.0)  # output_padding too large
    model, new = pair(device, arguments)
    same_error(lambda: model(x), lambda: new(x))
    model, new = pair(device, (3, 4, 3, 2, 1, 1, (5, 1, 1), 2.0))  # bias of other channels
    same_error(lambda: model(x), lambda: new(x))


@on("cpu", "cuda")
def test_attributes_of_any_form(device):
    x = torch.randn(2, 6, 5, 7, device=device)
    for changed in (
        {3: (2,), 4: (1,), 5: (1,)},  # one value stands for both
        {4: [1]},
        {5: (1,)},
        {3: [2, 2], 4: [1, 1], 5: [1, 1]},
        {3: torch.tensor([2, 2]).numpy()[0]},
        {7: True},
    ):
        arguments = [changed.get(i, value) for i, value in enumerate(SMALL)]
        model, new = pair(device, arguments, arithmetic="fp32")
        with torch.no_grad():
            close(new(x), exact(model, x))
    for changed in ({3: 2.0}, {4: (1, 1, 1)}, {3: (2, 2, 2), 4: (1,)}, {7: None}, {7: "2"}):
        arguments = [changed.get(i, value) for i, value in enumerate(SMALL)]
        model, new = pair(device, arguments)
        same_error(lambda: model(x), lambda: new(x))


@on("cuda")
def test_other_devices_are_refused_as_pytorch_does(device):
    model, new = pair(device)
    x = torch.randn(2, 6, 5, 7)
    same_error(lambda: model(x), lambda: new(x))
    model, new = pair("cpu")
    x = x.to(device)
    same_error(lambda: model(x), lambda: new(x))


@on("cpu", "cuda")
def test_bias_of_any_shape(device):
    for shape in (
        (9, 1, 1),
        (1, 9, 1, 1),
        (1,),
        (1, 1, 1),
        (),
        (11, 14),
        (14,),
        (2, 1, 1, 1),
        (1, 1, 9, 1, 1),
        (9, 11, 14),
    ):
        arguments = (*SMALL[:6], shape, 2.0)
        model, new = pair(device, arguments, arithmetic="fp32")
        x = torch.randn(2, 6, 5, 6, device=device)
        with torch.no_grad():
            try:
                want = model(x)
            except RuntimeError:
                same_error(lambda: model(x), lambda: new(x))
                continue
            close(new(x), want, 1e-2 if device == "cuda" else 3e-6)


@on("cpu", "cuda")
def test_special_values_go_where_they_go_in_the_five_steps(device):
    model, new = pair(device, arithmetic="fp32")
    x = torch.randn(2, 6, 5, 7, device=device)
    x[0, 0, 2, 3], x[1, 3, 0, 0] = float("nan"), float("inf")
    with torch.no_grad():
        y, want = new(x), exact(model, x)
    assert torch.equal(y.isnan(), want.isnan()) and want.isnan().any()
    assert (y.double() - want)[~want.isnan()].abs().max() <= 3e-6


@on("cuda")
def test_arithmetic_follows_pytorchs_switch(device):
    arguments = (64, 128, 4, 2, 1, 1, (128, 1, 1), 2.0)
    x = torch.randn(2, 64, 16, 16, device=device)
    errors = {}
    for name, allowed, arithmetic in (
        ("tf32", True, None),
        ("fp32", False, None),
        ("asked fp32", True, "fp32"),
        ("asked tf32", False, "tf32"),
    ):
        torch.manual_seed(3)
        model, new = pair(device, arguments, arithmetic=arithmetic)
        torch.backends.cudnn.allow_tf32 = allowed
        with torch.no_grad():
            errors[name] = close(new(x), exact(model, x), 2e-3)
    for name, error in errors.items():
        assert error < 5e-6 or name.endswith("tf32"), errors


if __name__ == "__main__":
    sys.exit(fixture.main(sys.modules[__name__]))
