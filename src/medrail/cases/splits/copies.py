"""Patients that share a file: byte for byte the same image under two names must not stand in two splits."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from medrail.cases.fingerprint import FileHashes
from medrail.read.dicom.walk import find_files
from medrail.types import Case

# No header that a data file belongs to is longer.
_HEADER_BYTES = 1 << 21


def patients_with_copies(cases: Sequence[Case], hashes: FileHashes) -> dict[str, str]:
    """Patient -> the first patient of its group, for patients that share an image's content with another.

    Only what is of equal size is hashed. A header with a data file is both of them (``medrail.read.files_of``); of a
    DICOM series' folder the files count, not their names. Members of a container are not compared here; the check
    compares pixels, and reports what is the same there.
    """
    by_size: dict[tuple[int, int, str], list[tuple[Case, tuple[Path, ...]]]] = defaultdict(list)
    for case in cases:
        path = Path(case.paths[0])
        if path.is_dir():
            files = _files_below(path)
            by_size[len(files), sum(file.stat().st_size for file in files), case.item].append((case, files))
        elif not case.item and path.is_file():
            files = hashes.files(path)
            by_size[0, files[-1].stat().st_size, ""].append((case, files))
    leader: dict[str, str] = {}

    def find(patient: str) -> str:
        while leader.get(patient, patient) != patient:
            patient = leader[patient]
        return patient

    for (count, _, _), group in by_size.items():
        first_of: dict[str, str] = {}
        for case, files in group if len(group) > 1 else ():
            try:
                content = _of_all(files, hashes) if count else _content(files, hashes)
            except OSError:  # reading the image will say so
                continue
            first = find(first_of.setdefault(content, case.patient))
            other = find(case.patient)
            leader[max(first, other)] = min(first, other)
    return {patient: find(patient) for patient in leader if find(patient) != patient}


def _files_below(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in find_files(folder) if path.is_file())


def _of_all(files: tuple[Path, ...], hashes: FileHashes) -> str:
    return hashlib.sha256("".join(sorted(map(hashes.digest, files))).encode()).hexdigest()


def _content(files: tuple[Path, ...], hashes: FileHashes) -> str:
    """What is equal in copies. A header is compared without the name of its data file, which a copy may change."""
    header, data = files[0], files[-1]
    if header == data:
        return hashes.digest(data)
    with header.open("rb") as file:
        text = file.read(_HEADER_BYTES).replace(os.fsencode(data.name), b"")
    return hashes.digest(data) + hashlib.sha256(text).hexdigest()
