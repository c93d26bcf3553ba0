"""Calibration: survives JSON, refuses nonsense and hostile files, and does to an answer exactly what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medrail.bundle.calibration import Calibration, Conformal, Ood
from medrail.bundle.probability import joined_logits, softmax
from medrail.errors import BundleError
from small_calibrations import NETWORK, small_calibration

numbers32 = st.floats(-1e6, 1e6, width=32)
shares = st.floats(0.001, 0.999)


@st.composite
def oods(draw: st.DrawFn) -> Ood:
    columns = draw(st.integers(1, 9))
    rows = draw(st.integers(1, columns))
    return Ood(
        mean=draw(arrays.arrays(np.float32, columns, elements=numbers32)),
        whitening=draw(arrays.arrays(np.float32, (rows, columns), elements=numbers32)),
        threshold=draw(st.floats(0.01, 1e6)),
        quantile=draw(shares),
    )


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    thresholds = draw(st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0, 1), max_size=3))
    return Calibration(
        network_sha256=draw(st.text("0123456789abcdef", min_size=64, max_size=64)),
        temperature=draw(st.floats(0.001, 1000)),
        thresholds=thresholds,
        threshold_rule="Youden" if thresholds else "",
        conformal=draw(st.one_of(st.none(), st.builds(Conformal, shares, st.floats(0, 1)))),
        ood=draw(st.one_of(st.none(), oods())),
        made_from=draw(st.dictionaries(st.text(max_size=5), st.integers(), max_size=2)),
    )


@settings(deadline=None, max_examples=100)
@given(calibrations())
def test_json_and_back_is_equal_to_the_last_bit(calibration: Calibration) -> None:
    text = json.dumps(calibration.to_dict(), allow_nan=False)
    back = Calibration.from_bytes(text.encode())
    assert back == calibration
    assert back.to_dict() == calibration.to_dict()
    if calibration.ood and back.ood:
        assert back.ood.whitening.tobytes() == calibration.ood.whitening.tobytes()
        assert not back.ood.mean.flags.writeable


def test_a_file_and_back(tmp_path: Path) -> None:
    calibration = small_calibration(3)
    calibration.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == calibration
    (tmp_path / "link.json").symlink_to(tmp_path / "calibration.json")
    with pytest.raises(BundleError, match="plain file"):
        Calibration.read(tmp_path / "link.json")
    with pytest.raises(BundleError, match="missing"):
        Calibration.read(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": -1.0},
        {"temperature": True},
        {"temperature": "1"},
        {"temperature": 1e9},
        {"network_sha256": "ab"},
        {"network_sha256": None},
        {"thresholds": {"yes": 1.5}},
        {"thresholds": {"yes": None}},
        {"thresholds": [0.5]},
        {"thresholds": {}},
        {"threshold_rule": ""},
        {"conformal": {"alpha": 0, "quantile": 0.5}},
        {"conformal": {"alpha": 0.1}},
        {"conformal": {"alpha": 0.1, "quantile": 2}},
        {"conformal": {"alpha": 0.1, "quantile": 0.5, "more": 1}},
        {"made_from": 3},
        {"format": 3},
        {"format": None},
        {"unknown": 1},
        {"ood": {"mean": "AAAA"}},
    ],
)
def test_nonsense_is_refused(change: dict[str, Any]) -> None:
    values = small_calibration(3).to_dict() | change
    with pytest.raises(BundleError):
        Calibration.from_dict(values)


@pytest.mark.parametrize(
    "change",
    [
        {"features": 4},
        {"features": 10**9, "components": 10**9},
        {"features": True},
        {"components": 0},
        {"components": 4},
        {"mean": "####"},
        {"mean": "A" * 15},
        {"mean": 7},
        {"mean": "AADAfwAAAAAAAAAA"},  # NaN
        {"threshold": 0},
        {"threshold": float("inf")},
        {"quantile": 1.01},
    ],
)
def test_arrays_that_are_not_what_is_said_of_them_are_refused(change: dict[str, Any]) -> None:
    values = small_calibration(3).to_dict()
    values["ood"] |= change
    with pytest.raises(BundleError):
        Calibration.from_dict(values)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_a_damaged_file_is_a_bundle_error_or_still_a_calibration(data: st.DataObject) -> None:
    content = bytearray(json.dumps(small_calibration(3).to_dict()).encode())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    try:
        found = Calibration.from_bytes(bytes(content))
    except BundleError:
        return
    assert Calibration.from_dict(found.to_dict()).to_dict() == found.to_dict()


def test_deep_nesting_and_constants_are_refused() -> None:
    for content in (b"[" * 100_000, b'{"format": NaN}', b"[]", b"", b"\xff"):
        with pytest.raises(BundleError):
            Calibration.from_bytes(content)


@settings(deadline=None, max_examples=100)
@given(
    logits=arrays.arrays(np.float32, st.tuples(st.integers(2, 6)), elements=st.floats(-50, 50, width=32)),
    temperature=st.floats(0.05, 20),
)
def test_temperature_keeps_the_order_and_divides_the_log_odds(logits: np.ndarray, temperature: float) -> None:
    plain, calibrated = softmax(logits), softmax(logits, temperature)
    assert calibrated.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(
        calibrated, np.exp((logits - logits.max()) / temperature) / np.exp((logits - logits.max()) / temperature).sum(),
        atol=1e-5,
    )  # fmt: skip
    order = np.argsort(plain, kind="stable")
    assert (np.diff(calibrated[order]) >= -1e-6).all()
    assert softmax(logits, 1.0).tobytes() == plain.tobytes()


@settings(deadline=None, max_examples=100)
@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 7), st.integers(2, 5)), elements=st.floats(-1000, 1000, width=32)
    )
)
def test_joined_logits_give_the_mean_of_the_probabilities(logits: np.ndarray) -> None:
    joined = joined_logits(logits)
    mean = np.mean([softmax(row) for row in logits], axis=0, dtype=np.float64)
    np.testing.assert_allclose(softmax(joined), mean, atol=1e-6)
    if len(logits) == 1:
        assert joined.tobytes() == logits[0].tobytes()


@settings(deadline=None, max_examples=100)
@given(p=st.floats(0, 1), threshold=st.floats(0, 1))
def test_of_two_classes_the_threshold_decides_for_both(p: float, threshold: float) -> None:
    calibration = Calibration(NETWORK, thresholds={"sick": threshold}, threshold_rule="sensitivity 0.95")
    for order in ({"well": 1 - p, "sick": p}, {"sick": p, "well": 1 - p}):
        assert calibration.decide(order) == ("sick" if p >= threshold else "well")


def test_of_three_classes_the_most_probable_is_decided_for() -> None:
    calibration = Calibration(NETWORK, thresholds={"b": 0.1}, threshold_rule="Youden")
    assert calibration.decide({"a": 0.5, "b": 0.3, "c": 0.2}) == "a"


def test_the_conformal_set_is_what_cannot_be_ruled_out() -> None:
    probabilities = {"a": 0.7, "b": 0.25, "c": 0.05}
    sets = [
        Calibration(NETWORK, conformal=Conformal(0.1, quantile)).conformal_set(probabilities)
        for quantile in (0.0, 0.31, 0.75, 0.96, 1.0)
    ]
    assert sets == [(), ("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "c")]
    assert Calibration(NETWORK).conformal_set(probabilities) is None


def test_the_score_is_about_one_for_what_it_was_fitted_to_and_grows_with_the_distance() -> None:
    """Against scipy's Mahalanobis distance."""
    from scipy.spatial.distance import mahalanobis

    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))
    features = rng.normal(size=(4000, 5)) @ mixing + 3
    precision = np.linalg.inv(np.cov(features.T))
    whitening = np.linalg.cholesky(precision).T
    ood = Ood(features.mean(axis=0), whitening, 2.0, 0.99)
    scores = [ood.score(row.astype(np.float32)) for row in features[:500]]
    assert np.mean(np.square(scores)) == pytest.approx(1, abs=0.1)
    for row in features[:20]:
        wanted = mahalanobis(row, features.mean(axis=0), precision) / math.sqrt(5)
        assert ood.score(row.astype(np.float32)) == pytest.approx(wanted, rel=1e-4)
    assert ood.score((features[0] + 1000 * mixing[0]).astype(np.float32)) > 100
    with pytest.raises(BundleError, match="features"):
        ood.score(np.zeros(4, np.float32))
