"""Raw bytes of an element -> the value that pydicom gives; ``Odd`` for what is not plainly one (PS3.5, table 6.2-1)."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from medrail.read.dicom.private import RAW

BINARY = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d"}
IN_CHARSET = frozenset(b"LO SH LT ST UT".split())
_CODES = frozenset(b"AE AS CS DA DT TM".split())
_TEXTS = frozenset(b"LO SH".split())
_ONE_TEXT = frozenset(b"LT ST UT".split())
_PLAIN = re.compile(rb"[ -~]*\Z")
_UID = re.compile(rb"(?=.{1,64}\Z)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*\Z")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,9}\Z", re.ASCII)


class Odd(Exception):
    """Something that is left to pydicom."""


class Decimal(float):
    """A DS value: the number, and as text what was written."""

    text: str

    def __str__(self) -> str:
        return self.text


class Whole(int):
    """An IS value: the number, and as text what was written."""

    text: str

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=4096)
def converted(vr: bytes, raw: bytes) -> Any:
    """The value of an element; the files of a series share most of theirs, so it is often the one from before."""
    if vr == RAW:
        return raw
    if not raw and (vr in BINARY or vr in (b"DS", b"IS")):
        return None
    if vr in BINARY:
        return _numbers(raw, BINARY[vr])
    raw = raw.rstrip(b"\0 ")
    if vr == b"PN":
        return raw  # names are compared as they stand, in any character set
    if not _PLAIN.match(raw):
        raise Odd
    text = raw.decode("ascii")
    if vr in _CODES:
        return _one_or_all(text.split("\\"))
    if vr == b"UI":
        if raw and not _UID.match(raw):
            raise Odd
        return text
    if vr in _TEXTS:
        return _one_or_all([part.rstrip() for part in text.split("\\")])
    if vr in _ONE_TEXT:
        return text
    if vr == b"DS":
        return _one_or_all([_decimal(part) for part in text.split("\\")])
    if vr == b"IS":
        return _one_or_all([_whole(part) for part in text.split("\\")])
    raise Odd


def _one_or_all(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def _numbers(raw: bytes, code: str) -> Any:
    size = struct.calcsize(f"<{code}")
    if len(raw) % size:
        raise Odd
    return _one_or_all(struct.unpack(f"<{len(raw) // size}{code}", raw))


def _decimal(part: str) -> Decimal:
    text = part.strip()
    if not _DECIMAL.match(text):
        raise Odd
    number = Decimal(text)
    number.text = text
    return number


def _whole(part: str) -> Whole:
    text = part.strip()
    if not _INTEGER.match(text):
        raise Odd
    number = Whole(text)
    number.text = text
    return number
