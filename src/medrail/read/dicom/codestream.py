"""What a compressed stream says of itself, read before a decoder sees it: size, samples, bits, colour.

Sources: ITU-T T.81 (JPEG) B.1 and B.2; T.86 and T.872 6.5.3 (Adobe APP14); T.87 (JPEG-LS) C.2; T.800 (JPEG 2000)
A.4.2 (SOC), A.5.1 (SIZ), A.6.1 (COD); T.801 A.3 (markers of part 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["dct", "lossless", "ls", "j2k"]

END = b"\xff\xd9"
_JPEG_START = b"\xff\xd8"
_J2K_START = b"\xff\x4f\xff\x51"
_JP2_BOX = b"\0\0\0\x0cjP  "
_FRAMES: dict[int, Kind] = {0xC0: "dct", 0xC1: "dct", 0xC3: "lossless", 0xF7: "ls"}
_OTHER_FRAMES = frozenset({0xC2, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_SCAN, _APP14 = 0xDA, 0xEE
_CODING = 0x52
_PART_2 = frozenset({0x74, 0x75, 0x77, 0x78})
_MAX_TILES = 65_535
_RGB_IDS = (b"RGB", b"rgb")


@dataclass(frozen=True)
class Stream:
    """One frame's codestream, by its own header.

    signed:
        Only JPEG 2000 can say so.
    mixed:
        JPEG 2000: RCT or ICT over the first three components, which the decoder undoes.
    adobe:
        Transform of the APP14 segment: 0 none, 1 YCbCr; None without that segment.
    rgb_ids:
        JPEG: the components are called R, G, B.
    predictor:
        Lossless JPEG: 1 to 7.
    part_2:
        JPEG 2000: uses transforms over components of part 2.
    """

    kind: Kind
    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool = False
    mixed: bool = False
    adobe: int | None = None
    rgb_ids: bool = False
    predictor: int = 0
    part_2: bool = False


def stream_of(data: bytes) -> Stream | None:
    """The header of a JPEG, JPEG-LS or JPEG 2000 stream; None where it is none, broken, or of an unused process."""
    if data.startswith(_JPEG_START):
        return _jpeg(data)
    start = 0
    if data.startswith(_JP2_BOX):
        start = max(data.find(b"jp2c", 0, 1 << 16), 0) + 4
    return _jpeg_2000(data, start) if data.startswith(_J2K_START, start) else None


def complete(data: bytes) -> bool:
    """Whether the stream ends as it must, with padding of zeros or fill bytes behind its end allowed."""
    return data.rstrip(b"\0\xff").endswith(END)


def _segments(data: bytes, at: int, last: frozenset[int]) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of each segment up to and with the first of ``last``; ends early where they are broken."""
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        content = data[at + 4 : at + 2 + length]
        if length < 2 or len(content) != length - 2:
            return
        yield marker, content
        if marker in last:
            return
        at += 2 + length


def _jpeg(data: bytes) -> Stream | None:
    frame: tuple[Kind, bytes] | None = None
    adobe: int | None = None
    for marker, content in _segments(data, 2, frozenset({_SCAN})):
        if marker in _FRAMES:
            if frame is not None:
                return None
            frame = _FRAMES[marker], content
        elif marker in _OTHER_FRAMES:
            return None
        elif marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12:
            adobe = content[11]
        elif marker == _SCAN:
            return _jpeg_frame(*frame, adobe, content) if frame else None
    return None


def _jpeg_frame(kind: Kind, frame: bytes, adobe: int | None, scan: bytes) -> Stream | None:
    if len(frame) < 6 or len(frame) != 6 + 3 * frame[5] or not scan or len(scan) != 4 + 2 * scan[0]:
        return None
    rows, columns = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    predictor = scan[-3] if kind == "lossless" else 0
    if kind == "lossless" and not 1 <= predictor <= 7:
        return None
    return Stream(
        *(kind, rows, columns, frame[5], frame[0]),
        adobe=adobe,
        rgb_ids=frame[6::3] in _RGB_IDS,
        predictor=predictor,
    )


def _jpeg_2000(data: bytes, start: int) -> Stream | None:
    size: bytes | None = None
    mixed = part_2 = False
    for marker, content in _segments(data, start + 2, frozenset({0x90, 0x93})):
        if marker == 0x51 and size is None:
            size = content
        elif marker == _CODING and len(content) >= 5:
            mixed = content[4] != 0
        elif marker in _PART_2:
            part_2 = True
    return _jpeg_2000_size(size, mixed=mixed, part_2=part_2) if size else None


def _jpeg_2000_size(size: bytes, *, mixed: bool, part_2: bool) -> Stream | None:
    """SIZ: all components of one depth and not subsampled, one grid that begins at its origin, not too many tiles."""
    if len(size) < 39 or len(size) != 36 + 3 * int.from_bytes(size[34:36], "big"):
        return None
    x, y, x_from, y_from, tile_x, tile_y, *_ = (int.from_bytes(size[at : at + 4], "big") for at in range(2, 34, 4))
    depths, steps = set(size[36::3]), set(size[37::3]) | set(size[38::3])
    if x <= x_from or y <= y_from or len(depths) != 1 or steps != {1} or 0 in (tile_x, tile_y):
        return None
    if -(-x // tile_x) * -(-y // tile_y) > _MAX_TILES:
        return None
    depth = depths.pop()
    samples = len(size[36:]) // 3
    bits = (depth & 0x7F) + 1
    return Stream("j2k", y - y_from, x - x_from, samples, bits, signed=depth > 0x7F, mixed=mixed, part_2=part_2)
