"""What a data layout finds: entries (future cases), findings (what is wrong), and the words that name splits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Literal

from medrail.config import DataConfig
from medrail.errors import CaseError, ConfigError, Problem, ReadError
from medrail.read import sniff
from medrail.read.dicom.walk import walk
from medrail.read.dicom.who import Keyed
from medrail.types import Groups, SplitName

# "stop": no case, or no right result, can be made of it. "warn": said, and the rest goes on.
Severity = Literal["warn", "stop"]

SPLIT_WORDS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "hold_out"), "test"),
}

IMAGE_SUFFIXES = (
    *(".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".dcm", ".dicom", ".ima"),
    *(".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp"),
)
_SUFFIXES = frozenset(IMAGE_SUFFIXES)
# Files that stand beside images and are never images themselves; .raw and .zraw are the voxels that a .mhd points to.
_SIDE_SUFFIXES = frozenset(
    {
        *(".txt", ".md", ".rst", ".html", ".htm", ".pdf", ".doc", ".docx", ".log", ".license", ".py", ".sh", ".ipynb"),
        *(".csv", ".tsv", ".json", ".xml", ".xls", ".xlsx", ".yaml", ".yml", ".ini", ".cfg", ".lut", ".bval", ".bvec"),
        *(".zip", ".gz", ".tar", ".7z", ".db", ".sqlite3", ".raw", ".zraw", ".npz", ".npy"),
    }
)
_SIDE_NAMES = frozenset(
    {"license", "licence", "readme", "copyright", "dicomdir", "thumbs.db", "desktop.ini", "makefile"}
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the data.

    defect:
        Its kind, one of a few fixed words, as "missing_file"; what `medrail check` counts by.
    where:
        The file (with the line of a table), the folder or the case.
    what, remedy:
        What is wrong, and what to do.
    others:
        The other places that it is about, as the copies of an image.
    """

    defect: str
    where: str
    what: str
    remedy: str = ""
    severity: Severity = "stop"
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.remedy}" if self.remedy else text


@dataclass(frozen=True)
class Entry:
    """One image as a layout found it, before it is a case.

    path:
        The image's file or the folder of its series.
    name:
        Posix path below the data folder (and what is meant inside): the id is made of it, the patient searched in it.
    patient, id:
        As the data says; "" where it says nothing.
    where:
        Where the target was written: the line of a table or a folder; "" where it is the image itself.
    centre, fold:
        Where it was acquired, and the fold of a k-fold split, as the data say.
    scanner, burned_in, modality, defects:
        As the DICOM header says (``medrail.read.Series``); "" and () elsewhere.
    groups:
        What divides the cases (``medrail.cases.groups``), as the table or the header says.
    patient_key, issuer_key, study_key, series_key, person_key:
        Digests of whose it is, as the DICOM header says; ``of`` takes them over. In memory only.
    """

    path: Path
    name: str
    target: str | None = None
    split: SplitName | None = None
    patient: str = ""
    item: str = ""
    roi: Path | None = None
    id: str = ""
    where: str = ""
    centre: str = ""
    fold: int | None = None
    scanner: str = ""
    burned_in: str = ""
    modality: str = ""
    defects: tuple[str, ...] = ()
    groups: Groups = ()
    patient_key: str = field(default="", repr=False)
    issuer_key: str = field(default="", repr=False)
    study_key: str = field(default="", repr=False)
    series_key: str = field(default="", repr=False)
    person_key: str = field(default="", repr=False)

    @property
    def names_patient(self) -> bool:
        """Whether the data or the header say who it is; a study alone says only what belongs together."""
        return bool(self.patient or self.patient_key or self.person_key)

    def of(self, whose: Keyed) -> Entry:
        """The same entry with the keys of a header or series."""
        return replace(
            self,
            patient_key=whose.patient_key,
            issuer_key=whose.issuer_key,
            study_key=whose.study_key,
            series_key=whose.series_key,
            person_key=whose.person_key,
        )


@dataclass(frozen=True)
class Listing:
    """What one layout found: entries in a fixed order, and what is wrong.

    unlabelled:
        Images whose target is missing, which is among the findings: no cases, but the check looks at them all the same.
    """

    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...] = ()
    unlabelled: tuple[Entry, ...] = ()


def split_named(text: str) -> SplitName | None:
    """The split that a folder's name or a table's cell means ("Training" -> "train"), or None."""
    return SPLIT_WORDS.get(re.sub(r"[\s-]+", "_", text.strip().lower()))


def fold_named(text: str) -> int | None:
    """The fold that a table's cell means ("3", and "3.0" as spreadsheets write it), or None."""
    number = text.strip().removesuffix(".0")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None


def files_below(folder: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Every file below a folder with its path below it, as ``find_files`` meets them: the one walk of all stages."""
    above = len(os.path.join(folder, ""))  # noqa: PTH118  as the walk writes it
    for path in walk(str(folder)) if folder.is_dir() else ():
        yield Path(path), PurePosixPath(path[above:].replace(os.sep, "/"))


def image_suffix(name: str) -> str:
    """The suffix of a known image format that a file name ends with (".nii.gz"), in its own case, or ""."""
    lowered = name.lower()
    suffix = ".nii.gz" if lowered.endswith(".nii.gz") else lowered[max(0, lowered.rfind(".")) :]
    return name[-len(suffix) :] if suffix in _SUFFIXES else ""


def stem(name: str) -> str:
    """A file name without its image suffix: "a.nii.gz" -> "a"; other suffixes stay."""
    suffix = image_suffix(name)
    return name[: -len(suffix)] if suffix else name


def may_be_image(name: str) -> bool:
    """Whether a file of this name may be an image: a known suffix, or one that says nothing (DICOM often has none)."""
    if image_suffix(name):
        return True
    plain = PurePosixPath(name.lower())
    return plain.suffix not in _SIDE_SUFFIXES and plain.stem not in _SIDE_NAMES and plain.name not in _SIDE_NAMES


def only_images(
    files: Iterable[tuple[Path, PurePosixPath]], chosen: set[Path] | None = None
) -> tuple[list[tuple[Path, PurePosixPath]], list[Finding]]:
    """The files that are images, of ``chosen`` where given; a file whose name says nothing is looked into."""
    images, findings = [], []
    for path, below in files:
        if chosen is not None and path not in chosen:
            continue
        suffix = image_suffix(path.name)
        if not suffix and not may_be_image(path.name):
            continue
        if suffix or _is_known_inside(path):
            images.append((path, below))
        else:
            remedy = "Give it the suffix of what it is, or move it out of data.path."
            findings.append(Finding("ignored_file", str(path), "is no image that medrail reads", remedy, "warn"))
    return images, findings


def _is_known_inside(path: Path) -> bool:
    try:
        return sniff(path) not in ("npz", "zip")
    except (ReadError, OSError):
        return False


def matching(root: Path, pattern: str) -> set[Path] | None:
    """The paths below a folder that ``data.pattern`` fits; None (all) where there is no pattern.

    Raises
    ------
    ConfigError
        If it is no glob relative to the folder.
    """
    if not pattern:
        return None
    try:
        return set(root.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        remedy = "Write it relative to data.path, as images/*.png or **/*_T1.nii.gz."
        raise ConfigError(f"{pattern!r} is no glob: {error}", where="data.pattern", remedy=remedy) from None


def existing_folder(path: Path, key: str, written: str = "") -> Path:
    """The folder itself, or a ConfigError that says what is there instead; ``written``: as the configuration has it."""
    if path.is_dir():
        return path
    found = "is a file" if path.exists() else "there is no such folder"
    raise ConfigError(found, needed="a folder", where=f"{key}: {path}", remedy=correct_path(key, written or str(path)))


def correct_path(key: str, written: str) -> str:
    """The remedy for a path that leads nowhere, with the text to look for in the configuration."""
    if Path(written).is_absolute():
        return f"Correct {key} in medrail.yaml."
    return f"Correct {key}: it stands as {written!r}, relative to the folder of medrail.yaml."


def none_found(folder: Path, what: str, remedy: str) -> CaseError:
    """The error for a layout in which there is nothing at all."""
    return CaseError(f"no {what} found", where=str(folder), remedy=remedy)


def pattern_search(data: DataConfig, what: Literal["patient", "centre"]) -> re.Pattern[str] | None:
    """``data.patient_pattern`` or ``data.centre_pattern`` compiled, or None where there is none.

    Raises
    ------
    ConfigError
        If it is not a regular expression, or has no group.
    """
    text = data.patient_pattern if what == "patient" else data.centre_pattern
    if not text:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise _pattern_error(what, f"{text!r} is not a regular expression: {error}") from None
    if pattern.groups < 1:
        example = "(person\\d+)_" if what == "patient" else "^([^/]+)/"
        raise _pattern_error(what, f"{text!r} has no group", f"Put the {what} in brackets, as {example}")
    return pattern


def _pattern_error(what: str, message: str, suggestion: str = "") -> ConfigError:
    problem = Problem(f"data.{what}_pattern", message, suggestion)
    return ConfigError("1 mistake", problems=(problem,), where="configuration")


def listed(findings: Sequence[Finding], limit: int = 100) -> str:
    """Findings as the lines of one error message; beyond ``limit`` only their number."""
    lines = [f"\n  - {finding}" for finding in findings[:limit]]
    rest = len(findings) - limit
    return "".join(lines) + (f"\n  - and {rest} more" if rest > 0 else "")


def counted(number: int, noun: str, nouns: str = "") -> str:
    """A number with its noun: "1 patient", "1,200 patients"; ``nouns`` where the plural is not made with an s."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


def short_name(place: str) -> str:
    """A place without its folders: "p/set.npz [train/217]" -> "set.npz [train/217]"."""
    path, bracket, item = place.partition(" [") if place.endswith("]") else (place, "", "")
    return PurePath(path).name + bracket + item


def shown(values: Iterable[object], limit: int = 5) -> str:
    """A few values for a message: "a, b, c and 12 more"."""
    texts = [str(value) for value in values]
    text = ", ".join(texts[:limit])
    return f"{text} and {len(texts) - limit} more" if len(texts) > limit else text
