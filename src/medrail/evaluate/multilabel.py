"""Several labels an image: each judged by itself, and all of them together.

Everything is a function of the cases' weights (``bootstrap.Statistic``), so that all resamples are evaluated at once
and every number gets its interval by patient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import FloatArray, Measured, Statistic, percentile_bootstrap, point
from medrail.evaluate.metrics import BoolArray, area_under_roc
from medrail.evaluate.summary import _bootstrap, _doubt, _groups, _measured, _none_why, _without_spread

Rates = Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray]
"""True positives, false positives, false negatives, true negatives -> a rate, all of one shape."""


def measure_multilabel(
    truth: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    patients: Sequence[str],
    classes: Sequence[str],
    *,
    resamples: int,
    seed: int,
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, Measured]:
    """Every metric of ``multilabel_statistics`` with its interval over the patients.

    Of ``sensitivity/LABEL`` ``n`` is the number of cases that have the label, of ``specificity/LABEL`` of those that
    have not, of the others of all cases.

    Parameters
    ----------
    truth:
        (n, K) bool.
    probabilities:
        (n, K).
    thresholds:
        Label -> probability from which it is a finding; 0.5 for those that are not named.
    """
    true = np.asarray(truth, dtype=bool).reshape(-1, len(classes))
    statistics = multilabel_statistics(true, probabilities, classes, thresholds or {})
    groups, unit = _groups(patients)
    intervals = percentile_bootstrap(statistics, groups, resamples=resamples, seed=seed)
    counted = {f"sensitivity/{name}": true[:, index] for index, name in enumerate(classes)}
    counted |= {f"specificity/{name}": ~true[:, index] for index, name in enumerate(classes)}
    everyone = np.ones(len(true), dtype=bool)
    measured = {}
    for name, statistic in statistics.items():
        counts = counted.get(name, everyone)
        n, units = int(counts.sum()), len(set(np.asarray(groups)[counts].tolist()))
        value, (low, high) = point(statistic, len(true)), intervals[name]
        if low == high and math.isfinite(value):
            measured[name] = _without_spread(value, n, units if name in counted else 0, unit)
        else:
            method = f"over all cases; {_bootstrap(unit, len(set(groups)), resamples)}{_doubt(unit, units)}"
            measured[name] = _measured(value, (low, high), n, method, _none_why(len(true)))
    return measured


def multilabel_statistics(
    truth: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, Statistic]:
    """Every metric as a function of the cases' weights.

    Of each label (as ``auc/LABEL``): ``auc``; ``auprc``, the average precision; and at its threshold ``sensitivity``,
    ``specificity`` and ``f1`` (NaN where nothing has the label and nothing is found). Without a label's name each is
    the mean of the labels of which it is defined (macro average). ``auc_micro``, ``auprc_micro`` and ``f1_micro`` take
    every label of every case as one question. ``subset_accuracy``: share of the cases of which every label is right;
    ``hamming_loss``: share of all labels of all cases that are wrong (Tsoumakas, Katakis and Vlahavas, Data Mining and
    Knowledge Discovery Handbook, 2010, chapter 34).
    """
    true = np.asarray(truth, dtype=bool).reshape(-1, len(classes))
    scores = np.asarray(probabilities, dtype=np.float64).reshape(true.shape)
    limits = np.array([(thresholds or {}).get(name, 0.5) for name in classes])
    found = scores >= limits
    of_label: dict[str, list[Statistic]] = {
        "auc": [_area(true[:, k], scores[:, k]) for k in range(len(classes))],
        "auprc": [_precision(true[:, k], scores[:, k]) for k in range(len(classes))],
        **{name: [_rate(true[:, k], found[:, k], of) for k in range(len(classes))] for name, of in RATES.items()},
    }
    result: dict[str, Statistic] = {name: _macro(ones) for name, ones in of_label.items()}
    result["auc_micro"] = _pooled(_area(true.ravel(), scores.ravel()), len(classes))
    result["auprc_micro"] = _pooled(_precision(true.ravel(), scores.ravel()), len(classes))
    result["f1_micro"] = _pooled(_rate(true.ravel(), found.ravel(), RATES["f1"]), len(classes))
    result["subset_accuracy"] = _mean_of((true == found).all(axis=1))
    result["hamming_loss"] = _mean_of((true != found).mean(axis=1))
    for name, ones in of_label.items():
        result |= {f"{name}/{label}": one for label, one in zip(classes, ones, strict=True)}
    return result


def average_precision(positive: BoolArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Area under the precision-recall curve as a sum of steps, without interpolation; (R,), NaN without positives.

    The mean over the positive cases of the precision at their score (ties taken together), as scikit-learn's.
    """
    order = np.argsort(-scores, kind="stable")
    _, starts = np.unique(-scores[order], return_index=True)
    ranked = weights[:, order]
    up = np.add.reduceat(ranked * positive[order], starts, axis=1)
    taken = np.add.reduceat(ranked, starts, axis=1)
    precision = _divided(np.cumsum(up, axis=1), np.cumsum(taken, axis=1), empty=0.0)
    return _divided((precision * up).sum(axis=1), up.sum(axis=1))


RATES: dict[str, Rates] = {
    "sensitivity": lambda tp, fp, fn, tn: _divided(tp, tp + fn),
    "specificity": lambda tp, fp, fn, tn: _divided(tn, tn + fp),
    "f1": lambda tp, fp, fn, tn: _divided(2 * tp, 2 * tp + fp + fn),
}
"""Of one label at its threshold."""


def _area(positive: BoolArray, scores: FloatArray) -> Statistic:
    return lambda weights: area_under_roc(positive, scores, weights)


def _precision(positive: BoolArray, scores: FloatArray) -> Statistic:
    return lambda weights: average_precision(positive, scores, weights)


def _rate(positive: BoolArray, found: BoolArray, of: Rates) -> Statistic:
    cells = [(positive & found), (~positive & found), (positive & ~found), (~positive & ~found)]
    table = np.stack(cells, axis=1).astype(np.float64)

    def statistic(weights: FloatArray) -> FloatArray:
        tp, fp, fn, tn = (weights @ table).T
        return of(tp, fp, fn, tn)

    return statistic


def _macro(statistics: Sequence[Statistic]) -> Statistic:
    def statistic(weights: FloatArray) -> FloatArray:
        values = np.stack([one(weights) for one in statistics])
        defined = np.isfinite(values)
        return _divided(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64))

    return statistic


def _pooled(statistic: Statistic, labels: int) -> Statistic:
    """A statistic of (case, label) pairs, as one of the cases: a case brings all its labels."""
    return lambda weights: statistic(np.repeat(weights, labels, axis=1))


def _mean_of(values: npt.ArrayLike) -> Statistic:
    numbers = np.asarray(values, dtype=np.float64)
    return lambda weights: np.asarray(weights @ numbers / weights.sum(axis=1))


def _divided(above: FloatArray, below: FloatArray, empty: float = math.nan) -> FloatArray:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(below), empty), where=below > 0))
