"""What DICOM headers say of entries that a layout names by a path: a file, the folder of a series, a zip, a DICOMDIR.

Layouts that look for series themselves (``series_entries``) bring it along.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from medrail.cases.groups import filled
from medrail.cases.layouts.series import is_dicom, is_dicom_suffix
from medrail.cases.listing import Entry, Listing, image_suffix
from medrail.errors import MedrailError
from medrail.read.contents import is_zip, opened
from medrail.read.dicom.cache import HeaderCache
from medrail.read.dicom.dicomdir import is_dicomdir
from medrail.read.dicom.group import Group, grouped
from medrail.read.dicom.header import Header
from medrail.read.dicom.headers import Refused, look_at
from medrail.read.dicom.series import scan
from medrail.read.dicom.volume import Series, volumes_of
from medrail.types import READ_AS_STORED, ReadOptions

# (image, whether it is a localiser); without the headers themselves, which are too many to hold for all entries.
_Images = tuple[tuple[Series, bool], ...]


def with_headers(listing: Listing, options: ReadOptions = READ_AS_STORED) -> Listing:
    """The listing with whose it is, modality, scanner, burned-in mark and defects of each entry that is DICOM.

    Headers are remembered, so that only new files are opened. What cannot be read stays as it is: reading the image
    says why.
    """
    paths = list(dict.fromkeys(entry.path for entry in listing.entries if _is_bare(entry)))
    if not paths:
        return listing
    with HeaderCache.of_user() as cache:
        known = _images(paths, options, cache)
    return replace(listing, entries=tuple(_filled(entry, known.get(entry.path, ())) for entry in listing.entries))


def _is_bare(entry: Entry) -> bool:
    return not (entry.patient_key or entry.modality)


def _images(paths: Iterable[Path], options: ReadOptions, cache: HeaderCache) -> dict[Path, _Images]:
    """The images that headers tell of, by the path that an entry names."""
    found: dict[Path, _Images] = {}
    files: list[Path] = []
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112  pathlib takes three times as long, and there are many
            found[path] = _in_folder(path, options, cache)
        elif (suffix := image_suffix(path.name)) and not is_dicom_suffix(suffix):
            continue
        elif is_dicom(path):
            if is_dicomdir(path):
                found[path] = _in_folder(path, options, cache)
            else:
                files.append(path)
        elif not suffix and is_zip(path):
            status = path.stat()
            found[path] = _in_zip(path, status.st_size, status.st_mtime_ns, options)
    for outcome in look_at(files, cache):
        if isinstance(outcome, Header):
            found[outcome.path] = _judged(grouped([outcome]), (), options)
    return found


def _in_folder(path: Path, options: ReadOptions, cache: HeaderCache | None) -> _Images:
    try:
        inside = scan(path, cache)
        return _judged(inside.groups, inside.broken, options)
    except (MedrailError, OSError):
        return ()


def _judged(groups: Sequence[Group], broken: Sequence[Refused], options: ReadOptions) -> _Images:
    volumes = volumes_of(groups, broken, options)
    return tuple((replace(volume.series, files=()), volume.is_localiser) for volume in volumes)


# What is inside a zip is not in the cache of headers: within one process it is unpacked for them once.
@lru_cache(maxsize=1024)
def _in_zip(path: Path, size: int, mtime_ns: int, options: ReadOptions) -> _Images:
    del size, mtime_ns  # part of the key only
    try:
        with opened(path) as place:
            return _in_folder(place.root, options, None)
    except (MedrailError, OSError):
        return ()


def _filled(entry: Entry, images: _Images) -> Entry:
    """The entry with what the headers of its image say; of several that may be meant, what all of them say."""
    if not _is_bare(entry):
        return entry
    if entry.item:
        every = [series for series, _ in images if series.item == entry.item]
    else:
        every = [series for series, is_localiser in images if not is_localiser] or [series for series, _ in images]
    if not every:
        return entry
    burned_in = {series.burned_in for series in every}
    defects = {defect.name for defect in every[0].defects} if len(every) == 1 else set[str]()
    sex, age, scanner = (_common(getattr(one, what) for one in every) for what in ("sex", "age_band", "scanner"))
    # Of several people's images none is meant for sure: reading will ask which.
    known = entry.of(every[0]) if len({series.patient_key for series in every}) == 1 else entry
    return replace(
        known,
        modality=_common(series.modality for series in every),
        scanner=entry.scanner or scanner,
        burned_in=entry.burned_in or next((text for text in ("YES", "NO") if text in burned_in), ""),
        defects=tuple(sorted({*entry.defects, *defects})),
        groups=filled(entry.groups, sex, age, scanner),
        issuer_key=_common(series.issuer_key for series in every),
        study_key=_common(series.study_key for series in every),
        series_key=_common(series.series_key for series in every),
        person_key=_common(series.person_key for series in every),
    )


def _common(texts: Iterable[str]) -> str:
    """The one text that all are, or ""."""
    found = set(texts)
    return found.pop() if len(found) == 1 else ""
