"""Python's collector of cyclic garbage, kept from looking again and again at what is being built and will stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# So many new objects may be there before it looks; 700 is Python's own number.
_OBJECTS = 100_000


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """The collector looks seldom meanwhile: where tens of thousands of objects are made that all stay, it takes a
    third of the time to find nothing. It does look, so that garbage does not pile up."""
    first, *others = gc.get_threshold()
    if first:  # else it is turned off
        gc.set_threshold(max(first, _OBJECTS), *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)
