"""Whose a DICOM file is, as digests to be compared: equal for files of one patient, study, series or person.

The words themselves are not kept. A digest of a short number can be guessed, so digests are never shown, and never
written into a project.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Protocol

from medrail.errors import CorruptFile
from medrail.read.dicom.elements import read_text, read_values

KEYWORDS = [
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate"),
    *("StudyInstanceUID", "SeriesInstanceUID"),
]
# What stands where somebody was taken out; no word of one person.
_PLACEHOLDERS = frozenset(
    (
        *("anonymous", "anonymized", "anonymised", "anonym", "anon", "deidentified", "removed", "deleted", "redacted"),
        *("unknown", "none", "null", "nil", "nan", "na", "unnamed", "noname", "patient", "subject", "name", "id"),
    )
)
_PHRASES = (["de", "identified"], ["not", "known"], ["n", "a"], ["no", "name"])
_NO_DAYS = frozenset({"19000101", "19700101", "18000101", "99991231", "99999999"})
_NO_TEXT = frozenset(("US", "SS", "UL", "SL", "FL", "FD", "DS", "IS", "AT", "OB", "OW", "OD", "OF", "OL", "OV", "SQ"))
_DIGITS = 32  # of the digest: 128 bits
_LETTERS = re.compile(r"[^\W_]+")


class Keyed(Protocol):
    """What is known of whose something is; "" where nothing is."""

    @property
    def patient_key(self) -> str: ...
    @property
    def issuer_key(self) -> str: ...
    @property
    def study_key(self) -> str: ...
    @property
    def series_key(self) -> str: ...
    @property
    def person_key(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Who:
    """Of one data set.

    patient_key:
        Of Patient ID alone; "" for none, and for a placeholder as ANONYMOUS.
    issuer_key:
        Of Issuer of Patient ID: the same ID of another issuer may be another patient's.
    study_key, series_key:
        Of the instance UIDs.
    person_key:
        Of Patient's Name and Patient's Birth Date together, where there are both and neither is a placeholder.
    """

    patient_key: str = field(default="", repr=False)
    issuer_key: str = field(default="", repr=False)
    study_key: str = field(default="", repr=False)
    series_key: str = field(default="", repr=False)
    person_key: str = field(default="", repr=False)


def who_of(dataset: Any) -> Who:
    """The digests of a data set, or of anything with its ``get``.

    Raises
    ------
    CorruptFile
        If Patient ID is there and cannot be read; whatever else cannot be read is not known.
    """
    return Who(
        digest_of("patient", _meant(read_text(dataset, "PatientID"))),
        digest_of("issuer", _meant(_text(dataset, "IssuerOfPatientID")).casefold()),
        digest_of("study", _uid(_text(dataset, "StudyInstanceUID"))),
        series_key(_text(dataset, "SeriesInstanceUID")),
        _person_key(dataset),
    )


def series_key(uid: str) -> str:
    """The digest of a Series Instance UID."""
    return digest_of("series", _uid(uid))


def _uid(text: str) -> str:
    """A UID, or "" for what was put in the place of one: a UID has a root and more (PS3.5, section 9.1)."""
    return text if "." in text.strip(".") and text.strip("0.") else ""


def digest_of(kind: str, text: str) -> str:
    """A digest; "" of nothing."""
    return hashlib.sha256(f"{kind}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS] if text else ""


def is_placeholder(text: str) -> bool:
    """Whether a name or number stands for nobody: empty, one sign repeated as 000 or XXX, or words as ANON^PATIENT.

    >>> [is_placeholder(text) for text in ("", "0", "Anonymous^", "anon_patient", "P0001", "Anon^Sally")]
    [True, True, True, True, False, False]
    """
    words = _LETTERS.findall(text.casefold())
    nobody = all(word in _PLACEHOLDERS or set(word) in ({"0"}, {"x"}) for word in words)
    return text.isascii() and (nobody or words in _PHRASES)


def _meant(text: str) -> str:
    text = text.strip(" \0")
    return "" if is_placeholder(text) else text


def _text(dataset: Any, keyword: str) -> str:
    try:
        return read_text(dataset, keyword).strip(" \0")
    except CorruptFile:
        return ""


def _person_key(dataset: Any) -> str:
    name, born = _name(dataset), re.sub(r"\D", "", _text(dataset, "PatientBirthDate"))
    if not name or len(born) != 8 or born in _NO_DAYS or "0000" in (born[:4], born[4:]):
        return ""
    return digest_of("person", f"{name}\0{born}")


def _name(dataset: Any) -> str:
    """The name's alphabetic part without what has no meaning (PS3.5, section 6.2.1): case, outer spaces, last ``^``."""
    raw = _bytes(dataset)
    # Bytes are compared as they stand: no character set is needed for that, and a wrong one does no harm.
    text = raw.decode("latin-1")
    group = next((part for part in text.split("=") if part.strip(" \0^")), "")
    group = "^".join(re.sub(" +", " ", part).strip(" \0") for part in group.split("^")).rstrip("^")
    group = group.lower() if group.isascii() and "\x1b" not in group else group
    return "" if is_placeholder(group) else group


def _bytes(dataset: Any) -> bytes:
    """Patient's Name as it stands in the file, be the data set parsed by pydicom or by the quick walk."""
    if hasattr(dataset, "get_item") and "PatientName" in dataset:
        item = dataset.get_item("PatientName")
        if isinstance(item.value, bytes):
            return item.value if item.VR not in _NO_TEXT else b""
    try:
        values = read_values(dataset, "PatientName")
    except CorruptFile:
        return b""
    parts = [value if isinstance(value, bytes) else _encoded(value) for value in values]
    return b"\\".join(part.rstrip(b" \0") for part in parts)


def _encoded(value: Any) -> bytes:
    if isinstance(value, (int, float)):
        return b""
    return bytes(getattr(value, "original_string", None) or str(value).encode("utf-8", "surrogatepass"))
