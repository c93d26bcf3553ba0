"""Thumbnails -> cosine spectra, where turning and flipping are a change of signs and axes, and cropping is a matrix.

A flip of an axis multiplies coefficient *u* of the discrete cosine transform along it by (-1)^u, exactly; turning by 90
degrees exchanges two axes and flips one. So all symmetric copies are compared without making any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.cases.near.signature import Values, sampling

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Symmetry:
    """Axes put into another order, then some of them flipped; ``name`` says it to a person."""

    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    name: str

    def of_pixels(self, thumbnails: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(N, n, n[, n]) -> the same, turned."""
        turned = thumbnails.transpose(0, *(axis + 1 for axis in self.axes))
        return np.flip(turned, tuple(axis + 1 for axis, flipped in enumerate(self.flips) if flipped))

    def of_spectra(self, spectra: Values) -> Values:
        """As ``of_pixels``, for (N, k, k[, k]) coefficients."""
        return spectra.transpose(0, *(axis + 1 for axis in self.axes)) * self._signs(spectra.shape[1])

    @lru_cache(maxsize=512)  # noqa: B019 (frozen, few, and they live as long as the program)
    def _signs(self, k: int) -> Values:
        signs = np.ones((k,) * len(self.axes), np.float32)
        for axis, flipped in enumerate(self.flips):
            if flipped:
                along = [1] * len(self.axes)
                along[axis] = k
                signs = signs * ((-1.0) ** np.arange(k, dtype=np.float32)).reshape(along)
        return signs


_NAMES_2D: dict[tuple[tuple[int, ...], tuple[bool, ...]], str] = {
    ((0, 1), (False, False)): "same orientation",
    ((0, 1), (False, True)): "mirrored left to right",
    ((0, 1), (True, False)): "mirrored top to bottom",
    ((0, 1), (True, True)): "rotated by 180 degrees",
    ((1, 0), (True, False)): "rotated by 90 degrees",
    ((1, 0), (False, True)): "rotated by 90 degrees",
    ((1, 0), (False, False)): "rotated by 90 degrees and mirrored",
    ((1, 0), (True, True)): "rotated by 90 degrees and mirrored",
}


@lru_cache(maxsize=2)
def symmetries(axes: int) -> tuple[Symmetry, ...]:
    """The 8 of a square, or the 48 of a cube; the first one changes nothing."""
    found = []
    for order in permutations(range(axes)):
        for flips in product((False, True), repeat=axes):
            found.append(Symmetry(order, flips, _NAMES_2D[order, flips] if axes == 2 else _name_3d(order, flips)))
    return tuple(found)


def _name_3d(order: tuple[int, ...], flips: tuple[bool, ...]) -> str:
    moved = "axes in another order" if order != (0, 1, 2) else ""
    flipped = f"{sum(flips)} {'axis' if sum(flips) == 1 else 'axes'} flipped" if any(flips) else ""
    return " and ".join(filter(None, (moved, flipped))) or "same orientation"


@lru_cache(maxsize=32)
def cosines(k: int, side: int) -> Values:
    """(k, side): the first k functions of the orthonormal discrete cosine transform, type II."""
    matrix = np.cos(np.pi * np.arange(k)[:, None] * (np.arange(side) + 0.5) / side) * np.sqrt(2 / side)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix, np.float32)


@lru_cache(maxsize=32)
def emphasis(k: int, axes: int, power: float) -> Values:
    """(k, k[, k]): the distance from the origin to a power; 0 at the origin, so that brightness counts nothing.

    Spectra of natural pictures fall with the frequency; without it, every chest would be like every other.
    """
    squares = np.arange(k, dtype=np.float64) ** 2
    total = sum(np.meshgrid(*([squares] * axes), indexing="ij"), np.zeros((k,) * axes))
    return np.asarray(np.sqrt(total) ** power, np.float32)


@lru_cache(maxsize=256)
def cropped_cosines(k: int, side: int, start: float, end: float) -> Values:
    """(k, side): from the samples of an axis to the spectrum of its part between two fractions of its length."""
    at = (start + (end - start) * (np.arange(side) + 0.5) / side) * side - 0.5
    return cosines(k, side) @ sampling(side, at)


def spectra(thumbnails: Values, matrices: Sequence[Values], power: float) -> Values:
    """(N, n, n[, n]) -> (N, k, k[, k]), a matrix an axis; each of unit length (all 0 where there is no structure)."""
    result = thumbnails
    for axis, matrix in enumerate(matrices, start=1):
        result = np.moveaxis(np.tensordot(result, matrix, axes=(axis, 1)), -1, axis)
    return unit(result * emphasis(matrices[0].shape[0], len(matrices), power))


def ranks(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(N, ...) -> of each value, how many per 255 of its thumbnail's are darker (equal ones count half)."""
    flat = thumbnails.reshape(len(thumbnails), -1)
    ranked = np.empty_like(flat)
    for row, values in enumerate(flat):
        counts = np.bincount(values, minlength=256)
        below = np.cumsum(counts) - counts / 2
        ranked[row] = np.rint(below * (255 / values.size)).astype(np.uint8)[values]
    return ranked.reshape(thumbnails.shape)


def unit(values: Values) -> Values:
    """Each of (N, ...) divided by its length."""
    lengths = np.sqrt((values * values).sum(axis=tuple(range(1, values.ndim)), keepdims=True))
    return np.asarray(values / np.maximum(lengths, 1e-6), np.float32)
