"""A folder of originals: new names, linkage, report, and nothing touched or overwritten."""

from __future__ import annotations

import copy
import csv
import json
import stat
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
    stranger.SOPInstanceUID = f"{ROOT}.1.10"
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
