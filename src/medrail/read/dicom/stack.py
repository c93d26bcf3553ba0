"""Frames -> one grid, or a named refusal with its evidence.

The order along D is the order of the positions along the slice normal, never that of file names or InstanceNumber.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from medrail.errors import GeometryError
from medrail.read.dicom.header import Plane, direction_name
from medrail.read.space import geometry_of
from medrail.types import FloatArray, Geometry

# Scanners round positions to 0.1 mm; what lies further from an even grid would be shown at the wrong place.
POSITION_TOLERANCE_MM = 0.1
POSITION_TOLERANCE_SPACINGS = 0.2
SAME_POSITION_MM = 0.005
TILT_TOLERANCE_DEGREES = 0.5
ORIENTATION_TOLERANCE = 1e-3
SPACING_TOLERANCE_MM = 1e-3

_RESORT = "Export the series again; if that is how it was scanned, convert it with a tool made for that."


def stack(planes: Sequence[Plane], thickness_mm: float | None = None) -> tuple[list[int], Geometry]:
    """Where the frames of one volume lie.

    Parameters
    ----------
    planes:
        One or more frames, all of them placed, in any order.
    thickness_mm:
        How far a single frame extends along its normal; 1 mm when the file does not say.

    Returns
    -------
    The order of the frames along D (increasing along row direction x column direction), and the grid (D, H, W).

    Raises
    ------
    GeometryError
        Mixed orientation or spacing, duplicate positions, missing slices, uneven spacing, gantry tilt.
    """
    _same_axes(planes)
    first = planes[0]
    positions = np.array([plane.position_lps_mm for plane in planes], dtype=np.float64)
    along = positions @ first.normal
    order = [int(index) for index in np.argsort(along, kind="stable")]
    positions, along = positions[order], along[order]
    if len(planes) > 1:
        _even(along)
        step = _step(positions, along, first.normal)
    else:
        step = first.normal * (thickness_mm or 1.0)
    return order, geometry_of(_columns(first, step), positions[0], "LPS")


def _columns(plane: Plane, step: FloatArray) -> FloatArray:
    """(3, 3) LPS: D is the step between slices, H runs down the rows, W along the columns."""
    axes = np.array(plane.orientation, dtype=np.float64)
    rows_mm, columns_mm = plane.spacing_mm or (1.0, 1.0)
    return np.column_stack([step, axes[3:] * rows_mm, axes[:3] * columns_mm])


def same_axes(a: Plane, b: Plane) -> bool:
    """Whether two frames have the same orientation and pixel spacing."""
    if a.orientation is None or b.orientation is None or a.spacing_mm is None or b.spacing_mm is None:
        return a.orientation == b.orientation and a.spacing_mm == b.spacing_mm
    return bool(
        np.allclose(a.orientation, b.orientation, atol=ORIENTATION_TOLERANCE)
        and np.allclose(a.spacing_mm, b.spacing_mm, atol=SPACING_TOLERANCE_MM)
    )


def _same_axes(planes: Sequence[Plane]) -> None:
    if all(same_axes(planes[0], plane) for plane in planes):
        return
    counts = Counter(f"{direction_name(plane)} {_spacing_text(plane)}" for plane in planes)
    raise GeometryError(
        f"mixed orientation or spacing: {', '.join(f'{n} frames {name}' for name, n in counts.items())}",
        needed="one orientation and one pixel spacing",
        remedy="Remove the localiser or the frames that do not belong to the volume.",
    )


def _spacing_text(plane: Plane) -> str:
    axes = ", ".join(f"{cosine:.3f}" for cosine in plane.orientation or ())
    return f"[{axes}] {' x '.join(f'{size:g}' for size in plane.spacing_mm or ())} mm"


def _even(along: FloatArray) -> None:
    """``along``: sorted positions in mm along the normal."""
    gaps = np.diff(along)
    same = np.flatnonzero(gaps < SAME_POSITION_MM)
    if same.size:
        raise GeometryError(
            f"duplicate positions: {same.size} of {along.size} slices lie on another one, at {_places(along[same])}",
            needed="one slice a position",
            remedy="Remove copies, or separate the phases, echoes or time points into folders.",
        )
    spacing = float(gaps.min())
    missing = np.flatnonzero(gaps > 1.5 * spacing)
    whole = np.abs(gaps / spacing - np.round(gaps / spacing)) < POSITION_TOLERANCE_SPACINGS
    if missing.size and whole.all():
        count = int(np.round(gaps[missing] / spacing).sum()) - missing.size
        raise GeometryError(
            f"missing slices: {count} at {missing.size} place(s), after {_places(along[missing])}, "
            f"where the gap is {_list(gaps[missing])} instead of {spacing:.3g} mm",
            needed="a slice at every position",
            remedy="Copy the missing files from the archive.",
        )
    even = np.linspace(along[0], along[-1], along.size)
    tolerance = min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_SPACINGS * float(np.median(gaps)))
    off = np.abs(along - even)
    if off.max() > tolerance:
        raise GeometryError(
            f"uneven spacing: gaps from {gaps.min():.4g} to {gaps.max():.4g} mm put a slice {off.max():.3g} mm off its "
            f"place, at {_places(along[[int(off.argmax())]])}",
            needed=f"even spacing within {tolerance:.3g} mm",
            remedy=_RESORT,
        )


def _step(positions: FloatArray, along: FloatArray, normal: FloatArray) -> FloatArray:
    """From one slice to the next, in mm LPS.

    Along the normal where every slice is within rounding of it; else along the line of the positions (small tilts).
    """
    count = len(positions) - 1
    step: FloatArray = normal * float(along[-1] - along[0]) / count
    if _sideways(positions, step, normal) > POSITION_TOLERANCE_MM:
        step = (positions[-1] - positions[0]) / count
        _straight(positions, step, normal)
    return step


def _sideways(positions: FloatArray, step: FloatArray, normal: FloatArray) -> float:
    off = positions - (positions[0] + np.arange(len(positions))[:, None] * step)
    return float(np.linalg.norm(off - np.outer(off @ normal, normal), axis=1).max())


def _straight(positions: FloatArray, step: FloatArray, normal: FloatArray) -> None:
    cosine = float(step @ normal) / float(np.linalg.norm(step))
    tilt = float(np.degrees(np.arccos(min(cosine, 1.0))))
    if tilt > TILT_TOLERANCE_DEGREES:
        raise GeometryError(
            f"gantry tilt: each slice is shifted sideways, {tilt:.1f} degrees from the normal",
            needed="slices stacked along their normal",
            remedy="Resample it with a converter that corrects tilt.",
        )
    sideways = _sideways(positions, step, normal)
    if sideways > POSITION_TOLERANCE_MM:
        raise GeometryError(
            f"shifted slices: one lies {sideways:.3g} mm beside the line of the others",
            needed="slices stacked along one line",
            remedy=_RESORT,
        )


def _places(along: FloatArray) -> str:
    return f"{_list(along)} mm along the normal"


def _list(numbers: FloatArray) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers[:5]) + (", ..." if numbers.size > 5 else "")
