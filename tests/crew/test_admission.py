"""Which jobs may run side by side, and what is learned of their needs: numbers only."""

from __future__ import annotations

import pytest

from medrail.crew.admission import Estimate, fits

MB, GB = 1_000_000, 1_000_000_000


def test_one_job_always_fits():
    assert fits(1 * GB, [], 50 * GB)
    assert fits(0, [], 1)
    assert not fits(1 * GB, [1 * MB], 50 * GB)


def test_all_fit_where_nobody_says_what_there_is():
    assert fits(None, [10**15, 10**15], 10**15)


def test_together_they_fit_into_the_budget():
    assert fits(3 * GB, [1 * GB, 1 * GB], 1 * GB)
    assert not fits(3 * GB, [1 * GB, 1 * GB], 1 * GB + 1)
    assert not fits(3 * GB, [1 * GB, 1 * GB], 1 * GB, idle_bytes=1)


def estimate(*ratios: float, needs: int = 100 * MB) -> Estimate:
    made = Estimate()
    made.idle_bytes = 50 * MB
    for ratio in ratios:
        made.learn(needs, 50 * MB + int(ratio * needs))
    return made


def test_at_first_the_callers_word_counts():
    assert estimate().of(100 * MB) == 150 * MB


def test_one_job_raises_it_at_once():
    assert estimate(3.0).of(100 * MB) == pytest.approx(50 * MB + 3.3 * 100 * MB)
    assert estimate(3.0).of(200 * MB) == pytest.approx(50 * MB + 3.3 * 200 * MB)


def test_several_jobs_lower_it():
    assert estimate(0.5).factor == estimate(0.5, 0.5, 0.5).factor == 1.0
    assert estimate(*[0.5] * 4).factor == pytest.approx(0.55)


def test_one_strange_job_among_many_does_not_count_for_all():
    assert estimate(*[0.5] * 30, 20.0, *[0.5] * 30).factor == pytest.approx(0.55)


def test_what_is_long_ago_is_forgotten():
    assert estimate(*[5.0] * 100, *[0.5] * 64).factor == pytest.approx(0.55)


def test_tiny_jobs_teach_nothing_about_large_ones():
    """A thousand bytes that took five megabytes of libraries do not make a gigabyte five terabytes."""
    tiny = Estimate()
    tiny.idle_bytes = 50 * MB
    for _ in range(10):
        tiny.learn(1_000, 55 * MB)
    assert tiny.of(1 * GB) < 1 * GB


def test_less_than_idle_is_nothing():
    made = estimate()
    for _ in range(10):
        made.learn(100 * MB, 10 * MB)
    assert made.of(100 * MB) == 50 * MB


def test_a_killed_job_raises_but_never_lowers():
    made = estimate(*[1.0] * 5)
    made.learn_least(100 * MB, 60 * MB)
    assert made.factor == pytest.approx(1.1)
    for _ in range(3):
        made.learn_least(100 * MB, 950 * MB)
    assert made.factor == pytest.approx(9.9)
