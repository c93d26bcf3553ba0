"""A header walk for the common forms of DICOM: one open, one read of the file's beginning, only what is needed kept.

It gives what pydicom gives, or nothing: whatever is not plainly of the two little-endian encodings (PS3.5, section 7
and annex A) and free of sequences among the wanted elements is left to pydicom.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword

from medrail.read.dicom.converted import IN_CHARSET, Odd, converted
from medrail.read.dicom.extent import UNDEFINED, PixelPlace
from medrail.read.dicom.header import KEYWORDS
from medrail.read.dicom.private import PRIVATE_TAGS, RAW, private_name
from medrail.read.dicom.source import Readable, Source

HEAD_BYTES = 16 << 10
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
_CHARSET_NAME = re.compile(rb"[0-9A-Z_ \\]*\Z")

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


class _Short(Odd):
    """The file ends within an element."""


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
    with Source(path) as file:
        try:
            return Walk(file, file.size, wanted_tags()).elements()
        except (Odd, struct.error):
            return None


def find_pixels(file: Readable, size: int) -> tuple[bool, PixelPlace | None]:
    """Whether the structure of a file was understood, and where its pixels begin; for files that pydicom parses."""
    try:
        return True, Walk(file, size, {}).elements().pixels
    except _Short:
        return True, None
    except (Odd, struct.error):
        return False, None


def is_cut_off(file: Readable, size: int) -> bool:
    """Whether a file of a plain structure ends within an element."""
    try:
        Walk(file, size, {}).elements()
    except _Short:
        return True
    except (Odd, struct.error):
        return False
    return False


@cache
def wanted_tags() -> Mapping[bytes, tuple[str, bytes]]:
    """Tag as it stands in a little-endian file -> keyword of ``KEYWORDS``, and the VR that the dictionary gives it."""
    wanted = {}
    for keyword in KEYWORDS:
        tag = tag_for_keyword(keyword)
        if tag is not None:
            wanted[struct.pack("<HH", tag >> 16, tag & 0xFFFF)] = (keyword, dictionary_VR(tag).encode())
    for tag in PRIVATE_TAGS:
        wanted[struct.pack("<HH", tag >> 16, tag & 0xFFFF)] = (private_name(tag), RAW)
    return wanted


class Passed(NamedTuple):
    """An element of the top level that was walked over: offsets in bytes, VR b"" where the encoding is implicit."""

    offset: int
    head: int
    end: int
    vr: bytes


class Walk:
    """One file, seen through a window of its bytes that moves along.

    passed:
        The elements in the first window, without gaps.
    """

    def __init__(
        self, file: Readable, size: int, wanted: Mapping[bytes, tuple[str, bytes]], head: bytes | None = None
    ) -> None:
        self.file, self.size, self.wanted = file, size, wanted
        if head is None:
            file.seek(0)
            head = file.read(HEAD_BYTES)
        self.head = self.data = head
        self.base = 0
        self.read_bytes = 0
        self.japanese = False
        self.implicit = False
        self.passed: list[Passed] = []

    def elements(self) -> Elements:
        """All of the file; raises ``Odd`` or ``struct.error`` where pydicom must have the word."""
        offset, syntax, meta = self._meta()
        self.implicit = syntax == _IMPLICIT
        found = Elements({}, meta)
        self._check_first(offset)
        self.top(offset, found)
        if self.wanted:
            refuse_what_needs_all(found)
        return found

    def _meta(self) -> tuple[int, str, Elements]:
        """The file meta information (PS3.10, section 7.1) -> where the data set begins, its transfer syntax, itself."""
        if self.data[128:132] != b"DICM":
            return 0, self._guess(), Elements()
        offset, values = 132, {}
        while (at := self._see(offset, 12)) >= 0 and self.data[at : at + 2] == b"\x02\x00":
            vr, head, length = self._explicit_head(at)
            if length == UNDEFINED:
                raise Odd
            keyword = _META.get(self.data[at : at + 4])
            if keyword:
                values[keyword] = self._value(vr, offset + head, length)
            self.passed.append(Passed(offset, head, offset + head + length, vr))
            offset += head + length
        syntax = values.get("TransferSyntaxUID", "")
        if not isinstance(syntax, str) or not _STANDARD_SYNTAX.match(syntax):
            raise Odd
        if syntax in (_BIG_ENDIAN, _DEFLATED_FRAMES):
            raise Odd
        return offset, syntax, Elements(values)

    def _guess(self) -> str:
        """The encoding of a data set without preamble, where its first element leaves no doubt."""
        head = self.data[:16]
        if len(head) < 16 or head[:2] != b"\x08\x00" or head[3] or head[2] > 0x70:
            raise Odd
        if head[4:6] in _SHORT or head[4:6] in _LONG:
            return "1.2.840.10008.1.2.1"
        if _length(head, 4)[0] > 128:
            raise Odd
        return _IMPLICIT

    def _check_first(self, offset: int) -> None:
        at = self._see(offset, 12)
        if at < 0:
            return
        if self.data[at : at + 2] < b"\x03\x00" and self.data[at + 1 : at + 2] == b"\0":
            raise Odd  # a command set, or more of the meta information
        if self.implicit and self.data[at + 4 : at + 6].isupper():
            raise Odd  # explicit in spite of what it says

    def top(self, offset: int, found: Elements) -> None:
        """Walk the data set from an element of its top level to its pixels or its end."""
        wanted, last, implicit, passed = self.wanted, self.size - 8, self.implicit, self.passed
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
                found.values[keyword] = self._wanted_value(read_as(vr, dictionary_vr), offset + head, length, found)
            elif tag in _SPECIAL or tag[:2] == _DELIMITERS or length == UNDEFINED or end > self.size:
                if tag in _PIXELS:
                    found.pixels = PixelPlace(_PIXELS[tag], offset + head, length)
                    return
                end = self._special(tag, vr, offset + head, length, implicit)
            if base == 0:
                passed.append(Passed(offset, head, end, vr))
            data, base, offset = self.data, self.base, end
        if offset != self.size:
            raise _Short

    def _special(self, tag: bytes, vr: bytes, value: int, length: int, implicit: bool) -> int:
        """What is no plain element to be passed over: where it ends."""
        if tag in self.wanted or tag[:2] == _DELIMITERS:
            raise Odd
        if length == UNDEFINED:
            return self.skip_sequence(value, vr, implicit, 0)
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
            raise Odd
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
        raise Odd

    def skip_sequence(self, offset: int, vr: bytes, implicit: bool, depth: int) -> int:
        """Past a sequence of undefined length (PS3.5, section 7.5): where it ends."""
        if vr not in (b"", b"SQ") or depth > _DEEPEST:
            raise Odd
        while True:
            at = self._see(offset, 12)
            if at < 0:
                raise _Short
            tag, length = self.data[at : at + 4], _length(self.data, at + 4)[0]
            offset += 8
            if tag == _SEQUENCE_END and length == 0:
                return offset
            if tag != _ITEM:
                raise Odd
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
                raise Odd
            vr, head, length = self._head(at, implicit)
            if length == UNDEFINED:
                offset = self.skip_sequence(offset + head, vr, implicit, depth + 1)
            else:
                offset += head + length
            if offset > self.size:
                raise _Short
        if offset != end:
            raise Odd
        return offset

    def _charset(self, offset: int, length: int) -> None:
        """Japanese sets give two ASCII characters another meaning (PS3.3, C.12.1.1.2); all others keep them."""
        at = self._see(offset, length) if length else 0
        name = self.data[at : at + length]
        if not _CHARSET_NAME.match(name):
            raise Odd
        self.japanese = b"13" in name

    def _wanted_value(self, vr: bytes, offset: int, length: int, found: Elements) -> Any:
        value = self._value(signed_or_not(vr, found), offset, length)
        if vr in IN_CHARSET and self.japanese and any(sign in str(value) for sign in "\\~"):
            raise Odd
        return value

    def _value(self, vr: bytes, offset: int, length: int) -> Any:
        if length > _LONGEST_VALUE or offset + length > self.size:
            raise Odd
        at = self._see(offset, length) if length else 0
        return converted(vr, self.data[at : at + length])


_META = {b"\x02\x00\x10\x00": "TransferSyntaxUID", b"\x02\x00\x02\x00": "MediaStorageSOPClassUID"}


def read_as(vr: bytes, dictionary_vr: bytes) -> bytes:
    """The VR that a wanted element is read with: the file's, else the dictionary's; private ones stay bytes."""
    return RAW if dictionary_vr == RAW else vr or dictionary_vr


def signed_or_not(vr: bytes, found: Elements) -> bytes:
    """The VR of an element whose sign follows from Pixel Representation (PS3.5, A.1)."""
    if vr != b"US or SS":
        return vr
    signed = found.get("PixelRepresentation")
    if signed not in (0, 1):
        raise Odd
    return b"SS" if signed else b"US"


def refuse_what_needs_all(found: Elements) -> None:
    """``Odd`` where a number's meaning or a frame's place stand in elements that are not walked."""
    kind = found.get("ImageType")
    words = [kind] if isinstance(kind, str) else kind or ()
    if found.get("Modality") in _NEEDS_ALL or "MOSAIC" in words:
        raise Odd
