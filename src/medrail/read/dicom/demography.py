"""Of a patient only what divides people into large groups: sex, and age in bands of ten years.

Nobody can be found by these; the exact age and the birth date are not kept anywhere.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from medrail.errors import CorruptFile
from medrail.read.dicom.elements import read_text

KEYWORDS = ["PatientSex", "PatientAge", "PatientBirthDate", "StudyDate"]
OLDEST = 90  # all above are one band: the few who are so old could be told by their age
_SEXES = {
    **dict.fromkeys(("f", "female", "woman", "w", "女"), "female"),
    **dict.fromkeys(("m", "male", "man", "男"), "male"),
    **dict.fromkeys(("o", "other", "divers", "diverse"), "other"),
}
_IN_YEARS = {"": 1.0, "y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}
_AGE = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*([ymwd]?)(?:ears?|onths?|eeks?|ays?|rs?)?", re.IGNORECASE)


def sex_of(text: str) -> str:
    """ "female", "male" or "other" (DICOM PS3.3, C.7.1.1: F, M, O; tables write whole words); "" where it is not said.

    >>> [sex_of(text) for text in ("F", "Male", "O", "")]
    ['female', 'male', 'other', '']
    """
    return _SEXES.get(text.strip().casefold(), "")


def age_band(text: str) -> str:
    """The band of ten years that an age lies in; "" where it is not said, or is no age.

    An age is a number of years, or as DICOM writes it (PS3.5, Age String: 063Y, 018M, 002W, 005D).

    >>> [age_band(text) for text in ("063Y", "7", "018M", "95", "sixty")]
    ['60-69', '0-9', '0-9', '90+', '']
    """
    found = _AGE.fullmatch(text.strip())
    return _band(float(found[1]) * _IN_YEARS[found[2].lower()]) if found else ""


def age_band_of(dataset: Any) -> str:
    """The band of Patient's Age, or else of what lies between Patient's Birth Date and Study Date."""
    said = age_band(_text(dataset, "PatientAge"))
    if said:
        return said
    born, seen = (_date(_text(dataset, keyword)) for keyword in ("PatientBirthDate", "StudyDate"))
    return _band((seen - born).days / 365.25) if born and seen and born <= seen else ""


def sex_said(dataset: Any) -> str:
    """Patient's Sex in words."""
    return sex_of(_text(dataset, "PatientSex"))


def _band(years: float) -> str:
    if years >= 130:  # no age: 999 stands for "not known"
        return ""
    first = int(years // 10) * 10
    return f"{first}-{first + 9}" if first < OLDEST else f"{OLDEST}+"


def _text(dataset: Any, keyword: str) -> str:
    try:
        return read_text(dataset, keyword)
    except CorruptFile:
        return ""


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None
