"""Pointing game and deletion, on pictures where it is known what decides."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.errors import GeometryError
from medrail.evaluate.explanation import Deletion, Pointed, delete, measure_explanations, point_at
from medrail.types import Evidence, Image

SPOT = (slice(4, 9), slice(12, 18))


def spotted(rng: np.random.Generator) -> Image:
    """(1, 1, 20, 24): noise with a bright square."""
    voxels = rng.normal(0, 0.1, (1, 1, 20, 24)).astype(np.float32)
    voxels[(0, 0, *SPOT)] += 3
    return Image(voxels)


def mask_of_spot() -> Image:
    voxels = np.zeros((1, 1, 20, 24), np.uint8)
    voxels[(0, 0, *SPOT)] = 1
    return Image(voxels, unit="label")


def answer(image: Image) -> Mapping[str, float]:
    """A model that looks for the bright square and nothing else."""
    p = float(1 / (1 + np.exp(6 - 3 * image.voxels[(0, 0, *SPOT)].mean())))
    return {"no": 1 - p, "yes": p}


def evidence_of(values: np.ndarray, name: str = "yes") -> Evidence:
    return Evidence(name, Image(values.astype(np.float32)), exact=True, method="made by a test")


def test_a_true_map_hits_and_is_missed_when_it_is_deleted() -> None:
    rng = np.random.default_rng(0)
    image = spotted(rng)
    evidence = evidence_of(image.voxels)
    assert point_at(evidence, mask_of_spot()) == Pointed(hit=True, chance=30 / 480)
    found = delete(answer, image, evidence)
    assert found.probabilities[0] == pytest.approx(answer(image)["yes"])
    assert found.probabilities[2] < 0.01, "the square is 6 % of the picture, and 10 % are replaced"
    assert found.area < 0.2
    assert found.gain > 0.2


def test_a_map_of_noise_neither_hits_nor_matters() -> None:
    rng = np.random.default_rng(1)
    pointed, deletions, gains = [], [], []
    for number in range(24):
        image = spotted(rng)
        noise = evidence_of(rng.normal(size=image.voxels.shape))
        pointed.append(point_at(noise, mask_of_spot()))
        deletions.append(delete(answer, image, noise, seed=number))
        gains.append(deletions[-1].gain)
    measured = measure_explanations([f"p{n}" for n in range(24)], pointed, deletions)
    assert measured["pointing_hit_rate"].value < 0.3
    assert measured["pointing_hit_rate"].low <= 30 / 480
    assert abs(measured["deletion_gain"].value) < 0.05
    assert measured["deletion_gain"].low < 0 < measured["deletion_gain"].high


def test_a_map_that_points_at_the_wrong_place_is_found_out() -> None:
    rng = np.random.default_rng(2)
    image = spotted(rng)
    wrong = evidence_of(np.roll(image.voxels, (9, -11), axis=(2, 3)))
    assert not point_at(wrong, mask_of_spot()).hit
    assert delete(answer, image, wrong).gain < 0


def test_what_is_tolerated_hits_and_counts_for_chance_as_well() -> None:
    values = np.zeros((1, 1, 20, 24))
    values[0, 0, 11, 18] = 1  # three below and one right of the spot's last pixel
    evidence = evidence_of(values)
    assert [point_at(evidence, mask_of_spot(), far).hit for far in (0, 2, 3, 5)] == [False, False, True, True]
    assert point_at(evidence, mask_of_spot(), 3).chance == pytest.approx((5 + 6) * (6 + 6) / 480)


def test_a_map_that_says_nothing_is_no_better_than_chance() -> None:
    """All places equally high: not a hit, unless the mask is half of the picture or more."""
    flat = evidence_of(np.zeros((1, 1, 20, 24)))
    assert not point_at(flat, mask_of_spot()).hit
    everything = Image(np.ones((1, 1, 20, 24), np.uint8), unit="label")
    assert point_at(flat, everything) == Pointed(hit=True, chance=1.0)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_only_the_order_of_the_places_counts(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    image = spotted(rng)
    values = rng.integers(-50, 50, image.voxels.shape).astype(np.float32)
    first, second = evidence_of(values), evidence_of(np.float32(scale) * values + np.float32(shift))
    assert point_at(first, mask_of_spot()) == point_at(second, mask_of_spot())
    assert delete(answer, image, first, seed) == delete(answer, image, second, seed)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=20))
def test_rates_are_means_and_their_intervals_hold_them(cases: list[tuple[bool, float]]) -> None:
    pointed = [Pointed(hit, chance) for hit, chance in cases]
    measured = measure_explanations([str(n) for n in range(len(cases))], pointed, [None] * len(cases), resamples=200)
    assert set(measured) == {"pointing_hit_rate", "pointing_by_chance"}
    rate = measured["pointing_hit_rate"]
    assert rate.value == pytest.approx(np.mean([hit for hit, _ in cases]))
    assert rate.low <= rate.value <= rate.high
    assert rate.low < rate.high, "also where all cases end alike"
    assert rate.n == len(cases)


def test_cases_without_a_mask_are_left_out_of_pointing_only() -> None:
    drop = Deletion((0.0, 0.5), (1.0, 0.0), (1.0, 1.0))
    measured = measure_explanations(["a", "b", "c"], [None, Pointed(True, 0.1), None], [drop, drop, None])
    assert (measured["pointing_hit_rate"].n, measured["deletion_gain"].n) == (1, 2)
    assert measured["deletion_gain"].value == pytest.approx(0.5)
    assert measured["deletion_area"].value == pytest.approx(0.5)


def test_several_channels_and_whole_numbers_are_replaced_by_their_own_medians() -> None:
    voxels = np.stack([np.full((1, 4, 6), 10, np.uint8), np.full((1, 4, 6), 200, np.uint8)])
    voxels[:, 0, 0, 0] = 77
    seen: list[np.ndarray] = []

    def watch(image: Image) -> Mapping[str, float]:
        seen.append(image.voxels)
        return {"yes": 0.5}

    delete(watch, Image(voxels, unit="uint8"), evidence_of(np.arange(24)[::-1].reshape(1, 1, 4, 6)))
    assert all(one.dtype == np.uint8 and one.shape == voxels.shape for one in seen)
    assert seen[-1][:, 0, 0, 0].tolist() == [10, 200]
    assert seen[0][:, 0, 0, 0].tolist() == [77, 77]


def test_a_mask_that_does_not_belong_to_it_is_refused() -> None:
    evidence = evidence_of(np.zeros((1, 1, 20, 24)))
    for mask in (np.ones((1, 1, 20, 23), np.uint8), np.zeros((1, 1, 20, 24), np.uint8)):
        with pytest.raises(GeometryError, match="marked"):
            point_at(evidence, Image(mask, unit="label"))
