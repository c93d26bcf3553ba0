"""What the first-level folders of DICOM files are, patients or classes: by a table, by headers, by depth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medrail.cases.layouts.rows import read_sheet
from medrail.cases.listing import shown, split_named
from medrail.errors import CaseError, MedrailError, ReadError
from medrail.plan.layout import too_many_classes
from medrail.plan.listing import FolderListing, folder_of, stem
from medrail.plan.pairing import says_mask
from medrail.read import series_in
from medrail.read.dicom.pixels import parse
from medrail.read.dicom.who import KEYWORDS, who_of
from medrail.read.guard import Guard

_LOOKED_AT = 6  # folders whose series are looked at
_MOST_FOLDERS, _MOST_FILES = 40, 12  # first-level folders, and files of each, whose headers are looked at


@dataclass(frozen=True)
class DicomFolders:
    """The first-level folders that hold DICOM files.

    patients:
        Their names, where they are patients; () where they are classes, or there are none.
    doubt:
        A sentence for the user where it could be otherwise.
    """

    patients: tuple[str, ...] = ()
    doubt: str = ""


def dicom_folders(listing: FolderListing) -> DicomFolders:
    """Whether the first-level folders are patients or classes, where most images are DICOM files in such.

    In this order: a table or masks that name the folders make them patients. Where most folders hold files of several
    patients (Patient ID) they are classes; where each holds one of its own, patients; so, too, where the folders inside
    each are one study (Study Instance UID). Where headers say nothing of that, files two folders deep are taken for
    CLASS/PATIENT, single pictures for pictures of a class, and everything else for series of patients.
    """
    folders = _first_level(listing)
    if not folders or all(split_named(name) for name in folders):
        return DicomFolders()
    if _has_table(listing, folders) or _has_masks(listing, folders):
        return DicomFolders(tuple(folders))
    files = _by_folder(listing)
    by_header = _by_header(listing.root, files)
    if by_header is not None:
        return DicomFolders(() if by_header == "classes" else tuple(folders), _doubt_of_headers(by_header, files))
    return _by_depth(listing, files)


def names_patients(path: Path, folders: Sequence[str]) -> bool:
    """Whether a table's column of patients has at least half of the folders."""
    try:
        sheet = read_sheet(path)
    except CaseError:
        return False
    column = sheet.column("patient")
    cells = {sheet.cell(row, column) for row in sheet.rows}
    return bool(column) and 2 * len(cells & set(folders)) >= len(folders)


def _first_level(listing: FolderListing) -> list[str]:
    if 2 * len(listing.dicoms) < len(listing.images):
        return []
    return sorted({name.partition("/")[0] for name in listing.dicoms if "/" in name})


def _has_table(listing: FolderListing, folders: Sequence[str]) -> bool:
    return any(names_patients(listing.root / name, folders) for name in listing.tables)


def _has_masks(listing: FolderListing, folders: Sequence[str]) -> bool:
    """Volumes that lie in the folders, or are called as them in a folder of masks."""
    inside = {name.partition("/")[0] for name in listing.volumes}
    called = {stem(name) for name in listing.volumes if says_mask(folder_of(name).rpartition("/")[2])}
    return 2 * len((inside | called) & set(folders)) >= len(folders)


def _by_folder(listing: FolderListing) -> dict[str, list[str]]:
    files: dict[str, list[str]] = defaultdict(list)
    for name in listing.dicoms:
        if "/" in name:
            files[name.partition("/")[0]].append(name)
    return dict(files)


def _by_header(root: Path, files: Mapping[str, Sequence[str]]) -> str | None:
    """ "classes" or "patients"; None where the headers do not say."""
    looked = [_identifiers(root, files[name]) for name in _spread(sorted(files), _MOST_FOLDERS)]
    patients = [{patient for _, patient, _ in folder if patient} for folder in looked]
    known = [found for found in patients if found]
    if len(set().union(*known)) > 1:
        several = sum(len(found) > 1 for found in known)
        return "classes" if 2 * several >= len(known) else "patients"
    studies = [{study for _, _, study in folder if study} for folder in looked]
    inner = [len({leaf for leaf, _, _ in folder}) for folder in looked]
    one_study = [len(found) == 1 and count > 1 for found, count in zip(studies, inner, strict=True)]
    if len(set().union(*studies)) > 1 and 2 * sum(one_study) >= len(looked):
        return "patients"
    return None


def _identifiers(root: Path, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """(folder, patient, study) of one file of each folder, or of some files where there is one folder only."""
    leaves: dict[str, str] = {}
    for name in names:
        leaves.setdefault(folder_of(name), name)
    chosen = list(leaves.values()) if len(leaves) > 1 else list(names)
    found = []
    for name in _spread(chosen, _MOST_FILES):
        try:
            with Guard(root / name, "DICOM"):
                who = who_of(parse(root / name, KEYWORDS))
        except (MedrailError, OSError):
            continue
        found.append((folder_of(name), who.patient_key, who.study_key))
    return found


def _spread(names: Sequence[str], most: int) -> Sequence[str]:
    step = -(-len(names) // most)
    return names[:: max(1, step)]


def _doubt_of_headers(found: str, files: Mapping[str, Sequence[str]]) -> str:
    """Folders with one inner folder each may be patients with a series, or classes with a patient."""
    inner = [{folder_of(name) for name in names} for names in files.values()]
    alone = all(len(leaves) == 1 and next(iter(leaves)).count("/") == 1 for leaves in inner)
    return _if_classes(list(files)) if found == "patients" and alone and len(files) > 1 else ""


def _by_depth(listing: FolderListing, files: Mapping[str, Sequence[str]]) -> DicomFolders:
    folders = sorted(files)
    depths = {name.count("/") for names in files.values() for name in names}
    leaves = {folder: len({folder_of(name) for name in names}) for folder, names in files.items()}
    if depths == {1}:
        return DicomFolders(() if _are_pictures(listing.root, folders) else tuple(folders))
    if depths == {2} and len(folders) > 1 and not too_many_classes(leaves):
        return DicomFolders((), _if_patients(files))
    return DicomFolders(tuple(folders), _if_classes(folders) if len(folders) > 1 else "")


def _are_pictures(root: Path, folders: Sequence[str]) -> bool:
    """Whether the folders hold single pictures rather than series of slices."""
    pictures = volumes = 0
    for folder in _spread(folders, _LOOKED_AT):
        try:
            series = series_in(root / folder)
        except ReadError:
            continue
        single = sum(len(one.files) == 1 for one in series)
        pictures += len(series) > 1 and single == len(series)
        volumes += single < len(series)
    return pictures > volumes


def _if_patients(files: Mapping[str, Sequence[str]]) -> str:
    example = folder_of(next(iter(files.values()))[0])
    return (
        f"the headers do not say which folders are patients: {example}/ is taken for CLASS/PATIENT/. If "
        f"{shown(files, 3)} are patients, set data.kind: dicom_folders and give data.labels, a CSV with the columns "
        "patient and label"
    )


def _if_classes(folders: Sequence[str]) -> str:
    return (
        f"the folders {shown(folders, 3)} are taken for patients; if they are classes with patients' folders inside, "
        "set data.kind: class_folders"
    )
