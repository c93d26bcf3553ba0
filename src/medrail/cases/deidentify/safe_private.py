"""Private attributes that geometry, diffusion and uptake need, in the manner of PS3.15 section E.3.10.

Kept only with ``--keep safe-private``. Of the Siemens CSA image header, which holds dates and names beside the
geometry, only the listed entries stay; it is written anew.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

# Private creator -> group -> the low byte of the element. Numbers and codes only, no text that a person types.
# From the makers' DICOM conformance statements and PS3.15 Table E.3.10-1.
SAFE: Mapping[tuple[str, int], frozenset[int]] = {
    ("SIEMENS MR HEADER", 0x0019): frozenset({0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x27, 0x28, 0x29}),
    ("SIEMENS CSA HEADER", 0x0029): frozenset({0x08, 0x10}),
    ("GEMS_ACQU_01", 0x0019): frozenset({0x23, 0x24, 0x27, 0xBB, 0xBC, 0xBD}),
    ("GEMS_PARM_01", 0x0043): frozenset({0x27, 0x39}),
    ("GEMS_SERS_01", 0x0025): frozenset({0x07}),
    ("Philips Imaging DD 001", 0x2001): frozenset({0x03, 0x04}),
    ("Philips MR Imaging DD 001", 0x2005): frozenset({0x0D, 0x0E, 0xB0, 0xB1, 0xB2}),
    ("Philips PET Private Group", 0x7053): frozenset({0x00, 0x09}),
    ("ELSCINT1", 0x01F1): frozenset({0x07, 0x26, 0x27}),
}
_CSA = ("SIEMENS CSA HEADER", 0x0029, 0x10)

_CSA_SAFE = frozenset(
    [
        "NumberOfImagesInMosaic",
        "SliceNormalVector",
        "B_value",
        "B_matrix",
        "DiffusionDirectionality",
        "DiffusionGradientDirection",
        "MosaicRefAcqTimes",
        "SliceThickness",
        "SpacingBetweenSlices",
        "PixelSpacing",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "Rows",
        "Columns",
        "PhaseEncodingDirectionPositive",
        "BandwidthPerPixelPhaseEncode",
        "ProtocolSliceNumber",
        "SliceMeasurementDuration",
        "RealDwellTime",
        "EchoTime",
        "RepetitionTime",
    ]
)
_MOST_ENTRIES = 1000
_NUMBER = re.compile(rb"[0-9+\-.eE ]*|YES|NO|NONE|DIRECTIONAL|ISOTROPIC")


def is_safe(creator: str, tag: int) -> bool:
    """Whether a private element (group << 16 | element) of a creator is on the list."""
    return tag & 0xFF in SAFE.get((creator, tag >> 16), ())


def is_csa(creator: str, tag: int) -> bool:
    """Whether it is Siemens' CSA image header, which is kept only in part (``clean_csa``)."""
    return (creator, tag >> 16, tag & 0xFF) == _CSA


def clean_csa(content: bytes) -> bytes | None:
    """A Siemens CSA header of the second kind ("SV10") with nothing but the safe entries' values; None for others.

    Layout (as readers know it; Siemens publishes none): magic, 4 bytes, the count, 77; then for each entry a name of
    64 bytes, its multiplicity, 4 bytes of type, a number, the count of items, 77; each item four numbers, the second
    its length, and its bytes up to a multiple of 4.
    """
    if content[:4] != b"SV10" or len(content) < 16:
        return None
    count = struct.unpack_from("<I", content, 8)[0]
    if not 0 < count <= _MOST_ENTRIES:
        return None
    kept, position = [b"SV10\x04\x03\x02\x01" + struct.pack("<II", count, 77)], 16
    try:
        for _ in range(count):
            entry, position = _entry(content, position)
            kept.append(entry)
    except (struct.error, ValueError):
        return None
    joined = b"".join(kept)
    return joined + bytes(len(joined) % 2)


def _entry(content: bytes, position: int) -> tuple[bytes, int]:
    name_field, multiplicity, kind, number, items, _ = struct.unpack_from("<64si4siii", content, position)
    position += 84
    name = name_field.split(b"\0")[0].decode("ascii", "replace")
    if not 0 <= items <= _MOST_ENTRIES:
        raise ValueError("not a count")
    values = []
    for _ in range(items):
        length = struct.unpack_from("<4i", content, position)[1]
        position += 16
        if not 0 <= length <= len(content) - position:
            raise ValueError("not a length")
        values.append(content[position : position + length])
        position += length + -length % 4
    if name not in _CSA_SAFE:
        # An entry's name is the maker's; one that is not known may be anything.
        return struct.pack("<64si4siii", b"", 0, b"UN\0\0", 0, 0, 77), position
    plain = [value.split(b"\0")[0] for value in values]
    plain = [value if _NUMBER.fullmatch(value) else b"" for value in plain]
    body = b"".join(struct.pack("<4i", len(v), len(v), 77, len(v)) + v + bytes(-len(v) % 4) for v in plain)
    head = struct.pack("<64si4siii", name.encode("ascii"), multiplicity, kind[:2] + b"\0\0", number, items, 77)
    return head + body, position
