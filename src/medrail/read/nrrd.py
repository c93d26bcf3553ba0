"""NRRD (.nrrd, .nhdr + data file), its header parsed by pynrrd.

Definition: "Definition of NRRD File Format", teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nrrd import read_header

from medrail.errors import CorruptFile, GeometryError, UnsupportedFormat
from medrail.read.guard import Guard
from medrail.read.limits import check_voxels
from medrail.read.metaimage import data_file
from medrail.read.payload import Encoding, read_payload
from medrail.read.scaling import native
from medrail.read.space import Frame, geometry_of
from medrail.types import READ_AS_STORED, FloatArray, Geometry, Image, ReadOptions

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODES = {name: code for code, names in _TYPES.items() for name in names}
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw",
    "gz": "deflate",
    "gzip": "deflate",
    "bz2": "bzip2",
    "bzip2": "bzip2",
}
_FRAMES: dict[str, Frame] = {
    "left-posterior-superior": "LPS",
    "lps": "LPS",
    "right-anterior-superior": "RAS",
    "ras": "RAS",
    "left-anterior-superior": "LAS",
    "las": "LAS",
}
_MM_PER_UNIT = {
    "": 1.0,
    "mm": 1.0,
    "millimeter": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "um": 0.001,
    "μm": 0.001,
    "micron": 0.001,
}
_SPATIAL_KINDS = frozenset({"domain", "space"})
_MAX_HEADER_BYTES = 1 << 20


def read_nrrd(path: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """A NRRD -> (C, D, H, W): D, H, W are its third, second and first spatial axis, C the axis that is not in space.

    Without "space directions" and "spacings" there is no geometry; with spacings alone the axes are taken as R, A, S;
    directions in a space without anatomical names are read as LPS, as ITK does.

    Raises
    ------
    ReadError
        CorruptFile, UnsupportedFormat (text or hex voxels, several data files, more axes), or too large.
    GeometryError
        If its axes are no grid, or its space has a time axis.
    """
    with Guard(path, "NRRD"), path.open("rb") as file:
        header = _parse(file)
        sizes = [int(size) for size in header["sizes"]]
        spatial = _spatial_axes(header, len(sizes))
        dtype = _dtype(header)
        size = check_voxels(sizes, dtype.itemsize)
        voxels = np.frombuffer(_read_voxels(path, file, header, size), dtype).reshape(sizes, order="F")
        return Image(_to_planes(native(voxels), spatial), _geometry(header, spatial), source=str(path))


def _parse(file: BufferedReader) -> Mapping[str, Any]:
    """The header up to its empty line; the file then stands at the voxels (or at its end, with a data file)."""
    lines: list[bytes] = []
    left = _MAX_HEADER_BYTES
    while left > 0 and (line := file.readline(left)).strip():
        lines.append(line)
        left -= len(line)
    header: Mapping[str, Any] = read_header([line.decode("utf-8", "replace") for line in lines])
    missing = [key for key in ("dimension", "type", "encoding", "sizes") if key not in header]
    if missing or int(header["dimension"]) != len(header["sizes"]):
        raise CorruptFile(
            f"its header has no {', '.join(missing)}" if missing else "its dimension and sizes do not agree",
            needed="a NRRD header",
            remedy="Write it again.",
        )
    return header


def _dtype(header: Mapping[str, Any]) -> np.dtype[Any]:
    kind, encoding = str(header["type"]), str(header["encoding"]).lower()
    if kind not in _CODES or encoding not in _ENCODINGS:
        raise UnsupportedFormat(
            f"its type or encoding ({kind[:32]}, {encoding[:32]}) is not read",
            needed="numbers, encoded raw, gzip or bzip2",
            remedy="Write it again as gzip.",
        )
    dtype = np.dtype(_CODES[kind])
    if dtype.itemsize > 1 and header.get("endian") not in ("little", "big"):
        raise CorruptFile("its header does not say which byte comes first", needed="endian: little or big")
    return dtype.newbyteorder(">" if header.get("endian") == "big" else "<")


def _read_voxels(path: Path, file: BufferedReader, header: Mapping[str, Any], size: int) -> bytearray:
    encoding = _ENCODINGS[str(header["encoding"]).lower()]
    skip_lines = int(header.get("line skip", header.get("lineskip", 0)))
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    name = _data_file_name(header)
    if name is None:
        return _skip_and_read(file, size, encoding, skip_lines, skip)
    with data_file(path, name).open("rb") as data:
        return _skip_and_read(data, size, encoding, skip_lines, skip)


def nrrd_data_file(path: Path) -> Path | None:
    """The file that the header names for its voxels, or None where they follow it; raises as ``data_file``."""
    with path.open("rb") as file:
        name = _data_file_name(_parse(file))
    return None if name is None else data_file(path, name)


def _data_file_name(header: Mapping[str, Any]) -> str | None:
    name = header.get("data file", header.get("datafile"))
    return None if name is None else str(name)


def _skip_and_read(file: BufferedReader, size: int, encoding: Encoding, skip_lines: int, skip: int) -> bytearray:
    for _ in range(skip_lines):
        if not file.readline():
            break
    if skip < 0:  # -1: the voxels are the last bytes
        if encoding != "raw":
            raise UnsupportedFormat("counts its compressed voxels from the end", needed="byte skip of 0 or more")
        file.seek(max(file.seek(0, 2) - size, 0))
        skip = 0
    return read_payload(file, size, encoding, skip=skip)


def _spatial_axes(header: Mapping[str, Any], dimension: int) -> list[int]:
    """Which axes of the file, fastest first, lie in space."""
    directions = header.get("space directions")
    kinds = header.get("kinds")
    if directions is not None:
        axes = [axis for axis, row in enumerate(np.atleast_2d(directions)) if np.isfinite(row).all()]
    elif kinds is not None and len(kinds) == dimension:
        axes = [axis for axis, kind in enumerate(kinds) if kind.lower() in _SPATIAL_KINDS]
    else:
        axes = list(range(min(dimension, 3)))
    others = [int(header["sizes"][axis]) for axis in range(dimension) if axis not in axes]
    if len(axes) not in (2, 3) or sum(extent > 1 for extent in others) > 1:
        raise UnsupportedFormat(
            f"has {dimension} axes, {len(axes)} of them in space",
            needed="two or three axes in space and at most one other",
            remedy="Split it into one file a time point or component.",
        )
    return axes


def _to_planes(voxels: npt.NDArray[Any], spatial: list[int]) -> npt.NDArray[Any]:
    others = [axis for axis in range(voxels.ndim) if axis not in spatial]
    ordered = voxels.transpose([*others, *reversed(spatial)])
    shape = (1,) * (3 - len(spatial)) + tuple(ordered.shape[len(others) :])
    return ordered.reshape(-1, *shape)


def _geometry(header: Mapping[str, Any], spatial: list[int]) -> Geometry | None:
    directions = header.get("space directions")
    if directions is None:
        spacings = header.get("spacings")
        if spacings is None or not np.isfinite([spacings[axis] for axis in spatial]).all():
            return None
        d, h, w = [1.0] * (3 - len(spatial)) + [abs(float(spacings[axis])) for axis in reversed(spatial)]
        return Geometry.from_spacing((d, h, w))
    rows = np.atleast_2d(np.asarray(directions, dtype=np.float64))[spatial]
    origin = np.asarray(header.get("space origin", np.zeros(rows.shape[1])), dtype=np.float64)
    if rows.shape[1] not in (2, 3) or origin.size != rows.shape[1]:
        raise GeometryError(f"its space has {rows.shape[1]} dimensions", needed="two or three")
    if rows.shape[1] == 2:
        rows, origin = np.pad(rows, ((0, 0), (0, 1))), np.append(origin, 0.0)
    unit_mm = _unit_mm(header)
    rows, origin = rows * unit_mm, np.nan_to_num(origin * unit_mm)
    frame = _FRAMES.get(str(header.get("space", "")).lower(), "LPS")
    return geometry_of(_with_thickness(rows)[::-1].T, origin, frame)


def _with_thickness(rows: FloatArray) -> FloatArray:
    """A plane declares no thickness: 1 mm along its normal."""
    if len(rows) == 3:
        return rows
    normal = np.cross(rows[0], rows[1])
    return np.vstack([rows, normal / (np.linalg.norm(normal) or 1.0)])


def _unit_mm(header: Mapping[str, Any]) -> float:
    units = {str(unit).strip().lower() for unit in header.get("space units", ()) if str(unit) != "???"} or {""}
    unit = units.pop()
    if units or unit not in _MM_PER_UNIT:
        raise GeometryError("its space units are not understood", needed="the same length unit along each axis, as mm")
    return _MM_PER_UNIT[unit]
