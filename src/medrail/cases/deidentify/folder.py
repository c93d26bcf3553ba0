"""A folder of originals -> a folder of copies: index, one file after the other, report and linkage."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom import config
from pydicom.uid import UID

from medrail.cases.deidentify import dicom, plain
from medrail.cases.deidentify.actions import basic_profile
from medrail.cases.deidentify.identifiers import (
    NOTHING,
    Identifiers,
    own_of_id,
    own_of_name,
    words_of_id,
    words_of_name,
)
from medrail.cases.deidentify.keys import Keys
from medrail.cases.deidentify.linkage import Linkage, open_linkage
from medrail.cases.deidentify.options import Options
from medrail.cases.deidentify.persons import Person, named, note_others, person_of
from medrail.cases.deidentify.report import Report
from medrail.cases.listing import image_suffix
from medrail.cases.look import burned_in
from medrail.errors import ConfigError, MedrailError, UnsupportedFormat
from medrail.read import files_of, read, sniff
from medrail.read.dicom.elements import read_whole
from medrail.read.dicom.who import who_of
from medrail.read.guard import Guard
from medrail.types import Progress

_INDEXED = [
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "OtherPatientIDs", "StudyInstanceUID",
    "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "InstanceNumber", "Modality", "BurnedInAnnotation",
    "SpecificCharacterSet", "BodyPartExamined",
]  # fmt: skip
_SIZES = ["SequenceOfUltrasoundRegions", "Rows", "Columns"]
_WITH_FACES = frozenset({"CT", "MR", "PT"})
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory


@dataclass(repr=False)
class Source:
    """One original. ``number``: its place among all files of IN, from 1."""

    number: int
    path: Path
    kind: str
    patient: str = ""
    study: str = ""
    series: str = ""
    order: tuple[int, str] = (0, "")
    known: Identifiers = NOTHING
    warning: str = ""
    person: Person = field(default_factory=Person)


@dataclass
class _Work:
    keys: Keys
    linkage: Linkage
    report: Report
    out: Path | None
    names: dict[str, Identifiers] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def deidentify(
    source: Path,
    out: Path,
    options: Options,
    *,
    linkage: Path | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Copy every image below ``source`` to ``out`` without who it is of.

    Nothing of the originals is changed. A file that cannot be read, cleaned or that fails the search for identifiers is
    not written, is named by its number in ``Report.failed``, and the others go on.

    source:
        One file, or a folder.
    out:
        A folder that does not exist or is empty.
    linkage:
        Where old and new names are written, and the secret; those of an earlier batch are gone on with.
    dry_run:
        Do everything but write.

    Raises
    ------
    ConfigError
        If there is no such source, ``out`` or ``linkage`` lie where they must not, or the extra is not installed.
    """
    basic_profile()
    _check_places(source, out)
    linked = open_linkage(linkage, out)
    report = Report(options, None if dry_run else out, linkage)
    sources = list(_indexed(source, report, progress))
    work = _Work(linked.keys, linked, report, None if dry_run else out)
    _name_patients(sources, work)
    if not dry_run:
        out.mkdir(parents=True, exist_ok=True)
        linked.write()  # before the first copy: a run that is stopped must not leave copies that nothing links
    for done, entry in enumerate(sorted(sources, key=lambda s: (s.patient, s.study, s.series, s.order, s.number)), 1):
        try:
            _copy(entry, options, work)
        except MedrailError as error:
            report.failed.append((entry.number, _reason(error)))
        if progress:
            progress(done, len(sources), "")
    report.failed.sort()
    if not dry_run:
        linked.write()
        _write(out / "deidentified.json", _json(report))
        _write(out / "deidentified.md", report.to_markdown().encode("utf-8"))
    return report


def _check_places(source: Path, out: Path) -> None:
    if not source.exists():
        raise ConfigError("there is no such file or folder", where=str(source))
    inside, outside = source.resolve(), out.resolve()
    if outside.is_relative_to(inside) or inside.is_relative_to(outside):
        raise ConfigError("copies and originals in one folder", where=str(out), needed="a folder apart")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("is not empty", where=str(out), needed="a new folder", remedy="Nothing is ever overwritten.")


def find_files(source: Path) -> list[Path]:
    """Every file, hidden ones too, sorted by its path's bytes, then links to files; links to folders are not followed.

    So a file's number is its line in ``find IN -type f | LC_ALL=C sort``.
    """
    if source.is_file():
        return [source]
    found = []
    for folder, _, names in os.walk(source, followlinks=False):
        found += [os.path.join(folder, name) for name in names]  # noqa: PTH118  (bytes of the path decide the order)
    paths = {os.fsencode(name): Path(name) for name in found}
    return [paths[name] for name in sorted(paths, key=lambda name: (paths[name].is_symlink(), name))]


def _indexed(source: Path, report: Report, progress: Progress | None) -> Iterator[Source]:
    paths = find_files(source)
    report.files = len(paths)
    data_files: set[Path] = set()
    for number, path in enumerate(paths, 1):
        try:
            kind = sniff(path)
            entry = _header(number, path) if kind == "dicom" else Source(number, path, kind)
            if kind != "dicom" and kind not in plain.KINDS:
                raise UnsupportedFormat(f"is {kind}, which is not cleaned", remedy="Save its images as PNG or NIfTI.")
            data_files |= {other.resolve() for other in files_of(path)[1:]}
        except UnsupportedFormat as error:
            if error.found.startswith("looks like") and image_suffix(path.name):
                report.failed.append((number, f"is called an image, and {_left_out(error)}. Copy or export it again."))
            elif path.resolve() not in data_files:
                report.left_out.append((number, _left_out(error)))
            continue
        except MedrailError as error:
            report.failed.append((number, _reason(error)))
            continue
        yield entry
        if progress:
            progress(number, len(paths), "")


def _left_out(error: MedrailError) -> str:
    # What an unknown file begins with may be a name, so it is not repeated.
    return error.found.split(" (it begins with")[0]


def _reason(error: MedrailError) -> str:
    text = f"{error.found}; needed: {error.needed}" if error.needed else error.found
    return f"{text}. {error.remedy}" if error.remedy else text


def _header(number: int, path: Path) -> Source:
    with Guard(path, "DICOM"):
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*_INDEXED, *_SIZES])
        whose = who_of(header)
        text = {name: _text(header, name) for name in _INDEXED}
        sop_class = text["SOPClassUID"] or str(header.get("file_meta", {}).get("MediaStorageSOPClassUID", ""))
        if sop_class == _DIRECTORY:
            raise UnsupportedFormat("is a DICOMDIR, the index of the originals", remedy="The copies need none.")
        person = person_of(text, whose, str(path.parent.resolve()))
        words = {*words_of_name(text["PatientName"])}
        for name in ("PatientID", "OtherPatientIDs"):
            words.update(words_of_id(text[name]), own_of_id(text[name]))
        known = Identifiers(frozenset(words), own=frozenset(own_of_name(text["PatientName"])))
    order = text["InstanceNumber"]
    return Source(
        number,
        path,
        "dicom",
        person.key,
        text["StudyInstanceUID"],
        text["SeriesInstanceUID"] or str(path.parent.resolve()),
        (int(order) if order.lstrip("-").isdecimal() and len(order) < 12 else 0, text["SOPInstanceUID"]),
        known,
        _risk(text) + _outside(header, text),
        person,
    )


def _text(header: Any, name: str) -> str:
    try:
        value = header.get(name)
    except Exception:  # noqa: BLE001  (a broken element raises anything when it is first touched)
        return ""
    values = value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
    return "\\".join("" if part is None else str(part).strip() for part in values)


def _risk(text: dict[str, str]) -> str:
    modality = text["Modality"].upper()
    kind = str(UID(text["SOPClassUID"], validation_mode=config.IGNORE).name)
    why = burned_in.rule_for(modality, text["BurnedInAnnotation"], kind)
    if why:
        return f"{why}: look at the pictures, and blank what is drawn with --blank or --rules"
    part = text["BodyPartExamined"].upper()
    if modality in _WITH_FACES and (
        not part or any(word in part for word in ("HEAD", "BRAIN", "SKULL", "NECK", "FACE"))
    ):
        return "may show a face, which can be rebuilt from the slices"
    return ""


def _outside(header: Any, text: dict[str, str]) -> str:
    """What to blank of an ultrasound picture, where the header says where its beam is."""
    if text["Modality"].upper() not in ("US", "IVUS"):
        return ""
    size = (read_whole(header, "Rows", 0), read_whole(header, "Columns", 0))
    boxes = burned_in.outside_regions(size, burned_in.regions_in(header))
    asked = " ".join(f"--blank {x},{y},{w},{h}" for x, y, w, h in boxes if w > 0 and h > 0)
    return f"; outside of its ultrasound regions: {asked}" if asked else ""


def _name_patients(sources: list[Source], work: _Work) -> None:
    dicoms = [entry for entry in sources if entry.kind == "dicom"]
    persons = [entry.person for entry in dicoms]
    keys = named(persons, work.linkage)
    for entry, key in zip(dicoms, keys, strict=True):
        entry.patient = key
        work.names[key] = work.names.get(key, NOTHING).with_patient(entry.known)
    taken = {word for known in work.names.values() for word in known.words}
    work.keys.add_patients(work.names, taken)
    note_others(persons, keys, work.linkage)
    for patient in work.names:
        work.linkage.note("days", patient, str(work.keys.shift_days(patient)))


def _copy(entry: Source, options: Options, work: _Work) -> None:
    if entry.kind == "dicom":
        copy = dicom.copy_of(entry.path, entry.patient, work.keys, options, work.names[entry.patient])
        work.report.actions.update(copy.actions)
        files, folder = [(".dcm", copy.content)], _place(entry, work)
        if entry.warning and ("blanked", "pixels") not in copy.actions:
            work.report.warnings.setdefault(folder, entry.warning)
        if folder not in work.counts:
            _warn_of_text(folder, copy.content, work.report)
    else:
        files = plain.copy_of(entry.path, entry.kind)
        folder = f"files-{work.keys.label('folder', str(entry.path.parent.resolve()))}"
        work.report.actions["removed", f"all but the image, in {entry.kind}"] += 1
    work.counts[folder] = number = work.counts.get(folder, 0) + 1
    for suffix, content in files:
        name = f"{folder}/{number:05d}{suffix}"
        if work.out is not None:
            _write(work.out / name, content)
        work.linkage.note("file", str(entry.path), name)
    work.report.written += 1


def _warn_of_text(folder: str, content: bytes, report: Report) -> None:
    """Look for text-like marks in the first copy of a series, as it is after blanking; never an error."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "copy.dcm"
        path.write_bytes(content)
        try:
            found = burned_in.text_in(read(path))
        except MedrailError:
            return  # no picture, or one that cannot be decoded
    if found:
        before = f"{report.warnings[folder]}; " if folder in report.warnings else ""
        report.warnings[folder] = f"{before}seen: {found}"


def _place(entry: Source, work: _Work) -> str:
    """PATIENT/STUDY/SERIES under names that tell nothing, the same in every batch of one secret."""
    keys, report, new = work.keys, work.report, work.keys.patients[entry.patient]
    study, series = keys.label("study", f"{new}{entry.study}"), keys.label("series", f"{new}{entry.series}")
    report.patients.add(new)
    report.studies.add(f"{new}/{study}")
    report.series.add(f"{new}/{study}/{series}")
    work.linkage.note("study", entry.study, f"{new}/study-{study}")
    work.linkage.note("series", entry.series, f"{new}/study-{study}/series-{series}")
    return f"{new}/study-{study}/series-{series}"


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and never over something."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        os.link(name, path)  # fails where something is
    finally:
        Path(name).unlink(missing_ok=True)


def _json(report: Report) -> bytes:
    import json

    return (json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n").encode("utf-8")
