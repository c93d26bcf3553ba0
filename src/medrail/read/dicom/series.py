"""One file -> Image; one folder -> its series, and one of them -> Image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medrail.errors import CorruptFile, GeometryError, MedrailError, ReadError, UnsupportedFormat
from medrail.read.dicom.header import KEYWORDS, Header, header_of, refuse_unplaced_volume
from medrail.read.dicom.pixels import decode, parse
from medrail.read.dicom.stack import same_axes, stack
from medrail.read.guard import Guard
from medrail.read.limits import check_voxels
from medrail.read.scaling import rescale
from medrail.read.sniff import sniff
from medrail.types import READ_AS_STORED, Defect, Geometry, Image, ReadOptions, Unit

_DICOM_ENDINGS = frozenset({".dcm", ".dicom", ".ima"})
_UNITS: dict[str, Unit] = {"uint8": "uint8", "uint16": "uint16"}
_LISTED = 10


@dataclass(frozen=True)
class Series:
    """Files that make one image together.

    item:
        A short name that stays the same and says nothing about the patient.
    files:
        In the order in which they were found; the order along D comes from their positions.
    shape:
        (C, D, H, W).
    spacing_mm, affine_ras_mm, unit:
        As ``Image`` would have them; None where there is no physical space, or the series is refused.
    verdict:
        "ok": read as it is. "accepted": read, with defects that were accepted or repaired. "refused": not read.
    kind:
        Name of the DICOM object, as "CT Image Storage".
    patient_key:
        Equal for series of one patient, "" where unknown; for comparing within one process, never written anywhere.
    """

    item: str
    files: tuple[Path, ...]
    modality: str
    shape: tuple[int, int, int, int]
    spacing_mm: tuple[float, float, float] | None = None
    affine_ras_mm: tuple[tuple[float, ...], ...] | None = None
    unit: Unit = "arbitrary"
    verdict: Literal["ok", "accepted", "refused"] = "ok"
    defects: tuple[Defect, ...] = ()
    scanner: str = ""
    burned_in: str = ""
    kind: str = ""
    patient_key: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.item} ({self.modality or 'no modality'}, {' x '.join(map(str, self.shape[1:]))})"


@dataclass(frozen=True)
class Scan:
    """What a folder holds: groups of headers that fit together, and DICOM files that could not be read."""

    groups: tuple[tuple[Header, ...], ...]
    refused: tuple[tuple[Path, MedrailError], ...]


def read_dicom(path: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """One DICOM file -> (C, D, H, W): a slice or picture has D = 1, a multi-frame object one D a frame.

    CT is in HU. Frames without positions (cine, secondary capture) keep their order and have no geometry.

    Raises
    ------
    ReadError
        CorruptFile, UnsupportedFormat (no picture, segmentation, whole slide, mosaic), no decoder, or too large.
    GeometryError
        If a multi-frame object is no volume: see ``stack``.
    """
    with Guard(path, "DICOM"):
        dataset = parse(path)
        header = header_of(dataset, path)
        return _assemble([header], decode(dataset, header), source=str(path))


def series_in(folder: str | Path) -> list[Series]:
    """All series below a folder, sorted by their first file; objects without pictures are left out.

    Raises
    ------
    ReadError
        If there is no such folder, or a DICOM file in it cannot be read.
    """
    return [_series(group) for group in _whole_scan(Path(folder)).groups]


def read_series(folder: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """The one series of a folder, or the one that ``item`` names -> (C, D, H, W), sorted along the slice normal.

    Raises
    ------
    ReadError
        If the folder holds no series, several and no ``item``, or a file that cannot be read.
    GeometryError
        If the series is no volume: missing slices, duplicate positions, uneven spacing, tilt, mixed grids.
    """
    groups = {_series(group).item: group for group in _whole_scan(folder).groups}
    where = str(folder)
    if not groups:
        raise ReadError(
            "holds no DICOM image", needed="the slices of one series", where=where, remedy="Give the image file itself."
        )
    if item and item not in groups:
        raise ReadError("has no such series", needed=f"one of {_listing(groups.values())}", where=where)
    if not item and len(groups) > 1:
        raise _several(list(groups.values()), where)
    group = groups[item] if item else next(iter(groups.values()))
    with Guard(folder, "DICOM series"):
        return _assemble(group, _decode_all(group), source=where)


def scan(folder: Path) -> Scan:
    """Read the headers of all DICOM files below a folder (hidden ones excepted) and group them."""
    headers: list[Header] = []
    refused: list[tuple[Path, MedrailError]] = []
    empty: list[tuple[Path, MedrailError]] = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            if sniff(path) == "dicom":
                with Guard(path, "DICOM"):
                    headers.append(header_of(parse(path, KEYWORDS), path))
        except UnsupportedFormat as error:
            if path.suffix.lower() in _DICOM_ENDINGS and "looks like" in error.found:
                refused.append((path, error))
        except MedrailError as error:
            (empty if path.stat().st_size == 0 else refused).append((path, error))
    # An empty file among slices is a slice that was lost in copying; elsewhere it is nobody's concern.
    return Scan(_grouped(headers), tuple(refused + (empty if headers else [])))


def _whole_scan(folder: Path) -> Scan:
    if not folder.is_dir():
        raise ReadError("there is no such folder", where=str(folder), remedy="Check the path.")
    found = scan(folder)
    if found.refused:
        path, error = found.refused[0]
        raise type(error)(
            f"{len(found.refused)} DICOM file(s) in it cannot be read, as {path.name}: {error.found}",
            needed=error.needed or "every file of the series",
            where=str(folder),
            remedy="Copy them again, or move them out of the folder if they belong to no image.",
        )
    return found


def _grouped(headers: Sequence[Header]) -> tuple[tuple[Header, ...], ...]:
    groups: list[list[Header]] = []
    by_mark: dict[tuple[Any, ...], list[list[Header]]] = {}
    for header in headers:
        candidates = by_mark.setdefault(_mark(header), [])
        for group in candidates:
            if same_axes(group[0].planes[0], header.planes[0]):
                group.append(header)
                break
        else:
            groups.append([header])
            candidates.append(groups[-1])
    return tuple(tuple(group) for group in groups)


def _mark(header: Header) -> tuple[Any, ...]:
    """What the files of one volume have in common, apart from their axes, which are compared with a tolerance."""
    alone = len(header.planes) > 1 or not header.placed
    return (
        header.series_uid or str(header.path.parent),
        header.instance_uid or str(header.path) if alone else "",
        *(header.rows, header.columns, header.samples, header.bits_allocated, header.signed, header.photometric),
        *(header.modality, header.image_type, header.stack_marks, header.rescaled, header.rescale_type),
    )


def _series(group: Sequence[Header]) -> Series:
    first = group[0]
    axes = [
        round(number, 2) + 0.0 for number in (*(first.planes[0].orientation or ()), *(first.planes[0].spacing_mm or ()))
    ]
    name = hashlib.sha256(repr((_mark(first)[:5], first.image_type, first.stack_marks, axes)).encode()).hexdigest()[:8]
    channels = 3 if first.samples == 3 or first.photometric == "PALETTE COLOR" else 1
    depth = sum(len(header.planes) for header in group)
    return Series(
        f"series-{name}",
        tuple(header.path for header in group),
        first.modality,
        (channels, depth, first.rows, first.columns),
    )


def _listing(groups: Any) -> str:
    names = [str(_series(group)) for group in groups]
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _several(groups: Sequence[Sequence[Header]], where: str) -> MedrailError:
    remedy = "Name one of them as the item, or give it a folder of its own."
    if len({group[0].series_uid for group in groups}) > 1 or not all(group[0].placed for group in groups):
        return ReadError(f"holds {len(groups)} images: {_listing(groups)}", needed="one", where=where, remedy=remedy)
    parts = "; ".join(f"{len(group)} files {group[0].grid} as {_series(group).item}" for group in groups[:_LISTED])
    return GeometryError(
        f"mixed orientation, size or kind in one series: {parts}",
        needed="slices of one grid and one kind",
        where=where,
        remedy=f"{remedy} A localiser or a second echo, phase or time point is often stored with the volume.",
    )


def _decode_all(group: Sequence[Header]) -> npt.NDArray[Any]:
    """(C, N, H, W) of all files of a group, in the group's order."""
    first = group[0]
    frames = sum(len(header.planes) for header in group)
    check_voxels((frames, first.rows, first.columns, first.samples), max(first.bits_allocated // 8, 1))
    volume: npt.NDArray[Any] | None = None
    at = 0
    for header in group:
        with Guard(header.path, "DICOM"):
            planes = decode(parse(header.path), header)
            if volume is None:
                volume = np.empty((len(planes), frames, first.rows, first.columns), planes.dtype)
            if planes.dtype != volume.dtype or len(planes) != len(volume):
                raise CorruptFile("its pixels are of another type than those of the series", needed=volume.dtype.name)
            volume[:, at : at + planes.shape[1]] = planes
            at += planes.shape[1]
    if volume is None:
        raise ReadError("holds no frames")
    return volume


def _assemble(group: Sequence[Header], stored: npt.NDArray[Any], source: str) -> Image:
    """Order the frames, scale them, and say where they lie."""
    refuse_unplaced_volume(group[0])
    planes = [plane for header in group for plane in header.planes]
    geometry: Geometry | None = None
    if all(plane.placed for plane in planes):
        order, geometry = stack(planes, group[0].thickness_mm)
        planes = [planes[index] for index in order]
        if order != list(range(len(order))):
            stored = stored[:, order]
    voxels = stored
    if len(stored) == 1 and not group[0].has_lut:
        slopes, intercepts = [plane.slope for plane in planes], [plane.intercept for plane in planes]
        voxels = rescale(stored[0], slopes, intercepts)[None]
    return Image(np.ascontiguousarray(voxels), geometry, _unit(group[0], voxels), source)


def _unit(header: Header, voxels: npt.NDArray[Any]) -> Unit:
    if header.hounsfield:
        return "HU"
    colour = len(voxels) > 1
    return _UNITS.get(voxels.dtype.name, "arbitrary") if colour or voxels.dtype == np.uint8 else "arbitrary"
