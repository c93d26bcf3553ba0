"""What is done to each attribute: PS3.15 Table E.1-1 (edition 2026c) and, beyond it, what the table does not name.

The table's Basic Profile column is data of the package dicom-anonymizer; its option columns, and the stricter rules
for attributes that the table does not list, stand here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword

from medrail.cases.deidentify.options import Options
from medrail.errors import ConfigError

EDITION = "2026c"

# Letters of PS3.15 section E.3: X remove, Z empty, D dummy, U map the UID, K keep, C clean of identifiers;
# S is ours: shift the date. Several letters: whichever the object's definition needs.
_BASIC: Mapping[str, str] = {
    "D_TAGS": "D",
    "Z_TAGS": "Z",
    "X_TAGS": "X",
    "U_TAGS": "U",
    "Z_D_TAGS": "Z/D",
    "X_Z_TAGS": "X/Z",
    "X_D_TAGS": "X/D",
    "X_Z_D_TAGS": "X/Z/D",
    "X_Z_U_STAR_TAGS": "K",  # sequences of references: their UIDs are mapped, so they may stay
}

TEMPORAL = frozenset({"DA", "DT", "TM"})
FREE_TEXT = frozenset({"PN", "LO", "SH", "LT", "ST", "UT", "UC", "AE", "UR"})
_LONG_TEXT = frozenset({"PN", "LT", "ST", "UT", "UC", "AE", "UR"})
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})

# Patient, request, visit and result: what the table does not list there is removed all the same.
_PERSONAL_GROUPS = frozenset({0x0010, 0x0032, 0x0038, 0x4008})

# Retain Patient Characteristics; those with text are cleaned (PS3.15 section E.3.7).
_CHARACTERISTICS: Mapping[str, str] = {
    "PatientSex": "K",
    "PatientAge": "K",
    "PatientSize": "K",
    "PatientWeight": "K",
    "PatientSexNeutered": "K",
    "EthnicGroup": "K",
    "PregnancyStatus": "K",
    "SmokingStatus": "K",
    "Allergies": "C",
    "PatientState": "C",
    "PreMedication": "C",
    "SpecialNeeds": "C",
}
_DEVICE = [
    "CassetteID",
    "DetectorID",
    "DeviceDescription",
    "DeviceLabel",
    "DeviceSerialNumber",
    "DeviceUID",
    "GantryID",
    "GeneratorID",
    "LensMake",
    "LensModel",
    "LensSerialNumber",
    "LensSpecification",
    "LongDeviceDescription",
    "ManufacturerDeviceIdentifier",
    "PerformedStationAETitle",
    "PerformedStationName",
    "PlateID",
    "ScheduledStationAETitle",
    "ScheduledStationName",
    "SourceManufacturer",
    "SourceSerialNumber",
    "StationAETitle",
    "StationName",
    "TransducerIdentificationSequence",
    "TreatmentMachineName",
    "UDISequence",
    "UniqueDeviceIdentifier",
    "XRayDetectorID",
    "XRayDetectorLabel",
    "XRaySourceID",
]
_INSTITUTION = [
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionCodeSequence",
    "InstitutionalDepartmentName",
    "InstitutionalDepartmentTypeCodeSequence",
    "ClinicalTrialCoordinatingCenterName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialProtocolEthicsCommitteeName",
]

# Whole groups of drawings and curves; groups that hold originals in another form.
_ALSO_REMOVED = frozenset({"EncryptedAttributesSequence", "DataSetTrailingPadding", "DigitalSignaturesSequence"})
_DESCRIPTION = re.compile(
    r"(Description|Comments|Label|Narrative|Notes|History|ProtocolName|ContrastBolusAgent|TreatmentSites?|Impressions"
    r"|ReasonForStudy|ReasonForVisit|ReasonForTheRequestedProcedure|ReasonForTheImagingServiceRequest)$"
)

# UIDs that name a kind of thing, not a thing.
CLASS_UIDS = frozenset(
    tag_for_keyword(keyword)
    for keyword in [
        "SOPClassUID",
        "ReferencedSOPClassUID",
        "ReferencedSOPClassUIDInFile",
        "RelatedGeneralSOPClassUID",
        "SOPClassesInStudy",
        "OriginalSpecializedSOPClassUID",
        "CodingSchemeUID",
        "ContextUID",
        "MappingResourceUID",
        "ReferencedTransferSyntaxUIDInFile",
        "AvailableTransferSyntaxUID",
        "EncryptedContentTransferSyntaxUID",
        "MACCalculationTransferSyntaxUID",
    ]
)


@functools.cache
def basic_profile() -> dict[int, str]:
    """Tag -> letters of the Basic Profile, for all attributes with one tag (655 less the repeating groups).

    Raises
    ------
    ConfigError
        If the package with the table, which is optional, is not installed.
    """
    try:
        from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c
    except ImportError:
        raise ConfigError(
            "the table of what identifies (DICOM PS3.15) is not installed",
            remedy="Install it with: pip install 'medrail[deidentify]'",
        ) from None
    table: dict[int, str] = {}
    for name, letters in _BASIC.items():
        for entry in getattr(dicomfields_2026c, name):
            if len(entry) == 2:
                table[entry[0] << 16 | entry[1]] = letters
    return table


def vr_of(tag: int, stored: str | None) -> str:
    """The value representation; that of the dictionary where the file does not say (implicit, or UN)."""
    if stored and stored != "UN":
        return stored
    if not dictionary_has_tag(tag):
        return "UN"
    return str(dictionary_VR(tag)).split(" or ")[0]


def action_for(tag: int, vr: str, options: Options, *, dummy_needed: bool) -> str:
    """One letter for an attribute of the standard (an even group): X Z D U K C or S.

    ``dummy_needed``: whether the object's definition may ask for a value where the table leaves the choice; true for
    all but single-frame images, whose type 1 attributes are never among those.
    """
    group, keyword = tag >> 16, keyword_for_tag(tag)
    if group & 0xFF00 in (0x5000, 0x6000) or tag & 0xFFFF == 0 or keyword in _ALSO_REMOVED:
        return "X"
    kept = _kept(tag, vr, keyword, options)
    if kept:
        return kept
    letters = basic_profile().get(tag) or _unlisted(tag, vr, group)
    if "/" not in letters:
        return letters
    if keyword == "PatientID" or (dummy_needed and letters.endswith("D")):
        return "D"
    # An empty sequence is allowed only where it is of type 2, which those of single images are not.
    may_be_empty = "Z" in letters and (vr != "SQ" or dummy_needed)
    return "Z" if may_be_empty else "X"


def _kept(tag: int, vr: str, keyword: str, options: Options) -> str:
    """What an option makes of an attribute; "" where the Basic Profile holds."""
    if options.keeps("patient-characteristics") and keyword in _CHARACTERISTICS:
        return _CHARACTERISTICS[keyword]
    if options.keeps("device") and keyword in _DEVICE:
        return "K"
    if options.keeps("institution") and keyword in _INSTITUTION:
        return "K"
    personal = tag >> 16 in _PERSONAL_GROUPS
    if not personal and (vr in TEMPORAL or keyword == "TimezoneOffsetFromUTC"):
        if options.keeps("dates"):
            return "K"
        if options.keeps("shifted-dates"):
            return "S" if vr in TEMPORAL else "K"
    if options.keeps("uids") and vr == "UI":
        return "K"
    describes = vr in FREE_TEXT and vr not in ("PN", "AE", "UR") and _DESCRIPTION.search(keyword)
    return "C" if options.keeps("descriptions") and describes else ""


def _unlisted(tag: int, vr: str, group: int) -> str:
    """Attributes that the table does not name: the standard keeps them, we keep only what can carry no free text."""
    if vr == "UI":
        return "U"
    if group in _PERSONAL_GROUPS or not dictionary_has_tag(tag):
        return "X"
    return "Z" if vr in _LONG_TEXT or vr in TEMPORAL else "K"
