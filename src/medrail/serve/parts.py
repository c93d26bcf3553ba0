"""How many parts a file has: counted quickly, before a parser makes an object of each.

A parser in Python spends microseconds and hundreds of bytes on an element, a page or a segment of ten bytes; half a
gigabyte of them would hold a worker for minutes. Images have few parts and much data.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from medrail.errors import ReadError

MOST_CHUNKS = 100_000  # of a PNG
MOST_SEGMENTS = 10_000  # of a JPEG before its first scan
MOST_SCANS = 100  # of a JPEG; a progressive one has about ten
MOST_PAGES = 4_000  # of a TIFF
MOST_TAGS = 200_000  # of all its pages
MOST_ELEMENTS = 300_000  # of a DICOM file, those in sequences and the fragments of its pixels included
MOST_BYTES_ODD = 4 << 20  # of a DICOM file from the place on where this count does not understand it
MOST_INFLATED = 64 << 20  # of a deflated data set, for counting

Buffer = bytes | mmap.mmap
_UNDEFINED = 0xFFFFFFFF
_ITEM = (0xFFFE, 0xE000)
_ITEM_BYTES = (b"\xfe\xff\0\xe0", b"\xff\xfe\xe0\0")
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_CONTAINERS = frozenset((b"SQ", b"UN", b""))
_EXPLICIT, _IMPLICIT, _BIG, _DEFLATED = (f"1.2.840.10008.1.2{end}".encode() for end in (".1", "", ".2", ".1.99"))
_JPEG_FRAME = b"\xff\xda"


def check_parts(path: Path, kind: str) -> None:
    """Of a file of this kind (as ``sniff`` says it).

    Raises
    ------
    ReadError
        If there are more than a worker should look at.
    """
    count = _COUNTS.get(kind)
    if count is not None:
        with _mapped(path) as content:
            count(content)


@contextmanager
def _mapped(path: Path) -> Iterator[Buffer]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _too_many(what: str, most: int) -> ReadError:
    return ReadError(f"has more than {most:,} {what}", needed="an image with fewer", remedy="Export it again.")


def _png(content: Buffer) -> None:
    offset, end = 8, len(content)
    for _ in range(MOST_CHUNKS):
        if offset + 8 > end:
            return
        offset += 12 + struct.unpack_from(">I", content, offset)[0]
    raise _too_many("chunks", MOST_CHUNKS)


def _jpeg(content: Buffer) -> None:
    _check_scans(content, MOST_SCANS)
    offset, end = 2, len(content)
    for _ in range(MOST_SEGMENTS):
        if offset + 4 > end or content[offset] != 0xFF or content[offset + 1] == 0xDA:
            return
        marker = content[offset + 1]
        bare = marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD9
        offset += 1 if marker == 0xFF else 2 if bare else 2 + struct.unpack_from(">H", content, offset + 2)[0]
    raise _too_many("segments", MOST_SEGMENTS)


def _check_scans(content: Buffer, most: int) -> None:
    """Each scan is a pass over the whole picture. In coded data 0xFF is never followed by a marker's byte."""
    at = -2
    for _ in range(most + 1):
        at = content.find(_JPEG_FRAME, at + 2)
        if at < 0:
            return
    raise _too_many("scans", most)


def _tiff(content: Buffer) -> None:
    order = "<" if content[:2] == b"II" else ">"
    large = content[2:3] == b"+" or content[3:4] == b"+"
    count_form, entry_bytes, next_form = ("Q", 20, "Q") if large else ("H", 12, "I")
    tags, strips, offset = 0, 0, struct.unpack_from(order + next_form, content, 8 if large else 4)[0]
    seen: set[int] = set()
    while 0 < offset < len(content) - 8 and offset not in seen:
        seen.add(offset)
        (count,) = struct.unpack_from(order + count_form, content, offset)
        tags += count
        if len(seen) > MOST_PAGES or tags > MOST_TAGS:
            raise _too_many("pages or tags", MOST_PAGES)
        first = offset + struct.calcsize(count_form)
        strips += _strips(content, first, count, order, large)
        at = first + entry_bytes * count
        if at + struct.calcsize(next_form) > len(content):
            break
        (offset,) = struct.unpack_from(order + next_form, content, at)
    _check_scans(content, MOST_SCANS + 8 * min(strips, len(content) // 64))


def _strips(content: Buffer, first: int, count: int, order: str, large: bool) -> int:
    """How many strips or tiles a page has, each of which may be a JPEG of its own."""
    entry_bytes = 20 if large else 12
    for index in range(count):
        at = first + index * entry_bytes
        if at + entry_bytes > len(content):
            break
        if struct.unpack_from(f"{order}H", content, at)[0] in (273, 324):
            return int(struct.unpack_from(f"{order}{'Q' if large else 'I'}", content, at + 4)[0])
    return 0


def _dicom(content: Buffer) -> None:
    offset, syntax = _beginning(content)
    if syntax == _DEFLATED:
        try:
            head = content[offset : offset + MOST_INFLATED]
            inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, MOST_INFLATED)
        except zlib.error:
            return  # its reader says so
        _Count(inflated, "<", implicit=False).run(0)  # what comes behind so much is pixels, or refused for its size
        return
    order = ">" if syntax == _BIG else "<"
    frames = _Count(content, order, implicit=syntax == _IMPLICIT).run(offset)
    if b"1.2.840.10008.1.2.4" in content[128:1024]:
        _check_scans(content, MOST_SCANS + 8 * frames)


def _beginning(content: Buffer) -> tuple[int, bytes]:
    """Where the data set begins, and its transfer syntax; without a preamble it is guessed as readers do."""
    if content[128:132] != b"DICM":
        return 0, _EXPLICIT if content[4:6] in _SHORT | _LONG else _IMPLICIT
    offset, syntax = 132, b""
    for _ in range(1000):
        if offset + 12 > len(content) or content[offset : offset + 2] != b"\x02\0":
            break
        kind = bytes(content[offset + 4 : offset + 6])
        short = kind not in _LONG
        (length,) = struct.unpack_from("<H" if short else "<I", content, offset + (6 if short else 8))
        value = offset + (8 if short else 12)
        if content[offset + 2 : offset + 4] == b"\x10\0":
            syntax = bytes(content[value : value + min(length, 64)]).rstrip(b"\0 ")
        offset = value + length
    return offset, syntax


class _Count:
    """A walk over every element, into sequences of whatever length, that only counts."""

    def __init__(self, content: Buffer, order: str, *, implicit: bool) -> None:
        self.content = content
        self.implicit = implicit
        self._tag = struct.Struct(f"{order}HH").unpack_from
        self._long = struct.Struct(f"{order}I").unpack_from
        self._short = struct.Struct(f"{order}H").unpack_from

    def run(self, offset: int) -> int:
        """The number of elements; raises ReadError where there are too many."""
        end = len(self.content)
        for count in range(MOST_ELEMENTS):
            if offset + 8 > end:
                return count
            after = self._after(offset)
            if after < 0:
                if end - offset > MOST_BYTES_ODD:
                    raise ReadError("has a structure that is not understood", needed="plain DICOM")
                return count
            offset = after
        raise _too_many("elements", MOST_ELEMENTS)

    def _after(self, offset: int) -> int:
        """Where the next element begins, inside of this one where it holds others; -1 if this is none."""
        content = self.content
        tag = self._tag(content, offset)
        if tag[0] == 0xFFFE:
            (length,) = self._long(content, offset + 4)
            holds_elements = tag != _ITEM or length == _UNDEFINED or self._begins_with_element(offset + 8)
            return offset + 8 if holds_elements else offset + 8 + length
        kind, value, length = self._head(offset)
        if value < 0:
            return -1
        if length == _UNDEFINED or (kind in _CONTAINERS and bytes(content[value : value + 4]) in _ITEM_BYTES):
            return value
        return value + length

    def _head(self, offset: int) -> tuple[bytes, int, int]:
        content = self.content
        if self.implicit:
            return b"", offset + 8, self._long(content, offset + 4)[0]
        kind = bytes(content[offset + 4 : offset + 6])
        if kind in _SHORT:
            return kind, offset + 8, self._short(content, offset + 6)[0]
        if kind in _LONG and offset + 12 <= len(content):
            return kind, offset + 12, self._long(content, offset + 8)[0]
        return kind, -1, 0

    def _begins_with_element(self, offset: int) -> bool:
        """Whether an item holds elements, and not a fragment of pixels: groups are small and VRs are letters."""
        head = self.content[offset : offset + 8]
        if len(head) < 8:
            return False
        if self.implicit:
            return bool(self._tag(head, 0)[0] < 0x7FFF and self._long(head, 4)[0] <= len(self.content))
        return bytes(head[4:6]) in _SHORT or bytes(head[4:6]) in _LONG


_COUNTS: Mapping[str, Callable[[Buffer], None]] = {"png": _png, "jpeg": _jpeg, "tiff": _tiff, "dicom": _dicom}
