"""Which files one image is made of: a header may name another file that holds its voxels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from medrail.errors import MedrailError
from medrail.read.guard import Guard
from medrail.read.metaimage import metaimage_data_file
from medrail.read.nifti import nifti_data_file
from medrail.read.nrrd import nrrd_data_file
from medrail.read.slide_kind import slide_files
from medrail.read.sniff import known_kind

# The formats in which header and voxels may be two files. None: the voxels follow the header.
_DATA_FILES: Mapping[str, Callable[[Path], Path | None]] = {
    "metaimage": metaimage_data_file,
    "nifti": nifti_data_file,
    "nrrd": nrrd_data_file,
}


def files_of(path: Path) -> tuple[Path, ...]:
    """The files whose content is the image at ``path``: itself, then the data file that its header names, if any.

    Of a whole slide in several files (MIRAX, DICOM): all of them. Only the header is read. Never raises: for a folder,
    a file of another kind, a broken header, and for a data file that is missing or that ``read`` would refuse to open
    (outside of the header's folder), it is ``(path,)``.
    """
    try:
        if not path.is_file():
            return (path,)
        with Guard(path, "header"):
            kind = known_kind(path)
            if kind in ("dicom", "jpeg"):
                return slide_files(path)
            data_file = _DATA_FILES.get(kind, _none)(path)
    except (MedrailError, OSError, ValueError):
        return (path,)
    return (path,) if data_file is None else (path, data_file)


def _none(path: Path) -> Path | None:
    return None
