"""Sign flips, McNemar, signed ranks and Holm, against scipy, by hand, and by their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medrail.evaluate.holm import holm
from medrail.evaluate.mcnemar import mcnemar, paired_interval
from medrail.evaluate.signedranks import signed_ranks
from medrail.evaluate.signflip import ENUMERATED, flip_signs, flip_whole_numbers, signed_sums

DIFFERENCES = arrays(np.float64, st.integers(2, 12), elements=st.floats(-1, 1).map(lambda number: round(number, 2)))


def scipys_sign_flip(differences: np.ndarray) -> float:
    judge = scipy.stats.permutation_test(
        (differences,),
        lambda values, axis=-1: np.abs(np.round(np.sum(values, axis=axis), 9)),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="greater",
        vectorized=True,
    )
    return float(judge.pvalue)


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES)
def test_sign_flips_are_scipys(differences: np.ndarray) -> None:
    found = flip_signs(differences, permutations=99, seed=0)
    assert found.p == pytest.approx(scipys_sign_flip(differences))
    assert found.smallest <= found.p <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=ENUMERATED))
def test_whole_numbers_are_counted_out_as_they_are_enumerated(differences: list[int]) -> None:
    found = flip_whole_numbers(differences)
    assert found is not None
    assert found.p == pytest.approx(flip_signs(differences, permutations=99, seed=0).p)


def test_drawn_sign_flips_are_near_the_exact_ones() -> None:
    differences = np.random.default_rng(0).integers(-3, 5, size=60)
    exact = flip_whole_numbers(differences)
    assert exact is not None
    drawn = flip_signs(differences, permutations=20_000, seed=1)
    assert drawn.p == pytest.approx(exact.p, abs=0.01)
    assert "20000 drawn" in drawn.method
    assert drawn == flip_signs(differences[::-1], permutations=20_000, seed=1), "the order of the patients is nothing"
    assert drawn.p == flip_signs(-differences, permutations=20_000, seed=1).p


def test_a_drawn_p_is_never_0() -> None:
    assert flip_signs(np.ones(100), permutations=99, seed=0).p == 0.01


def test_sums_too_long_are_left_to_drawing() -> None:
    assert flip_whole_numbers([10**6, 1]) is None


def test_signed_sums_are_those_of_a_binomial() -> None:
    assert signed_sums(np.ones(10, dtype=np.int64))[::2] == pytest.approx(scipy.stats.binom.pmf(range(11), 10, 0.5))


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_test(gained: int, lost: int) -> None:
    first = np.array([False] * gained + [True] * lost + [True, False])
    second = np.array([True] * gained + [False] * lost + [True, False])
    found = mcnemar(first, second)
    judge = scipy.stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert (found.gained, found.lost) == (gained, lost)
    assert found.p == pytest.approx(judge)
    flipped = flip_whole_numbers(second.astype(int) - first)
    assert flipped is not None
    assert flipped.p == pytest.approx(judge), "one case a patient: the sign-flip test is McNemar's"
    assert found.mid_p <= found.p
    swapped = mcnemar(second, first)
    assert (swapped.p, swapped.mid_p) == (found.p, found.mid_p)


def test_mid_p_as_published() -> None:
    """Fagerland, Lydersen and Laake 2013, table 2 (bronchial hyperresponsiveness): 7 against 1 of 21."""
    found = mcnemar([False] * 1 + [True] * 7 + [True] * 13, [True] * 1 + [False] * 7 + [True] * 13)
    assert (found.p, found.mid_p) == pytest.approx((0.0703, 0.0391), abs=1e-4)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60))
def test_the_score_interval_is_the_differences_that_are_not_rejected(gained: int, lost: int, others: int) -> None:
    n = gained + lost + others
    if n == 0:
        return
    low, high = paired_interval(gained, lost, n)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    mirrored = paired_interval(lost, gained, n)
    assert (-mirrored[1], -mirrored[0]) == pytest.approx((low, high), abs=1e-7)
    statistic = abs(gained - lost) / math.sqrt(gained + lost) if gained + lost else 0.0
    if abs(statistic - 1.959964) > 1e-3:  # at 0 the score test is McNemar's with its normal approximation
        assert (low > 0 or high < 0) == (statistic > 1.959964)


def test_the_score_interval_covers() -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(60, [0.12, 0.05, 0.83], size=2000)
    covered = [low <= 0.07 <= high for low, high in (paired_interval(int(g), int(c), 60) for g, c, _ in counts)]
    assert 0.93 < np.mean(covered) < 0.975


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=40, unique_by=lambda number: round(abs(number), 3)))
def test_signed_ranks_are_scipys(values: list[float]) -> None:
    differences = np.array([value for value in values if abs(value) > 1e-3])
    if len(differences) < 2:
        return
    found = signed_ranks(differences)
    assert found.p == pytest.approx(scipy.stats.wilcoxon(differences, method="exact").pvalue)
    swapped = signed_ranks(-differences)
    assert swapped.p == found.p
    assert (swapped.middle, swapped.rank_biserial) == pytest.approx((-found.middle, -found.rank_biserial))
    if math.isfinite(found.low):
        assert found.low <= found.middle <= found.high
        assert (-swapped.high, -swapped.low) == pytest.approx((found.low, found.high))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=11))
def test_ties_and_zeros_are_exact(differences: list[int]) -> None:
    """scipy's own answer to ties is all sign patterns, one by one."""
    kept = [value for value in differences if value]
    found = signed_ranks(differences)
    if len(kept) < 2:
        assert found.p == 1.0
        return
    method = scipy.stats.PermutationMethod(n_resamples=np.inf)
    assert found.p == pytest.approx(scipy.stats.wilcoxon(kept, method=method).pvalue)


def test_many_patients_take_the_normal_approximation() -> None:
    rng = np.random.default_rng(3)
    near, many = rng.normal(0.1, 1, 400), rng.normal(0.1, 1, 401)
    assert "exact" in signed_ranks(near).method
    assert "normal" in signed_ranks(many).method
    asymptotic = scipy.stats.wilcoxon(near, method="asymptotic").pvalue
    assert signed_ranks(near).p == pytest.approx(asymptotic, abs=0.002)


def test_the_middle_and_its_interval_cover() -> None:
    rng = np.random.default_rng(5)
    found = [signed_ranks(rng.normal(0.3, 1, 15)) for _ in range(1000)]
    assert 0.935 < np.mean([one.low <= 0.3 <= one.high for one in found]) < 0.97


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_laws(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= one <= min(1, len(p_values) * p) + 1e-12 for p, one in zip(p_values, corrected, strict=True))
    ordered = [one for _, one in sorted(zip(p_values, corrected, strict=True))]
    assert ordered == sorted(ordered)
    assert holm([*p_values, math.nan])[:-1] == corrected, "what was not tested is not counted"


def test_holm_by_hand() -> None:
    """As R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")."""
    assert holm([0.03, 0.01, 0.05, 0.02, 0.04]) == pytest.approx((0.09, 0.05, 0.09, 0.08, 0.09))
