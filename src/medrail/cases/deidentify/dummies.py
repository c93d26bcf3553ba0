"""Values that stand where the standard wants one and none may be told (PS3.15 section E.3, action D)."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

TEXT = "REMOVED"
DATE = "19000101"

_BY_VR: Mapping[str, object] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), TEXT),
    "AS": "000Y",
    "DA": DATE,
    "DT": DATE + "000000",
    "TM": "000000",
    "UR": "urn:removed",
    **dict.fromkeys(("DS", "IS"), "0"),
    **dict.fromkeys(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV", "AT"), 0),
}
_NO_BYTES = b"\0" * 8  # a multiple of every word length

# What a dummy looks like in a file, so that the search does not take it for the original's.
STORED = frozenset(str(value).encode("ascii") for value in _BY_VR.values()) | {b""}


def dummy(tag: int, vr: str) -> DataElement:
    """A dummy of an attribute that is no sequence and no UID."""
    value = _BY_VR.get(vr, _NO_BYTES)
    return DataElement(tag, vr if vr in _BY_VR or vr.startswith("O") else "UN", value)


def empty(tag: int, vr: str) -> DataElement:
    """The attribute without a value."""
    return DataElement(tag, vr, Sequence() if vr == "SQ" else None)


def content() -> Sequence:
    """The content of a report (PS3.3 section C.17.3) whose text was removed: one text item."""
    concept, item = Dataset(), Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "121071", "DCM", "Finding"
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = Sequence([concept])
    item.TextValue = TEXT
    return Sequence([item])
