"""PNG, JPEG, BMP: what is no pixel is taken out of the file; the coded pixels stay byte for byte."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from medrail.errors import CorruptFile, UnsupportedFormat

_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"
# What decides about pixels (PNG third edition, section 11); sRGB and gamma are how to show them.
_PNG_KEPT = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sBIT", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"bKGD"}
)


def clean_png(content: bytes) -> bytes:
    """Only the chunks that decide about pixels, and the orientation if it is not upright.

    Raises
    ------
    CorruptFile
        If a chunk is cut off. ``UnsupportedFormat`` for an animated one.
    """
    orientation = _orientation(content)
    kept, position = [_PNG], 8
    while True:
        if position + 12 > len(content):
            raise CorruptFile("ends before its last chunk", remedy="Copy it again.")
        length, kind = struct.unpack_from(">I4s", content, position)
        chunk = content[position : position + 12 + length]
        if len(chunk) < 12 + length:
            raise CorruptFile("ends inside of a chunk", remedy="Copy it again.")
        if kind == b"acTL":
            raise UnsupportedFormat("is an animated PNG", remedy="Save its frames as pictures.")
        if kind in _PNG_KEPT:
            kept.append(chunk)
        elif not kind[0] & 0x20:
            raise UnsupportedFormat("has a critical chunk that the standard does not know", remedy="Save it again.")
        if kind == b"IHDR" and orientation > 1:
            body = b"eXIf" + _exif(orientation)
            kept.append(struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)))
        position += 12 + length
        if kind == b"IEND":
            return b"".join(kept)


def clean_jpeg(content: bytes) -> bytes:
    """Only the segments that decoding needs; JFIF without its thumbnail, Adobe's colour mark, the orientation.

    Raises
    ------
    CorruptFile
        If it ends before its end marker (ITU-T T.81, section B.1).
    """
    orientation = _orientation(content)
    kept, position = [b"\xff\xd8"], 2
    if orientation > 1:
        body = b"Exif\0\0" + _exif(orientation)
        kept.append(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)
    while True:
        while content[position : position + 2] == b"\xff\xff":
            position += 1
        if position + 2 > len(content) or content[position] != 0xFF:
            raise CorruptFile("is no whole JPEG", remedy="Copy it again.")
        marker = content[position + 1]
        if marker == 0xD9:
            return b"".join((*kept, b"\xff\xd9"))
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        end = position + 2 + length
        if length < 2 or end > len(content):
            raise CorruptFile("ends inside of a segment", remedy="Copy it again.")
        kept.append(_segment(marker, content[position:end]))
        position = end
        if marker == 0xDA:
            position = _after_scan(content, end)
            kept.append(content[end:position])


def _segment(marker: int, segment: bytes) -> bytes:
    if marker == 0xE0 and segment[4:9] == b"JFIF\0" and len(segment) >= 18:
        return b"\xff\xe0\0\x10" + segment[4:16] + b"\0\0"
    if marker == 0xEE and segment[4:9] == b"Adobe" and len(segment) >= 16:
        return b"\xff\xee\0\x0e" + segment[4:16]
    return b"" if 0xE0 <= marker <= 0xEF or marker in (0xFE, 0xF0) else segment


def _after_scan(content: bytes, position: int) -> int:
    """Where entropy-coded data ends: at a marker that is neither a stuffed zero nor a restart."""
    while True:
        position = content.find(b"\xff", position)
        if position < 0 or position + 1 >= len(content):
            raise CorruptFile("ends inside of its pixels", remedy="Copy it again.")
        following = content[position + 1]
        if following == 0xFF:
            position += 1
        elif following == 0 or 0xD0 <= following <= 0xD7:
            position += 2
        else:
            return position


def clean_bmp(content: bytes) -> bytes:
    """Header, palette and pixels; what lies between and behind them becomes zeros or is cut.

    Raises
    ------
    UnsupportedFormat
        For one with an embedded or linked colour profile, or compressed.
    """
    offset, header = struct.unpack_from("<10xII", content)
    width, height = struct.unpack_from("<ii", content, 18) if header >= 40 else struct.unpack_from("<HH", content, 18)
    bits, compression = (
        struct.unpack_from("<HI", content, 28) if header >= 40 else (*struct.unpack_from("<H", content, 24), 0)
    )
    if compression not in (0, 3, 6) or (header >= 124 and struct.unpack_from("<I", content, 14 + 112)[0]):
        raise UnsupportedFormat("is a BMP with compression or a colour profile", remedy="Save it as PNG.")
    size = (width * bits + 31) // 32 * 4 * abs(height)
    colours = struct.unpack_from("<I", content, 46)[0] if header >= 40 else 0
    masks = (12 if compression == 3 else 16) if header == 40 and compression else 0
    palette = (colours or (1 << bits if bits <= 8 else 0)) * (4 if header >= 40 else 3)
    known = 14 + header + masks + palette
    if not 0 <= known <= offset or len(content) < offset + size or size <= 0:
        raise CorruptFile("is no whole BMP", remedy="Copy it again.")
    head = bytearray(content[:known] + bytes(offset - known))
    struct.pack_into("<II", head, 2, offset + size, 0)
    return bytes(head) + content[offset : offset + size]


def _orientation(content: bytes) -> int:
    """The EXIF orientation, 1 (upright) to 8."""
    from PIL import Image

    with Image.open(BytesIO(content)) as picture:
        value = picture.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _exif(orientation: int) -> bytes:
    """EXIF with nothing but the orientation: a TIFF header and one directory of one entry."""
    return b"MM\0\x2a\0\0\0\x08\0\x01" + struct.pack(">HHIHH", _ORIENTATION, 3, 1, orientation, 0) + bytes(4)
