"""DICOM series as entries: what every layout needs that meets a folder of slices."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from medrail.cases.listing import Entry, image_suffix
from medrail.errors import DataError
from medrail.read import Series, series_in
from medrail.types import SplitName

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
    folder: Path, name: str, *, target: str | None = None, split: SplitName | None = None, patient: str = ""
) -> list[Entry]:
    """One entry for each series below a folder, which is called ``name`` below the data folder.

    A series is the folder that holds it alone, or a folder with the series' ``item``; a single file is itself. A folder
    that cannot be read is one entry too: reading it says why, and the other cases go on.
    """
    try:
        found = series_in(folder)
    except DataError:
        return [Entry(folder, name, target=target, split=split, patient=patient)]
    entries = []
    for series in found:
        path, item = _place(series, found)
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        full_name = PurePosixPath(name) / inside / item
        entries.append(Entry(path, full_name.as_posix(), target=target, split=split, patient=patient, item=item))
    return entries


def _place(series: Series, found: list[Series]) -> tuple[Path, str]:
    if len(series.files) == 1:
        return Path(series.files[0]), ""
    folder = Path(os.path.commonpath([path.parent for path in series.files]))
    alone = not any(path.is_relative_to(folder) for other in found if other is not series for path in other.files)
    return folder, "" if alone else series.item
