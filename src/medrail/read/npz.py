"""Members of a MedMNIST npz: ``train_images/12`` is the thirteenth picture (or small volume) of that array.

Layout: medmnist.com (Yang et al., Scientific Data 2023): NAME_images (N, H, W), (N, H, W, 3) or (N, D, H, W).
"""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

from medrail.errors import ReadError, UnsupportedFormat
from medrail.read.guard import Guard
from medrail.read.limits import check_voxels
from medrail.types import READ_AS_STORED, Image, ReadOptions, Unit

_UNITS: dict[str, Unit] = {"uint8": "uint8", "uint16": "uint16"}


def read_npz(path: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """One member ``NAME/INDEX`` -> (1 or 3, 1, H, W) or (1, D, H, W), without physical space.

    Raises
    ------
    ReadError
        If the item is missing or names no member (the error lists what there is); CorruptFile for a broken archive;
        UnsupportedFormat for arrays of Python objects or of another shape.
    """
    with Guard(path, "npz"):
        name, _, index_text = item.rpartition("/")
        stat = path.stat()
        if not name or not index_text.isdecimal():
            raise ReadError(
                "holds many pictures",
                needed=f"one of them, as {_example(path)}",
                remedy="Name it as the item of the case.",
            )
        array = _load(path, name, stat.st_mtime_ns, stat.st_size)
        index = int(index_text)
        if index >= len(array):
            raise ReadError(f"{name} holds {len(array)} pictures", needed=f"an index below that, not {index}")
        voxels = np.ascontiguousarray(_to_planes(array[index]))
        return Image(voxels, unit=_UNITS.get(voxels.dtype.name, "arbitrary"), source=str(path))


def npz_pictures(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each array of pictures; nothing is unpacked.

    Raises
    ------
    ReadError
        CorruptFile for a broken archive.
    """
    found: dict[str, tuple[int, ...]] = {}
    with Guard(path, "npz"), zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".npy") and not name.endswith("_labels.npy"):
                with archive.open(name) as member:
                    found[name.removesuffix(".npy")] = _declared(member)[0]
    return {name: shape for name, shape in found.items() if len(shape) in (3, 4)}


def _example(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = sorted(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))
    return ", ".join(f"{name}/0" for name in names if not name.endswith("_labels")) or "NAME/0"


# Reading one picture of a compressed member means inflating all before it: the member is kept for the next one.
@lru_cache(maxsize=2)
def _load(path: Path, name: str, mtime_ns: int, size: int) -> npt.NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            raise ReadError(f"has no array {name[:64]!r}", needed=f"one of {_example(path)}")
        with archive.open(f"{name}.npy") as member:
            shape, dtype = _declared(member)
        if dtype.hasobject or dtype.kind not in "buif" or len(shape) not in (3, 4):
            raise UnsupportedFormat(
                f"{name} is an array of shape {shape} and type {dtype.name}",
                needed="(N, H, W[, 3]) or (N, D, H, W) numbers",
            )
        check_voxels(shape, dtype.itemsize)
        with archive.open(f"{name}.npy") as member:
            array: npt.NDArray[Any] = npy.read_array(member, allow_pickle=False)
    array.setflags(write=False)
    return array


def _declared(member: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(member)
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = reader(member)
    return tuple(shape), dtype


def _to_planes(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if picture.ndim == 2:
        return picture[None, None]
    if picture.shape[-1] == 3:
        return np.moveaxis(picture, -1, 0)[:, None]
    return picture[None]
