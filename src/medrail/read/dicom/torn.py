"""Series whose slices are of several patients, kinds, frames of reference or units, so that no part is whole.

Frames that differ in one of these never share a volume (``group``). Parts that lie at the same positions, as magnitude
and phase do, are volumes. Where one part lies in the gaps of another or goes on where it ends, each is a piece of a
volume, and its own positions do not show that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from medrail.read.dicom.defects import REFUSED
from medrail.read.dicom.group import Group, series_of
from medrail.read.dicom.header import Header
from medrail.read.dicom.plane import Plane, same_axes
from medrail.read.dicom.stack import in_order, lay_out
from medrail.types import Defect, OnDefect

TORN = frozenset({"mixed_patients", "mixed_image_type", "mixed_frame", "mixed_values"})
# Of two slices: so many times their thickness apart they go on from one another; of more: so many usual gaps.
_NEAR_THICKNESSES, _NEAR_GAPS = 2.0, 1.5

_Aspect = Callable[[Group], Hashable]


def torn(groups: Sequence[Group], on_defect: OnDefect) -> dict[int, tuple[Defect, ...]]:
    """By ``id`` of the group what it should have in common with the rest of its series and has not."""
    by_series: dict[str, list[Group]] = {}
    for group in groups:
        if group.placed and group.planes[0].part != "LOCALIZER":
            by_series.setdefault(series_of(group.first), []).append(group)
    action = "set apart as series of their own" if on_defect == "accept" else REFUSED
    return {
        id(group): tuple(Defect(name, evidence, action) for name, evidence in found.items())
        for series in by_series.values()
        if len(series) > 1
        for group, found in _of_series(series)
    }


def _of_series(series: Sequence[Group]) -> Iterator[tuple[Group, dict[str, str]]]:
    aspects = {id(group): {name: aspect(group) for name, aspect in _ASPECTS.items()} for group in series}
    kinds = {tuple(found.values()) for found in aspects.values()}
    if len(kinds) < 2:
        return
    grids = _grids(series, aspects)
    for grid, members in grids:
        partner = _other_piece(grid, [one for one, _ in grids], aspects)
        own = aspects[id(grid)]
        pieces = [grid, partner] if partner else []
        differing = {name for name in own if partner and own[name] != aspects[id(partner)][name]}
        found = {name: _evidence(name, pieces) for name in _ASPECTS if name in differing}
        if "mixed_patients" in differing or _strangers(grid, series, aspects):
            strangers = [one for one in series if aspects[id(one)]["mixed_patients"] != own["mixed_patients"]]
            found = {"mixed_patients": _evidence("mixed_patients", [grid, *strangers]), **found}
        for member in members:
            yield member, found


def _grids(series: Sequence[Group], aspects: Mapping[int, Mapping[str, Hashable]]) -> list[tuple[Group, list[Group]]]:
    """Groups that are alike and lie at the same positions, as time points do, under the first of them."""
    found: dict[Hashable, tuple[Group, list[Group]]] = {}
    for group in series:
        places = frozenset(tuple(round(x, 2) for x in plane.position_lps_mm or ()) for plane in group.planes)
        key = (*aspects[id(group)].values(), group.marks[1:], _object_of(group), group.family, places)
        found.setdefault(key, (group, []))[1].append(group)
    return list(found.values())


def _strangers(group: Group, series: Sequence[Group], aspects: Mapping[int, Mapping[str, Hashable]]) -> bool:
    """Whether slices of another patient or study lie in the same folder, at whatever positions."""
    if not group.first.series_uid:
        return False  # a folder may well hold several
    own = aspects[id(group)]["mixed_patients"]
    others = [other for other in series if aspects[id(other)]["mixed_patients"] != own]
    folders = {header.path.parent for header in group.headers} if others else set[Path]()
    return any(header.path.parent in folders for other in others for header in other.headers)


def _other_piece(group: Group, grids: Sequence[Group], aspects: Mapping[int, Mapping[str, Hashable]]) -> Group | None:
    """The nearest group that differs in an aspect and goes on from this one, or lies in its gaps."""
    own, first = tuple(aspects[id(group)].values()), group.planes[0]
    others = [
        other
        for other in grids
        if tuple(aspects[id(other)].values()) != own
        and other.marks[1:] == group.marks[1:]
        and _object_of(other) == _object_of(group)
        and (other.first.rows, other.first.columns) == (group.first.rows, group.first.columns)
        and same_axes(other.planes[0], first)
    ]
    start = _along(group.planes, first).min()
    others.sort(key=lambda other: abs(float(_along(other.planes, first).min() - start)))
    return next((other for other in others if _are_pieces(group, other)), None)


def _are_pieces(one: Group, other: Group) -> bool:
    """Whether two groups lie at different positions of one even grid, and next to one another."""
    planes, count = [*one.planes, *other.planes], len(one.frames)
    *_, along, places = in_order(planes)
    if any(min(place) < count <= max(place) for place in places):
        return False  # a common position: volumes of their own
    own = [min(place) < count for place in places]
    apart = min(float(along[at + 1] - along[at]) for at in range(len(own) - 1) if own[at] != own[at + 1])
    if len(places) == 2:
        return apart <= _NEAR_THICKNESSES * (one.first.thickness_mm or 0.0)
    names = {defect.name for defect in lay_out(planes).defects}
    usual = float(np.median(np.diff(along)))
    return apart <= _NEAR_GAPS * usual and not names & {"uneven_spacing", "shifted_slices"}


def _along(planes: Sequence[Plane], first: Plane) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([plane.position_lps_mm for plane in planes], dtype=np.float64) @ first.normal


def _object_of(group: Group) -> str:
    """A multi-frame object is whole by itself, whatever its neighbours are."""
    header = group.first
    return header.concatenation_uid or header.instance_uid or str(header.path) if len(header.planes) > 1 else ""


def _evidence(name: str, groups: Sequence[Group]) -> str:
    """Numbers only: what a header says may be a person's words."""
    slices = f"{len(groups[0].frames)} slices, and {sum(len(group.frames) for group in groups[1:])}"
    if name == "mixed_patients":
        patients = len({_patient(group) for group in groups})
        studies = len({_said(group, lambda header: header.study_key) for group in groups})
        return f"{slices} of the same series: {patients} patient(s) and {studies} study(ies) in all"
    return f"{slices} {_WORDS[name]}, beside or between them on the same grid"


def _said(group: Group, say: Callable[[Header], str]) -> str:
    return max(map(say, group.headers))


def _patient(group: Group) -> tuple[str, str]:
    return _said(group, lambda header: header.patient_key), _said(group, lambda header: header.issuer_key)


def _values_of(group: Group) -> Hashable:
    first = group.first
    unit = first.activity.declared if first.activity else ""
    stored = first.bits_allocated, first.signed, first.samples, first.photometric
    return (first.rescaled, first.rescale_type, unit, *stored)


_WORDS = {
    "mixed_image_type": "of another image type or object class",
    "mixed_frame": "on another frame of reference",
    "mixed_values": "with values of another unit, rescaling or bit depth",
}
_ASPECTS: Mapping[str, _Aspect] = {
    "mixed_patients": lambda group: (*_patient(group), _said(group, lambda header: header.study_key)),
    "mixed_image_type": lambda group: (group.planes[0].part, group.first.modality, group.first.kind),
    "mixed_frame": lambda group: _said(group, lambda header: header.frame_uid),
    "mixed_values": _values_of,
}
