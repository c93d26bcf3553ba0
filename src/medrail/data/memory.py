"""Arrays that are in memory where they fit, and in an unnamed temporary file where they do not."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medrail.machine import free_memory_bytes

SHARE_OF_FREE_MEMORY = 0.5


def allocate(
    shape: Sequence[int], dtype: npt.DTypeLike, folder: Path, budget_bytes: int | None = None
) -> npt.NDArray[np.generic]:
    """A writable array; behind it is a file in ``folder``, gone when the array is, if it exceeds the budget.

    Parameters
    ----------
    budget_bytes:
        None: half of the memory that is free now.
    """
    kind = np.dtype(dtype)
    size_bytes = math.prod(shape) * kind.itemsize
    if budget_bytes is None:
        free = free_memory_bytes()
        budget_bytes = size_bytes if free is None else int(free * SHARE_OF_FREE_MEMORY)
    if size_bytes <= budget_bytes:
        return np.empty(tuple(shape), kind)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size_bytes)
        return np.memmap(file, dtype=kind, mode="r+", shape=tuple(shape))


def as_tensor(array: npt.NDArray[np.generic]) -> torch.Tensor:
    """Without a copy, except for unsigned numbers of more than 8 bits, which torch can hardly compute with."""
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)
    return torch.from_numpy(array)
