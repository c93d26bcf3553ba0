"""Two models, one input: both answers as each gives it alone, and what differs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medrail.serve.difference import difference, mask_difference
from medrail.serve.masks import decode_runs
from medrail.serve.problems import Refusal
from medrail.serve.schemas import RunLengths
from medrail.types import Geometry, Image, Prediction

CLASSES = ("background", "liver", "kidney")
SPACING_MM = (5.0, 0.7, 0.9)


@st.composite
def two_masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(arrays.array_shapes(min_dims=3, max_dims=3, max_side=5))
    mask = arrays.arrays(np.uint8, shape, elements=st.integers(0, 2))
    return draw(mask), draw(mask)


def labels(voxels: np.ndarray) -> Image:
    return Image(voxels[np.newaxis], Geometry.from_spacing(SPACING_MM), unit="label")


@given(two_masks())
def test_the_map_tells_every_difference_and_nothing_else(masks) -> None:
    ours, theirs = masks
    found = mask_difference(labels(ours), CLASSES, labels(theirs), CLASSES)
    where = decode_runs(found.map.rle)
    assert np.array_equal(where > 0, ours != theirs)
    assert not theirs[where == 1].any()
    assert not ours[where == 2].any()
    assert ours[where == 3].all()
    assert theirs[where == 3].all()
    assert found.voxels == (ours != theirs).sum() == sum(entry.voxels for entry in found.map.classes[1:])
    assert found.volume_ml == pytest.approx(found.voxels * np.prod(SPACING_MM) / 1000)
    for number, entry in enumerate(found.classes, 1):
        a, b = ours == number, theirs == number
        assert entry.voxels == (a.sum(), b.sum())
        assert entry.dice == (pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum())) if (a | b).any() else None)


@given(two_masks())
def test_the_difference_turned_round(masks) -> None:
    ours, theirs = masks
    there = mask_difference(labels(ours), CLASSES, labels(theirs), CLASSES)
    back = mask_difference(labels(theirs), CLASSES, labels(ours), CLASSES)
    turned = np.array([0, 2, 1, 3], np.uint8)
    assert np.array_equal(turned[decode_runs(there.map.rle)], decode_runs(back.map.rle))
    assert (there.voxels, there.volume_ml) == (back.voxels, back.volume_ml)
    for one, other in zip(there.classes, back.classes, strict=True):
        assert one.dice == other.dice
        assert one.volume_difference_ml == pytest.approx(-other.volume_difference_ml)


@given(two_masks())
def test_classes_are_matched_by_name(masks) -> None:
    ours, theirs = masks
    swapped = np.array([0, 2, 1], np.uint8)[theirs]
    expected = mask_difference(labels(ours), CLASSES, labels(theirs), CLASSES)
    assert mask_difference(labels(ours), CLASSES, labels(swapped), ("none", "kidney", "liver")) == expected


def test_what_cannot_be_compared() -> None:
    classes = Prediction("classification", ("a", "b"), "x/1", {"a": 0.4, "b": 0.6})
    others = Prediction("classification", ("c", "d"), "x/2", {"c": 0.4, "d": 0.6})
    mask = Prediction("segmentation", ("none", "a"), "x/3", mask=labels(np.zeros((1, 2, 3), np.uint8)))
    for first, second in (
        (classes, others),
        (classes, mask),
        (mask, replace(mask, classes=("none", "b"))),
        (mask, replace(mask, mask=labels(np.zeros((1, 3, 2), np.uint8)))),
    ):
        with pytest.raises(Refusal) as refused:
            difference(first, second)
        assert refused.value.kind == "not-comparable"


def test_findings_are_compared_as_sets() -> None:
    first = Prediction("classification", ("a", "b"), "x/1", {"a": 0.6, "b": 0.6}, findings=("a", "b"))
    same = replace(first, findings=("b", "a"))
    assert difference(first, same).same_decision
    assert not difference(first, replace(first, findings=("a",))).same_decision


@pytest.fixture(scope="module")
def served(
    start_once, volume_segmenter, other_volume_segmenter, classifier, other_classifier, picture_segmenter
) -> Any:
    return start_once(volume_segmenter, other_volume_segmenter, classifier, other_classifier, picture_segmenter)


def compare(served: Any, content: bytes, first: str, second: str, **headers: str) -> Any:
    params = {"first": first, "second": second}
    return served.client.post("/v1/compare", files={"file": ("x", content)}, params=params, headers=headers)


def alone(served: Any, content: bytes, model: str) -> dict:
    name, version = model.split("/")
    response = served.client.post(f"/v1/models/{name}/versions/{version}/predict", files={"file": ("x", content)})
    assert response.status_code == 200, response.text
    return response.json()


def test_two_classifiers(served, blob_png) -> None:
    answer = compare(served, blob_png, "chest/1", "chest/2")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    for part, version in (("first", "1"), ("second", "2")):
        assert found[part]["model_version"] == version
        assert found[part]["probabilities"] == alone(served, blob_png, f"chest/{version}")["probabilities"]
    said = found["difference"]
    assert set(said["probabilities"]) == {"normal", "viral pneumonia"}
    for name, change in said["probabilities"].items():
        assert change == pytest.approx(found["second"]["probabilities"][name] - found["first"]["probabilities"][name])
    assert said["largest"] == max(map(abs, said["probabilities"].values())) > 0
    assert said["same_decision"] == (found["first"]["class_name"] == found["second"]["class_name"])


def test_two_segmenters(served, head_nifti) -> None:
    content = head_nifti.read_bytes()
    answer = compare(served, content, "brain/1", "brain/2")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    masks = []
    for part, version in (("first", "1"), ("second", "2")):
        assert found[part]["mask"] == alone(served, content, f"brain/{version}")["mask"]
        masks.append(decode_runs(RunLengths.model_validate(found[part]["mask"]["rle"])))
    said = found["difference"]
    where = decode_runs(RunLengths.model_validate(said["map"]["rle"]))
    assert np.array_equal(where > 0, masks[0] != masks[1])
    assert said["voxels"] == np.count_nonzero(where) > 0
    assert said["volume_ml"] == pytest.approx(said["voxels"] * 4.0 * 2.5 * 3.0 / 1000, rel=1e-4)
    line = served.audit.read_text().splitlines()
    assert '"second_version": "2"' in next(text for text in line if "/v1/compare" in text and "brain" in text)


def test_a_comparison_of_volumes_may_be_a_job(served, head_nifti) -> None:
    accepted = compare(served, head_nifti.read_bytes(), "brain/1", "brain/2", Prefer="respond-async")
    assert accepted.status_code == 202
    links = accepted.json()["links"]
    while served.client.get(links["self"]).json()["status"] in ("queued", "running"):
        pass
    assert served.client.get(links["result"]).json()["difference"]["kind"] == "segmentation"


def test_a_model_is_the_same_as_itself(served, head_nifti) -> None:
    said = compare(served, head_nifti.read_bytes(), "brain/2", "brain/2").json()["difference"]
    assert (said["voxels"], said["share"]) == (0, 0)
    assert all(entry["dice"] == 1 for entry in said["classes"])


@pytest.mark.parametrize(
    ("first", "second", "accept", "status", "kind"),
    [
        ("chest/1", "brain/1", "*/*", 422, "not-comparable"),
        ("brain/1", "nuclei/1", "*/*", 422, "unsuitable-image"),
        ("chest/1", "chest/9", "*/*", 404, "unknown-model"),
        ("chest/1", "chest/2", "image/png", 406, "not-acceptable"),
        ("chest/1", "chest/2", "application/dicom", 406, "not-acceptable"),
    ],
)
def test_refusals(served, head_nifti, first, second, accept, status, kind) -> None:
    response = compare(served, head_nifti.read_bytes(), first, second, Accept=accept)
    assert (response.status_code, response.json()["type"]) == (status, f"urn:medrail:problem:{kind}"), response.text


def test_a_version_is_asked_by_its_address(served, head_nifti, blob_png) -> None:
    content = head_nifti.read_bytes()
    assert alone(served, content, "brain/2")["model_version"] == "2"
    assert alone(served, blob_png, "chest/2")["bundle_id"].startswith("chest/2@")
    headers = {"Prefer": "respond-async"}
    for name, sent in (("brain", content), ("chest", blob_png)):
        route = f"/v1/models/{name}/versions/2/predict"
        assert served.client.post(route, files={"file": ("x", sent)}, headers=headers).status_code == 202
    unknown = served.client.post("/v1/models/chest/versions/9/predict", files={"file": ("x", blob_png)})
    assert unknown.status_code == 404
