"""A folder of originals: new names, linkage, report, and nothing touched or overwritten."""

from __future__ import annotations

import copy
import csv
import json
import os
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from cases.deidentify.conftest import ROOT, save
from medrail.arguments import build_parser
from medrail.cases.deidentify import KEEP, deidentify, read_options
from medrail.cases.deidentify.dataset import Cleaner
from medrail.cli import main
from medrail.errors import ConfigError


@pytest.fixture
def ward(original, tmp_path) -> Path:
    """Two patients, one of them with two series; a text file; a broken DICOM file; names that tell who."""
    folder = tmp_path / "Müllerová Ilse 19310412"
    for number in range(3):
        slice_ = copy.deepcopy(original)
        slice_.InstanceNumber, slice_.SOPInstanceUID = 3 - number, f"{ROOT}.1.{number}"
        save(slice_, folder / "first" / f"Ilse{number}.dcm")
    other_series = copy.deepcopy(original)
    other_series.SeriesInstanceUID, other_series.SOPInstanceUID = f"{ROOT}.33", f"{ROOT}.1.9"
    save(other_series, folder / "second" / "x")
    stranger = copy.deepcopy(original)
    stranger.PatientID, stranger.PatientName, stranger.StudyInstanceUID = "P0001", "Novak^Jan", f"{ROOT}.22"
    stranger.SeriesInstanceUID, stranger.SOPInstanceUID = f"{ROOT}.34", f"{ROOT}.1.10"
    save(stranger, folder / "third" / "y")
    (folder / "notes.txt").write_text("Ilse Müllerová")
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    return folder


def copies(out: Path) -> list[Path]:
    return sorted(path for path in out.rglob("*.dcm"))


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_names_of_the_copies_and_the_report_tell_nothing(ward, tmp_path):
    before = state(ward)
    report = deidentify(ward, tmp_path / "out", read_options())
    assert state(ward) == before
    assert (report.files, report.written, len(report.patients), len(report.series)) == (7, 5, 2, 3)
    assert [number for number, _ in report.failed] == [1]
    assert [number for number, _ in report.left_out] == [5]
    shown = "".join(str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*"))
    shown += "".join(path.read_text("utf-8") for path in (tmp_path / "out").glob("deidentified.*"))
    for word in ("Ilse", "Müller", "1931", "first", "notes", "471199", "Novak", ROOT):
        assert word not in shown
    assert json.loads((tmp_path / "out" / "deidentified.json").read_text())["written"] == 5
    assert stat.S_IMODE(copies(tmp_path / "out")[0].stat().st_mode) == 0o644


def test_one_patient_is_one_patient_and_a_number_is_never_an_originals(ward, tmp_path):
    deidentify(ward, tmp_path / "out", read_options())
    heads = [pydicom.dcmread(path) for path in copies(tmp_path / "out")]
    names = {str(head.PatientID) for head in heads}
    assert len(names) == 2
    assert "P0001" not in names  # the hospital calls one so
    assert len({head.SOPInstanceUID for head in heads}) == 5
    by_series: dict[str, list[int]] = {}
    for path, head in zip(copies(tmp_path / "out"), heads, strict=True):
        by_series.setdefault(str(path.parent), []).append(int(head.InstanceNumber))
    assert [1, 2, 3] in by_series.values()  # files are numbered in the order of their instances


def test_a_later_batch_is_mapped_alike(ward, original, tmp_path):
    linkage = tmp_path / "kept apart" / "linkage.csv"
    deidentify(ward, tmp_path / "one", read_options(["shifted-dates"]), linkage=linkage)
    assert stat.S_IMODE(linkage.stat().st_mode) == 0o600
    later = copy.deepcopy(original)
    later.SOPInstanceUID, later.StudyDate = f"{ROOT}.1.77", "20240617"
    save(later, tmp_path / "later" / "z")
    deidentify(tmp_path / "later", tmp_path / "two", read_options(["shifted-dates"]), linkage=linkage)
    new = pydicom.dcmread(copies(tmp_path / "two")[0])
    same = [pydicom.dcmread(path) for path in copies(tmp_path / "one")]
    same = [head for head in same if head.StudyInstanceUID == new.StudyInstanceUID]
    assert {head.PatientID for head in same} == {new.PatientID}
    assert {head.FrameOfReferenceUID for head in same} == {new.FrameOfReferenceUID}
    days = np.datetime64(f"{new.StudyDate[:4]}-{new.StudyDate[4:6]}-{new.StudyDate[6:]}")
    first = same[0].StudyDate
    assert int((days - np.datetime64(f"{first[:4]}-{first[4:6]}-{first[6:]}")).astype(int)) == 31
    with linkage.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} >= {"secret", "patient", "days", "study", "series", "file"}
    assert sum(row["kind"] == "file" for row in rows) == 6


def test_one_person_has_one_new_name_whatever_its_headers_leave_out(original, tmp_path):
    def put(place: str, number: int, **changes: str) -> None:
        slice_ = copy.deepcopy(original)
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = f"{ROOT}.8{number}", f"{ROOT}.9{number}"
        slice_.SOPInstanceUID = f"{ROOT}.7.{number}"
        for keyword, value in changes.items():
            setattr(slice_, keyword, value)
        save(slice_, tmp_path / place / f"{number}.dcm")

    put("one", 1, PatientName="")
    put("one", 2, IssuerOfPatientID="HOSP")  # the same Patient ID
    put("one", 3, PatientID="ANONYMOUS")  # the same name and birth date as 2
    put("one", 4, PatientID="", PatientName="", StudyInstanceUID=f"{ROOT}.83")  # the study of 3
    put("one", 5, PatientID="OTHER-5", PatientName="Novak^Jan")
    linkage = tmp_path / "linkage.csv"
    report = deidentify(tmp_path / "one", tmp_path / "out", read_options(["shifted-dates"]), linkage=linkage)
    assert (report.written, len(report.patients)) == (5, 2)
    heads = [pydicom.dcmread(path) for path in copies(tmp_path / "out")]
    (name, count), *_ = Counter(head.PatientID for head in heads).most_common()
    assert count == 4
    (date,) = {head.StudyDate for head in heads if head.PatientID == name}
    put("two", 6, IssuerOfPatientID="CLINIC", PatientBirthDate="")  # known with another issuer, and with none
    put("two", 7, PatientID="")  # by name and birth date
    put("two", 8, PatientID="", PatientName="", SeriesInstanceUID=f"{ROOT}.91")  # by series
    put("two", 9, PatientID="NEW-9")  # the same name, but another Patient ID
    deidentify(tmp_path / "two", tmp_path / "more", read_options(["shifted-dates"]), linkage=linkage)
    later = [pydicom.dcmread(path) for path in copies(tmp_path / "more")]
    same = [head for head in later if head.PatientID == name]
    assert len(same) == 4, "the one without Patient ID may be either, and joins them"
    assert {head.StudyDate for head in same} == {date}


def test_without_linkage_two_runs_are_not_alike_and_nothing_links_them(ward, tmp_path):
    for name in ("one", "two"):
        deidentify(ward, tmp_path / name, read_options())
    one, two = ({pydicom.dcmread(path).SOPInstanceUID for path in copies(tmp_path / name)} for name in ("one", "two"))
    assert not one & two
    assert not list(tmp_path.rglob("*.csv"))


def test_a_file_that_fails_the_search_is_not_in_out(ward, tmp_path, monkeypatch):
    kept = Cleaner._leaf

    def forgetful(self: Cleaner, dataset: Dataset, tag: int, vr: str, value: bytes, action: str) -> None:
        if not (tag == 0x00104000 or b"Novak" in value):
            kept(self, dataset, tag, vr, value, action)

    monkeypatch.setattr(Cleaner, "_leaf", forgetful)
    (path,) = (ward / "third").iterdir()
    dataset = pydicom.dcmread(path)
    dataset.ReviewerName = "Novak^Jan"
    dataset.save_as(path)
    report = deidentify(ward, tmp_path / "out", read_options())
    assert report.written == 4
    assert [number for number, _ in report.failed] == [1, 7]
    assert "Novak" not in str(report.failed)
    assert all(b"Novak" not in content for content in state(tmp_path / "out").values())


def test_a_dry_run_writes_nothing(ward, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    report = deidentify(ward, tmp_path / "out", read_options(), linkage=tmp_path / "l.csv", dry_run=True)
    assert report.written == 5
    assert sorted(tmp_path.rglob("*")) == before


def test_places_that_are_refused(ward, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    for source, out, linkage in (
        (ward, tmp_path / "full", None),
        (ward, ward / "out", None),
        (ward / "first", ward, None),
        (ward, tmp_path / "out", tmp_path / "out" / "linkage.csv"),
        (ward, tmp_path / "out", ward / "notes.txt"),
        (tmp_path / "nowhere", tmp_path / "out", None),
    ):
        with pytest.raises(ConfigError):
            deidentify(source, out, read_options(), linkage=linkage)
    assert (tmp_path / "full" / "x").read_text() == "mine"


@pytest.mark.parametrize(
    ("keep", "blank", "rules"),
    [
        (["names"], [], None),
        (["dates", "shifted-dates"], [], None),
        ([], ["1,2,3"], None),
        ([], ["0,0,0,4"], None),
        ([], ["a,b,c,d"], None),
        ([], [], "rules: []"),
        ([], [], "- nothing"),
        ([], [], "rules: [{blank: [[1, 2]]}]"),
        ([], [], "rules: [{blank: [[0, 0, 9, 9]], colour: red}]"),
        ([], [], "rules: [{blank: [[0, 0, 9, 9]], size: 5}]"),
        ([], [], "{: :"),
    ],
)
def test_wrong_options_are_named(tmp_path, keep, blank, rules):
    path = tmp_path / "rules.yaml"
    path.write_text(rules or "")
    with pytest.raises(ConfigError):
        read_options(keep, blank, path if rules is not None else None)


def test_rules_from_a_file(tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - modality: US\n    model: EPIQ\n    size: [800, 600]\n    blank: [[0, 0, 800, 60]]\n"
    )
    (rule,) = read_options([], [], tmp_path / "rules.yaml").rules
    assert rule.fits("us", "Philips", "EPIQ 7G", 800, 600)
    assert not rule.fits("us", "Philips", "EPIQ 7G", 640, 480)
    assert not rule.fits("CT", "Philips", "EPIQ 7G", 800, 600)


def test_the_command(ward, tmp_path, capsys):
    arguments = ["deidentify", str(ward), "-o", str(tmp_path / "out"), "--linkage", str(tmp_path / "l.csv"), "--json"]
    assert main(arguments) == 1  # one file is broken
    out, err = capsys.readouterr()
    assert json.loads(out)["written"] == 5
    assert "Ilse" not in (out + err).replace(str(ward), "")
    assert main(arguments) == 2  # OUT is not empty


def test_help_and_options_agree():
    parser = build_parser()
    for name in KEEP:
        assert parser.parse_args(["deidentify", "a", "-o", "b", "--keep", name]).keep == [name]


@pytest.mark.shared
@pytest.mark.slow
def test_real_series_read_the_same(shared_data, tmp_path):
    from medrail.read import read

    for name in ("ct_ge_17", "ct_j2k_siemens_20"):
        deidentify(shared_data / "dicom" / name, tmp_path / name, read_options())
        (series,) = {path.parent for path in copies(tmp_path / name)}
        before, after = read(shared_data / "dicom" / name), read(series)
        np.testing.assert_array_equal(before.voxels, after.voxels)
        assert before.unit == after.unit
        assert before.geometry.is_close(after.geometry)


def test_numbers_are_lines_of_find_and_links_come_last(ward, tmp_path):
    (ward / "a link to nowhere").symlink_to(ward / "absent")
    report = deidentify(ward, tmp_path / "out", read_options(), dry_run=True)
    assert [number for number, _ in report.failed] == [1, 8]
    listed = subprocess.run(["find", str(ward), "-type", "f"], capture_output=True, check=True).stdout.split(b"\n")
    assert os.fsdecode(sorted(filter(None, listed))[0]).endswith("broken.dcm")


def test_a_file_that_was_cut_off_is_called_truncated(ward, tmp_path):
    cut = ward / "first" / "Ilse1.dcm"
    cut.write_bytes(cut.read_bytes()[:-30])
    report = deidentify(ward, tmp_path / "out", read_options())
    reasons = dict(report.failed)
    assert set(reasons) == {1, 3}
    assert reasons[3].startswith("is truncated: ")
    assert "Copy it again" in reasons[3]
    assert report.written == 4


def test_what_was_left_out_is_named_and_a_rotten_image_is_a_failure(ward, tmp_path, capsys):
    (ward / "broken.dcm").unlink()
    assert main(["deidentify", str(ward), "-o", str(tmp_path / "a")]) == 0
    assert "file 4 was left out: looks like a text file" in capsys.readouterr().out
    (ward / "second" / "rotten.dcm").write_bytes(b"\xff\x00rot" * 100)
    assert main(["deidentify", str(ward), "-o", str(tmp_path / "b")]) == 1
    out = capsys.readouterr().out
    assert "file 5 was not written: is called an image, and looks like an unknown kind of file. Copy" in out


def test_a_folder_without_an_image_is_no_success(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["deidentify", str(tmp_path / "empty"), "-o", str(tmp_path / "out")]) == 1
    assert "no image there" in capsys.readouterr().err


def test_of_ultrasound_it_says_what_to_blank(original, tmp_path):
    original.Modality, original.SOPClassUID = "US", "1.2.840.10008.5.1.4.1.1.6.1"
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 1, 2
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 5, 4
    original.SequenceOfUltrasoundRegions = [region]
    save(original, tmp_path / "in/a.dcm")
    report = deidentify(tmp_path / "in", tmp_path / "out", read_options(), dry_run=True)
    (warning,) = report.warnings.values()
    assert "outside of its ultrasound regions: --blank 0,0,7,2 --blank 0,2,1,3 --blank 6,2,1,3" in warning


def test_without_the_table_the_extra_is_named(original, tmp_path, monkeypatch):
    from medrail.cases.deidentify import actions

    actions.basic_profile.cache_clear()
    monkeypatch.setitem(sys.modules, "dicomanonymizer.dicom_anonymization_databases", None)
    save(original, tmp_path / "in/a.dcm")
    with pytest.raises(ConfigError, match=r"medrail\[deidentify\]"):
        deidentify(tmp_path / "in", tmp_path / "out", read_options())
    assert not (tmp_path / "out").exists()
