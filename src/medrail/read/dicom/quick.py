"""A header walk for the common forms of DICOM: one open, one read of the file's beginning, only what is needed kept.

It gives what pydicom gives, or nothing: whatever is not plainly of the two little-endian encodings (PS3.5, section 7
and annex A) and free of sequences among the wanted elements is left to pydicom.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.datadict import dictionary_VR, tag_for_keyword

from medrail.read.dicom.extent import UNDEFINED, PixelPlace
from medrail.read.dicom.header import KEYWORDS

_HEAD_BYTES = 16 << 10
_STEP_BYTES = 32 << 10
_MOST_BYTES = 8 << 20  # of header that are walked
_LONGEST_VALUE = 64 << 10
_DEEPEST = 16

_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_STANDARD_SYNTAX = re.compile(r"1\.2\.840\.10008\.1\.2(\.1|\.4\.\d+|\.5|\.6\.\d+|\.7\.\d+)?\Z")
_DEFLATED_FRAMES = "1.2.840.10008.1.2.4.95"
# Modalities whose numbers have a meaning that stands in sequences of the full header.
_NEEDS_ALL = frozenset({"PT"})

_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_CODES = frozenset(b"AE AS CS DA DT TM".split())
_TEXTS = frozenset(b"LO SH".split())
_ONE_TEXT = frozenset(b"LT ST UT".split())
_IN_CHARSET = frozenset(b"LO SH LT ST UT".split())
_BINARY = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d"}
_PLAIN = re.compile(rb"[ -~]*\Z")
_UID = re.compile(rb"(?=.{1,64}\Z)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*\Z")
_CHARSET_NAME = re.compile(rb"[0-9A-Z_ \\]*\Z")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,9}\Z", re.ASCII)

_PIXELS = {
    b"\xe0\x7f\x10\x00": "PixelData",
    b"\xe0\x7f\x08\x00": "FloatPixelData",
    b"\xe0\x7f\x09\x00": "DoubleFloatPixelData",
}
_SPECIAL = frozenset((*_PIXELS, b"\x08\x00\x05\x00"))  # and the character set
_DELIMITERS = b"\xfe\xff"  # group FFFE
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"

_explicit = struct.Struct("<2sH").unpack_from
_length = struct.Struct("<I").unpack_from


class _Odd(Exception):
    """Something that is left to pydicom."""


class _Short(_Odd):
    """The file ends within an element."""


class _Decimal(float):
    """A DS value: the number, and as text what was written."""

    text: str

    def __str__(self) -> str:
        return self.text


class _Whole(int):
    """An IS value: the number, and as text what was written."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass
class Elements:
    """The wanted elements of a data set, as pydicom would give them."""

    values: dict[str, Any] = field(default_factory=dict)
    file_meta: Elements | None = None
    pixels: PixelPlace | None = None

    def get(self, keyword: str, default: Any = None) -> Any:
        return self.values.get(keyword, default)

    def __contains__(self, keyword: object) -> bool:
        return keyword in self.values


def quick_elements(path: Path) -> Elements | None:
    """The elements ``KEYWORDS`` of a DICOM file and the place of its pixels; None: pydicom must parse it.

    Raises
    ------
    OSError
        If the file cannot be opened or read.
    """
    with path.open("rb", buffering=0) as file:
        return walk_open(file, os.fstat(file.fileno()).st_size)


def walk_open(file: BinaryIO, size: int) -> Elements | None:
    """As ``quick_elements``, for a file of ``size`` bytes that is open without a buffer."""
    try:
        return _Walk(file, size, _wanted(tuple(KEYWORDS))).elements()
    except (_Odd, struct.error):
        return None


def find_pixels(file: BinaryIO, size: int) -> tuple[bool, PixelPlace | None]:
    """Whether the structure of a file was understood, and where its pixels begin; for files that pydicom parses."""
    try:
        return True, _Walk(file, size, {}).elements().pixels
    except _Short:
        return True, None
    except (_Odd, struct.error):
        return False, None


def is_cut_off(file: BinaryIO, size: int) -> bool:
    """Whether a file of a plain structure ends within an element."""
    try:
        _Walk(file, size, {}).elements()
    except _Short:
        return True
    except (_Odd, struct.error):
        return False
    return False


@cache
def _wanted(keywords: tuple[str, ...]) -> Mapping[bytes, tuple[str, bytes]]:
    """Tag as it stands in a little-endian file -> keyword, and the VR that the dictionary gives it."""
    wanted = {}
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is not None:
            wanted[struct.pack("<HH", tag >> 16, tag & 0xFFFF)] = (keyword, dictionary_VR(tag).encode())
    return wanted


class _Walk:
    """One file, seen through a window of its bytes that moves along."""

    def __init__(self, file: BinaryIO, size: int, wanted: Mapping[bytes, tuple[str, bytes]]) -> None:
        self.file, self.size, self.wanted = file, size, wanted
        file.seek(0)
        self.data = file.read(_HEAD_BYTES)
        self.base = 0
        self.read_bytes = 0
        self.japanese = False

    def elements(self) -> Elements:
        offset, syntax, meta = self._meta()
        implicit = syntax == _IMPLICIT
        found = Elements({}, meta)
        offset = self._top(offset, implicit, found)
        if self.wanted and (found.get("Modality") in _NEEDS_ALL or "MOSAIC" in _parts(found.get("ImageType"))):
            raise _Odd
        return found

    def _meta(self) -> tuple[int, str, Elements]:
        """The file meta information (PS3.10, section 7.1) -> where the data set begins, its transfer syntax, itself."""
        if self.data[128:132] != b"DICM":
            return 0, self._guess(), Elements()
        offset, values = 132, {}
        while (at := self._see(offset, 12)) >= 0 and self.data[at : at + 2] == b"\x02\x00":
            vr, head, length = self._explicit_head(at)
            if length == UNDEFINED:
                raise _Odd
            keyword = _META.get(self.data[at : at + 4])
            if keyword:
                values[keyword] = self._value(vr, offset + head, length)
            offset += head + length
        syntax = values.get("TransferSyntaxUID", "")
        if not isinstance(syntax, str) or not _STANDARD_SYNTAX.match(syntax):
            raise _Odd
        if syntax in (_BIG_ENDIAN, _DEFLATED_FRAMES):
            raise _Odd
        return offset, syntax, Elements(values)

    def _guess(self) -> str:
        """The encoding of a data set without preamble, where its first element leaves no doubt."""
        head = self.data[:16]
        if len(head) < 16 or head[:2] != b"\x08\x00" or head[3] or head[2] > 0x70:
            raise _Odd
        if head[4:6] in _SHORT or head[4:6] in _LONG:
            return "1.2.840.10008.1.2.1"
        if _length(head, 4)[0] > 128:
            raise _Odd
        return _IMPLICIT

    def _top(self, offset: int, implicit: bool, found: Elements) -> int:
        """Walk the data set to its pixels or its end."""
        wanted, last = self.wanted, self.size - 8
        at = self._see(offset, 12)
        if at >= 0 and (self.data[at : at + 2] < b"\x03\x00" and self.data[at + 1 : at + 2] == b"\0"):
            raise _Odd  # a command set, or more of the meta information
        if implicit and at >= 0 and self.data[at + 4 : at + 6].isupper():
            raise _Odd  # explicit in spite of what it says
        data, base = self.data, self.base
        while offset <= last:
            at = offset - base
            if at + 12 > len(data):
                at = self._see(offset, 12)
                data, base = self.data, self.base
            tag = data[at : at + 4]
            if implicit:
                vr, head, length = b"", 8, _length(data, at + 4)[0]
            else:
                vr, length = _explicit(data, at + 4)
                head = 8
                if vr not in _SHORT:
                    vr, head, length = self._explicit_head(at)
            end = offset + head + length
            if tag in wanted and length != UNDEFINED and end <= self.size:
                keyword, dictionary_vr = wanted[tag]
                found.values[keyword] = self._wanted_value(vr or dictionary_vr, offset + head, length, found)
            elif tag in _SPECIAL or tag[:2] == _DELIMITERS or length == UNDEFINED or end > self.size:
                if tag in _PIXELS:
                    found.pixels = PixelPlace(_PIXELS[tag], offset + head, length)
                    return offset
                end = self._special(tag, vr, offset + head, length, implicit)
            data, base, offset = self.data, self.base, end
        if offset != self.size:
            raise _Short
        return offset

    def _special(self, tag: bytes, vr: bytes, value: int, length: int, implicit: bool) -> int:
        """What is no plain element to be passed over: where it ends."""
        if tag in self.wanted or tag[:2] == _DELIMITERS:
            raise _Odd
        if length == UNDEFINED:
            return self._skip_sequence(value, vr, implicit, 0)
        if value + length > self.size:
            raise _Short
        self._charset(value, length)
        return value + length

    def _see(self, offset: int, count: int) -> int:
        """The place of a file offset in ``data``, with ``count`` bytes after it where the file has them; else -1."""
        at = offset - self.base
        if at >= 0 and at + count <= len(self.data):
            return at
        if offset >= self.size:
            return -1
        self.read_bytes += _STEP_BYTES
        if self.read_bytes > _MOST_BYTES:
            raise _Odd
        self.file.seek(offset)
        self.data = self.file.read(max(_STEP_BYTES, count)) + bytes(12)
        self.base = offset
        return 0

    def _head(self, at: int, implicit: bool) -> tuple[bytes, int, int]:
        """VR (b"" when implicit), bytes before the value, length of the value."""
        if implicit:
            return b"", 8, _length(self.data, at + 4)[0]
        return self._explicit_head(at)

    def _explicit_head(self, at: int) -> tuple[bytes, int, int]:
        vr, length = _explicit(self.data, at + 4)
        if vr in _SHORT:
            return vr, 8, length
        if vr in _LONG:
            return vr, 12, _length(self.data, at + 8)[0]
        raise _Odd

    def _skip_sequence(self, offset: int, vr: bytes, implicit: bool, depth: int) -> int:
        """Past a sequence of undefined length (PS3.5, section 7.5): where it ends."""
        if vr not in (b"", b"SQ") or depth > _DEEPEST:
            raise _Odd
        while True:
            at = self._see(offset, 12)
            if at < 0:
                raise _Short
            tag, length = self.data[at : at + 4], _length(self.data, at + 4)[0]
            offset += 8
            if tag == _SEQUENCE_END and length == 0:
                return offset
            if tag != _ITEM:
                raise _Odd
            offset = self._skip_item(offset, length, implicit, depth)

    def _skip_item(self, offset: int, length: int, implicit: bool, depth: int) -> int:
        end = None if length == UNDEFINED else offset + length
        if end is not None and end > self.size:
            raise _Short
        while end is None or offset < end:
            at = self._see(offset, 12)
            if at < 0:
                raise _Short
            tag = self.data[at : at + 4]
            if tag == _ITEM_END and end is None and _length(self.data, at + 4)[0] == 0:
                return offset + 8
            if tag[:2] == _DELIMITERS:
                raise _Odd
            vr, head, length = self._head(at, implicit)
            if length == UNDEFINED:
                offset = self._skip_sequence(offset + head, vr, implicit, depth + 1)
            else:
                offset += head + length
            if offset > self.size:
                raise _Short
        if offset != end:
            raise _Odd
        return offset

    def _charset(self, offset: int, length: int) -> None:
        """Japanese sets give two ASCII characters another meaning (PS3.3, C.12.1.1.2); all others keep them."""
        at = self._see(offset, length) if length else 0
        name = self.data[at : at + length]
        if not _CHARSET_NAME.match(name):
            raise _Odd
        self.japanese = b"13" in name

    def _wanted_value(self, vr: bytes, offset: int, length: int, found: Elements) -> Any:
        if vr == b"US or SS":
            signed = found.get("PixelRepresentation")
            if signed not in (0, 1):
                raise _Odd
            vr = b"SS" if signed else b"US"
        value = self._value(vr, offset, length)
        if vr in _IN_CHARSET and self.japanese and any(sign in str(value) for sign in "\\~"):
            raise _Odd
        return value

    def _value(self, vr: bytes, offset: int, length: int) -> Any:
        if length == 0 and (vr in _BINARY or vr in (b"DS", b"IS")):
            return None
        if length > _LONGEST_VALUE or offset + length > self.size:
            raise _Odd
        at = self._see(offset, length) if length else 0
        return _converted(vr, self.data[at : at + length])


_META = {b"\x02\x00\x10\x00": "TransferSyntaxUID", b"\x02\x00\x02\x00": "MediaStorageSOPClassUID"}


@lru_cache(maxsize=4096)
def _converted(vr: bytes, raw: bytes) -> Any:
    """The value of an element; the files of a series share most of theirs, so it is often the one from before."""
    if vr in _BINARY:
        return _numbers(raw, _BINARY[vr])
    raw = raw.rstrip(b"\0 ")
    if not _PLAIN.match(raw):
        raise _Odd
    text = raw.decode("ascii")
    if vr in _CODES:
        return _one_or_all(text.split("\\"))
    if vr == b"UI":
        if raw and not _UID.match(raw):
            raise _Odd
        return text
    if vr in _TEXTS:
        return _one_or_all([part.rstrip() for part in text.split("\\")])
    if vr in _ONE_TEXT:
        return text
    if vr == b"DS":
        return _one_or_all([_decimal(part) for part in text.split("\\")])
    if vr == b"IS":
        return _one_or_all([_whole(part) for part in text.split("\\")])
    raise _Odd


def _one_or_all(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def _parts(value: Any) -> Iterable[str]:
    return [value] if isinstance(value, str) else value or ()


def _numbers(raw: bytes, code: str) -> Any:
    size = struct.calcsize(f"<{code}")
    if len(raw) % size:
        raise _Odd
    return _one_or_all(struct.unpack(f"<{len(raw) // size}{code}", raw))


def _decimal(part: str) -> _Decimal:
    text = part.strip()
    if not _DECIMAL.match(text):
        raise _Odd
    number = _Decimal(text)
    number.text = text
    return number


def _whole(part: str) -> _Whole:
    text = part.strip()
    if not _INTEGER.match(text):
        raise _Odd
    number = _Whole(text)
    number.text = text
    return number
