"""Which stored frame each slice of a DICOM image was read from: what an object needs that refers to its source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrail.errors import GeometryError
from medrail.read.contents import is_zip, names_a_file, opened
from medrail.read.dicom.group import Frame
from medrail.read.dicom.header import Header
from medrail.read.dicom.pixels import parse_header
from medrail.read.dicom.series import volume_in
from medrail.read.dicom.volume import Volume
from medrail.read.guard import Guard
from medrail.read.slide_kind import is_slide
from medrail.read.sniff import known_kind
from medrail.types import READ_AS_STORED, Geometry, ReadOptions


@dataclass(frozen=True, eq=False)
class Sources:
    """The DICOM objects of one image.

    datasets:
        The header of each file once, without pixels, in the order in which the slices along D name them. They hold who
        the patient is: for objects of the same study, for nothing else.
    frames:
        (D,) for each slice (number in ``datasets``, frame of it from 0).
    positions_lps_mm:
        (D,) of the centre of each slice's first pixel, as its header says; None where it says none.
    geometry:
        Of the image that these slices make, as ``read`` gives it; None where they have no position.
    """

    datasets: tuple[Any, ...]
    frames: tuple[tuple[int, int], ...]
    positions_lps_mm: tuple[tuple[float, ...] | None, ...]
    geometry: Geometry | None


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content, a DICOMDIR too; whole slides are left out; never raises."""
    try:
        return path.is_file() and known_kind(path) == "dicom" and not is_slide(path)
    except OSError:
        return False


def sources_of(path: str | Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Sources | None:
    """Where the slices of the image come from that ``read`` makes of the same arguments; None where it is no DICOM.

    Only headers are read. Of time points that are channels of one image the first one's slices are named.

    Raises
    ------
    ReadError
        As ``read``.
    GeometryError
        As ``read``; and if the image's slices are not those of its files: they were resampled, or are tiles of mosaics.
    """
    path = Path(path)
    if is_zip(path):
        with opened(path) as place:
            return _in_folder(place.root, item, options)
    if path.is_dir():
        return _in_folder(path, item, options)
    return _of_volume(volume_in(path, item, options)) if is_dicom(path) else None


def _in_folder(folder: Path, item: str, options: ReadOptions) -> Sources | None:
    if names_a_file(folder, item):
        return sources_of(folder / item, "", options)
    return _of_volume(volume_in(folder, item, options))


def _of_volume(volume: Volume | None) -> Sources | None:
    if volume is None:
        return None
    if volume.error is not None:
        raise volume.error
    headers: dict[int, Header] = {}
    numbers: dict[int, int] = {}
    along = _along(volume)
    places = []
    for frame in along:
        key = id(frame.header)
        headers[key] = frame.header
        places.append((numbers.setdefault(key, len(numbers)), frame.number))
    datasets = []
    for header in headers.values():
        with Guard(header.path, "DICOM"):
            datasets.append(parse_header(header.path))
    geometry = volume.layouts[0].geometry if volume.layouts else None
    positions = tuple(frame.plane.position_lps_mm for frame in along)
    return Sources(tuple(datasets), tuple(places), positions, geometry)


def _along(volume: Volume) -> list[Frame]:
    """The frame of each slice along D; of copies at one position any does, since their pixels are equal."""
    group = volume.groups[0]
    if group.first.tiles:
        raise GeometryError(
            "each slice is a tile of a mosaic", needed="slices that other objects can refer to", remedy=_NIFTI
        )
    if not volume.layouts:
        return list(group.frames)
    layout = volume.layouts[0]
    if layout.shifts_px.any() or not np.array_equal(layout.targets_mm, layout.along_mm):
        raise GeometryError(
            "its slices were resampled when they were read (data.on_defect: resample), so the answer has none of them",
            needed="an answer on the slices as they are stored",
            remedy=_NIFTI,
        )
    return [min((group.frames[index] for index in place), key=_uid) for place in layout.places]


def _uid(frame: Frame) -> tuple[str, int]:
    return frame.header.instance_uid, frame.number


_NIFTI = "The NIfTI mask holds the same."
