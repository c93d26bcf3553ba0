"""Counting before parsing: real files pass, whatever they are; what has too many parts is refused in a moment."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image as Picture

from hostile.dicoms import BIG, DEFLATED, IMPLICIT, LITTLE, dataset, dicom, element, encapsulated, item, meta
from hostile.pngs import chunk, whole_png
from medrail.errors import MedrailError, ReadError
from medrail.read import sniff
from medrail.serve import parts
from medrail.serve.parts import check_parts


@pytest.fixture
def check(tmp_path: Path) -> Callable[[str, bytes], None]:
    def checked(kind: str, content: bytes) -> None:
        path = tmp_path / "file"
        path.write_bytes(content)
        check_parts(path, kind)

    return checked


def test_real_dicom_passes() -> None:
    """Every file that pydicom ships: enhanced, deflated, implicit, big-endian, encapsulated, broken."""
    count = 0
    for path in sorted((Path(pydicom.__file__).parent / "data").rglob("*.dcm")):
        try:
            kind = sniff(path)
        except MedrailError:
            continue
        check_parts(path, kind)
        count += kind == "dicom"
    assert count > 20


@pytest.mark.parametrize("limit", [5, 29, 30])
def test_elements_are_counted_in_every_encoding(check, monkeypatch, limit) -> None:
    """20 elements of the slice, and ten more: in items, in sequences of either length, in fragments."""
    monkeypatch.setattr(parts, "MOST_ELEMENTS", limit)
    ten = element(0x0041, 0x1001, "LO", b"ab") * 10
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    inside = element(0x0040, 0xA730, "SQ", item(ten, None) + end, 0xFFFFFFFF)
    known = element(0x0040, 0xA730, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(ten)) + ten)
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = bytes(128) + b"DICM" + meta(DEFLATED) + engine.compress(dataset(ten)) + engine.flush()
    fragments = element(0x7FE0, 0x0010, "OB", encapsulated(*[b"\0\0"] * 10), 0xFFFFFFFF)
    files = [
        dicom(dataset(ten)),
        dicom(dataset(inside)),
        dicom(dataset(known)),
        deflated,
        dicom(dataset(pixels=None) + fragments),
        dataset(ten),
    ]
    for content in files:
        with pytest.raises(ReadError, match="elements"):
            check("dicom", content)
    monkeypatch.setattr(parts, "MOST_ELEMENTS", 100)
    for content in files:
        check("dicom", content)


def _in(order: str, *, implicit: bool) -> bytes:
    dataset_ = pydicom.Dataset()
    dataset_.Rows, dataset_.Columns, dataset_.PatientName = 4, 4, "x"
    dataset_.ReferencedImageSequence = [pydicom.Dataset() for _ in range(20)]
    for each in dataset_.ReferencedImageSequence:
        each.ReferencedSOPInstanceUID = "1.2.3"
    buffer = pydicom.filebase.DicomBytesIO()
    pydicom.dcmwrite(buffer, dataset_, implicit_vr=implicit, little_endian=order == "<", enforce_file_format=False)
    syntax = IMPLICIT if implicit else LITTLE if order == "<" else BIG
    return bytes(128) + b"DICM" + meta(syntax) + buffer.getvalue()


@pytest.mark.parametrize(("order", "implicit"), [("<", True), ("<", False), (">", False)])
def test_items_count_in_either_byte_order(check, monkeypatch, order, implicit) -> None:
    content = _in(order, implicit=implicit)
    check("dicom", content)
    monkeypatch.setattr(parts, "MOST_ELEMENTS", 30)
    with pytest.raises(ReadError, match="elements"):
        check("dicom", content)


def test_what_is_not_understood_may_be_small_only(check, monkeypatch) -> None:
    odd = dicom(dataset(struct.pack("<HH2sH", 0x0019, 0x0010, b"??", 4) + bytes(4000)))
    check("dicom", odd)
    monkeypatch.setattr(parts, "MOST_BYTES_ODD", 1000)
    with pytest.raises(ReadError, match="not understood"):
        check("dicom", odd)


def test_pictures_of_many_chunks_scans_and_pages(check, monkeypatch) -> None:
    check("png", whole_png())
    buffer = io.BytesIO()
    Picture.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(buffer, "JPEG", progressive=True)
    check("jpeg", buffer.getvalue())
    stack = io.BytesIO()
    tifffile.imwrite(stack, np.zeros((30, 16, 16), np.uint8), photometric="minisblack", metadata=None)
    check("tiff", stack.getvalue())
    large = io.BytesIO()
    tifffile.imwrite(large, np.zeros((30, 16, 16), np.uint8), photometric="minisblack", metadata=None, bigtiff=True)
    check("tiff", large.getvalue())
    monkeypatch.setattr(parts, "MOST_CHUNKS", 20)
    monkeypatch.setattr(parts, "MOST_SCANS", 3)
    monkeypatch.setattr(parts, "MOST_PAGES", 20)
    many = whole_png()[:33] + chunk(b"prVt", b"") * 20 + whole_png()[33:]
    for kind, content in (
        ("png", many),
        ("jpeg", buffer.getvalue()),
        ("tiff", stack.getvalue()),
        ("tiff", large.getvalue()),
    ):
        with pytest.raises(ReadError, match="more than"):
            check(kind, content)


def test_tiles_may_each_be_a_jpeg(check) -> None:
    """120 tiles have 120 scans, and are one picture."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((160, 192, 3), np.uint8), tile=(16, 16), compression="jpeg", photometric="rgb")
    assert buffer.getvalue().count(b"\xff\xda") > parts.MOST_SCANS
    check("tiff", buffer.getvalue())
