"""What the numbers of a PET image mean: activity, or the standardised uptake value (SUV) by body weight.

Sources: DICOM PS3.3 C.8.9.1 (PET series: Units, Decay Correction, Corrected Image), C.8.9.2 (PET isotope); the rules
for the reference time and the private elements follow QIBA's "SUV vendor-neutral pseudo-code".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from typing import Any

import pydicom

from medrail.errors import CorruptFile
from medrail.read.dicom.elements import first_item, read_numbers, read_text, read_values
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
    "RadiopharmaceuticalInformationSequence",
]

_PHILIPS = 0x7053, "Philips PET Private Group"
_GE = 0x0009, "GEMS_PETD_01"
_SUV_ELEMENT, _ACTIVITY_ELEMENT, _SCAN_ELEMENT = 0x00, 0x09, 0x0D
# A mouse gets about 1e6 Bq, a person 1e8; less than this was written in MBq.
_LEAST_DOSE_BQ = 1e4
_MOST_WEIGHT_KG = 500.0
_MOST_HALF_LIVES = 20
_GRAMS = 1000.0


@dataclass(frozen=True)
class Activity:
    """``factor`` times the rescaled values are in ``unit``; ``reason`` says why they are no SUV, "" where they are."""

    unit: Unit
    factor: float = 1.0
    reason: str = ""


class _NotInHeader(Exception):
    """What lacks for an SUV; never leaves this module."""


def activity_of(dataset: Any) -> Activity:
    """A PET file's data set -> what its rescaled values (slope and intercept applied) mean.

    Never raises: an element that cannot be read is a reason. All files of one series get the same factor, since only
    elements of the series enter, except for times, which are compared but not used per slice.
    """
    try:
        units = read_text(dataset, "Units").upper()
        if units == "GML":
            return _already_suv(dataset)
        factor = 1.0
        if units == "CNTS":
            suv = _private(dataset, _PHILIPS, _SUV_ELEMENT)
            if suv:
                return Activity("SUV", suv)
            factor = _private(dataset, _PHILIPS, _ACTIVITY_ELEMENT) or 0.0
        if not factor or units not in ("BQML", "CNTS"):
            return Activity("arbitrary", reason="Units are neither BQML nor GML, nor counts with their scale")
    except CorruptFile:
        return Activity("arbitrary", reason="Units cannot be read")
    try:
        return Activity("SUV", factor * _per_activity(dataset))
    except _NotInHeader as lack:
        return Activity("Bq/ml", factor, str(lack))
    except CorruptFile as error:
        return Activity("Bq/ml", factor, error.found)


def suv_factor(dataset: Any) -> tuple[float | None, str]:
    """What rescaled values are multiplied by to become SUV by body weight (g/ml), or None and the reason."""
    activity = activity_of(dataset)
    return (activity.factor, "") if activity.unit == "SUV" else (None, activity.reason)


def needs_private(dataset: Any) -> bool:
    """Whether private elements decide, so that an index that left them out must parse the whole header."""
    return read_text(dataset, "Units").upper() == "CNTS"


def _already_suv(dataset: Any) -> Activity:
    if read_text(dataset, "SUVType").upper() in ("", "BW"):
        return Activity("SUV")
    return Activity("arbitrary", reason="its SUV is not by body weight")


def _per_activity(dataset: Any) -> float:
    """SUV of 1 Bq/ml: body weight in g over the dose in Bq, as it was at the time to which the image is corrected."""
    corrected = {str(part).upper() for part in read_values(dataset, "CorrectedImage")}
    if not {"ATTN", "DECAY"} <= corrected:
        raise _NotInHeader("Corrected Image does not name ATTN and DECAY")
    weight_kg = _positive(dataset, "PatientWeight")
    if weight_kg > _MOST_WEIGHT_KG:
        raise _NotInHeader("PatientWeight is not in kg")
    isotope = first_item(dataset, "RadiopharmaceuticalInformationSequence")
    dose_bq = _positive(isotope, "RadionuclideTotalDose")
    if dose_bq < _LEAST_DOSE_BQ:
        raise _NotInHeader("RadionuclideTotalDose is not in Bq")
    correction = read_text(dataset, "DecayCorrection").upper()
    if correction == "START":
        half_life_s = _positive(isotope, "RadionuclideHalfLife")
        dose_bq *= 2.0 ** -(_seconds_since_injection(dataset, isotope, half_life_s) / half_life_s)
    elif correction != "ADMIN":
        raise _NotInHeader("Decay Correction is neither START nor ADMIN")
    return weight_kg * _GRAMS / dose_bq


def _seconds_since_injection(dataset: Any, isotope: Any, half_life_s: float) -> float:
    scan = _reference(dataset)
    injected = _moment(read_text(isotope, "RadiopharmaceuticalStartDateTime"))
    if injected is None:
        injected = _moment(f"{scan:%Y%m%d}{read_text(isotope, 'RadiopharmaceuticalStartTime')}", time_needed=True)
        if injected is None:
            raise _NotInHeader("the time of injection is missing")
        if injected > scan:
            injected -= timedelta(days=1)  # injected before midnight
    elapsed_s = (scan - injected).total_seconds()
    if not 0 <= elapsed_s <= _MOST_HALF_LIVES * half_life_s:
        raise _NotInHeader("the time of injection does not fit the time of the scan")
    return elapsed_s


def _reference(dataset: Any) -> datetime:
    """The time to which START corrects: that of the series, unless the series was made later from another one."""
    enhanced = _moment(read_text(dataset, "DecayCorrectionDateTime"))
    if enhanced is not None:
        return enhanced
    series = _moment(read_text(dataset, "SeriesDate") + read_text(dataset, "SeriesTime"), time_needed=True)
    acquired = _moment(read_text(dataset, "AcquisitionDate") + read_text(dataset, "AcquisitionTime"), time_needed=True)
    if series is not None and acquired is not None and series <= acquired:
        return series
    scan = _moment(str(_private_value(dataset, _GE, _SCAN_ELEMENT) or ""), time_needed=True)
    if scan is None:
        lack = "is missing" if series is None or acquired is None else "is later than its acquisition"
        raise _NotInHeader(f"the time of the series {lack}, so that the time of decay correction is unknown")
    return scan


def _moment(text: str, *, time_needed: bool = False) -> datetime | None:
    """YYYYMMDDHHMMSS.FFFFFF of DA + TM, or DT (PS3.5 6.2), without its offset from UTC; None where it is none."""
    digits, _, fraction = text.split("+")[0].split("-")[0].replace(":", "").strip().partition(".")
    if len(digits) < (10 if time_needed else 14) or not digits.isdigit() or len(digits) > 14:
        return None
    try:
        whole = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
        return whole + timedelta(seconds=float(f"0.{fraction}") if fraction.isdigit() else 0)
    except ValueError:
        return None


def _positive(dataset: Any, keyword: str) -> float:
    number = read_numbers(dataset, keyword, 1) if dataset is not None else None
    if number is None or number[0] <= 0:
        raise _NotInHeader(f"{keyword} is missing or not positive")
    return number[0]


def _private(dataset: Any, block: tuple[int, str], element: int) -> float | None:
    """A positive number of a private block; None where there is none."""
    try:
        number = float(_private_value(dataset, block, element) or 0)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) and number > 0 else None


def _private_value(dataset: Any, block: tuple[int, str], element: int) -> Any:
    if not isinstance(dataset, pydicom.Dataset):
        return None
    try:
        value = dataset.private_block(*block)[element].value
    except Exception:  # noqa: BLE001  (absent, or a broken element, which raises anything)
        return None
    return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else value
