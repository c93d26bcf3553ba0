"""The stability index: what it must be, and that chance exceeds its limit as seldom as it is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrail.bundle.usual import Shares, Usual
from medrail.serve.drift import Window, by_chance, measured, stability_index

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


@given(COUNTS, st.integers(1, 50))
def test_the_same_counts_do_not_drift(counts: list[int], times: int) -> None:
    assert stability_index(counts, counts) == 0
    many = [1000 * (count + 1) for count in counts]
    assert stability_index([times * count for count in many], many) == pytest.approx(0, abs=1e-5)


@given(st.data())
def test_it_is_symmetric_and_never_below_nothing(data: st.DataObject) -> None:
    one = data.draw(COUNTS)
    other = data.draw(st.lists(st.integers(0, 500), min_size=len(one), max_size=len(one)))
    index = stability_index(one, other)
    assert math.isfinite(index)
    assert index >= -1e-12
    assert index == pytest.approx(stability_index(other, one))


def test_it_is_the_textbook_s_number_for_many() -> None:
    """Shares 0.5 and 0.5 against 0.7 and 0.3: 0.2 ln(0.7 / 0.5) + 0.2 ln(0.5 / 0.3)."""
    expected = 0.2 * math.log(0.7 / 0.5) + 0.2 * math.log(0.5 / 0.3)
    assert stability_index([500_000, 500_000], [700_000, 300_000]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("answers", "cases", "shares"),
    [(100, 50, [0.1] * 10), (1000, 200, [0.1] * 10), (100, 100, [0.9, 0.1]), (100, 60, [0.6, 0.2, 0.1, 0.06, 0.04])],
)
def test_chance_exceeds_its_limit_about_once_in_a_thousand(answers: int, cases: int, shares: list[float]) -> None:
    rng = np.random.default_rng(11)
    now, usual = rng.multinomial(answers, shares, 4000), rng.multinomial(cases, shares, 4000)
    limit = by_chance(answers, cases, len(shares))
    exceeded = sum(stability_index(a.tolist(), b.tolist()) > limit for a, b in zip(now, usual, strict=True))
    assert exceeded <= 14  # 4 expected; 14 of 4000 would be three in a thousand
    assert sum(stability_index(a.tolist(), b.tolist()) > limit / 3 for a, b in zip(now, usual, strict=True)) > 40


def test_a_real_change_exceeds_it() -> None:
    shares = Shares((150, 50), names=("no", "yes"))
    index, chance, n = measured({0: 30, 1: 70}, shares, 100) or (0, 0, 0)
    assert (n, index > 0.25, index > chance) == (100, True, True)
    assert measured({0: 30, 1: 69}, shares, 100) is None


def test_a_window_gives_back_what_it_took() -> None:
    usual = Usual(9, {"classes": Shares((5, 4), names=("a", "(none)")), "input_sd": Shares((5, 4), edges=(1.0,))})
    window, inside = Window(usual, 3), []
    results = [
        {"findings": ["a"], "input_sd": 2.0},
        {"findings": [], "input_sd": 0.5},
        {"input_sd": 0.5},
        {"volumes_ml": {"brain": 3.0}},
        {"class_name": "unknown"},
        {"findings": ["a"]},
        {"findings": ["a"], "input_sd": 1.0},
    ]
    taken = []
    for result in results:
        fallen, pushed_out = window.take(result)
        inside += [fallen] if fallen else []
        taken.append(fallen)
        if pushed_out:
            assert inside.pop(0) == pushed_out
        assert len(inside) <= 3
    assert taken[0] == (("classes", 0), ("input_sd", 1))
    assert taken[1] == (("classes", 1), ("input_sd", 0))
    assert taken[3] == taken[4] == ()
