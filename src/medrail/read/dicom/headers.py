"""Headers of all DICOM files below a folder, in one pass: what a folder holds, before anything is decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom.datadict import tag_for_keyword

from medrail.errors import MedrailError, ReadError, UnsupportedFormat
from medrail.read.dicom.alike import Alike
from medrail.read.dicom.dicomdir import is_dicomdir, referenced
from medrail.read.dicom.elements import read_text
from medrail.read.dicom.extent import offset_of, pixel_defect
from medrail.read.dicom.header import KEYWORDS, Header, header_of
from medrail.read.dicom.pixels import parse
from medrail.read.dicom.quick import find_pixels
from medrail.read.dicom.source import Source
from medrail.read.dicom.walk import find_files
from medrail.read.guard import Guard
from medrail.read.sniff import sniff
from medrail.types import Defect, Progress

if TYPE_CHECKING:
    from medrail.read.dicom.cache import HeaderCache

_DICOM_ENDINGS = frozenset({".dcm", ".dicom", ".ima"})
# DICOM objects that are no picture, or not one that is read: they may lie among images and spoil nothing.
_OTHER_OBJECTS = ("holds no picture", "is a DICOM ", "is a whole-slide")
_TELL_EVERY = 50
_SERIES_UID, _MODALITY = (tag_for_keyword(name) or 0 for name in ("SeriesInstanceUID", "Modality"))
_UID = re.compile(r"[0-9.]{1,64}\Z")
CLOSED_FOLDER = "closed_folder"


@dataclass(frozen=True)
class Refused:
    """A DICOM file that should be an image and cannot be used.

    series_uid, modality:
        What could still be read of them, else "": they say which series may have lost a slice, and are never shown.
    """

    path: Path
    defect: Defect
    error: MedrailError
    series_uid: str = field(default="", repr=False)
    modality: str = ""


@dataclass(frozen=True)
class Foreign:
    """A file that is no DICOM image.

    kind:
        As ``sniff`` says; "dicom" for a DICOM object without picture; "" for what medrail does not read.
    error:
        Why it is not read, where it is not.
    """

    path: Path
    kind: str
    error: MedrailError | None = None


Outcome = Header | Refused | Foreign


def headers_in(
    root: Path, cache: HeaderCache | None = None, progress: Progress | None = None
) -> Iterator[Header | Refused]:
    """The header of each DICOM image below a folder (or of a DICOMDIR's files), and what is refused.

    In the order of ``find_files``. Files of other kinds are nobody's concern here; an empty file is a slice that was
    lost in copying where there are DICOM images, and comes last.
    """
    for outcome in outcomes_in(root, cache, progress):
        if not isinstance(outcome, Foreign):
            yield outcome


def outcomes_in(root: Path, cache: HeaderCache | None = None, progress: Progress | None = None) -> Iterator[Outcome]:
    """As ``headers_in``, with the files of other kinds too."""
    found_any = False
    empty: list[Foreign] = []
    for outcome in _looked_at(root, cache, progress):
        found_any = found_any or isinstance(outcome, Header)
        if isinstance(outcome, Foreign) and _is_empty(outcome):
            empty.append(outcome)
        else:
            yield outcome
    for outcome in empty:
        yield _refused(outcome.path, outcome.error) if found_any and outcome.error else outcome


def _looked_at(root: Path, cache: HeaderCache | None, progress: Progress | None) -> Iterator[Outcome]:
    if is_dicomdir(root):
        paths, missing = referenced(root)
        yield from (_refused(path, error) for path, error in missing)
    else:
        closed: list[Path] = []
        paths = list(find_files(root, closed))
        yield from map(_closed, closed)
    yield from look_at(paths, cache, progress)


def look_at(
    paths: Iterable[Path], cache: HeaderCache | None = None, progress: Progress | None = None
) -> Iterator[Outcome]:
    """What each file is, one after another."""
    paths, look_now = list(paths), partial(look, alike=Alike())
    outcomes = map(look_now, paths) if cache is None else cache.outcomes(paths, look_now)
    for number, outcome in enumerate(outcomes, 1):
        yield outcome
        if progress and (number % _TELL_EVERY == 0 or number == len(paths)):
            progress(number, len(paths))


def look(path: Path, alike: Alike | None = None) -> Outcome:
    """What one file is: the header of a DICOM image, or why it is none. Reads the beginning of the file only.

    ``alike`` remembers what the files before had in common, and makes it quick.
    """
    return (alike or Alike()).header(path) or _looked_closer(path)


def _looked_closer(path: Path) -> Outcome:
    try:
        kind = sniff(path)
        if kind != "dicom":
            return Foreign(path, kind)
        with Guard(path, "DICOM"):
            dataset = parse(path, KEYWORDS)
            return _with_extent(header_of(dataset, path), dataset)
    except UnsupportedFormat as error:
        pretends = "looks like" in error.found and path.suffix.lower() in _DICOM_ENDINGS
        if pretends or not error.found.startswith(("looks like", *_OTHER_OBJECTS)):
            return _refused(path, error)
        return Foreign(path, "" if "looks like" in error.found else "dicom", error)
    except MedrailError as error:
        return Foreign(path, "", error) if _size(path) == 0 else _refused(path, error)


def _with_extent(header: Header, dataset: Any) -> Header:
    """For a header that pydicom parsed: is the file long enough?"""
    with Source(header.path) as file:
        understood, place = find_pixels(file, file.size)
        evidence = pixel_defect(dataset, place, file, file.size) if understood else ""
    return replace(header, pixel_defect=evidence, pixel_offset=offset_of(place))


def _refused(path: Path, error: MedrailError) -> Refused:
    name = "not_an_image" if isinstance(error, UnsupportedFormat) else "unreadable_header"
    return Refused(path, Defect(name, error.found, "refused"), error, *_series_of(path))


def _series_of(path: Path) -> tuple[str, str]:
    """Series Instance UID and modality of a broken file, as far as they can be read.

    A value at which the file ends may be the half of one: it counts where something follows it.
    """
    try:
        with Guard(path, "DICOM"):
            dataset = parse(path, KEYWORDS)
            uid, modality = read_text(dataset, "SeriesInstanceUID"), read_text(dataset, "Modality").upper()
            last = max(dataset.keys(), default=0)
    except MedrailError:
        return "", ""
    return uid if last > _SERIES_UID and _UID.match(uid) else "", modality if last > _MODALITY else ""


def _closed(folder: Path) -> Refused:
    error = ReadError(
        "is a folder that may not be opened by this user, so nothing in it was looked at",
        where=str(folder),
        remedy="Change its permissions, or ask its owner.",
    )
    return Refused(folder, Defect(CLOSED_FOLDER, error.found, "refused"), error)


def _is_empty(outcome: Foreign) -> bool:
    return not outcome.kind and outcome.error is not None and _size(outcome.path) == 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
