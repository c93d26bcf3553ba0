"""Files that mean harm, or are just broken: a clear 4xx each, and nothing left behind."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import pytest

MAKERS: dict[str, tuple[Callable[[], bytes], set[int]]] = {}
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def maker(*statuses: int) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def register(make: Callable[[], bytes]) -> Callable[[], bytes]:
        MAKERS[make.__name__] = (make, set(statuses))
        return make

    return register


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return PNG_MAGIC + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels)) + _chunk(b"IEND", b"")


def _whole_png() -> bytes:
    return _png(16, 16, b"".join(b"\0" + bytes(range(row, row + 16)) for row in range(16)))


def _nifti_header(*extents: int) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(extents), *extents, *[1] * (7 - len(extents)))
    struct.pack_into("<hh", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    return bytes(header)


def _tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 10)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0" * 4


@maker(400)
def empty() -> bytes:
    return b""


@maker(415)
def html_page() -> bytes:
    return b"<!doctype html><html><script>alert(1)</script></html>"


@maker(422)
def html_behind_a_png_signature() -> bytes:
    return PNG_MAGIC + b"<html><script>alert(1)</script></html>"


@maker(415)
def svg() -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@maker(415)
def zip_of_pictures() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../escape.png", _png(8, 8, b"\0" * 72))
    return buffer.getvalue()


@maker(415)
def numpy_archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, train_images=np.zeros((4, 8, 8), np.uint8))
    return buffer.getvalue()


@maker(415)
def pickle() -> bytes:
    return b"\x80\x04\x95\x1b\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."


@maker(415)
def gif() -> bytes:
    return b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"


@maker(415)
def pdf() -> bytes:
    return b"%PDF-1.7\n1 0 obj <</Type /Catalog>> endobj\n"


@maker(415)
def random_bytes() -> bytes:
    return np.random.default_rng(0).bytes(4096)


@maker(415)
def text() -> bytes:
    return b"Patient: Jane Doe\n" * 10


@maker(422)
def truncated_png() -> bytes:
    return _png(64, 64, np.random.default_rng(1).bytes(64 * 65))[:200]


@maker(422)
def png_with_a_wrong_checksum() -> bytes:
    content = bytearray(_png(16, 16, b"\0" * 16 * 17))
    content[-20] ^= 0xFF
    return bytes(content)


@maker(413, 422)
def png_of_absurd_size() -> bytes:
    return _png(60_000, 60_000, b"\0" * 1000)


@maker(413, 422)
def png_of_the_largest_size() -> bytes:
    return _png(2**31 - 1, 2**31 - 1, b"\0")


@maker(422)
def png_of_no_size() -> bytes:
    return _png(0, 0, b"")


@maker(422)
def png_with_too_few_pixels() -> bytes:
    return _png(500, 500, b"\0" * 100)


@maker(422)
def jpeg_start_only() -> bytes:
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"


@maker(413, 422)
def jpeg_of_absurd_size() -> bytes:
    frame = struct.pack(">HBHHB", 17, 8, 65_000, 65_000, 3) + b"\x01\x22\0\x02\x11\x01\x03\x11\x01"
    return b"\xff\xd8\xff\xc0" + frame + b"\xff\xd9"


@maker(413, 422)
def tiff_of_absurd_size() -> bytes:
    return _tiff(100_000, 100_000)


@maker(422)
def tiff_without_directory() -> bytes:
    return b"II*\0" + struct.pack("<I", 2**31)


@maker(422)
def tiff_with_a_directory_loop() -> bytes:
    return b"II*\0" + struct.pack("<IHI", 8, 0, 8)


@maker(413, 422)
def bmp_of_absurd_size() -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHH", 100, 0, 0, 54, 40, 2**30, 2**30, 1, 24) + b"\0" * 60


@maker(413, 422)
def nifti_bomb() -> bytes:
    return gzip.compress(_nifti_header(30_000, 30_000, 30_000) + b"\0" * 1_000_000)


@maker(422)
def nifti_shorter_than_declared() -> bytes:
    return _nifti_header(20, 20, 20) + b"\0" * 100


@maker(422)
def nifti_of_negative_size() -> bytes:
    return _nifti_header(-5, 20, 20) + b"\0" * 100_000


@maker(422)
def nifti_of_eight_axes() -> bytes:
    content = bytearray(_nifti_header(4, 4, 4) + b"\0" * 1000)
    struct.pack_into("<h", content, 40, 30_000)
    return bytes(content)


@maker(422)
def truncated_gzip() -> bytes:
    rest = np.random.default_rng(2).bytes(40 * 40 * 40 * 4)
    return gzip.compress(_nifti_header(40, 40, 40) + rest)[:5000]


@maker(415)
def gzip_of_zeros() -> bytes:
    return gzip.compress(b"\0" * 10_000_000)


@maker(415)
def gzip_in_gzip() -> bytes:
    return gzip.compress(gzip.compress(_nifti_header(4, 4, 4)))


@maker(415)
def nrrd_that_points_elsewhere() -> bytes:
    return b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 4 4\nencoding: raw\ndata file: ../../../../etc/passwd\n\n"


@maker(415)
def metaimage_that_points_elsewhere() -> bytes:
    return b"ObjectType = Image\nNDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = /etc/passwd\n"


@maker(415)
def metaimage_that_lists_files() -> bytes:
    return (
        b"ObjectType = Image\nNDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = LIST\n/etc/passwd\n"
    )


@maker(413, 422)
def nrrd_of_absurd_size() -> bytes:
    return (
        b"NRRD0004\ntype: double\ndimension: 3\nsizes: 99999 99999 99999\nencoding: raw\nendian: little\n\n"
        + b"\0" * 50
    )


@maker(422)
def nrrd_without_sizes() -> bytes:
    return b"NRRD0004\ntype: uchar\n\n"


@maker(422)
def dicom_of_only_a_preamble() -> bytes:
    return b"\0" * 128 + b"DICM"


@maker(413, 422)
def deflated_dicom_bomb() -> bytes:
    syntax = b"1.2.840.10008.1.2.1.99"
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    group = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(element))
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = engine.compress(b"\0" * 200_000_000) + engine.flush()
    return b"\0" * 128 + b"DICM" + group + element + content


@maker(200)
def polyglot_of_png_and_zip() -> bytes:
    """A whole picture with an archive behind it: only ever read as the picture that it begins as."""
    return _whole_png() + zip_of_pictures()


@maker(200)
def polyglot_of_png_and_html() -> bytes:
    return _whole_png() + html_page()


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_hostile_upload(start, classifier, make_dicom, name: str) -> None:
    make, statuses = MAKERS[name]
    service = start(classifier, max_megavoxels=50)
    response = service.predict(make(), params={"preview": "true"})
    assert response.status_code in statuses, response.text
    if response.status_code != 200:
        problem = response.json()
        assert response.headers["content-type"] == "application/problem+json"
        assert set(problem) == {"type", "title", "status", "detail", "remedy", "request_id"}
        assert problem["status"] == response.status_code
        assert problem["remedy"]
        assert str(service.uploads) not in response.text
        assert "Traceback" not in response.text
    assert not service.left_over()
    assert service.predict(_whole_png()).status_code == 200


def test_absurd_dicom(start, classifier, make_dicom) -> None:
    service = start(classifier, max_megavoxels=50)
    response = service.predict(make_dicom(Rows=65_000, Columns=65_000))
    assert response.status_code == 413
    assert service.predict(make_dicom(NumberOfFrames=100_000)).status_code in (413, 422)
    assert service.predict(make_dicom()[:-500]).status_code == 422
    assert not service.left_over()


def test_every_truncation_of_a_picture_and_a_volume(start, classifier, volume_segmenter, blob_png, head_nifti) -> None:
    service = start(classifier, volume_segmenter)
    for model, content in (("chest", blob_png), ("brain", head_nifti.read_bytes())):
        for share in np.linspace(0.01, 0.9, 12):
            response = service.predict(content[: int(len(content) * share)], params={"model": model})
            assert response.status_code in (415, 422), (model, share, response.text)
    assert not service.left_over()


def test_flipped_bytes_never_break_the_service(start, classifier, blob_png, head_nifti, make_dicom) -> None:
    service = start(classifier, max_megavoxels=20)
    generator = np.random.default_rng(11)
    for content in (blob_png, head_nifti.read_bytes(), make_dicom()):
        for _ in range(15):
            damaged = bytearray(content)
            for place in generator.integers(0, min(len(damaged), 800), 6):
                damaged[place] = generator.integers(256)
            assert service.predict(bytes(damaged)).status_code in (200, 413, 415, 422)
    assert not service.left_over()
