"""Encapsulated pixel data -> the codestream of each frame (DICOM PS3.5 A.4)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from medrail.errors import CorruptFile

_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# First bytes of a JPEG, JPEG-LS, JPEG 2000 stream: a fragment that begins so begins a frame.
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
_REMEDY = "Copy or export it again."


class Frames:
    """The codestreams of a file's frames, cut out when they are asked for.

    Parameters
    ----------
    data:
        The value of Pixel Data: an offset table item, then fragments.
    count:
        Number of frames that the header declares.
    extended:
        Extended Offset Table (7FE0,0001), b"" where there is none.

    Raises
    ------
    CorruptFile
        If an item is broken or cut off, or the fragments cannot be shared out among the frames.
    """

    def __init__(self, data: bytes, count: int, extended: bytes = b"") -> None:
        self._data = memoryview(data)
        items = _items(data)
        if not items:
            raise CorruptFile("its compressed pixel data are empty", needed="an offset table and fragments")
        table_at, table_length = items[0]
        self._fragments = items[1:]
        offsets = _numbers(extended, 8) or _numbers(data[table_at : table_at + table_length], 4)
        self._groups = self._shared_out(count, offsets, table_at + table_length)

    def __getitem__(self, frame: int) -> bytes:
        group = self._groups[frame]
        return b"".join(self._data[at : at + length] for at, length in group)

    def _shared_out(self, count: int, offsets: Sequence[int], origin: int) -> list[list[tuple[int, int]]]:
        fragments = self._fragments
        if count == 1:
            groups = [fragments]
        elif len(fragments) == count:
            groups = [[fragment] for fragment in fragments]
        else:
            # The table holds where each frame's first item tag stands, counted from the end of the table's own item.
            first = [at - 8 - origin for at, _ in fragments]
            begins = set(offsets) if len(offsets) == count and set(offsets) <= set(first) else self._begins(first)
            groups = []
            for fragment, at in zip(fragments, first, strict=True):
                if at in begins or not groups:
                    groups.append([])
                groups[-1].append(fragment)
        if len(groups) != count or not all(groups):
            raise CorruptFile(
                f"declares {count} frames and holds {len(fragments)} fragments that make {len(groups)}",
                needed="fragments of each frame",
                remedy=_REMEDY,
            )
        return groups

    def _begins(self, first: Sequence[int]) -> set[int]:
        return {
            offset
            for (at, _), offset in zip(self._fragments, first, strict=True)
            if bytes(self._data[at : at + 8]).startswith(_STARTS)
        }


def _items(data: bytes) -> list[tuple[int, int]]:
    """(start, length) of the content of each item."""
    found, at = [], 0
    while at + 8 <= len(data) and not data.startswith(_DELIMITER, at):
        if not data.startswith(_ITEM, at):
            raise CorruptFile("its compressed pixel data are no list of items", remedy=_REMEDY)
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > len(data):
            raise CorruptFile("its compressed pixel data end too early", needed="whole fragments", remedy=_REMEDY)
        found.append((at + 8, length))
        at += 8 + length
    return found


def _numbers(data: Any, size: int) -> tuple[int, ...]:
    whole = bytes(data or b"")
    count = len(whole) // size
    return struct.unpack(f"<{count}{'Q' if size == 8 else 'I'}", whole[: count * size])
