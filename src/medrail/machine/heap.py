"""What the C library keeps of freed memory."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library can: glibc keeps it otherwise (``malloc_trim(3)``)."""
    if sys.platform != "linux":
        return
    try:
        trim = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):  # another C library
        return
    trim(0)
