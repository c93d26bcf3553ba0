"""A volume that was found right by its headers -> voxels: decoded, ordered, repaired as asked, scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import CorruptFile, MedrailError, ReadError
from medrail.read.dicom.defects import refusal
from medrail.read.dicom.display import is_windowed
from medrail.read.dicom.group import Group
from medrail.read.dicom.header import Header
from medrail.read.dicom.mosaic import tiles
from medrail.read.dicom.pixels import decode, parse
from medrail.read.dicom.resample import regrid
from medrail.read.dicom.stack import Layout, lay_out
from medrail.read.dicom.volume import Volume, files_named
from medrail.read.guard import Guard
from medrail.read.limits import check_voxels
from medrail.read.scaling import rescale
from medrail.types import Defect, Image, ReadOptions, Unit

Array = npt.NDArray[Any]

_UNITS: dict[str, Unit] = {"uint8": "uint8", "uint16": "uint16"}


def assemble(volume: Volume, options: ReadOptions, source: str) -> Image:
    """Decode every frame of a volume and put it where it belongs.

    Raises
    ------
    ReadError
        If pixels cannot be decoded, and on_defect is "refuse" or nothing is left.
    GeometryError
        If slices at one position differ, or what is left is no volume.
    """
    _check_size(volume)
    if volume.error is not None:
        raise volume.error
    channels: list[Array] = []
    defects = list(volume.series.defects)
    layout: Layout | None = None
    for group in volume.groups:
        voxels, found_layout, found = _group_voxels(group, options)
        if channels and voxels.shape[1:] != channels[0].shape[1:]:
            raise ReadError("holds time points of different sizes", remedy="Read them separately.")
        layout = layout or found_layout
        channels.append(voxels)
        defects += found
    voxels = channels[0] if len(channels) == 1 else np.concatenate(channels)
    geometry = layout.geometry if layout else None
    unit = _unit(volume.first, voxels, colour=len(volume.groups) == 1 and len(voxels) > 1)
    return Image(np.ascontiguousarray(voxels), geometry, unit, source, defects=tuple(dict.fromkeys(defects)))


def _check_size(volume: Volume) -> None:
    first = volume.first
    frames = sum(len(group.frames) for group in volume.groups)
    width = max(first.bits_allocated // 8, 1)
    check_voxels((frames, first.rows, first.columns, first.samples), width)
    check_voxels((*volume.series.shape,), width)


def _group_voxels(group: Group, options: ReadOptions) -> tuple[Array, Layout | None, list[Defect]]:
    """(C, D, H, W) in real values, where it lies, and what was found wrong while decoding."""
    kept, found = group, list[Defect]()
    slots = _slots(group, options)
    stored, lost, windowed = _decoded(group, slots, options)
    if lost:
        found = [_loss(lost, group)]
        gone = {id(header) for header in lost}
        kept = replace(group, frames=tuple(frame for frame in group.frames if id(frame.header) not in gone))
        stored = stored[:, sorted(slots[i] for i, frame in enumerate(group.frames) if id(frame.header) not in gone)]
    layout = None
    if group.placed:
        layout = lay_out(kept.planes, kept.first.thickness_mm, options.on_defect)
        if layout.refused:  # what was left out while decoding may leave too little
            raise refusal(layout.refused, repairable=False)
        found += layout.defects
    order = [index for place in layout.places for index in place] if layout else range(len(kept.frames))
    planes = [kept.frames[index].plane for index in order]
    voxels = stored
    if len(stored) == 1 and not group.first.has_lut and not windowed:
        factor = group.first.activity.factor if group.first.activity else 1.0
        slopes, intercepts = [plane.slope * factor for plane in planes], [plane.intercept * factor for plane in planes]
        voxels = rescale(stored[0], slopes, intercepts)[None]
    if layout:
        voxels = regrid(_one_a_place(voxels, layout, options), layout)
    return voxels, layout, found


def _slots(group: Group, options: ReadOptions) -> list[int]:
    """For each frame where it goes in the order along D (copies one after another); as stored without positions."""
    if not group.placed:
        return list(range(len(group.frames)))
    layout = lay_out(group.planes, group.first.thickness_mm, options.on_defect)
    slots = [0] * len(group.frames)
    for slot, index in enumerate(index for place in layout.places for index in place):
        slots[index] = slot
    return slots


def _decoded(group: Group, slots: Sequence[int], options: ReadOptions) -> tuple[Array, list[Header], bool]:
    """(C, N, H, W) of the stored values, each frame in its slot; the files that could not be decoded; if windowed."""
    volume: Array | None = None
    lost: list[Header] = []
    windowed = False
    for header, indices in _by_file(group):
        try:
            with Guard(header.path, "DICOM"):
                planes, windowed = _pixels(header, [group.frames[index].number for index in indices], options)
        except MedrailError as error:
            if options.on_defect == "refuse":
                raise undecodable(header, error) from None
            lost.append(header)
            last = error
            continue
        if volume is None:
            volume = np.empty((len(planes), len(slots), *planes.shape[2:]), planes.dtype)
        if planes.dtype != volume.dtype or len(planes) != len(volume) or planes.shape[2:] != volume.shape[2:]:
            raise CorruptFile(
                "its pixels are of another type than those of the series",
                needed=volume.dtype.name,
                where=str(header.path),
            )
        volume[:, [slots[index] for index in indices]] = planes
    if volume is None:
        raise undecodable(lost[0], last) from None
    return volume, lost, windowed


def _by_file(group: Group) -> list[tuple[Header, list[int]]]:
    """Each file with the indices of its frames in the group."""
    found: dict[int, tuple[Header, list[int]]] = {}
    for index, frame in enumerate(group.frames):
        found.setdefault(id(frame.header), (frame.header, []))[1].append(index)
    return list(found.values())


def _pixels(header: Header, numbers: list[int], options: ReadOptions) -> tuple[Array, bool]:
    """(C, len(numbers), H, W), and whether slope and intercept are done already."""
    if header.pixel_defect:
        raise CorruptFile(header.pixel_defect, needed="the whole file", remedy="Copy it again.")
    dataset = parse(header.path)
    if header.tiles:
        picture = decode(dataset, header, None, options)
        return tiles(picture, len(header.planes), header.tiles)[:, numbers], False
    return decode(dataset, header, numbers, options), is_windowed(dataset, header, options)


def undecodable(header: Header, error: MedrailError) -> MedrailError:
    """The decoder's error, led by the defect's name."""
    name = "truncated pixel data" if header.pixel_defect else "undecodable pixel data"
    found = error.found if error.found.startswith(name) else f"{name}: {error.found}"
    return type(error)(found, needed=error.needed, where=error.where or str(header.path), remedy=error.remedy)


def _loss(lost: Sequence[Header], group: Group) -> Defect:
    cut = [header for header in lost if header.pixel_defect]
    name = "truncated_pixel_data" if cut else "undecodable_pixel_data"
    normal = group.planes[0].normal if group.placed else None
    at = ""
    if normal is not None:
        places = sorted(float(np.array(header.planes[0].position_lps_mm) @ normal) for header in lost)
        at = ", at " + ", ".join(f"{place:.4g}" for place in places[:5]) + " mm along the normal"
    names = files_named([header.path for header in lost], [header.path for header in group.headers])
    return Defect(name, f"{len(lost)} of {len(group.headers)} files ({names}){at}", "left out")


def _one_a_place(voxels: Array, layout: Layout, options: ReadOptions) -> Array:
    """Of copies at one position one is kept: which one does not depend on the files' names or order."""
    if all(len(place) == 1 for place in layout.places):
        return voxels
    kept, start = [], 0
    for number, place in enumerate(layout.places):
        digests = [sha256(voxels[:, start + copy].tobytes()).digest() for copy in range(len(place))]
        if len(set(digests)) > 1:  # to choose among them could mix contrasts in one volume
            evidence = f"{len(place)} slices {layout.along_mm[number]:.4g} mm from the first differ in their pixels"
            raise refusal([Defect("duplicate_slices", evidence)], repairable=False)
        kept.append(start + digests.index(min(digests)))
        start += len(place)
    return voxels[:, kept]


def _unit(header: Header, voxels: Array, colour: bool) -> Unit:
    if header.hounsfield:
        return "HU"
    if header.activity:
        return header.activity.unit
    return _UNITS.get(voxels.dtype.name, "arbitrary") if colour or voxels.dtype == np.uint8 else "arbitrary"
