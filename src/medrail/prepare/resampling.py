"""Separable resampling of voxel grids: numbers in, numbers out; where the grids lie in space is the steps' business.

Along each axis, output index ``o`` stands at the input's continuous index ``scale * o + offset``. Linear interpolation
weighs the input voxels by a triangle of half-width 1; when shrinking with anti-aliasing the triangle is widened to the
ratio of the spacings, so that every input voxel counts (the "triangle filter" of P. Heckbert, "Filtered Image
Rescaling", Graphics Gems III, 1992; Pillow's BILINEAR and torch's ``antialias=True`` do the same). Beyond the border
the border voxel goes on.

``resample_linear`` is what runs; ``resample_reference`` says the same as dense matrices in float64 and judges it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medrail.types import FloatArray, Voxels

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Taps:
    """For each output index along one axis, the input indices (n_out, K) it draws on and their weights (n_out, K)."""

    index: npt.NDArray[np.intp]
    weight: Floats

    def leaves_alone(self, n_in: int) -> bool:
        """Whether the output is the input, voxel for voxel; then nothing needs to be computed."""
        own = np.arange(len(self.index))[:, None]
        return len(own) == n_in and bool((self.weight[self.index != own] == 0).all())


def linear_taps(positions: FloatArray, n_in: int, support: float = 1.0) -> Taps:
    """Weights of a triangle of half-width ``support`` >= 1 (input voxels) around each position, summing to 1."""
    centre = np.clip(positions, 0, n_in - 1)[:, None]
    first = np.floor(centre - support) + 1
    index = first + np.arange(int(np.ceil(2 * support)))
    weight = np.maximum(0.0, 1 - np.abs(index - centre) / support)
    weight[(index < 0) | (index > n_in - 1)] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    return Taps(np.clip(index, 0, n_in - 1).astype(np.intp), weight.astype(np.float32))


def nearest_index(positions: FloatArray, n_in: int) -> npt.NDArray[np.intp]:
    """The voxel that each position lies in; a position exactly between two belongs to the upper one."""
    return np.clip(np.floor(positions + 0.5 + 1e-6), 0, n_in - 1).astype(np.intp)


def resample_nearest(voxels: Voxels, positions: tuple[FloatArray, FloatArray, FloatArray]) -> Voxels:
    """(C, D, H, W) -> (C, D', H', W') of the same dtype, each voxel the nearest input voxel: for labels."""
    for axis, along in enumerate(positions, start=1):
        index = nearest_index(along, voxels.shape[axis])
        if not np.array_equal(index, np.arange(voxels.shape[axis])):
            voxels = voxels.take(index, axis=axis)
    return np.ascontiguousarray(voxels)


def resample_linear(voxels: Voxels, taps: tuple[Taps, Taps, Taps]) -> Floats:
    """(C, D, H, W) of any real dtype -> float32 (C, D', H', W').

    Works plane by plane, which stays in the processor's cache and needs no float copy of the input. The depth is
    combined before the planes are resampled where it shrinks, and after where it grows: fewer planes to resample.
    """
    along_d, along_h, along_w = taps
    depth_in, depth_out = voxels.shape[1], len(along_d.index)
    out = np.empty((voxels.shape[0], depth_out, len(along_h.index), len(along_w.index)), np.float32)
    for channel, volume in enumerate(voxels):
        if depth_out <= depth_in:
            for d in range(depth_out):
                out[channel, d] = _in_plane(_combine(volume, along_d, d), along_h, along_w)
        else:
            planes = np.stack([_in_plane(np.asarray(plane, np.float32), along_h, along_w) for plane in volume])
            for d in range(depth_out):
                out[channel, d] = _combine(planes, along_d, d)
    return out


def _combine(volume: Voxels, taps: Taps, d: int) -> Floats:
    chosen = [(int(i), w) for i, w in zip(taps.index[d], taps.weight[d], strict=True) if w]
    plane: Floats = volume[chosen[0][0]].astype(np.float32)
    if len(chosen) > 1:
        plane *= chosen[0][1]
    for i, w in chosen[1:]:
        plane += np.multiply(volume[i], w, dtype=np.float32)
    return plane


def _in_plane(plane: Floats, along_h: Taps, along_w: Taps) -> Floats:
    if not along_h.leaves_alone(plane.shape[0]):
        plane = _along_rows(plane, along_h)
    if not along_w.leaves_alone(plane.shape[1]):
        plane = _along_rows(np.ascontiguousarray(plane.T), along_w).T
    return plane


def _along_rows(plane: Floats, taps: Taps) -> Floats:
    total: Floats = plane.take(taps.index[:, 0], axis=0)
    total *= taps.weight[:, :1]
    for k in range(1, taps.index.shape[1]):
        part = plane.take(taps.index[:, k], axis=0)
        part *= taps.weight[:, k : k + 1]
        total += part
    return total


def resample_reference(voxels: Voxels, taps: tuple[Taps, Taps, Taps]) -> FloatArray:
    """The definition of ``resample_linear``: one dense (n_out, n_in) matrix an axis, applied in float64."""
    out = voxels.astype(np.float64)
    for axis, along in enumerate(taps, start=1):
        matrix = np.zeros((len(along.index), voxels.shape[axis]))
        np.add.at(matrix, (np.arange(len(matrix))[:, None], along.index), along.weight.astype(np.float64))
        out = np.moveaxis(np.tensordot(matrix, out, axes=(1, axis)), 0, axis)
    return out
