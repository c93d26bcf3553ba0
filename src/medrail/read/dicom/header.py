"""What medrail takes from a DICOM header: where each frame lies and what its numbers mean. Of the patient only groups.

References are to DICOM PS3.3 (information objects).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.dicom import demography, who
from medrail.read.dicom.elements import first_item, read_numbers, read_text, read_whole
from medrail.read.dicom.frames import image_type_of, next_plane, planes_of
from medrail.read.dicom.mosaic import is_mosaic, tile_planes
from medrail.read.dicom.plane import Plane, direction_name
from medrail.read.dicom.values import PET_KEYWORDS, Activity, activity_of, needs_private

__all__ = ["KEYWORDS", "Header", "Plane", "direction_name", "header_of"]

# Read from each header; everything else is not even parsed when a folder is indexed.
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
    "PresentationLUTShape",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
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
    "RedPaletteColorLookupTableDescriptor",
    "Manufacturer",
    "ManufacturerModelName",
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
    "SequenceName",
    "ConvolutionKernel",
    "KVP",
    "SeriesNumber",
    "ConcatenationUID",
    "SpacingBetweenSlices",
    "SliceVector",
    "DetectorInformationSequence",
    "GridFrameOffsetVector",
    "DoseGridScaling",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
KEYWORDS = list(dict.fromkeys((*KEYWORDS, *PET_KEYWORDS, *who.KEYWORDS, *demography.KEYWORDS)))
# What may be another in every slice of a series; ``next_header`` reads these alone.
OF_A_SLICE = frozenset(
    ["SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "TriggerTime", "AcquisitionTime", "ContentTime"]
)

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
_UNSAID = frozenset(
    ["", "none", "null", "nil", "nan", "n/a", "na", "unknown", "unspecified", "undefined", "anonymous", "anonymized"]
)


@dataclass(frozen=True, slots=True)
class Header:
    """One DICOM image file. The identifiers serve grouping only and are never shown.

    scanner:
        Manufacturer and model.
    burned_in:
        Burned In Annotation (C.7.6.1.1.5): "YES", "NO" or "".
    pixel_defect:
        Evidence that the file ends before its pixels do, found without decoding; "" where there is none.
    patient_key, issuer_key, study_key, series_key, person_key:
        Digests of whose it is (``who.Who``), to be compared.
    sex, age_band:
        Of the patient, as ``demography`` has them; "" where unknown.
    tiles:
        A mosaic's number of tiles along each side, else 0; ``rows`` x ``columns`` is a tile then, and each is a plane.
    palette_bits:
        Of the colours that a palette gives (C.7.6.3.1.5), else 0.
    inverse:
        Presentation LUT Shape (C.11.6) turns grey values that MONOCHROME2 does not.
    between_mm:
        Spacing Between Slices, where it may be read as the distance of two slices' centres, else None.
    activity:
        Of PET: what its rescaled values mean, and by what they are multiplied.
    pixel_offset:
        Where the value of Pixel Data begins, in bytes; -1 where that was not found out.
    frame_uid, concatenation_uid:
        Frame of Reference UID, and what the parts of one enhanced object have in common.
    high_bit:
        -1 where it cannot be read.
    syntax:
        Transfer syntax UID, "" where the file does not say.
    """

    path: Path
    planes: tuple[Plane, ...]
    instance_number: int | None
    instance_uid: str = field(repr=False)
    pixel_defect: str
    pixel_offset: int = field(compare=False)
    modality: str
    kind: str
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    thickness_mm: float | None
    rescaled: bool
    rescale_type: str
    image_type: tuple[str, ...]
    has_lut: bool = False
    tiles: int = 0
    palette_bits: int = 0
    inverse: bool = False
    between_mm: float | None = None
    activity: Activity | None = None
    scanner: str = ""
    burned_in: str = ""
    sex: str = ""
    age_band: str = ""
    patient_key: str = field(default="", repr=False)
    issuer_key: str = field(default="", repr=False)
    study_key: str = field(default="", repr=False)
    person_key: str = field(default="", repr=False)
    series_uid: str = field(default="", repr=False)
    frame_uid: str = field(default="", repr=False)
    concatenation_uid: str = field(default="", repr=False)
    high_bit: int = -1
    syntax: str = ""

    @property
    def series_key(self) -> str:
        return who.series_key(self.series_uid)

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
        """MONOCHROME1 (C.7.6.3.1.2), or the same said by Presentation LUT Shape: 0 is white.

        Turned for pictures, where black must be air; kept for quantities.
        """
        return (self.photometric == "MONOCHROME1" or self.inverse) and self.modality not in _QUANTITATIVE

    @property
    def hounsfield(self) -> bool:
        """CT whose rescaled numbers are HU: no Rescale Type means HU (C.8.2.1.1.4), another one names another unit.

        Neither colours nor a localiser, which is a projection, are.
        """
        slices = self.samples == 1 and not self.palette_bits and self.planes[0].part != "LOCALIZER"
        return self.modality == "CT" and slices and self.rescaled and self.rescale_type in ("", "HU", "HU_MOD")

    @property
    def grid(self) -> str:
        """For people: size, planes and direction."""
        direction = "without position"
        if self.planes and self.planes[0].orientation is not None:
            direction = direction_name(self.planes[0])
        return f"{self.rows} x {self.columns} {direction}"


def header_of(dataset: Any, path: Path, pixel_defect: str = "", pixel_offset: int = -1) -> Header:
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
    whose, photometric = who.who_of(dataset), read_text(dataset, "PhotometricInterpretation").upper()
    return Header(
        path=path,
        planes=planes,
        instance_number=_instance_number(dataset),
        instance_uid=read_text(dataset, "SOPInstanceUID"),
        pixel_defect=pixel_defect,
        pixel_offset=pixel_offset,
        modality=modality,
        kind=_kind(dataset),
        rows=rows,
        columns=columns,
        samples=read_whole(dataset, "SamplesPerPixel", 1),
        bits_allocated=bits,
        bits_stored=read_whole(dataset, "BitsStored", bits),
        signed=read_whole(dataset, "PixelRepresentation", 0) == 1,
        photometric=photometric,
        thickness_mm=_thickness(dataset),
        rescaled=_has_rescale(dataset),
        rescale_type=read_text(_value_mapping(dataset), "RescaleType").upper(),
        image_type=image_type,
        has_lut=bool(dataset.get("ModalityLUTSequence")),
        tiles=tiles,
        palette_bits=_palette_bits(dataset),
        inverse=read_text(dataset, "PresentationLUTShape").upper() == "INVERSE" and photometric == "MONOCHROME2",
        between_mm=_between(dataset),
        activity=_activity(dataset, path) if modality == "PT" else None,
        scanner=_scanner(dataset),
        burned_in=read_text(dataset, "BurnedInAnnotation").upper(),
        sex=demography.sex_said(dataset),
        age_band=demography.age_band_of(dataset),
        patient_key=whose.patient_key,
        issuer_key=whose.issuer_key,
        study_key=whose.study_key,
        person_key=whose.person_key,
        series_uid=read_text(dataset, "SeriesInstanceUID"),
        frame_uid=read_text(dataset, "FrameOfReferenceUID"),
        concatenation_uid=read_text(dataset, "ConcatenationUID"),
        high_bit=_high_bit(dataset),
        syntax=_syntax(dataset),
    )


_COMMON = attrgetter(*(one.name for one in fields(Header)[6:]))


def common_part(header: Header) -> tuple[Any, ...] | None:
    """What the headers of all slices have in common whose elements other than ``OF_A_SLICE`` are equal to this one's.

    None where slices have nothing in common for sure: for multi-frame objects, dose grids, mosaics and PET.
    """
    if len(header.planes) != 1 or header.tiles or header.activity or header.modality == "RTDOSE":
        return None
    return (header.planes[0], *_COMMON(header))


def next_header(
    common: tuple[Any, ...], dataset: Any, path: Path, pixel_defect: str = "", pixel_offset: int = -1
) -> Header:
    """As ``header_of`` with what is known from another slice; ``dataset`` needs the elements ``OF_A_SLICE`` only."""
    plane = next_plane(common[0], dataset)
    number, uid = _instance_number(dataset), read_text(dataset, "SOPInstanceUID")
    return Header(path, (plane,), number, uid, pixel_defect, pixel_offset, *common[1:])


def _activity(dataset: Any, path: Path) -> Activity:
    if needs_private(dataset):  # an index reads no private elements
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    return activity_of(dataset)


def _high_bit(dataset: Any) -> int:
    try:
        return read_whole(dataset, "HighBit", -1)
    except CorruptFile:
        return -1  # decoding will name it


def _syntax(dataset: Any) -> str:
    meta = getattr(dataset, "file_meta", None)
    return str(meta.get("TransferSyntaxUID") or "") if meta is not None else ""


def _palette_bits(dataset: Any) -> int:
    try:
        descriptor = read_numbers(dataset, "RedPaletteColorLookupTableDescriptor", 3)
    except CorruptFile:
        return 0  # decoding will name it
    return int(descriptor[2]) if descriptor else 0


def _scanner(dataset: pydicom.Dataset) -> str:
    maker, model = (_said(dataset, name) for name in ("Manufacturer", "ManufacturerModelName"))
    return model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()


def _said(dataset: pydicom.Dataset, keyword: str) -> str:
    """A text; "" for the words that converters write where they do not know it."""
    text = read_text(dataset, keyword)
    return "" if text.lower().strip(" .-_<>()[]'\"") in _UNSAID else text


def _instance_number(dataset: pydicom.Dataset) -> int | None:
    try:
        return read_whole(dataset, "InstanceNumber", 0) or None
    except CorruptFile:
        return None  # serves to tell copies apart, never to order


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


def _between(dataset: pydicom.Dataset) -> float | None:
    """None for less than the thickness: some converters write the gap between the slices' faces."""
    try:
        between = read_numbers(dataset, "SpacingBetweenSlices", 1)
    except CorruptFile:
        return None
    least = 0.99 * (_thickness(dataset) or _THINNEST_MM)
    return between[0] if between and least <= between[0] < _THICKEST_MM else None


def _thickness(dataset: pydicom.Dataset) -> float | None:
    measures = first_item(first_item(dataset, "SharedFunctionalGroupsSequence"), "PixelMeasuresSequence") or dataset
    thickness = read_numbers(measures, "SliceThickness", 1)
    return thickness[0] if thickness and _THINNEST_MM < thickness[0] < _THICKEST_MM else None
