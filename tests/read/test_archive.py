"""Zips and DICOMDIRs: what is inside is read as if it lay in a folder; what would do harm is refused by name."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from medrail.errors import CorruptFile, MedrailError, ReadError
from medrail.read import archive as archive_module
from medrail.read import read, series_in
from medrail.read.archive import unpacked
from medrail.read.dicom.dicomdir import is_dicomdir, referenced


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where zips are unpacked."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def zipped(folder: Path, path: Path, prefix: str = "study/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{prefix}{file.relative_to(folder)}")
    return path


def test_a_series_in_a_zip_reads_as_from_its_folder(slices, save_slices, tmp_path, temporary):
    folder = save_slices(slices)
    path = zipped(folder, tmp_path / "study")  # no extension
    image, plain = read(path), read(folder)
    np.testing.assert_array_equal(image.voxels, plain.voxels)
    assert image.geometry.is_close(plain.geometry)
    assert image.unit == "HU"
    assert image.source == str(path)
    assert list(temporary.iterdir()) == []


def test_series_in_a_zip_are_named_as_in_their_folder(slices, save_slices, tmp_path):
    folder = save_slices(slices)
    path = zipped(folder, tmp_path / "study.zip")
    (inside,), (plain,) = series_in(path), series_in(folder)
    assert inside.item == plain.item
    assert inside.files[0] == path / "study" / plain.files[0].name
    np.testing.assert_array_equal(read(path, inside.item).voxels, read(folder).voxels)


def test_another_image_in_a_zip_is_read_alone_or_by_its_name(writers, anisotropic_image, tmp_path):
    file, _ = writers["nifti"](anisotropic_image, tmp_path)
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.write(file, "a/image.nii.gz")
        archive.writestr("readme.txt", "text")
    np.testing.assert_array_equal(read(tmp_path / "one.zip").voxels, anisotropic_image.voxels)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.write(file, "a/image.nii.gz")
        archive.write(file, "b/image.nii.gz")
    with pytest.raises(ReadError, match=r"2 other images: a/image\.nii\.gz, b/image\.nii\.gz"):
        read(tmp_path / "two.zip")
    np.testing.assert_array_equal(read(tmp_path / "two.zip", "b/image.nii.gz").voxels, anisotropic_image.voxels)


def test_errors_name_the_zip_and_not_a_folder_that_is_gone(slices, save_slices, tmp_path, temporary):
    del slices[2]
    path = zipped(save_slices(slices), tmp_path / "study.zip")
    with pytest.raises(MedrailError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert str(temporary) not in str(caught.value)


def leads_out(archive):
    archive.writestr("../escaped", b"x")


def leads_out_with_backslashes(archive):
    archive.writestr("a\\..\\..\\escaped", b"x")


def is_absolute(archive):
    archive.writestr("/tmp/escaped", b"x")


def has_a_drive(archive):
    archive.writestr("c:/escaped", b"x")


def has_a_link(archive):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, "/etc/passwd")


HARM = {
    leads_out: "leads out",
    leads_out_with_backslashes: "leads out",
    is_absolute: "leads out",
    has_a_drive: "leads out",
    has_a_link: "holds a link",
}


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_what_would_leave_its_folder_is_refused_before_anything_is_written(harm, tmp_path, temporary):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good", b"x")
        harm(archive)
    with pytest.raises(ReadError, match=HARM[harm]), unpacked(path):
        pass
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_bombs_are_refused_by_what_they_declare(tmp_path, temporary, monkeypatch):
    monkeypatch.setattr(archive_module, "_RATIO_COUNTS_FROM", 1 << 20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(4 << 20))
    with pytest.raises(ReadError, match="more than 100 times"), unpacked(path):
        pass
    monkeypatch.setattr(archive_module, "MAX_BYTES", 1 << 20)
    with pytest.raises(ReadError, match="unpacks to"), unpacked(path):
        pass
    monkeypatch.setattr(archive_module, "MAX_FILES", 0)
    with pytest.raises(ReadError, match="holds 1 files"), unpacked(path):
        pass
    assert list(temporary.iterdir()) == []


def test_a_member_that_lies_about_its_size_is_stopped(tmp_path, temporary):
    path = tmp_path / "lies.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 20))
    content = bytearray(path.read_bytes())
    size = (1 << 20).to_bytes(4, "little")
    for _ in range(2):
        at = content.index(size)
        content[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(bytes(content))
    with unpacked(path) as inside:  # zipfile reads as much as is declared; its checksum is wrong then
        assert [name.name for name, _ in inside.refused] == ["zeros"]
        assert list(inside.folder.iterdir()) == []


def test_an_encrypted_zip_is_refused(tmp_path):
    path = tmp_path / "secret.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x")
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ReadError, match="is encrypted"), unpacked(path):
        pass


def test_archives_inside_and_broken_members_are_named_and_the_rest_is_read(slices, save_slices, tmp_path):
    folder = save_slices(slices)
    inner = zipped(folder, tmp_path / "inner.zip")
    path = tmp_path / "outer.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "inner.zip")
        archive.writestr("broken", b"good content")
        archive.writestr(".hidden", b"x")
        archive.writestr("__MACOSX/._IM", b"x")
        for file in folder.iterdir():
            archive.write(file, f"series/{file.name}")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"good content", b"evil content"))
    with unpacked(path) as inside:
        refused = {name.relative_to(path).as_posix(): error.found for name, error in inside.refused}
        assert sorted(one.name for one in inside.folder.iterdir()) == ["series"]
    assert refused == {
        "inner.zip": "is an archive inside an archive",
        "broken": "is broken inside the zip",
    }
    assert read(path).grid == (5, 7, 11)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_zip_is_corrupt(keep, slices, save_slices, tmp_path):
    path = zipped(save_slices(slices), tmp_path / "study.zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CorruptFile):
        read(path)


def dicomdir(folder: Path, names: list[list[str]]) -> Path:
    records = []
    for parts in names:
        record = Dataset()
        with disable_value_validation():  # names as copies of CDs have them, and as no CD has
            record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", parts
        records.append(record)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.DirectoryRecordSequence = records
    path = folder / "DICOMDIR"
    with disable_value_validation():
        dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_dicomdir_reads_the_files_that_it_names(slices, save_slices, tmp_path):
    folder = save_slices(slices)
    names = sorted(file.name for file in folder.iterdir())
    (tmp_path / "series" / "other.dcm").write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    path = dicomdir(tmp_path, [["series", name] for name in names])
    assert is_dicomdir(path)
    assert not is_dicomdir(folder / names[0])
    image = read(path)
    assert image.grid == (5, 7, 11)
    (series,) = series_in(path)
    assert len(series.files) == 5


def test_its_names_lead_nowhere_else(slices, save_slices, tmp_path):
    folder = save_slices(slices, name="media/images")
    outside = tmp_path / "outside.dcm"
    shutil.copy(sorted(folder.iterdir())[0], outside)
    (folder / "link").symlink_to(outside)
    hostile = [["..", "outside.dcm"], ["images", "LINK"], ["images", "..", "..", "outside.dcm"], ["images", "gone"]]
    path = dicomdir(tmp_path / "media", [*hostile, ["IMAGES", "im0003"]])
    found, missing = referenced(path)
    assert [file.name for file in found] == ["IM0003"]
    assert [where.name for where, _ in missing] == ["DICOMDIR", "LINK", "DICOMDIR", "gone"]
    assert "names images/gone" in missing[-1][1].found
    assert "leads out" in missing[0][1].found
    with pytest.raises(MedrailError, match="no such file"):
        read(path)


def test_a_dicomdir_beside_its_files_is_no_image_and_no_refusal(slices, save_slices):
    folder = save_slices(slices)
    dicomdir(folder, [["x"]])
    assert read(folder).grid == (5, 7, 11)


def test_the_dicomdirs_of_pydicom_are_read_or_refused_by_name():
    for name in ("DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-implicit", "DICOMDIR-nopatient"):
        path = Path(str(get_testdata_file(f"dicomdirtests/{name}") or get_testdata_file(name)))
        found, missing = referenced(path)
        assert found
        assert all(file.is_file() for file in found)
        assert len(found) + len(missing) == len(
            [record for record in pydicom.dcmread(path).DirectoryRecordSequence if "ReferencedFileID" in record]
        )


def test_a_broken_dicomdir_is_refused(tmp_path, slices, save_slices):
    folder = save_slices(slices)
    path = dicomdir(tmp_path, [["series", file.name] for file in folder.iterdir()])
    content = path.read_bytes()
    for keep in (400, 500, len(content) - 30):
        path.write_bytes(content[:keep])
        with pytest.raises(MedrailError):
            read(path)


_WAITS = """
import sys, tempfile, time
from pathlib import Path
from medrail.read.archive import unpacked
tempfile.tempdir = sys.argv[2]
with unpacked(Path(sys.argv[1])) as inside:
    print(sum(path.is_file() for path in inside.folder.rglob("*")), flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_a_zip_is_left_by_a_process_that_is_ended(how, slices, save_slices, tmp_path, temporary):
    path = zipped(save_slices(slices), tmp_path / "study.zip")
    other = subprocess.Popen([sys.executable, "-c", _WAITS, path, temporary], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "5\n"
        (left,) = temporary.iterdir()
        os.utime(left, (0, 0))
        read(path)  # in use: not to be deleted
        assert left.exists()
        other.send_signal(how)
        assert other.wait(20) == (143 if how == signal.SIGTERM else -how)
    finally:
        other.kill()
        other.stdout.close()
        other.wait()
    assert left.exists() == (how == signal.SIGKILL)
    (temporary / "medrail-zip-of another kind").mkdir()
    read(path)
    assert [folder.name for folder in temporary.iterdir()] == ["medrail-zip-of another kind"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
