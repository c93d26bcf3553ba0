"""DICOM, built element by element, so that anything can be wrong with it. PS3.5 section 7, PS3.10 section 7."""

from __future__ import annotations

import struct
import zlib

from hostile.shared import ANY, REFUSED, add, add_cuts, add_flips, maker, noise, picture

LITTLE, BIG, IMPLICIT, DEFLATED = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1.99",
)
JPEG, JPEG_LOSSLESS, JPEG_LS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"
JPEG_2000, HTJ2K, RLE, MPEG4 = (
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.102",
)
CT = "1.2.840.10008.5.1.4.1.1.2"
LONG_FORM = {"OB", "OW", "SQ", "UN", "UT", "OF", "OD", "UC", "UR", "OL"}
UNDEFINED = 0xFFFFFFFF
Element = tuple[int, int, str, bytes]


def element(group: int, number: int, kind: str, value: bytes, length: int | None = None) -> bytes:
    """Explicit little endian."""
    size = len(value) if length is None else length
    head = struct.pack("<HH", group, number) + kind.encode()
    return head + (struct.pack("<HI", 0, size) if kind in LONG_FORM else struct.pack("<H", size & 0xFFFF)) + value


def text(value: str, pad: bytes = b" ") -> bytes:
    content = value.encode("latin-1")
    return content + pad * (len(content) % 2)


def uid(value: str) -> bytes:
    return text(value, b"\0")


def short(value: int) -> bytes:
    return struct.pack("<H", value)


PIXELS = struct.pack("<768h", *(1000 + index % 300 for index in range(768)))
GOOD: dict[tuple[int, int], tuple[str, bytes]] = {
    (0x0008, 0x0016): ("UI", uid(CT)),
    (0x0008, 0x0018): ("UI", uid("1.2.826.0.1.3680043.8.498.1")),
    (0x0008, 0x0060): ("CS", text("CT")),
    (0x0018, 0x0050): ("DS", text("5")),
    (0x0020, 0x000D): ("UI", uid("1.2.826.0.1.3680043.8.498.2")),
    (0x0020, 0x000E): ("UI", uid("1.2.826.0.1.3680043.8.498.3")),
    (0x0020, 0x0032): ("DS", text("0\\0\\0")),
    (0x0020, 0x0037): ("DS", text("1\\0\\0\\0\\1\\0")),
    (0x0028, 0x0002): ("US", short(1)),
    (0x0028, 0x0004): ("CS", text("MONOCHROME2")),
    (0x0028, 0x0010): ("US", short(24)),
    (0x0028, 0x0011): ("US", short(32)),
    (0x0028, 0x0030): ("DS", text("0.7\\0.9")),
    (0x0028, 0x0100): ("US", short(16)),
    (0x0028, 0x0101): ("US", short(16)),
    (0x0028, 0x0102): ("US", short(15)),
    (0x0028, 0x0103): ("US", short(1)),
    (0x0028, 0x1052): ("DS", text("-1024")),
    (0x0028, 0x1053): ("DS", text("1")),
    (0x7FE0, 0x0010): ("OW", PIXELS),
}
NAMES = {
    "class": (0x0008, 0x0016),
    "instance": (0x0008, 0x0018),
    "modality": (0x0008, 0x0060),
    "position": (0x0020, 0x0032),
    "orientation": (0x0020, 0x0037),
    "samples": (0x0028, 0x0002),
    "colours": (0x0028, 0x0004),
    "planar": (0x0028, 0x0006),
    "frames": (0x0028, 0x0008),
    "rows": (0x0028, 0x0010),
    "columns": (0x0028, 0x0011),
    "spacing": (0x0028, 0x0030),
    "allocated": (0x0028, 0x0100),
    "stored": (0x0028, 0x0101),
    "high": (0x0028, 0x0102),
    "signed": (0x0028, 0x0103),
    "intercept": (0x0028, 0x1052),
    "slope": (0x0028, 0x1053),
    "charset": (0x0008, 0x0005),
    "pixels": (0x7FE0, 0x0010),
}
Change = tuple[str, bytes] | None


def meta(syntax: str | None) -> bytes:
    body = element(2, 2, "UI", uid(CT)) + element(2, 3, "UI", uid("1.2.3"))
    if syntax is not None:
        body += element(2, 0x10, "UI", uid(syntax))
    return element(2, 0, "UL", struct.pack("<I", len(body))) + body


def dataset(more: bytes = b"", **changes: Change) -> bytes:
    """The good slice with other elements; None leaves one out; ``more`` comes before the pixels."""
    values: dict[tuple[int, int], Change] = {**GOOD, **{NAMES[name]: change for name, change in changes.items()}}
    parts = [(tag, element(*tag, *value)) for tag, value in sorted(values.items()) if value is not None]
    before = b"".join(content for tag, content in parts if tag < (0x7FE0, 0))
    return before + more + b"".join(content for tag, content in parts if tag >= (0x7FE0, 0))


def dicom(
    body: bytes | None = None, syntax: str | None = LITTLE, preamble: bytes = bytes(128), **changes: Change
) -> bytes:
    return preamble + b"DICM" + meta(syntax) + (dataset(**changes) if body is None else body)


def dicom_with(more: bytes, **changes: Change) -> bytes:
    """The good slice with these elements before its pixels."""
    return dicom(dataset(more, **changes))


def bad(name: str, kind: str, *values: bytes | None, statuses: object = ANY) -> None:
    for number, value in enumerate(values):
        change: Change = None if value is None else (kind, value)
        add(f"dicom_{name}_{number}", lambda change=change: dicom(**{name: change}), statuses)  # type: ignore[arg-type]


bad("rows", "US", None, short(0), short(65_535), b"", b"\1")
bad("columns", "US", None, short(0), short(65_535))
bad("samples", "US", None, short(0), short(2), short(65_535))
bad("allocated", "US", None, short(0), short(7), short(1), short(64), short(65_535))
bad("stored", "US", short(0), short(17), short(65_535))
bad("high", "US", short(0), short(99))
bad("signed", "US", None, short(7))
bad("colours", "CS", None, text("PALETTE COLOR"), text("YBR_FULL_422"), text("MOON"), b"")
bad(
    "frames", "IS", text("100000"), text("2147483647"), text("-1"), text("0"), text("abc"), text("99999999999999999999")
)
bad(
    "spacing", "DS", None, text("nan\\nan"), text("0\\0"), text("-1\\-1"), text("1e308\\1e308"), text("a\\b"), text("1")
)
bad("position", "DS", None, text("nan\\0\\0"), text("1\\2"), text("inf\\0\\0"), text("x\\y\\z"))
bad(
    "orientation",
    "DS",
    None,
    text("0\\0\\0\\0\\0\\0"),
    text("nan\\0\\0\\0\\1\\0"),
    text("1\\0\\0\\1\\0\\0"),
    text("1\\0"),
)
bad("slope", "DS", text("nan"), text("0"), text("1e400"), text("-inf"), text("abc"), text("9" * 60))
bad("intercept", "DS", text("nan"), text("1e308"), text("1\\2\\3"))
bad("charset", "CS", text("ISO_IR 9999"), text("\\ISO 2022 IR 87"), noise(30))
bad(
    "class",
    "UI",
    None,
    uid("1.2.840.10008.5.1.4.1.1.88.11"),
    uid("1.2.840.10008.5.1.4.1.1.104.1"),
    uid("x.y"),
    noise(64),
)
bad("pixels", "OW", None, b"", PIXELS[:-1], PIXELS[:10], PIXELS * 3)
add("dicom_pixels_as_text", lambda: dicom(pixels=("UT", PIXELS)), ANY)
add("dicom_pixels_as_floats", lambda: dicom(pixels=("OF", PIXELS)), ANY)

# A value representation that does not fit (PS3.5 section 6.2).
for _name, _kind, _value in (
    ("rows", "LO", b"abcd"),
    ("rows", "SQ", b""),
    ("rows", "FD", struct.pack("<d", 24.0)),
    ("rows", "UN", short(24)),
    ("rows", "OB", short(24)),
    ("spacing", "FD", struct.pack("<dd", float("nan"), 1.0)),
    ("slope", "SQ", b""),
    ("slope", "US", short(1)),
    ("frames", "US", short(3)),
    ("class", "SQ", b""),
    ("position", "PN", b"Doe^Jane"),
    ("allocated", "ZZ", short(16)),
):
    add(f"dicom_{_name}_as_{_kind}", lambda n=_name, k=_kind, v=_value: dicom(**{n: (k, v)}), ANY)

for _number, _syntax in enumerate(
    ("1.2.3", "", "not a uid", "1.2.840.10008.1.2.4.9999", "9" * 64, "1.2.840.10008.1.2.1 ")
):
    add(f"dicom_syntax_{_number}", lambda syntax=_syntax: dicom(syntax=syntax), ANY)
add("dicom_syntax_missing", lambda: dicom(syntax=None), ANY)
add("dicom_little_said_to_be_big", lambda: dicom(syntax=BIG), REFUSED)
add("dicom_explicit_said_to_be_implicit", lambda: dicom(syntax=IMPLICIT), ANY)


def encapsulated(*fragments: bytes, table: bytes = b"", end: bool = True) -> bytes:
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(each)) + each for each in (table, *fragments))
    return items + (struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if end else b"")


def packed(syntax: str, *fragments: bytes, table: bytes = b"", end: bool = True) -> bytes:
    pixels = element(0x7FE0, 0x0010, "OB", encapsulated(*fragments, table=table, end=end), UNDEFINED)
    return dicom(dataset(pixels=None) + pixels, syntax)


for _name, _syntax in (
    ("jpeg", JPEG),
    ("jpeg_lossless", JPEG_LOSSLESS),
    ("jpeg_ls", JPEG_LS),
    ("jpeg_2000", JPEG_2000),
    ("htj2k", HTJ2K),
    ("rle", RLE),
    ("video", MPEG4),
):
    add(f"dicom_{_name}_of_noise", lambda syntax=_syntax: packed(syntax, noise(400)), REFUSED)
    add(f"dicom_{_name}_of_nothing", lambda syntax=_syntax: packed(syntax), REFUSED)
add("dicom_jpeg_cut", lambda: packed(JPEG, picture("JPEG", (24, 32))[:200]), ANY)
add("dicom_jpeg_of_another_size", lambda: packed(JPEG, picture("JPEG", (48, 64))), ANY)
add("dicom_jpeg_in_raw_pixels", lambda: dicom(syntax=JPEG), REFUSED)
add("dicom_jpeg_2000_of_absurd_size", lambda: packed(JPEG_2000, _codestream(2**31 - 1)), REFUSED)
add("dicom_jpeg_2000_of_tiny_tiles", lambda: packed(JPEG_2000, _codestream(4000, tile=1)), REFUSED)
add(
    "dicom_rle_offsets_elsewhere",
    lambda: packed(RLE, struct.pack("<16I", 2, 64, 2**31, *[0] * 13) + noise(90)),
    REFUSED,
)
add("dicom_rle_of_1000_segments", lambda: packed(RLE, struct.pack("<16I", 1000, *[64] * 15) + noise(90)), REFUSED)
add("dicom_rle_bomb", lambda: packed(RLE, struct.pack("<16I", 2, 64, 64, *[0] * 13) + b"\x81\0" * 500_000), ANY)
add("dicom_fragment_without_end", lambda: packed(JPEG, picture("JPEG", (24, 32)), end=False), ANY)
add("dicom_offset_table_of_noise", lambda: packed(RLE, noise(100), table=noise(400)), REFUSED)
add("dicom_very_many_fragments", lambda: packed(JPEG_2000, *[b"\0\0"] * 400_000), [422])


def _codestream(size: int, tile: int | None = None) -> bytes:
    side = size if tile is None else tile
    area = struct.pack(">HIIIIIIIIH", 0, size, size, 0, 0, side, side, 0, 0, 1) + b"\x0f\1\1"
    coding = b"\0\0\0\1\0\1\4\4\0\0"
    return b"\xff\x4f" + b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
        for marker, body in ((0x51, area), (0x52, coding), (0x5C, b"\x40\x40\x48"))
    )


def item(content: bytes, length: int | None = UNDEFINED) -> bytes:
    size = len(content) if length is None else length
    return struct.pack("<HHI", 0xFFFE, 0xE000, size) + content + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)


def nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = element(0x0040, 0xA730, "SQ", item(content) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), UNDEFINED)
    return content


add("dicom_sequence_in_sequence", lambda: dicom_with(nested(40)), ANY)
add("dicom_sequences_2000_deep", lambda: dicom_with(nested(2000)), ANY)
add("dicom_sequence_without_end", lambda: dicom_with(element(0x0040, 0xA730, "SQ", item(b""), UNDEFINED)), ANY)
add("dicom_item_without_end", lambda: dicom_with(element(0x0040, 0xA730, "SQ", item(b"")[:8], UNDEFINED)), ANY)
add("dicom_item_longer_than_the_file", lambda: dicom_with(element(0x0040, 0xA730, "SQ", item(b"", 2**31))), ANY)
add("dicom_text_of_undefined_length", lambda: dicom_with(element(0x0040, 0xA160, "UT", b"abc", UNDEFINED)), ANY)
add("dicom_element_longer_than_the_file", lambda: dicom_with(element(0x0040, 0xA160, "UT", b"abc", 0xFFFFFFF0)), ANY)
add("dicom_pixels_longer_than_the_file", lambda: dicom(dataset(pixels=None) + element(0x7FE0, 0x10, "OW", b"", 2**31)))
add(
    "dicom_pixels_of_undefined_length",
    lambda: dicom(dataset(pixels=None) + element(0x7FE0, 0x10, "OW", PIXELS, UNDEFINED)),
)
add("dicom_very_many_elements", lambda: dicom(dataset(element(0x0041, 0x1001, "LO", b"ab") * 800_000)), [422])
add("dicom_very_many_items", lambda: dicom(dataset(_items(400_000))), [422])
add(
    "dicom_very_many_elements_deflated", lambda: _deflated(dataset(element(0x0041, 0x1001, "LO", b"") * 800_000)), [422]
)
add("dicom_the_same_element_twice", lambda: dicom_with(element(0x0028, 0x0010, "US", short(60_000))), ANY)
add("dicom_elements_of_noise", lambda: dicom(noise(2000)))
add("dicom_element_of_no_group", lambda: dicom_with(element(0xFFFF, 0xFFFF, "LO", b"ab")), ANY)
add(
    "dicom_group_length_that_lies",
    lambda: dicom().replace(meta(LITTLE)[:12], element(2, 0, "UL", b"\xff\xff\xff\x7f")),
    ANY,
)
add("dicom_of_only_a_preamble", lambda: bytes(128) + b"DICM", [422])
add("dicom_of_only_a_header", lambda: bytes(128) + b"DICM" + meta(LITTLE), REFUSED)
add("dicom_without_preamble", lambda: dataset(), ANY)
add(
    "dicom_palette_of_no_entries",
    lambda: dicom_with(_palette(b"\0\0\0\0\x10\0"), colours=("CS", text("PALETTE COLOR"))),
    ANY,
)
add("dicom_directory", lambda: bytes(128) + b"DICM" + meta(LITTLE).replace(uid(CT), uid("1.2.840.10008.1.3.10")[:26]))
add("dicom_overlay_elsewhere", lambda: dicom_with(element(0x6000, 0x0010, "US", short(65_535))), ANY)
add("dicom_with_a_program_in_front", lambda: dicom(preamble=b"MZ" + noise(126)), [200])
add("dicom_with_html_in_front", lambda: dicom(preamble=b"<script>alert(1)</script>".ljust(128)), [200])
add("dicom_with_tiff_in_front", lambda: dicom(preamble=b"II*\0\x08\0\0\0".ljust(128, b"\0")), ANY)


def _items(count: int) -> bytes:
    """A sequence of known length, which parsers leave alone until it is asked for."""
    return element(0x5200, 0x9230, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 0) * count)


def _palette(descriptor: bytes) -> bytes:
    parts = [element(0x0028, number, "US", descriptor) for number in (0x1101, 0x1102, 0x1103)]
    return b"".join(parts) + b"".join(element(0x0028, number, "OW", b"") for number in (0x1201, 0x1202, 0x1203))


def _deflated(body: bytes) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return bytes(128) + b"DICM" + meta(DEFLATED) + engine.compress(body) + engine.flush()


add("dicom_deflated_noise", lambda: dicom(noise(2000), DEFLATED), REFUSED)
add("dicom_deflated_and_cut", lambda: _deflated(dataset())[:-100], REFUSED)
add("dicom_deflated_bomb", lambda: _deflated(bytes(45_000_000)), [413, 422])


@maker(413, 422)
def dicom_deflated_bomb_behind_a_slice() -> bytes:
    return _deflated(dataset() + element(0x7FE1, 0x0010, "OB", bytes(45_000_000)))


add_cuts("dicom", dicom, [131, 140, 300, 0.3, 0.9])
add_flips("dicom", dicom, 16, 900)
