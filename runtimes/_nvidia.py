"""The NVIDIA GPU of this machine, asked of its driver's library: no package and no tool is needed."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from dataclasses import dataclass
from typing import Any

_LIBRARY = "libcuda.so.1"
_SUCCESS = 0
_NAME_BYTES = 256
#: CUdevice_attribute of cuda.h.
_MAJOR, _MINOR = 75, 76
#: From here on convolutions of float32 may be computed in TF32 (Ampere).
_FIRST_WITH_TF32 = (8, 0)


@dataclass(frozen=True)
class Gpu:
    """A GPU by its name, such as "Orin", and compute capability."""

    name: str
    capability: tuple[int, int]

    @property
    def has_tf32(self) -> bool:
        """Whether float32 convolutions may silently be computed in TF32."""
        return self.capability >= _FIRST_WITH_TF32

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


@functools.cache
def find_gpu() -> Gpu | str:
    """The first GPU, or why there is none that can be used, in one line."""
    try:
        driver: Any = ctypes.CDLL(_LIBRARY)
    except OSError:
        return f"no NVIDIA GPU can be used: the driver's library {_LIBRARY} cannot be loaded"
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    calls = (
        ("cuInit", (ctypes.c_uint(0),)),
        ("cuDeviceGet", (ctypes.byref(device), 0)),
        ("cuDeviceGetName", (name, _NAME_BYTES - 1, device)),
        ("cuDeviceGetAttribute", (ctypes.byref(major), _MAJOR, device)),
        ("cuDeviceGetAttribute", (ctypes.byref(minor), _MINOR, device)),
    )
    for function, arguments in calls:
        status = getattr(driver, function)(*arguments)
        if status != _SUCCESS:
            return f"no NVIDIA GPU can be used: the driver answered {function} with error {status}"
    return Gpu(name.value.decode("utf-8", "replace"), (major.value, minor.value))


@functools.cache
def tensorrt_library_version() -> int | None:
    """The version of the TensorRT library that would be loaded, such as 8502; None where there is none."""
    name = ctypes.util.find_library("nvinfer")
    if name is None:
        return None
    try:
        library: Any = ctypes.CDLL(name)
        return int(library.getInferLibVersion())
    except (OSError, AttributeError):
        return None
