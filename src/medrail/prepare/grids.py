"""What every spatial step shares: the record of the grid it started from, boxes of voxels, and where a new grid lies.

The record holds all that is needed to come back: ``grid`` (D, H, W) and ``affine`` (4 rows, or None) before the step,
``size`` (D, H, W) after it. All values are JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medrail.errors import PrepareError
from medrail.types import FloatArray, Geometry, Image, Voxels

Params = Mapping[str, Any]


def record(image: Image, size: Sequence[int], **more: Any) -> dict[str, Any]:
    """The parameters that every spatial step writes into the history."""
    affine = image.geometry.affine_ras_mm.tolist() if image.geometry else None
    return {"grid": list(image.grid), "affine": affine, "size": [int(n) for n in size], **more}


def check_grid(image: Image, expected: Sequence[int]) -> None:
    """Raise PrepareError if the image is not on the grid that a step was recorded for."""
    if list(image.grid) != list(expected):
        raise PrepareError(
            f"a grid of {list(image.grid)} voxels",
            needed=f"{list(expected)} (D, H, W), the grid that the step was recorded for",
            remedy="Use the history of the very image that the mask or the answer belongs to.",
        )


def moved(image: Image, voxels: Voxels, index_map: FloatArray) -> Image:
    """The image with other voxels, where ``index_map`` (4, 4) takes a new voxel index to the old one."""
    geometry = Geometry(image.geometry.affine_ras_mm @ index_map) if image.geometry else None
    return replace(image, voxels=voxels, geometry=geometry)


def back(image: Image, voxels: Voxels, params: Params) -> Image:
    """The image with other voxels, on the grid that the step started from."""
    geometry = None if params["affine"] is None else Geometry(np.array(params["affine"]))
    return replace(image, voxels=voxels, geometry=geometry)


def scale_and_offset(scale: Sequence[float], offset: Sequence[float]) -> FloatArray:
    """(4, 4): old index = scale * new index + offset along each of D, H, W."""
    index_map = np.diag([*scale, 1.0])
    index_map[:3, 3] = offset
    return index_map


def take_box(voxels: Voxels, start: Sequence[int], size: Sequence[int], fill: float = 0) -> Voxels:
    """Cut the box of ``size`` (D, H, W) from ``start`` on out of (C, D, H, W); beyond the border stands ``fill``.

    ``take_box(boxed, -start, old_size)`` is the inverse wherever the box held the voxels. The dtype stays, unless an
    integer array has to take a ``fill`` that it cannot hold: then the result is float32.
    """
    old = voxels.shape[1:]
    first = [max(0, s) for s in start]
    last = [min(n, s + m) for n, s, m in zip(old, start, size, strict=True)]
    inside = all(s >= 0 and s + m <= n for n, s, m in zip(old, start, size, strict=True))
    if inside:
        return np.ascontiguousarray(voxels[(slice(None), *map(slice, first, last))])
    boxed = np.full((voxels.shape[0], *size), fill, dtype=_dtype_for(voxels.dtype, fill))
    if all(f < e for f, e in zip(first, last, strict=True)):
        target = [slice(f - s, e - s) for f, e, s in zip(first, last, start, strict=True)]
        boxed[(slice(None), *target)] = voxels[(slice(None), *map(slice, first, last))]
    return boxed


def _dtype_for(dtype: np.dtype[Any], fill: float) -> np.dtype[Any]:
    if dtype.kind == "b":
        return dtype
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        fits = float(fill).is_integer() and limits.min <= fill <= limits.max
        return dtype if fits else np.dtype(np.float32)
    return dtype


def centred(old: Sequence[int], new: Sequence[int]) -> list[int]:
    """Where a box of size ``new`` begins so that it is centred on a grid of size ``old``; negative where it pads.

    The middle voxel, index n // 2, becomes the middle voxel: so padding and cutting back loses nothing, whatever sizes
    lie between.
    """
    return [n // 2 - m // 2 for n, m in zip(old, new, strict=True)]


def drawn_fill(fill: float | str, image: Image) -> float:
    """The value to pad with: the number, or the image's smallest value for ``min``."""
    return float(image.voxels.min()) if isinstance(fill, str) else fill
