"""Python's collector of cyclic garbage, kept from looking at what is just being built and will stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collecting_later() -> Iterator[None]:
    """The collector waits meanwhile: while tens of thousands of objects are made that all stay, it would look through
    all of them again and again, and find nothing. What is done here must end by itself soon."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
