"""Sliding-window inference: a network that sees one patch at a time answers for a whole image."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medrail.bundle.backend import Backend

OVERLAP = 0.5
SLICES_A_BATCH = 16
VOLUMES_A_BATCH = 1
_SIGMA_OF_PATCH = 0.125
_SMALLEST_WEIGHT = 1e-3


def sliding_window(
    voxels: npt.NDArray[np.float32], patch: Sequence[int], overlap: float, backend: Backend
) -> npt.NDArray[np.float32]:
    """Logits of a whole image from overlapping patches, blended with Gaussian weights.

    Patches stand at a fixed stride and the last one of each axis ends at the border; an image smaller than the patch
    is padded with zeros on both sides. Where patches overlap, the logits are averaged with weights that fall off from
    the patch's centre with a standard deviation of 1/8 of its size (nnU-Net: Isensee et al., Nature Methods 18, 2021,
    supplementary note 4; the same definition as MONAI's ``sliding_window_inference(mode="gaussian")``).

    Parameters
    ----------
    voxels:
        (C, D, H, W) float32.
    patch:
        (D, H, W): the backend gets (1, C, D, H, W). (H, W): each slice by itself, the backend gets (<= 16, C, H, W).
    overlap:
        Share of the patch that neighbours have in common, in [0, 1).

    Returns
    -------
    Logits (K, D, H, W), float32.
    """
    flat = len(patch) == 2
    size = (1, *patch) if flat else tuple(patch)
    grid = voxels.shape[1:]
    missing = [max(0, want - have) for want, have in zip(size, grid, strict=True)]
    before = [gap // 2 for gap in missing]
    padded = np.pad(voxels, [(0, 0), *((low, gap - low) for low, gap in zip(before, missing, strict=True))])
    corners = list(itertools.product(*_starts_of(padded.shape[1:], size, overlap)))
    weight = gaussian_weight(size)
    blended: npt.NDArray[np.float32] | None = None
    weights = np.zeros(padded.shape[1:], dtype=np.float32)
    batch = SLICES_A_BATCH if flat else VOLUMES_A_BATCH
    for first in range(0, len(corners), batch):
        boxes = [_box(corner, size) for corner in corners[first : first + batch]]
        patches = np.stack([padded[(slice(None), *box)] for box in boxes])
        logits = backend(patches[:, :, 0] if flat else patches)
        if flat:
            logits = logits[:, :, np.newaxis]
        if blended is None:
            blended = np.zeros((logits.shape[1], *padded.shape[1:]), dtype=np.float32)
        for box, answer in zip(boxes, logits, strict=True):
            blended[(slice(None), *box)] += answer * weight
            weights[box] += weight
    assert blended is not None  # noqa: S101 - there is always at least one corner
    blended /= weights
    inner = tuple(slice(low, low + length) for low, length in zip(before, grid, strict=True))
    return np.ascontiguousarray(blended[(slice(None), *inner)])


def calls_of(grid: Sequence[int], patch: Sequence[int], overlap: float) -> int:
    """How often ``sliding_window`` asks the backend for an image of this grid (D, H, W)."""
    size = (1, *patch) if len(patch) == 2 else tuple(patch)
    padded = [max(want, have) for want, have in zip(size, grid, strict=True)]
    batch = SLICES_A_BATCH if len(patch) == 2 else VOLUMES_A_BATCH
    return math.ceil(math.prod(len(starts) for starts in _starts_of(padded, size, overlap)) / batch)


@functools.lru_cache(maxsize=8)
def gaussian_weight(size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Weights of one patch: a separable Gaussian around its centre, 1 at the top and nowhere below 0.001."""
    weight = np.ones((), dtype=np.float32)
    for length in size:
        position = np.arange(length, dtype=np.float32) - (length - 1) / 2
        along = np.exp(-0.5 * (position / (_SIGMA_OF_PATCH * length)) ** 2)
        weight = np.multiply.outer(weight, along.astype(np.float32))
    floor = max(float(weight.min()), _SMALLEST_WEIGHT)
    weight = np.maximum(weight, floor).astype(np.float32)
    weight.setflags(write=False)
    return weight


def _starts_of(grid: Sequence[int], size: Sequence[int], overlap: float) -> list[list[int]]:
    return [_starts(length, want, overlap) for length, want in zip(grid, size, strict=True)]


def _starts(length: int, patch: int, overlap: float) -> list[int]:
    stride = max(1, int(patch * (1 - overlap)))
    last = length - patch
    return [*range(0, last, stride), last]


def _box(corner: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + length) for start, length in zip(corner, size, strict=True))
