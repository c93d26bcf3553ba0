"""Stored values -> real values: slope and intercept, without losing what integers can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def rescale(planes: Array, slopes: Sequence[float], intercepts: Sequence[float]) -> Array:
    """``planes[n] * slopes[n] + intercepts[n]`` along the first axis.

    Integers stay integers where every slope and intercept is one (CT in Hounsfield units: int16 where the values fit);
    everything else is computed in float64 and kept as float32 (float64 from 32-bit integers and doubles). Without any
    scaling the array comes back as it is. The array's memory may be reused for the result.
    """
    if all(slope == 1 for slope in slopes) and all(intercept == 0 for intercept in intercepts):
        return planes
    whole = planes.dtype.kind in "iu" and all(float(number).is_integer() for number in (*slopes, *intercepts))
    dtype = _integer_dtype(planes, slopes, intercepts) if whole else None
    if dtype is None:
        dtype = np.result_type(planes.dtype, np.float32)
    reusable = planes.flags.writeable and planes.dtype.itemsize == dtype.itemsize
    real = planes.view(dtype) if reusable else np.empty(planes.shape, dtype)
    for index, (slope, intercept) in enumerate(zip(slopes, intercepts, strict=True)):
        if dtype.kind == "i":
            real[index] = planes[index].astype(np.int64) * int(slope) + int(intercept)
        else:
            real[index] = planes[index].astype(np.float64) * slope + intercept
    return real


def _integer_dtype(planes: Array, slopes: Sequence[float], intercepts: Sequence[float]) -> np.dtype[Any] | None:
    """The smallest signed integer type that holds every result, None when none does."""
    corners = [
        bound * int(slope) + int(intercept)
        for plane, slope, intercept in zip(planes, slopes, intercepts, strict=True)
        for bound in (int(plane.min()), int(plane.max()))
    ]
    for dtype in (np.dtype(np.int16), np.dtype(np.int32), np.dtype(np.int64)):
        limits = np.iinfo(dtype)
        if limits.min <= min(corners) and max(corners) <= limits.max:
            return dtype
    return None


def native(array: Array) -> Array:
    """The same values in this machine's byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
