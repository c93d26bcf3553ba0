"""DICOM series as entries: what every layout needs that meets a folder of slices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medrail.cases.listing import Entry, Finding, Listing, image_suffix
from medrail.errors import DataError
from medrail.read import Series
from medrail.read.dicom.cache import HeaderCache
from medrail.read.dicom.headers import Refused
from medrail.read.dicom.series import scan
from medrail.read.dicom.volume import volumes_of
from medrail.types import READ_AS_STORED, ReadOptions, SplitName

_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})


def is_dicom(path: Path) -> bool:
    """By suffix, or by the four letters after the preamble (DICOM PS3.10, section 7.1) where the name says nothing."""
    suffix = image_suffix(path.name).lower()
    if suffix:
        return suffix in _DICOM_SUFFIXES
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


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
    but refused files are found. A localiser beside other series is left out.
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
    kept = [volume.series for volume in volumes if not volume.is_localiser] or all_series
    findings += [_left_out(series, all_series) for series in all_series if series not in kept]
    entries = []
    for series in kept:
        path, item = place_of(series, all_series)
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        full_name = (PurePosixPath(name) / inside / item).as_posix()
        facts = replace(blank, path=path, name=full_name, item=item, scanner=series.scanner, modality=series.modality)
        defects = tuple(sorted({defect.name for defect in series.defects}))
        entries.append(
            replace(facts, burned_in=series.burned_in, defects=defects, patient_key=series.patient_key),
        )
    return Listing(tuple(entries), tuple(findings))


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
