"""The second look: the finished file is parsed anew and searched for the original's identifiers.

It shares with the cleaning only the collection of what identifies, not the decisions. What it finds is told as the kind
of thing and the attribute it stands in, never as a value.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medrail.cases.deidentify import dummies
from medrail.cases.deidentify.actions import FREE_TEXT, PIXELS, action_for
from medrail.cases.deidentify.header import elements, identifiers_of, place_of
from medrail.cases.deidentify.identifiers import BYTES, Identifiers, plain
from medrail.cases.deidentify.keys import shifted
from medrail.cases.deidentify.options import Options
from medrail.cases.deidentify.safe_private import is_safe
from medrail.cases.deidentify.statement import STATED

_IN_PIXELS = 8  # letters of a word that no pixels spell by chance
_META = {0x00020000 + element for element in (0x0000, 0x0001, 0x0002, 0x0003, 0x0010, 0x0012, 0x0013)}


@dataclass(frozen=True, repr=False)
class Traces:
    """What an original must not leave behind: its identifiers, and (tag, value) of each attribute to be changed."""

    identifiers: Identifiers
    changed: frozenset[tuple[int, bytes]]
    allowed: frozenset[bytes]


def traces_of(dataset: Dataset, options: Options, new_name: str, shift_days: int) -> Traces:
    """Collect from an original before anything is done to it. ``new_name``: the patient's, as P0001."""
    identifiers = identifiers_of(dataset, options)
    changed, moved = set(), set()
    for element in elements(dataset):
        value = (element.value or b"").strip(b" \0")
        if not value or element.tag >> 16 & 1:
            continue
        action = action_for(element.tag, element.vr, options, dummy_needed=False)
        if action in "XZD" or (action == "S" and element.vr != "TM"):
            changed.add((element.tag, value))
        if action == "S":
            moved |= _moved(value, shift_days)
    names = {new_name.encode("ascii")}
    searched = identifiers.but_for(new_name, [*(text.decode("ascii")[:8] for text in moved), dummies.DATE])
    return Traces(searched, frozenset(changed), frozenset(dummies.STORED | names | moved))


def _moved(value: bytes, days: int) -> set[bytes]:
    parts = (shifted(part.strip(), days) for part in value.decode("ascii", "replace").split("\\"))
    return {part.encode("ascii") for part in parts if part}


def problems_in(content: bytes, traces: Traces, options: Options) -> tuple[str, ...]:
    """What is wrong with a finished DICOM file, as sentences without values; () when nothing is."""
    dataset = pydicom.dcmread(BytesIO(content))
    found = list(_in_frame(content, dataset))
    for element in elements(dataset):
        name = keyword_for_tag(element.tag) or "a private or unknown attribute"
        if element.tag >> 16 & 1 and not (options.keeps("safe-private") and _is_known(element.dataset, element.tag)):
            found.append("a private attribute")
        value = (element.value or b"").strip(b" \0")
        if (element.tag, value) in traces.changed and value not in traces.allowed:
            found.append(f"the original's value in {name}")
        if element.value and value not in STATED:
            kinds = traces.identifiers.found_in(element.value, place_of(element.vr))
            found += [f"a {kind} of the original in {name}" for kind in sorted(kinds)]
    found += _in_bytes(content, dataset, traces.identifiers)
    return tuple(dict.fromkeys(found))


def _in_frame(content: bytes, dataset: Dataset) -> Iterator[str]:
    if any(content[:128]):
        yield "something in the preamble"
    meta = {int(tag) for tag in dataset.file_meta.keys()}  # noqa: SIM118  (a data set iterates over its elements)
    if not meta <= _META:
        yield "unneeded file meta information"
    if any(0x5000 <= int(tag) >> 16 <= 0x50FF or 0x6000 <= int(tag) >> 16 <= 0x60FF for tag in dataset.keys()):  # noqa: SIM118
        yield "curves or overlays"
    if any(element.vr in FREE_TEXT and element.tag & 0xFFFF == 0 for element in elements(dataset)):
        yield "a group length that is text"


def _is_known(dataset: Dataset, tag: int) -> bool:
    low = tag & 0xFFFF
    if low < 0x1000:
        return True  # a creator; what it creates is judged by itself
    creator: Any = dataset.get((tag >> 16, low >> 8))
    return is_safe(str(getattr(creator, "value", "")).strip(), tag)


def _in_bytes(content: bytes, dataset: Dataset, identifiers: Identifiers) -> Iterator[str]:
    """All bytes of the file but its pixels; in the pixels only long words, which no picture spells by chance."""
    meta, body = content, b""
    if dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        end = 144 + int.from_bytes(content[140:144], "little")
        meta, body = content[:end], zlib.decompress(content[end:], -zlib.MAX_WBITS)
    else:
        meta, body = b"", content
    header, pixels = _parted(body, dataset)
    for kind in sorted(identifiers.found_in(meta + header, BYTES)):
        yield f"a {kind} of the original in the file's bytes"
    spelled = frozenset(plain(word) for word in identifiers.words)
    long_words = frozenset(w for w in spelled if len(w) >= _IN_PIXELS and w.isascii() and not w.isdigit())
    if Identifiers(long_words).found_in(pixels, BYTES):
        yield "a word of the original in the pixel data's bytes"


def _parted(body: bytes, dataset: Dataset) -> tuple[bytes, bytes]:
    """The bytes beside the pixels, and the pixels' bytes."""
    for tag in PIXELS:
        if tag in dataset:
            raw: Any = dataset.get_item(tag)
            start, end = raw.value_tell, raw.value_tell + len(raw.value or b"")
            return body[:start] + b"\0" + body[end:], body[start:end]
    return body, b""
