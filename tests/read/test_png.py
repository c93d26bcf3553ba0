"""PNGs by libdeflate and a compiled loop, or in colour by libspng: Pillow's pixels, and Pillow's refusals."""

from __future__ import annotations

import functools
import io
import itertools
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageOps
from PIL.PngImagePlugin import PngInfo

from medrail.errors import CorruptFile, MedrailError, ReadError
from medrail.read import png, read

SAMPLES = {0: 1, 2: 3, 6: 4}


@pytest.fixture(autouse=True, params=["compiled", "libspng"])
def decoder(request, monkeypatch):
    """Both ways, whatever else of numba this process has loaded."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        assert png.load_compiled()
        monkeypatch.setattr(png, "_by_libspng", None)
    else:
        monkeypatch.setattr(png, "sys", type("NoModules", (), {"modules": {}}))
    return request.param


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def file_of(width: int, height: int, colour: int, rows: bytes, *, before: bytes = b"", parts: int = 1) -> bytes:
    compressed = zlib.compress(rows, 1)
    cuts = [len(compressed) * n // parts for n in range(parts + 1)]
    data = b"".join(chunk(b"IDAT", compressed[a:b]) for a, b in itertools.pairwise(cuts))
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + data + chunk(b"IEND", b"")


def by_pillow(content: bytes) -> np.ndarray:
    """(C, H, W), upright, without alpha."""
    with Pillow.open(io.BytesIO(content)) as picture:
        picture.load()
        picture = ImageOps.exif_transpose(picture)
        picture = picture if picture.mode == "L" else picture.convert("RGB")
        pixels = np.asarray(picture)
    return np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), -1, 0)


def quickly(content: bytes) -> np.ndarray:
    found = png.decode_png(content)
    if png.sys is not sys and content[25] == 0:
        assert found is None, "grey is left to Pillow where numba is not loaded"
        return by_pillow(content)
    assert found is not None, "Pillow was not to be asked"
    return found


@settings(deadline=None)  # the loop may have to be compiled first
@given(
    st.integers(1, 9),
    st.integers(1, 13),
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.integers(0, 4), min_size=13, max_size=13),
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
)
def test_every_filter_is_undone_as_pillow_does(width, height, colour, filters, seed, parts):
    rng, row = np.random.default_rng(seed), width * SAMPLES[colour]
    smooth = rng.integers(0, 2, 1)[0]  # noise meets all jumps of Paeth, smooth rows its ties
    rows = b"".join(
        bytes([kind]) + rng.integers(0, 3 if smooth else 256, row).astype("u1").tobytes() for kind in filters
    )
    content = file_of(width, height, colour, rows[: height * (1 + row)], parts=parts)
    np.testing.assert_array_equal(quickly(content), by_pillow(content))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_what_is_written_is_read(mode, level, tmp_path):
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (67, 45, 4), dtype=np.uint8), (5, 5), 0)
    picture = Pillow.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "a.png", compress_level=level)
    content = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(quickly(content), by_pillow(content))
    np.testing.assert_array_equal(read(tmp_path / "a.png").voxels[:, 0], by_pillow(content))


@pytest.mark.shared
def test_micrographs_are_read_as_pillow_reads_them(shared_data):
    for path in sorted((shared_data / "nuclei").rglob("*.png"))[::20]:
        with Pillow.open(path) as picture:
            eight_bits = picture.mode in ("L", "RGB", "RGBA")
        if eight_bits:
            np.testing.assert_array_equal(read(path).voxels[:, 0], by_pillow(path.read_bytes()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_found_before_and_behind_the_pixels(orientation, tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    body = exif.tobytes()[6:]
    rows = b"".join(b"\0" + bytes(range(20 * y, 20 * y + 6)) for y in range(5))
    before = file_of(6, 5, 0, rows, before=chunk(b"eXIf", body))
    plain = file_of(6, 5, 0, rows)
    behind = plain[:-12] + chunk(b"eXIf", body) + plain[-12:]
    assert png.decode_png(behind) is None
    for content in (before, behind):
        (tmp_path / "a.png").write_bytes(content)
        np.testing.assert_array_equal(read(tmp_path / "a.png").voxels[:, 0], by_pillow(content))


def test_text_and_colour_notes_are_passed_over():
    notes, content = PngInfo(), io.BytesIO()
    notes.add_text("Software", "x")
    notes.add(b"gAMA", struct.pack(">I", 45455))
    picture = Pillow.fromarray(np.arange(120, dtype=np.uint8).reshape(10, 12))
    picture.save(content, "PNG", pnginfo=notes, dpi=(300, 300), transparency=7)
    np.testing.assert_array_equal(quickly(content.getvalue()), by_pillow(content.getvalue()))


@pytest.mark.parametrize("spoilt", ["short", "filter", "checksum", "bomb"])
def test_what_is_broken_inside_right_chunks_is_refused_or_left_to_pillow(spoilt, tmp_path):
    rows = bytearray(b"".join(b"\1" + bytes(range(24)) for _ in range(6)))
    content = file_of(8, 6, 2, bytes(rows))
    if spoilt == "short":
        content = file_of(8, 6, 2, bytes(rows[:-1]))
    elif spoilt == "filter":
        rows[25] = 5
        content = file_of(8, 6, 2, bytes(rows))
    elif spoilt == "checksum":
        at = content.index(b"IDAT") + 4
        content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    else:
        content = file_of(60_000, 60_000, 2, bytes(rows))
    assert png.decode_png(content) is None
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ReadError if spoilt == "bomb" else CorruptFile):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("rows", [4, 6])
def test_more_or_fewer_rows_than_declared_are_left_to_pillow(rows, decoder):
    content = file_of(8, 5, 2, (b"\1" + bytes(range(24))) * rows)
    if decoder == "compiled" or rows < 5:
        assert png.decode_png(content) is None
    else:
        np.testing.assert_array_equal(quickly(content), by_pillow(content))


@functools.cache
def whole(mode: str) -> bytes:
    rng, content = np.random.default_rng(1), io.BytesIO()
    pixels = cv2.GaussianBlur(rng.integers(0, 256, (23, 37, 4), dtype=np.uint8), (5, 5), 0)
    Pillow.fromarray(pixels).convert(mode).save(content, "PNG")
    return content.getvalue()


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Bytes changed, taken out, or the end cut off; often with right checksums again, so that it goes on inside."""
    spoilt = bytearray(content)
    for _ in range(draw.choice([1, 1, 2])):
        at = draw.randrange(8, len(spoilt)) if draw.random() < 0.7 else draw.randrange(8, 60)
        if draw.random() < 0.8:
            spoilt[at] = draw.randrange(256)
        else:
            del spoilt[at : at + draw.randint(1, 9)]
    if draw.random() < 0.1:
        return bytes(spoilt[: draw.randint(8, len(spoilt))])
    return with_right_checksums(bytes(spoilt)) if draw.random() < 0.8 else bytes(spoilt)


def with_right_checksums(content: bytes) -> bytes:
    out, at = content[:8], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4])
        if at + 12 + length > len(content):
            return out + content[at:]
        out += chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + length])
        at += 12 + length
    return out + content[at:]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_mutated_files_are_read_as_pillow_reads_them_or_refused(mode, tmp_path):
    draw, path, outcomes = random.Random(3), tmp_path / "a.png", {"same": 0, "refused": 0}
    for _ in range(150):
        content = mutated(whole(mode), draw)
        path.write_bytes(content)
        try:
            found = read(path).voxels
        except MedrailError:
            outcomes["refused"] += 1
            continue
        with Pillow.open(io.BytesIO(content)) as picture:
            picture.load()  # what Pillow refuses is refused
            comparable = picture.mode in ("L", "RGB", "RGBA")
        if comparable:
            np.testing.assert_array_equal(found[:, 0], by_pillow(content))
        outcomes["same"] += 1
    assert outcomes["refused"] > 10, outcomes


def test_numba_is_not_loaded_by_reading(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(whole("RGB"))
    program = f"import sys; from medrail.read import read; read({str(tmp_path / 'a.png')!r}); "
    program += "sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
