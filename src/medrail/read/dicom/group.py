"""Frames that make one volume together: by series and geometry first, then by echo, time point, b-value, phase.

What a volume is, is decided in three steps. (1) Frames of another patient, study, size, orientation, kind of picture,
frame of reference or stack never share a volume. (2) Nor do frames of another echo, temporal position or b-value,
where the header names these. (3) Where several frames still lie at each position, they are told apart by the attributes
that take the same values at every position, or by their times where these prove it. What remains are duplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from medrail.read.dicom.header import Header
from medrail.read.dicom.plane import Plane, same_axes
from medrail.read.dicom.stack import in_order, lay_out
from medrail.read.dicom.uptake import settled

_STACK, _ACQUISITION = 0, 1  # places in Plane.marks and Plane.hints
RECONSTRUCTION = (2, 3, 4)  # places in Plane.hints: convolution kernel, tube voltage, series number
_TRIGGER, _CONTENT = 0, 2  # places in Plane.times
_LEAST_STACK = 3  # slices, below which an acquisition number does not make a volume


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of one file."""

    header: Header
    number: int

    @property
    def plane(self) -> Plane:
        return self.header.planes[self.number]


@dataclass(frozen=True)
class Group:
    """The frames of one volume, in no particular order.

    family:
        Equal for the time points, echoes, ... of one series: what they have in common.
    marks:
        What tells this volume from the others of its family; texts, for the order and the name.
    """

    frames: tuple[Frame, ...]
    family: Hashable
    marks: tuple[str, ...] = ()

    @property
    def first(self) -> Header:
        return self.frames[0].header

    @property
    def planes(self) -> list[Plane]:
        return [frame.plane for frame in self.frames]

    @property
    def headers(self) -> list[Header]:
        """Each file once, in the order in which they were found."""
        return list({id(frame.header): frame.header for frame in self.frames}.values())

    @property
    def placed(self) -> bool:
        return all(plane.placed for plane in self.planes)

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """By time: temporal position, times, acquisition number; then echo, b-value, instance number, direction.

        Nothing in it depends on the files' names, and volumes for which it is equal have no order.
        """
        acquisition = min(_number((_hint(frame, _ACQUISITION),)) for frame in self.frames)
        instance = min((frame.header.instance_number or 0, frame.number) for frame in self.frames)
        hints = min(frame.plane.hints for frame in self.frames)
        marks = tuple(_number((mark,)) for mark in self.marks)
        return (_number(self.marks[2:3]), _earliest(self.frames), acquisition, marks, self.marks, instance, hints)


def grouped(headers: Iterable[Header]) -> list[Group]:
    """All volumes and pictures of some files, sorted by the first file of each."""
    families: dict[Hashable, list[list[Frame]]] = {}
    alone: list[Group] = []
    known = settled(headers)
    mixed = _mixed_series(known)
    for header in known:
        frames = [Frame(header, number) for number in range(len(header.planes))]
        if not header.placed:
            alone.append(Group(tuple(frames), ("alone", header.instance_uid, str(header.path))))
            continue
        for frame in frames:
            _sort_in(frame, families, series_of(header) in mixed)
    groups = list(alone)
    for key, by_axes in families.items():
        for index, family in enumerate(by_axes):
            groups += _volumes(family, (key, index))
    seen = {id(header): index for index, header in enumerate(_once(groups))}
    return sorted(groups, key=lambda group: (str(group.first.path), group.frames[0].number, seen[id(group.first)]))


def _once(groups: Sequence[Group]) -> list[Header]:
    return list({id(frame.header): frame.header for group in groups for frame in group.frames}.values())


def series_of(header: Header) -> str:
    """The series that a file says it belongs to; its folder where it says none."""
    return header.series_uid or str(header.path.parent)


def owner_of(header: Header) -> tuple[str, ...]:
    """Whose the slice is, and on which frame of reference it lies: the same in all files of a series that say it."""
    return header.patient_key, header.issuer_key, header.study_key, header.frame_uid


def _mixed_series(headers: Sequence[Header]) -> set[str]:
    """Series of several patients, studies or frames of reference. A file that does not say is no other one's."""
    first: dict[str, list[str]] = {}
    mixed = set[str]()
    for header in headers:
        owner = owner_of(header)
        said = first.setdefault(series_of(header), ["", "", "", ""])
        for index, one in enumerate(owner):
            said[index] = said[index] or one
            if one and one != said[index]:
                mixed.add(series_of(header))
    return mixed


def _sort_in(frame: Frame, families: dict[Hashable, list[list[Frame]]], mixed: bool) -> None:
    by_axes = families.setdefault((*family_of(frame), *(owner_of(frame.header) if mixed else ())), [])
    for family in by_axes:
        if same_axes(family[0].plane, frame.plane):
            family.append(frame)
            return
    by_axes.append([frame])


def family_of(frame: Frame) -> tuple[Hashable, ...]:
    """What all volumes of one grid and kind have in common, apart from their axes and ``owner_of``."""
    header, plane = frame.header, frame.plane
    return (
        series_of(header),
        *(header.rows, header.columns, header.samples, header.bits_allocated, header.signed, header.photometric),
        *(header.modality, header.kind, header.rescaled, header.rescale_type, bool(header.tiles)),
        header.activity.declared if header.activity else "",  # one unit and factor then: ``settled``
        *(plane.part, plane.marks[_STACK] if plane.marks else ""),
    )


def _object_of(frame: Frame) -> str:
    """Frames of one multi-frame object stay together; the parts of a concatenation are one object (C.7.6.16.2.2.4)."""
    header = frame.header
    return header.concatenation_uid or header.instance_uid or str(header.path) if len(header.planes) > 1 else ""


def _volumes(family: Sequence[Frame], key: Hashable) -> list[Group]:
    groups = []
    for named in _split(family, lambda frame: (_object_of(frame), *frame.plane.marks[1:])):
        marks = named[0].plane.marks
        for index, part in enumerate(parts := separated(named)):
            rank = f"{index:05d}" if len(parts) > 1 else ""
            groups.append(Group(tuple(part), key, (rank, *marks[1:])))
    if len(groups) > 1 and len(groups) == len(family) and all(len(p) == 1 for p in _places(family)):
        # A mark that is another on every slice counts slices, not volumes.
        return [Group(tuple(family), key)]
    return groups


def separated(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames that may lie several at a position -> volumes with one a position, as far as the headers allow."""
    places = _places(frames)
    stacks = _acquisitions(frames, crowded=len(places) < len(frames))
    if stacks or len(places) == len(frames):
        return stacks or [list(frames)]
    telling = [index for index in range(_hint_count(frames)) if _tells_apart(places, index)]
    parts = _split(frames, lambda frame: tuple(_hint(frame, index) for index in telling))
    parts = [phase for part in parts for phase in _phases(part)]
    return sorted(parts, key=_by_hints(telling)) if len(parts) > 1 else [list(frames)]


def by_number(group: Group) -> list[Group]:
    """The volumes of which Instance Number alone says that they follow one another; else the group as it is.

    Every position must have as many frames, and each run of numbers pass through all positions in one and the same
    order: then no volume can have got a slice of another.
    """
    places, frames = _places(group.frames), group.frames
    numbers = {id(frame): frame.header.instance_number or 0 for frame in frames}
    if len(places) < _LEAST_STACK or any(len(place) != len(places[0]) for place in places) or len(places[0]) == 1:
        return [group]
    if 0 in numbers.values() or len(set(numbers.values())) < len(frames):
        return [group]
    rank = {id(frame): index for index, place in enumerate(places) for frame in place}
    ordered = sorted(frames, key=lambda frame: numbers[id(frame)])
    runs = [ordered[start : start + len(places)] for start in range(0, len(ordered), len(places))]
    way = [rank[id(frame)] for frame in runs[0]]
    if len(set(way)) < len(way) or any([rank[id(frame)] for frame in run] != way for run in runs):
        return [group]
    first = group.marks[0] if group.marks else ""
    return [
        replace(group, frames=tuple(run), marks=(f"{first}/{index:05d}", *group.marks[1:]))
        for index, run in enumerate(runs)
    ]


def _places(frames: Sequence[Frame]) -> list[list[Frame]]:
    *_, places = in_order([frame.plane for frame in frames])
    return [[frames[index] for index in place] for place in places]


def _hint_count(frames: Sequence[Frame]) -> int:
    return max(len(frame.plane.hints) for frame in frames)


def _hint(frame: Frame, index: int) -> str:
    hints = frame.plane.hints
    return hints[index] if index < len(hints) else ""


def _by_hints(telling: Sequence[int]) -> Callable[[list[Frame]], tuple[Any, ...]]:
    def key(part: list[Frame]) -> tuple[Any, ...]:
        hints = [_hint(part[0], index) for index in telling]
        return tuple((_number((hint,)), hint) for hint in hints), _earliest(part)

    return key


def _earliest(part: Sequence[Frame]) -> tuple[float, ...]:
    columns = zip(*(frame.plane.times for frame in part), strict=False)
    return tuple(min((time for time in column if time is not None), default=0.0) for column in columns)


def _tells_apart(places: Sequence[Sequence[Frame]], index: int) -> bool:
    """Whether an attribute takes several values, the same ones at every position."""
    values = {_hint(frame, index) for frame in places[0]}
    if index in RECONSTRUCTION and "" in values:
        return False  # a copy that lost it, as some tools write
    return len(values) > 1 and all({_hint(frame, index) for frame in place} == values for place in places[1:])


def _phases(part: list[Frame]) -> list[list[Frame]]:
    """Phases by time: the k-th frame in time at each position.

    Only by the time since the trigger, or where one whole volume was acquired after another: the k-th frame of a cine
    at each table position may be of any phase. The content time of a file is that of its making, of a copy as well.
    """
    for clock, phases in _by_clock(part):
        made = clock == _CONTENT and len(part[0].header.planes) == 1
        if clock == _TRIGGER or (not made and _in_turn(phases, clock)):
            return phases
    return [part]


def told_by_time(group: Group) -> int:
    """How many frames there are at every position, where times tell them apart and do not prove of which volume."""
    _, phases = next(_by_clock(group.frames), (0, ()))
    return len(phases)


def _by_clock(part: Sequence[Frame]) -> Iterator[tuple[int, list[list[Frame]]]]:
    """Each clock by which all frames at a position differ, where every position has as many; frames in its order."""
    places = _places(part)
    count = len(places[0])
    if count == 1 or any(len(place) != count for place in places):
        return
    for clock in range(max(len(frame.plane.times) for frame in part)):
        columns = [[frame.plane.times[clock] for frame in place if clock < len(frame.plane.times)] for place in places]
        if all(None not in times and len(set(times)) == count for times in columns):
            ordered = [sorted(place, key=lambda frame: frame.plane.times[clock] or 0.0) for place in places]
            yield clock, [list(phase) for phase in zip(*ordered, strict=True)]


def _in_turn(parts: Sequence[Sequence[Frame]], clock: int) -> bool:
    """Whether each part was over before another began."""
    spans = [[frame.plane.times[clock] or 0.0 for frame in part] for part in parts]
    spans.sort(key=min)
    return all(max(one) <= min(other) for one, other in pairwise(spans))


def _acquisitions(frames: Sequence[Frame], crowded: bool) -> list[list[Frame]]:
    """Stacks by acquisition number, where each is flawless alone and all together are not; else none."""
    parts = _split(frames, lambda frame: _hint(frame, _ACQUISITION))
    if len(parts) < 2 or min(map(len, parts)) < _LEAST_STACK:
        return []
    names = {defect.name for defect in lay_out([frame.plane for frame in frames]).defects}
    if not crowded and "uneven_spacing" not in names:
        return []
    if any(lay_out([frame.plane for frame in part]).defects for part in parts):
        return []
    return sorted(parts, key=_by_hints([_ACQUISITION]))


def _split(frames: Sequence[Frame], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    parts: dict[Hashable, list[Frame]] = {}
    for frame in frames:
        parts.setdefault(key(frame), []).append(frame)
    return list(parts.values())


def _number(texts: Sequence[str]) -> float:
    try:
        number = float(texts[0])
    except (ValueError, IndexError):
        return 0.0
    return number if np.isfinite(number) else 0.0
