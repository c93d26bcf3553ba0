"""PNG, and BMP with it."""

from __future__ import annotations

import struct
import zlib

from hostile.shared import ANY, add, add_cuts, add_flips, maker, noise, picture

MAGIC = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def header(width: int, height: int, depth: int = 8, colour: int = 0, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


END = chunk(b"IEND", b"")


def png(width: int, height: int, pixels: bytes, *before: bytes, **fields: int) -> bytes:
    return MAGIC + header(width, height, **fields) + b"".join(before) + chunk(b"IDAT", zlib.compress(pixels)) + END


def whole_png() -> bytes:
    return png(16, 16, b"".join(b"\0" + bytes(range(row, row + 16)) for row in range(16)))


ROWS = b"".join(b"\0" + bytes(range(16)) for _ in range(16))

add("png_of_no_size", lambda: png(0, 0, b""))
add("png_of_no_width", lambda: png(0, 16, ROWS))
add("png_of_absurd_size", lambda: png(60_000, 60_000, b"\0" * 1000), [413])
add("png_of_the_largest_size", lambda: png(2**31 - 1, 2**31 - 1, b"\0"), [413])
add("png_of_a_size_beyond_the_format", lambda: png(2**32 - 1, 16, ROWS), [413, 422])
add("png_thin_and_endless", lambda: png(1, 2**31 - 1, b"\0\0"), [413])
add("png_bomb", lambda: png(12_000, 12_000, b"\0" * 12_001 * 200), [413])
add("png_with_too_few_pixels", lambda: png(500, 500, b"\0" * 100), [422])
add("png_with_too_many_pixels", lambda: png(16, 16, ROWS + b"\0" * 20_000_000), ANY)
add("png_of_depth_3", lambda: png(16, 16, ROWS, depth=3), [422])
add("png_of_colour_5", lambda: png(16, 16, ROWS, colour=5), [422])
add("png_of_colour_255", lambda: png(16, 16, ROWS, colour=255), [422])
add("png_interlaced_in_no_way", lambda: png(16, 16, ROWS, interlaced=7), ANY)
add("png_palette_missing", lambda: png(16, 16, ROWS, colour=3), ANY)
add("png_palette_too_short", lambda: png(16, 16, ROWS, chunk(b"PLTE", b"\1\2\3"), colour=3), ANY)
add("png_palette_of_odd_length", lambda: png(16, 16, ROWS, chunk(b"PLTE", b"\1\2\3\4"), colour=3), ANY)
add("png_filter_that_is_none", lambda: png(16, 16, b"".join(b"\x09" + bytes(16) for _ in range(16))))
add("png_header_twice", lambda: png(16, 16, ROWS, header(60_000, 60_000)), [413, 422])
add("png_without_data", lambda: MAGIC + header(16, 16) + END, [422])
add("png_without_header", lambda: MAGIC + chunk(b"IDAT", zlib.compress(ROWS)) + END, [422])
add("png_without_end", lambda: png(16, 16, ROWS)[:-12], ANY)
add("png_header_too_short", lambda: MAGIC + chunk(b"IHDR", b"\0\0\0\1") + END, [422])
add("png_chunk_without_end", lambda: MAGIC + header(16, 16) + b"\xff\xff\xff\xffIDAT" + noise(99), [422])
add("png_data_that_is_no_zlib", lambda: MAGIC + header(16, 16) + chunk(b"IDAT", noise(200)) + END, [422])
add("png_many_empty_chunks", lambda: MAGIC + header(16, 16) + chunk(b"IDAT", b"") * 20_000 + END, [422])
add("png_many_text_chunks", lambda: png(16, 16, ROWS, *[chunk(b"tEXt", b"k\0v")] * 20_000), ANY)
add("png_very_many_chunks", lambda: png(16, 16, ROWS, chunk(b"prVt", b"") * 400_000), [422])
add("png_transparency_of_odd_length", lambda: png(16, 16, ROWS, chunk(b"tRNS", b"\1")), ANY)
add("png_gamma_of_zero", lambda: png(16, 16, ROWS, chunk(b"gAMA", b"\0\0\0\0")), ANY)
add("png_html_in_its_text", lambda: png(16, 16, ROWS, chunk(b"tEXt", b"Comment\0<script>alert(1)</script>")), [200])
add("png_of_16_bits_half_there", lambda: png(64, 64, b"\0" * 64 * 65, depth=16), [422])
add("png_animated_without_end", lambda: png(16, 16, ROWS, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))), ANY)


@maker(*ANY)
def png_text_bomb() -> bytes:
    return png(16, 16, ROWS, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 45_000_000)))


@maker(*ANY)
def png_profile_bomb() -> bytes:
    return png(16, 16, ROWS, chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\0" * 45_000_000)))


@maker(422)
def png_with_a_wrong_checksum() -> bytes:
    content = bytearray(png(16, 16, b"\0" * 16 * 17))
    content[-20] ^= 0xFF
    return bytes(content)


def bmp(
    width: int = 16, height: int = 16, bits: int = 24, method: int = 0, offset: int = 54, rest: bytes = b""
) -> bytes:
    head = struct.pack("<IHHI", 54 + len(rest), 0, 0, offset)
    return b"BM" + head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, method, 0, 0, 0, 0, 0) + rest


add("bmp_of_absurd_size", lambda: bmp(2**30, 2**30, rest=bytes(60)), [413])
add("bmp_of_negative_size", lambda: bmp(-(2**31), -(2**31), rest=bytes(60)))
add("bmp_of_no_bits", lambda: bmp(bits=0, rest=bytes(800)), [422])
add("bmp_of_64_bits", lambda: bmp(bits=64, rest=bytes(4000)), [422])
add("bmp_pixels_elsewhere", lambda: bmp(offset=2**31, rest=bytes(800)), [422])
add("bmp_packed_noise", lambda: bmp(bits=8, method=1, offset=54, rest=noise(800)))
add("bmp_without_palette", lambda: bmp(bits=8, rest=noise(256)), ANY)
add("bmp_in_a_jpeg_way", lambda: bmp(method=4, rest=noise(800)))

add_cuts("png", lambda: picture("PNG"), [9, 30, 0.1, 0.4, 0.7, 0.95])
add_cuts("bmp", lambda: picture("BMP"), [20, 53, 0.3, 0.9])
add_flips("png", lambda: picture("PNG"), 8, 120)
add_flips("bmp", lambda: picture("BMP"), 5, 60)
