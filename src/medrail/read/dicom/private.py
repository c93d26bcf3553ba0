"""b-values that MR scanners keep in private elements only, read from raw bytes.

Where each vendor keeps its own is known from the private dictionary of pydicom and from the vendors' conformance
statements. A private element counts only beside the name of who reserved its block (PS3.5, section 7.8.1).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pydicom
from pydicom.dataelem import RawDataElement

# Stands for a value representation: the bytes are kept as they are.
RAW = b"raw"
_LARGEST_B = 1e6  # s/mm2; more is no b-value
_GE_FLAG = 1_000_000_000  # GE adds it to say that the number is one


class _Place(NamedTuple):
    """Where a vendor keeps the b-value, in the first block of its group, and how its bytes are read."""

    group: int
    creator: str
    element: int
    number: Callable[[bytes], float]


def _first_text(raw: bytes) -> float:
    """IS or DS: the first of several."""
    return float(raw.split(b"\\")[0].strip(b"\0 ").decode("ascii"))


def _single(raw: bytes) -> float:
    return float(struct.unpack("<f", raw)[0])


_PLACES = (
    _Place(0x0019, "SIEMENS MR HEADER", 0x100C, _first_text),
    _Place(0x0043, "GEMS_PARM_01", 0x1039, lambda raw: _first_text(raw) % _GE_FLAG),
    _Place(0x2001, "PHILIPS IMAGING DD 001", 0x1003, _single),
)
PRIVATE_TAGS = tuple(place.group << 16 | element for place in _PLACES for element in (0x0010, place.element))


def private_name(tag: int) -> str:
    """What stands for the keyword of an element that has none, as "(0019,100C)"."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def private_b_value(dataset: Any) -> float | None:
    """In s/mm2; None where no vendor's element says."""
    for place in _PLACES:
        creator = _raw(dataset, place.group << 16 | 0x0010).strip(b"\0 ").decode("latin-1").upper()
        raw = _raw(dataset, place.group << 16 | place.element) if creator == place.creator else b""
        try:
            number = place.number(raw) if raw else -1.0
        except (ValueError, struct.error):
            continue
        if 0 <= number <= _LARGEST_B:
            return number
    return None


def _raw(dataset: Any, tag: int) -> bytes:
    """The bytes of an element, little-endian; b"" where there is none."""
    if not isinstance(dataset, pydicom.Dataset):
        value = dataset.get(private_name(tag))
        return value if isinstance(value, bytes) else b""
    if tag not in dataset:
        return b""
    element = dataset.get_item(tag)
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        return b""
    binary = tag & 0xFF00 and element.VR == "FL" and not element.is_little_endian
    return element.value[::-1] if binary else element.value
