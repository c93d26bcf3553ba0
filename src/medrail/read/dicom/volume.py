"""Groups of frames -> volumes with a verdict, from headers alone: what can be read, as what, and what is wrong."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medrail.errors import MedrailError
from medrail.read.dicom.defects import REFUSED, refusal
from medrail.read.dicom.doubts import doubts
from medrail.read.dicom.group import Frame, Group, by_number
from medrail.read.dicom.header import Header
from medrail.read.dicom.headers import Refused
from medrail.read.dicom.plane import direction_name, same_orientation, same_spacing
from medrail.read.dicom.stack import Layout, lay_out
from medrail.read.dicom.torn import TORN, torn
from medrail.types import Defect, OnDefect, ReadOptions, Unit

Verdict = Literal["ok", "accepted", "refused"]
_NAMED, _NAMED_PARTS = 3, 5  # files, and parts of a series, that evidence names


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
    sex, age_band:
        Of the patient, as ``demography`` has them; "" where unknown.
    patient_key, issuer_key, study_key, series_key, person_key:
        Digests of whose it is (``who.Who``), "" where unknown: to be compared, never shown, in no project.
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
    sex: str = ""
    age_band: str = ""
    patient_key: str = field(default="", repr=False)
    issuer_key: str = field(default="", repr=False)
    study_key: str = field(default="", repr=False)
    series_key: str = field(default="", repr=False)
    person_key: str = field(default="", repr=False)

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
    """A verdict on every group, in their order; ``broken`` files spoil the series that they belong to."""
    groups, numbered = _separated(groups, options.on_defect)
    apart, lost, pieces = _set_apart(groups), _lost(groups, broken), torn(groups, options.on_defect)
    volumes: list[Volume] = []
    names: set[str] = set()
    for members in _members(groups, options):
        layouts = [_layout(group, options.on_defect) for group in members]
        found = [defect for group in members for defect in pieces.get(id(group), ())]
        found += [*_beside(members, lost, options.on_defect), *_cut_off(members, options.on_defect)]
        found += _unplaced(members[0], options.on_defect)
        for group, layout in zip(members, layouts, strict=True):
            alone = id(group) not in apart or not apart[id(group)]
            found += [*doubts(group, layout, options.on_defect, alone), *(layout.defects if layout else ())]
        found += [*_unlike(members, layouts), *_unordered(members)]
        found += [defect for group in members for defect in (*apart.get(id(group), ()), *numbered.get(id(group), ()))]
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
        yield tuple(sorted(family, key=lambda group: (group.sort_key, min(map(_canonical, group.frames)))))


def _separated(groups: Sequence[Group], on_defect: OnDefect) -> tuple[list[Group], dict[int, tuple[Defect, ...]]]:
    """Accepted: volumes that only instance numbers tell apart, with the defect of each, by ``id`` of the group."""
    if on_defect != "accept":
        return list(groups), {}
    found, named = list[Group](), dict[int, tuple[Defect, ...]]()
    for group in groups:
        parts = by_number(group) if group.placed and len(group.first.planes) == 1 else [group]
        found += parts
        if len(parts) > 1:
            evidence = f"{len(parts)} slices at each of {len(parts[0].frames)} positions"
            defect = Defect("duplicate_slices", evidence, f"separated into {len(parts)} volumes by Instance Number")
            named |= {id(part): (defect,) for part in parts}
    return found, named


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
    names = files_named([header.path for header in cut], [header.path for header in headers])
    evidence = f"{len(cut)} of {len(headers)} files ({names}): {cut[0].pixel_defect}"
    alone = len(cut) == len(headers)
    return [Defect("truncated_pixel_data", evidence, REFUSED if on_defect == "refuse" or alone else "left out")]


def _lost(groups: Sequence[Group], broken: Sequence[Refused]) -> dict[str, list[Refused]]:
    """Files that cannot be read, by the series that may have lost a slice with each: it must not pass for whole.

    That is the series whose UID can still be read. A file without one belongs to the series in its folder, where that
    is the only one made of slices and the file does not say another modality; beside several it spoils none.
    """
    found: dict[str, list[Refused]] = {}
    modalities: dict[Path, dict[str, str]] = {}
    for group in groups if broken else ():
        if _may_lose(group):
            for header in group.headers:
                modalities.setdefault(header.path.parent, {})[_series_key(header)] = header.modality
    for file in broken:
        near = modalities.get(file.path.parent, {})
        key = file.series_uid or (next(iter(near)) if len(near) == 1 else "")
        if key and (file.series_uid or file.modality in ("", near[key])):
            found.setdefault(key, []).append(file)
    return found


def _series_key(header: Header) -> str:
    return header.series_uid or str(header.path.parent)


def _may_lose(group: Group) -> bool:
    """Pictures and multi-frame objects are whole by themselves."""
    return group.placed and any(len(header.planes) == 1 or header.concatenation_uid for header in group.headers)


def _beside(groups: Sequence[Group], lost: Mapping[str, list[Refused]], on_defect: OnDefect) -> list[Defect]:
    """A lost multi-frame object is a lost time point, where these are channels."""
    near = lost.get(_series_key(groups[0].first), []) if _may_lose(groups[0]) or len(groups) > 1 else []
    if not near:
        return []
    evidence = f"{len(near)} file(s) of it or beside it cannot be read, as {near[0].path.name}: {near[0].error.found}"
    return [Defect("unreadable_header", evidence, REFUSED if on_defect == "refuse" else "left out")]


def files_named(some: Sequence[Path], files: Sequence[Path]) -> str:
    """Some of a series' files by their names, below the folder that holds all of them."""
    folder = os.path.commonpath([path.parent for path in files])
    names = [path.relative_to(folder).as_posix() for path in some[:_NAMED]]
    return ", ".join(names) + (f" and {len(some) - _NAMED} more" if len(some) > _NAMED else "")


def _unordered(groups: Sequence[Group]) -> list[Defect]:
    """Channels of one image need an order that does not come from the files' names."""
    same = len(groups) - len({repr(group.sort_key) for group in groups})
    if not same:
        return []
    evidence = f"{same + 1} of {len(groups)} have the same times, numbers, b-value and direction, or none"
    return [Defect("unordered_time_points", evidence, REFUSED)]


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
        yield Defect("mixed_orientation", _parts(rest), action)
    sized = [other for other in rest if not _same_size(group, other) and same_orientation(other.planes[0], plane)]
    if sized:
        yield Defect("mixed_size", _parts([group, *sized]), action)


def _same_size(one: Group, other: Group) -> bool:
    """With the tolerance by which ``group`` keeps slices together: what it tears apart must be named."""
    sizes = [(group.first.rows, group.first.columns) for group in (one, other)]
    return sizes[0] == sizes[1] and same_spacing(one.planes[0], other.planes[0])


def _parts(groups: Sequence[Group]) -> str:
    """What a series is made of: the same sentence for each of its parts, with axes only where the rest is alike."""
    slices: dict[str, dict[str, int]] = {}
    for group in groups:
        plane = group.planes[0]
        spacing = " x ".join(f"{size:.4g}" for size in plane.spacing_mm or ())
        kind = f"{group.first.rows} x {group.first.columns} {direction_name(plane)}, {spacing} mm"
        axes = ", ".join(f"{round(cosine, 2) + 0.0:.2f}" for cosine in plane.orientation or ())
        by_axes = slices.setdefault(kind, {})
        by_axes[axes] = by_axes.get(axes, 0) + len(group.frames)
    texts = [_part(kind, by_axes) for kind, by_axes in sorted(slices.items())]
    return "; ".join(texts[:_NAMED_PARTS]) + ("; ..." if len(texts) > _NAMED_PARTS else "")


def _part(kind: str, by_axes: Mapping[str, int]) -> str:
    total = sum(by_axes.values())
    many = f" along {len(by_axes)} directions" if len(by_axes) > 2 else ""
    turned = " and ".join(f"[{axes}]" for axes in sorted(by_axes)) if len(by_axes) == 2 else ""
    return f"{total} slice{'s' if total != 1 else ''} {kind}{many}{f' along {turned}' if turned else ''}"


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
        item=_named(groups, names, alone=any(defect.name in TORN for defect in defects)),
        files=tuple({str(header.path): header.path for header in headers}.values()),
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
        sex=first.sex,
        age_band=first.age_band,
        patient_key=first.patient_key,
        issuer_key=first.issuer_key,
        study_key=first.study_key,
        series_key=first.series_key,
        person_key=first.person_key,
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
    if header.photometric == "PALETTE COLOR":
        return "uint16" if header.palette_bits > 8 else "uint8"
    if header.bits_allocated <= 8 and not header.has_lut:
        return "uint8"
    return "uint16" if _channels(header) == 3 and header.bits_allocated == 16 else "arbitrary"


def _named(groups: Sequence[Group], names: set[str], alone: bool) -> str:
    """A name from what the header says of the volume, whatever its files are called and in whatever order they come."""
    frame = min((frame for group in groups for frame in group.frames), key=_canonical)
    header, plane = frame.header, frame.plane
    alone = alone or len(header.planes) > 1 or not plane.placed
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
