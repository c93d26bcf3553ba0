"""What a copy says of itself: that and how it was de-identified (PS3.15 section E.1.1)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medrail import __version__
from medrail.cases.deidentify.actions import EDITION
from medrail.cases.deidentify.options import KEEP, Options

_METHOD = [f"medrail {__version__}", f"DICOM PS3.15 {EDITION} Basic Profile"]
_PROFILE = "113100", "Basic Application Confidentiality Profile"
_PIXELS = "113101", "Clean Pixel Data Option"

# Texts that a copy has from here and not from its original, as they are stored.
STATED = frozenset(
    text.encode()
    for text in ("\\".join(_METHOD), *(meaning[:64] for _, meaning in (_PROFILE, _PIXELS, *KEEP.values())))
)


def state(dataset: Dataset, name: str, options: Options, *, blanked: bool) -> None:
    """Set the attributes that say so. ``name``: the patient's new one. ``blanked``: pixels were."""
    dataset.PatientID = dataset.PatientName = name
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = list(_METHOD)
    codes = [_PROFILE] + [_PIXELS] * blanked + [KEEP[kept] for kept in KEEP if options.keeps(kept)]
    dataset.DeidentificationMethodCodeSequence = Sequence([_code(*code) for code in codes])
    dates = "UNMODIFIED" if options.keeps("dates") else "MODIFIED" if options.keeps("shifted-dates") else "REMOVED"
    dataset.LongitudinalTemporalInformationModified = dates


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = value, "DCM"
    code.CodeMeaning = meaning[:64]
    return code
