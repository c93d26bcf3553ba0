"""What medrail takes from a DICOM header: where each frame lies and what its numbers mean. No patient data.

References are to DICOM PS3.3 (information objects).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.dicom.elements import first_item, read_numbers, read_text, read_whole
from medrail.read.dicom.frames import image_type_of, planes_of
from medrail.read.dicom.mosaic import is_mosaic, tile_planes
from medrail.read.dicom.plane import Plane, direction_name
from medrail.read.dicom.values import PET_KEYWORDS, Activity, activity_of, needs_private

__all__ = ["KEYWORDS", "Header", "Plane", "direction_name", "header_of"]

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
    "ContentTime",
    "TriggerTime",
    "FrameReferenceTime",
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "ConcatenationUID",
    "SpacingBetweenSlices",
    "SliceVector",
    "DetectorInformationSequence",
    "GridFrameOffsetVector",
    "DoseGridScaling",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
KEYWORDS += [keyword for keyword in PET_KEYWORDS if keyword not in KEYWORDS]

_AS_MASK = "Convert it to a NIfTI mask on its image's grid, as with dcm2niix or highdicom."
_REFUSED = {
    "1.2.840.10008.5.1.4.1.1.66.4": ("a DICOM segmentation (SEG)", _AS_MASK),
    "1.2.840.10008.5.1.4.1.1.66.7": ("a DICOM label map segmentation", _AS_MASK),
    "1.2.840.10008.5.1.4.1.1.77.1.6": (
        "a whole-slide image",
        'pip install "medrail[slides]" reads such slides; data.kind: slides makes their tiles cases.',
    ),
}
_THINNEST_MM, _THICKEST_MM = 1e-6, 1e4
_STANDARD_ROOT = "1.2.840.10008."
# Numbers with a meaning: their sign must not be turned for display.
_QUANTITATIVE = frozenset({"CT", "MR", "PT", "NM", "RTDOSE"})
_VOLUMES = frozenset({"CT", "MR", "PT"})


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
    tiles:
        A mosaic's number of tiles along each side, else 0; ``rows`` x ``columns`` is a tile then, and each is a plane.
    activity:
        Of PET: what its rescaled values mean, and by what they are multiplied.
    frame_uid, concatenation_uid:
        Frame of Reference UID, and what the parts of one enhanced object have in common.
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
    tiles: int = 0
    activity: Activity | None = None
    scanner: str = ""
    burned_in: str = ""
    instance_number: int | None = None
    pixel_defect: str = ""
    patient_key: str = field(default="", repr=False)
    series_uid: str = field(default="", repr=False)
    instance_uid: str = field(default="", repr=False)
    frame_uid: str = field(default="", repr=False)
    concatenation_uid: str = field(default="", repr=False)

    @property
    def placed(self) -> bool:
        return all(plane.placed for plane in self.planes)

    @property
    def must_be_placed(self) -> bool:
        """Whether its frames are slices of a volume, so that their order and distance must be known."""
        tomography = self.modality == "NM" and "RECON TOMO" in self.image_type
        return len(self.planes) > 1 and (self.modality in _VOLUMES or tomography)

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


def header_of(dataset: Any, path: Path) -> Header:
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
    modality, image_type = read_text(dataset, "Modality").upper(), image_type_of(dataset)
    planes, tiles = tuple(planes_of(dataset, modality)), 0
    if is_mosaic(image_type) and len(planes) == 1:
        planes, tiles = tile_planes(dataset, path, planes[0], rows, columns)
        rows, columns = rows // tiles, columns // tiles
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
        planes=planes,
        thickness_mm=_thickness(dataset),
        rescaled=_has_rescale(dataset),
        rescale_type=read_text(_value_mapping(dataset), "RescaleType").upper(),
        image_type=image_type,
        has_lut=bool(dataset.get("ModalityLUTSequence")),
        tiles=tiles,
        activity=_activity(dataset, path) if modality == "PT" else None,
        scanner=_scanner(dataset),
        burned_in=read_text(dataset, "BurnedInAnnotation").upper(),
        instance_number=_instance_number(dataset),
        patient_key=_patient_key(dataset),
        series_uid=read_text(dataset, "SeriesInstanceUID"),
        instance_uid=read_text(dataset, "SOPInstanceUID"),
        frame_uid=read_text(dataset, "FrameOfReferenceUID"),
        concatenation_uid=read_text(dataset, "ConcatenationUID"),
    )


def _activity(dataset: Any, path: Path) -> Activity:
    if needs_private(dataset):  # an index reads no private elements
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    return activity_of(dataset)


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
    if uid in _REFUSED:
        what, remedy = _REFUSED[uid]
        raise UnsupportedFormat(f"is {what}", needed="slices, volumes or pictures", remedy=remedy)
    if "Rows" not in dataset or "Columns" not in dataset:
        if _may_be_image(uid):
            # What was cut off before its size must not pass for an object without picture: a slice would be lost.
            raise CorruptFile(
                f"has no Rows and Columns ({_kind(dataset)})", needed="a whole file", remedy="Copy or export it again."
            )
        raise UnsupportedFormat(
            f"holds no picture ({_kind(dataset)})", needed="a DICOM image", remedy="Leave it out, or choose the images."
        )


def _value_mapping(dataset: pydicom.Dataset) -> Any:
    """Where slope and intercept stand: the data set, or the first frame's functional groups."""
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    own = first_item(dataset, "PerFrameFunctionalGroupsSequence")
    name = "PixelValueTransformationSequence"
    return first_item(own, name) or first_item(shared, name) or dataset


def _has_rescale(dataset: pydicom.Dataset) -> bool:
    mapping = _value_mapping(dataset)
    return None not in (read_numbers(mapping, "RescaleSlope", 1), read_numbers(mapping, "RescaleIntercept", 1))


def _thickness(dataset: pydicom.Dataset) -> float | None:
    measures = first_item(first_item(dataset, "SharedFunctionalGroupsSequence"), "PixelMeasuresSequence") or dataset
    thickness = read_numbers(measures, "SliceThickness", 1)
    return thickness[0] if thickness and _THINNEST_MM < thickness[0] < _THICKEST_MM else None
