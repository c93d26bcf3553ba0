"""One DICOM file -> the bytes of its copy without identity, already looked through."""

from __future__ import annotations

import collections
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medrail import __version__
from medrail.cases.deidentify.actions import EDITION, PIXELS
from medrail.cases.deidentify.dataset import Cleaner
from medrail.cases.deidentify.header import stored
from medrail.cases.deidentify.keys import Keys
from medrail.cases.deidentify.options import KEEP, Options
from medrail.cases.deidentify.pixels import blank, clear_comments, clear_unused_bits, rectangles_for, trim
from medrail.cases.deidentify.verify import problems_in, traces_of
from medrail.errors import CorruptFile, DataError
from medrail.read.guard import Guard


@dataclass(frozen=True)
class Copy:
    """What one original became: its bytes, and the counted actions (action, attribute)."""

    content: bytes = field(repr=False)
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)


def copy_of(path: Path, patient: str, keys: Keys, options: Options, words: frozenset[str] = frozenset()) -> Copy:
    """De-identify one file in memory.

    patient:
        The key in ``keys.patients``.
    words:
        More words to search for, as the patient's names in other files.

    Raises
    ------
    ReadError
        If the file cannot be parsed or its pixels not be cleaned as asked.
    DataError
        If anything of the original is still in the copy.
    """
    with Guard(path, "DICOM"):
        dataset = pydicom.dcmread(BytesIO(path.read_bytes()), force=True)
        _complete(dataset)
        name, days = keys.patients[patient], keys.shift_days(patient)
        traces = traces_of(dataset, options, name, days)
        searched = traces.identifiers.with_words(words - {name.lower()})
        cleaner = Cleaner(
            options,
            keys,
            searched,
            days,
            dummy_needed="SharedFunctionalGroupsSequence" in dataset or "Rows" not in dataset,
        )
        _clean_pixels(dataset, options, cleaner.done)
        before = _pixels(dataset)
        cleaner.clean(dataset)
        _state(dataset, name, options, blanked=("blanked", "pixels") in cleaner.done)
        content = _written(dataset)
        problems = problems_in(content, type(traces)(searched, traces.changed, traces.allowed), options)
        if _pixels(pydicom.dcmread(BytesIO(content))) != before:
            problems += ("other pixels than were to be written",)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(
            f"still holds {', '.join(problems[:3])}{more}",
            needed="a copy without the original's identifiers",
            remedy="It was not written. Please report which kind of file this is.",
        )
    return Copy(content, cleaner.done)


def _complete(dataset: Dataset) -> None:
    """Fill in the transfer syntax and UIDs that old files without file meta information do not say."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if len(dataset) == 0:
        raise CorruptFile("holds no data set", remedy="Copy or export it again.")
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:
        implicit, little = dataset.original_encoding
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = syntax
    if not dataset.get("SOPClassUID") and dataset.file_meta.get("MediaStorageSOPClassUID"):
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    if not dataset.get("SOPInstanceUID") and dataset.file_meta.get("MediaStorageSOPInstanceUID"):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    if not dataset.get("SOPClassUID") or not dataset.get("SOPInstanceUID"):
        raise CorruptFile("has no SOP class and instance", needed="a DICOM object", remedy="Export it again.")


def _clean_pixels(dataset: Dataset, options: Options, done: Counter[tuple[str, str]]) -> None:
    if clear_unused_bits(dataset):
        done["removed", "overlays in unused bits"] += 1
    if trim(dataset):
        done["removed", "bytes behind the pixels"] += 1
    if clear_comments(dataset):
        done["removed", "comments in compressed pixels"] += 1
    rectangles = rectangles_for(dataset, options)
    if rectangles:
        blank(dataset, rectangles)
        done["blanked", "pixels"] += 1


def _pixels(dataset: Dataset) -> tuple[bytes | None, ...]:
    return tuple(stored(dataset, tag)[1] if tag in dataset else None for tag in sorted(PIXELS))


def _state(dataset: Dataset, name: str, options: Options, *, blanked: bool) -> None:
    """What was done, in the attributes that PS3.15 section E.1.1 asks for."""
    dataset.PatientID = dataset.PatientName = name
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = [f"medrail {__version__}", f"DICOM PS3.15 {EDITION} Basic Profile"]
    codes = [("113100", "Basic Application Confidentiality Profile")]
    codes += [("113101", "Clean Pixel Data Option")] * blanked
    codes += [KEEP[kept] for kept in KEEP if options.keeps(kept)]
    dataset.DeidentificationMethodCodeSequence = Sequence([_code(*code) for code in codes])
    dates = "UNMODIFIED" if options.keeps("dates") else "MODIFIED" if options.keeps("shifted-dates") else "REMOVED"
    dataset.LongitudinalTemporalInformationModified = dates


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = value, "DCM"
    code.CodeMeaning = meaning[:64]
    return code


def _written(dataset: Dataset) -> bytes:
    """The file: an empty preamble, new file meta information, the data set in its own transfer syntax."""
    changed = dataset.file_meta.TransferSyntaxUID  # uncompressed, where pixels were blanked
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = changed
    dataset.file_meta = meta
    other = dataset.original_encoding != (changed.is_implicit_VR, changed.is_little_endian)
    if other or (not changed.is_implicit_VR and any(dataset.get_item(tag).VR is None for tag in [*dataset.keys()])):
        # The original is not written as it says: its elements must be understood before they can be written so.
        collections.deque(dataset.iterall(), maxlen=0)
    dataset.preamble = bytes(128)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
