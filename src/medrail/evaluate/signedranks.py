"""Wilcoxon's signed ranks: the patients' differences by their order, so that one odd patient does not decide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import LEVEL
from medrail.evaluate.signflip import signed_sums

EXACT = 400
"""Up to so many differences that are not 0 the distribution is counted out; beyond, the normal one takes its place."""
_MOST_PAIRS = 3_000


@dataclass(frozen=True)
class SignedRanks:
    """p, two-sided; the middle of the differences (Hodges and Lehmann's) with its 95 % interval; the effect.

    rank_biserial:
        From -1 to 1: the share of the rank sum on the side of the second run, less that on the side of the first.
    """

    p: float
    middle: float
    low: float
    high: float
    rank_biserial: float
    method: str


def signed_ranks(differences: npt.ArrayLike) -> SignedRanks:
    """Wilcoxon's test of (P,) differences, one a patient (Wilcoxon, Biometrics 1:80, 1945).

    Differences of 0 are left out, equal sizes share their ranks. The chances are counted out with these very ranks, so
    ties need no approximation; above 400 differences they are scipy's normal approximation with tie correction.
    The interval is that of the Walsh averages (Hollander and Wolfe, Nonparametric Statistical Methods, section 3.3).
    """
    values = np.asarray(differences, dtype=np.float64)
    scale = float(np.abs(values).max(initial=0.0))
    values = np.round(values / scale, 12) * scale if scale else values  # ties by value, not by the last bit
    kept = values[values != 0]
    middle, low, high = _middle(values)
    if len(kept) == 0:
        return SignedRanks(1.0, middle, low, high, 0.0, "Wilcoxon signed-rank, no patient differs")
    from scipy.stats import rankdata, wilcoxon

    doubled = np.rint(2 * rankdata(np.abs(kept))).astype(np.int64)
    signed = int(np.sum(np.where(kept > 0, doubled, -doubled)))
    effect = signed / int(doubled.sum())
    if len(kept) > EXACT:
        p = float(wilcoxon(kept, method="asymptotic").pvalue)
        return SignedRanks(p, middle, low, high, effect, "Wilcoxon signed-rank by patient, normal approximation")
    chances, reach = signed_sums(np.sort(doubled)), int(doubled.sum())
    tails = chances[: reach - abs(signed) + 1].sum() + chances[reach + abs(signed) :].sum()
    p = min(1.0, float(tails)) if signed else 1.0
    return SignedRanks(p, middle, low, high, effect, "exact Wilcoxon signed-rank by patient")


def _middle(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """The median of the means of all pairs, and the pair means between which the test would not reject."""
    count = len(values)
    if count == 0 or count > _MOST_PAIRS:
        return math.nan, math.nan, math.nan
    first, second = np.triu_indices(count)
    walsh = np.sort((values[first] + values[second]) / 2)
    middle = float(np.median(walsh))
    if count <= EXACT:
        # The sum of the positive ranks is (signed sum + S) / 2, so the signed sums' chances count it out, too.
        below = np.cumsum(signed_sums(np.arange(1, count + 1))[::2])
        cut = int(np.searchsorted(below, (1 - LEVEL) / 2, side="right"))
    else:
        spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
        cut = math.floor(count * (count + 1) / 4 - 1.959964 * spread)
    if cut < 1:
        return middle, math.nan, math.nan
    return middle, float(walsh[cut - 1]), float(walsh[-cut])
