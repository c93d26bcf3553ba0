"""Patients that share a file: byte for byte the same image under two names must not stand in two splits."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from medrail.cases.fingerprint import FileHashes
from medrail.read.dicom.walk import walk
from medrail.read.digests import State, state_of
from medrail.types import Case

# No header that a data file belongs to is longer.
_HEADER_BYTES = 1 << 21


def patients_with_copies(cases: Sequence[Case], hashes: FileHashes) -> dict[str, str]:
    """Patient -> the first patient of its group, for patients that share an image's content with another.

    Only what is of equal size is hashed. A header with a data file is both of them (``medrail.read.files_of``); of a
    DICOM series' folder the files count, not their names. Members of a container are not compared here; the check
    compares pixels, and reports what is the same there.
    """
    by_size: dict[tuple[int, int, str], list[tuple[Case, tuple[State, ...]]]] = defaultdict(list)
    for case in cases:
        try:
            of_folder, files = _files(case, hashes)
        except OSError:  # reading the image will say so
            continue
        if of_folder:
            by_size[len(files), sum(map(_size, files)), case.item].append((case, files))
        elif files and not case.item:
            by_size[0, _size(files[-1]), ""].append((case, files))
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


def _files(case: Case, hashes: FileHashes) -> tuple[bool, tuple[State, ...]]:
    """Whether the case is a folder, and the files that its image is made of."""
    text = case.paths[0]
    status = os.stat(text)  # noqa: PTH116  pathlib takes three times as long, and there are many
    if stat.S_ISDIR(status.st_mode):
        return True, tuple(_files_below(text))
    return False, hashes.files(state_of(text, status)) if stat.S_ISREG(status.st_mode) else ()


def _files_below(folder: str) -> Iterator[State]:
    for path in walk(folder):
        try:
            status = os.stat(path)  # noqa: PTH116  as above
        except FileNotFoundError:  # a link that leads nowhere
            continue
        if stat.S_ISREG(status.st_mode):
            yield state_of(path, status)


def _size(file: State) -> int:
    return file[1]


def _of_all(files: tuple[State, ...], hashes: FileHashes) -> str:
    digests = sorted(hashes.content(file).digest for file in files)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _content(files: tuple[State, ...], hashes: FileHashes) -> str:
    """What is equal in copies. A header is compared without the name of its data file, which a copy may change."""
    header, data = files[0], files[-1]
    if header == data:
        return hashes.content(data).digest
    with Path(header[0]).open("rb") as file:
        text = file.read(_HEADER_BYTES).replace(os.fsencode(Path(data[0]).name), b"")
    return hashes.content(data).digest + hashlib.sha256(text).hexdigest()
