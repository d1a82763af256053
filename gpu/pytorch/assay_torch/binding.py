"""libassay.so through ctypes (harness/assay.h): loaded on first use, called without the GIL."""

import ctypes
import os
import threading

ABI_VERSION = 1
CPU = -1
BAD_INPUT, ENVIRONMENT, UNSUPPORTED = 2, 3, 4


class LibraryError(RuntimeError):
    """libassay.so is missing, of another ABI, or refused a request. `status` is its status."""

    def __init__(self, message, status=ENVIRONMENT):
        super().__init__(message)
        self.status = status


class Problem(ctypes.Structure):
    """struct assay_problem."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("batch", "in_channels", "out_channels", "height", "width")
        ),
        *(
            (name, ctypes.c_int64 * 2)
            for name in ("kernel", "stride", "padding", "output_padding", "dilation")
        ),
        *((name, ctypes.c_int64) for name in ("groups", "bias_count", "has_conv_bias", "reserved")),
        ("scaling_factor", ctypes.c_double),
    ]


_POINTER, _INT, _INT64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_FUNCTIONS = {
    "assay_abi_version": (_INT, []),
    "assay_build": (ctypes.c_char_p, []),
    "assay_last_error": (ctypes.c_char_p, []),
    "assay_device_count": (_INT, []),
    "assay_set_threads": (None, [_INT]),
    "assay_output_size": (
        _INT,
        [ctypes.POINTER(Problem), ctypes.POINTER(_INT64), ctypes.POINTER(_INT64)],
    ),
    "assay_plan_create": (
        _INT,
        [
            ctypes.POINTER(_POINTER),
            ctypes.POINTER(Problem),
            _INT,
            ctypes.c_char_p,
            ctypes.c_char_p,
            _POINTER,
            _POINTER,
            _POINTER,
        ],
    ),
    "assay_plan_free": (None, [_POINTER]),
    "assay_plan_note": (ctypes.c_char_p, [_POINTER]),
    "assay_plan_images": (_INT64, [_POINTER]),
    "assay_plan_holds": (_INT, [_POINTER, _POINTER, _POINTER, _POINTER]),
    "assay_plan_run": (_INT, [_POINTER, _POINTER, _POINTER, _INT64, _POINTER]),
}

_library = None
_lock = threading.Lock()


def library_path():
    """The file that is or would be loaded: $ASSAY_LIBRARY, else libassay.so beside this package,
    else the repository's build/libassay.so, or build/nocuda/libassay.so where only that is."""
    named = os.environ.get("ASSAY_LIBRARY")
    if named:
        return named
    here = os.path.dirname(os.path.abspath(__file__))
    built = os.path.normpath(os.path.join(here, "..", "..", "..", "build"))
    places = [
        os.path.join(folder, "libassay.so")
        for folder in (here, built, os.path.join(built, "nocuda"))
    ]
    return next(filter(os.path.exists, places), places[1])


def library():
    """The loaded library; LibraryError with what to do where it cannot be."""
    global _library
    if _library is not None:
        return _library
    with _lock:
        if _library is not None:
            return _library
        path = library_path()
        try:
            loaded = ctypes.CDLL(path)
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(loaded, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise LibraryError(
                f"cannot load '{path}': {error}; build it with 'make lib', or name it in "
                "ASSAY_LIBRARY"
            ) from None
        version = loaded.assay_abi_version()
        if version < ABI_VERSION:
            raise LibraryError(
                f"'{path}' has ABI {version}, and {ABI_VERSION} is needed: build it again with "
                "'make lib'"
            )
        _library = loaded
    return _library


def build():
    """What the library says of itself: ABI, commit, with or without CUDA."""
    return library().assay_build().decode()


def last_error():
    return library().assay_last_error().decode(errors="replace")


def check(status):
    if status:
        raise LibraryError(last_error(), status)
