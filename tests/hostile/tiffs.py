"""TIFF."""

from __future__ import annotations

import struct
import zlib

from hostile.jpegs import jpeg
from hostile.shared import ANY, add, add_cuts, add_flips, maker, noise, picture

WIDTH, HEIGHT, BITS, METHOD, COLOUR, STRIPS, SAMPLES, ROWS, COUNTS = 256, 257, 258, 259, 262, 273, 277, 278, 279
SHORT, LONG = 3, 4


def tiff(changes: dict[int, int] | None = None, pixels: bytes = bytes(256), next_directory: int = 0) -> bytes:
    """16 x 16 grey pixels in one strip, with other values for some tags."""
    values = {
        WIDTH: 16,
        HEIGHT: 16,
        BITS: 8,
        METHOD: 1,
        COLOUR: 1,
        STRIPS: 0,
        SAMPLES: 1,
        ROWS: 16,
        COUNTS: len(pixels),
    }
    values.update(changes or {})
    end = 8 + 2 + 12 * len(values) + 4
    if not values[STRIPS]:
        values[STRIPS] = end
    body = b"".join(struct.pack("<HHII", tag, LONG, 1, value) for tag, value in sorted(values.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + body + struct.pack("<I", next_directory) + pixels


def _entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", tag, kind, count, value) + bytes(4)


add("tiff_of_absurd_size", lambda: tiff({WIDTH: 100_000, HEIGHT: 100_000}), [413])
add("tiff_of_the_largest_size", lambda: tiff({WIDTH: 2**32 - 1, HEIGHT: 2**32 - 1}), [413, 422])
add("tiff_of_no_size", lambda: tiff({WIDTH: 0}), [422])
add("tiff_without_directory", lambda: b"II*\0" + struct.pack("<I", 2**31), [422])
add("tiff_with_an_empty_directory_that_loops", lambda: b"II*\0" + struct.pack("<IHI", 8, 0, 8), [422])
add("tiff_with_a_directory_that_loops", lambda: tiff(next_directory=8), ANY)
add("tiff_of_no_bits", lambda: tiff({BITS: 0}))
add("tiff_of_63_bits", lambda: tiff({BITS: 63}))
add("tiff_of_65535_samples", lambda: tiff({SAMPLES: 65_535}))
add("tiff_of_no_samples", lambda: tiff({SAMPLES: 0}))
add("tiff_packed_in_no_way", lambda: tiff({METHOD: 9999}))
add("tiff_lzw_noise", lambda: tiff({METHOD: 5}, noise(256)))
add("tiff_deflated_noise", lambda: tiff({METHOD: 8}, noise(256)))
add("tiff_packbits_noise", lambda: tiff({METHOD: 32773}, noise(256)), ANY)
add("tiff_jpeg_noise", lambda: tiff({METHOD: 7}, b"\xff\xd8" + noise(256)))
add("tiff_fax_noise", lambda: tiff({METHOD: 4, BITS: 1}, noise(256)), ANY)
add("tiff_lzma_noise", lambda: tiff({METHOD: 34925}, noise(256)))
add("tiff_zstd_noise", lambda: tiff({METHOD: 50000}, noise(256)))
add("tiff_webp_noise", lambda: tiff({METHOD: 50001}, noise(256)))
add("tiff_deflated_bomb", lambda: tiff({METHOD: 8}, zlib.compress(b"\0" * 30_000_000)), ANY)
add("tiff_strip_elsewhere", lambda: tiff({STRIPS: 2**31}))
add("tiff_strip_without_end", lambda: tiff({COUNTS: 2**32 - 1}), ANY)
add("tiff_strip_that_is_the_header", lambda: tiff({STRIPS: 8}), ANY)
add("tiff_no_rows_a_strip", lambda: tiff({ROWS: 0}), ANY)
add("tiff_colours_of_none", lambda: tiff({COLOUR: 65_000}), ANY)
add("tiff_palette_missing", lambda: tiff({COLOUR: 3}), ANY)
add("tiff_tiles_of_no_size", lambda: tiff({322: 0, 323: 0, 324: 8, 325: 256}), ANY)
add("tiff_tiles_of_absurd_size", lambda: tiff({322: 2**31, 323: 2**31, 324: 8, 325: 256}), ANY)
add("tiff_floats_of_8_bits", lambda: tiff({339: 3}))
add("tiff_tag_without_end", lambda: _entry(WIDTH, LONG, 2**32 - 1, 8))
add("tiff_text_without_end", lambda: _entry(270, 2, 2**32 - 1, 8))
add("tiff_tag_of_no_kind", lambda: _entry(WIDTH, 99, 1, 8))
add("tiff_directory_within_itself", lambda: tiff({330: 8}), ANY)
add("tiff_planes_of_none", lambda: tiff({284: 9}), ANY)
add("tiff_of_65535_tags", lambda: b"II*\0" + struct.pack("<IH", 8, 65_535) + noise(12 * 200))
add("tiff_large_and_empty", lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**62) + bytes(40))
add("tiff_large_without_directory", lambda: b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63))
add("tiff_turned_bytes", lambda: b"MM" + tiff()[2:])
add("tiff_of_nan", lambda: tiff({BITS: 32, 339: 3}, struct.pack("<f", float("nan")) * 256), ANY)
add("tiff_of_infinity", lambda: tiff({BITS: 32, 339: 3}, struct.pack("<f", float("inf")) * 256), ANY)


@maker(422)
def tiff_of_very_many_pages() -> bytes:
    """30,000 directories, each of which a reader would look at."""
    content = bytearray(b"II*\0" + struct.pack("<I", 8))
    page = tiff()[8:-256]
    for index in range(30_000):
        at = len(content) + len(page)
        content += page[:-4] + struct.pack("<I", at if index < 29_999 else 0)
    return bytes(content) + bytes(256)


@maker(422)
def tiff_of_very_many_scans() -> bytes:
    scan = jpeg()
    at = scan.rindex(b"\xff\xda")
    return tiff({METHOD: 7}, scan[:-2] + scan[at:-2] * 300 + scan[-2:])


add_cuts("tiff", lambda: picture("TIFF"), [5, 9, 0.3, 0.9])
add_cuts("tiff_deflated", lambda: picture("TIFF", compression="tiff_adobe_deflate"), [0.2, 0.6, 0.98])
add_flips("tiff", tiff, 10, 130)
