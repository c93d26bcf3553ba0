"""Values of the DICOM JSON model (PS3.18, annex F), whatever a server makes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

UID = r"[0-9]+(\.[0-9]+)*"
"""PS3.5, 9.1, but with leading zeros, which some scanners write; nothing that means anything in an address."""
LONGEST_UID = 64

STUDY_UID, SERIES_UID, INSTANCE_UID = "0020000D", "0020000E", "00080018"
MODALITY, MODALITIES = "00080060", "00080061"
STUDY_DATE, SERIES_NUMBER, BODY_PART, DESCRIPTION = "00080020", "00200011", "00180015", "0008103E"
STUDY_SERIES, STUDY_IMAGES, SERIES_IMAGES = "00201206", "00201208", "00201209"
FRAMES = "00280008"
FAILED, REFERENCED = "00081198", "00081199"
REFERENCED_UID, REASON = "00081155", "00081197"


def is_uid(text: str) -> bool:
    return len(text) <= LONGEST_UID and re.fullmatch(UID, text) is not None


def values(entry: Mapping[str, Any], tag: str) -> list[Any]:
    """All values of an attribute; [] where it is missing or not as the standard has it."""
    attribute = entry.get(tag)
    found = attribute.get("Value") if isinstance(attribute, dict) else None
    return found if isinstance(found, list) else []


def text(entry: Mapping[str, Any], tag: str) -> str:
    """The first value as text."""
    first = next(iter(values(entry, tag)), "")
    return str(first) if isinstance(first, str | int | float) else ""


def count(entry: Mapping[str, Any], tag: str) -> int | None:
    """The first value as a whole number from 0 on."""
    said = text(entry, tag).strip()
    return int(said) if said.isdecimal() and said.isascii() and len(said) < 10 else None


def items(entry: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    """The items of a sequence."""
    return [item for item in values(entry, tag) if isinstance(item, dict)]
