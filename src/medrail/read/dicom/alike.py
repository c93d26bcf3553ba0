"""Headers of files that are alike, as the slices of a series: the first is walked, the others are compared with it.

Slices of a series differ in a few elements: UID, numbers, times, position. Between these the bytes are the same, and
equal bytes have equal meanings. So a ``_Layout`` keeps the bytes of a walked header as constant parts with the
elements between them that were seen to vary; another file is matched by a comparison for each part, whatever the
lengths of what varies. What does not match is walked. Nothing here reads an element in another way than the walk does.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from medrail.errors import MedrailError
from medrail.read.dicom.converted import Odd, converted
from medrail.read.dicom.extent import UNDEFINED, missing_pixels, offset_of, pixel_bytes, pixel_defect
from medrail.read.dicom.header import OF_A_SLICE, Header, common_part, header_of, next_header
from medrail.read.dicom.quick import (
    HEAD_BYTES,
    Elements,
    Passed,
    Walk,
    read_as,
    refuse_what_needs_all,
    signed_or_not,
    wanted_tags,
)
from medrail.read.dicom.source import Source

_PREAMBLE, _PREFIX = 128, b"DICM"
_MOST_LAYOUTS = 4
_MOST_COMMONS = 1024
_SHORT_LENGTH, _LONG_LENGTH = struct.Struct("<H"), struct.Struct("<I")
# Transfer syntax, SOP class, character set and signedness say how others are read; with another one nothing is alike.
_FIXED = frozenset({b"\x02\0\x10\0", b"\x02\0\x02\0", b"\x08\0\x05\0", b"\x28\0\x03\x01"})


class Alike:
    """Gives the header of one file after another, as ``header_of`` does from pydicom's data set."""

    def __init__(self) -> None:
        self._layouts: list[_Layout] = []

    def header(self, path: Path) -> Header | None:
        """None where pydicom, or another reader, must have the word."""
        try:
            with Source(path) as file:
                return self._header(path, file)
        except (Odd, struct.error, OSError, MedrailError, ValueError, TypeError, OverflowError):
            return None

    def _header(self, path: Path, file: Source) -> Header:
        head = file.read(HEAD_BYTES)
        for rank, layout in enumerate(self._layouts):
            found = layout.matched(head, file) or layout.learned(head, file)
            if found is not None:
                if rank:
                    self._layouts.insert(0, self._layouts.pop(rank))
                return layout.header(found, path, head, file)
        walk = Walk(file, file.size, wanted_tags(), head)
        elements = walk.elements()
        defect = pixel_defect(elements, elements.pixels, file, file.size)
        header = header_of(elements, path, defect, offset_of(elements.pixels))
        if new := _Layout.of(walk, elements):
            self._layouts = [new, *self._layouts[: _MOST_LAYOUTS - 1]]
        return header


class _Element(NamedTuple):
    """An element of the file that a layout comes from.

    content:
        All its bytes.
    name:
        Tag and VR, and what else stands before the length.
    keyword:
        "" where its value is not wanted.
    fixed:
        The layout holds only for files with the same value.
    """

    content: bytes
    name: bytes
    vr: bytes
    keyword: str
    fixed: bool

    @property
    def length(self) -> struct.Struct:
        return _SHORT_LENGTH if len(self.name) == 6 else _LONG_LENGTH


class _Part(NamedTuple):
    """Constant bytes, which end with the name of the varying element that follows."""

    constant: bytes
    size: int
    length: struct.Struct
    element: _Element


class _Common(NamedTuple):
    """What files have in common that differ in nothing but ``OF_A_SLICE``: the header's part, the bytes of pixels."""

    header: tuple[Any, ...]
    pixel_bytes: int | None


@dataclass
class _Match:
    """Where the walk goes on, and the varying values that are wanted, in the layout's order."""

    offset: int
    raw: list[bytes]


@dataclass
class _Layout:
    """One way in which headers are laid out.

    elements, values, meta, implicit:
        Of the file it was made from, as far as they lie in the first window.
    varying:
        Places in ``elements`` of those that were seen to vary.
    parts, rest:
        The constant bytes in front of each of these, and after the last.
    wanted, shared, own, own_values:
        Of the varying elements those that are wanted; places in this list of those that slices have in common, and of
        those ``OF_A_SLICE``; what the file it was made from has for ``OF_A_SLICE``.
    commons:
        By the bytes of the shared ones.
    """

    elements: list[_Element]
    values: Mapping[str, Any]
    meta: Elements | None
    implicit: bool
    varying: set[int] = field(default_factory=set)
    parts: list[_Part] = field(default_factory=list)
    rest: bytes = b""
    wanted: list[_Element] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)
    own: list[tuple[int, str, bytes]] = field(default_factory=list)
    own_values: dict[str, Any] = field(default_factory=dict)
    commons: dict[tuple[Any, ...], _Common] = field(default_factory=dict)

    @staticmethod
    def of(walk: Walk, found: Elements) -> _Layout | None:
        """None for what is too rare to be worth it: no preamble, Japanese text, an element that comes twice."""
        passed = [one for one in walk.passed if one.end <= len(walk.head)]
        if not passed or passed[0].offset != _PREAMBLE + len(_PREFIX) or walk.japanese:
            return None
        begin = next(
            (index for index, one in enumerate(passed) if walk.head[one.offset : one.offset + 2] != b"\2\0"), 0
        )
        elements = [_element(one, walk, index == begin) for index, one in enumerate(passed)]
        elements, values = _values(elements)
        if len(values) < sum(bool(one.keyword) for one in elements):
            return None
        layout = _Layout(elements, values, found.file_meta, walk.implicit)
        layout._arrange()
        return layout

    def _arrange(self) -> None:
        """Make the parts anew, since another element has turned out to vary."""
        self.parts, constant = [], _PREFIX
        for index, element in enumerate(self.elements):
            if index in self.varying:
                constant += element.name
                self.parts.append(_Part(constant, len(constant), element.length, element))
                constant = b""
            else:
                constant += element.content
        self.rest, self.commons = constant, {}
        self.wanted = [part.element for part in self.parts if part.element.keyword]
        of_slice = [one.keyword in OF_A_SLICE for one in self.wanted]
        self.shared = [index for index, own in enumerate(of_slice) if not own]
        self.own = [(index, one.keyword, one.vr) for index, one in enumerate(self.wanted) if of_slice[index]]
        self.own_values = {keyword: value for keyword, value in self.values.items() if keyword in OF_A_SLICE}

    def matched(self, head: bytes, file: Source) -> _Match | None:
        """The varying values of a file of this layout; None for another one."""
        at, raw = _PREAMBLE, []
        for constant, size, length, element in self.parts:
            if not head.startswith(constant, at):
                return None
            at += size
            begin = at + length.size
            at = begin + length.unpack_from(head, at)[0]
            if at > len(head):
                at = self._past(element, begin, head, file)
            elif element.keyword:
                raw.append(head[begin:at])
        return _Match(at + len(self.rest), raw) if head.startswith(self.rest, at) else None

    def learned(self, head: bytes, file: Source) -> _Match | None:
        """As ``matched``, for a file in which other elements vary than before; the layout knows them then."""
        varying, at = set(self.varying), _PREAMBLE + len(_PREFIX)
        if not head.startswith(_PREFIX, _PREAMBLE):
            return None
        for index, element in enumerate(self.elements):
            if head.startswith(element.content, at):
                at += len(element.content)
                continue
            if element.fixed or not head.startswith(element.name, at):
                return None
            varying.add(index)
            at += len(element.name)
            begin = at + element.length.size
            at = begin + element.length.unpack_from(head, at)[0]
            if at > len(head):
                at = self._past(element, begin, head, file)
        self.varying = varying
        self._arrange()
        return self.matched(head, file)

    def _past(self, element: _Element, begin: int, head: bytes, file: Source) -> int:
        """The end of a sequence of undefined length; beyond ``head`` for what only a walk can pass."""
        undefined = element.length is _LONG_LENGTH and _LONG_LENGTH.unpack_from(head, begin - 4)[0] == UNDEFINED
        if undefined and not element.keyword:
            walk = Walk(file, file.size, {}, head)
            end = walk.skip_sequence(begin, element.vr, self.implicit, 0)
            if walk.base == 0:
                return end
        return len(head) + 1

    def header(self, found: _Match, path: Path, head: bytes, file: Source) -> Header:
        """The header of a file that matched; the rest of it is walked."""
        walk = Walk(file, file.size, wanted_tags(), head)
        walk.implicit = self.implicit
        rest = Elements()
        walk.top(found.offset, rest)
        key = (*(found.raw[index] for index in self.shared), rest.pixels and rest.pixels.keyword)
        common = None if rest.values else self.commons.get(key)
        if common is None:
            return self._full(found, rest, key, path, file)
        values = dict(self.own_values)
        for index, keyword, vr in self.own:
            values[keyword] = converted(vr, found.raw[index])
        defect = missing_pixels(rest.pixels, common.pixel_bytes, file, file.size)
        return next_header(common.header, Elements(values), path, defect, offset_of(rest.pixels))

    def _full(self, found: _Match, rest: Elements, key: tuple[Any, ...], path: Path, file: Source) -> Header:
        values = dict(self.values)
        for element, raw in zip(self.wanted, found.raw, strict=True):
            values[element.keyword] = converted(element.vr, raw)
        elements = Elements(values | rest.values, self.meta, rest.pixels)
        refuse_what_needs_all(elements)
        expected = pixel_bytes(elements, rest.pixels)
        defect = missing_pixels(rest.pixels, expected, file, file.size)
        header = header_of(elements, path, defect, offset_of(rest.pixels))
        common = None if rest.values else common_part(header)
        if common is not None:
            if len(self.commons) >= _MOST_COMMONS:
                self.commons.clear()
            self.commons[key] = _Common(common, expected)
        return header


def _element(passed: Passed, walk: Walk, first: bool) -> _Element:
    offset, head, end, vr = passed
    content = walk.head[offset:end]
    tag, of_meta = content[:4], content.startswith(b"\x02\0")
    keyword, dictionary_vr = ("", b"") if of_meta else walk.wanted.get(tag, ("", b""))
    name = content[: {8: 6, 12: 8}[head] if vr else 4]
    # A data set's first element tells its encoding; long elements of the meta information are nowhere else as here.
    fixed = tag in _FIXED or (first and walk.implicit) or (of_meta and head == 12)
    return _Element(content, name, read_as(vr, dictionary_vr), keyword, fixed)


def _values(elements: list[_Element]) -> tuple[list[_Element], dict[str, Any]]:
    """The elements with their final VR, and what those that are wanted hold."""
    found = Elements()
    resolved = []
    for element in elements:
        vr = signed_or_not(element.vr, found) if element.keyword else element.vr
        resolved.append(element._replace(vr=vr))
        if element.keyword:
            found.values[element.keyword] = converted(vr, element.content[len(element.name) + element.length.size :])
    return resolved, found.values
