"""Steps that change grey values and colours, and leave every voxel where it is.

Their output is float32, but for whole numbers that stay whole, and that of ``round``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, Strict, model_validator

from medrail.config import did_you_mean
from medrail.errors import PrepareError
from medrail.prepare.grids import Params
from medrail.prepare.parameters import Foreground, Number, Parameters, PerChannel, Positive
from medrail.prepare.sampling import Line, as_halves
from medrail.prepare.thresholds import chunks, threshold_of
from medrail.types import Image, Voxels

# Centre and width in HU, as radiology departments commonly set them (radiopaedia.org, "Windowing (CT)").
WINDOW_PRESETS: dict[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "soft_tissue": (50.0, 400.0),
    "mediastinum": (50.0, 350.0),
}
_IMAGENET_MEAN = (
    0.485,
    0.456,
    0.406,
)  # of ImageNet's training pictures scaled to 0..1, as torchvision's weights expect
_IMAGENET_SD = (0.229, 0.224, 0.225)
_BT601 = (0.299, 0.587, 0.114)  # luma of red, green, blue: ITU-R BT.601-7, section 2.5.1
_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0}

Percentile = Annotated[float, Strict(), Field(ge=0, le=100)]


class _Intensity(Parameters):
    """Grey values need not be undone to bring a mask back, so the inverse leaves the image as it is."""

    spatial: ClassVar[bool] = False

    def invert(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        return image


class Window(_Intensity):
    """Map ``center_hu`` -+ ``width_hu`` / 2 linearly to 0..1 and clip (DICOM PS3.3 C.11.2.1.3.2, LINEAR_EXACT).

    ``preset`` names a centre and a width: lung, bone, brain, soft_tissue (or "soft tissue"), mediastinum. It is written
    out as numbers, so that a bundle says what it does.
    """

    kind: Literal["window"] = "window"
    center_hu: Number
    width_hu: Positive

    @model_validator(mode="before")
    @classmethod
    def _preset_as_numbers(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "preset" not in values:
            return values
        rest = {key: value for key, value in values.items() if key != "preset"}
        name = values["preset"]
        if "center_hu" in rest or "width_hu" in rest:
            raise ValueError("found preset beside center_hu or width_hu, needed one or the other")
        plain = re.sub(r"[\s_-]+", "_", name.strip().lower()) if isinstance(name, str) else ""
        if plain not in WINDOW_PRESETS:
            raise ValueError(f"unknown preset {name!r}. {did_you_mean(str(name), list(WINDOW_PRESETS))}")
        center_hu, width_hu = WINDOW_PRESETS[plain]
        return {**rest, "center_hu": center_hu, "width_hu": width_hu}

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        if image.unit not in ("HU", "arbitrary"):
            raise PrepareError(
                f"the image's unit is {image.unit}, so a window in HU has no meaning",
                needed="CT in HU",
                remedy="Use `clip_percentile` and `normalise: {method: minmax}` for pictures.",
            )
        return {"low_hu": self.center_hu - self.width_hu / 2, "width_hu": self.width_hu}

    def line(self, params: Params) -> Line:
        """The step as a function of one voxel."""
        return Line(params["low_hu"], 1 / params["width_hu"], 0.0, 1.0)

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        return replace(image, voxels=self.line(params)(image.voxels), unit="arbitrary")


class ClipPercentile(_Intensity):
    """Clip to the image's own percentiles ``low`` and ``high`` (over all channels); the scale stays.

    With ``foreground`` the percentiles are of the voxels above it only: ``true`` (above 0), a number, or ``otsu``.
    """

    kind: Literal["clip_percentile"] = "clip_percentile"
    low: Percentile = 0.5
    high: Percentile = 99.5
    foreground: Foreground = None

    @model_validator(mode="after")
    def _low_below_high(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        low, high = np.percentile(_foreground_of(image.voxels, self.foreground), [self.low, self.high])
        return {"low_value": float(low), "high_value": float(high)}

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        voxels = image.voxels.astype(np.float32)
        return image.with_voxels(np.clip(voxels, params["low_value"], params["high_value"], out=voxels))


class Normalise(_Intensity):
    """(x - mean) / std, channel by channel.

    ``zscore``: the image's own mean and standard deviation. ``minmax``: its own range to 0..1. ``custom``: the ``mean``
    and ``std`` given, a number or one a channel, in the units that the image has at this point. ``imagenet``: for
    networks pretrained on ImageNet, three channels in 0..1 (pictures of 8 or 16 bit are scaled to that first).
    With ``foreground`` (zscore, minmax) the figures are of the voxels above it: ``true`` (above 0), a number, ``otsu``.
    """

    kind: Literal["normalise"] = "normalise"
    method: Literal["imagenet", "zscore", "minmax", "custom"] = "zscore"
    mean: PerChannel = ()
    std: PerChannel = ()
    foreground: Foreground = None

    @model_validator(mode="after")
    def _numbers_where_needed(self) -> Self:
        custom = self.method == "custom"
        if custom and (not self.mean or not self.std):
            raise ValueError("method custom needs mean and std")
        if not custom and (self.mean or self.std):
            raise ValueError(f"method {self.method} takes no mean and std; they belong to method custom")
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise ValueError(f"mean has {len(self.mean)} numbers and std {len(self.std)}")
        if any(s <= 0 for s in self.std):
            raise ValueError(f"std {list(self.std)} is not above 0")
        if self.foreground is not None and self.method not in ("zscore", "minmax"):
            raise ValueError(f"foreground has no meaning for method {self.method}")
        return self

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        if self.method == "imagenet":
            return _imagenet(image)
        if self.method == "custom":
            return {"mean": _one_a_channel(self.mean, image), "std": _one_a_channel(self.std, image)}
        figures = _moments if self.method == "zscore" else _range
        chosen = [_foreground_of(channel, self.foreground) for channel in image.voxels]
        if any(values.min() == values.max() for values in chosen):
            raise PrepareError(
                f"a channel has the same value everywhere{' in its foreground' if self.foreground is not None else ''}",
                needed=f"varying values for `normalise: {{method: {self.method}}}`",
                remedy="Look at the image: it may be blank; or use `method: custom`.",
            )
        pairs = [figures(values) for values in chosen]
        return {"mean": [mean for mean, _ in pairs], "std": [spread for _, spread in pairs]}

    def line(self, params: Params) -> Line:
        """The step as a function of one voxel of the first channel."""
        return self.lines(params)[0]

    def lines(self, params: Params) -> list[Line]:
        """The step as a function of one voxel, for each channel."""
        return [Line(mean, 1 / std) for mean, std in zip(params["mean"], params["std"], strict=True)]

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        channels = [line(channel) for line, channel in zip(self.lines(params), image.voxels, strict=True)]
        return replace(image, voxels=np.stack(channels), unit="arbitrary")


class Round(_Intensity):
    """Keep the numbers in a compact type: ``float16`` (11 bits) or ``uint8`` (256 steps from 0 to 1).

    The last step of a pipeline: what is stored, trained on and served is then rounded in the same way, and takes half
    or a quarter of the room. What does not fit into float16 (beyond 65504) stays float32; whole numbers stay as they
    are.
    """

    LARGEST: ClassVar[float] = float(np.finfo(np.float16).max)
    STEPS: ClassVar[int] = 255

    kind: Literal["round"] = "round"
    to: Literal["float16", "uint8"] = "float16"

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        if image.voxels.dtype.kind != "f":
            return {"dtype": image.voxels.dtype.name}
        low, high = float(image.voxels.min()), float(image.voxels.max())
        if self.to == "uint8" and not -1e-3 <= low <= high <= 1 + 1e-3:
            raise PrepareError(
                f"the values reach from {low:g} to {high:g}",
                needed="0 to 1 for `round: {to: uint8}`",
                remedy="Put `window` (CT) or `normalise: {method: minmax}` before it, or use `to: float16`.",
            )
        fits = self.to == "uint8" or max(abs(low), abs(high)) <= self.LARGEST
        return {"dtype": self.to if fits else "float32"}

    def compact(self, image: Image, params: Params) -> tuple[Image, Line | None]:
        """The image in the compact type, and what makes its numbers of it (None: they are it)."""
        if params["dtype"] == "uint8" and image.voxels.dtype.kind == "f":
            steps = np.rint(np.clip(image.voxels, 0, 1) * np.float32(self.STEPS))
            return image.with_voxels(steps.astype(np.uint8)), Line(0.0, 1 / self.STEPS)
        if params["dtype"] == "float16":
            return image.with_voxels(as_halves(image.voxels)), None
        return image.with_voxels(image.voxels.astype(params["dtype"], copy=False)), None

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        compact, line = self.compact(image, params)
        return compact if line is None else replace(image, voxels=line(compact.voxels), unit="arbitrary")


class GreyToRgb(_Intensity):
    """One channel -> three equal ones; an image with three stays as it is."""

    kind: Literal["grey_to_rgb"] = "grey_to_rgb"

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        return _grey_or_rgb(image)

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        if params["channels"] == 3:
            return image
        return image.with_voxels(np.repeat(image.voxels, 3, axis=0))


class RgbToGrey(_Intensity):
    """Red, green, blue -> luma by ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B); an image with one channel stays.

    Pictures of 8 and 16 bit stay whole numbers, rounded half to even.
    """

    kind: Literal["rgb_to_grey"] = "rgb_to_grey"

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        return _grey_or_rgb(image)

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        picture = image.voxels.dtype.name == image.unit  # whole numbers stay whole, as in Pillow
        if params["channels"] == 1:
            return image if picture else image.with_voxels(image.voxels.astype(np.float32))
        red, green, blue = (w * image.voxels[c].astype(np.float32) for c, w in enumerate(map(np.float32, _BT601)))
        grey = (red + green + blue)[None]
        return image.with_voxels(np.rint(grey).astype(image.voxels.dtype) if picture else grey)


def _grey_or_rgb(image: Image) -> dict[str, Any]:
    if image.channels not in (1, 3):
        raise PrepareError(f"the image has {image.channels} channels", needed="one (grey) or three (red, green, blue)")
    return {"channels": image.channels}


def _imagenet(image: Image) -> dict[str, Any]:
    if image.channels != 3:
        raise PrepareError(
            f"the image has {image.channels} channels",
            needed="three for `normalise: {method: imagenet}`",
            remedy="Put `grey_to_rgb` before it.",
        )
    full = _FULL_SCALE.get(image.unit, 1.0)
    low, high = float(image.voxels.min()), float(image.voxels.max())
    if low < -1e-3 * full or high > 1.001 * full:
        raise PrepareError(
            f"the values reach from {low:g} to {high:g}",
            needed=f"0 to {full:g} for `normalise: {{method: imagenet}}`",
            remedy="Put `window` (CT) or `normalise: {method: minmax}` before it.",
        )
    return {"mean": [full * m for m in _IMAGENET_MEAN], "std": [full * s for s in _IMAGENET_SD]}


def _one_a_channel(numbers: tuple[float, ...], image: Image) -> list[float]:
    if len(numbers) not in (1, image.channels):
        raise PrepareError(
            f"the image has {image.channels} channels",
            needed=f"{len(numbers)}, as many as `normalise` was given numbers for",
            remedy="Give one number, or one a channel; `grey_to_rgb` and `rgb_to_grey` change the channels.",
        )
    return list(numbers) if len(numbers) == image.channels else list(numbers) * image.channels


def _foreground_of(values: Voxels, foreground: float | str | None) -> Voxels:
    if foreground is None:
        return values
    threshold = threshold_of(foreground, values)
    chosen: Voxels = values[values > threshold]
    if chosen.size == 0:
        raise PrepareError(
            f"no voxel is above the foreground's threshold {threshold:g}",
            needed="a foreground to take the figures from",
            remedy="Lower `foreground`, use `foreground: otsu`, or leave it out.",
        )
    return chosen


def _moments(values: Voxels) -> tuple[float, float]:
    """Mean and standard deviation in float64, without a float64 copy of the whole image."""
    mean = sum(float(part.sum(dtype=np.float64)) for part in chunks(values)) / values.size
    squares = sum(float(np.square(part.astype(np.float64) - mean).sum()) for part in chunks(values))
    return mean, (squares / values.size) ** 0.5


def _range(values: Voxels) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low, high - low
