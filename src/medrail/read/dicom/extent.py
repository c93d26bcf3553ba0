"""Whether a file ends before its pixels do: told from its size and its header, without decoding."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from medrail.errors import MedrailError
from medrail.read.dicom.elements import read_text, read_whole
from medrail.read.dicom.source import Readable

UNDEFINED = 0xFFFFFFFF
_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"  # Sequence Delimitation Item, PS3.5 section 7.5
_ITEM = b"\xfe\xff\x00\xe0"
_MOST_FRAGMENTS = 200_000
_FLOAT_BITS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
# Colour that is stored with fewer samples than it has (PS3.3, C.7.6.3.1.2): samples a pixel, in halves.
_SUBSAMPLED_HALVES = {"YBR_FULL_422": 4, "YBR_PARTIAL_422": 4, "YBR_PARTIAL_420": 3}


@dataclass(frozen=True)
class PixelPlace:
    """Where the pixels of a file begin.

    keyword:
        "PixelData", "FloatPixelData" or "DoubleFloatPixelData".
    offset, length:
        Of the value, in bytes; the length as declared, ``UNDEFINED`` where they are encapsulated.
    """

    keyword: str
    offset: int
    length: int


def offset_of(place: PixelPlace | None) -> int:
    """Where the value of Pixel Data begins; -1 where there is none, or one of another kind."""
    return place.offset if place is not None and place.keyword == "PixelData" else -1


def pixel_defect(dataset: Any, place: PixelPlace | None, file: Readable, size: int) -> str:
    """What is wrong with the extent of a file's pixels, in words with numbers; "" when they are all there.

    Parameters
    ----------
    dataset:
        The elements Rows, Columns, SamplesPerPixel, BitsAllocated, NumberOfFrames, PhotometricInterpretation.
    place:
        Where the pixels begin; None when there are none.
    file, size:
        The file, open for reading, and its size in bytes.
    """
    return missing_pixels(place, pixel_bytes(dataset, place), file, size)


def missing_pixels(place: PixelPlace | None, expected: int | None, file: Readable, size: int) -> str:
    """As ``pixel_defect``, where the number of bytes that ``pixel_bytes`` gives is known."""
    if place is None:
        return "the file ends before its pixels begin"
    if place.length == UNDEFINED:
        return "" if _closes(place.offset, file, size) else "the file ends within its compressed pixels"
    found = max(min(place.length, size - place.offset), 0)
    return "" if expected is None or found >= expected else f"{found:,} of {expected:,} bytes of pixels are there"


def pixel_bytes(dataset: Any, place: PixelPlace | None) -> int | None:
    """The bytes that native pixels take; None where the header does not say, which is another defect."""
    try:
        return _native_bytes(dataset, place.keyword) if place else None
    except MedrailError:
        return None


def _native_bytes(dataset: Any, keyword: str) -> int:
    frames = max(read_whole(dataset, "NumberOfFrames", 1), 1)
    pixels = frames * read_whole(dataset, "Rows") * read_whole(dataset, "Columns")
    halves = 2 * read_whole(dataset, "SamplesPerPixel", 1)
    if halves == 2 * 3:
        halves = _SUBSAMPLED_HALVES.get(read_text(dataset, "PhotometricInterpretation").upper(), halves)
    bits = _FLOAT_BITS.get(keyword) or read_whole(dataset, "BitsAllocated")
    return (pixels * halves * bits // 2 + 7) // 8


def _closes(offset: int, file: Readable, size: int) -> bool:
    """Whether the fragments end with their delimiter (PS3.5, A.4): at the file's end, else after the last of them."""
    if size - len(_DELIMITER) >= offset:
        file.seek(size - len(_DELIMITER))
        if file.read(len(_DELIMITER)) == _DELIMITER:
            return True
    for _ in range(_MOST_FRAGMENTS):
        file.seek(offset)
        head = file.read(8)
        if head == _DELIMITER:
            return True
        if len(head) < 8 or not head.startswith(_ITEM):
            return False
        offset += 8 + int(struct.unpack("<I", head[4:])[0])
    return True  # too many to be followed; decoding will tell
