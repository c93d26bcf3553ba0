"""One DICOM file: nothing that identifies is left, everything that an image needs is."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file, get_testdata_files
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from cases.deidentify.conftest import PATIENT, ROOT, parse, save
from medrail.cases.deidentify.dicom import copy_of
from medrail.cases.deidentify.keys import Keys, shifted
from medrail.cases.deidentify.options import KEEP, BlankRule, Options, Rectangle
from medrail.errors import MedrailError
from medrail.read import read

_LEFT = """
Müllerová Mullerova MUELLEROVA Ilse PID-471199 471199 OLD-88123 Lindenallee Freiberg 998877 20240517 20240518 19310412
ACC7766551 ST-9917 Barbara Krankenhaus CTSUITE-B Weiss Otto Kern SN-553311 17.05.2024 WARD7 RP-20031 ACME
"""
LEFT = _LEFT.split()


def keeping(*names: str) -> Options:
    return Options(frozenset(names))


def copied(path: Path, keys: Keys, options: Options) -> bytes:
    """The copy, empty where the original is refused."""
    try:
        return copy_of(path, PATIENT, keys, options).content
    except MedrailError:
        return b""


def text_of(content: bytes) -> str:
    return content.decode("latin-1").casefold() + content.decode("utf-8", "replace").casefold()


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_nothing_that_identifies_is_left_and_the_image_is_the_same(original, keys, tmp_path, syntax):
    if syntax is ExplicitVRBigEndian:
        original.PixelData = np.arange(35, dtype=">i2").tobytes()
    original.file_meta.TransferSyntaxUID = syntax or original.file_meta.TransferSyntaxUID
    path = save(original, tmp_path / "a.dcm")
    content = copy_of(path, PATIENT, keys, Options()).content
    new = parse(content)
    shown = text_of(content) + str(new).casefold()
    assert [word for word in LEFT if word.casefold() in shown] == []
    assert ROOT not in shown
    assert new.SOPClassUID == original.SOPClassUID
    assert new.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    (tmp_path / "b.dcm").write_bytes(content)
    before, after = read(path), read(tmp_path / "b.dcm")
    np.testing.assert_array_equal(before.voxels, after.voxels)
    assert (before.unit, before.geometry and before.geometry.spacing_mm) == (
        after.unit,
        after.geometry and after.geometry.spacing_mm,
    )


def test_it_says_what_was_done_as_the_standard_asks(original, keys, tmp_path):
    path = save(original, tmp_path / "a.dcm")
    plain = parse(copy_of(path, PATIENT, keys, Options()).content)
    assert (plain.PatientIdentityRemoved, plain.PatientID, plain.PatientName) == ("YES", "P0001", "P0001")
    assert plain.LongitudinalTemporalInformationModified == "REMOVED"
    assert [code.CodeValue for code in plain.DeidentificationMethodCodeSequence] == ["113100"]
    kept = parse(copy_of(path, PATIENT, keys, keeping("shifted-dates", "uids", "device")).content)
    assert kept.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [c.CodeValue for c in kept.DeidentificationMethodCodeSequence] == ["113100", "113107", "113110", "113109"]
    assert kept.DeviceSerialNumber == "SN-553311"


def test_uids_are_mapped_alike_everywhere_and_in_every_run(original, keys, tmp_path):
    other = save(original, tmp_path / "a.dcm")
    first, again = (parse(copy_of(other, PATIENT, keys, Options()).content) for _ in range(2))
    assert first.SOPInstanceUID == again.SOPInstanceUID == first.file_meta.MediaStorageSOPInstanceUID
    referenced = first.ReferencedImageSequence[0]
    assert referenced.ReferencedSOPInstanceUID == keys.new_uid(f"{ROOT}.1.2")
    assert referenced.ReferencedSOPClassUID == original.SOPClassUID
    stranger = Keys("a1" * 32)
    stranger.add_patients([PATIENT])
    assert parse(copy_of(other, PATIENT, stranger, Options()).content).SOPInstanceUID != first.SOPInstanceUID


def test_dates_are_shifted_by_the_same_days_and_times_stay(original, keys, tmp_path):
    new = parse(copy_of(save(original, tmp_path / "a.dcm"), PATIENT, keys, keeping("shifted-dates")).content)
    days = keys.shift_days(PATIENT)
    assert new.StudyDate == shifted("20240517", days) != "20240517"
    assert new.AcquisitionDateTime == shifted("20240517", days) + "101530.123456+0200"
    assert new.StudyTime == "101112"
    assert new.PatientBirthDate == ""
    assert days <= -180


def test_what_is_kept_on_request(original, keys, tmp_path):
    path = save(original, tmp_path / "a.dcm")
    new = parse(copy_of(path, PATIENT, keys, keeping("dates", "patient-characteristics", "institution")).content)
    assert (new.StudyDate, new.PatientSex, new.PatientAge) == ("20240517", "F", "090Y")  # older than 90 is rare
    assert new.InstitutionName == "Krankenhaus Sankt Barbara"
    assert new.PatientBirthDate == ""
    assert parse(copy_of(path, PATIENT, keys, keeping("uids")).content).SOPInstanceUID == f"{ROOT}.1.1"


def test_descriptions_are_cleaned_of_the_headers_own_words(original, keys, tmp_path):
    original.SeriesDescription = "Weissabgleich 5mm b80f"
    new = parse(copy_of(save(original, tmp_path / "a.dcm"), PATIENT, keys, keeping("descriptions")).content)
    assert new.StudyDescription == "Thorax"
    assert new.SeriesDescription == "Weissabgleich 5mm b80f"
    assert "Weiss" not in new.ImageComments


def test_a_kept_attribute_that_tells_the_name_is_emptied(original, keys, tmp_path):
    original.Manufacturer = "scanner of ILSE"
    original.BodyPartExamined = "KERN PIA"
    new = parse(copy_of(save(original, tmp_path / "a.dcm"), PATIENT, keys, Options()).content)
    assert (new.Manufacturer, new.BodyPartExamined) == ("", "")


def test_rectangles_are_blanked_in_every_frame(original, keys, tmp_path):
    original.NumberOfFrames = 2
    original.PixelData = np.arange(70, dtype="<i2").tobytes()
    rule = BlankRule((Rectangle(1, 0, 3, 2),), modality="ct", manufacturer="siem", columns=7, rows=5)
    options = Options(rules=(rule, BlankRule((Rectangle(0, 0, 7, 5),), modality="US")))
    new = parse(copy_of(save(original, tmp_path / "a.dcm"), PATIENT, keys, options).content)
    expected = np.arange(70).reshape(2, 5, 7)
    for frame in expected:
        frame[0:2, 1:4] = frame.min()
    np.testing.assert_array_equal(new.pixel_array, expected)
    assert new.BurnedInAnnotation == "NO"
    assert "113101" in [code.CodeValue for code in new.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize(
    "name", ["SC_rgb_rle.dcm", "SC_ybr_full_422_uncompressed.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm"]
)
def test_compressed_pixels_are_blanked_too(keys, name):
    options = Options(rules=(BlankRule((Rectangle(2, 3, 20, 10),)),))
    path = Path(get_testdata_file(name))
    new = parse(copy_of(path, PATIENT, keys, options).content)
    frames = new.pixel_array.reshape(-1, new.Rows, new.Columns, new.SamplesPerPixel)
    assert (np.ptp(frames[:, 3:13, 2:22].astype(int), axis=(1, 2)) == 0).all()
    assert not new.file_meta.TransferSyntaxUID.is_compressed


def test_overlays_in_planes_and_in_unused_bits_are_gone(original, keys, tmp_path):
    original.BitsStored, original.HighBit, original.PixelRepresentation = 12, 11, 0
    original.PixelData = (np.arange(35, dtype="<u2") | 0xA000).tobytes()
    original.add_new((0x6000, 0x0010), "US", 5)
    original.add_new((0x6000, 0x0102), "US", 15)
    original.add_new((0x6002, 0x3000), "OW", b"Ilse")
    original.add_new((0x6002, 0x4000), "LT", "Ilse")
    copy = copy_of(save(original, tmp_path / "a.dcm"), PATIENT, keys, Options())
    new = parse(copy.content)
    np.testing.assert_array_equal(np.frombuffer(new.PixelData, "<u2"), np.arange(35))
    assert not any(0x6000 <= element.tag.group <= 0x60FF for element in new)
    assert copy.actions["removed", "overlays in unused bits"] == 1


def test_comments_inside_of_compressed_pixels_are_blanked(keys, tmp_path):
    path = Path(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm"))
    dataset = pydicom.dcmread(path)
    start = dataset.PixelData.index(b"\xff\xd8")
    body = bytearray(dataset.PixelData[start:])
    comment = b"\xff\xfe" + (2 + 12).to_bytes(2, "big") + b"Zebrowskaja "
    body[2:2] = comment
    length = int.from_bytes(dataset.PixelData[start - 4 : start], "little") + len(comment)
    dataset.PixelData = dataset.PixelData[: start - 4] + length.to_bytes(4, "little") + bytes(body)
    dataset.PatientName = "Zebrowskaja"
    dataset.save_as(tmp_path / "a.dcm")
    content = copy_of(tmp_path / "a.dcm", PATIENT, keys, Options()).content
    assert b"Zebrow" not in content
    np.testing.assert_array_equal(parse(content).pixel_array, pydicom.dcmread(path).pixel_array)


def test_what_stands_behind_the_pixels_is_cut(original, keys, tmp_path):
    original.PixelData = original.PixelData + b"Ilse Muellerova "
    new = parse(copy_of(save(original, tmp_path / "a.dcm"), PATIENT, keys, Options()).content)
    assert len(new.PixelData) == 70


def test_reports_lose_their_text_and_stay_reports(keys, tmp_path):
    path = Path(get_testdata_file("reportsi.dcm"))
    new = parse(copy_of(path, PATIENT, keys, Options()).content)
    assert [item.TextValue for item in new.ContentSequence] == ["REMOVED"]
    assert new.SOPClassUID == pydicom.dcmread(path).SOPClassUID


def test_safe_private_attributes_are_kept_by_maker_and_number(original, keys, tmp_path):
    scanner = original.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    scanner.add_new(0x0C, "IS", "1000")
    scanner.add_new(0x55, "LO", "Ilse")
    path = save(original, tmp_path / "a.dcm")
    new = parse(copy_of(path, PATIENT, keys, keeping("safe-private")).content)
    assert [(e.tag.elem, e.value) for e in new if e.tag.is_private] == [(0x10, "SIEMENS MR HEADER"), (0x100C, "1000")]
    assert not any(e.tag.is_private for e in parse(copy_of(path, PATIENT, keys, Options()).content))


def test_sequences_without_end_are_refused(original, keys, tmp_path):
    inner = Dataset()
    for _ in range(80):
        outer = Dataset()
        outer.ReferencedSeriesSequence = Sequence([inner])
        inner = outer
    original.ReferencedSeriesSequence = Sequence([inner])
    original.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(MedrailError, match="deep"):
        copy_of(tmp_path / "a.dcm", PATIENT, keys, Options())


@pytest.mark.slow
@pytest.mark.parametrize("keep", [(), tuple(set(KEEP) - {"dates"})], ids=["nothing", "all"])
def test_every_pydicom_file_reads_the_same_afterwards(keys, tmp_path, keep):
    seen = 0
    for path in sorted({Path(name) for name in get_testdata_files()}):
        if not path.is_file():
            continue
        try:
            before = read(path)
        except MedrailError:
            before = None
        content = copied(path, keys, keeping(*keep))
        assert content or before is None, path.name
        if not content:
            continue
        (tmp_path / "copy.dcm").write_bytes(content)
        if before is not None:
            after = read(tmp_path / "copy.dcm")
            np.testing.assert_array_equal(before.voxels, after.voxels, err_msg=path.name)
            assert before.unit == after.unit or not keep, path.name
            assert (before.geometry is None) == (after.geometry is None)
            assert before.geometry is None or before.geometry.is_close(after.geometry)
            seen += 1
    assert seen > 70


@pytest.mark.skipif(which("dciodvfy") is None, reason="Debian's dicom3tools is not installed")
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "liver_1frame.dcm", "rtdose_1frame.dcm"]
)
def test_dciodvfy_finds_no_new_error(keys, tmp_path, name):
    def errors(path: Path) -> set[str]:
        done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, errors="replace")
        return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}

    path = Path(get_testdata_file(name))
    (tmp_path / "copy.dcm").write_bytes(copy_of(path, PATIENT, keys, Options()).content)
    assert errors(tmp_path / "copy.dcm") - errors(path) == set()
