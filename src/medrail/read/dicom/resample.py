"""Slices that stand crooked or unevenly -> an even, orthogonal grid, by linear interpolation.

Only what ``ReadOptions.on_defect: resample`` allows: the result is recorded as a defect with its action.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.read.dicom.stack import Layout

Array = npt.NDArray[Any]

_SNAP = 1e-6  # of a pixel
_KEPT = 0.02  # of a step: a slice so near to where one is wanted is taken as it is


def regrid(voxels: Array, layout: Layout) -> Array:
    """(C, places, H, W) -> (C, D, H', W') on ``layout.geometry``; what no slice covers gets the lowest value.

    Integers stay integers, rounded to the nearest.
    """
    if layout.shifts_px.any():
        voxels = _straightened(voxels, layout)
    if not np.array_equal(layout.targets_mm, layout.along_mm):
        voxels = _evened(voxels, layout.along_mm, layout.targets_mm)
    return voxels


def _straightened(voxels: Array, layout: Layout) -> Array:
    """Each slice moved in its plane by its own shift, on a canvas that holds them all."""
    above, below, left, right = layout.canvas_px
    channels, count, rows, columns = voxels.shape
    lowest = voxels.min()
    canvas = np.full((channels, count, rows + above + below, columns + left + right), lowest, voxels.dtype)
    for index, (down, across) in enumerate(layout.shifts_px):
        moved = _moved(voxels[:, index].astype(np.float64), float(down), 1, float(lowest))
        moved = _moved(moved, float(across), 2, float(lowest))
        top, side = int(np.floor(down)) + above, int(np.floor(across)) + left
        canvas[:, index, top : top + rows, side : side + columns] = _as(moved, voxels.dtype)
    return canvas


def _moved(plane: Array, shift_px: float, axis: int, outside: float) -> Array:
    """A plane moved by the fraction of a shift, between two pixels linearly; the whole pixels are the caller's.

    The first pixel along ``axis`` then lies before the first one stored: it is ``outside``.
    """
    fraction = shift_px - np.floor(shift_px)
    if fraction < _SNAP:
        return plane
    before, after = np.delete(plane, -1, axis), np.delete(plane, 0, axis)
    edge = np.full_like(np.take(plane, [0], axis), outside)
    moved: Array = np.concatenate([edge, fraction * before + (1 - fraction) * after], axis)
    return moved


def _evened(voxels: Array, along_mm: npt.NDArray[np.float64], targets_mm: npt.NDArray[np.float64]) -> Array:
    even = np.empty((voxels.shape[0], targets_mm.size, *voxels.shape[2:]), voxels.dtype)
    step = (targets_mm[-1] - targets_mm[0]) / (targets_mm.size - 1)
    after = np.clip(np.searchsorted(along_mm, targets_mm), 1, along_mm.size - 1)
    for index, (upper, target) in enumerate(zip(after, targets_mm, strict=True)):
        low, high = along_mm[upper - 1], along_mm[upper]
        share = float(np.clip((target - low) / (high - low), 0, 1))
        if min(target - low, high - target) < _KEPT * step:
            even[:, index] = voxels[:, upper - 1 + round(share)]
        else:
            mixed = (1 - share) * voxels[:, upper - 1].astype(np.float64) + share * voxels[:, upper]
            even[:, index] = _as(mixed, voxels.dtype)
    return even


def _as(values: Array, dtype: np.dtype[Any]) -> Array:
    return np.asarray(np.rint(values) if dtype.kind in "iu" else values, dtype=dtype)
