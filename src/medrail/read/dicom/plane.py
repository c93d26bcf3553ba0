"""One frame of a DICOM object: where it lies, what its numbers mean, and what tells it from others at its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrail.read.dicom.elements import Numbers
from medrail.types import FloatArray

ORIENTATION_TOLERANCE = 1e-3
SPACING_TOLERANCE_MM = 1e-3


@dataclass(frozen=True, slots=True)
class Plane:
    """One frame: its position, its axes, and how its stored values become real ones.

    position_lps_mm:
        (x, y, z) of the centre of the first pixel, LPS (C.7.6.2.1.1); None when the file does not say.
    orientation:
        Unit vectors of increasing column and of increasing row, six numbers.
    spacing_mm:
        Between rows, between columns (10.7.1.3): along H, along W.
    part:
        What kind of picture it is, in words that never mix in one volume: "ORIGINAL PRIMARY M", "LOCALIZER", ...
    marks:
        Stack, echo, temporal position, b-value: frames that differ in one of them are of different volumes.
    hints:
        Attributes that tell volumes apart only where several frames lie at each position (acquisition number, ...).
    times:
        Trigger time in ms, acquisition and content time in s; None where unknown. They order phases, nothing else.
    """

    position_lps_mm: Numbers | None = None
    orientation: Numbers | None = None
    spacing_mm: Numbers | None = None
    slope: float = 1.0
    intercept: float = 0.0
    part: str = ""
    marks: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    times: tuple[float | None, ...] = ()

    @property
    def placed(self) -> bool:
        return None not in (self.position_lps_mm, self.orientation, self.spacing_mm)

    @property
    def normal(self) -> FloatArray:
        """Row direction x column direction, LPS."""
        axes = np.array(self.orientation, dtype=np.float64)
        normal: FloatArray = np.cross(axes[:3], axes[3:])
        return normal


def direction_name(plane: Plane) -> str:
    """sagittal, coronal or axial within about 10 degrees, else oblique."""
    cosines = np.abs(plane.normal)
    name = ("sagittal", "coronal", "axial")[int(np.argmax(cosines))]
    return name if cosines.max() > 0.985 else "oblique"


def same_orientation(a: Plane, b: Plane) -> bool:
    """Whether two frames have the same axes, within the rounding of direction cosines."""
    return _close(a.orientation, b.orientation, ORIENTATION_TOLERANCE)


def same_spacing(a: Plane, b: Plane) -> bool:
    """Whether two frames have pixels of the same size, within its rounding."""
    return _close(a.spacing_mm, b.spacing_mm, SPACING_TOLERANCE_MM)


def same_axes(a: Plane, b: Plane) -> bool:
    """Whether two frames have the same orientation and pixel spacing."""
    return same_orientation(a, b) and same_spacing(a, b)


def _close(a: Numbers | None, b: Numbers | None, tolerance: float) -> bool:
    if a == b:
        return True
    if a is None or b is None:
        return False
    return all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))
