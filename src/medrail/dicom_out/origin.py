"""The source images as highdicom wants them: the real patient and study, and the geometry that medrail found.

Scanners write the geometry in many ways (single slices, shared or per-frame groups, offset vectors), which ``read``
understands already. So highdicom is given one way: the frames along D, with one orientation and one pixel spacing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from medrail.errors import DataError, GeometryError
from medrail.read import Sources
from medrail.types import Geometry, Image

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# Type 2: to be there, maybe empty (PS3.3, C.7.1.1 and C.7.2.1).
_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_DAY, _TIME = re.compile(r"(?:[0-9]{8})?"), re.compile(r"(?:[0-9]{2}){0,3}(?:\.[0-9]{1,6})?")
_SERIES_STEP, _LARGEST_SERIES = 100, 2**31 - 1
_OTHER_SERIES = 9000


@dataclass(frozen=True, eq=False)
class Images:
    """What an object refers to.

    datasets:
        One a slice along D, or one for all frames of a multi-frame object.
    frames:
        Of a multi-frame object the number (from 1) of the frame of each slice; else None.
    geometry:
        As ``Sources.geometry``.
    """

    datasets: list[Dataset]
    frames: list[int] | None
    geometry: Geometry | None

    @property
    def first(self) -> Dataset:
        """Says whose it is."""
        return self.datasets[0]

    def series_number(self, which: int) -> int:
        """Of the ``which``-th new series: behind the source's own, as 301 and 302 behind 3."""
        try:
            own = int(self.first.get("SeriesNumber") or 0)
        except (TypeError, ValueError):
            own = 0
        number = _SERIES_STEP * own + which
        return number if own > 0 and number <= _LARGEST_SERIES else _OTHER_SERIES + which


def images_of(sources: Sources, mask: Image | None) -> Images:
    """The sources as highdicom takes them.

    Raises
    ------
    GeometryError
        If the mask has other slices than the sources, or there are several without a position.
    DataError
        If a source lacks what must be repeated, or is of a kind that is not known.
    """
    for dataset in sources.datasets:
        _check(dataset, sources.geometry is not None and mask is not None)
    first = sources.datasets[0]
    depth, placed = len(sources.frames), sources.geometry is not None
    if mask is not None and mask.grid != (depth, int(first.Rows), int(first.Columns)):
        raise GeometryError(
            f"the mask has {mask.grid[0]} slices of {mask.grid[1]} x {mask.grid[2]} and its files "
            f"{depth} of {first.Rows} x {first.Columns}",
            needed="the same slices: some could not be read, or were cropped",
        )
    if mask is not None and not placed and depth > 1:
        raise GeometryError(f"has {depth} frames without a position in the patient", needed="one, or positions")
    if _may_have_frames(first):
        return _of_one_file(sources)
    first = _first_of(first)
    if not placed and "PixelSpacing" in first and "SliceThickness" not in first:
        del first.PixelSpacing  # one without the other is not read back by highdicom
    datasets = [first, *(_other(sources.datasets[number]) for number, _ in sources.frames[1:])]
    if sources.geometry is not None:
        axes, spacing_mm, thickness_mm = _axes(sources)
        for dataset, position in zip(datasets, sources.positions_lps_mm, strict=True):
            dataset.ImagePositionPatient = [float(x) for x in position or ()]
            dataset.ImageOrientationPatient, dataset.PixelSpacing = list(axes), list(spacing_mm)
            dataset.SliceThickness = thickness_mm
            if "SpacingBetweenSlices" in dataset:
                del dataset.SpacingBetweenSlices
    return Images(datasets, None, sources.geometry)


def _of_one_file(sources: Sources) -> Images:
    if len(sources.datasets) > 1:
        raise DataError("its slices come from several multi-frame files", needed="one, or single slices")
    dataset = _first_of(sources.datasets[0])
    frames = [frame + 1 for _, frame in sources.frames]
    dataset.NumberOfFrames = len(frames)
    if sources.geometry is None:
        dataset.SharedFunctionalGroupsSequence = [_unplaced(dataset)]
    else:
        axes, spacing_mm, thickness_mm = _axes(sources)
        orientation, measures, shared = Dataset(), Dataset(), Dataset()
        orientation.ImageOrientationPatient = list(axes)
        measures.PixelSpacing, measures.SliceThickness = list(spacing_mm), thickness_mm
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
        dataset.SharedFunctionalGroupsSequence = [shared]
        dataset.PerFrameFunctionalGroupsSequence = [_placed(position) for position in sources.positions_lps_mm]
    return Images([dataset], frames, sources.geometry)


def _unplaced(dataset: Dataset) -> Dataset:
    measures, shared = Dataset(), Dataset()
    spacing_mm, thickness_mm = dataset.get("PixelSpacing") or (), dataset.get("SliceThickness")
    if len(spacing_mm) == 2 and thickness_mm is not None:
        measures.PixelSpacing, measures.SliceThickness = spacing_mm, thickness_mm
    shared.PixelMeasuresSequence = [measures] if "PixelSpacing" in measures else []
    return shared


def _placed(position: tuple[float, ...] | None) -> Dataset:
    place, group = Dataset(), Dataset()
    place.ImagePositionPatient = [float(x) for x in position or ()]
    group.PlanePositionSequence = [place]
    return group


def _axes(sources: Sources) -> tuple[tuple[float, ...], tuple[float, float], float]:
    """Direction cosines (along W, along H), LPS; spacing of rows and columns; thickness: that said, else the step."""
    assert sources.geometry is not None  # noqa: S101 - the callers look first
    lps = np.diag([-1.0, -1.0, 1.0]) @ sources.geometry.affine_ras_mm[:3, :3]
    step_mm, rows_mm, columns_mm = (round(float(size), 9) for size in sources.geometry.spacing_mm)
    cosines = np.concatenate([lps[:, 2] / columns_mm, lps[:, 1] / rows_mm])
    try:
        said = float(sources.datasets[0].get("SliceThickness") or 0)
    except (TypeError, ValueError):
        said = 0.0
    return tuple(round(float(x), 12) + 0.0 for x in cosines), (rows_mm, columns_mm), said if said > 0 else step_mm


def _first_of(dataset: Dataset) -> Dataset:
    """With the elements that every object must have, empty where they are unknown or no such value."""
    first = dataset[:]  # the elements are shared, which are there is not
    for keyword in _EMPTY:
        if keyword not in first:
            setattr(first, keyword, None)
    for keyword, pattern in (("PatientBirthDate", _DAY), ("StudyDate", _DAY), ("StudyTime", _TIME)):
        if not pattern.fullmatch(str(first.get(keyword) or "")):
            setattr(first, keyword, None)
    if str(first.get("PatientSex") or "") not in ("", "M", "F", "O"):
        first.PatientSex = None
    if "Modality" not in first:
        first.Modality = "OT"
    return first


def _other(dataset: Dataset) -> Dataset:
    """What a reference to another slice needs."""
    other = Dataset()
    for keyword in (*_NEEDED, "Rows", "Columns", "FrameOfReferenceUID"):
        if keyword in dataset:
            setattr(other, keyword, dataset.get(keyword))
    return other


def _check(dataset: Dataset, placed: bool) -> None:
    missing = [name for name in (*_NEEDED, *(["FrameOfReferenceUID"] * placed)) if not dataset.get(name)]
    if missing:
        raise DataError(
            f"the source has no {', '.join(missing)}", needed="the identifiers that an object of the same study repeats"
        )


def _may_have_frames(dataset: Dataset) -> bool:
    """Whether objects of its class may have several frames: then highdicom asks for functional groups."""
    from highdicom._standard_utils import is_multiframe_image  # nothing public tells it

    try:
        return bool(is_multiframe_image(dataset))
    except KeyError:
        raise DataError(
            "the source is of a DICOM class that is not known", needed="an image class of the standard"
        ) from None
