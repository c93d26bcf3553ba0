"""Telling foreground from background by grey value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medrail.errors import PrepareError
from medrail.types import FloatArray, Voxels

_CHUNK = 1 << 20


def chunks(values: Voxels) -> Iterator[Voxels]:
    """The values as flat pieces that stay in the processor's cache."""
    flat = values.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        yield flat[start : start + _CHUNK]


def otsu_threshold(values: Voxels, bins: int = 256) -> float:
    """The grey value that best divides the histogram in two; foreground is strictly above it.

    N. Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Trans. SMC 9(1), 1979: the threshold that
    makes the variance between the two classes largest, over ``bins`` equal bins between the smallest and largest value.

    Raises
    ------
    PrepareError
        If all values are equal.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise PrepareError(f"every voxel is {low:g}, so there is no threshold between foreground and background")
    counts = np.zeros(bins, np.int64)
    width = (high - low) / bins
    for part in chunks(values):
        index = ((part.astype(np.float64) - low) / width).astype(np.intp)
        counts += np.bincount(np.minimum(index, bins - 1), minlength=bins)
    return low + width * (_best_division(counts) + 1)


def _best_division(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    weight = counts / counts.sum()
    below = np.cumsum(weight)[:-1]
    mean_below: FloatArray = np.cumsum(weight * np.arange(len(counts)))
    total, mean_below = mean_below[-1], mean_below[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total * below - mean_below) ** 2 / (below * (1 - below))
    return int(np.argmax(np.nan_to_num(between, nan=0.0, posinf=0.0)))


def threshold_of(threshold: float | str, values: Voxels) -> float:
    """A number as it is, or Otsu's threshold of the values for ``otsu``."""
    return otsu_threshold(values) if isinstance(threshold, str) else threshold
