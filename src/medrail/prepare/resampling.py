"""Separable resampling of voxel grids: numbers in, numbers out; where the grids lie in space is the steps' business.

Along each axis, output index ``o`` stands at the input's continuous index ``scale * o + offset``. Linear interpolation
weighs the input voxels by a triangle of half-width 1; when shrinking with anti-aliasing the triangle is widened to the
ratio of the spacings, so that every input voxel counts (the "triangle filter" of P. Heckbert, "Filtered Image
Rescaling", Graphics Gems III, 1992; Pillow's BILINEAR and torch's ``antialias=True`` do the same). Beyond the border
the border voxel goes on.

This page defines the taps; ``sampling`` applies them, a slice at a time, and ``resample_reference`` says the same as
dense matrices in float64 and judges it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from medrail.types import FloatArray, Voxels

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Taps:
    """For each output index along one axis the input indices ``first`` (n_out,) to ``first`` + K - 1 that it draws on.

    ``weight`` (n_out, K): the weights of these, summing to 1. All indices lie within the input.
    """

    first: Indices
    weight: Floats

    @property
    def index(self) -> Indices:
        """(n_out, K)."""
        return self.first[:, None] + np.arange(self.weight.shape[1])

    @cached_property
    def drawn_on(self) -> Indices:
        """The input indices that any output draws on, ascending."""
        return np.unique(self.index[self.weight != 0])

    def leaves_alone(self, n_in: int) -> bool:
        """Whether the output is the input, voxel for voxel; then nothing needs to be computed."""
        return len(self.first) == n_in and self._stays

    @cached_property
    def _stays(self) -> bool:
        """Whether each output draws on the input of its own number alone."""
        own = np.arange(len(self.first))[:, None]
        return bool((self.weight[self.index != own] == 0).all())


def linear_taps(positions: FloatArray, n_in: int, support: float = 1.0) -> Taps:
    """Weights of a triangle of half-width ``support`` >= 1 (input voxels) around each position, summing to 1."""
    centre = np.clip(positions, 0, n_in - 1)[:, None]
    begin = (np.floor(centre - support) + 1).astype(np.intp)
    count = min(int(np.ceil(2 * support)), n_in)
    first = np.clip(begin, 0, n_in - count)
    # From here on the same taps, counted from where they may begin.
    index = first + np.arange(count)
    weight = np.maximum(0.0, 1 - np.abs(index - centre) / support)
    weight /= weight.sum(axis=1, keepdims=True)
    return _trimmed(first[:, 0], weight.astype(np.float32))


def _trimmed(first: Indices, weight: Floats) -> Taps:
    """Without taps that weigh nothing in any output, as where positions fall on voxels."""
    used = np.flatnonzero(weight.any(axis=0))
    low, high = int(used[0]), int(used[-1]) + 1
    return Taps(first + low, np.ascontiguousarray(weight[:, low:high]))


def nearest_index(positions: FloatArray, n_in: int) -> Indices:
    """The voxel that each position lies in; a position exactly between two belongs to the upper one."""
    return np.clip(np.floor(positions + 0.5 + 1e-6), 0, n_in - 1).astype(np.intp)


def resample_nearest(voxels: Voxels, positions: tuple[FloatArray, FloatArray, FloatArray]) -> Voxels:
    """(C, D, H, W) -> (C, D', H', W') of the same dtype, each voxel the nearest input voxel: for labels."""
    for axis, along in enumerate(positions, start=1):
        index = nearest_index(along, voxels.shape[axis])
        if not np.array_equal(index, np.arange(voxels.shape[axis])):
            voxels = voxels.take(index, axis=axis)
    return np.ascontiguousarray(voxels)


def resample_reference(voxels: Voxels, taps: tuple[Taps, Taps, Taps]) -> FloatArray:
    """The definition of what ``sampling.resample`` computes: one dense (n_out, n_in) matrix an axis, in float64."""
    out = voxels.astype(np.float64)
    for axis, along in enumerate(taps, start=1):
        matrix = np.zeros((len(along.first), voxels.shape[axis]))
        np.add.at(matrix, (np.arange(len(matrix))[:, None], along.index), along.weight.astype(np.float64))
        out = np.moveaxis(np.tensordot(matrix, out, axes=(1, axis)), 0, axis)
    return out
