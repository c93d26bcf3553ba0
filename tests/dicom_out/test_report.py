"""A structured report says what the table says, in codes, and points to what it speaks of."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_files

from dicom_objects import check_values, enhanced, said
from faults import good_series, write_files
from medrail import dicom_out
from medrail.bundle import InputKind, NetworkSpec, load_bundle
from medrail.dicom_out import make, objects, read_codes
from medrail.errors import ConfigError, DataError, MedrailError
from medrail.predict import find_inputs, predict_files
from medrail.read import read, sources_of
from medrail.types import Image, Prediction
from small_bundles import classifier_network, segmenter_network, write_bundle

BY_CLASS = {"normal": 0.25, "pneumonia": 0.75}


@pytest.fixture
def series(tmp_path: Path) -> Path:
    rng = np.random.default_rng(9)
    return write_files(good_series(rng), tmp_path / "series", rng)


def classified(**more: Any) -> Prediction:
    return replace(Prediction("classification", tuple(BY_CLASS), "lungs/3@0123456789ab", BY_CLASS), **more)


def told(prediction: Prediction, series: Path, out: Path, codes: Any = None) -> dict[str, list[Any]]:
    sources = sources_of(series)
    assert sources is not None
    made = objects(prediction, sources, codes)
    out.write_bytes(made.report)
    check_values(pydicom.dcmread(out))
    return said(out)


def test_a_classification_is_its_probabilities_and_its_class(tmp_path: Path, series: Path) -> None:
    found = told(classified(), series, tmp_path / "a.dcm")
    assert found["Finding"] == ["normal", "pneumonia"]
    assert found["Probability"] == [0.25, 0.75]
    assert found["Decided for"] == ["No", "Yes"]
    assert "Cannot be ruled out" not in found
    assert "Unlike the training data" not in found
    assert set(found["Algorithm Version"]) == {"lungs/3@0123456789ab"}
    uids = {pydicom.dcmread(path).SOPInstanceUID for path in series.iterdir()}
    assert set(found["Source of Measurement"]) == uids
    document = pydicom.dcmread(tmp_path / "a.dcm")
    assert document.SOPClassUID.name == "Comprehensive SR Storage"
    assert document.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (document.VerificationFlag, document.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    evidence = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert {one.ReferencedSOPInstanceUID for part in evidence for one in part.ReferencedSOPSequence} == uids
    groups = highdicom.sr.srread(tmp_path / "a.dcm").content.get_image_measurement_groups()
    assert [group.finding_type and group.finding_type.meaning for group in groups] == ["normal", "pneumonia", None]


def test_what_speaks_against_relying_on_it_is_said(tmp_path: Path, series: Path) -> None:
    prediction = classified(conformal_set=("pneumonia",), ood_score=4.5, unlike_training=True, decision="normal")
    found = told(prediction, series, tmp_path / "a.dcm")
    assert found["Decided for"] == ["Yes", "No"]
    assert found["Cannot be ruled out"] == ["No", "Yes"]
    assert found["Unlike the training data"] == ["Yes"]
    assert found["Distance from the training data"] == [4.5]


@pytest.mark.parametrize("findings", [(), ("pneumonia",), ("normal", "pneumonia")])
def test_several_labels_are_findings(tmp_path: Path, series: Path, findings: tuple[str, ...]) -> None:
    found = told(classified(findings=findings), series, tmp_path / "a.dcm")
    assert found["Decided for"] == ["Yes" if name in findings else "No" for name in BY_CLASS]


def test_a_segmentation_is_its_volumes_and_points_to_its_segments(tmp_path: Path, series: Path) -> None:
    kind = InputKind(False, 1, "HU")
    spec = NetworkSpec("segmentation", ("background", "a", "b"), 3, 1, ({"kind": "orient", "axes": "RAS"},), kind)
    predictor = load_bundle(write_bundle(tmp_path / "b", "ab", segmenter_network(3, (-800.0, -500.0)), spec))
    (answer,) = predict_files(predictor, find_inputs([series]), tmp_path / "out")
    found = said(tmp_path / "out" / "series_sr.dcm")
    assert found["Volume"] == pytest.approx(list(answer.volumes_ml.values()), rel=1e-4)
    segments = pydicom.dcmread(tmp_path / "out" / "series_seg.dcm")
    assert found["Referenced Segment"] == [segments.SOPInstanceUID] * 2
    content = highdicom.sr.srread(tmp_path / "out" / "series_sr.dcm").content
    groups = content.get_volumetric_roi_measurement_groups()
    tracked = [group.tracking_uid for group in groups]
    assert tracked == [one.TrackingUID for one in segments.SegmentSequence]
    assert [group.finding_type.meaning for group in groups] == ["a", "b"]


CODES = """class,category,category_meaning,type,type_meaning
pneumonia,49755003,Morphologically Abnormal Structure,233604007,Pneumonia
"""


def test_codes_that_are_given_are_used(tmp_path: Path, series: Path) -> None:
    (tmp_path / "codes.csv").write_text(CODES, encoding="utf-8-sig")
    told(classified(findings=("normal", "pneumonia")), series, tmp_path / "a.dcm", read_codes(tmp_path / "codes.csv"))
    content = highdicom.sr.srread(tmp_path / "a.dcm").content
    groups = content.get_image_measurement_groups()[:2]
    values = [(one.finding_type.value, one.finding_type.scheme_designator) for one in groups]
    assert values == [("normal", "99MEDRAIL"), ("233604007", "SCT")]
    assert groups[1].finding_category.value == "49755003"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class,type\na,b\n", "category"),
        (CODES.replace("233604007", "lung"), "'lung' is no code"),
        (CODES.replace("Pneumonia\n", "\n"), "type_meaning is empty"),
    ],
)
def test_codes_that_are_none_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "codes.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read_codes(tmp_path / "codes.csv")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_codes(tmp_path / "none.csv")


def test_without_highdicom_the_rest_is_done_and_with_it_what_is_missing(
    tmp_path: Path, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = InputKind(None, 1, "HU")
    predictor = load_bundle(
        write_bundle(
            tmp_path / "b", "ab", classifier_network(2, 1), NetworkSpec("classification", ("a", "b"), 2, 1, (), kind)
        )
    )
    with monkeypatch.context() as without:
        without.setattr(make.importlib.util, "find_spec", lambda name: None)
        (answer,) = predict_files(predictor, find_inputs([series]), tmp_path / "out", overlays=False)
        assert "pip install 'medrail[dicom-out]'" in answer.notes[0]
        assert not answer.reason
        assert not list((tmp_path / "out").glob("*.dcm"))
    (answer,) = predict_files(predictor, find_inputs([series]), tmp_path / "out", overlays=False)
    assert not answer.kept
    assert [path.name for path in answer.files] == ["series_sr.dcm"]
    (answer,) = predict_files(predictor, find_inputs([series]), tmp_path / "out", overlays=False, dicom=False)
    assert not answer.files
    assert not list((tmp_path / "out").glob("*.dcm"))


def test_a_mask_on_another_grid_is_refused(series: Path) -> None:
    image, sources = read(series), sources_of(series)
    mask = Image(np.zeros((1, image.grid[0] - 1, *image.grid[1:]), np.uint8), image.geometry, "label")
    with pytest.raises(DataError, match="needed: the same slices"):
        objects(Prediction("segmentation", ("background", "a"), "x/1@0", mask=mask), sources)


@pytest.mark.slow
def test_every_object_of_pydicom_has_both_or_a_sentence() -> None:
    """Objects of all kinds, many broken on purpose: never another error than a named one."""
    rng = np.random.default_rng(0)
    made, refused = 0, list[str]()
    for name in get_testdata_files():
        try:
            image, sources = read(name), sources_of(name)
        except MedrailError:
            continue
        if sources is None:
            continue
        mask = Image(rng.integers(0, 3, (1, *image.grid)).astype(np.uint8), image.geometry, "label")
        prediction = Prediction("segmentation", ("background", "a", "b"), "x/1@0", mask=mask)
        try:
            found = objects(prediction, sources)
        except MedrailError as error:
            refused.append(f"{name}: {error}")
            continue
        made += 1
        assert found.segmentation is not None
        dataset = pydicom.dcmread(BytesIO(found.segmentation))
        assert dataset.pixel_array.sum() == (mask.voxels > 0).sum(), name
        assert highdicom.seg.Segmentation.from_dataset(dataset).number_of_segments == 2
        assert highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(BytesIO(found.report))).content
    assert made > 30, refused
    assert not [text for text in refused if "Error" in text], "a fault inside highdicom is none that has a name"


def test_the_private_codes_of_two_names_are_two() -> None:
    names = ["a", "A", "liver", "a very long name of a class", "a very long name of a clasp", "肿瘤", "", " "]
    assert len({dicom_out.codes.private_code(name).value for name in names}) == len(names)
    assert all(len(dicom_out.codes.private_code(name).value) <= 16 for name in names)


@pytest.mark.parametrize("many", [False, True])
def test_the_sources_stay_as_they_are(tmp_path: Path, many: bool) -> None:
    rng = np.random.default_rng(9)
    slices = good_series(rng)
    if many:
        enhanced(slices, range(len(slices))).save_as(tmp_path / "multi.dcm", enforce_file_format=True)
    else:
        write_files(slices, tmp_path, rng)
    sources = sources_of(tmp_path / "multi.dcm" if many else tmp_path)
    before = [sorted(one.keys()) for one in sources.datasets]
    frames = sources.datasets[0].get("NumberOfFrames")
    objects(classified(), sources)
    assert [sorted(one.keys()) for one in sources.datasets] == before
    assert sources.datasets[0].get("NumberOfFrames") == frames
    if many:
        assert "FrameContentSequence" in sources.datasets[0].PerFrameFunctionalGroupsSequence[0]
