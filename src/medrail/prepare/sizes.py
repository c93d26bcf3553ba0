"""How large cases are: the bytes of their files, and a guess at the memory that preparing one takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medrail.read import files_of
from medrail.read.dicom.walk import find_files
from medrail.types import Case

# Memory for each byte of the files: voxels of a plain series are read a slice at a time; what is compressed grows, and
# may have to be held as floating point numbers twice.
_OF_A_FOLDER, _OF_A_FILE = 6, 16


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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
