"""DICOM series as entries: what every layout needs that meets a folder of slices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medrail.cases.groups import filled
from medrail.cases.listing import Entry, Finding, Listing, counted, image_suffix, shown
from medrail.errors import DataError
from medrail.read import Series
from medrail.read.dicom.cache import HeaderCache
from medrail.read.dicom.headers import Refused
from medrail.read.dicom.series import scan
from medrail.read.dicom.volume import Volume, volumes_of
from medrail.types import READ_AS_STORED, ReadOptions, SplitName

_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
# A part of a series with at most this share of the slices of its largest part is no volume of its own.
_STRAY_SHARE = 0.25


def is_dicom(path: Path) -> bool:
    """By suffix, or by the four letters after the preamble (DICOM PS3.10, section 7.1) where the name says nothing."""
    suffix = image_suffix(path.name)
    if suffix:
        return is_dicom_suffix(suffix)
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def is_dicom_suffix(suffix: str) -> bool:
    """Whether an image's suffix is one of DICOM's."""
    return suffix.lower() in _DICOM_SUFFIXES


def series_entries(
    folder: Path,
    name: str,
    *,
    target: str | None = None,
    split: SplitName | None = None,
    patient: str = "",
    options: ReadOptions = READ_AS_STORED,
    cache: HeaderCache | None = None,
) -> Listing:
    """One entry for each series below a folder, which is called ``name`` below the data folder, and what is wrong.

    A series is the folder that holds it alone, or a folder with the series' ``item``; a single file is itself. Series
    that are refused are entries too: reading them says why, and the other cases go on; so is a folder in which nothing
    but refused files are found. A localiser beside other series is left out, and so are stray slices: what a series
    holds beside its volume, and is far smaller (``strays_of``).
    """
    blank = Entry(folder, name, target=target, split=split, patient=patient)
    try:
        found = scan(folder, cache)
    except DataError:
        return Listing((blank,))
    volumes = volumes_of(found.groups, found.broken, options)
    findings = [_unreadable(file) for file in found.refused]
    if not volumes:
        return Listing((blank,) if findings else (), tuple(findings))
    all_series = [volume.series for volume in volumes]
    kept = [volume for volume in volumes if not volume.is_localiser] or volumes
    findings += [_left_out(volume.series, all_series) for volume in volumes if volume not in kept]
    strays = strays_of(kept)
    findings += [_stray(volume.series) for volume in strays]
    entries = []
    for series in (volume.series for volume in kept if volume not in strays):
        path, item = place_of(series, all_series)
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        full_name = (PurePosixPath(name) / inside / item).as_posix()
        facts = replace(blank, path=path, name=full_name, item=item, scanner=series.scanner, modality=series.modality)
        defects = tuple(sorted({defect.name for defect in series.defects}))
        groups = filled((), series.sex, series.age_band, series.scanner)
        entries.append(
            replace(facts, burned_in=series.burned_in, defects=defects, groups=groups).of(series),
        )
    return Listing(tuple(entries), tuple(findings))


def strays_of(volumes: Sequence[Volume]) -> list[Volume]:
    """Slices beside a volume of the same series, as of another orientation or size, and far fewer than it has.

    A series whose parts have one slice each holds pictures (or a localiser that does not say so), and none is a stray.
    """
    largest: dict[str, int] = {}
    for volume in volumes:
        if volume.groups[0].placed and volume.first.series_uid:
            count = len(volume.groups[0].frames)
            largest[volume.first.series_uid] = max(count, largest.get(volume.first.series_uid, 0))
    found = []
    for volume in volumes:
        count, most = len(volume.groups[0].frames), largest.get(volume.first.series_uid, 0)
        if count < most and (count == 1 or count <= _STRAY_SHARE * most):
            found.append(volume)
    return found


def place_of(series: Series, found: Sequence[Series]) -> tuple[Path, str]:
    """What `read` needs for one of the series of a folder: a path, and the item where the path holds others too."""
    # What is refused because of the files beside it must not be read without them.
    if len(series.files) == 1 and series.verdict != "refused":
        path = series.files[0]
        return path, "" if sum(path in other.files for other in found) == 1 else series.item
    folder = Path(os.path.commonpath([path.parent for path in series.files]))
    alone = not any(path.is_relative_to(folder) for other in found if other is not series for path in other.files)
    return folder, "" if alone else series.item


def _unreadable(file: Refused) -> Finding:
    remedy = file.error.remedy or "Copy it again, or move it out of data.path."
    return Finding("unreadable_file", str(file.path), file.error.found, remedy, "warn")


def _left_out(series: Series, found: Sequence[Series]) -> Finding:
    path, item = place_of(series, found)
    what = f"a localiser ({item or path.name}, {len(series.files)} files) beside the images is no case"
    return Finding("localiser_left_out", str(path), what, "Nothing is to be done.", "warn")


def _stray(series: Series) -> Finding:
    first, *others = map(str, series.files)
    slices = counted(series.shape[1], "slice")
    size = " x ".join(map(str, series.shape[2:]))
    what = f"{slices} of {size} beside the volume of the same series, and no part of it"
    if others:
        what += f": {shown((Path(name).name for name in (first, *others)), 8)}"
    remedy = "Left out. If it is an image of its own, give it a folder, or name it in a CSV (data.kind: csv)."
    return Finding("stray_slices_left_out", first, what, remedy, "warn", tuple(others))
