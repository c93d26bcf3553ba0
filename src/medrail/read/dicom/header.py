"""What medrail takes from a DICOM header: where each frame lies and what its numbers mean. No patient data.

References are to DICOM PS3.3 (information objects).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import UID

from medrail.errors import CorruptFile, GeometryError, UnsupportedFormat
from medrail.read.dicom.elements import Numbers, first_item, read_numbers, read_text, read_values, read_whole
from medrail.types import FloatArray

# Read from each header; everything else (names, dates, ...) is not even parsed when a folder is indexed.
KEYWORDS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "PixelPaddingValue",
    "Manufacturer",
    "ManufacturerModelName",
    "PatientID",
    "IssuerOfPatientID",
    "BurnedInAnnotation",
    "InstanceNumber",
    "AcquisitionNumber",
    "AcquisitionTime",
    "TriggerTime",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "GridFrameOffsetVector",
    "DoseGridScaling",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]

_REFUSED = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a DICOM segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.66.7": "a DICOM label map segmentation",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "a whole-slide image",
}
_STANDARD_ROOT = "1.2.840.10008."
# Numbers with a meaning: their sign must not be turned for display.
_QUANTITATIVE = frozenset({"CT", "MR", "PT", "NM", "RTDOSE"})
_VOLUMES = frozenset({"CT", "MR", "PT"})


@dataclass(frozen=True)
class Plane:
    """One frame: its position, its axes, and how its stored values become real ones.

    position_lps_mm:
        (x, y, z) of the centre of the first pixel, LPS (C.7.6.2.1.1); None when the file does not say.
    orientation:
        Unit vectors of increasing column and of increasing row, six numbers.
    spacing_mm:
        Between rows, between columns (10.7.1.3): along H, along W.
    """

    position_lps_mm: Numbers | None = None
    orientation: Numbers | None = None
    spacing_mm: Numbers | None = None
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def placed(self) -> bool:
        return None not in (self.position_lps_mm, self.orientation, self.spacing_mm)

    @property
    def normal(self) -> FloatArray:
        """Row direction x column direction, LPS."""
        axes = np.array(self.orientation, dtype=np.float64)
        normal: FloatArray = np.cross(axes[:3], axes[3:])
        return normal


@dataclass(frozen=True)
class Header:
    """One DICOM image file. The identifiers serve grouping only and are never shown.

    scanner:
        Manufacturer and model.
    burned_in:
        Burned In Annotation (C.7.6.1.1.5): "YES", "NO" or "".
    pixel_defect:
        Evidence that the file ends before its pixels do, found without decoding; "" where there is none.
    patient_key:
        A digest of Patient ID and its issuer, equal for files of one patient; "" where there is no Patient ID.
    """

    path: Path
    modality: str
    kind: str
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    planes: tuple[Plane, ...]
    thickness_mm: float | None
    rescaled: bool
    rescale_type: str
    image_type: tuple[str, ...]
    has_lut: bool = False
    stack_marks: tuple[str, ...] = ()
    scanner: str = ""
    burned_in: str = ""
    instance_number: int | None = None
    pixel_defect: str = ""
    patient_key: str = field(default="", repr=False)
    series_uid: str = field(default="", repr=False)
    instance_uid: str = field(default="", repr=False)

    @property
    def placed(self) -> bool:
        return all(plane.placed for plane in self.planes)

    @property
    def inverted(self) -> bool:
        """MONOCHROME1 (C.7.6.3.1.2): 0 is white. Turned for pictures, where black must be air; kept for quantities."""
        return self.photometric == "MONOCHROME1" and self.modality not in _QUANTITATIVE

    @property
    def hounsfield(self) -> bool:
        """CT whose rescaled numbers are HU: no Rescale Type means HU (C.8.2.1.1.4), another one names another unit."""
        return self.modality == "CT" and self.rescaled and self.rescale_type in ("", "HU", "HU_MOD")

    @property
    def grid(self) -> str:
        """For people: size, planes and direction."""
        direction = "without position"
        if self.planes and self.planes[0].orientation is not None:
            direction = direction_name(self.planes[0])
        return f"{self.rows} x {self.columns} {direction}"


def direction_name(plane: Plane) -> str:
    """sagittal, coronal or axial within about 10 degrees, else oblique."""
    cosines = np.abs(plane.normal)
    name = ("sagittal", "coronal", "axial")[int(np.argmax(cosines))]
    return name if cosines.max() > 0.985 else "oblique"


def header_of(dataset: pydicom.Dataset, path: Path) -> Header:
    """A parsed data set -> Header.

    Raises
    ------
    UnsupportedFormat
        If the object holds no image, or one of a kind that is not read.
    CorruptFile
        If a needed element is missing or not readable; the error names the element, never its value.
    GeometryError
        If orientation or spacing are there and are none.
    """
    _refuse_other_objects(dataset)
    rows, columns = read_whole(dataset, "Rows"), read_whole(dataset, "Columns")
    bits = read_whole(dataset, "BitsAllocated")
    modality = read_text(dataset, "Modality").upper()
    return Header(
        path=path,
        modality=modality,
        kind=_kind(dataset),
        rows=rows,
        columns=columns,
        samples=read_whole(dataset, "SamplesPerPixel", 1),
        bits_allocated=bits,
        bits_stored=read_whole(dataset, "BitsStored", bits),
        signed=read_whole(dataset, "PixelRepresentation", 0) == 1,
        photometric=read_text(dataset, "PhotometricInterpretation").upper(),
        planes=tuple(_planes(dataset, modality)),
        thickness_mm=_thickness(dataset),
        rescaled=_has_rescale(dataset),
        rescale_type=read_text(_value_mapping(dataset), "RescaleType").upper(),
        image_type=tuple(str(part).upper() for part in read_values(dataset, "ImageType")),
        has_lut=bool(dataset.get("ModalityLUTSequence")),
        stack_marks=tuple(
            read_text(dataset, keyword)
            for keyword in ("FrameOfReferenceUID", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue")
        ),
        scanner=_scanner(dataset),
        burned_in=read_text(dataset, "BurnedInAnnotation").upper(),
        instance_number=_instance_number(dataset),
        patient_key=_patient_key(dataset),
        series_uid=read_text(dataset, "SeriesInstanceUID"),
        instance_uid=read_text(dataset, "SOPInstanceUID"),
    )


def _scanner(dataset: pydicom.Dataset) -> str:
    maker, model = read_text(dataset, "Manufacturer"), read_text(dataset, "ManufacturerModelName")
    return model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()


def _instance_number(dataset: pydicom.Dataset) -> int | None:
    try:
        return read_whole(dataset, "InstanceNumber", 0) or None
    except CorruptFile:
        return None  # serves to tell copies apart, never to order


def _patient_key(dataset: pydicom.Dataset) -> str:
    patient = read_text(dataset, "PatientID")
    issuer = read_text(dataset, "IssuerOfPatientID")
    return hashlib.sha256(f"{issuer}\0{patient}".encode()).hexdigest() if patient else ""


def _sop_class(dataset: pydicom.Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    return read_text(dataset, "SOPClassUID") or read_text(meta, "MediaStorageSOPClassUID")


def _kind(dataset: pydicom.Dataset) -> str:
    """The object's name by its SOP class; a private or broken one is not repeated."""
    uid = UID(_sop_class(dataset))
    return str(uid.name) if uid.name and uid.name != uid else "DICOM object of an unknown class"


def _may_be_image(uid: str) -> bool:
    """Whether an object of this SOP class should have a size: an image class, or a standard one that was cut off."""
    name = UID(uid).name
    cut = name == uid and (uid.startswith(_STANDARD_ROOT) or _STANDARD_ROOT.startswith(uid))
    return cut or name.endswith("Image Storage")


def _refuse_other_objects(dataset: pydicom.Dataset) -> None:
    uid = _sop_class(dataset)
    image_type = [str(part).upper() for part in read_values(dataset, "ImageType")]
    if uid in _REFUSED or "MOSAIC" in image_type:
        raise UnsupportedFormat(
            f"is {_REFUSED.get(uid, 'a Siemens mosaic (many slices in one picture)')}",
            needed="slices, volumes or pictures",
            remedy="Convert it to NIfTI first.",
        )
    if "Rows" not in dataset or "Columns" not in dataset:
        if _may_be_image(uid):
            # What was cut off before its size must not pass for an object without picture: a slice would be lost.
            raise CorruptFile(
                f"has no Rows and Columns ({_kind(dataset)})", needed="a whole file", remedy="Copy or export it again."
            )
        raise UnsupportedFormat(
            f"holds no picture ({_kind(dataset)})", needed="a DICOM image", remedy="Leave it out, or choose the images."
        )


def refuse_unplaced_volume(header: Header) -> None:
    """Many frames of CT, MR or PET without position would become a volume in an unknown order."""
    if header.modality in _VOLUMES and len(header.planes) > 1 and not header.placed:
        raise GeometryError(
            f"holds {len(header.planes)} {header.modality} frames without position, orientation or spacing",
            needed="plane position, plane orientation and pixel measures of each frame",
            remedy="Convert it to NIfTI with a converter that knows the scanner.",
        )


def _planes(dataset: pydicom.Dataset, modality: str) -> Iterator[Plane]:
    frames = read_whole(dataset, "NumberOfFrames", 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups:
        shared = first_item(dataset, "SharedFunctionalGroupsSequence")
        if len(groups) != max(frames, 1):
            raise CorruptFile(f"declares {frames} frames and describes {len(groups)}", remedy="Export it again.")
        yield from (_enhanced_plane(group, shared) for group in groups)
    elif modality == "RTDOSE":
        yield from _dose_planes(dataset, frames)
    elif frames > 1:
        slope, intercept = _rescale(dataset)
        yield from (Plane(slope=slope, intercept=intercept) for _ in range(frames))
    else:
        yield _plane(dataset, dataset, dataset, dataset)


def _plane(place: Any, axes: Any, measures: Any, mapping: Any) -> Plane:
    slope, intercept = _rescale(mapping)
    position = read_numbers(place, "ImagePositionPatient", 3)
    orientation = read_numbers(axes, "ImageOrientationPatient", 6)
    spacing = read_numbers(measures, "PixelSpacing", 2)
    if orientation is not None:
        orientation = _unit_vectors(orientation)
    if spacing is not None and min(spacing) <= 0:
        raise GeometryError(f"PixelSpacing is {spacing} mm", needed="two positive numbers", remedy="Export it again.")
    return Plane(position, orientation, spacing, slope, intercept)


def _enhanced_plane(group: Any, shared: Any) -> Plane:
    """Multi-frame functional groups (C.7.6.16): a frame's own, else the shared ones."""
    found = {
        name: first_item(group, name) or first_item(shared, name)
        for name in (
            "PlanePositionSequence",
            "PlaneOrientationSequence",
            "PixelMeasuresSequence",
            "PixelValueTransformationSequence",
        )
    }
    return _plane(*found.values())


def _dose_planes(dataset: pydicom.Dataset, frames: int) -> Iterator[Plane]:
    """RT dose (C.8.8.3.2): frame *n* lies at its offset along the normal from the first one's position."""
    first = _plane(dataset, dataset, dataset, dataset)
    offsets = read_numbers(dataset, "GridFrameOffsetVector", frames) if frames > 1 else (0.0,)
    if not first.placed or first.position_lps_mm is None or offsets is None:
        raise GeometryError("a dose grid without position or frame offsets", needed="GridFrameOffsetVector")
    if offsets[0] != 0:
        raise GeometryError("dose frame offsets that do not begin with 0", needed="offsets from the first frame")
    scale = read_numbers(dataset, "DoseGridScaling", 1) or (1.0,)
    origin = np.array(first.position_lps_mm)
    for offset in offsets:
        position = tuple(float(x) for x in origin + offset * first.normal)
        yield Plane(position, first.orientation, first.spacing_mm, scale[0], 0.0)


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


def _value_mapping(dataset: pydicom.Dataset) -> Any:
    """Where slope and intercept stand: the data set, or the first frame's functional groups."""
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    own = first_item(dataset, "PerFrameFunctionalGroupsSequence")
    name = "PixelValueTransformationSequence"
    return first_item(own, name) or first_item(shared, name) or dataset


def _has_rescale(dataset: pydicom.Dataset) -> bool:
    mapping = _value_mapping(dataset)
    return None not in (read_numbers(mapping, "RescaleSlope", 1), read_numbers(mapping, "RescaleIntercept", 1))


def _rescale(dataset: Any) -> tuple[float, float]:
    slope = (read_numbers(dataset, "RescaleSlope", 1) or (1.0,))[0]
    intercept = (read_numbers(dataset, "RescaleIntercept", 1) or (0.0,))[0]
    if slope == 0:
        raise CorruptFile("RescaleSlope is 0", needed="a slope that keeps the picture", remedy="Export it again.")
    return slope, intercept


def _thickness(dataset: pydicom.Dataset) -> float | None:
    measures = first_item(first_item(dataset, "SharedFunctionalGroupsSequence"), "PixelMeasuresSequence") or dataset
    thickness = read_numbers(measures, "SliceThickness", 1)
    return thickness[0] if thickness and thickness[0] > 0 else None
