#!/usr/bin/env python3
"""assay_torch (gpu/pytorch) against PyTorch's five calls: run by `make test-pytorch`.

    python tests/test_pytorch_module.py [-k WORDS] [--problems 300] [--seed 1]

Each test runs on the CPU, and once more on a GPU where PyTorch sees one; what needs a GPU is an
announced skip without it. The library is build/libassay.so or ASSAY_LIBRARY.
One line a failure; at the end `N passed, N failed, N skipped`. Exit status 1 if any failed. Without
torch it says so and exits 0.
"""

import argparse
import copy
import gc
import inspect
import io
import os
import pickle
import random
import subprocess
import sys
import threading
import traceback
import warnings

try:
    import torch
except ImportError as error:
    print(f"test_pytorch_module: skipped: {error} (make test-pytorch installs it)")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = os.path.join(ROOT, "gpu", "pytorch")
sys.path.insert(0, PACKAGE)
import assay_torch  # noqa: E402
from assay_torch import Model, ModelNew, chain_operator, plan_cache  # noqa: E402

SMALL = (6, 9, 4, 2, 1, 1, (9, 1, 1), 2.0)  # constructor arguments
OPTIONS = None


class Skip(Exception):
    pass


def pair(device, arguments=SMALL, dtype=torch.float32, spread=True, **more):
    """Model and ModelNew with the same parameters; logits spread over a few units."""
    new_only = {k: more.pop(k) for k in ["arithmetic"] if k in more}
    model = Model(*arguments, **more)
    if spread:
        with torch.no_grad():
            model.conv_transpose.weight.mul_(6)
    new = ModelNew(*arguments, **more, **new_only)
    new.load_state_dict(model.state_dict())
    return model.to(device, dtype), new.to(device, dtype)


def exact(model, x):
    return copy.deepcopy(model).double()(x.double())


TOLERANCE = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float64: 1e-14}


def close(y, want, tolerance=None):
    tolerance = tolerance or TOLERANCE[y.dtype]
    if y.shape != want.shape:
        raise AssertionError(f"shape {list(y.shape)}, expected {list(want.shape)}")
    error = (y.double() - want.double()).abs().max().item() if y.numel() else 0.0
    if not error <= tolerance:  # NaN fails
        raise AssertionError(f"error {error:.3g} above {tolerance:.3g}")
    return error


def same_error(f, g):
    """f and g raise the same thing; returns it."""
    raised = []
    for call in (f, g):
        try:
            call()
            raised.append(None)
        except Exception as error:
            raised.append(error)
    a, b = raised
    assert a is not None, "Model does not refuse"
    assert b is not None, f"ModelNew accepts what Model refuses with: {a}"
    assert type(a) is type(b) and str(a) == str(b), f"{type(b).__name__}: {b}, expected: {a}"


def on(*devices):
    """Runs the test once for each device."""

    def mark(test):
        test.devices = devices
        return test

    return mark


# ---- the module ----------------------------------------------------------------------------------


@on("cpu", "cuda")
def test_state_dict_round_trip(device):
    model, new = pair(device)
    assert list(new.state_dict()) == list(model.state_dict())
    assert list(new.state_dict()) == ["bias", "conv_transpose.weight", "conv_transpose.bias"]
    file = io.BytesIO()
    torch.save(new.state_dict(), file)
    file.seek(0)
    again = Model(*SMALL).to(device)
    again.load_state_dict(torch.load(file))
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
        close(copy.deepcopy(new)(x), new(x), 1e-300)
        close(pickle.loads(pickle.dumps(new))(x), new(x), 1e-300)


def test_constructor_is_the_same():
    want = list(inspect.signature(Model.__init__).parameters)
    got = list(inspect.signature(ModelNew.__init__).parameters)
    assert got[: len(want)] == want and got[len(want) :] == ["arithmetic"]
    try:
        ModelNew(*SMALL, arithmetic="fp8")
        raise AssertionError("arithmetic='fp8' is accepted")
    except ValueError as error:
        assert "fp8" in str(error)


@on("cpu", "cuda")
def test_random_problems(device):
    rng = random.Random(OPTIONS.seed)
    for number in range(OPTIONS.problems):
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
        torch.manual_seed(OPTIONS.seed + number)
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
        model, new = pair(device, dtype=inner)
        model.bias.data, new.bias.data = model.bias.data.to(outer), new.bias.data.to(outer)
        x = torch.randn(1, 6, 4, 4, device=device).to(inner)
        with torch.no_grad():
            assert new(x).dtype is model(x).dtype
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


# ---- parameters that change ----------------------------------------------------------------------


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


# ---- gradients -----------------------------------------------------------------------------------


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
                conv.stride,
                conv.padding,
                conv.output_padding,
                conv.dilation,
                conv.groups,
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


# ---- compilers and tracers -----------------------------------------------------------------------


@on("cpu", "cuda")
def test_compile(device):
    torch._dynamo.reset()
    model, new = pair(device, arithmetic="fp32")
    compiled = torch.compile(new, fullgraph=True)
    for shape in ((2, 6, 5, 7), (3, 6, 5, 7), (4, 6, 8, 7)):  # the second makes sizes dynamic
        x = torch.randn(shape, device=device)
        with torch.no_grad():
            close(compiled(x), exact(model, x))
    with torch.no_grad():
        new.bias.add_(0.5)
        model.bias.add_(0.5)
        close(compiled(x), exact(model, x))
    around = torch.compile(lambda x: 2 * new(x.relu() + 1), fullgraph=True)
    with torch.no_grad():
        close(around(x), 2 * exact(model, x.relu() + 1), 1e-5)
    x = torch.randn(2, 6, 5, 7, device=device, requires_grad=True)
    compiled(x).square().sum().backward()
    got = [x.grad, *[p.grad for p in new.parameters()]]
    x.grad = None
    model(x).square().sum().backward()
    for a, b in zip([x.grad, *[p.grad for p in model.parameters()]], got):
        close(b, a, 2e-3 * max(1.0, a.abs().max().item()))


@on("cpu", "cuda")
def test_compile_autocast_and_half(device):
    torch._dynamo.reset()
    model, new = pair(device)
    compiled = torch.compile(new, fullgraph=True)
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
        y = compiled(x)
        assert y.dtype is torch.float32
        close(y, model(x), 4e-2)
    model, new = pair(device, dtype=torch.bfloat16)
    with torch.no_grad():
        y = torch.compile(new, fullgraph=True)(x.bfloat16())
        assert y.dtype is torch.bfloat16
        close(y, exact(model, x.bfloat16()))


@on("cuda")
def test_compile_with_graphs_sees_changed_parameters(device):
    torch._dynamo.reset()
    model, new = pair(device, arithmetic="fp32")
    compiled = torch.compile(new, mode="reduce-overhead", fullgraph=True)
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad():
        for step in range(6):
            close(compiled(x), exact(model, x))
            for m in (model, new):
                m.conv_transpose.weight.mul_(0.9)


@on("cpu", "cuda")
def test_export(device):
    model, new = pair(device, arithmetic="fp32")
    x = torch.randn(2, 6, 5, 7, device=device)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(new, (x,), dynamic_shapes=({0: batch},))
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert targets == ["assay.conv_transpose2d_softmax_sigmoid.default"], targets
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    again = torch.export.load(file).module()
    x = torch.randn(5, 6, 5, 7, device=device)
    with torch.no_grad():
        close(again(x), exact(model, x))


@on("cpu", "cuda")
def test_operator_is_registered_as_pytorch_wants(device):
    _, new = pair(device)
    conv = new.conv_transpose
    for x, dtype in (
        (torch.randn(2, 6, 5, 7, device=device), torch.float32),
        (torch.randn(2, 6, 5, 7, device=device, requires_grad=True), torch.float32),
    ):
        arguments = (
            x,
            conv.weight,
            conv.bias,
            new.bias,
            conv.stride,
            conv.padding,
            conv.output_padding,
            conv.dilation,
            conv.groups,
            2.0,
            "fp32",
            dtype,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.library.opcheck(
                torch.ops.assay.conv_transpose2d_softmax_sigmoid.default,
                arguments,
                atol=1e-3,
                rtol=1e-3,
            )


@on("cpu", "cuda")
def test_tracers(device):
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    model, new = pair(device)
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad():
        graph = make_fx(new)(x)
        close(graph(x), new(x), 1e-300)
        assert "assay" in graph.code
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(new, x, check_trace=False)
        close(traced(x), new(x), 1e-300)
    with FakeTensorMode():
        fake = ModelNew(*SMALL)(torch.empty(2, 6, 5, 7))
    with torch.device("meta"):
        meta = ModelNew(*SMALL)(torch.empty(2, 6, 5, 7))
    assert fake.shape == meta.shape == new(x).shape
    with torch.no_grad():
        symbolic = torch.func.grad(lambda x: new(x).sum())(x)
        want = torch.func.grad(lambda x: model(x).sum())(x)
        close(symbolic, want, 2e-3)
        close(torch.func.vmap(new)(x[None]), model(x)[None], 1e-2)
        want = torch.func.jvp(model, (x,), (torch.ones_like(x),))[1]
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            tangent = torch.autograd.forward_ad.unpack_dual(new(dual)).tangent
            close(tangent, want, 2e-3)


# ---- threads, streams, graphs --------------------------------------------------------------------


@on("cpu", "cuda")
def test_threads(device):
    model, new = pair(device, arithmetic="fp32")
    failures = []

    def work(seed):
        generator = torch.Generator().manual_seed(seed)
        try:
            with torch.no_grad():
                for i in range(12):
                    x = torch.randn(1 + seed % 3, 6, 4 + i % 4, 5, generator=generator).to(device)
                    close(new(x), exact(model, x))
        except Exception as error:
            failures.append(f"thread {seed}: {error}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


@on("cuda")
def test_streams(device):
    model, new = pair(device, (64, 128, 4, 2, 1, 1, (128, 1, 1), 2.0), arithmetic="fp32")
    streams = [torch.cuda.Stream() for _ in range(4)]
    xs = [torch.randn(4, 64, 32, 32, device=device) for _ in range(16)]
    torch.cuda.synchronize()
    ys = []
    with torch.no_grad():
        for i, x in enumerate(xs):
            with torch.cuda.stream(streams[i % 4]):
                ys.append(new(x))
        torch.cuda.synchronize()
        for x, y in zip(xs, ys):
            close(y, exact(model, x))


@on("cuda")
def test_graph(device):
    assay_torch.clear_plans()
    model, new = pair(device, arithmetic="fp32")
    x = torch.randn(2, 6, 5, 7, device=device)
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            new(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = new(x)
        for _ in range(3):
            x.copy_(torch.randn_like(x))
            graph.replay()
            close(y, exact(model, x))
            close(new(x), exact(model, x))  # another plan, between replays
        old = copy.deepcopy(model)
        for m in (model, new):
            m.conv_transpose.weight.mul_(0.5)
        for _ in range(2):
            close(new(x), exact(model, x))
            graph.replay()
            close(y, exact(old, x))  # the parameters of the capture
        again = torch.cuda.CUDAGraph()
        with torch.cuda.graph(again):
            z = new(x)
        again.replay()
        graph.replay()
        close(z, exact(model, x))
        close(y, exact(old, x))
    assert sum(line.startswith("graph") for line in plan_cache.plans()) == 2


@on("cuda")
def test_capture_of_what_is_not_ready_is_refused(device):
    _, new = pair(device)
    x = torch.randn(2, 6, 5, 9, device=device)
    graph, message = torch.cuda.CUDAGraph(), ""
    with torch.no_grad():
        try:
            with torch.cuda.graph(graph):
                new(x)
        except RuntimeError as error:
            message = str(error)
        assert "before the capture" in message, message
        new(x)  # the device is well
        torch.cuda.synchronize()


@on("cuda")
def test_graphed_training(device):
    model, new = pair(device, arithmetic="fp32")
    x = torch.randn(2, 6, 5, 7, device=device)
    graphed = torch.cuda.make_graphed_callables(copy.deepcopy(new), (x,))
    for _ in range(3):
        grads = []
        for m in (model, graphed):
            for p in m.parameters():
                p.grad = None
            (m(x) - 0.3).square().sum().backward()
            grads.append([p.grad.clone() for p in m.parameters()])
            with torch.no_grad():
                for p in m.parameters():
                    p.sub_(0.1 * p.grad)
        for a, b in zip(*grads):
            close(b, a, 1e-3 * max(1.0, a.abs().max().item()))


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


@on("cuda")
def test_second_device(device):
    if torch.cuda.device_count() < 2:
        raise Skip("one CUDA device")
    for number in (1, 0, 1):
        model, new = pair(f"cuda:{number}", arithmetic="fp32")
        x = torch.randn(2, 6, 5, 7, device=f"cuda:{number}")
        with torch.no_grad():
            close(new(x), exact(model, x))
        assert torch.cuda.current_device() == 0


# ---- around the module ---------------------------------------------------------------------------


def test_missing_library_is_one_clear_line():
    program = (
        "import torch, assay_torch\n"
        "m = assay_torch.ModelNew(2, 3, 3, 1, 1, 0, (3, 1, 1), 2.0)\n"
        "try: m(torch.randn(1, 2, 3, 3))\n"
        "except assay_torch.LibraryError as e: print(e)\n"
    )
    environment = dict(os.environ, PYTHONPATH=PACKAGE, ASSAY_LIBRARY="/nowhere/libassay.so")
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, text=True, capture_output=True
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 1, done.stdout + done.stderr
    assert "/nowhere/libassay.so" in lines[0] and "make lib" in lines[0], lines


def test_build_says_what_it_is():
    assert assay_torch.build().startswith("libassay 1, commit "), assay_torch.build()


@on("cpu", "cuda")
def test_kernelbench_file(device):
    with open(os.path.join(PACKAGE, "kernelbench_91.py")) as f:
        text = f.read()
    names = {"__name__": "kernelbench"}
    exec(compile(text, "<string>", "exec"), names)
    torch.manual_seed(42)
    init = names["get_init_inputs"]()
    (x,) = names["get_inputs"]()
    assert list(x.shape) == [128, 64, 64, 64]
    torch.manual_seed(42)
    model = names["Model"](*init)
    torch.manual_seed(42)
    new = names["ModelNew"](*init)
    x = x[:1] if device == "cpu" else x
    model, new, x = model.to(device), new.to(device), x.to(device)
    with torch.no_grad():
        y, want = new(x), model(x)
        assert torch.allclose(y, want, atol=1e-4, rtol=1e-4)


def main():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-k", default="", help="only tests whose name holds this")
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    OPTIONS = parser.parse_args()
    tests = {name: f for name, f in globals().items() if name.startswith("test_")}
    library = assay_torch.library_path()
    if not os.path.exists(library):
        print(f"test_pytorch_module: '{library}' is not there: make lib builds it")
        print("0 passed, 1 failed, 0 skipped")
        return 1
    gpu = torch.cuda.is_available() and "with CUDA" in assay_torch.build()
    why = "PyTorch sees no GPU" if not torch.cuda.is_available() else "built without CUDA"
    print(f"torch {torch.__version__}, {assay_torch.build()}, seed {OPTIONS.seed}")
    passed = failed = skipped = 0
    for name, test in tests.items():
        for device in getattr(test, "devices", (None,)):
            title = name if device is None else f"{name}[{device}]"
            if OPTIONS.k not in title:
                continue
            if device == "cuda" and not gpu:
                print(f"skip - {title}: {why}")
                skipped += 1
                continue
            torch.manual_seed(OPTIONS.seed)
            torch.backends.cudnn.allow_tf32 = False  # Model's convolutions are in fp32
            try:
                test() if device is None else test(device)
                passed += 1
                print(f"ok - {title}", flush=True)
            except Skip as reason:
                skipped += 1
                print(f"skip - {title}: {reason}")
            except Exception as error:
                failed += 1
                where = traceback.extract_tb(error.__traceback__)
                line = next((f.lineno for f in reversed(where) if f.filename == __file__), 0)
                text = str(error).strip().splitlines() or [""]
                print(
                    f"FAILED {title}, line {line}: {type(error).__name__}: {text[0][:300]}",
                    flush=True,
                )
                if os.environ.get("V") == "1":
                    traceback.print_exception(error)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
