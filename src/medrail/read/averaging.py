"""Pixels of one size from pixels of another, each the mean of the area that it covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.types import FloatArray


def area_average(pixels: npt.NDArray[Any], rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Means over a grid of rectangles.

    Parameters
    ----------
    pixels:
        (H, W, C).
    rows, columns:
        The borders of the n rows and m columns of the new grid, ascending, in pixels of the old one, where pixel *i*
        lies from i to i + 1: n + 1 and m + 1 numbers, fractions allowed.

    Returns
    -------
    (n, m, C). A constant picture stays constant, and the mean over whole pixels is kept.
    """
    return np.moveaxis(_along_first(np.moveaxis(_along_first(pixels, rows), 1, 0), columns), 1, 0)


def _along_first(values: npt.NDArray[Any], borders: FloatArray) -> FloatArray:
    """The integral up to each border, from running sums, then the difference of neighbours."""
    length = len(values)
    sums = np.zeros((length + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=sums[1:])
    whole = np.clip(np.floor(borders).astype(np.int64), 0, length - 1)
    rest = (np.clip(borders, 0, length) - whole).reshape(-1, *[1] * (values.ndim - 1))
    integral = sums[whole] + rest * values[whole]
    widths = np.diff(borders).reshape(-1, *[1] * (values.ndim - 1))
    means: FloatArray = np.diff(integral, axis=0) / widths
    return means
