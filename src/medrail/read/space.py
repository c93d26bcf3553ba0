"""From a file's own frame (LPS, RAS or LAS) to a ``Geometry`` in RAS+ mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from medrail.errors import GeometryError
from medrail.types import FloatArray, Geometry

Frame = Literal["LPS", "RAS", "LAS"]
_TO_RAS: dict[Frame, tuple[float, float, float]] = {"LPS": (-1, -1, 1), "RAS": (1, 1, 1), "LAS": (-1, 1, 1)}


def geometry_of(columns_mm: FloatArray, origin_mm: Sequence[float] | FloatArray, frame: Frame) -> Geometry:
    """A grid from its axes and its first voxel's centre.

    Parameters
    ----------
    columns_mm:
        (3, 3): column *a* is the step in mm from one voxel to the next along array axis *a*, in the order (D, H, W).
    origin_mm:
        (3,): the centre of voxel (0, 0, 0).
    frame:
        What the file's x, y and z point to. LPS (DICOM, ITK): Left, Posterior, Superior.

    Raises
    ------
    GeometryError
        If that is no grid (zero or dependent axes, non-finite numbers).
    """
    affine = np.eye(4)
    signs = np.array(_TO_RAS[frame])
    affine[:3, :3] = np.asarray(columns_mm, dtype=np.float64) * signs[:, None]
    affine[:3, 3] = np.asarray(origin_mm, dtype=np.float64) * signs
    try:
        return Geometry(affine)
    except GeometryError as error:
        raise GeometryError(
            f"its header describes no grid: {error.found}",
            needed=error.needed,
            remedy="Repair the header, or convert the image again from its source.",
        ) from None
