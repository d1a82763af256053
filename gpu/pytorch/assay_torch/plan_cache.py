"""Plans: the chain made ready for one problem, one set of parameters, one device, one class.

A plan holds packed copies of the parameters. It is found again by what it was made of: the shape of
x, the attributes, the class, and each parameter's storage, address and version counter. In-place
changes of a parameter (an optimizer's step, load_state_dict) raise its version, so the next call
makes a new plan; on the CPU the values themselves are compared. Changes that PyTorch does not count,
through `parameter.data` or memory shared with other code, need clear_plans() on a GPU.

Plans that run share workspace, so a plan's runs are ordered across streams. A plan that a CUDA graph
captured belongs to graphs from then on, because replays go unseen: it keeps the parameters of the
capture and lives as long as they do; calls outside the graph get another plan.
"""

import atexit
import ctypes
import itertools
import threading

import torch

from . import binding

MAX_PLANS = 16


class Plan:
    """A plan of the library, its output size, and what it takes to run it safely."""

    def __init__(self, handle, device, out_shape, parameters, versions, images):
        self.handle = handle
        self.device = device  # a device index, or binding.CPU
        self.out_shape = out_shape  # [batch, out_channels, output_h, output_w]
        self.images = images  # that one run may take
        self.versions = versions
        self.storages = [p.untyped_storage()._weak_ref() for p in parameters]
        # Where versions are not counted (inference tensors), the values are kept and compared.
        self.snapshot = [p.clone() for p in parameters] if None in versions else None
        self.cached = True  # False once it was evicted, replaced or captured
        self.used = 0  # when last, see used()
        self.lock = threading.Lock()
        self.stream = None  # of the last run
        self.note = binding.library().assay_plan_note(handle).decode()

    def alive(self):
        for storage in self.storages:  # each call asks: no generator
            if torch.UntypedStorage._expired(storage):
                return False
        return True

    def close(self):
        handle, self.handle = self.handle, None
        if handle and self.device == binding.CPU:
            binding.library().assay_plan_free(handle)
        elif handle:
            with torch.cuda.device(self.device):  # freeing makes the plan's device current
                binding.library().assay_plan_free(handle)
        storages, self.storages = self.storages, []
        for storage in storages:
            torch.UntypedStorage._free_weak_ref(storage)

    def __del__(self):
        try:
            self.close()
        except Exception:  # the interpreter is going down
            pass


_plans = {}  # key -> Plan
_captured = {}  # key -> [Plan]: those that belong to CUDA graphs
_lock = threading.RLock()
_uses = itertools.count(1)


def used(plan):
    plan.used = next(_uses)


def _take(key):
    """Takes a plan out of the cache: from now on only who holds it may run it."""
    plan = _plans.pop(key)
    plan.cached = False
    return plan


def clear_plans():
    """Frees every plan, those of captured graphs too: the graphs must not be replayed again."""
    with _lock:
        for key in list(_plans):
            _take(key)
        _captured.clear()


atexit.register(clear_plans)


def plans():
    """What is in the cache, for people: one line a plan."""
    with _lock:
        kept = [("plan", plan) for plan in _plans.values()]
        kept += [("graph", plan) for several in _captured.values() for plan in several]
        return [
            f"{kind}: {plan.out_shape} on "
            f"{'cpu' if plan.device == binding.CPU else f'cuda:{plan.device}'}: {plan.note}"
            for kind, plan in kept
        ]


def _sweep():
    """Frees plans whose parameters are gone, and the least recently used above MAX_PLANS."""
    for key in [key for key, plan in _plans.items() if not plan.alive()]:
        _take(key)
    for key in [key for key, several in _captured.items() if not several[0].alive()]:
        del _captured[key]
    while len(_plans) >= MAX_PLANS:
        _take(min(_plans, key=lambda key: _plans[key].used))


def _host_addresses(parameters):
    """Copies of (weight, conv_bias or not, bias) as the library reads them, and their addresses."""
    host = [p.detach().to("cpu", torch.float32).contiguous() for p in parameters]
    addresses = [p.data_ptr() for p in host]
    if len(host) == 2:
        addresses.insert(1, None)
    return host, addresses


def _create(request):
    """A new plan for `request` (chain_operator.Request): packs the parameters."""
    library = binding.library()
    x_shape, weight, bias = request.x_shape, request.parameters[0], request.parameters[-1]
    problem = binding.Problem(
        batch=x_shape[0],
        in_channels=x_shape[1],
        height=x_shape[2],
        width=x_shape[3],
        out_channels=weight.shape[1] * request.groups,
        kernel=tuple(weight.shape[2:]),
        stride=request.stride,
        padding=request.padding,
        output_padding=request.output_padding,
        dilation=request.dilation,
        groups=request.groups,
        bias_count=bias.numel(),
        has_conv_bias=len(request.parameters) == 3,
        scaling_factor=request.scaling_factor,
    )
    height, width = ctypes.c_int64(), ctypes.c_int64()
    binding.check(library.assay_output_size(problem, height, width))
    if weight.shape[0] != problem.in_channels:
        raise binding.LibraryError(
            f"x has {problem.in_channels} channels, and weight is for {weight.shape[0]}",
            binding.BAD_INPUT,
        )
    versions = [None if p.is_inference() else p._version for p in request.parameters]
    host, addresses = _host_addresses(request.parameters)
    handle = ctypes.c_void_p()
    binding.check(
        library.assay_plan_create(
            handle, problem, request.device, request.arithmetic.encode(), None, *addresses
        )
    )
    return Plan(
        handle.value,
        request.device,
        (x_shape[0], problem.out_channels, height.value, width.value),
        request.parameters,
        versions,
        library.assay_plan_images(handle),
    )


def _create_on_device(request):
    if request.device == binding.CPU:
        return _create(request)
    with torch.cuda.device(request.device):
        try:
            plan = _create(request)
            short = plan.images < request.x_shape[0]
        except binding.LibraryError as error:
            if error.status != binding.ENVIRONMENT:
                raise
            plan, short = None, True
        if short:
            # What PyTorch's allocator keeps for later counts as taken.
            del plan
            torch.cuda.empty_cache()
            plan = _create(request)
    return plan


def _current(plan, request):
    """Whether the plan still holds the request's parameters."""
    if not plan.alive():
        return False
    parameters = request.parameters
    if request.device == binding.CPU:
        host, addresses = _host_addresses(parameters)
        return bool(binding.library().assay_plan_holds(plan.handle, *addresses))
    if plan.snapshot is None:
        return plan.versions == [p._version for p in parameters]
    if torch.cuda.is_current_stream_capturing():
        return True
    return all(torch.equal(a, b) for a, b in zip(plan.snapshot, parameters))


def find(request):
    """The plan for a request, made if need be."""
    key = request.key
    with _lock:
        plan = _plans.get(key)
        if plan is not None:
            if _current(plan, request):
                used(plan)
                return plan
            del plan
            _take(key)
        _sweep()
        plan = _plans[key] = _create_on_device(request)
        used(plan)
        return plan


def peek(request):
    """The plan for a request where there is one, not looked at closer; else None."""
    with _lock:
        return _plans.get(request.key)


def find_for_capture(request):
    """The same while a graph is captured, when nothing can be made or freed: the plan of an earlier
    call becomes the graphs' own."""
    key = request.key
    with _lock:
        plan = _plans.get(key)
        if plan is not None and _current(plan, request):
            _captured.setdefault(key, []).append(_take(key))
            return plan
        for plan in _captured.get(key, ()):
            if _current(plan, request):
                return plan
    raise RuntimeError(
        "ModelNew: a CUDA graph is being captured, and nothing is ready for an input of "
        f"{tuple(request.x_shape)}: call the module with this shape and these parameters once "
        "before the capture"
    )


def run_gpu(plan, x, y, images):
    """Enqueues y = chain(x) on the current stream of the plan's device, which is current."""
    stream = torch._C._cuda_getCurrentRawStream(plan.device)
    with plan.lock:
        if plan.stream is not None and plan.stream[0] != stream:
            if not torch.cuda.is_current_stream_capturing():
                torch.cuda.current_stream(plan.device).wait_stream(plan.stream[1])
            plan.stream = None
        if plan.stream is None:
            plan.stream = (stream, torch.cuda.current_stream(plan.device))
        binding.check(
            binding.library().assay_plan_run(
                plan.handle, x.data_ptr(), y.data_ptr(), images, stream
            )
        )


def run_cpu(plan, x, y, images):
    library = binding.library()
    library.assay_set_threads(torch.get_num_threads())
    binding.check(library.assay_plan_run(plan.handle, x.data_ptr(), y.data_ptr(), images, None))
