"""An image -> a few kilobytes that its copies share: a small grey picture of it, or for a volume a small volume."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from medrail.errors import CaseError
from medrail.types import Image, Voxels

Values = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

# Samples along each axis of the thumbnail of a picture and of a volume: 2.3 and 4.1 kB.
SIDE_2D, SIDE_3D = 48, 16
# ITU-R BT.601, the weights with which programs turn colour pictures into grey ones.
_LUMA = (0.299, 0.587, 0.114)
# Of a thumbnail's values, in per cent: a few hot voxels must not leave one grey level for the rest.
_CLIPPED_PERCENT = 0.5
# Of the largest value: channels that differ by more make a colour; JPEG leaves grey pictures within a few levels.
_COLOURED = 0.1
# Of the largest value: what float32 sums may differ by.
_ROUNDING = 1e-5
# 95 % of a thumbnail within so few of 256 levels shows next to nothing.
_FLAT_LEVELS = 4
_TAG = "1"


@dataclass(frozen=True, eq=False)
class Signature:
    """What near duplicates are found by.

    thumbnail:
        uint8 (48, 48) for a picture, (16, 16, 16) for a volume: grey, squeezed to that size whatever the shape was,
        values stretched to 0..255.
    samples:
        The smallest number of samples along an in-plane axis of the image itself: below that of the thumbnail, the
        thumbnail shows nothing finer.
    colour:
        Per cent of a picture's area that has a colour; 0 for grey ones, however they are stored. Not compared, since a
        copy may be grey.
    """

    thumbnail: Bytes
    samples: int
    colour: int = 0

    @property
    def nearly_blank(self) -> bool:
        """Whether the thumbnail shows next to nothing, so that being alike means nothing."""
        low, high = np.percentile(self.thumbnail, (2.5, 97.5))
        return bool(high - low <= _FLAT_LEVELS)

    def to_text(self) -> str:
        """One line of ASCII without quotes or blanks, 1 to 6 kB."""
        packed = base64.b85encode(zlib.compress(self.thumbnail.tobytes(), 9)).decode("ascii")
        return f"{_TAG}:{self.thumbnail.ndim}:{self.samples}:{self.colour}:{packed}"

    @staticmethod
    def from_text(text: str) -> Signature:
        """The inverse of ``to_text``.

        Raises
        ------
        CaseError
            If the text is none that ``to_text`` wrote.
        """
        try:
            tag, axes, samples, colour, packed = text.split(":", 4)
            shape = _shape(int(axes))
            unpack = zlib.decompressobj()
            raw = unpack.decompress(base64.b85decode(packed), int(np.prod(shape)))  # bounded, whatever the text holds
            if tag != _TAG:
                raise ValueError
            return Signature(np.frombuffer(raw, np.uint8).reshape(shape), int(samples), int(colour))
        except (ValueError, KeyError, zlib.error, binascii.Error):
            raise CaseError(
                "is no signature of an image", needed=f"a text that begins with {_TAG}:2: or {_TAG}:3:"
            ) from None


def signature_of(image: Image) -> Signature | None:
    """An image -> its signature; None where all values are the same (blank images are all alike and say nothing)."""
    voxels = image.voxels
    planes = _planes(voxels) if voxels.shape[1] == 1 else _volume(voxels)
    low, high = np.percentile(planes, (_CLIPPED_PERCENT, 100 - _CLIPPED_PERCENT))
    noise = _ROUNDING * float(np.abs(planes).max())
    if high - low <= noise:
        low, high = planes.min(), planes.max()
    if high - low <= noise:
        return None
    scaled = np.clip((planes - low) * (255 / (high - low)), 0, 255)
    return Signature(np.rint(scaled).astype(np.uint8), int(min(voxels.shape[2:])), _colour(voxels))


def _shape(axes: int) -> tuple[int, ...]:
    return {2: (SIDE_2D,) * 2, 3: (SIDE_3D,) * 3}[axes]


def _planes(voxels: Voxels) -> Values:
    """(C, 1, H, W) -> (48, 48)."""
    return _shrunk(_grey(voxels[:, 0]), SIDE_2D)


def _volume(voxels: Voxels) -> Values:
    """(C, D, H, W) -> (16, 16, 16), slice by slice: a large volume is not held twice."""
    slices = np.stack([_shrunk(_grey(voxels[:, d]), SIDE_3D) for d in range(voxels.shape[1])])
    weights = resampling(voxels.shape[1], SIDE_3D)
    volume: Values = np.tensordot(weights, slices, axes=1).astype(np.float32)
    return volume


def _colour(voxels: Voxels) -> int:
    """Per cent of the cells of a colour picture whose channels differ by more than a tenth of the largest value."""
    if voxels.shape[:2] != (3, 1):
        return 0
    channels = np.stack([_shrunk(_grey(channel), SIDE_3D) for channel in voxels[:, None, 0]])
    coloured = np.ptp(channels, axis=0) > _COLOURED * max(float(np.abs(channels).max()), 1e-9)
    return round(100 * float(coloured.mean()))


def _grey(plane: Voxels) -> Values:
    """(C, H, W) -> (H, W) float32; red, green, blue as programs weight them, other channels alike."""
    values = plane.astype(np.float32)
    if not np.isfinite(values).all():
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if len(values) == 1:
        return np.asarray(values[0], np.float32)
    weights = np.array(_LUMA if len(values) == 3 else [1 / len(values)] * len(values), np.float32)
    grey: Values = np.tensordot(weights, values, axes=1)
    return grey


def _shrunk(plane: Values, side: int) -> Values:
    """The mean of what falls into each of ``side`` x ``side`` cells: turning the picture turns the result."""
    if min(plane.shape) >= side:
        return np.asarray(cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA), np.float32)
    rows, columns = resampling(plane.shape[0], side), resampling(plane.shape[1], side)
    return np.asarray(rows @ plane @ columns.T, np.float32)


@lru_cache(maxsize=256)
def resampling(size: int, side: int) -> Values:
    """(side, size): means over equal cells where that shrinks, linear interpolation between centres where it grows."""
    if size >= side:
        edges = np.arange(side + 1) * (size / side)
        starts, ends = edges[:-1, None], edges[1:, None]
        cells = np.arange(size)
        weights = np.clip(np.minimum(ends, cells + 1) - np.maximum(starts, cells), 0, None)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
    return sampling(size, np.asarray((np.arange(side) + 0.5) * (size / side) - 0.5, np.float64))


def sampling(size: int, at: npt.NDArray[np.float64]) -> Values:
    """(len(at), size): linear interpolation at fractional indices; outside, the outermost sample."""
    at = np.clip(at, 0, size - 1)
    lower = np.minimum(np.floor(at).astype(int), max(size - 2, 0))
    weights = np.zeros((len(at), size), np.float32)
    rows = np.arange(len(at))
    weights[rows, lower] = 1 - (at - lower)
    weights[rows, np.minimum(lower + 1, size - 1)] += (at - lower).astype(np.float32)
    return weights
