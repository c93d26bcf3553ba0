"""Stored: one prepared case as it lies in the store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medrail.prepare import Store
from medrail.types import Geometry, Voxels


@dataclass(frozen=True)
class Stored:
    """What the samples need of a case.

    image:
        (C, D, H, W) in its compact type; a ``numpy.memmap`` where it is not in memory yet.
    subtract, multiply:
        (C,) float32: the network's input is ``(image - subtract) * multiply``.
    mask:
        (1, D, H, W) uint8 class indices, or None.
    """

    image: Voxels
    subtract: npt.NDArray[np.float32]
    multiply: npt.NDArray[np.float32]
    mask: Voxels | None
    geometry: Geometry | None


def stored(store: Store, case_id: str) -> Stored:
    """One case.

    Raises
    ------
    RunError
        If the case is not prepared, or its files are broken, incomplete or of another pipeline.
    """
    prepared, mask = store.stored(case_id, mapped=True)
    image, count = prepared.image, prepared.image.channels
    subtract, multiply = np.zeros(count, np.float32), np.ones(count, np.float32)
    if prepared.lines:
        subtract = np.array([line.subtract for line in prepared.lines], np.float32)
        multiply = np.array([line.multiply for line in prepared.lines], np.float32)
    return Stored(image.voxels, subtract, multiply, None if mask is None else mask.voxels, image.geometry)
