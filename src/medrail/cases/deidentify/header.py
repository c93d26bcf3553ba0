"""The original's header, walked whole: every element at every depth, as it was stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from medrail.cases.deidentify.actions import CLASS_UIDS, FREE_TEXT, PIXELS, TEMPORAL, action_for, vr_of
from medrail.cases.deidentify.dates import dates_of
from medrail.cases.deidentify.identifiers import (
    BINARY,
    BYTES,
    CODE,
    NUMBER,
    TEXT,
    TIME,
    UID,
    Identifiers,
    own_of_id,
    own_of_name,
    words_of_id,
    words_of_name,
)
from medrail.cases.deidentify.keys import is_standard
from medrail.cases.deidentify.options import Options
from medrail.errors import CorruptFile

MAX_DEPTH = 64  # of sequences in sequences; real objects have fewer than ten

_LONGEST = 4096  # bytes of a name, number or address; the standard allows 64 to 1,024 characters (PS3.5 section 6.2)
_DELIMITERS = {0x09, 0x0A, 0x0C, 0x0D, 0x3D, 0x5C, 0x5E}  # after these a character set begins anew (PS3.5 6.1.2.5.3)
_PLACES = ("Institution", "Address", "Hospital", "Department", "Organization", "Residence", "Location", "Region")
_IDS = (
    "ID", "IDs", "Number", "Numbers", "Identifier", "TelephoneNumber", "Telecom", "AccessionNumber", "AETitle",
    "StationName", "MachineName", "BarcodeValue", "CameraOwnerName",
)  # fmt: skip
_PATIENT, _OWN_IDS = 0x0010, ("PatientID", "OtherPatientIDs")
_PLACES_OF = {"CS": CODE, "AS": CODE, "DS": NUMBER, "IS": NUMBER, "UI": UID, **dict.fromkeys(TEMPORAL, TIME)}


@dataclass(frozen=True)
class Element:
    """One stored element. ``value`` is bytes as in the file; None for a sequence."""

    tag: int
    vr: str
    value: bytes | None
    dataset: Dataset
    depth: int


def elements(dataset: Dataset, depth: int = 0) -> Iterator[Element]:
    """Every element at every depth, sequences before their items; pixels are left out.

    Raises
    ------
    CorruptFile
        For sequences nested deeper than ``MAX_DEPTH``.
    """
    if depth > MAX_DEPTH:
        raise CorruptFile(f"nests sequences more than {MAX_DEPTH} deep", remedy="Leave it out; it is no image.")
    for tag in sorted(dataset.keys()):
        number = int(tag)
        if number in PIXELS and depth == 0:
            continue
        vr, value = stored(dataset, number)
        yield Element(number, vr, value, dataset, depth)
        if vr == "SQ":
            for item in dataset[tag].value or ():
                yield from elements(item, depth + 1)


def stored(dataset: Dataset, tag: int) -> tuple[str, bytes | None]:
    """An element's representation and its bytes as stored; a sequence has none.

    An element without VR, or of VR UN, that is a sequence by the dictionary is one.
    """
    raw: Any = dataset.get_item(tag)
    vr = vr_of(tag, raw.VR)
    # Nothing else may be touched: what pydicom has converted is no longer as it was stored.
    if vr == "SQ":
        return "SQ", None
    if isinstance(raw, RawDataElement):
        return vr, bytes(raw.value or b"")
    return vr, _encoded(raw.value)


def _encoded(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, (str, int, float)):
        return str(value).encode("utf-8")
    values = list(value) if hasattr(value, "__iter__") and not hasattr(value, "components") else [value]
    return "\\".join(str(part) for part in values).encode("utf-8")


def encodings_of(dataset: Dataset) -> tuple[str, ...]:
    """Python's names of the data set's character sets; unknown ones are passed over."""
    try:
        return tuple(dict.fromkeys(convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6")))
    except (LookupError, ValueError, TypeError, AttributeError):
        return ()


def decoded(value: bytes, encodings: tuple[str, ...]) -> str:
    """Bytes as text in the data set's character set; never fails, what cannot be decoded is read as Latin-1."""
    if encodings and b"\x1b" in value:
        try:
            return str(decode_bytes(value, list(encodings), _DELIMITERS))
        except (LookupError, UnicodeError, ValueError):
            pass
    for encoding in (*encodings[:1], "utf-8"):
        try:
            return value.decode(encoding)
        except (LookupError, UnicodeError):
            continue
    return value.decode("latin-1")


def identifiers_of(dataset: Dataset, options: Options) -> Identifiers:
    """Everything in a header that tells who, where and when, but for what the options keep."""
    words: set[str] = set()
    own: set[str] = set()
    dates: set[str] = set()
    kept_dates: set[str] = set()
    uids: set[str] = set()
    raw: set[bytes] = set()
    encodings = encodings_of(dataset)
    for element in elements(dataset):
        if element.value is None or not element.value or element.tag >> 16 & 1:
            continue
        action = action_for(element.tag, element.vr, options, dummy_needed=False)
        own_set = encodings_of(element.dataset) if "SpecificCharacterSet" in element.dataset else encodings
        if element.vr in ("DA", "DT"):
            found = dates_of(element.value.decode("ascii", "replace"))
            (kept_dates if action == "K" else dates).update(found)
        elif action != "K" and element.vr == "UI" and element.tag not in CLASS_UIDS:
            uids.update(_uids(element.value))
        elif action != "K" and element.vr in FREE_TEXT:
            found_words = set(_words(element, decoded(element.value[: _LONGEST + 1], own_set)))
            if found_words and len(element.value) > _LONGEST:
                raise CorruptFile(
                    f"has {len(element.value)} bytes in {keyword_for_tag(element.tag)}",
                    needed=f"at most {_LONGEST}",
                    remedy="Copy or export it again.",
                )
            words |= found_words
            if element.vr == "PN" and element.tag >> 16 == _PATIENT:
                own.update(own_of_name(decoded(element.value, own_set)))
            elif keyword_for_tag(element.tag) in _OWN_IDS:
                words.update(own_of_id(decoded(element.value, own_set)))
            if found_words and not element.value.isascii():
                raw |= {part for part in element.value.strip(b" \0").replace(b"=", b"^").split(b"^") if len(part) > 2}
    return Identifiers(
        frozenset(words), frozenset(dates - kept_dates), frozenset(uids), encodings, frozenset(raw), frozenset(own)
    )


def _words(element: Element, text: str) -> Iterator[str]:
    keyword = keyword_for_tag(element.tag)
    if element.vr == "PN" or any(place in keyword for place in _PLACES):
        yield from words_of_name(text)
    elif keyword.endswith(_IDS) or "Telephone" in keyword or "Serial" in keyword:
        yield from words_of_id(text)


def _uids(value: bytes) -> Iterator[str]:
    for part in value.decode("ascii", "replace").split("\\"):
        uid = part.strip(" \0")
        if uid.count(".") >= 2 and not is_standard(uid):
            yield uid


def place_of(vr: str) -> str:
    """How a value of this representation is searched (see ``identifiers``)."""
    return vr if vr in BINARY else TEXT if vr in FREE_TEXT else _PLACES_OF.get(vr, BYTES)
