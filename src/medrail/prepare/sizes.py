"""How large cases are: the bytes of their files, and a guess at the memory that preparing one takes."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from medrail.read import files_of
from medrail.read.dicom.header import Header
from medrail.read.dicom.headers import look
from medrail.read.dicom.pixels import UNCOMPRESSED
from medrail.read.dicom.walk import find_files, walk
from medrail.read.digests import State, state_of
from medrail.types import Case

# Memory for each byte of the files: voxels of a plain series are read a slice at a time; what is compressed grows, and
# may have to be held as floating point numbers twice.
_OF_A_FOLDER, _OF_A_FILE = 6, 16
# Of these the name says that there is no other file; nobody needs to open them.
_ALONE = (".png", ".jpg", ".jpeg", ".bmp")


def sizes_of(cases: Sequence[Case]) -> dict[str, int]:
    """Bytes of each case's files, by its id; a file that several cases are parts of is divided among them."""
    sharers = Counter((case.paths, case.target, case.roi) if not case.item else (case.paths, "", "") for case in cases)
    known: dict[object, int] = {}
    sizes = {}
    for case in cases:
        key = (case.paths, case.target, case.roi) if not case.item else (case.paths, "", "")
        if key not in known:
            known[key] = input_bytes([case])
        sizes[case.id] = known[key] // sharers[key]
    return sizes


def input_bytes(cases: Iterable[Case]) -> int:
    """Size of the files of the cases, each counted once; what is missing counts nothing."""
    paths: set[str] = set()
    for case in cases:
        for text in (*case.paths, case.roi, case.target):
            if text and Path(text).is_absolute():  # else the target is a class name
                paths.update(_files(text))
    return sum(map(_size, paths))


def states_of(case: Case) -> frozenset[State]:
    """Size and times of all files of a case, as the system has them now; what is missing is missing here, too."""
    found = set()
    for text in (*case.paths, case.roi, case.target):
        if text and Path(text).is_absolute():
            for path in _files(text):
                with suppress(OSError):
                    found.add(state_of(path, os.stat(path)))  # noqa: PTH116  pathlib is slow, and there are many
    return frozenset(found)


def needs_bytes(case: Case, size: int) -> int:
    """A guess, right in proportion: what was measured corrects it (``medrail.crew``)."""
    return size * (_OF_A_FOLDER if os.path.isdir(case.paths[0]) else _OF_A_FILE)  # noqa: PTH112  pathlib is slow, and there are many


def is_plain_series(case: Case) -> bool:
    """Whether the first file of a folder is an uncompressed DICOM image: what is read at the speed of the disk."""
    folder = Path(case.paths[0])
    first = next(find_files(folder), None) if folder.is_dir() else None
    header = look(first) if first is not None else None
    return isinstance(header, Header) and header.syntax in UNCOMPRESSED


def _files(text: str) -> Iterable[str]:
    if text.lower().endswith(_ALONE):
        return (text,)
    path = Path(text)
    return walk(text) if path.is_dir() else map(str, files_of(path))


def _size(path: str) -> int:
    try:
        status = os.stat(path)  # noqa: PTH116  as above
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
