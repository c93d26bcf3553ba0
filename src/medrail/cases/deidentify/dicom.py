"""One DICOM file -> the bytes of its copy without identity, already looked through."""

from __future__ import annotations

import collections
from collections import Counter
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medrail.cases.deidentify.actions import PIXELS
from medrail.cases.deidentify.dataset import Cleaner
from medrail.cases.deidentify.header import stored
from medrail.cases.deidentify.identifiers import NOTHING, Identifiers
from medrail.cases.deidentify.keys import Keys
from medrail.cases.deidentify.options import Options
from medrail.cases.deidentify.pixels import blank, clear_comments, clear_unused_bits, rectangles_for, trim
from medrail.cases.deidentify.statement import state
from medrail.cases.deidentify.verify import problems_in, traces_of
from medrail.errors import CorruptFile, DataError
from medrail.read.dicom.header import Header
from medrail.read.dicom.headers import look
from medrail.read.guard import Guard


@dataclass(frozen=True)
class Copy:
    """What one original became: its bytes, and the counted actions (action, attribute)."""

    content: bytes = field(repr=False)
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)


def copy_of(path: Path, patient: str, keys: Keys, options: Options, known: Identifiers = NOTHING) -> Copy:
    """De-identify one file in memory.

    patient:
        The key in ``keys.patients``.
    known:
        More to search for: the patient's names and numbers in other files.

    Raises
    ------
    ReadError
        If the file cannot be parsed or its pixels not be cleaned as asked.
    DataError
        If anything of the original is still in the copy.
    """
    with Guard(path, "DICOM"):
        _check_whole(path)
        dataset = pydicom.dcmread(BytesIO(path.read_bytes()), force=True)
        _complete(dataset)
        name, days = keys.patients[patient], keys.shift_days(patient)
        traces = traces_of(dataset, options, name, days)
        searched = traces.identifiers.with_patient(known.but_for(name, ()))
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
        state(dataset, name, options, blanked=("blanked", "pixels") in cleaner.done)
        content = _written(dataset)
        problems = problems_in(content, replace(traces, identifiers=searched), options)
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


def _check_whole(path: Path) -> None:
    header = look(path)
    if isinstance(header, Header) and header.pixel_defect:
        raise CorruptFile(
            f"is truncated: {header.pixel_defect}", needed="the whole file", remedy="Copy it again from the archive."
        )


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
