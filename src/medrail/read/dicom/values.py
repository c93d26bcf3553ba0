"""What the numbers of a PET image mean: activity, or the standardised uptake value (SUV) by body weight.

Sources: DICOM PS3.3 C.8.9.1 (PET series: Units, Decay Correction, Corrected Image), C.8.9.2 (PET isotope); the rules
for the private elements follow QIBA's "SUV vendor-neutral pseudo-code". Times are in ``pet_times``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from math import isfinite
from typing import Any

from medrail.errors import CorruptFile
from medrail.read.dicom.elements import read_numbers, read_text, read_values
from medrail.read.dicom.pet_times import (
    NotInHeader,
    acquisition,
    is_made_later,
    private_value,
    seconds_since_injection,
)
from medrail.types import Unit

# Read for SUV; an index has to ask its parser for these as well.
PET_KEYWORDS = [
    "Units",
    "SUVType",
    "CorrectedImage",
    "DecayCorrection",
    "DecayCorrectionDateTime",
    "PatientWeight",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "TimezoneOffsetFromUTC",
    "RadiopharmaceuticalInformationSequence",
]

# What the factor is made of.
_OF_SERIES = ("Units", "SUVType", "DecayCorrection", "DecayCorrectionDateTime", "PatientWeight", "SeriesDate",
              "SeriesTime", "TimezoneOffsetFromUTC")  # fmt: skip
_OF_ISOTOPE = ("RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartDateTime",
               "RadiopharmaceuticalStartTime")  # fmt: skip
_PHILIPS = 0x7053, "Philips PET Private Group"
_SUV_ELEMENT, _ACTIVITY_ELEMENT = 0x00, 0x09
# A mouse gets about 1e6 Bq, a person 1e8; less than this was written in MBq.
_LEAST_DOSE_BQ = 1e4
_MOST_WEIGHT_KG = 500.0
_GRAMS = 1000.0


@dataclass(frozen=True)
class Activity:
    """``factor`` times the rescaled values are in ``unit``; ``reason`` says why they are no SUV, "" where they are.

    declared:
        Units as the header has them: values of several units never share an image.
    acquired_s:
        When this file was acquired; compared within its series only. None where the header does not say.
    basis:
        A digest of all that the factor is made of but the acquisition's time; equal for all files of a whole series.
    """

    unit: Unit
    factor: float = 1.0
    reason: str = ""
    declared: str = ""
    acquired_s: float | None = None
    basis: str = field(default="", repr=False)


def activity_of(dataset: Any) -> Activity:
    """A PET file's data set -> what its rescaled values (slope and intercept applied) mean, by this file alone.

    Never raises: an element that cannot be read is a reason. What holds for the series, ``activity_of_series`` says.
    """
    try:
        declared = read_text(dataset, "Units").upper()
    except CorruptFile:
        return Activity("arbitrary", reason="Units cannot be read")
    unit, factor, reason = _meaning(dataset, declared)
    return Activity(unit, factor, reason, declared, _acquired_s(dataset), _basis(dataset))


def activity_of_series(files: Sequence[Activity]) -> Activity:
    """One decision for all files of a series that declare the same unit: that of the earliest acquisition.

    Beds are acquired one after another; only the first can show that the time of the series, to which all of them are
    corrected, is a later one. A file without its time may be the first. Files that differ in weight, dose, or times of
    injection or series have no SUV.
    """
    first = min(files, key=lambda one: -float("inf") if one.acquired_s is None else one.acquired_s)
    if len({one.basis for one in files}) == 1:
        return Activity(first.unit, first.factor, first.reason, first.declared)
    unit: Unit = "Bq/ml" if first.declared == "BQML" else "arbitrary"
    return Activity(unit, reason="its files differ in weight, dose, times or scale", declared=first.declared)


def _meaning(dataset: Any, declared: str) -> tuple[Unit, float, str]:
    if declared == "GML":
        return _already_suv(dataset)
    factor = 1.0
    if declared == "CNTS":
        suv = _private(dataset, _SUV_ELEMENT)
        if suv:
            return "SUV", suv, ""
        factor = _private(dataset, _ACTIVITY_ELEMENT) or 0.0
    if not factor or declared not in ("BQML", "CNTS"):
        return "arbitrary", 1.0, "Units are neither BQML nor GML, nor counts with their scale"
    try:
        return "SUV", factor * _per_activity(dataset), ""
    except NotInHeader as lack:
        return "Bq/ml", factor, str(lack)
    except CorruptFile as error:
        return "Bq/ml", factor, error.found


def _acquired_s(dataset: Any) -> float | None:
    try:
        moment = acquisition(dataset)
    except (NotInHeader, CorruptFile):
        return None
    # Without an offset from UTC: any one will do, since seconds of one series are compared.
    return None if moment is None else (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _basis(dataset: Any) -> str:
    """What enters into the factor, as text that cannot be read back; elements that cannot be read are alike."""
    try:
        isotope, corrected = _isotope(dataset), str(_is_corrected(dataset))
    except CorruptFile:
        isotope, corrected = None, "unreadable"
    found = [_text(dataset, name) for name in _OF_SERIES] + [_text(isotope, name) for name in _OF_ISOTOPE]
    found += [corrected, *(str(_private(dataset, element)) for element in (_SUV_ELEMENT, _ACTIVITY_ELEMENT))]
    return hashlib.sha256("\0".join(found).encode()).hexdigest()[:16]


def _text(dataset: Any, keyword: str) -> str:
    try:
        return read_text(dataset, keyword)
    except CorruptFile:
        return "unreadable"


def needs_private(dataset: Any) -> bool:
    """Whether private elements decide, so that an index that left them out must parse the whole header."""
    return _text(dataset, "Units").upper() == "CNTS" or is_made_later(dataset)


def _already_suv(dataset: Any) -> tuple[Unit, float, str]:
    if _text(dataset, "SUVType").upper() in ("", "BW"):
        return "SUV", 1.0, ""
    return "arbitrary", 1.0, "its SUV is not by body weight"


def _per_activity(dataset: Any) -> float:
    """SUV of 1 Bq/ml: body weight in g over the dose in Bq, as it was at the time to which the image is corrected."""
    if not _is_corrected(dataset):
        raise NotInHeader("Corrected Image does not name ATTN and DECAY")
    weight_kg = _positive(dataset, "PatientWeight")
    if weight_kg > _MOST_WEIGHT_KG:
        raise NotInHeader("PatientWeight is not in kg")
    isotope = _isotope(dataset)
    dose_bq = _positive(isotope, "RadionuclideTotalDose")
    if dose_bq < _LEAST_DOSE_BQ:
        raise NotInHeader("RadionuclideTotalDose is not in Bq")
    correction = read_text(dataset, "DecayCorrection").upper()
    if correction == "START":
        half_life_s = _positive(isotope, "RadionuclideHalfLife")
        dose_bq *= 2.0 ** -(seconds_since_injection(dataset, isotope, half_life_s) / half_life_s)
    elif correction != "ADMIN":
        raise NotInHeader("Decay Correction is neither START nor ADMIN")
    return weight_kg * _GRAMS / dose_bq


def _is_corrected(dataset: Any) -> bool:
    return {"ATTN", "DECAY"} <= {str(part).upper() for part in read_values(dataset, "CorrectedImage")}


def _isotope(dataset: Any) -> Any:
    items = read_values(dataset, "RadiopharmaceuticalInformationSequence")
    return items[0] if items else None


def _positive(dataset: Any, keyword: str) -> float:
    number = read_numbers(dataset, keyword, 1) if dataset is not None else None
    if number is None or number[0] <= 0:
        raise NotInHeader(f"{keyword} is missing or not positive")
    return number[0]


def _private(dataset: Any, element: int) -> float | None:
    """A positive number of Philips' private block; None where there is none."""
    try:
        number = float(private_value(dataset, _PHILIPS, element) or 0)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) and number > 0 else None
