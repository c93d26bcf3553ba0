"""How large cases are: the bytes of their files, and a guess at the memory that preparing one takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from medrail.read import files_of
from medrail.read.dicom.header import Header
from medrail.read.dicom.headers import look
from medrail.read.dicom.pixels import UNCOMPRESSED
from medrail.read.dicom.walk import find_files
from medrail.types import Case

# Memory for each byte of the files: voxels of a plain series are read a slice at a time; what is compressed grows, and
# may have to be held as floating point numbers twice.
_OF_A_FOLDER, _OF_A_FILE = 6, 16


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
    paths: set[Path] = set()
    for case in cases:
        for path in map(Path, [*case.paths, *filter(None, (case.roi, case.target))]):
            if path.is_absolute():  # else the target is a class name
                paths.update(find_files(path) if path.is_dir() else files_of(path))
    return sum(_size(path) for path in paths)


def needs_bytes(case: Case, size: int) -> int:
    """A guess, right in proportion: what was measured corrects it (``medrail.crew``)."""
    return size * (_OF_A_FOLDER if Path(case.paths[0]).is_dir() else _OF_A_FILE)


def is_plain_series(case: Case) -> bool:
    """Whether the first file of a folder is an uncompressed DICOM image: what is read at the speed of the disk."""
    folder = Path(case.paths[0])
    first = next(find_files(folder), None) if folder.is_dir() else None
    header = look(first) if first is not None else None
    return isinstance(header, Header) and header.syntax in UNCOMPRESSED


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
