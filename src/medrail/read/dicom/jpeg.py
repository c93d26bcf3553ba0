"""The headers inside a lossless JPEG stream, checked before a decoder that does not survive broken ones.

Source: ITU-T T.81 (JPEG), B.1 markers, B.2.2 frame header, B.2.3 scan header, B.2.4.2 Huffman tables.
"""

from __future__ import annotations

_START, _END = b"\xff\xd8", b"\xff\xd9"
_FRAME_LOSSLESS, _TABLES, _SCAN, _COMMENT, _RESTART_INTERVAL = 0xC3, 0xC4, 0xDA, 0xFE, 0xDD
_APPLICATION = range(0xE0, 0xF0)


def lossless_size(stream: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, samples) of a lossless JPEG stream with one scan; None where it is not as the standard has it."""
    if not stream.startswith(_START) or not stream.rstrip(b"\0").endswith(_END):
        return None
    at, size, tables = 2, None, False
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        segment = stream[at + 4 : at + 2 + length]
        if length < 2 or len(segment) != length - 2:
            return None
        if marker == _SCAN:
            return size if size and tables and _is_scan(segment, size[2]) else None
        if marker == _FRAME_LOSSLESS and size is None:
            size = _frame_size(segment)
        elif marker == _TABLES:
            tables = _are_tables(segment)
        elif marker not in _APPLICATION and marker not in (_COMMENT, _RESTART_INTERVAL):
            return None
        at += 2 + length
    return None


def _frame_size(segment: bytes) -> tuple[int, int, int] | None:
    if len(segment) < 6 or len(segment) != 6 + 3 * segment[5] or not 2 <= segment[0] <= 16:
        return None
    return int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big"), segment[5]


def _is_scan(segment: bytes, samples: int) -> bool:
    """All components in one scan, predictor 1 to 7."""
    return len(segment) == 4 + 2 * samples and segment[0] == samples and 1 <= segment[-3] <= 7


def _are_tables(segment: bytes) -> bool:
    """Huffman tables whose codes fit into 16 bits and whose values are lengths of differences."""
    while len(segment) >= 17:
        counts = segment[1:17]
        room = sum(count << (15 - index) for index, count in enumerate(counts))
        values = segment[17 : 17 + sum(counts)]
        if segment[0] > 3 or room > 1 << 16 or len(values) != sum(counts) or max(values, default=17) > 16:
            return False
        segment = segment[17 + sum(counts) :]
    return not segment
