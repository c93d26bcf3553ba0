"""Steps that cut or pad a box of voxels: crop_foreground, crop_roi, crop_pad. Lossless wherever the box reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from medrail.errors import PrepareError
from medrail.prepare.grids import (
    Params,
    back,
    centred,
    check_grid,
    drawn_fill,
    moved,
    record,
    scale_and_offset,
    take_box,
)
from medrail.prepare.parameters import Count, Fill, NonNegative, Parameters, Size, Threshold
from medrail.prepare.thresholds import threshold_of
from medrail.types import Image, Voxels


class _Box(Parameters):
    """What the three steps share once the box is drawn: ``start`` and ``size`` (D, H, W), and ``fill`` outside."""

    spatial: ClassVar[bool] = True

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        check_grid(image, params["grid"])
        voxels = take_box(image.voxels, params["start"], params["size"], 0 if labels else params.get("fill", 0))
        return moved(image, voxels, scale_and_offset([1, 1, 1], params["start"]))

    def invert(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        """Outside of the box stands 0: the background of a mask, and "not seen" for probabilities."""
        check_grid(image, params["size"])
        return back(image, take_box(image.voxels, [-s for s in params["start"]], params["grid"]), params)


class CropForeground(_Box):
    """Cut to the box around the voxels above ``threshold`` (in any channel): a number, or ``otsu``.

    The box grows by ``margin_mm`` (rounded up to voxels; needs a geometry) and ``margin_px`` on each side, within the
    image.
    """

    kind: Literal["crop_foreground"] = "crop_foreground"
    threshold: Threshold = "otsu"
    margin_mm: NonNegative = 0.0
    margin_px: Count = 0

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        threshold = threshold_of(self.threshold, image.voxels)
        inside = np.any(image.voxels > threshold, axis=0, keepdims=True)[0]
        if not inside.any():
            raise PrepareError(
                f"no voxel is above the threshold {threshold:g} (the largest is {image.voxels.max():g})",
                needed="a foreground to cut to",
                remedy="Lower `threshold`, or use `threshold: otsu`.",
            )
        start, size = _box_around(inside, _margins(image, self.margin_mm, self.margin_px))
        return record(image, size, start=start, threshold=threshold)


class CropRoi(_Box):
    """Cut to the box around the region of interest (a mask that comes with the case), with the margins given."""

    kind: Literal["crop_roi"] = "crop_roi"
    margin_mm: NonNegative = 0.0
    margin_px: Count = 0

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        if roi is None:
            raise PrepareError(
                "the case has no region-of-interest mask",
                needed="a mask on the image's grid, in the column `roi` of the data's CSV or sent with the request",
                remedy="Add it, or use `crop_foreground`, which needs none.",
            )
        check_grid(roi, image.grid)
        inside = np.any(roi.voxels != 0, axis=0, keepdims=True)[0]
        if not inside.any():
            raise PrepareError(
                "the region-of-interest mask is empty",
                needed="at least one voxel above 0",
                remedy="Check that the mask belongs to this image, and that earlier crops leave it inside.",
            )
        start, size = _box_around(inside, _margins(image, self.margin_mm, self.margin_px))
        return record(image, size, start=start)


class CropPad(_Box):
    """Cut or pad to ``size`` voxels, [H, W] of each slice or [D, H, W], around the centre.

    Padding takes ``pad_value``: a number, or ``min`` for the image's smallest value. Masks are padded with 0. The
    middle voxel, index n // 2, stays the middle voxel.
    """

    kind: Literal["crop_pad"] = "crop_pad"
    size: Size
    pad_value: Fill = 0.0

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        size = (*image.grid[: 3 - len(self.size)], *self.size)
        return record(image, size, start=centred(image.grid, size), fill=drawn_fill(self.pad_value, image))


def _margins(image: Image, margin_mm: float, margin_px: int) -> list[int]:
    if margin_mm == 0:
        return [margin_px] * 3
    if image.geometry is None:
        raise PrepareError(
            "the image has no geometry, so a margin in mm has no meaning",
            needed="margin_px",
            remedy="Set `margin_mm: 0` and give `margin_px` in voxels.",
        )
    return [margin_px + math.ceil(margin_mm / spacing - 1e-6) for spacing in image.geometry.spacing_mm]


def _box_around(inside: npt.NDArray[np.bool_], margins: Sequence[int]) -> tuple[list[int], list[int]]:
    start, size = [], []
    for axis, margin in enumerate(margins):
        others = tuple(a for a in range(3) if a != axis)
        found: Voxels = np.flatnonzero(inside.any(axis=others))
        first = max(0, int(found[0]) - margin)
        last = min(inside.shape[axis], int(found[-1]) + 1 + margin)
        start.append(first)
        size.append(last - first)
    return start, size
