"""JPEG."""

from __future__ import annotations

import struct

from hostile.shared import ANY, add, add_cuts, add_flips, maker, noise, picture

START, END = b"\xff\xd8", b"\xff\xd9"


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def frame(width: int, height: int, marker: int = 0xC0, bits: int = 8, parts: int = 3) -> bytes:
    components = b"".join(bytes([index + 1, 0x22 if index == 0 else 0x11, 0]) for index in range(parts))
    return segment(marker, struct.pack(">BHHB", bits, height, width, parts) + components)


def jpeg(**options: object) -> bytes:
    return picture("JPEG", quality=90, **options)


def _after_start(inserted: bytes, content: bytes | None = None) -> bytes:
    content = content or jpeg()
    return content[:2] + inserted + content[2:]


def _with_size(width: int, height: int) -> bytes:
    content = bytearray(jpeg())
    at = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, at + 5, height, width)
    return bytes(content)


def _without(marker: int) -> bytes:
    content = jpeg()
    at = content.index(bytes([0xFF, marker]))
    (length,) = struct.unpack_from(">H", content, at + 2)
    return content[:at] + content[at + 2 + length :]


add("jpeg_start_only", lambda: START + b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0", [422])
add("jpeg_start_and_end", lambda: START + END, ANY - {200})
add("jpeg_of_absurd_size", lambda: START + frame(65_000, 65_000) + END, [413])
add("jpeg_of_no_size", lambda: _with_size(0, 0), [422])
add("jpeg_of_no_height", lambda: _with_size(64, 0))
add("jpeg_larger_than_its_data", lambda: _with_size(4000, 4000), ANY)
add("jpeg_of_the_largest_size", lambda: _with_size(65_535, 65_535), [413])
add("jpeg_of_a_size_that_is_too_large", lambda: _with_size(5000, 4000), [413])
add("jpeg_without_tables", lambda: _without(0xDB))
add("jpeg_without_codes", lambda: _without(0xC4), ANY)
add("jpeg_without_a_scan", lambda: START + frame(64, 48) + END, [422])
add("jpeg_of_12_bits", lambda: START + frame(64, 48, 0xC1, 12) + END, [422])
add("jpeg_of_255_parts", lambda: START + frame(64, 48, parts=80) + END)
add("jpeg_in_arithmetic_codes", lambda: jpeg().replace(b"\xff\xc0", b"\xff\xc9", 1), ANY)
add("jpeg_lossless", lambda: jpeg().replace(b"\xff\xc0", b"\xff\xc3", 1), ANY)
add("jpeg_hierarchical", lambda: jpeg().replace(b"\xff\xc0", b"\xff\xc5", 1))
add("jpeg_two_frames", lambda: _after_start(frame(60_000, 60_000)), [413, 422])
add("jpeg_segment_without_end", lambda: _after_start(b"\xff\xe1\xff\xff"), ANY)
add("jpeg_segment_of_no_length", lambda: _after_start(b"\xff\xe1\x00\x00"), ANY)
add("jpeg_many_comments", lambda: _after_start(segment(0xFE, b"x" * 8) * 5000), ANY)
add("jpeg_php_in_a_comment", lambda: _after_start(segment(0xFE, b"<?php system($_GET[0]); ?>")), [200])
add("jpeg_broken_exif", lambda: _after_start(segment(0xE1, b"Exif\0\0" + noise(200))), ANY)
add("jpeg_turned_in_no_way", lambda: jpeg(exif=_orientation(99)), ANY)
add("jpeg_profile_of_noise", lambda: _after_start(segment(0xE2, b"ICC_PROFILE\0\1\1" + noise(400))), ANY)
add("jpeg_four_colours", lambda: _after_start(segment(0xEE, b"Adobe\0\x64\0\0\0\0\2")), ANY)
add("jpeg_scan_of_noise", lambda: jpeg()[: jpeg().index(b"\xff\xda") + 14] + noise(4000) + END, ANY)


def _orientation(value: int) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + struct.pack("<I", value) + bytes(4)


@maker(*ANY)
def jpeg_exif_that_loops() -> bytes:
    return _after_start(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"))


@maker(422)
def jpeg_of_very_many_scans() -> bytes:
    """Each scan of a progressive picture is a pass over all of it: a small file, much work."""
    content = picture("JPEG", (1200, 1600, 3), quality=20, progressive=True)
    at = content.rindex(b"\xff\xda")
    return content[:-2] + content[at:-2] * 300 + END


add("jpeg_of_very_many_segments", lambda: _after_start(b"\xff\xe5\x00\x02" * 500_000), [422])
add_cuts("jpeg", jpeg, [3, 20, 0.2, 0.5, 0.8, 0.97], ANY)
add_flips("jpeg", jpeg, 10, 800)
