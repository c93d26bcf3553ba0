"""The table of readers, and ``read``: any file or folder -> Image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import ReadError
from medrail.read.contents import holds_many, names_a_file, read_inside
from medrail.read.dicom import open_series, read_dicom, read_series
from medrail.read.digests import Digests
from medrail.read.guard import Guard
from medrail.read.metaimage import read_metaimage
from medrail.read.nifti import read_nifti
from medrail.read.npz import read_npz
from medrail.read.nrrd import read_nrrd
from medrail.read.raster import read_indices, read_picture
from medrail.read.slide import read_slide
from medrail.read.slide_kind import is_slide_dicom
from medrail.read.sniff import sniff
from medrail.read.unread import UnreadImage
from medrail.types import READ_AS_STORED, Image, ReadOptions

Reader = Callable[[Path, str, ReadOptions], Image]

READERS: dict[str, Reader] = {
    "dicom": read_dicom,
    "nifti": read_nifti,
    "metaimage": read_metaimage,
    "nrrd": read_nrrd,
    "png": read_picture,
    "jpeg": read_picture,
    "tiff": read_picture,
    "bmp": read_picture,
    "npz": read_npz,
    "slide": read_slide,
}
_MASK_READERS: dict[str, Reader] = READERS | dict.fromkeys(("png", "jpeg", "tiff", "bmp"), read_indices)
_WITH_ITEMS = frozenset({"npz", "slide", "dicom"})


def read(path: str | Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """Read one image: (C, D, H, W), RAS+ mm.

    Parameters
    ----------
    path:
        A file of any kind in ``READERS``, told by its content; a folder, a zip or a DICOMDIR with one image.
    item:
        Which image is meant where there are several: a series of the folder (``series_in`` lists them), or a file by
        its path inside the folder or zip; a member of a MedMNIST npz as ``train_images/12``; or a part of a whole slide
        (``medrail.read.place``).
    options:
        What to do where a file leaves a choice.

    Raises
    ------
    ReadError
        Missing, unreadable, too large; ``UnsupportedFormat`` and ``CorruptFile`` are kinds of it.
    GeometryError
        The slices make no volume, or the header describes no grid.
    """
    return _read(Path(path), item, options, READERS)


def open_image(
    path: str | Path, item: str = "", options: ReadOptions = READ_AS_STORED, digests: Digests | None = None
) -> Image | UnreadImage:
    """As ``read``; what can be read a slice at a time comes back unread (plain DICOM series, at present).

    ``digests`` takes the digests of files that are read whole on the way. Errors as ``read``.
    """
    folder = Path(path)
    with Guard(folder, "path"):
        is_series = folder.is_dir() and not names_a_file(folder, item)
    return open_series(folder, item, options, digests) if is_series else read(path, item, options)


def read_mask(path: str | Path, item: str = "") -> Image:
    """Read a mask: whole numbers (1, D, H, W), unit "label". A palette PNG gives its indices, not its colours.

    Raises
    ------
    ReadError
        As ``read``; and if the values are not whole numbers or there are several channels.
    GeometryError
        As ``read``.
    """
    image = _read(Path(path), item, READ_AS_STORED, _MASK_READERS)
    if image.channels != 1:
        raise ReadError(
            f"has {image.channels} channels",
            needed="a mask with one number a voxel",
            where=str(path),
            remedy="Give the mask, not the image; merge one-hot channels into one of class numbers.",
        )
    return replace(image, voxels=_whole_numbers(image.voxels, str(path)), unit="label")


def _read(path: Path, item: str, options: ReadOptions, readers: dict[str, Reader]) -> Image:
    with Guard(path, "path"):
        is_folder = path.is_dir()
    if is_folder:
        if names_a_file(path, item):
            return _read(path / PurePosixPath(item), "", options, readers)
        return read_series(path, item, options)
    kind = sniff(path)
    if holds_many(path, kind):
        return read_inside(path, item, options, lambda file, inner: _read(file, inner, options, readers))
    if (kind == "tiff" and item) or (kind == "dicom" and is_slide_dicom(path)):
        kind = "slide"
    if item and kind not in _WITH_ITEMS:
        raise ReadError(
            f"is one {kind} image and has no items", where=str(path), needed="no item", remedy="Leave the item empty."
        )
    return readers[kind](path, item, options)


def _whole_numbers(voxels: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    if voxels.dtype.kind in "iu":
        return voxels
    if voxels.dtype.kind == "b":
        return voxels.astype(np.uint8)
    if not np.isfinite(voxels).all() or not (voxels == np.round(voxels)).all():
        raise ReadError(
            "is a mask with values that are no whole numbers",
            needed="class numbers",
            where=where,
            remedy="Threshold a probability map first; a resampled mask needs nearest neighbour.",
        )
    low, high = float(voxels.min()), float(voxels.max())
    for dtype in (np.uint8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return voxels.astype(dtype)
    raise ReadError(f"is a mask with values up to {high:g}", needed="class numbers", where=where)
