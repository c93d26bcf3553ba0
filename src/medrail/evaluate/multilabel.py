"""Several labels an image: each judged by itself, and all of them together.

Everything is a function of the cases' weights (``bootstrap.Statistic``), so that all resamples are evaluated at once
and every number gets its interval by patient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from medrail.bundle.calibration import FINDING_FROM
from medrail.evaluate.bootstrap import FloatArray, Measured, Statistic
from medrail.evaluate.chosen import Area
from medrail.evaluate.intervals import Counted, Resampling, WithIntervals
from medrail.evaluate.metrics import BoolArray, ratio
from medrail.evaluate.scoring import mean_of
from medrail.evaluate.summary import measure_area, share_of_all, share_of_class

Rates = Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray]
"""True positives, false positives, false negatives, true negatives -> a rate, all of one shape."""


def measure_multilabel(
    truth: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    how: Resampling,
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, Measured]:
    """Every metric of ``multilabel_statistics`` with its interval over the patients; of ``auc/LABEL`` DeLong's.

    Of ``sensitivity/LABEL`` ``n`` is the number of cases that have the label, of ``specificity/LABEL`` of those that
    have not, of the others of all cases.

    Parameters
    ----------
    truth:
        (n, K) bool.
    probabilities:
        (n, K).
    how:
        Whose cases they are, and how they are resampled.
    thresholds:
        Label -> probability from which it is a finding; 0.5 for those that are not named.
    """
    true = np.asarray(truth, dtype=bool).reshape(-1, len(classes))
    scores = np.asarray(probabilities, dtype=np.float64).reshape(true.shape)
    found = _found(scores, classes, thresholds)
    statistics = multilabel_statistics(true, scores, classes, thresholds)
    counted = {"subset_accuracy": share_of_all((true == found).all(axis=1))}
    counted |= {name: Counted(kind=Area()) for name in statistics if name.startswith(("auc", "auprc"))}
    for index, name in enumerate(classes):
        for rate in ("sensitivity", "specificity"):
            counted[f"{rate}/{name}"] = share_of_class(rate, true[:, index], found[:, index])
    areas = {f"auc/{name}": index for index, name in enumerate(classes)}
    measured = WithIntervals(how, counted).of(statistics, skip=areas)
    measured |= {name: measure_area(true[:, index], scores[:, index], how) for name, index in areas.items()}
    return {name: measured[name] for name in statistics}


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
    return statistics_of_findings(true, scores, _found(scores, classes, thresholds), classes)


def statistics_of_findings(
    true: BoolArray, scores: FloatArray, found: BoolArray, classes: Sequence[str]
) -> dict[str, Statistic]:
    """The same with the findings as they were told, all of them (n, K)."""
    areas = [_areas(true[:, k], scores[:, k]) for k in range(len(classes))]
    of_label: dict[str, list[Statistic]] = {
        "auc": [area for area, _ in areas],
        "auprc": [precision for _, precision in areas],
        **{name: [_rate(true[:, k], found[:, k], of) for k in range(len(classes))] for name, of in RATES.items()},
    }
    result: dict[str, Statistic] = {name: _macro(ones) for name, ones in of_label.items()}
    repeated = _remembered(lambda weights: np.repeat(weights, len(classes), axis=1))  # a case brings all its labels
    area, precision = _areas(true.ravel(), scores.ravel())
    rate = _rate(true.ravel(), found.ravel(), RATES["f1"])
    result["auc_micro"] = lambda weights: area(repeated(weights))
    result["auprc_micro"] = lambda weights: precision(repeated(weights))
    result["f1_micro"] = lambda weights: rate(repeated(weights))
    result["subset_accuracy"] = mean_of((true == found).all(axis=1))
    result["hamming_loss"] = mean_of((true != found).mean(axis=1))
    for name, ones in of_label.items():
        result |= {f"{name}/{label}": one for label, one in zip(classes, ones, strict=True)}
    return result


def _found(scores: FloatArray, classes: Sequence[str], thresholds: Mapping[str, float] | None) -> BoolArray:
    return np.asarray(scores >= np.array([(thresholds or {}).get(name, FINDING_FROM) for name in classes]))


RATES: dict[str, Rates] = {
    "sensitivity": lambda tp, fp, fn, tn: ratio(tp, tp + fn),
    "specificity": lambda tp, fp, fn, tn: ratio(tn, tn + fp),
    "f1": lambda tp, fp, fn, tn: ratio(2 * tp, 2 * tp + fp + fn),
}
"""Of one label at its threshold."""


def _areas(positive: BoolArray, scores: FloatArray) -> tuple[Statistic, Statistic]:
    """AUC and average precision, as ``area_under_roc`` and ``average_precision`` have them, from one pass for both."""
    order = np.argsort(-scores, kind="stable")
    _, starts = np.unique(-scores[order], return_index=True)
    sorted_positive = positive[order].astype(np.float64)

    def both(weights: FloatArray) -> FloatArray:
        ranked = weights[:, order]
        up, either = (np.add.reduceat(part, starts, axis=1) for part in (ranked * sorted_positive, ranked))
        down, so_far = either - up, np.cumsum(up, axis=1)
        area = ratio(
            (down * (so_far - 0.5 * up)).sum(axis=1), np.asarray(up.sum(axis=1) * down.sum(axis=1), dtype=np.float64)
        )
        precision = ratio(so_far, np.cumsum(either, axis=1), empty=0.0)
        return np.stack([area, ratio((up * precision).sum(axis=1), up.sum(axis=1))])

    found = _remembered(both)
    return (lambda weights: found(weights)[0]), (lambda weights: found(weights)[1])


def _remembered(statistic: Statistic) -> Statistic:
    """The same, computed once for the same array of weights: that of one label is wanted for the mean of all, too."""
    last: list[tuple[FloatArray, FloatArray]] = []

    def of_weights(weights: FloatArray) -> FloatArray:
        if not last or last[0][0] is not weights:
            last[:] = [(weights, statistic(weights))]
        return last[0][1]

    return of_weights


def _rate(positive: BoolArray, found: BoolArray, of: Rates) -> Statistic:
    cells = [(positive & found), (~positive & found), (positive & ~found), (~positive & ~found)]
    table = np.stack(cells, axis=1).astype(np.float64)

    def statistic(weights: FloatArray) -> FloatArray:
        tp, fp, fn, tn = (weights @ table).T
        return of(tp, fp, fn, tn)

    return _remembered(statistic)


def _macro(statistics: Sequence[Statistic]) -> Statistic:
    def statistic(weights: FloatArray) -> FloatArray:
        values = np.stack([one(weights) for one in statistics])
        defined = np.isfinite(values)
        return ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64))

    return statistic
