"""Graphics memory by NVIDIA's own library, where its driver is installed; no package is needed for it."""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple

_LIBRARY = "libnvidia-ml.so.1"


class GpuMemory(NamedTuple):
    """Of one card: all that is in use on it, by whichever process, and what there is."""

    gpu: int
    used_bytes: int
    total_bytes: int


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def gpu_memory() -> tuple[GpuMemory, ...]:
    """Of every card that can be asked; () where there is none."""
    library = _library()
    if library is None:
        return ()
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return ()
    found = []
    for index in range(count.value):
        handle, memory = ctypes.c_void_p(), _Memory()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            continue
        if not library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
            found.append(GpuMemory(index, memory.used, memory.total))
    return tuple(found)


@functools.cache
def _library() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY)
        return None if library.nvmlInit_v2() else library
    except (OSError, AttributeError):
        return None
