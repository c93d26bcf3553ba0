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

# Samples along each axis of the thumbnail of a picture and of a volume: 2.3 and 14 kB.
# With 16 a volume, the crop of one was found too roughly to be sure of it (docs/explanation/leaks.md).
SIDE_2D, SIDE_3D = 48, 24
# ITU-R BT.601, the weights with which programs turn colour pictures into grey ones.
_LUMA = (0.299, 0.587, 0.114)
# Of a thumbnail's values, in per cent: a few hot voxels must not leave one grey level for the rest.
_CLIPPED_PERCENT = 0.5
# Of the largest value: channels that differ by more make a colour; JPEG leaves grey pictures within a few levels.
_COLOURED = 0.1
# Of the largest value: what float32 sums may differ by.
_ROUNDING = 1e-5
# Padding: lines at an edge of which all but so much lies within so much of the image's range around one level; within
# the next few lines so much of a line must lie outside (dark air and plain background end gradually). At least so much
# of each axis is kept. A line is looked at in so many places, so many lines at once.
_EVEN, _PADDING, _STEP, _STEP_LINES, _KEPT = 0.03, 0.03, 0.5, 4, 0.25
_ACROSS, _ACROSS_2D, _AT_ONCE, _FEWEST = 64, 256, 16, 8
# 95 % of a thumbnail within so few of 256 levels shows next to nothing.
_FLAT_LEVELS = 4
_SAMPLED = 10_000
_TAG = "2"


@dataclass(frozen=True, eq=False)
class Signature:
    """What near duplicates are found by.

    thumbnail:
        uint8 (48, 48) for a picture, (24, 24, 24) for a volume: grey, without padding, squeezed to that size whatever
        the shape was, values stretched to 0..255.
    samples:
        The smallest number of samples along an in-plane axis of the image itself: below that of the thumbnail, the
        thumbnail shows nothing finer. Of a volume the smallest along any axis.
    colour:
        Per cent of a picture's area that has a colour; 0 for grey ones, however they are stored. Not compared, since a
        copy may be grey.
    inner:
        As ``thumbnail``, of the image without plain margins; None where it has none.
    """

    thumbnail: Bytes
    samples: int
    colour: int = 0
    inner: Bytes | None = None

    @property
    def nearly_blank(self) -> bool:
        """Whether the thumbnail shows next to nothing, so that being alike means nothing."""
        low, high = np.percentile(self.thumbnail, (2.5, 97.5))
        return bool(high - low <= _FLAT_LEVELS)

    def to_text(self) -> str:
        """One line of ASCII without quotes or blanks: 1 to 6 kB for a picture, to 36 kB for a volume."""
        packed = ":".join(_packed(one) for one in (self.thumbnail, self.inner) if one is not None)
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
            tag, axes, samples, colour, *packed = text.split(":", 5)
            outer, *inner = (_unpacked(one, _shape(int(axes))) for one in packed)
            if tag != _TAG:
                raise ValueError
            return Signature(outer, int(samples), int(colour), *inner)
        except (ValueError, KeyError, zlib.error, binascii.Error):
            raise CaseError(
                "is no signature of an image", needed=f"a text that begins with {_TAG}:2: or {_TAG}:3:"
            ) from None


def signature_of(image: Image) -> Signature | None:
    """An image -> its signature; None where all values are the same (blank images are all alike and say nothing)."""
    voxels = _unpadded(image.voxels, _STEP)
    thumbnail = _thumbnail(voxels)
    if thumbnail is None:
        return None
    within = _unpadded(voxels, 0.0)
    bare = None if within.shape == voxels.shape else _thumbnail(within)
    samples = min(voxels.shape[2:] if voxels.shape[1] == 1 else voxels.shape[1:])
    return Signature(thumbnail, int(samples), _colour(voxels), bare)


def _thumbnail(voxels: Voxels) -> Bytes | None:
    """None where all values are the same."""
    planes = _planes(voxels) if voxels.shape[1] == 1 else _volume(voxels)
    low, high = np.percentile(planes, (_CLIPPED_PERCENT, 100 - _CLIPPED_PERCENT))
    noise = _ROUNDING * float(np.abs(planes).max())
    if high - low <= noise:
        low, high = planes.min(), planes.max()
    if high - low <= noise:
        return None
    scaled = np.clip((planes - low) * (255 / (high - low)), 0, 255)
    return np.asarray(np.rint(scaled), np.uint8)


def _packed(thumbnail: Bytes) -> str:
    return base64.b85encode(zlib.compress(thumbnail.tobytes(), 9)).decode("ascii")


def _unpacked(text: str, shape: tuple[int, ...]) -> Bytes:
    raw = zlib.decompressobj().decompress(base64.b85decode(text), int(np.prod(shape)))  # bounded, whatever it holds
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _shape(axes: int) -> tuple[int, ...]:
    return {2: (SIDE_2D,) * 2, 3: (SIDE_3D,) * 3}[axes]


def _unpadded(voxels: Voxels, step: float) -> Voxels:
    """(C, D, H, W) without even borders that end with ``step`` of a line differing (padding), or with 0 any.

    A picture whose padding is left in is like all others that are padded. Of a plain margin copies may have lost a
    part, so that it is both kept and removed.
    """
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        return voxels
    sampled = voxels.reshape(-1)[:: max(1, voxels.size // _SAMPLED)]
    low, high = np.percentile(sampled, (_CLIPPED_PERCENT, 100 - _CLIPPED_PERCENT))
    tolerance = _PADDING * float(high - low)
    once = _trimmed(voxels, tolerance, step)
    # Again after a change: a border of one axis hides the step at that of another.
    return once if once.shape == voxels.shape else _trimmed(once, tolerance, step)


def _trimmed(voxels: Voxels, tolerance: float, step: float) -> Voxels:
    """One round of ``_unpadded`` over the axes."""
    for axis in (1, 2, 3):
        if voxels[0].size < _FEWEST * voxels.shape[axis]:
            continue  # a line of so few values is even by chance
        lines = _lines(voxels, axis)
        start, stop = _padded(lines, tolerance, step), _padded(lines[::-1], tolerance, step)
        size = voxels.shape[axis]
        if size - start - stop >= max(1, _KEPT * size):
            voxels = voxels[(slice(None),) * axis + (slice(start, size - stop),)]
    return voxels


def _lines(voxels: Voxels, axis: int) -> Voxels:
    """(C, D, H, W) -> a view (n, C, some places across the axis)."""
    across = _ACROSS if voxels.shape[1] > 1 else _ACROSS_2D
    steps = [1 if at in (0, axis) else -(-size // across) for at, size in enumerate(voxels.shape)]
    return np.moveaxis(voxels[tuple(slice(None, None, step) for step in steps)], axis, 0)


def _padded(lines: Voxels, tolerance: float, step: float) -> int:
    """Of ``_lines``, how many at the start are padding: even, and then ``step`` of a line is not."""
    count, channels = lines.shape[:2]
    level = np.median(lines[0].reshape(channels, -1), axis=-1)[:, None]
    if not _uneven(lines[:1], level, tolerance)[0] <= _EVEN:
        return 0
    start = 0
    while start < count:  # a few at a time: mostly the padding ends soon
        other = _uneven(lines[start : start + _AT_ONCE], level, tolerance)
        uneven = np.flatnonzero(other > _EVEN)
        if uneven.size:
            first = start + int(uneven[0])
            near = _uneven(lines[first : first + _STEP_LINES], level, tolerance)
            return first if near.max() >= step else 0
        start += _AT_ONCE
    return 0


def _uneven(lines: Voxels, level: Values, tolerance: float) -> Values:
    """(n, C, ...) -> (n,): the share of each line that is not within the tolerance of the level."""
    values = lines.reshape(lines.shape[0], lines.shape[1], -1).astype(np.float32)
    share: Values = (np.abs(values - level) > tolerance).any(axis=1).mean(axis=1)
    return share


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
