"""The BCa bootstrap against scipy's, and where it must fall back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medrail.evaluate import bca, percentile_bootstrap
from medrail.evaluate.bca import bca_bootstrap, bca_intervals
from medrail.evaluate.bootstrap import FloatArray, left_out
from medrail.evaluate.metrics import mean_over_patients
from medrail.evaluate.scoring import mean_of


def test_as_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the correction for few patients it is the BCa interval of scipy, but for the noise of the resamples."""
    monkeypatch.setattr(bca, "_outwards", lambda n_groups: stats.norm.ppf(0.975))
    values = np.random.default_rng(0).gamma(1.0, size=40)
    mine = bca_bootstrap({"m": mean_of(values)}, range(40), resamples=40_000, seed=1)["m"]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=40_000, method="BCa", rng=2).confidence_interval
    assert mine == pytest.approx((theirs.low, theirs.high), abs=0.012)
    plain = percentile_bootstrap({"m": mean_of(values)}, range(40), resamples=40_000, seed=1)["m"]
    assert mine[0] - plain[0] > 0.02, "the skew moves both ends up"
    assert mine[1] - plain[1] > 0.02


def test_few_patients_make_it_wider_and_many_do_not() -> None:
    assert bca._outwards(10) == pytest.approx(stats.t.ppf(0.975, 9) * math.sqrt(10 / 9))
    assert bca._outwards(2000) == pytest.approx(1.96, abs=0.003)


def test_the_jackknife_leaves_out_patients() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0])
    without = left_out({"m": mean_of(values)}, ["a", "b", "b", "c"])["m"]
    assert without == pytest.approx([14 / 3, 9 / 2, 7 / 3])


def test_repeated_cases_of_a_patient_change_nothing() -> None:
    values = np.random.default_rng(0).beta(8, 2, size=30)
    patients = [str(index) for index in range(30)]
    ten_times = [name for name in patients for _ in range(10)]
    alone = bca_bootstrap({"m": mean_over_patients(values, patients)}, patients, resamples=800, seed=0)
    many = bca_bootstrap({"m": mean_over_patients(np.repeat(values, 10), ten_times)}, ten_times, resamples=800, seed=0)
    assert many["m"] == pytest.approx(alone["m"])


def test_the_same_seed_gives_the_same_interval() -> None:
    statistic = {"m": mean_of(np.random.default_rng(0).normal(size=25))}
    assert bca_bootstrap(statistic, range(25), resamples=300, seed=3) == bca_bootstrap(
        statistic, range(25), resamples=300, seed=3
    )
    assert bca_bootstrap(statistic, range(25), resamples=300, seed=4) != bca_bootstrap(
        statistic, range(25), resamples=300, seed=3
    )


def only_with_first(weights: FloatArray) -> FloatArray:
    """Undefined without the first item, which two thirds of the resamples have."""
    return np.where(weights[:, 0] > 0, weights.mean(axis=1) + weights[:, 0], math.nan)


@pytest.mark.parametrize(
    ("statistic", "groups", "method"),
    [
        (mean_of(np.arange(9.0)), range(9), "BCa bootstrap"),
        (only_with_first, range(9), "percentile bootstrap, as BCa is not defined here"),
        (mean_of(np.ones(9)), range(9), "no interval: all bootstrap resamples are alike"),
        (lambda weights: weights.max(axis=1) - 1, range(9), "percentile bootstrap, as BCa is not defined here"),
        (lambda weights: np.full(len(weights), math.nan), range(9), "no interval: not defined"),
        (mean_of(np.arange(9.0)), ["a"] * 9, "no interval: one group"),
        (
            lambda weights: np.where(weights.max(axis=1) < 2, 1.0, math.nan),
            range(9),
            "no interval: not defined in most of the resamples",
        ),
    ],
)
def test_falls_back_and_says_so(statistic: object, groups: object, method: str) -> None:
    found = bca_intervals({"s": statistic}, list(groups), resamples=400, seed=0)["s"]  # type: ignore[dict-item, call-overload]
    assert found.method == method
    assert math.isnan(found.low) == math.isnan(found.high) == method.startswith("no interval")
    if method.startswith("percentile"):
        plain = percentile_bootstrap({"s": statistic}, list(groups), resamples=400, seed=0)["s"]  # type: ignore[dict-item, call-overload]
        assert found[:2] == plain


def test_blocks_of_many_patients_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A jackknife of 500 blocks has the spread of one over 3,000 patients, and about its skew."""
    from medrail.evaluate import bootstrap

    values = np.random.default_rng(0).gamma(1.0, size=3000)
    blocks = left_out({"m": mean_of(values)}, range(3000))["m"]
    assert len(blocks) == 500
    monkeypatch.setattr(bootstrap, "MOST_LEFT_OUT", 3000)
    each = left_out({"m": mean_of(values)}, range(3000))["m"]
    errors = [math.sqrt((len(one) - 1) / len(one) * ((one - one.mean()) ** 2).sum()) for one in (blocks, each)]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert bca._acceleration(blocks) == pytest.approx(bca._acceleration(each), abs=0.005)
