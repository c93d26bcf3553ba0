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
    scale, offset:
        (C,) float32: the network's input is ``float32(image) * scale + offset``.
    mask:
        (1, D, H, W) uint8 class indices, or None.
    """

    image: Voxels
    scale: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    mask: Voxels | None
    geometry: Geometry | None


def stored(store: Store, case_id: str) -> Stored:
    """One case.

    Raises
    ------
    RunError
        If the case is not prepared, or its files are broken, incomplete or of another pipeline.
    """
    image, mask = store.load(case_id)
    ones = np.ones(image.channels, np.float32)
    return Stored(image.voxels, ones, np.zeros_like(ones), None if mask is None else mask.voxels, image.geometry)
