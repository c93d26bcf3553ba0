"""DICOM series as entries: what is refused stays and is named, a localiser is no case, headers are read once."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from medrail.cases.layouts.series import series_entries
from medrail.errors import MedrailError
from medrail.read import read
from medrail.read.dicom import cache as cache_module
from medrail.read.dicom import headers as headers_module
from medrail.read.dicom.cache import HeaderCache

_SPEC = importlib.util.spec_from_file_location(
    "medrail_read_writers_for_cases", Path(__file__).parents[2] / "read" / "conftest.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
writers = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = writers
_SPEC.loader.exec_module(writers)


@pytest.fixture
def slices(anisotropic_image):
    return writers.dicom_slices(anisotropic_image)


def test_an_entry_carries_what_the_header_says(slices, tmp_path):
    for dataset in slices:
        dataset.Manufacturer, dataset.BurnedInAnnotation = "A maker", "YES"
    folder = writers.save_dicom(slices, tmp_path / "p1")
    (entry,) = series_entries(folder, "p1", patient="p1").entries
    assert (entry.modality, entry.scanner, entry.burned_in, entry.defects) == ("CT", "A maker", "YES", ())
    assert entry.patient_key
    assert "4711" not in repr(entry)
    assert (entry.path, entry.item, entry.name) == (folder, "", "p1")


def test_a_refused_series_stays_an_entry_and_spoils_no_other(slices, tmp_path):
    folder = writers.save_dicom(slices, tmp_path / "p1" / "good").parent
    for dataset in slices:
        dataset.SeriesInstanceUID = dataset.StudyInstanceUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    writers.save_dicom([*slices[:2], *slices[3:]], folder / "bad")
    bad, good = series_entries(folder, "p1").entries
    assert bad.defects == ("missing_slices",)
    with pytest.raises(MedrailError, match="missing slices"):
        read(bad.path, bad.item)
    assert read(good.path, good.item).grid == (5, 7, 11)


def test_a_file_that_cannot_be_read_is_a_finding_and_its_series_is_not_read_without_it(slices, tmp_path):
    folder = writers.save_dicom(slices[:1], tmp_path / "p1")
    (folder / "lost").touch()
    listing = series_entries(folder, "p1")
    assert [finding.defect for finding in listing.findings] == ["unreadable_file"]
    (entry,) = listing.entries
    with pytest.raises(MedrailError, match="cannot be read"):
        read(entry.path, entry.item)


def test_a_localiser_beside_the_volume_is_left_out_and_said(slices, tmp_path):
    slices[4].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    folder = writers.save_dicom(slices, tmp_path / "p1")
    listing = series_entries(folder, "p1")
    (entry,) = listing.entries
    assert [(one.defect, one.severity) for one in listing.findings] == [("localiser_left_out", "warn")]
    assert read(entry.path, entry.item).grid == (4, 7, 11)


def test_headers_are_read_once(slices, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_SETTLED_S", -10.0)
    folder = writers.save_dicom(slices, tmp_path / "p1")
    with HeaderCache(tmp_path / "project" / "headers.db") as cache:
        first = series_entries(folder, "p1", cache=cache)
    monkeypatch.setattr(headers_module, "look", lambda path, alike: pytest.fail(f"{path} is read again"))
    with HeaderCache(tmp_path / "project" / "headers.db") as cache:
        assert series_entries(folder, "p1", cache=cache) == first


def turned(slices, numbers):
    for number in numbers:
        slices[number].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    return slices


def test_a_single_slice_beside_its_volume_is_no_case_and_named(slices, tmp_path):
    folder = writers.save_dicom(turned(slices, [0]), tmp_path / "p1")
    listing = series_entries(folder, "p1", target="ill")
    (entry,) = listing.entries
    assert read(entry.path, entry.item).grid == (4, 7, 11)
    (finding,) = listing.findings
    assert (finding.defect, finding.severity) == ("stray_slices_left_out", "warn")
    assert Path(finding.where).is_file()
    assert Path(finding.where) in set(folder.iterdir())


def test_a_stray_slice_is_none_because_its_volume_lies_in_another_folder(slices, tmp_path):
    writers.save_dicom(slices[1:], tmp_path / "p1" / "a")
    writers.save_dicom(turned(slices, [0])[:1], tmp_path / "p1" / "b")
    listing = series_entries(tmp_path / "p1", "p1")
    assert [one.name for one in listing.entries] == ["p1/a"]
    assert [(one.defect, Path(one.where).parent.name) for one in listing.findings] == [("stray_slices_left_out", "b")]


def test_a_series_of_single_pictures_and_one_of_two_volumes_stay_whole(slices, tmp_path):
    pictures = turned(slices, [0])[:2]
    writers.save_dicom(pictures, tmp_path / "pictures")
    assert len(series_entries(tmp_path / "pictures", "p").entries) == 2
    for number, dataset in enumerate(turned(slices, [0, 1])):
        dataset.ImagePositionPatient = [float(number), 0, 0] if number < 2 else dataset.ImagePositionPatient
    writers.save_dicom(slices, tmp_path / "volumes")
    listing = series_entries(tmp_path / "volumes", "p")
    assert (len(listing.entries), listing.findings) == (2, ())
