"""One image file that is no DICOM -> the bytes of its copy without anything but the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medrail.cases.deidentify.pictures import clean_bmp, clean_jpeg, clean_png
from medrail.cases.deidentify.tiff import clean_tiff, is_slide
from medrail.cases.deidentify.volumes import clean_metaimage, clean_nifti, clean_nrrd
from medrail.errors import DataError, UnsupportedFormat
from medrail.read import files_of, read
from medrail.read.guard import Guard
from medrail.types import Image

_PICTURES: Mapping[str, tuple[Callable[[bytes], bytes], str]] = {
    "png": (clean_png, ".png"),
    "jpeg": (clean_jpeg, ".jpg"),
    "tiff": (clean_tiff, ".tif"),
    "bmp": (clean_bmp, ".bmp"),
}
KINDS = frozenset(_PICTURES) | {"nifti", "metaimage", "nrrd"}


def copy_of(path: Path, kind: str) -> list[tuple[str, bytes]]:
    """The new files of one image: (suffix, content). A header with a data file of its own becomes one file.

    Raises
    ------
    ReadError
        If it cannot be parsed, is a whole slide, or of a form that cannot be cleaned.
    DataError
        If the copy does not read as the same image, or still holds text of the original.
    """
    with Guard(path, kind):
        content = path.read_bytes()
        files = list(_cleaned(path, kind, content))
        _look_through(path, content, files)
    return files


def _cleaned(path: Path, kind: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    if kind in _PICTURES:
        if kind == "tiff" and is_slide(content):
            raise UnsupportedFormat(
                "is a whole slide; its label and overview pictures show who it is of",
                remedy="Export the region or level that you need as a plain TIFF or PNG.",
            )
        clean, suffix = _PICTURES[kind]
        yield suffix, clean(content)
        return
    others = files_of(path)[1:]
    data = others[0].read_bytes() if others else None
    if kind == "nifti":
        if data is not None:
            raise UnsupportedFormat("is a header with a separate .img", remedy="Save it as one .nii or .nii.gz.")
        cleaned, zipped = clean_nifti(content)
        yield (".nii.gz" if zipped else ".nii"), cleaned
    elif kind == "metaimage":
        yield ".mha", clean_metaimage(content, data)
    elif kind == "nrrd":
        yield ".nrrd", clean_nrrd(content, data)


def _look_through(path: Path, original: bytes, files: list[tuple[str, bytes]]) -> None:
    """The copy must read as the same image, where the original can be read at all."""
    with TemporaryDirectory() as folder:
        for suffix, content in files:
            new = Path(folder) / f"copy{suffix}"
            new.write_bytes(content)
            if not _same(read(path), read(new)):
                raise DataError("does not read as the same image without its metadata", remedy="It was not written.")


def _same(one: Image, other: Image) -> bool:
    if (one.geometry is None) != (other.geometry is None) or one.unit != other.unit:
        return False
    if one.geometry is not None and other.geometry is not None and not one.geometry.is_close(other.geometry):
        return False
    equal_nan = one.voxels.dtype.kind == "f"
    return bool(np.array_equal(one.voxels, other.voxels, equal_nan=equal_nan))
