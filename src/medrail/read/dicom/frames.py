"""A data set -> its frames (``Plane``): classic slices, multi-frame functional groups, dose grids, NM.

References are to DICOM PS3.3 (information objects).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from medrail.errors import CorruptFile, GeometryError
from medrail.read.dicom.elements import Numbers, first_item, read_numbers, read_text, read_values, read_whole
from medrail.read.dicom.plane import Plane
from medrail.read.dicom.private import private_b_value

_LOCALISER_WORDS = frozenset({"LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM", "SURVEY"})
# Words of Image Type (C.7.6.1.1.2, value 3 and later) under which MR keeps pictures of another quantity.
_COMPONENTS = frozenset(
    [
        *("M", "P", "R", "I", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "PHASE MAP", "VELOCITY"),
        *("ADC", "TRACEW", "FA", "T1 MAP", "T2 MAP", "T2_STAR MAP", "FIELD_MAP"),
        *("W", "F", "IP", "OP", "WATER", "FAT", "IN_PHASE", "OUT_PHASE", "OPP_PHASE"),
    ]
)
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
_RECONSTRUCTED = ("ConvolutionKernel", "KVP", "SeriesNumber")
_HINTS = ("EchoTime", "InversionTime", "FlipAngle", "FrameReferenceTime")
_HINTED = frozenset({"MR", "CT", "PT"})
# Beyond these a header is broken or made to harm: a long functional MR has 1e5 frames, a scanner's table 2 m.
_MOST_FRAMES = 500_000
_FARTHEST_MM, _LARGEST_PIXEL_MM, _SMALLEST_PIXEL_MM = 1e5, 1e3, 1e-6
# Pixels of 32 bits times more than this leave 32-bit real numbers; times less than this they are all 0.
_LARGEST_SCALE, _SMALLEST_SLOPE = 1e28, 1e-28


def planes_of(dataset: Any, modality: str) -> Iterator[Plane]:
    """The frames of one object, in the order in which they are stored."""
    frames = read_whole(dataset, "NumberOfFrames", 1)
    if frames > _MOST_FRAMES:
        raise CorruptFile(f"declares {frames:,} frames", needed=f"at most {_MOST_FRAMES:,}", remedy="Export it again.")
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups:
        yield from _enhanced_planes(dataset, groups, frames)
    elif modality == "RTDOSE":
        yield from _dose_planes(dataset, frames)
    elif modality == "NM" and frames > 1:
        yield from _nuclear_planes(dataset, frames)
    elif frames > 1:
        slope, intercept = rescale_of(dataset)
        plane = Plane(slope=slope, intercept=intercept, part=part_of(image_type_of(dataset), modality))
        yield from (plane for _ in range(frames))
    else:
        yield _classic_plane(dataset, modality)


def image_type_of(dataset: Any, keyword: str = "ImageType") -> tuple[str, ...]:
    """The words of Image Type (C.7.6.1.1.2), or of ``keyword``, in capitals; () where there are none."""
    return tuple(str(part).strip().upper() for part in read_values(dataset, keyword))


def part_of(image_type: Sequence[str], modality: str) -> str:
    """Words that never mix in one volume: "LOCALIZER"; else original or derived, and which part of a complex MR.

    Other words of Image Type may change from slice to slice (filters, how a row was reconstructed): they do not count.
    """
    if any(word in _LOCALISER_WORDS for word in image_type):
        return "LOCALIZER"
    words = list(image_type[:2])
    if modality == "MR":
        words += sorted(_COMPONENTS.intersection(image_type[2:]))
    return " ".join(words)


def rescale_of(dataset: Any) -> tuple[float, float]:
    """Slope and intercept, 1 and 0 where there are none."""
    slope = (read_numbers(dataset, "RescaleSlope", 1) or (1.0,))[0]
    intercept = (read_numbers(dataset, "RescaleIntercept", 1) or (0.0,))[0]
    if slope == 0:
        raise CorruptFile("RescaleSlope is 0", needed="a slope that keeps the picture", remedy="Export it again.")
    _check_scale(slope, intercept)
    return slope, intercept


def _check_scale(slope: float, intercept: float = 0.0) -> None:
    if not (_SMALLEST_SLOPE <= abs(slope) <= _LARGEST_SCALE and abs(intercept) <= _LARGEST_SCALE):
        raise CorruptFile(
            f"its pixels are scaled by {slope:.3g} and moved by {intercept:.3g}",
            needed=f"numbers up to {_LARGEST_SCALE:.0e}, so that real values can be 32-bit numbers",
            remedy="Export it again.",
        )


def place_of(place: Any, axes: Any, measures: Any) -> tuple[Numbers | None, Numbers | None, Numbers | None]:
    """Position, orientation as unit vectors, and pixel spacing; None where the data set does not say."""
    position = position_of(place)
    orientation = read_numbers(axes, "ImageOrientationPatient", 6)
    spacing = read_numbers(measures, "PixelSpacing", 2)
    if orientation is not None:
        orientation = _unit_vectors(orientation)
    if position is None and spacing is not None and not any(spacing):
        spacing = None  # so some projection radiographs say that they have none
    if spacing is not None and not _SMALLEST_PIXEL_MM <= min(spacing) <= max(spacing) <= _LARGEST_PIXEL_MM:
        raise GeometryError(f"PixelSpacing is {spacing} mm", needed="two positive numbers", remedy="Export it again.")
    return position, orientation, spacing


def position_of(place: Any) -> Numbers | None:
    position = read_numbers(place, "ImagePositionPatient", 3)
    if position is not None:
        _check_reach(position)
    return position


def next_plane(plane: Plane, dataset: Any) -> Plane:
    """The frame of a classic slice that differs from another one's in its position and times only."""
    times, position = _times_of(dataset) if plane.times else (), position_of(dataset)
    if position is not None and plane.spacing_mm is None:
        raise CorruptFile("has a position, and the slice before it no pixel spacing")  # so it is read for itself
    return Plane(
        *(position, plane.orientation, plane.spacing_mm, plane.slope, plane.intercept),
        *(plane.part, plane.marks, plane.hints, times),
    )


def _classic_plane(dataset: Any, modality: str) -> Plane:
    image_type = image_type_of(dataset)
    common = (*place_of(dataset, dataset, dataset), *rescale_of(dataset), part_of(image_type, modality))
    if modality not in _HINTED:
        return Plane(*common)
    marks = ("", *(read_text(dataset, name) for name in ("EchoNumbers", "TemporalPositionIdentifier")))
    hints = (
        *(" ".join(image_type[2:]), _number_text(dataset, "AcquisitionNumber")),
        *(read_text(dataset, name) for name in _RECONSTRUCTED),
        *(_number_text(dataset, name) for name in _HINTS),
    )
    return Plane(
        *common,
        marks=(*marks, _number_text(dataset, "DiffusionBValue") or _private_b_text(dataset, modality)),
        hints=(*hints, *(read_text(dataset, name) for name in ("DiffusionGradientOrientation", "SequenceName"))),
        times=_times_of(dataset),
    )


def _private_b_text(dataset: Any, modality: str) -> str:
    number = private_b_value(dataset) if modality == "MR" else None
    return "" if number is None else f"{number:.5g}"


def _times_of(dataset: Any) -> tuple[float | None, ...]:
    return (
        _number(dataset, "TriggerTime"),
        _clock_s(dataset, "AcquisitionTime"),
        _clock_s(dataset, "ContentTime"),
    )


def _enhanced_planes(dataset: Any, groups: Sequence[Any], frames: int) -> Iterator[Plane]:
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    if len(groups) != max(frames, 1):
        raise CorruptFile(f"declares {frames} frames and describes {len(groups)}", remedy="Export it again.")
    image_type, modality = image_type_of(dataset), read_text(dataset, "Modality").upper()
    yield from (_enhanced_plane(_Groups(group, shared), image_type, modality) for group in groups)


class _Groups:
    """Multi-frame functional groups (C.7.6.16): a frame's own, else the shared ones."""

    def __init__(self, own: Any, shared: Any) -> None:
        self._own, self._shared = own, shared

    def __call__(self, name: str) -> Any:
        return first_item(self._own, name) or first_item(self._shared, name)


def _enhanced_plane(group: _Groups, object_type: tuple[str, ...], modality: str) -> Plane:
    places = place_of(group("PlanePositionSequence"), group("PlaneOrientationSequence"), group("PixelMeasuresSequence"))
    content, diffusion = group("FrameContentSequence"), group("MRDiffusionSequence")
    kind = next((found for found in map(group, _FRAME_TYPES) if found), None)
    frame_type = image_type_of(kind, "FrameType") or object_type
    component = read_text(kind, "ComplexImageComponent").upper()
    gradient = first_item(diffusion, "DiffusionGradientDirectionSequence")
    trigger_ms = _number(group("CardiacSynchronizationSequence"), "NominalCardiacTriggerDelayTime")
    kernel = read_text(group("CTReconstructionSequence"), "ConvolutionKernel")
    return Plane(
        *places,
        *rescale_of(group("PixelValueTransformationSequence")),
        part=part_of((*frame_type, *([] if component in ("", "MIXED") else [component])), modality),
        marks=(
            read_text(content, "StackID"),
            _number_text(group("MREchoSequence"), "EffectiveEchoTime"),
            read_text(content, "TemporalPositionIndex"),
            _number_text(diffusion, "DiffusionBValue"),
        ),
        hints=(
            " ".join(frame_type[2:]),
            *(read_text(content, "FrameAcquisitionNumber"), kernel, "", ""),
            read_text(gradient, "DiffusionGradientOrientation"),
            _number_text(group("TemporalPositionSequence"), "TemporalPositionTimeOffset"),
            "" if trigger_ms is None else f"{trigger_ms:.6g}",
            *(str(index) for index in read_values(content, "DimensionIndexValues")),
        ),
        times=(trigger_ms, *(_clock_s(content, f"Frame{name}DateTime") for name in ("Acquisition", "Reference"))),
    )


def _dose_planes(dataset: Any, frames: int) -> Iterator[Plane]:
    """RT dose (C.8.8.3.2): frame *n* lies at its offset along the normal from the first one's position."""
    first = Plane(*place_of(dataset, dataset, dataset))
    offsets = read_numbers(dataset, "GridFrameOffsetVector", frames) if frames > 1 else (0.0,)
    if not first.placed or offsets is None:
        raise GeometryError("a dose grid without position or frame offsets", needed="GridFrameOffsetVector")
    if offsets[0] != 0:
        raise GeometryError("dose frame offsets that do not begin with 0", needed="offsets from the first frame")
    scale = read_numbers(dataset, "DoseGridScaling", 1) or (1.0,)
    _check_scale(scale[0])
    for offset in offsets:
        yield Plane(_moved_along(first, offset), first.orientation, first.spacing_mm, scale[0], 0.0)


def _nuclear_planes(dataset: Any, frames: int) -> Iterator[Plane]:
    """NM (C.8.4.8, C.8.4.15): reconstructed slices lie at multiples of Spacing Between Slices along the normal.

    Its sign says on which side of the first one; the Slice Vector says which slice a frame is. Everything else (whole
    body, dynamic, gated, projections) has no position and stays a sequence of pictures.
    """
    slope, intercept = rescale_of(dataset)
    image_type = image_type_of(dataset)
    part = part_of(image_type, "NM")
    if "RECON TOMO" not in image_type:
        plane = Plane(slope=slope, intercept=intercept, part=part)
        yield from (plane for _ in range(frames))
        return
    detector = first_item(dataset, "DetectorInformationSequence")
    where = detector if read_values(detector, "ImagePositionPatient") else dataset
    first = Plane(*place_of(where, where, dataset))
    step = read_numbers(dataset, "SpacingBetweenSlices", 1)
    slices = read_numbers(dataset, "SliceVector", frames) or tuple(range(1, frames + 1))
    for number in slices:
        position = _moved_along(first, (number - 1) * step[0]) if first.placed and step else None
        yield Plane(position, first.orientation, first.spacing_mm, slope, intercept, part)


def _moved_along(plane: Plane, distance_mm: float) -> Numbers:
    """The position of a placed frame, moved along its normal."""
    _check_reach((distance_mm,))
    origin = np.array(plane.position_lps_mm, dtype=np.float64)
    return tuple(float(x) for x in origin + distance_mm * plane.normal)


def _check_reach(numbers: Numbers) -> None:
    if max(abs(number) for number in numbers) > _FARTHEST_MM:
        raise GeometryError(
            "a frame lies farther than 100 m from the origin", needed="positions in mm", remedy="Export it again."
        )


def _unit_vectors(orientation: Numbers) -> Numbers:
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1, atol=0.02) or abs(float(row @ column)) > 0.01:
        raise GeometryError(
            "ImageOrientationPatient is no pair of perpendicular unit vectors",
            needed="six direction cosines",
            remedy="Export it again; derived pictures often lose their orientation.",
        )
    return tuple(float(x) for x in (*(row / lengths[0]), *(column / lengths[1])))


def _number(dataset: Any, keyword: str) -> float | None:
    """A number that only helps to tell frames apart: one that cannot be read is none."""
    try:
        numbers = read_numbers(dataset, keyword, 1)
    except CorruptFile:
        return None
    return numbers[0] if numbers else None


def _number_text(dataset: Any, keyword: str) -> str:
    number = _number(dataset, keyword)
    return "" if number is None else f"{number:.5g}"


def _clock_s(dataset: Any, keyword: str) -> float | None:
    """Seconds since midnight of a TM, or of the clock in a DT (PS3.5, table 6.2-1); None where it is neither."""
    text = read_text(dataset, keyword)
    return _seconds(text[8:] if keyword.endswith("DateTime") else text.replace(":", ""))


@lru_cache(maxsize=1024)  # slices of a series share many of their times
def _seconds(text: str) -> float | None:
    try:
        hours, minutes, seconds = int(text[:2]), int(text[2:4] or 0), float(text[4:].split("+")[0].split("-")[0] or 0)
    except ValueError:
        return None
    return 3600.0 * hours + 60.0 * minutes + seconds
