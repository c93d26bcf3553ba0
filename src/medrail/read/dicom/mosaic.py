"""Siemens mosaics: the slices of one MR volume laid out as tiles of one picture.

How many tiles, and to which side they follow one another, stands in the private "CSA image header", whose layout
(format SV10) is known from nibabel's documentation "Siemens CSA header format"; where the first tile lies follows from
the rule that Image Position (Patient) is that of a full-size picture with the tile's centre (dcm2niix and nibabel say
the same).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.dicom.elements import Numbers, read_numbers
from medrail.read.dicom.plane import Plane

_GROUP = 0x0029
_CREATOR = "SIEMENS CSA HEADER"
_WANTED = ("NumberOfImagesInMosaic", "SliceNormalVector", "B_value", "DiffusionGradientDirection")
_MAX_TAGS, _MAX_ITEMS, _MAX_TILES = 1024, 4096, 1024
_LARGEST_STEP_MM = 1e3


def is_mosaic(image_type: Sequence[str]) -> bool:
    """Whether a file's one picture shows the slices of a volume side by side, as Siemens writes functional MR."""
    return "MOSAIC" in image_type


def tile_planes(dataset: Any, path: Path, whole: Plane, rows: int, columns: int) -> tuple[tuple[Plane, ...], int]:
    """The slices of a mosaic, in the order of its tiles, and the number of tiles along each side.

    Parameters
    ----------
    whole:
        The plane of the mosaic as if it were one slice of ``rows`` x ``columns``.

    Raises
    ------
    UnsupportedFormat
        If the private header is absent (as after de-identification) or of another form: the tiles have no place then.
    CorruptFile
        If it is there and broken.
    """
    csa = csa_values(_csa_bytes(dataset, path))
    count = int(csa.get("NumberOfImagesInMosaic", (0.0,))[0])
    normal = np.array(csa.get("SliceNormalVector", ()), dtype=np.float64)
    step = read_numbers(dataset, "SpacingBetweenSlices", 1) or read_numbers(dataset, "SliceThickness", 1)
    side = ceil(sqrt(count)) if 0 < count <= _MAX_TILES else 0
    if not side or normal.shape != (3,) or not whole.placed:
        raise _refusal("whose private header does not say how many slices it holds and where they lie")
    if not step or not 0 < step[0] < _LARGEST_STEP_MM:
        raise _refusal("that does not say how far apart its slices lie")
    if rows % side or columns % side:
        raise _refusal(
            f"of {rows} x {columns} pixels, which cannot be cut into {side} x {side} tiles for its {count} slices"
        )
    # In whatever order the slices were numbered, the sign of the normal says to which side the tiles follow.
    along = whole.normal if float(normal @ whole.normal) > 0 else -whole.normal
    if abs(float(normal @ along)) < 0.99:
        raise _refusal("whose slice normal is not perpendicular to its rows and columns")
    first, whole = _first_tile(whole, rows, columns, side), _with_diffusion(whole, csa)
    places = [tuple(float(x) for x in first + index * step[0] * along) for index in range(count)]
    return tuple(_at(whole, place) for place in places), side


def tiles(picture: npt.NDArray[Any], count: int, side: int) -> npt.NDArray[Any]:
    """(C, 1, H * side, W * side) -> (C, count, H, W): tiles run along the rows first."""
    channels, _, rows, columns = picture.shape
    grid = picture.reshape(channels, side, rows // side, side, columns // side)
    return grid.transpose(0, 1, 3, 2, 4).reshape(channels, side * side, rows // side, columns // side)[:, :count]


def _first_tile(whole: Plane, rows: int, columns: int, side: int) -> npt.NDArray[np.float64]:
    """The file gives the corner of a picture as large as the mosaic; the tile shares its centre, not its corner."""
    axes = np.array(whole.orientation, dtype=np.float64)
    rows_mm, columns_mm = whole.spacing_mm or (1.0, 1.0)
    shift_w, shift_h = (columns - columns // side) / 2 * columns_mm, (rows - rows // side) / 2 * rows_mm
    corner: npt.NDArray[np.float64] = np.array(whole.position_lps_mm) + shift_w * axes[:3] + shift_h * axes[3:]
    return corner


def _at(whole: Plane, place: Numbers) -> Plane:
    return replace(whole, position_lps_mm=place)


def _with_diffusion(whole: Plane, csa: Mapping[str, Numbers]) -> Plane:
    """With the b-value and the gradient's direction of the private header, where no other element says."""
    if len(whole.marks) != 4:
        return whole
    b_value = whole.marks[3] or "".join(f"{number:.5g}" for number in csa.get("B_value", ())[:1])
    direction = "\\".join(f"{number:.4g}" for number in csa.get("DiffusionGradientDirection", ()))
    hints = (*whole.hints, direction) if direction else whole.hints
    return replace(whole, marks=(*whole.marks[:3], b_value), hints=hints)


def _csa_bytes(dataset: Any, path: Path) -> bytes:
    """The private element (0029,xx10) of the block that Siemens reserved; an index leaves it out, so ask the file."""
    if not isinstance(dataset, pydicom.Dataset) or not any(tag.group == _GROUP for tag in dataset.keys()):  # noqa: SIM118
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    try:
        value = dataset.private_block(_GROUP, _CREATOR)[0x10].value
    except KeyError:
        raise _refusal("without the private header that says where its slices lie") from None
    return bytes(value) if isinstance(value, (bytes, bytearray)) else b""


def csa_values(content: bytes) -> dict[str, Numbers]:
    """The few numbers of a CSA header that medrail needs; every length in it is checked before it is followed."""
    if content[:4] != b"SV10":
        raise _refusal("with a private header of an older form")
    found: dict[str, Numbers] = {}
    try:
        count, at = struct.unpack_from("<I", content, 8)[0], 16
        for _ in range(min(count, _MAX_TAGS)):
            name, items = struct.unpack_from("<64s12xI4x", content, at)
            at += 84
            texts = list(_items(content, at, items))
            at = texts[-1][0] if texts else at
            word = name.split(b"\0")[0].decode("latin-1")
            if word in _WANTED:
                found[word] = tuple(float(text) for _, text in texts if text)
    except (struct.error, ValueError, OverflowError):
        raise CorruptFile("its private Siemens header is broken", remedy="Export it again.") from None
    if not all(np.isfinite(numbers).all() for numbers in found.values()):
        raise CorruptFile("its private Siemens header is broken", remedy="Export it again.")
    return {name: numbers for name, numbers in found.items() if numbers}


def _items(content: bytes, at: int, count: int) -> Iterator[tuple[int, str]]:
    """(where the next item begins, text) of each item."""
    if count > _MAX_ITEMS:
        raise ValueError("too many items")
    for _ in range(count):
        length = struct.unpack_from("<4xI8x", content, at)[0]
        at += 16
        if at + length > len(content):
            raise ValueError("an item longer than the header")
        text = content[at : at + length].split(b"\0")[0].decode("latin-1").strip()
        at += (length + 3) // 4 * 4
        yield at, text


def _refusal(what: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"is a Siemens mosaic {what}",
        needed="a mosaic with its CSA image header (0029,1010)",
        remedy="Export it again without removing private elements, or convert it to NIfTI at the scanner's console.",
    )
