"""How good the probabilities are: average precision, Brier score, log loss; functions of the cases' weights."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import FloatArray, Statistic
from medrail.evaluate.metrics import BoolArray, IntArray, mean_defined, ratio

_SMALLEST = float(np.finfo(np.float64).eps)


def average_precision(positive: BoolArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Area under the precision-recall curve as a sum of steps, without interpolation; from (R, n) to (R,).

    At each score, from the highest down, the precision of all cases so far counts for the share of the positive cases
    that this score adds (Boyd, Eng and Page, ECML PKDD 2013; as scikit-learn). NaN without a positive case. A useless
    model has about the share of positive cases, not 0.5: areas of sets with other shares cannot be compared.
    """
    order = np.argsort(-scores, kind="stable")
    _, starts = np.unique(-scores[order], return_index=True)
    if not len(starts):
        return np.full(len(weights), math.nan)
    ranked = weights[:, order]
    up = np.add.reduceat(ranked * positive[order], starts, axis=1)
    either = np.cumsum(np.add.reduceat(ranked, starts, axis=1), axis=1)
    precision = ratio(np.cumsum(up, axis=1), either, empty=0.0)
    return ratio((up * precision).sum(axis=1), up.sum(axis=1))


def probability_statistics(truth: npt.ArrayLike, probabilities: npt.ArrayLike) -> dict[str, Statistic]:
    """What is asked of probabilities rather than of the class that is named.

    * ``auprc``: average precision; two classes: of the second one; more: the mean of one class against the rest over
      the classes that have cases.
    * ``brier``: two classes: mean of (p - y)² with p of the second class, from 0 to 1; more: mean over the cases of the
      sum over the classes of (p - y)², from 0 to 2 (Brier, Monthly Weather Review 78, 1950). As scikit-learn does.
    * ``log_loss``: mean of -ln p of the true class, p at least 2e-16.

    Parameters
    ----------
    truth:
        (n,) class indices.
    probabilities:
        (n, K); rows that sum to 1.
    """
    true = np.asarray(truth, dtype=np.int64)
    given = np.asarray(probabilities, dtype=np.float64)
    n_classes = given.shape[1]
    misses = brier_of_cases(true, given)
    surprise = -np.log(np.clip(given[np.arange(len(true)), true], _SMALLEST, 1))

    def auprc(weights: FloatArray) -> FloatArray:
        positives = [1] if n_classes == 2 else range(n_classes)
        return mean_defined(
            np.stack([average_precision(true == index, given[:, index], weights) for index in positives], axis=1)
        )

    return {"auprc": auprc, "brier": mean_of(misses), "log_loss": mean_of(surprise)}


def brier_of_cases(truth: IntArray, probabilities: FloatArray) -> FloatArray:
    """What each case adds to the Brier score: (n,)."""
    squares = ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)
    return np.asarray(squares / 2 if probabilities.shape[1] == 2 else squares)


def mean_of(values: npt.ArrayLike) -> Statistic:
    """The weighted mean of a number of each case."""
    numbers = np.asarray(values, dtype=np.float64)
    return lambda weights: ratio(weights @ numbers, weights.sum(axis=1))
