"""NIfTI, plain and in gzip."""

from __future__ import annotations

import gzip
import struct
import zlib

from hostile.shared import ANY, VOLUME, add, add_cuts, add_flips, maker, noise

NAN, INF = float("nan"), float("inf")
SHAPE = (12, 14, 10)


def header(*extents: int, kind: int = 16, bits: int = 32, **fields: tuple[str, int, float]) -> bytes:
    """The 352 bytes; more fields as name=(format, offset, value)."""
    content = bytearray(352)
    struct.pack_into("<i", content, 0, 348)
    struct.pack_into("<8h", content, 40, len(extents), *extents, *[1] * (7 - len(extents)))
    struct.pack_into("<hh", content, 70, kind, bits)
    struct.pack_into("<8f", content, 76, *[1.0] * 8)
    struct.pack_into("<f", content, 108, 352.0)
    struct.pack_into("<hh", content, 252, 0, 1)
    for row in range(3):
        values = [0.0, 0.0, 0.0, -5.0]
        values[row] = 1.5
        struct.pack_into("<4f", content, 280 + 16 * row, *values)
    content[344:348] = b"n+1\0"
    for form, offset, value in fields.values():
        struct.pack_into(form, content, offset, value)
    return bytes(content)


def nifti(**fields: tuple[str, int, float]) -> bytes:
    """12 x 14 x 10 floats, with other values for some fields."""
    count = SHAPE[0] * SHAPE[1] * SHAPE[2]
    voxels = struct.pack(f"<{count}f", *(float(index % 97) for index in range(count)))
    return header(*SHAPE, **fields) + voxels


def bad(name: str, form: str, offset: int, *values: float, statuses: object = ANY) -> None:
    """The good volume with one field changed."""
    for value in values:

        def make(value: float = value) -> bytes:
            return nifti(field=(form, offset, value))

        add(f"nifti_{name}_{value:g}", make, statuses, VOLUME)  # type: ignore[arg-type]


bad("axes", "<h", 40, 0, -3, 8, 30_000)
bad("extent", "<h", 42, 0, -1, 32_767)
bad("kind", "<h", 70, 0, 1, 128, 32, 1536, 2304, 9999, -1)
bad("bits", "<h", 72, 0, 7, -32)
bad("spacing", "<f", 80, 0, -2.0, NAN, INF, 1e38, 1e-38)
bad("affine", "<f", 280, 3e6, statuses=[413])
bad("orientation_sign", "<f", 76, 0, NAN, 7)
bad("offset_of_voxels", "<f", 108, 0, 8, -352, NAN, INF, 1e9)
bad("slope", "<f", 112, NAN, INF, 1e38, 0)
bad("intercept", "<f", 116, NAN, INF)
bad("affine_code", "<h", 254, 99, -1)
bad("affine", "<f", 280, 0, NAN, INF, 1e38)
bad("units", "<B", 123, 255)
bad("header_size", "<i", 0, 0, 1, -348, 2**31 - 1)
bad("extension_flag", "<B", 348, 1)


def _extended(size: int) -> bytes:
    content = bytearray(header(*SHAPE, flag=("<B", 348, 1), offset=("<f", 108, 368.0)))
    return bytes(content) + struct.pack("<ii", size, 6) + bytes(8) + bytes(4 * 12 * 14 * 10)


for _size in (0, 16, -16, 7, 2**31 - 1):
    add(f"nifti_extension_of_{_size}", lambda size=_size: _extended(size), ANY, VOLUME)

add("nifti_pair", lambda: nifti()[:344] + b"ni1\0" + nifti()[348:], model=VOLUME)
add("nifti_header_only", lambda: nifti()[:352], [422], VOLUME)
add("nifti_of_seven_axes", lambda: header(2, 2, 2, 2, 2, 2, 2) + bytes(4 * 128), model=VOLUME)
add("nifti_shorter_than_declared", lambda: header(20, 20, 20) + bytes(100), [422], VOLUME)
add("nifti_of_nan", lambda: header(*SHAPE) + struct.pack("<f", NAN) * 1680, ANY, VOLUME)
add("nifti_of_infinity", lambda: header(*SHAPE) + struct.pack("<f", INF) * 1680, ANY, VOLUME)
add("nifti_of_one_value", lambda: header(*SHAPE) + bytes(4 * 1680), ANY, VOLUME)
add("nifti_bomb", lambda: gzip.compress(header(30_000, 30_000, 30_000) + bytes(1_000_000)), [413], VOLUME)
add("nifti_with_much_behind_it", lambda: gzip.compress(nifti() + bytes(30_000_000)), ANY, VOLUME)
add("nifti_gz_with_noise_behind_it", lambda: gzip.compress(nifti()) + noise(300), ANY, VOLUME)
add("nifti_gz_of_two_members", lambda: gzip.compress(nifti()[:999]) + gzip.compress(nifti()[999:]), ANY, VOLUME)
add("nifti_gz_wrong_checksum", lambda: gzip.compress(nifti())[:-8] + bytes(8), [422], VOLUME)
add("nifti_gz_in_gz", lambda: gzip.compress(gzip.compress(nifti())), [415], VOLUME)
add("gzip_of_zeros", lambda: gzip.compress(bytes(30_000_000)), [415], VOLUME)
add("gzip_header_only", lambda: b"\x1f\x8b\x08\0\0\0\0\0\0\3", [415], VOLUME)
add("gzip_of_noise", lambda: b"\x1f\x8b\x08\0\0\0\0\0\0\3" + noise(500), [415], VOLUME)
add("gzip_with_an_endless_name", lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\3" + b"n" * 2_000_000, [415], VOLUME)


@maker(*ANY, model=VOLUME)
def nifti_2_of_overflowing_size() -> bytes:
    content = bytearray(544)
    struct.pack_into("<i", content, 0, 540)
    content[4:12] = b"n+2\0\r\n\x1a\n"
    struct.pack_into("<hh", content, 12, 16, 32)
    struct.pack_into("<8q", content, 16, 3, 2**62, 2**62, 4, 1, 1, 1, 1)
    struct.pack_into("<q", content, 168, 544)
    return bytes(content) + bytes(1000)


@maker(*ANY, model=VOLUME)
def nifti_2_of_negative_size() -> bytes:
    content = bytearray(nifti_2_of_overflowing_size())
    struct.pack_into("<8q", content, 16, 3, -(2**62), 2, 4, 1, 1, 1, 1)
    return bytes(content)


@maker(413, 422, model=VOLUME)
def nifti_bomb_of_fitting_size() -> bytes:
    """Inflates to what it declares, which is more than is accepted."""
    engine = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [engine.compress(header(500, 500, 500, kind=2, bits=8))]
    parts += [engine.compress(bytes(1_000_000)) for _ in range(125)]
    return b"".join(parts) + engine.flush()


add_cuts("nifti", nifti, [3, 100, 347, 351, 0.3, 0.9], model=VOLUME)
add_cuts("nifti_gz", lambda: gzip.compress(nifti()), [9, 40, 0.3, 0.6, 0.95], model=VOLUME)
add_flips("nifti", nifti, 12, 352, model=VOLUME)
add_flips("nifti_gz", lambda: gzip.compress(nifti()), 6, 500, model=VOLUME)
