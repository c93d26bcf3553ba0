"""Frames -> one grid: which lie where along the slice normal, what is wrong with that, and what is done about it.

The order along D is the order of the positions along the slice normal, never that of file names or InstanceNumber.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from medrail.errors import GeometryError
from medrail.read.dicom.defects import REFUSED, refusal
from medrail.read.dicom.plane import Plane, same_axes
from medrail.read.space import geometry_of
from medrail.types import Defect, FloatArray, Geometry, OnDefect

# Scanners round positions to 0.1 mm, each coordinate for itself; what lies further from an even grid is misplaced.
POSITION_TOLERANCE_MM = 0.15
POSITION_TOLERANCE_SPACINGS = 0.2
# Two slices nearer than this share of the usual gap (and 0.15 mm) lie at one position.
SAME_POSITION_SPACINGS, SAME_POSITION_MM = 0.05, 0.15
TILT_TOLERANCE_DEGREES = 0.5
LEAN_TOLERANCE_MM = 1.0  # of the last slice against the first, however long the stack is
# So many equal gaps in a row are a region scanned with another spacing, fewer are slices that were lost.
REGION_GAPS = 3
_BASE_SHARE = 1 / 3
# More slices than there are will not be made up by interpolation.
MOST_FILLED = 2


@dataclass(frozen=True, eq=False)
class Layout:
    """How frames become one grid.

    places:
        For each position along D, the numbers of the frames that lie there: one, or several where there are copies.
    along_mm:
        (places,): distance of each from the first along the normal.
    shifts_px:
        (places, 2): by how much each slice is moved along H and W to stand straight above the first; zeros where the
        stack is straight, or accepted as it is.
    targets_mm:
        (D,): where along the normal the slices of the result lie. Equal to ``along_mm`` where nothing is interpolated.
    defects:
        With what is done; the series is refused when one of the actions says so.
    """

    places: tuple[tuple[int, ...], ...]
    along_mm: FloatArray
    shifts_px: FloatArray
    targets_mm: FloatArray
    geometry: Geometry
    defects: tuple[Defect, ...] = ()

    @property
    def refused(self) -> tuple[Defect, ...]:
        return tuple(defect for defect in self.defects if defect.action == REFUSED)

    @property
    def canvas_px(self) -> tuple[int, int, int, int]:
        """Rows added before and after, columns added before and after, so that every shifted slice fits."""
        low, high = np.floor(self.shifts_px.min(axis=0)), np.ceil(self.shifts_px.max(axis=0))
        return int(-low[0]), int(high[0]), int(-low[1]), int(high[1])


def stack(planes: Sequence[Plane], thickness_mm: float | None = None) -> tuple[list[int], Geometry]:
    """The order of the frames of one flawless volume along D, and its grid; see ``lay_out``.

    Raises
    ------
    GeometryError
        Mixed orientation or spacing, or any defect of the stack.
    """
    if not all(same_axes(planes[0], plane) for plane in planes):
        raise GeometryError(
            "mixed orientation or spacing", needed="one orientation and one pixel spacing", remedy="Separate them."
        )
    layout = lay_out(planes, thickness_mm)
    if layout.refused:
        raise refusal(layout.refused)
    return [frames[0] for frames in layout.places], layout.geometry


def lay_out(planes: Sequence[Plane], thickness_mm: float | None = None, on_defect: OnDefect = "refuse") -> Layout:
    """Where the frames of one volume lie.

    Parameters
    ----------
    planes:
        One or more frames, all placed, of one orientation and pixel spacing, in any order.
    thickness_mm:
        How far a single frame extends along its normal; 1 mm when the file does not say.
    on_defect:
        What is done about defects; "refuse" marks them as refused and lays the frames out as "accept" does.
    """
    first, positions, along, places = in_order(planes)
    axes = np.array(first.orientation, dtype=np.float64)
    inward = np.column_stack([(positions - positions[0]) @ axes[3:], (positions - positions[0]) @ axes[:3]])
    gaps = np.diff(along)
    found = [*_duplicates(places, along)]
    spacing = _spacing(along, gaps) if len(along) > 1 else _Spacing(thickness_mm or 1.0, np.zeros(1), ())
    found += spacing.defects
    leaning, slope = _lean(along, inward)
    found += leaning
    repaired = on_defect == "resample"
    filled = repaired and (along[-1] - along[0]) / spacing.step_mm <= MOST_FILLED * len(along)
    straightened = repaired and bool(leaning)
    shifts = inward / np.array(first.spacing_mm) if straightened else np.zeros_like(inward)
    step_mm, targets = _targets(spacing, along, gaps, filled)
    step = step_mm * (first.normal + (0 if straightened else slope[0] * axes[3:] + slope[1] * axes[:3]))
    origin = positions[0] + np.floor(shifts.min(axis=0)) @ (
        np.array(first.spacing_mm)[:, None] * axes.reshape(2, 3)[::-1]
    )
    geometry = geometry_of(_columns(first, step), origin, "LPS")
    sparse = {name for name, _ in spacing.defects} if repaired and not filled else set[str]()
    defects = tuple(
        Defect(name, evidence, REFUSED if name in sparse else _action(name, on_defect, spacing, step_mm))
        for name, evidence in found
    )
    return Layout(places, along - along[0], shifts, targets, geometry, defects)


_Found = tuple[str, str]
_Places = tuple[tuple[int, ...], ...]


def in_order(planes: Sequence[Plane]) -> tuple[Plane, FloatArray, FloatArray, _Places]:
    """The reference frame; of each place its position (places, 3) and distance along the normal, and its frames."""
    positions = np.array([plane.position_lps_mm for plane in planes], dtype=np.float64)
    # The reference must not depend on the order in which files were found.
    first = planes[int(np.lexsort(positions.T)[0])]
    along = positions @ first.normal
    order = np.lexsort((*positions.T, along))
    positions, along = positions[order], along[order]
    gaps = np.diff(along)
    apart = gaps[gaps > 1e-4]
    # Not the median: where every slice has a copy beside it, half of the gaps are no gaps.
    usual = float(np.quantile(apart, 0.75)) if apart.size else 0.0
    begins = np.concatenate([[True], gaps >= min(SAME_POSITION_MM, max(SAME_POSITION_SPACINGS * usual, 1e-4))])
    starts = np.flatnonzero(begins)
    frames: list[int] = order.tolist()
    bounds = [*starts.tolist(), len(frames)]
    places = tuple(tuple(frames[begin:end]) for begin, end in pairwise(bounds))
    return first, positions[starts], along[starts], places


def _columns(plane: Plane, step: FloatArray) -> FloatArray:
    """(3, 3) LPS: D is the step between slices, H runs down the rows, W along the columns."""
    axes = np.array(plane.orientation, dtype=np.float64)
    rows_mm, columns_mm = plane.spacing_mm or (1.0, 1.0)
    return np.column_stack([step, axes[3:] * rows_mm, axes[:3] * columns_mm])


def _duplicates(places: _Places, along: FloatArray) -> list[_Found]:
    copies = sum(len(frames) - 1 for frames in places)
    if not copies:
        return []
    at = along[[index for index, frames in enumerate(places) if len(frames) > 1]]
    total = sum(map(len, places))
    return [("duplicate_slices", f"{copies} of {total} slices lie on another one, at {_list(at)} mm along the normal")]


@dataclass(frozen=True, eq=False)
class _Spacing:
    """The usual step, the slot of each place on an even grid with it, and what is wrong with the spacing."""

    step_mm: float
    slots: npt.NDArray[np.float64]
    defects: tuple[_Found, ...]

    @property
    def missing(self) -> int:
        return int(self.slots[-1]) + 1 - len(self.slots)


def _spacing(along: FloatArray, gaps: FloatArray) -> _Spacing:
    """``along``: sorted distances in mm along the normal, no two the same."""
    small = gaps[gaps < 1.5 * gaps.min()]
    common = small.size >= _BASE_SHARE * gaps.size
    base = float(np.median(small if common else gaps))
    counts = np.round(gaps / base)
    whole = bool((np.abs(gaps / base - counts) < POSITION_TOLERANCE_SPACINGS).all()) and counts.min() >= 1
    if common and whole and not _regions(counts):
        slots = np.concatenate([[0.0], np.cumsum(counts)])
        defects = _missing(along, gaps, counts, base) if counts.max() > 1 else []
        return _Spacing(base, slots, (*defects, *_uneven(along, gaps, slots, base)))
    slots = np.arange(along.size, dtype=np.float64)
    return _Spacing(base, slots, tuple(_uneven(along, gaps, slots, base)))


def _regions(counts: FloatArray) -> bool:
    """Whether one wider gap follows another often enough to be a spacing of its own."""
    run = 0
    for index in range(counts.size):
        same = index > 0 and counts[index] == counts[index - 1]
        run = (run + 1 if same else 1) if counts[index] > 1 else 0
        if run >= REGION_GAPS:
            return True
    return False


def _missing(along: FloatArray, gaps: FloatArray, counts: FloatArray, base: float) -> list[_Found]:
    holes = np.flatnonzero(counts > 1)
    total = int((counts[holes] - 1).sum())
    lost = np.concatenate(
        [along[hole] + gaps[hole] * np.arange(1, min(counts[hole], 8)) / counts[hole] for hole in holes[:8]]
    )
    evidence = (
        f"{total} at {holes.size} place(s), {_list(lost)} mm along the normal, where the gap is "
        f"{_list(gaps[holes])} instead of {base:.4g} mm"
    )
    return [("missing_slices", evidence)]


def _uneven(along: FloatArray, gaps: FloatArray, slots: FloatArray, base: float) -> list[_Found]:
    if along.size < 3:
        return []
    tolerance = min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_SPACINGS * base)
    slope, start = np.polyfit(slots, along, 1)
    off = np.abs(along - (start + slope * slots))
    if off.max() <= tolerance:
        return []
    worst = int(off.argmax())
    evidence = (
        f"gaps from {gaps.min():.4g} to {gaps.max():.4g} mm; a slice is {off[worst]:.3g} mm off an even grid, at "
        f"{along[worst]:.4g} mm along the normal (up to {tolerance:.3g} mm is rounding)"
    )
    return [("uneven_spacing", evidence)]


def _lean(along: FloatArray, inward: FloatArray) -> tuple[list[_Found], FloatArray]:
    """What is wrong; the sideways shift (H, W) in mm a mm along the normal, zeros where it is rounding."""
    upright = np.zeros(2)
    if len(along) < 2:
        return [], upright
    extent = along - along[0]
    if np.linalg.norm(inward - inward.mean(axis=0), axis=1).max() <= POSITION_TOLERANCE_MM:
        return [], upright
    slope = (inward[-1] - inward[0]) / extent[-1]
    beside = _beside(inward, extent, slope)
    if beside.max() > POSITION_TOLERANCE_MM:
        half = len(along) // 2
        # The median of slopes over half the stack: a few slices beside the line do not turn it.
        pairs = (inward[half:] - inward[: len(along) - half]) / (extent[half:] - extent[: len(along) - half])[:, None]
        slope = np.median(pairs, axis=0)
        beside = _beside(inward, extent, slope)
    found: list[_Found] = []
    tilt = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    leaning_mm = float(np.linalg.norm(slope) * extent[-1])
    if (tilt > TILT_TOLERANCE_DEGREES and leaning_mm > POSITION_TOLERANCE_MM) or leaning_mm > LEAN_TOLERANCE_MM:
        evidence = f"{tilt:.2g} degrees from the normal, {leaning_mm:.3g} mm from the first to the last"
        found.append(("gantry_tilt", f"each slice is shifted sideways, {evidence}"))
    off = np.flatnonzero(beside > POSITION_TOLERANCE_MM)
    if off.size:
        evidence = f"{off.size} lie up to {beside.max():.3g} mm beside the line of the others, at "
        found.append(("shifted_slices", f"{evidence}{_list(along[off])} mm along the normal"))
    elif np.linalg.norm(slope) * extent[-1] <= POSITION_TOLERANCE_MM:
        slope = upright
    return found, slope


def _beside(inward: FloatArray, extent: FloatArray, slope: FloatArray) -> FloatArray:
    rest = inward - extent[:, None] * slope
    distance: FloatArray = np.linalg.norm(rest - np.median(rest, axis=0), axis=1)
    return distance


def _targets(spacing: _Spacing, along: FloatArray, gaps: FloatArray, repaired: bool) -> tuple[float, FloatArray]:
    """The step along the normal, and where the result's slices lie."""
    if not gaps.size:
        return spacing.step_mm, np.zeros(1)
    extent = float(along[-1] - along[0])
    if not spacing.defects:
        return extent / gaps.size, along - along[0]
    if not repaired:
        return float(np.median(gaps)), along - along[0]
    count = max(round(extent / spacing.step_mm), 1)
    targets: FloatArray = np.linspace(0.0, extent, count + 1)
    return extent / count, targets


def _action(name: str, on_defect: OnDefect, spacing: _Spacing, step_mm: float) -> str:
    if on_defect == "refuse":
        return REFUSED
    resample, accept = {
        "missing_slices": (
            f"{spacing.missing} slices interpolated linearly",
            f"stacked every {step_mm:.4g} mm, the median step, as if none was missing",
        ),
        "uneven_spacing": (
            f"interpolated linearly onto a grid of {step_mm:.4g} mm",
            f"stacked every {step_mm:.4g} mm, the median step",
        ),
        "duplicate_slices": ("copies with equal pixels dropped", "copies with equal pixels dropped"),
        "gantry_tilt": ("resampled to an orthogonal grid", "stacked as it is, with a sheared affine"),
        "shifted_slices": ("moved back by linear interpolation", "stacked as it is"),
    }[name]
    return resample if on_defect == "resample" else accept


def _list(numbers: FloatArray) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers[:5]) + (", ..." if numbers.size > 5 else "")
