"""Percentiles and rates: intervals hold the truth as often as they say, also of requests that are slow together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrail.loadtest.measure import _ranks, percentile, rate, share

LATENCIES = st.lists(st.floats(0, 1e5), min_size=1, max_size=300)


def queue(rng: np.random.Generator, n: int, load: float) -> np.ndarray:
    """Times from arrival to answer in a queue with one server: neighbours are alike."""
    gaps, works = rng.exponential(1 / load, n), rng.exponential(1.0, n)
    waited, found = 0.0, np.empty(n)
    for place in range(n):
        waited = max(0.0, waited - gaps[place])
        waited += works[place]
        found[place] = waited
    return found


def covered(samples: list[np.ndarray], share: float, truth: float) -> float:
    intervals = [percentile(sample, share) for sample in samples]
    return float(
        np.mean(
            [(one.low is None or one.low <= truth) and (one.high is None or truth <= one.high) for one in intervals]
        )
    )


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_intervals_of_independent_latencies_hold_the_quantile_as_often_as_they_say(q):
    rng = np.random.default_rng(3)
    assert covered([rng.exponential(1.0, 800) for _ in range(500)], q, -math.log(1 - q)) >= 0.93


def test_intervals_know_that_requests_in_a_queue_are_slow_together():
    rng = np.random.default_rng(5)
    load = 0.7
    truth = -math.log(0.05) / (1 - load)  # M/M/1: exponential with rate 1 - load
    samples = [queue(rng, 2_000, load)[200:] for _ in range(150)]
    shuffled = [rng.permutation(sample) for sample in samples]  # as if they had been independent
    assert covered(samples, 0.95, truth) >= 0.85 > covered(shuffled, 0.95, truth) + 0.1


@given(LATENCIES, st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_one_of_the_latencies_and_lies_within_its_interval(values, q):
    found = percentile(values, q)
    assert found.value in values
    assert found.n == len(values)
    assert sum(value <= found.value for value in values) >= q * len(values) - 1e-6
    assert found.low is None or found.low <= found.value
    assert found.high is None or found.high >= found.value


def test_few_requests_have_no_upper_bound():
    few, enough = (percentile(np.arange(n, dtype=float), 0.95) for n in (71, 73))
    assert few.high is None  # 0.95 ** 71 is above 2.5 %: all of them may lie below the quantile
    assert enough.high == 72
    assert percentile([], 0.95).value is None


@pytest.mark.parametrize("n", [100, 1_000, 20_000])
def test_ranks_hold_95_percent_and_no_fewer(n):
    rng = np.random.default_rng(1)
    low, high = _ranks(n, 0.95)
    below = rng.binomial(n, 0.95, 20_000)
    assert np.mean((below >= low) & (below < high)) == pytest.approx(0.95, abs=0.015 if n > 100 else 0.04)


def test_rates_hold_the_truth():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        times = np.cumsum(rng.exponential(1 / 50, 1_500))
        found = rate(times, 2.0, 22.0)
        held += found.low <= 50 <= found.high
        assert found.value == pytest.approx(np.sum((times >= 2) & (times < 22)) / 20)
    assert held >= 0.88 * 200
    assert rate([], 0.0, 1.0).value == 0
    assert rate([1.0], 1.0, 1.0).value is None


def test_no_errors_are_not_proof_of_none():
    assert share(0, 100).high == pytest.approx(0.037, abs=0.001)
    assert share(0, 0).value is None
