"""TIFF: directories with nothing but what decoding needs; all bytes that nothing needs become zeros.

The strips and tiles stay where they are, byte for byte (TIFF 6.0; BigTIFF).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from medrail.cases.deidentify.pixels import blank_jpeg
from medrail.errors import CorruptFile, UnsupportedFormat

# Sizes, samples, strips and tiles, palette, resolution, orientation, codec tables: no text, no date, no directory.
_KEPT = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 292, 293, 296, 301}
    | {317, 318, 319, 320, 321, 322, 323, 324, 325, 332, 334, 336, 338, 339, 340, 341, 347}
    | {512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 32995, 32996, 32997, 32998}
)
_OTHER_DIRECTORIES = frozenset({330})  # SubIFDs
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_DATA = ((273, 279), (324, 325), (513, 514))  # offsets and byte counts
_JPEG = (6, 7)
_MOST_PAGES, _MOST_ENTRIES = 100_000, 4096


@dataclass(frozen=True)
class _Form:
    order: str
    big: bool

    def number(self, content: bytes, position: int, kind: str) -> int:
        return int(struct.unpack_from(self.order + kind, content, position)[0])

    @property
    def count_kind(self) -> str:
        return "Q" if self.big else "H"

    @property
    def offset_kind(self) -> str:
        return "Q" if self.big else "I"

    @property
    def entry(self) -> int:
        return 20 if self.big else 12


def clean_tiff(content: bytes) -> bytes:
    """The same file, with the same offsets, where everything but pixels and what decodes them is zero.

    Raises
    ------
    UnsupportedFormat
        For pages inside of pages.
    CorruptFile
        For offsets outside of the file, or directories that lead back.
    """
    order = "<" if content[:2] == b"II" else ">"
    form = _Form(order, struct.unpack_from(order + "H", content, 2)[0] == 43)
    first = 8 if form.big else 4
    out = bytearray(len(content))
    _keep(out, content, 0, 16 if form.big else 8)
    directory, seen = form.number(content, first, form.offset_kind), set[int]()
    struct.pack_into(form.order + form.offset_kind, out, first, directory)
    while directory:
        if directory in seen or len(seen) > _MOST_PAGES:
            raise CorruptFile("has directories that lead back to themselves", remedy="Save it again.")
        seen.add(directory)
        directory = _directory(content, out, directory, form)
    return bytes(out)


def is_slide(content: bytes) -> bool:
    """Whether a TIFF is a whole slide: a scanner's mark, or several pages in tiles (a pyramid)."""
    from io import BytesIO

    import tifffile

    with tifffile.TiffFile(BytesIO(content)) as file:
        pages = [file.pages[index] for index in range(min(len(file.pages), 16))]
        marks = [str(page.description or "")[:4096] for page in pages if isinstance(page, tifffile.TiffPage)]
        tiled = sum(getattr(page, "is_tiled", False) for page in pages)
        vendors = file.is_svs or file.is_ndpi or file.is_scn or file.is_bif or file.is_philips
    return bool(vendors) or tiled > 1 or any(mark.startswith("Aperio") for mark in marks)


def _directory(content: bytes, out: bytearray, start: int, form: _Form) -> int:
    """Copy what is kept of one directory, its entries closed up; returns where the next one stands."""
    count = form.number(content, start, form.count_kind)
    if count > _MOST_ENTRIES:
        raise CorruptFile("has a directory without an end", remedy="Save it again.")
    width = struct.calcsize(form.order + form.count_kind)
    entries = []
    for index in range(count):
        position = start + width + index * form.entry
        tag, kind = form.number(content, position, "H"), form.number(content, position + 2, "H")
        if tag in _OTHER_DIRECTORIES:
            raise UnsupportedFormat("keeps pages inside of pages", remedy="Save it as a plain TIFF or PNG.")
        if tag in _KEPT and kind in _SIZES and kind != 2:
            entries.append(position)
    values = {form.number(content, at, "H"): _values(content, out, at, form) for at in entries}
    for offsets, counts in _DATA:
        for offset, size in zip(values.get(offsets, ()), values.get(counts, ()), strict=False):
            _keep(out, content, offset, size)
            if values.get(259, (0,))[0] in _JPEG:
                blank_jpeg(out, offset, offset + size)
    after = form.number(content, start + width + count * form.entry, form.offset_kind)
    struct.pack_into(form.order + form.count_kind, out, start, len(entries))
    for index, position in enumerate(entries):
        at = start + width + index * form.entry
        out[at : at + form.entry] = content[position : position + form.entry]
        _plain_slot(out, at, form)
    end = start + width + len(entries) * form.entry
    struct.pack_into(form.order + form.offset_kind, out, end, after)
    return after


def _values(content: bytes, out: bytearray, entry: int, form: _Form) -> tuple[int, ...]:
    kind = form.number(content, entry + 2, "H")
    count = form.number(content, entry + 4, form.offset_kind)
    slot = entry + (12 if form.big else 8)
    size = _SIZES[kind] * count
    at = slot if size <= (8 if form.big else 4) else form.number(content, slot, form.offset_kind)
    if at != slot:
        _keep(out, content, at, size)
    if kind not in _WHOLE or at + size > len(content):
        return ()
    return struct.unpack_from(f"{form.order}{count}{_WHOLE[kind]}", content, at)


def _plain_slot(out: bytearray, entry: int, form: _Form) -> None:
    """Clear what a value shorter than its slot leaves of it."""
    kind, count = form.number(bytes(out), entry + 2, "H"), form.number(bytes(out), entry + 4, form.offset_kind)
    room, size = (8 if form.big else 4), _SIZES[kind] * count
    if size < room:
        slot = entry + form.entry - room
        out[slot + size : slot + room] = bytes(room - size)


def _keep(out: bytearray, content: bytes, start: int, size: int) -> None:
    if start < 0 or size < 0 or start + size > len(content):
        raise CorruptFile("points outside of itself", remedy="Copy it again.")
    out[start : start + size] = content[start : start + size]
