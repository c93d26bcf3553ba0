"""Arrays that are in memory where they fit, and in a file where they do not: the store's own, or an unnamed one."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medrail.machine import free_memory_bytes

SHARE_OF_FREE_MEMORY = 0.5

Array = npt.NDArray[np.generic]


def fits(size_bytes: int, budget_bytes: int | None) -> bool:
    """Whether so much may be kept in memory; budget None: half of what is free now."""
    if budget_bytes is None:
        free = free_memory_bytes()
        return free is None or size_bytes <= free * SHARE_OF_FREE_MEMORY
    return size_bytes <= budget_bytes


def allocate(shape: Sequence[int], dtype: npt.DTypeLike, folder: Path, budget_bytes: int | None = None) -> Array:
    """A writable array; behind it is a file in ``folder``, gone when the array is, if it exceeds the budget.

    Parameters
    ----------
    budget_bytes:
        None: half of the memory that is free now.
    """
    kind = np.dtype(dtype)
    size_bytes = math.prod(shape) * kind.itemsize
    if fits(size_bytes, budget_bytes):
        return np.empty(tuple(shape), kind)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size_bytes)
        return np.memmap(file, dtype=kind, mode="r+", shape=tuple(shape))


def kept(array: Array, folder: Path, budget_bytes: int | None) -> Array:
    """A copy of a case's array in memory; if that does not fit: itself where it is a file already, else a file's."""
    if isinstance(array, np.memmap) and not fits(array.nbytes, budget_bytes):
        return array
    copy = allocate(array.shape, array.dtype, folder, budget_bytes)
    copy[...] = array
    return copy


class Collected:
    """Rows that come a case at a time, in one array that is made for ``expected`` of them and grows if more come.

    Types may differ; the array has one that holds all of them without loss.
    """

    def __init__(self, expected: int, folder: Path, budget_bytes: int | None) -> None:
        self._expected, self._folder, self._budget_bytes = expected, folder, budget_bytes
        self._array: Array | None = None
        self._count = 0

    def add(self, rows: Array) -> None:
        """Append (n, ...) rows of the same size as those before."""
        end = self._count + len(rows)
        have = self._array
        if have is None:
            self._array = self._new(max(self._expected, end), rows, rows.dtype)
        else:
            kind = np.result_type(have.dtype, rows.dtype)
            if end > len(have) or kind != have.dtype:
                self._array = self._new(len(have) if end <= len(have) else max(end, len(have) * 3 // 2), rows, kind)
                self._array[: self._count] = have[: self._count]
        assert self._array is not None  # noqa: S101 - made above
        self._array[self._count : end] = rows
        self._count = end

    def array(self) -> Array:
        """All rows so far."""
        if self._array is None:
            raise ValueError("no rows were added")
        return self._array[: self._count]

    def _new(self, count: int, rows: Array, kind: npt.DTypeLike) -> Array:
        return allocate((count, *rows.shape[1:]), kind, self._folder, self._budget_bytes)


def as_tensor(array: Array) -> torch.Tensor:
    """Without a copy, except for unsigned numbers of more than 8 bits, which torch can hardly compute with."""
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing writes to it
        return torch.from_numpy(array)
