"""What positions do not show: slices of several reconstructions, phases without a number, every second slice lost."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from medrail.read.dicom.defects import REFUSED
from medrail.read.dicom.group import RECONSTRUCTION, Group, told_by_time
from medrail.read.dicom.stack import Layout
from medrail.types import Defect, OnDefect

_SEVERAL_TIMES = (2, 3, 4)
_WHOLE = 0.02  # how near the gap must be to a multiple of what the header says, as a share of it
_FAR_THICKNESSES = 4.0
_CHANGES_OF_A_BLOCK = 2  # there and back again: a part of the scan that was made otherwise
_STACKED = frozenset({"CT", "MR"})


def doubts(group: Group, layout: Layout | None, on_defect: OnDefect, alone: bool) -> Iterator[Defect]:
    """For a group of frames with positions; ``layout`` is where they lie.

    ``alone``: the series holds no other orientation, size or localiser, as surveys do.
    """
    if layout is None:
        return
    kinds = sum(_alternates(group, layout, index) for index in RECONSTRUCTION)
    if kinds:
        action = "stacked as it is" if on_defect == "accept" else REFUSED
        evidence = "convolution kernel, tube voltage or series number go to and fro from slice to slice"
        yield Defect("mixed_reconstruction", evidence, action)
    count = told_by_time(group)
    if count:
        evidence = f"{count} slices at each of {len(layout.places)} positions, which only their times tell apart"
        yield Defect("phases_by_time_only", evidence, REFUSED if on_defect == "refuse" else "taken for copies")
    if alone:
        yield from _sparse(group, layout)


def _alternates(group: Group, layout: Layout, index: int) -> bool:
    """Whether a hint's values change more often along the normal than in one run each; runs may be parts of a scan."""
    hints = [group.frames[place[0]].plane.hints for place in layout.places]
    values = [_comparable(hint[index]) for hint in hints if len(hint) > index and hint[index]]
    changes = sum(one != other for one, other in pairwise(values))
    return changes > max(len(set(values)) - 1, _CHANGES_OF_A_BLOCK) if values else False


def _comparable(text: str) -> str | float:
    """Numbers as numbers: 120 and 120.0 are one voltage."""
    try:
        return float(text)
    except ValueError:
        return text


def _sparse(group: Group, layout: Layout) -> Iterator[Defect]:
    """Gaps that are even, and several times as wide as the header says; two slices far from one another."""
    first, count = group.first, len(layout.places)
    if count < 2 or layout.defects or first.modality not in _STACKED or len(first.planes) > 1:
        return
    gap = float(layout.along_mm[-1]) / (count - 1)
    times = round(gap / first.between_mm) if first.between_mm else 0
    if first.between_mm and times in _SEVERAL_TIMES and abs(gap / first.between_mm - times) <= _WHOLE * times:
        evidence = f"slices lie {gap:.4g} mm apart, and their headers say {first.between_mm:.4g} mm"
    elif count == 2 and not first.between_mm and first.thickness_mm and gap > _FAR_THICKNESSES * first.thickness_mm:
        evidence = f"two slices of {first.thickness_mm:.4g} mm lie {gap:.4g} mm apart"
    else:
        return
    yield Defect("sparse_slices", f"{evidence}: those between may be lost", "read as it is")
