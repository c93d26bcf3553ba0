"""A calibrated bundle in service: what it says is what the same bundle says anywhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medrail.bundle import load_bundle
from medrail.read import read


@pytest.mark.parametrize("value", [30, 80, 128, 140, 160, 181, 185, 230])
def test_the_served_answer_is_that_of_the_bundle(
    start, calibrated_classifier, encode, tmp_path: Path, value: int
) -> None:
    content = encode(np.full((30, 40), value, np.uint8))
    (tmp_path / "file.png").write_bytes(content)
    expected = load_bundle(calibrated_classifier, threads=1)(read(tmp_path / "file.png"))
    answer = start(calibrated_classifier).predict(content).json()
    assert answer["class_name"] == expected.class_name
    assert answer["confidence"] == expected.confidence
    assert answer["probabilities"] == expected.probabilities
    assert answer["conformal_set"] == list(expected.conformal_set or ())
    assert answer["ood_score"] == expected.ood_score
    assert answer["unlike_training"] is expected.unlike_training
    assert answer["abstain"] is expected.abstain
    assert expected.unlike_training is (abs(value - 128) > 60)
    assert expected.abstain is (value not in (80, 185))


def test_what_a_bundle_does_not_know_is_null(start, classifier, blob_png) -> None:
    answer = start(classifier).predict(blob_png).json()
    assert (answer["conformal_set"], answer["ood_score"], answer["unlike_training"]) == (None, None, None)
    assert answer["abstain"] is False


def test_the_api_description_knows_the_fields(start, calibrated_classifier) -> None:
    schemas = start(calibrated_classifier).client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("conformal_set", "abstain", "ood_score", "unlike_training"):
        assert schemas["ClassificationAnswer"]["properties"][name]["description"]
    assert "unlike_training" in schemas["SegmentationAnswer"]["properties"]
    assert "abstain" not in schemas["SegmentationAnswer"]["properties"]
