"""The served answer is the Predictor's answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

import rois
from medrail.bundle import load_bundle, overlay_png
from medrail.read import read, read_mask, write_nifti
from medrail.types import Image


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("colour", [False, True])
def test_classification_equals_the_predictor(start, classifier, blob, encode, tmp_path: Path, form, colour) -> None:
    content = encode(np.stack([blob, blob // 2, 255 - blob], axis=-1) if colour else blob, form)
    path = tmp_path / "picture"
    path.write_bytes(content)
    expected = load_bundle(classifier, threads=1)(read(path))
    response = start(classifier).predict(content)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["task"] == "classification"
    assert answer["class_name"] == expected.class_name
    assert answer["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-4)
    assert list(answer["probabilities"]) == ["normal", "bacterial pneumonia", "viral pneumonia"]
    assert answer["confidence"] == max(answer["probabilities"].values())
    assert (answer["model_name"], answer["model_version"]) == ("chest", "1")
    assert answer["bundle_id"] == expected.bundle_id
    assert answer["disclaimer"].startswith("Not a medical device")
    assert answer["preview_png"] is None


def test_several_labels_are_answered_each_by_itself(start, findings_classifier, blob, encode, tmp_path: Path) -> None:
    seen = set()
    for value in (blob, 255 - blob, np.full_like(blob, 128)):
        content = encode(np.stack([value, value // 2, 255 - value], axis=-1))
        path = tmp_path / "picture"
        path.write_bytes(content)
        expected = load_bundle(findings_classifier, threads=1)(read(path))
        answer = start(findings_classifier).predict(content).json()
        assert answer["task"] == "classification"
        assert (answer["class_name"], answer["confidence"]) == (None, None)
        assert answer["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-4)
        assert answer["findings"] == [name for name, value in answer["probabilities"].items() if value >= 0.5]
        assert answer["findings"] == list(expected.findings)
        assert answer["thresholds"] == {"effusion": 0.5, "mass": 0.5, "nodule": 0.5}
        seen.add(tuple(answer["findings"]))
    assert len(seen) > 1, "the pictures do not tell the answers apart"
    (card,) = start(findings_classifier).client.get("/v1/models").json()["models"]
    assert card["multi_label"] is True


def test_one_class_an_image_has_no_findings(start, classifier, blob_png) -> None:
    answer = start(classifier).predict(blob_png).json()
    assert (answer["findings"], answer["thresholds"]) == (None, None)


def test_times_add_up(start, classifier, blob_png) -> None:
    answer = start(classifier).predict(blob_png).json()
    times = answer["timings_ms"]
    assert set(times) == {"upload", "queue", "decode", "prepare", "model", "post", "preview"}
    assert all(value >= 0 for value in times.values())
    parts = sum(times[name] for name in ("decode", "prepare", "model", "post"))
    assert answer["inference_time_ms"] == pytest.approx(parts, abs=0.01)


def _mask_of(answer: dict, folder: Path) -> Image:
    path = folder / "answered"
    path.write_bytes(base64.b64decode(answer["mask"]["data"]))
    return read_mask(path)


def test_mask_of_a_volume_equals_the_predictor(start, volume_segmenter, head, head_nifti, tmp_path) -> None:
    raw = read(head_nifti)
    expected = load_bundle(volume_segmenter, threads=1)(raw).mask
    assert set(np.unique(expected.voxels)) == {0, 1, 2}
    answer = start(volume_segmenter).predict(head_nifti.read_bytes()).json()
    mask = answer["mask"]
    assert mask["encoding"] == "nifti.gz;base64"
    assert tuple(mask["shape"]) == raw.grid
    assert mask["axes"] == ["D", "H", "W"]
    assert mask["spacing_mm"] == pytest.approx(raw.geometry.spacing_mm)
    found = _mask_of(answer, tmp_path)
    assert np.array_equal(found.voxels, expected.voxels)
    assert found.geometry.is_close(raw.geometry)
    voxel_ml = 4.0 * 2.5 * 3.0 / 1000
    for entry in mask["classes"]:
        count = int((expected.voxels == entry["index"]).sum())
        assert entry["voxels"] == count
        assert entry["volume_ml"] == pytest.approx(count * voxel_ml, rel=1e-4)
    assert [entry["name"] for entry in mask["classes"]] == ["background", "brain", "ventricle"]


@pytest.mark.parametrize("accept", ["application/x-nifti", "application/gzip", "image/png;q=0.1, application/gzip"])
def test_mask_as_nifti(start, volume_segmenter, head_nifti, tmp_path, accept) -> None:
    expected = load_bundle(volume_segmenter, threads=1)(read(head_nifti)).mask
    response = start(volume_segmenter).predict(head_nifti.read_bytes(), headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] in ("application/x-nifti", "application/gzip")
    assert "mask.nii.gz" in response.headers["content-disposition"]
    path = tmp_path / "mask"
    path.write_bytes(response.content)
    assert np.array_equal(read_mask(path).voxels, expected.voxels)


def test_mask_of_a_picture(start, picture_segmenter, blob, blob_png, tmp_path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(blob_png)
    expected = load_bundle(picture_segmenter, threads=1)(read(path)).mask
    assert np.array_equal(expected.voxels[0, 0], blob > 150)
    service = start(picture_segmenter)
    answer = service.predict(blob_png).json()
    assert answer["mask"]["encoding"] == "png;base64"
    assert answer["mask"]["spacing_mm"] is None
    assert answer["mask"]["classes"][1]["volume_ml"] is None
    assert np.array_equal(_mask_of(answer, tmp_path).voxels, expected.voxels)
    response = service.predict(blob_png, headers={"Accept": "image/png"})
    assert response.headers["content-type"] == "image/png"
    assert np.array_equal(np.array(Picture.open(io.BytesIO(response.content))), expected.voxels[0, 0])


def test_a_mask_in_space_is_no_png(start, volume_segmenter, head_nifti) -> None:
    response = start(volume_segmenter).predict(head_nifti.read_bytes(), headers={"Accept": "image/png"})
    assert response.status_code == 406
    assert "x-nifti" in response.json()["remedy"]


def test_a_class_is_no_file(start, classifier, blob_png) -> None:
    assert start(classifier).predict(blob_png, headers={"Accept": "image/png"}).status_code == 406


def test_preview_is_the_overlay(start, volume_segmenter, head_nifti) -> None:
    raw = read(head_nifti)
    mask = load_bundle(volume_segmenter, threads=1)(raw).mask
    answer = start(volume_segmenter).predict(head_nifti.read_bytes(), params={"preview": "true"}).json()
    shown = Picture.open(io.BytesIO(base64.b64decode(answer["preview_png"])))
    expected = Picture.open(io.BytesIO(overlay_png(raw, mask)))
    assert np.array_equal(np.array(shown), np.array(expected))


def test_region_of_interest(start, roi_classifier, blob, blob_png, encode, tmp_path) -> None:
    roi = np.zeros_like(blob)
    roi[10:40, 35:65] = 1
    paths = {"file": blob_png, "roi": encode(roi)}
    for name, content in paths.items():
        (tmp_path / name).write_bytes(content)
    expected = load_bundle(roi_classifier, threads=1)(read(tmp_path / "file"), read_mask(tmp_path / "roi"))
    service = start(roi_classifier)
    answer = service.predict(blob_png, roi=encode(roi)).json()
    assert answer["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-4)
    without = service.predict(blob_png)
    assert without.status_code == 422
    assert "region of interest" in without.json()["detail"]


@pytest.mark.parametrize("way", rois.STORED)
def test_a_region_of_interest_may_be_stored_in_other_axes(start, tmp_path, way) -> None:
    """As in the cases' room, so that what was trained and evaluated is served."""
    image, region = rois.bright_volume(), rois.region()
    write_nifti(image, tmp_path / "scan.nii.gz")
    write_nifti(rois.stored(region, way), tmp_path / "roi.nii.gz")
    bundle = rois.roi_segmenter(tmp_path / "bundles")
    expected = load_bundle(bundle, threads=1)(read(tmp_path / "scan.nii.gz"), region).mask.voxels
    content, roi = ((tmp_path / f"{name}.nii.gz").read_bytes() for name in ("scan", "roi"))
    response = start(bundle).predict(content, roi=roi)
    assert response.status_code == 200, response.text
    (tmp_path / "answer.nii.gz").write_bytes(base64.b64decode(response.json()["mask"]["data"]))
    assert np.array_equal(read_mask(tmp_path / "answer.nii.gz").voxels, expected)
    assert np.array_equal(expected, region.voxels)


@pytest.mark.parametrize(("way", "words"), [("elsewhere", "lies elsewhere"), ("smaller", "is 5 x 7 x 10")])
def test_a_region_of_interest_on_another_grid_is_refused(start, tmp_path, way, words) -> None:
    write_nifti(rois.bright_volume(), tmp_path / "scan.nii.gz")
    write_nifti(rois.stored(rois.region(), way), tmp_path / "roi.nii.gz")
    content, roi = ((tmp_path / f"{name}.nii.gz").read_bytes() for name in ("scan", "roi"))
    service = start(rois.roi_segmenter(tmp_path / "bundles"))
    response = service.predict(content, roi=roi)
    assert response.status_code == 422
    problem = response.json()
    assert problem["type"] == "urn:medrail:problem:unfitting-geometry"
    assert problem["detail"].startswith("The region of interest")
    assert words in problem["detail"]
    assert str(service.uploads) not in response.text


def test_models_are_chosen_by_name_and_version(start, classifier, picture_segmenter, blob_png) -> None:
    service = start(classifier, picture_segmenter)
    assert service.predict(blob_png).json()["model_name"] == "chest"
    assert service.predict(blob_png, params={"model": "nuclei"}).json()["task"] == "segmentation"
    assert service.predict(blob_png, params={"model": "nuclei/1"}).json()["model_name"] == "nuclei"
    unknown = service.predict(blob_png, params={"model": "nuclei/9"})
    assert unknown.status_code == 404
    assert "chest/1" in unknown.json()["detail"]


@pytest.fixture
def other_kinds(head: Image, tmp_path: Path) -> dict[str, bytes]:
    """The same volume as NIfTI unzipped, NRRD and MetaImage."""
    import nrrd

    write_nifti(head, tmp_path / "plain.nii")
    columns, axes = head.geometry.affine_ras_mm, head.voxels[0].transpose(2, 1, 0)
    directions = columns[:3, :3].T[::-1]
    header = {"space": "right-anterior-superior", "space directions": directions, "space origin": columns[:3, 3]}
    nrrd.write(str(tmp_path / "head.nrrd"), axes, header)
    lps = np.diag([-1, -1, 1]) @ columns[:3]
    matrix = (lps[:, :3] / np.array(head.geometry.spacing_mm)).T[::-1]
    lines = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "TransformMatrix": " ".join(f"{value:g}" for value in matrix.ravel()),
        "Offset": " ".join(f"{value:g}" for value in lps[:, 3]),
        "ElementSpacing": " ".join(f"{value:g}" for value in head.geometry.spacing_mm[::-1]),
        "DimSize": " ".join(str(extent) for extent in head.grid[::-1]),
        "ElementType": "MET_FLOAT",
        "ElementDataFile": "LOCAL",
    }
    text = "".join(f"{name} = {value}\n" for name, value in lines.items())
    return {
        "nifti": (tmp_path / "plain.nii").read_bytes(),
        "nrrd": (tmp_path / "head.nrrd").read_bytes(),
        "metaimage": text.encode() + head.voxels.astype("<f4").tobytes(),
    }


@pytest.mark.parametrize("kind", ["nifti", "nrrd", "metaimage"])
def test_every_volume_format_gives_the_same_mask(
    start, volume_segmenter, head_nifti, other_kinds, tmp_path, kind: str
) -> None:
    service = start(volume_segmenter)
    first = _mask_of(service.predict(head_nifti.read_bytes()).json(), tmp_path)
    response = service.predict(other_kinds[kind])
    assert response.status_code == 200, response.text
    other = _mask_of(response.json(), tmp_path)
    assert np.array_equal(first.voxels, other.voxels)
    assert other.geometry.is_close(first.geometry, tolerance_mm=1e-2)


def test_dicom(start, classifier, tmp_path, make_dicom: Callable[..., bytes]) -> None:
    content = make_dicom()
    (tmp_path / "slice").write_bytes(content)
    expected = load_bundle(classifier, threads=1)(read(tmp_path / "slice"))
    answer = start(classifier).predict(content)
    assert answer.status_code == 200, answer.text
    assert answer.json()["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-4)


@pytest.mark.shared
def test_real_head_through_the_service(start, volume_segmenter, shared_data: Path, tmp_path: Path) -> None:
    path = next((shared_data / "brain" / "mni152").glob("*T1*.nii*"), None) or next(
        (shared_data / "brain" / "mni152").glob("*.nii*")
    )
    expected = load_bundle(volume_segmenter, threads=1)(read(path)).mask
    answer = start(volume_segmenter).predict(path.read_bytes()).json()
    assert np.array_equal(_mask_of(answer, tmp_path).voxels, expected.voxels)
