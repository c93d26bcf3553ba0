"""MetaImage (.mha, .mhd + .raw / .zraw), read by its own text header.

Definition: the MetaIO documentation of ITK ("MetaIO/Documentation"). Its physical frame is ITK's, LPS.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.guard import Guard
from medrail.read.limits import check_voxels
from medrail.read.payload import read_payload
from medrail.read.scaling import native
from medrail.read.space import geometry_of
from medrail.types import READ_AS_STORED, FloatArray, Geometry, Image, ReadOptions

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # four bytes by definition, whatever the machine
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MAX_HEADER_LINES = 500
_MAX_LINE_BYTES = 4096


def read_metaimage(path: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """A MetaImage -> (C, D, H, W): D, H, W are its z, y, x; C its element channels or its fourth dimension.

    A two-dimensional image gets D = 1, 1 mm thick, because a plane declares no thickness.

    Raises
    ------
    ReadError
        CorruptFile, UnsupportedFormat (text voxels, one file a slice, a data file elsewhere), or too large.
    GeometryError
        If its axes are no grid.
    """
    with Guard(path, "MetaImage"), path.open("rb") as file:
        fields = _read_fields(file)
        shape, channels = _shape(fields)
        dtype = _dtype(fields)
        size = check_voxels((*shape, channels), dtype.itemsize)
        voxels = np.frombuffer(_read_voxels(path, file, fields, size), dtype)
        return Image(_to_planes(native(voxels), shape, channels), _geometry(fields), source=str(path))


def _read_fields(file: BufferedReader) -> dict[str, str]:
    """The lines ``Key = value`` up to and including ElementDataFile, after which local voxels begin."""
    fields: dict[str, str] = {}
    for _ in range(_MAX_HEADER_LINES):
        line = file.readline(_MAX_LINE_BYTES).decode("utf-8", "replace")
        key, equals, value = line.partition("=")
        if line.strip() and not equals:
            break
        if equals:
            fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile" or not line:
            break
    missing = [key for key in ("NDims", "DimSize", "ElementType", "ElementDataFile") if not fields.get(key)]
    if missing:
        raise CorruptFile(
            f"its header has no {', '.join(missing)}", needed="a MetaImage header", remedy="Write it again."
        )
    return fields


def _flag(fields: Mapping[str, str], key: str, default: str = "False") -> bool:
    return fields.get(key, default).strip().lower() in ("true", "1")


def _numbers(fields: Mapping[str, str], keys: tuple[str, ...], default: FloatArray) -> FloatArray:
    """The first of several names that a field has had, as floats in the shape of ``default``."""
    text = next((fields[key] for key in keys if key in fields), None)
    if text is None:
        return default
    values = np.array([float(word) for word in text.split()])
    if values.size != default.size:
        raise CorruptFile(f"{keys[0]} has {values.size} numbers", needed=str(default.size), remedy="Repair the header.")
    return values.reshape(default.shape)


def _shape(fields: Mapping[str, str]) -> tuple[tuple[int, ...], int]:
    shape = tuple(int(word) for word in fields["DimSize"].split())
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    if len(shape) != int(fields["NDims"]):
        raise CorruptFile(f"NDims = {int(fields['NDims'])} and {len(shape)} sizes", remedy="Repair the header.")
    if len(shape) not in (2, 3, 4) or (len(shape) == 4 and channels > 1):
        raise UnsupportedFormat(
            f"has {len(shape)} dimensions and {channels} channels",
            needed="two or three in space, and time or channels",
            remedy="Split it into one file a time point.",
        )
    return shape, channels


def _dtype(fields: Mapping[str, str]) -> np.dtype[Any]:
    kind = fields["ElementType"].upper().removesuffix("_ARRAY")
    if kind not in _TYPES or not _flag(fields, "BinaryData", "True"):
        raise UnsupportedFormat(
            f"its voxels are {'text' if kind in _TYPES else 'of a type it calls ' + kind[:32]}",
            needed=f"binary, one of {', '.join(_TYPES)}",
            remedy="Write it again with ITK or SimpleITK.",
        )
    big = _flag(fields, "BinaryDataByteOrderMSB") or _flag(fields, "ElementByteOrderMSB")
    return np.dtype(_TYPES[kind]).newbyteorder(">" if big else "<")


def _read_voxels(path: Path, file: BufferedReader, fields: Mapping[str, str], size: int) -> bytearray:
    compressed = _flag(fields, "CompressedData")
    name = fields["ElementDataFile"]
    if name.upper() == "LOCAL":
        return read_payload(file, size, "deflate" if compressed else "raw")
    skip = int(fields.get("HeaderSize", "0"))
    with data_file(path, name).open("rb") as data:
        if skip < 0 and not compressed:  # -1: the voxels are the file's last bytes
            skip = max(data_file(path, name).stat().st_size - size, 0)
        return read_payload(data, size, "deflate" if compressed else "raw", skip=max(skip, 0))


def metaimage_data_file(path: Path) -> Path | None:
    """The file that the header names for its voxels, or None where they follow it; raises as ``data_file``."""
    with path.open("rb") as file:
        name = _read_fields(file)["ElementDataFile"]
    return None if name.upper() == "LOCAL" else data_file(path, name)


def data_file(header: Path, name: str) -> Path:
    """The file that a header names for its voxels; only in or below the header's own folder.

    Raises
    ------
    UnsupportedFormat
        If it names several files, or one elsewhere: a header from a stranger must not open any file of this machine.
    CorruptFile
        If that file is missing.
    """
    if name.upper().startswith("LIST") or "%" in name:
        raise UnsupportedFormat(
            "keeps its voxels in one file a slice", needed="one data file", remedy="Write it again as one file."
        )
    folder = header.parent.resolve()
    path = (folder / name).resolve()
    if folder not in path.parents:
        raise UnsupportedFormat(
            "its data file lies outside its folder", needed="both in one folder", remedy="Move it beside the header."
        )
    if not path.is_file():
        raise CorruptFile(
            "its data file is missing", needed=f"{path.relative_to(folder)} beside it", remedy="Copy both files."
        )
    return path


def _to_planes(voxels: npt.NDArray[Any], shape: tuple[int, ...], channels: int) -> npt.NDArray[Any]:
    """Flat, the channel fastest, then x, y, z, t -> (c or t, z, y, x)."""
    x, y, z, t = (*shape, 1, 1)[:4]
    return voxels.reshape(t, z, y, x, channels).transpose(0, 4, 1, 2, 3).reshape(t * channels, z, y, x)


def _geometry(fields: Mapping[str, str]) -> Geometry:
    n = int(fields["NDims"])
    spacing = _numbers(fields, ("ElementSpacing", "ElementSize"), np.ones(n))
    origin = _numbers(fields, ("Offset", "Position", "Origin"), np.zeros(n))
    # One row of the text is the direction of one axis.
    directions = _numbers(fields, ("TransformMatrix", "Rotation", "Orientation"), np.eye(n))
    if n == 2:
        spacing, origin = np.append(spacing, 1.0), np.append(origin, 0.0)
        directions = np.block([[directions, np.zeros((2, 1))], [np.zeros((1, 2)), np.ones((1, 1))]])
    columns = directions[:3, :3].T * spacing[:3]
    return geometry_of(columns[:, ::-1], origin[:3], "LPS")
