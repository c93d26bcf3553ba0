"""Groups of frames -> volumes with a verdict, from headers alone: what can be read, as what, and what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medrail.errors import MedrailError
from medrail.read.dicom.defects import REFUSED, refusal
from medrail.read.dicom.group import Frame, Group
from medrail.read.dicom.header import Header
from medrail.read.dicom.headers import Refused
from medrail.read.dicom.plane import direction_name, same_orientation
from medrail.read.dicom.stack import Layout, lay_out
from medrail.types import Defect, OnDefect, ReadOptions, Unit

Verdict = Literal["ok", "accepted", "refused"]


@dataclass(frozen=True)
class Series:
    """Files, or frames of one file, that make one image together.

    item:
        A short name that stays the same and says nothing about the patient.
    files:
        In the order in which they were found; the order along D comes from their positions.
    shape:
        (C, D, H, W), as it will be read.
    spacing_mm, affine_ras_mm, unit:
        As ``Image`` would have them; None where there is no physical space, or the series is refused.
    verdict:
        "ok": read as it is. "accepted": read, with defects that were accepted or repaired. "refused": not read.
    kind:
        Name of the DICOM object, as "CT Image Storage".
    patient_key:
        Equal for series of one patient, "" where unknown; for comparing within one process, never written anywhere.
    """

    item: str
    files: tuple[Path, ...]
    modality: str
    shape: tuple[int, int, int, int]
    spacing_mm: tuple[float, float, float] | None = None
    affine_ras_mm: tuple[tuple[float, ...], ...] | None = None
    unit: Unit = "arbitrary"
    verdict: Verdict = "ok"
    defects: tuple[Defect, ...] = ()
    scanner: str = ""
    burned_in: str = ""
    kind: str = ""
    patient_key: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.item} ({self.modality or 'no modality'}, {' x '.join(map(str, self.shape[1:]))})"


@dataclass(frozen=True, eq=False)
class Volume:
    """One image that can be asked for: its groups (several where time points become channels) and its verdict.

    layouts:
        One a group; empty where the frames have no position.
    error:
        Why it cannot be read, where it cannot.
    """

    groups: tuple[Group, ...]
    layouts: tuple[Layout, ...]
    series: Series
    error: MedrailError | None = None

    @property
    def first(self) -> Header:
        return self.groups[0].first

    @property
    def is_localiser(self) -> bool:
        return self.groups[0].planes[0].part == "LOCALIZER"

    def described(self) -> str:
        return f"{len(self.series.files)} files {self.first.grid} as {self.series.item}"


def volumes_of(groups: Sequence[Group], broken: Sequence[Refused], options: ReadOptions) -> list[Volume]:
    """A verdict on every group, in their order; ``broken`` files spoil the series that lie beside them."""
    apart = _set_apart(groups)
    volumes: list[Volume] = []
    names: set[str] = set()
    for members in _members(groups, options):
        layouts = [_layout(group, options.on_defect) for group in members]
        found = [*_beside(members, broken, options.on_defect), *_cut_off(members, options.on_defect)]
        found += _unplaced(members[0], options.on_defect)
        found += [defect for layout in layouts if layout for defect in layout.defects]
        found += _unlike(members, layouts)
        found += [defect for group in members for defect in apart.get(id(group), ())]
        volumes.append(_judged(members, [layout for layout in layouts if layout], list(dict.fromkeys(found)), names))
    return volumes


def _members(groups: Sequence[Group], options: ReadOptions) -> Iterator[tuple[Group, ...]]:
    """Each group for itself; as channels: the grey placed groups of one family together, by time."""
    families: dict[Hashable, list[Group]] = {}
    for group in groups:
        key: Hashable = id(group)
        if options.four_d == "channels" and group.placed and _channels(group.first) == 1:
            key = group.family
        families.setdefault(key, []).append(group)
    for family in families.values():
        yield tuple(sorted(family, key=lambda group: group.sort_key))


def _layout(group: Group, on_defect: OnDefect) -> Layout | None:
    return lay_out(group.planes, group.first.thickness_mm, on_defect) if group.placed else None


def _unplaced(group: Group, on_defect: OnDefect) -> list[Defect]:
    """Many frames of a volume without position would become one in an unknown order."""
    header = group.first
    if group.placed or not header.must_be_placed:
        return []
    evidence = f"{len(group.frames)} {header.modality} frames without position, orientation or spacing"
    return [Defect("unplaced_frames", evidence, "kept in the stored order" if on_defect == "accept" else REFUSED)]


def _cut_off(groups: Sequence[Group], on_defect: OnDefect) -> list[Defect]:
    headers = [header for group in groups for header in group.headers]
    cut = [header for header in headers if header.pixel_defect]
    if not cut:
        return []
    evidence = f"{len(cut)} of {len(headers)} files: {cut[0].pixel_defect}"
    alone = len(cut) == len(headers)
    return [Defect("truncated_pixel_data", evidence, REFUSED if on_defect == "refuse" or alone else "left out")]


def _beside(groups: Sequence[Group], broken: Sequence[Refused], on_defect: OnDefect) -> list[Defect]:
    """Files that cannot be read may be slices of a series in the same folder: it must not pass for whole."""
    folders = {header.path.parent for group in groups for header in group.headers}
    near = [file for file in broken if file.path.parent in folders]
    if not near:
        return []
    evidence = f"{len(near)} file(s) beside it cannot be read, as {near[0].path.name}: {near[0].error.found}"
    return [Defect("unreadable_header", evidence, REFUSED if on_defect == "refuse" else "left out")]


def _unlike(groups: Sequence[Group], layouts: Sequence[Layout | None]) -> list[Defect]:
    """Channels of one image need one grid."""
    first = layouts[0]
    if first is None or len(groups) == 1:
        return []
    others = [layout for layout in layouts[1:] if layout is not None]
    unlike = sum(
        layout.targets_mm.size != first.targets_mm.size or not layout.geometry.is_close(first.geometry, 0.1)
        for layout in others
    )
    if not unlike:
        return []
    evidence = f"{unlike} of {len(groups)} time points lie on another grid than the first"
    return [Defect("incomplete_time_point", evidence, REFUSED)]


def _set_apart(groups: Sequence[Group]) -> dict[int, tuple[Defect, ...]]:
    """What a series holds beside a volume: a localiser, other orientations or sizes. By ``id`` of the group."""
    found: dict[int, tuple[Defect, ...]] = {}
    by_series: dict[str, list[Group]] = {}
    for group in groups:
        if group.placed and group.first.series_uid:
            by_series.setdefault(group.first.series_uid, []).append(group)
    for series in by_series.values():
        volumes = [group for group in series if group.planes[0].part != "LOCALIZER"]
        scouts = sum(len(group.frames) for group in series) - sum(len(group.frames) for group in volumes)
        for group in volumes:
            found[id(group)] = tuple(_mixture(group, volumes, scouts))
    return found


def _mixture(group: Group, volumes: Sequence[Group], scouts: int) -> Iterator[Defect]:
    plane, action = group.planes[0], "set apart as series of their own"
    if scouts:
        yield Defect("localiser_in_series", f"{scouts} localiser slice(s) in the series", action)
    rest = [other for other in volumes if other.planes[0].marks[:1] == plane.marks[:1]]
    turned = [other for other in rest if not same_orientation(other.planes[0], plane)]
    if turned:
        yield Defect("mixed_orientation", _counts([group, *turned]), action)
    size = _size(group)
    sized = [other for other in rest if _size(other) != size and same_orientation(other.planes[0], plane)]
    if sized:
        yield Defect("mixed_size", _counts([group, *sized]), action)


def _size(group: Group) -> tuple[float, ...]:
    return group.first.rows, group.first.columns, *(round(size, 2) for size in group.planes[0].spacing_mm or ())


def _counts(groups: Sequence[Group]) -> str:
    texts = []
    for group in groups[:5]:
        plane = group.planes[0]
        axes = ", ".join(f"{cosine:.2f}" for cosine in plane.orientation or ())
        size = f"{group.first.rows} x {group.first.columns}"
        spacing = " x ".join(f"{size:.4g}" for size in plane.spacing_mm or ())
        texts.append(f"{len(group.frames)} slices {size} {direction_name(plane)} [{axes}] {spacing} mm")
    return "; ".join(texts) + ("; ..." if len(groups) > 5 else "")


def _judged(groups: Sequence[Group], layouts: Sequence[Layout], defects: list[Defect], names: set[str]) -> Volume:
    refused = [defect for defect in defects if defect.action == REFUSED]
    first = groups[0].first
    verdict: Verdict = "refused" if refused else "accepted" if defects else "ok"
    layout = layouts[0] if layouts else None
    depth, rows, columns = sum(len(group.frames) for group in groups), first.rows, first.columns
    if layout:
        above, below, left, right = layout.canvas_px
        depth, rows, columns = layout.targets_mm.size, rows + above + below, columns + left + right
    geometry = layout.geometry if layout and not refused else None
    affine = tuple(tuple(float(x) for x in row) for row in geometry.affine_ras_mm) if geometry else None
    headers = [header for group in groups for header in group.headers]
    series = Series(
        item=_named(groups, names),
        files=tuple(dict.fromkeys(header.path for header in headers)),
        modality=first.modality,
        shape=(_channels(first) * len(groups), depth, rows, columns),
        spacing_mm=geometry.spacing_mm if geometry else None,
        affine_ras_mm=affine,
        unit=unit_of(first),
        verdict=verdict,
        defects=tuple(defects),
        scanner=first.scanner,
        burned_in=next((text for text in ("YES", "NO") if any(h.burned_in == text for h in headers)), ""),
        kind=first.kind,
        patient_key=first.patient_key,
    )
    alone = len(headers) == 1 and any(defect.name == "truncated_pixel_data" for defect in refused)
    error = refusal(refused, repairable=not alone) if refused else None
    return Volume(tuple(groups), tuple(layouts), series, error)


def _channels(header: Header) -> int:
    return 3 if header.samples == 3 or header.photometric == "PALETTE COLOR" else 1


def unit_of(header: Header) -> Unit:
    """The unit that the header promises."""
    if header.hounsfield:
        return "HU"
    if header.activity:
        return header.activity.unit
    if header.bits_allocated <= 8 and not header.has_lut:
        return "uint8"
    return "uint16" if _channels(header) == 3 and header.bits_allocated == 16 else "arbitrary"


def _named(groups: Sequence[Group], names: set[str]) -> str:
    """A name from what the header says of the volume, whatever its files are called and in whatever order they come."""
    frame = min((frame for group in groups for frame in group.frames), key=_canonical)
    header, plane = frame.header, frame.plane
    alone = len(header.planes) > 1 or not plane.placed
    axes = [round(number, 2) + 0.0 for number in (*(plane.orientation or ()), *(plane.spacing_mm or ()))]
    key = (
        *(header.series_uid, header.instance_uid if alone or not header.series_uid else ""),
        *(header.rows, header.columns, header.samples, header.bits_allocated, header.modality, header.kind),
        *(plane.part, plane.marks[:1], axes, [group.marks for group in groups], header.frame_uid),
    )
    text = repr(key)
    while (name := f"series-{hashlib.sha256(text.encode()).hexdigest()[:8]}") in names:
        text += "+"
    names.add(name)
    return name


def _canonical(frame: Frame) -> tuple[Any, ...]:
    return (frame.header.instance_uid, frame.number, *(frame.plane.position_lps_mm or ()))
