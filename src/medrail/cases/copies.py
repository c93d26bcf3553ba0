"""Patients that share a file: byte for byte the same image under two names must not stand in two splits."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from medrail.cases.fingerprint import FileHashes
from medrail.read import files_of
from medrail.types import Case

# No header that a data file belongs to is longer.
_HEADER_BYTES = 1 << 21


def patients_with_copies(cases: Sequence[Case], hashes: FileHashes) -> dict[str, str]:
    """Patient -> the first patient of its group, for patients that share an image file's content with another.

    Only files of equal size are hashed; a header with a data file is both of them (``medrail.read.files_of``). Folders
    (DICOM series) and members of a container are not compared here; the check compares pixels, and reports what is the
    same there.
    """
    by_size: dict[int, list[tuple[Case, tuple[Path, ...]]]] = defaultdict(list)
    for case in cases:
        path = Path(case.paths[0])
        if not case.item and path.is_file():
            files = files_of(path)
            by_size[files[-1].stat().st_size].append((case, files))
    leader: dict[str, str] = {}

    def find(patient: str) -> str:
        while leader.get(patient, patient) != patient:
            patient = leader[patient]
        return patient

    for group in by_size.values():
        first_of: dict[str, str] = {}
        for case, files in group if len(group) > 1 else ():
            first = find(first_of.setdefault(_content(files, hashes), case.patient))
            other = find(case.patient)
            leader[max(first, other)] = min(first, other)
    return {patient: find(patient) for patient in leader if find(patient) != patient}


def _content(files: tuple[Path, ...], hashes: FileHashes) -> str:
    """What is equal in copies. A header is compared without the name of its data file, which a copy may change."""
    header, data = files[0], files[-1]
    if header == data:
        return hashes.sha256(data)
    with header.open("rb") as file:
        text = file.read(_HEADER_BYTES).replace(os.fsencode(data.name), b"")
    return hashes.sha256(data) + hashlib.sha256(text).hexdigest()
