"""What may be sent: a file, a folder with a DICOM series, bytes, an array, an Image. Names never go with it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from medrail.errors import InputError, UnsupportedFormat
from medrail.read import write_nifti
from medrail.types import Image

Source: TypeAlias = "str | os.PathLike[str] | bytes | npt.NDArray[Any] | Image"
"""A path, the bytes of a file, (H, W[, 3]) uint8 or (H, W) uint16, or an ``Image``."""


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """The bytes to send, from the first; files are not read as a whole.

    Raises
    ------
    InputError
        If an array or an Image cannot be sent as a picture or volume.
    UnsupportedFormat
        If there is no such file, or it cannot be read.
    """
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, np.ndarray):
        yield io.BytesIO(_png(source))
    elif isinstance(source, Image):
        with _of_image(source) as file:
            yield file
    elif Path(source).is_dir():
        with _zipped(Path(source)) as file:
            yield file
    else:
        with _file(Path(source)) as file:
            yield file


def _file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UnsupportedFormat(
            f"the file cannot be opened ({error.strerror})", where=str(path), remedy="Check the path."
        ) from None


def _png(array: npt.NDArray[Any]) -> bytes:
    from PIL import Image as Picture

    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    if not grey and not (array.ndim == 3 and array.shape[-1] == 3 and array.dtype == np.uint8):
        raise InputError(
            f"an array of shape {array.shape} and type {array.dtype}",
            needed="(H, W) uint8 or uint16, or (H, W, 3) uint8",
            remedy="Send volumes and other numbers as a medrail.Image, which says what they are and where they lie.",
        )
    buffer = io.BytesIO()
    Picture.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG")
    return buffer.getvalue()


@contextmanager
def _of_image(image: Image) -> Iterator[BinaryIO]:
    """A stored picture as PNG, so that it stays one; everything else as NIfTI."""
    channels, depth = image.voxels.shape[:2]
    if image.geometry is None and depth == 1 and image.unit in ("uint8", "uint16"):
        plane = np.asarray(image.voxels)[:, 0]
        yield io.BytesIO(_png(plane[0] if channels == 1 else np.moveaxis(plane, 0, -1)))
        return
    with TemporaryDirectory(prefix="medrail-") as folder:
        path = Path(folder) / "image.nii.gz"
        write_nifti(image, path)
        with path.open("rb") as file:
            yield file


@contextmanager
def _zipped(folder: Path) -> Iterator[BinaryIO]:
    """All files below a folder, called by their number: names of files hold names of patients."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise UnsupportedFormat("there is no file in the folder", where=str(folder), remedy="Check the path.")
    with TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for number, path in enumerate(paths):
                with _file(path) as content, archive.open(f"{number:06}", "w", force_zip64=True) as entry:
                    while chunk := content.read(1 << 20):
                        entry.write(chunk)
        file.seek(0)
        yield cast(BinaryIO, file)
