"""Content decides; what is no image is named for what it is."""

from __future__ import annotations

import gzip
import zipfile

import pytest

from medrail.errors import CorruptFile, ReadError, UnsupportedFormat
from medrail.read import read, sniff

FOREIGN = {
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "an HTML or XML page": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "a text file": b"path,label\na.png,normal\n",
    "a GIF picture": b"GIF89a" + bytes(20),
    "a WebP picture": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    "a JPEG 2000 picture": b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    "a gzip file that holds no NIfTI": gzip.compress(b"hello" * 200),
    "an unknown kind of file": bytes(range(7, 207)),
    "a Python pickle": b"\x80\x02}q\x00.",
    "a FreeSurfer MGH volume": bytes.fromhex("00000001 00000100 00000100 00000100 00000001 00000000") + bytes(2000),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(40),
}


@pytest.mark.parametrize("looks_like", FOREIGN)
def test_what_is_no_image_is_named(looks_like, tmp_path):
    path = tmp_path / "scan.png"
    path.write_bytes(FOREIGN[looks_like])
    with pytest.raises(UnsupportedFormat, match=looks_like) as caught:
        read(path)
    assert "DICOM, NIfTI" in caught.value.needed
    assert str(path) in str(caught.value)


def test_a_packed_mgh_volume_is_named_too(tmp_path):
    path = tmp_path / "orig.mgz"
    path.write_bytes(gzip.compress(FOREIGN["a FreeSurfer MGH volume"]))
    with pytest.raises(UnsupportedFormat, match="a FreeSurfer MGH volume") as caught:
        read(path)
    assert "mri_convert" in caught.value.remedy


def test_zip_archives_are_told_from_documents(tmp_path):
    path = tmp_path / "scans"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.dcm", b"x")
    assert sniff(path) == "zip"
    with zipfile.ZipFile(tmp_path / "thesis.docx", "w") as archive:
        archive.writestr("[Content_Types].xml", b"x")
    with pytest.raises(UnsupportedFormat, match="Office document"):
        sniff(tmp_path / "thesis.docx")


def test_analyze_is_refused_with_its_reason(tmp_path):
    head = bytearray(348)
    head[0:4], head[38] = b"\x5c\x01\x00\x00", ord("r")
    path = tmp_path / "old.hdr"
    path.write_bytes(head)
    with pytest.raises(UnsupportedFormat, match="which side is left"):
        sniff(path)


def test_empty_files_are_corrupt(tmp_path):
    path = tmp_path / "scan.dcm"
    path.touch()
    with pytest.raises(CorruptFile, match="0 bytes"):
        sniff(path)


def test_folders_and_missing_files_have_no_format(tmp_path):
    with pytest.raises(UnsupportedFormat, match="folder"):
        sniff(tmp_path)
    with pytest.raises(ReadError, match="no such file"):
        sniff(tmp_path / "nothing")
