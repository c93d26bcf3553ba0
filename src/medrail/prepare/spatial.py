"""Steps that move voxels: orient, resample, resize. Each records its input grid, so that it can be inverted."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator

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
from medrail.prepare.parameters import Fill, Parameters, Size, Spacing, Switch
from medrail.prepare.resampling import Taps, linear_taps, resample_nearest
from medrail.prepare.sampling import Sampling, resample, sample
from medrail.read.jpeg import picture_box
from medrail.types import FloatArray, Image, Voxels

_PAIRS = ("RL", "AP", "SI")
_WHOLE_NUMBERS = ("uint8", "uint16")  # units in which a picture is kept and shown: nothing is gained by fractions


def _axes(text: str) -> str:
    if sorted(next((n for n, pair in enumerate(_PAIRS) if c in pair), -1) for c in text) != [0, 1, 2]:
        raise ValueError(f"found {text!r}, needed one letter each of R/L, A/P and S/I, as LPS or RAS")
    return text


class Orient(Parameters):
    """Turn the array so that its indices grow in the named anatomical directions: permutation and flips, no resampling.

    ``axes`` names the directions of the array axes W, H, D (x, y, z as SimpleITK's DICOMOrient counts them): with
    ``LPS`` columns grow to the patient's Left, rows to Posterior, slices to Superior. An oblique volume keeps its
    obliqueness. A picture without geometry has no anatomical directions and stays as it is.
    """

    kind: Literal["orient"] = "orient"
    axes: Annotated[str, AfterValidator(_axes)] = "LPS"
    spatial: ClassVar[bool] = True

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        order, flip = [0, 1, 2], [False, False, False]
        if image.geometry:
            codes = image.geometry.axis_codes
            wanted = tuple(reversed(self.axes))
            order = [next(a for a in range(3) if _same_pair(codes[a], code)) for code in wanted]
            flip = [codes[a] != code for a, code in zip(order, wanted, strict=True)]
        return record(image, [image.grid[a] for a in order], order=order, flip=flip)

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        check_grid(image, params["grid"])
        order, flip = params["order"], params["flip"]
        voxels = _flipped(image.voxels.transpose(0, *(a + 1 for a in order)), flip)
        return self.moved(image, np.ascontiguousarray(voxels), params)

    def moved(self, image: Image, voxels: Voxels, params: Params) -> Image:
        """The image where it lies after the step, with other voxels."""
        index_map = np.zeros((4, 4))
        index_map[3, 3] = 1
        for new, old in enumerate(params["order"]):
            index_map[old, new] = -1 if params["flip"][new] else 1
            index_map[old, 3] = params["grid"][old] - 1 if params["flip"][new] else 0
        return moved(image, voxels, index_map)

    def invert(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        check_grid(image, params["size"])
        voxels = _flipped(image.voxels, params["flip"]).transpose(0, *(int(a) + 1 for a in np.argsort(params["order"])))
        return back(image, np.ascontiguousarray(voxels), params)


def _same_pair(a: str, b: str) -> bool:
    return any(a in pair and b in pair for pair in _PAIRS)


def _flipped(voxels: Voxels, flip: list[bool]) -> Voxels:
    return voxels[(slice(None), *(slice(None, None, -1 if f else 1) for f in flip))]


class Resample(Parameters):
    """Bring the voxels to ``spacing_mm`` (one number, or D, H, W), by separable linear interpolation.

    As the usual ITK script does: the centre of the first voxel and the directions stay, and the size is
    ``round(n * old_spacing / new_spacing)``, half to even. What would lie beyond the last voxel repeats it (ITK writes
    0 there). An axis of one voxel stays as it is: a single slice has no neighbours to interpolate with.
    ``antialias`` widens the triangle where the spacing grows; without it the interpolation is ITK's, which skips
    voxels when shrinking to less than half. Masks take the nearest voxel. Other integer voxels become float32, except
    those of the units "uint8" and "uint16", which are rounded to whole numbers as in ``resize``.
    """

    kind: Literal["resample"] = "resample"
    spacing_mm: Spacing
    antialias: Switch = True
    spatial: ClassVar[bool] = True

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        if image.geometry is None:
            raise PrepareError(
                "the image has no geometry, so its spacing in mm is unknown",
                needed="a volume with a geometry (DICOM, NIfTI, MetaImage, NRRD), before `slices`",
                remedy="Use `resize` for pictures.",
            )
        pairs = list(zip(image.grid, image.geometry.spacing_mm, self.spacing_mm, strict=True))
        # Files store spacings in 32 bits; rounding first keeps their last digits from deciding a tie.
        size = [n if n == 1 else max(1, round(round(n * old / new, 3))) for n, old, new in pairs]
        scale = [1.0 if n == 1 else new / old for n, old, new in pairs]
        return record(image, size, scale=scale, offset=[0.0, 0.0, 0.0])

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        return _to_grid(image, params, antialias=self.antialias, labels=labels)

    def moved(self, image: Image, voxels: Voxels, params: Params) -> Image:
        """The image where it lies after the step, with other voxels."""
        return moved(image, voxels, scale_and_offset(params["scale"], params["offset"]))

    def invert(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        return _from_grid(image, params, antialias=self.antialias, labels=labels)


class Resize(Parameters):
    """Bring the array to ``size`` voxels, [H, W] of each slice or [D, H, W], by separable linear interpolation.

    Half-pixel aligned: the borders of the first and last voxel keep their places, as Pillow and torch
    (``align_corners=False``) do. ``keep_aspect`` scales all resized axes by the same factor and pads what is left,
    centred, with ``pad_value``. ``antialias`` widens the triangle where the image shrinks. Masks take the nearest
    voxel. Pictures (whole numbers of the units "uint8" and "uint16") stay what they are, rounded to the nearest, half
    to even, as Pillow and OpenCV round them; the voxels of other units become float32. Of a JPEG decoded at a reduced
    size the very picture is resized, without what fills its last blocks.
    """

    kind: Literal["resize"] = "resize"
    size: Size
    keep_aspect: Switch = False
    antialias: Switch = True
    pad_value: Fill = 0.0
    spatial: ClassVar[bool] = True

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        target = (*image.grid[: 3 - len(self.size)], *self.size)
        box = picture_box(image)
        extent = [end - begin for begin, end in box]
        inner = list(target)
        if self.keep_aspect:
            axes = range(3 - len(self.size), 3)
            factor = min(target[a] / extent[a] for a in axes)
            for a in axes:
                inner[a] = min(target[a], max(1, round(extent[a] * factor)))
        scale = [n / m for n, m in zip(extent, inner, strict=True)]
        start = centred(inner, target)
        offset = [begin + 0.5 * s - 0.5 for s, (begin, _) in zip(scale, box, strict=True)]
        fill = drawn_fill(self.pad_value, image)
        return record(image, target, inner=inner, scale=scale, offset=offset, start=start, fill=fill)

    def moved(self, image: Image, voxels: Voxels, params: Params) -> Image:
        """The image where it lies after the step, with other voxels; where nothing is padded or cropped."""
        return moved(image, voxels, scale_and_offset(params["scale"], params["offset"]))

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        resized = _to_grid(image, {**params, "size": params["inner"]}, antialias=self.antialias, labels=labels)
        if params["inner"] == params["size"]:
            return resized
        voxels = take_box(resized.voxels, params["start"], params["size"], 0 if labels else params["fill"])
        return moved(resized, voxels, scale_and_offset([1, 1, 1], params["start"]))

    def invert(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        check_grid(image, params["size"])
        inner = take_box(image.voxels, [-s for s in params["start"]], params["inner"])
        inner_params = {**params, "size": params["inner"]}
        return _from_grid(image.with_voxels(inner), inner_params, antialias=self.antialias, labels=labels)


def _to_grid(image: Image, params: Params, *, antialias: bool, labels: bool) -> Image:
    """Onto the recorded grid, where old index = scale * new index + offset."""
    check_grid(image, params["grid"])
    if labels:
        d, h, w = _positions(params)
        voxels = resample_nearest(image.voxels, (d, h, w))
    else:
        taps = taps_to_grid(image, params, antialias=antialias)
        voxels = sample(image.voxels, Sampling(taps, kind=kept_kind(image) or "float32"))
    return moved(image, voxels, scale_and_offset(params["scale"], params["offset"]))


def taps_to_grid(image: Image, params: Params, *, antialias: bool) -> tuple[Taps, Taps, Taps]:
    """The taps along D, H, W that bring an image onto the recorded grid."""
    axes = zip(image.grid, params["size"], params["scale"], params["offset"], strict=True)
    d, h, w = (_taps_along(n, m, scale, offset, antialias=antialias) for n, m, scale, offset in axes)
    return d, h, w


# Pictures of one size share them.
@functools.lru_cache(maxsize=64)
def _taps_along(n: int, size: int, scale: float, offset: float, *, antialias: bool) -> Taps:
    """From ``n`` voxels to ``size`` of them."""
    return linear_taps(_along(size, scale, offset), n, max(1.0, scale) if antialias else 1.0)


def kept_kind(image: Image) -> Literal["uint8", "uint16"] | None:
    """Pictures stay whole numbers of their own depth, as Pillow and OpenCV keep them; None for all others."""
    name = image.voxels.dtype.name
    if image.unit == "uint8" and name == "uint8":
        return "uint8"
    return "uint16" if image.unit == "uint16" and name == "uint16" else None


def _positions(params: Params) -> list[FloatArray]:
    return [_along(m, s, o) for m, s, o in zip(params["size"], params["scale"], params["offset"], strict=True)]


def _along(size: int, scale: float, offset: float) -> FloatArray:
    return np.asarray(scale * np.arange(size) + offset, dtype=np.float64)


def _from_grid(image: Image, params: Params, *, antialias: bool, labels: bool) -> Image:
    """Back from the recorded grid."""
    check_grid(image, params["size"])
    scale, offset = params["scale"], params["offset"]
    positions = [(np.arange(n) - o) / s for n, s, o in zip(params["grid"], scale, offset, strict=True)]
    shrink = [1 / s for s in scale] if antialias else [1, 1, 1]
    if labels:
        d, h, w = positions
        return back(image, resample_nearest(image.voxels, (d, h, w)), params)
    return back(image, resample(image.voxels, _taps(image.grid, positions, shrink)), params)


def _taps(grid: Sequence[int], positions: list[FloatArray], shrink: Sequence[float]) -> tuple[Taps, Taps, Taps]:
    taps = [linear_taps(p, n, max(1.0, s)) for p, n, s in zip(positions, grid, shrink, strict=True)]
    return taps[0], taps[1], taps[2]
