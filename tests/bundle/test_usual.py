"""What is usual travels whole, is refused when damaged, and its numbers are those of the image."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.bundle.calibration import Calibration
from medrail.bundle.usual import Shares, Usual, input_statistics
from medrail.errors import BundleError
from small_calibrations import small_calibration

USUAL = Usual(
    40, {"classes": Shares((30, 10), names=("no", "yes")), "ood_score": Shares((13, 14, 13), edges=(0.9, 1.25))}
)


def test_it_makes_the_trip_through_json_with_the_calibration() -> None:
    calibration = small_calibration(2, usual=USUAL)
    text = json.dumps(calibration.to_dict())
    assert Calibration.from_dict(json.loads(text)) == calibration
    assert calibration.numbers()["usual"] == USUAL.to_dict()


def test_a_calibration_without_it_is_the_one_that_it_was() -> None:
    """bundle.json repeats a calibration's numbers: of older bundles they must stay the same, key by key."""
    values = small_calibration(2).to_dict()
    assert values["format"] == 1
    assert "usual" not in values
    assert "usual" not in small_calibration(2).numbers()


@pytest.mark.parametrize(
    "change",
    [
        {"counts": [30]},
        {"counts": [30, -1]},
        {"counts": [0, 0]},
        {"counts": [30, 1.5]},
        {"counts": [30, True]},
        {"names": ["only"]},
        {"names": [1, 2]},
        {"names": None},
        {"names": [], "edges": ["a"]},
        {"names": [], "edges": [float("nan")]},
        {"names": [], "edges": [1.0, 1.0], "counts": [1, 2, 3]},
        {"names": [], "edges": [2.0, 1.0], "counts": [1, 2, 3]},
    ],
)
def test_nonsense_is_refused(change: dict[str, Any]) -> None:
    values = USUAL.to_dict()
    values["shares"]["classes"] |= change
    with pytest.raises(BundleError):
        Usual.from_dict(values)


@pytest.mark.parametrize("values", [None, [], {}, {"cases": 3}, {"cases": 3, "shares": []}, {"cases": 3, "shares": 1}])
def test_other_things_are_refused(values: Any) -> None:
    with pytest.raises(BundleError):
        Usual.from_dict(values)


def test_a_later_statistic_is_passed_over() -> None:
    values = USUAL.to_dict()
    values["shares"]["of_tomorrow"] = {"edges": [1.0], "counts": [1, 1]}
    assert Usual.from_dict(values) == USUAL


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_every_value_lies_in_one_bin_and_is_counted_there(values: list[float]) -> None:
    shares = Shares.of_numbers(values)
    if shares is None:
        return
    assert sum(shares.counts) == len(values)
    found = [shares.bins_of(value) for value in values]
    assert [sum(place == (number,) for place in found) for number in range(len(shares.counts))] == list(shares.counts)
    assert len(shares.labels) == len(shares.counts)


def test_bins_are_about_as_full_as_each_other() -> None:
    shares = Shares.of_numbers(np.random.default_rng(3).normal(size=500).tolist())
    assert shares is not None
    assert len(shares.counts) == 10
    assert max(shares.counts) - min(shares.counts) <= 2


@pytest.mark.parametrize("values", [[], [1.0] * 30, [float("nan")] * 3])
def test_what_does_not_vary_has_no_bins(values: list[float]) -> None:
    assert Shares.of_numbers(values) is None


def test_what_is_no_number_and_no_known_name_lies_in_no_bin() -> None:
    assert USUAL.shares["ood_score"].bins_of(float("inf")) == ()
    assert USUAL.shares["classes"].bins_of("maybe") == ()
    assert USUAL.shares["classes"].bins_of(["yes", "no"]) == (1, 0)


@pytest.mark.parametrize("shape", [(1, 1, 37, 112), (3, 1, 224, 224), (1, 64, 64, 64), (2, 1, 3, 2), (1, 1, 5000, 1)])
def test_the_numbers_are_close_to_those_of_all_voxels(shape: tuple[int, ...]) -> None:
    """Also of a picture whose columns differ: the stride must not run down one of them."""
    rng = np.random.default_rng(1)
    voxels = (rng.normal(size=shape) + np.linspace(-3, 3, shape[-1])).astype(np.float32)
    found = input_statistics(voxels)
    assert found["input_mean"] == pytest.approx(voxels.mean(), abs=0.15)
    assert found["input_sd"] == pytest.approx(voxels.std(), rel=0.06)
    if voxels.size <= 4096:
        assert found["input_mean"] == pytest.approx(voxels.mean(), abs=1e-5)


def test_an_image_of_nothing_has_no_numbers() -> None:
    assert input_statistics(np.zeros((1, 0, 3, 4), np.float32)) == {}
