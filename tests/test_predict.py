"""Files in, answers as files out: on the raw grid, one bad input never stops the others."""

from __future__ import annotations

import csv
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Picture

import rois
from conftest import anisotropic_geometry
from medrail.bundle import InputKind, NetworkSpec, load_bundle
from medrail.bundle.calibration import Ood
from medrail.cases import read_roi
from medrail.errors import ConfigError, ReadError
from medrail.predict import find_inputs, predict_files, volumes_ml
from medrail.read import read, read_mask, write_nifti
from medrail.types import Case, Image
from small_bundles import classifier_network, evidence_network, segmenter_network, write_bundle
from small_calibrations import small_calibration


@pytest.fixture
def segmenter(tmp_path):
    """Everything brighter than 2 is the organ."""
    spec = NetworkSpec(
        task="segmentation",
        classes=("background", "organ"),
        dims=3,
        channels=1,
        pipeline=({"kind": "orient", "axes": "RAS"},),
        input_kind=InputKind(picture=False, channels=1, unit="arbitrary"),
    )
    return load_bundle(write_bundle(tmp_path / "bundles", "organ", segmenter_network(3, (2.0,)), spec))


@pytest.fixture
def classifier(tmp_path):
    spec = NetworkSpec(
        task="classification",
        classes=("a", "b"),
        dims=2,
        channels=3,
        pipeline=({"kind": "grey_to_rgb"}, {"kind": "resize", "size": [32, 32]}),
        input_kind=InputKind(picture=True, channels=3, unit="uint8"),
    )
    return load_bundle(write_bundle(tmp_path / "bundles", "ab", classifier_network(2), spec))


def rows(folder):
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_mask_lies_on_the_raw_grid_and_its_volume_is_told(tmp_path, segmenter):
    voxels = np.zeros((1, 5, 7, 11), np.float32)
    voxels[0, 1:3, 2:6, 3:10] = 5
    image = Image(voxels, anisotropic_geometry())
    write_nifti(image, tmp_path / "scan one.nii.gz")
    (answer,) = predict_files(segmenter, find_inputs([tmp_path / "scan one.nii.gz"]), tmp_path / "out")
    mask = read_mask(tmp_path / "out" / "scan one_mask.nii.gz")
    assert np.array_equal(mask.voxels, voxels > 2)
    assert mask.geometry.is_close(read(tmp_path / "scan one.nii.gz").geometry)
    millilitres = 2 * 4 * 7 * 5.0 * 0.7 * 0.9 / 1000
    assert answer.volumes_ml == {"organ": pytest.approx(millilitres)}
    assert volumes_ml(segmenter(image)) == {"organ": pytest.approx(millilitres)}
    assert answer.prediction.mask is None, "voxels are in files, not in the memory of a thousand answers"
    assert float(rows(tmp_path / "out")[0]["organ_ml"]) == pytest.approx(millilitres, abs=1e-3)
    assert (tmp_path / "out" / "scan one.png").read_bytes().startswith(b"\x89PNG")


def test_one_bad_input_stops_nobody_and_is_named(tmp_path, classifier):
    folder = tmp_path / "in"
    folder.mkdir()
    Picture.new("RGB", (40, 30), (200, 10, 10)).save(folder / "good.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "report.png").write_bytes(b"%PDF-1.7 and so on")
    (folder / "broken.png").write_bytes((folder / "good.png").read_bytes()[:40])
    write_nifti(Image(np.ones((1, 5, 7, 11), np.float32), anisotropic_geometry()), folder / "volume.nii.gz")
    answers = predict_files(classifier, find_inputs([folder]), tmp_path / "out")
    by_name = {row["name"]: row for row in rows(tmp_path / "out")}
    assert set(by_name) == {"good", "broken", "volume", "report"}, "a text file in a folder is no image"
    assert by_name["good"]["reason"] == ""
    assert float(by_name["good"]["p_a"]) + float(by_name["good"]["p_b"]) == pytest.approx(1, abs=1e-5)
    assert by_name["good"]["class_name"] in "ab"
    assert "picture" in by_name["broken"]["reason"]
    assert "volume" in by_name["volume"]["reason"]
    assert "PDF" in by_name["report"]["reason"]
    assert all(str(answer.input.path) not in answer.reason for answer in answers), "told once, in its own column"
    assert sum(bool(answer.reason) for answer in answers) == 3


def test_equal_names_from_different_folders_do_not_overwrite_each_other(tmp_path, classifier):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Picture.new("RGB", (40, 30)).save(tmp_path / name / "x.png")
    inputs = find_inputs([tmp_path / "one", tmp_path / "two" / "x.png"])
    answers = predict_files(classifier, inputs, tmp_path / "out")
    assert len({file for answer in answers for file in answer.files}) == 2
    assert [row["name"] for row in rows(tmp_path / "out")] == ["x", "x-2"]


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_a_path_without_images_is_refused(tmp_path, what):
    if what == "empty":
        (tmp_path / "empty").mkdir()
    with pytest.raises((ReadError, ConfigError), match=what) as caught:
        find_inputs([tmp_path / what])
    assert caught.value.remedy


def test_no_overlays_when_none_are_wanted(tmp_path, classifier):
    Picture.new("L", (40, 30)).save(tmp_path / "x.png")
    (answer,) = predict_files(classifier, find_inputs([tmp_path / "x.png"]), tmp_path / "out", overlays=False)
    assert answer.files == ()
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["predictions.csv", "predictions.jsonl"]


@pytest.mark.parametrize("way", rois.STORED)
def test_a_region_of_interest_means_the_same_however_it_is_stored(tmp_path, way):
    """What the cases' room and prepare accept for training, predict accepts, and with the same answer."""
    predictor = load_bundle(rois.roi_segmenter(tmp_path / "bundles"))
    image, region = rois.bright_volume(), rois.region()
    write_nifti(image, tmp_path / "scan.nii.gz")
    write_nifti(rois.stored(region, way), tmp_path / "roi.nii.gz")
    turned = read_roi(Case("a", "a", ("scan",), roi=str(tmp_path / "roi.nii.gz")), image)
    expected = predictor(image, turned).mask.voxels
    assert np.array_equal(expected, region.voxels)
    inputs = find_inputs([tmp_path / "scan.nii.gz"])
    (answer,) = predict_files(predictor, inputs, tmp_path / "out", roi=tmp_path / "roi.nii.gz")
    assert answer.reason == ""
    assert np.array_equal(read_mask(tmp_path / "out" / "scan_mask.nii.gz").voxels, expected)
    assert np.array_equal(predictor(image, rois.stored(region, way)).mask.voxels, expected)


@pytest.mark.parametrize(("way", "words"), [("elsewhere", "lies elsewhere"), ("smaller", "is 5 x 7 x 10")])
def test_a_region_of_interest_on_another_grid_is_refused(tmp_path, way, words):
    predictor = load_bundle(rois.roi_segmenter(tmp_path / "bundles"))
    write_nifti(rois.bright_volume(), tmp_path / "scan.nii.gz")
    write_nifti(rois.stored(rois.region(), way), tmp_path / "roi.nii.gz")
    inputs = find_inputs([tmp_path / "scan.nii.gz"])
    (answer,) = predict_files(predictor, inputs, tmp_path / "out", roi=tmp_path / "roi.nii.gz")
    assert f"{tmp_path / 'roi.nii.gz'}: the region of interest" in answer.reason
    assert words in answer.reason
    assert "Resample" in answer.reason


def test_a_series_of_a_zip_is_named_as_an_option_or_told_to_be(tmp_path, classifier):
    for name, shade in (("a", 10), ("b", 200)):
        Picture.new("RGB", (40, 30), (shade, 10, 10)).save(tmp_path / f"{name}.png")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in "ab":
            archive.write(tmp_path / f"{name}.png", f"{name}.png")
    (answer,) = predict_files(classifier, find_inputs([tmp_path / "in.zip"]), tmp_path / "out")
    assert "Name one of them with --series" in answer.reason
    (alone,) = predict_files(classifier, find_inputs([tmp_path / "b.png"]), tmp_path / "out")
    (answer,) = predict_files(classifier, find_inputs([tmp_path / "in.zip"], "b.png"), tmp_path / "out")
    assert not answer.reason
    assert answer.prediction.probabilities == alone.prediction.probabilities
    with pytest.raises(ConfigError, match="--series with 2 inputs"):
        find_inputs([tmp_path / "in.zip", tmp_path / "a.png"], "b.png")


def test_several_labels_are_told_in_one_column(tmp_path):
    spec = NetworkSpec(
        task="classification",
        classes=("a", "b"),
        dims=2,
        channels=3,
        pipeline=({"kind": "normalise", "method": "custom", "mean": [128], "std": [64]},),
        input_kind=InputKind(picture=True, channels=3, unit="uint8"),
        multi_label=True,
    )
    predictor = load_bundle(write_bundle(tmp_path / "bundles", "ab", classifier_network(2), spec))
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)]):
        Picture.new("RGB", (40, 30), colour).save(tmp_path / f"{number}.png")
    answers = predict_files(predictor, find_inputs([tmp_path / f"{n}.png" for n in range(4)]), tmp_path / "out")
    table = rows(tmp_path / "out")
    assert list(table[0])[:6] == ["input", "name", "findings", "p_a", "p_b", "reason"]
    assert list(table[0])[6:] == ["threshold_a", "threshold_b", "bundle_id", "note"]
    for row, answer in zip(table, answers, strict=True):
        found = [name for name in ("a", "b") if float(row[f"p_{name}"]) >= 0.5]
        assert row["findings"] == "|".join(found)
        assert answer.prediction.class_name is None
        assert answer.summary.count("(") == len(found) or answer.summary == "no finding"
    assert len({row["findings"] for row in table}) > 1


@pytest.fixture
def calibrated(tmp_path):
    """Class "yes" is the brighter, the more probable; evidence is exact; a mean above 300 is unlike the training."""
    spec = NetworkSpec("classification", ("no", "yes"), 2, 1, (), InputKind(True, 1, "uint8"))
    calibration = replace(
        small_calibration(1), ood=Ood(np.array([100.0]), np.array([[0.02]]), threshold=2.0, quantile=0.99)
    )
    return load_bundle(
        write_bundle(tmp_path / "bundles", "bright", evidence_network(), spec, calibration=calibration)
    )  # fmt: skip


def test_what_was_calibrated_stands_in_table_summary_and_files(tmp_path, calibrated):
    values = {"dark": 0, "odd": 1, "normal": 100, "glaring": 250}
    for name, value in values.items():
        Picture.fromarray(np.full((9, 13), value, np.uint8)).save(tmp_path / f"{name}.png")
    inputs = find_inputs([tmp_path / f"{name}.png" for name in values])
    answers = dict(zip(values, predict_files(calibrated, inputs, tmp_path / "out"), strict=True))
    table = {row["name"]: row for row in rows(tmp_path / "out")}
    assert list(table["odd"])[-8:-3] == ["conformal_set", "abstain", "ood_score", "unlike_training", "reason"]
    assert (table["odd"]["threshold_yes"], table["odd"]["bundle_id"]) == ("0.800000", calibrated.bundle_id)
    assert (table["odd"]["conformal_set"], table["odd"]["abstain"]) == ("yes", "1"), (
        "decided for no, and only yes is left"
    )
    assert (table["dark"]["conformal_set"], table["dark"]["abstain"]) == ("no|yes", "1")
    assert (table["normal"]["conformal_set"], table["normal"]["abstain"]) == ("yes", "0")
    assert table["odd"]["class_name"] == "no", "0.62 is below the threshold of 0.8"
    assert answers["odd"].summary == "no (0.378; threshold of yes 0.8); undecided, possible: yes"
    assert answers["dark"].summary == "no (0.500; threshold of yes 0.8); undecided, possible: no or yes"
    assert (table["glaring"]["unlike_training"], table["normal"]["unlike_training"]) == ("1", "0")
    assert float(table["glaring"]["ood_score"]) == pytest.approx(3)
    assert answers["glaring"].summary == "unlike the training data (score 3): yes (1.000; threshold 0.8)"
    assert answers["normal"].summary == "yes (1.000; threshold 0.8)"
    again = predict_files(calibrated, inputs, tmp_path / "out")
    assert [one.summary for one in again] == [answers[name].summary for name in values], "also of what is kept"
    assert answers["normal"].files[-1].name == "normal_evidence.png"
    assert answers["normal"].files[-1].is_file()
    assert not any("evidence" in path.name for path in (tmp_path / "plain").glob("*"))
    (without,) = predict_files(calibrated, inputs[:1], tmp_path / "plain", overlays=False)
    assert without.files == ()


def test_the_picture_of_evidence_is_warm_where_it_speaks_for_the_class(tmp_path, calibrated):
    pixels = np.full((40, 60), 10, np.uint8)
    pixels[5:20, 35:55] = 200
    Picture.fromarray(pixels).save(tmp_path / "spot.png")
    (answer,) = predict_files(calibrated, find_inputs([tmp_path / "spot.png"]), tmp_path / "out")
    assert answer.prediction.class_name == "yes"
    drawn = np.asarray(Picture.open(answer.files[-1]).convert("RGB")).astype(int)
    height = drawn.shape[1] * 40 // 60
    orange = (drawn[:height, :, 0] - drawn[:height, :, 2]) > 60
    rows_of, columns_of = np.nonzero(orange)
    scale = drawn.shape[1] / 60
    assert (rows_of.min() / scale, rows_of.max() / scale) == pytest.approx((5, 20), abs=1)
    assert (columns_of.min() / scale, columns_of.max() / scale) == pytest.approx((35, 55), abs=1)


def test_without_a_calibration_there_are_no_columns_of_one(tmp_path, classifier):
    Picture.fromarray(np.full((9, 13, 3), 90, np.uint8)).save(tmp_path / "a.png")
    predict_files(classifier, find_inputs([tmp_path / "a.png"]), tmp_path / "out")
    told = ["input", "name", "class_name", "confidence", "p_a", "p_b", "reason", "bundle_id", "note"]
    assert list(rows(tmp_path / "out")[0]) == told
