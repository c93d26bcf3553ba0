"""From the cases' scores to metrics with intervals, and a sentence that says how each was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medrail.evaluate.bootstrap import LEVEL, FloatArray, Measured, Statistic, percentile_bootstrap, point, wilson
from medrail.evaluate.metrics import IntArray, classification_statistics, dice, iou, mean_over_patients
from medrail.evaluate.ordinal import quadratic_kappa

FEW = 5
"""With fewer patients the resamples can show only a few values, and the percentile interval is far too narrow."""


def measure_classification(
    truth: Sequence[int],
    probabilities: Sequence[Sequence[float]],
    patients: Sequence[str],
    classes: Sequence[str],
    *,
    resamples: int,
    seed: int,
    ordered: bool = False,
) -> dict[str, Measured]:
    """accuracy, balanced_accuracy, auc, f1 and sensitivity/CLASS over all cases, with intervals.

    ``ordered``: the classes are grades, so quadratic_kappa, too.

    ``n`` is the number of cases; of a sensitivity, the number of cases of that class.
    """
    statistics = classification_statistics(truth, probabilities, classes)
    if ordered:
        answers = np.asarray(probabilities, dtype=np.float64).argmax(axis=1)
        statistics["quadratic_kappa"] = quadratic_kappa(np.asarray(truth, dtype=np.int64), answers, len(classes))
    groups, unit = _groups(patients)
    intervals = percentile_bootstrap(statistics, groups, resamples=resamples, seed=seed)
    counted = {f"sensitivity/{name}": [index == one for one in truth] for index, name in enumerate(classes)}
    counted["accuracy"] = [True] * len(truth)
    method = f"over all cases; {_bootstrap(unit, len(set(groups)), resamples)}"
    measured = {}
    for name, statistic in statistics.items():
        counts = counted.get(name, counted["accuracy"])
        value, interval = point(statistic, len(truth)), intervals[name]
        units = len({group for group, counts_here in zip(groups, counts, strict=True) if counts_here})
        measured[name] = _measured(value, interval, sum(counts), method + _doubt(unit, units), _none_why(len(truth)))
        if interval[0] == interval[1] and math.isfinite(value):
            measured[name] = _without_spread(value, sum(counts), units if name in counted else 0, unit)
    return measured


def _without_spread(value: float, n: int, units: int, unit: str) -> Measured:
    """For a value that all resamples share (nothing wrong, or nothing right), where a bootstrap sees no doubt at all.

    Proportions (``units`` > 0) get Wilson's interval with each patient as one trial; other metrics get none.
    """
    if units:
        method = f"over all cases; 95% Wilson interval for {_count(unit, units)}, because all resamples are alike"
        return Measured(value, *wilson(value, units), n=n, method=method)
    return Measured(value, math.nan, math.nan, n=n, method="no interval: all bootstrap resamples are alike")


def measure_segmentation(
    scores: Sequence[Mapping[str, float]],
    patients: Sequence[str],
    first_counts: IntArray | None,
    classes: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Measured]:
    """The mean over the patients of each case's score, with intervals.

    Parameters
    ----------
    scores:
        One mapping a case, metric name -> value; NaN (HD95 with one mask empty) is left out and ``n`` is smaller.
    first_counts:
        Confusion counts (S, K, K) of the axial slices of the first case: with a single case the interval of Dice and
        IoU comes from its slices.
    """
    columns = {
        name: [score.get(name, math.nan) for score in scores]
        for name in dict.fromkeys(name for score in scores for name in score)
    }
    groups, unit = _groups(patients)
    statistics = {name: mean_over_patients(values, patients) for name, values in columns.items()}
    intervals = percentile_bootstrap(statistics, groups, resamples=resamples, seed=seed)
    method = f"mean over cases, each patient counting the same; {_bootstrap(unit, len(set(groups)), resamples)}"
    measured = {}
    for name, values in columns.items():
        defined = np.isfinite(values)
        n = int(defined.sum())
        left_out = (
            f"; left out: {_count('case{s}', len(values) - n)} in which it is not defined" if n < len(values) else ""
        )
        doubt = _doubt(unit, len({group for group, is_defined in zip(groups, defined, strict=True) if is_defined}))
        measured[name] = _measured(
            point(statistics[name], len(values)),
            intervals[name],
            n,
            method + left_out + doubt,
            _none_why(len(values)) + left_out,
        )
    if len(scores) == 1 and first_counts is not None:
        measured |= _over_slices(measured, first_counts, classes, resamples=resamples, seed=seed)
    return measured


def _over_slices(
    measured: Mapping[str, Measured], counts: IntArray, classes: Sequence[str], *, resamples: int, seed: int
) -> dict[str, Measured]:
    """Intervals of one volume's Dice and IoU, from resampling its axial slices and pooling their voxels."""
    either = counts[:, 1:, :].any(axis=(1, 2)) | counts[:, :, 1:].any(axis=(1, 2))
    held = counts[either].astype(np.float64)
    if len(held) < 2:
        return {}
    statistics: dict[str, Statistic] = {}
    for name, metric in (("dice", dice), ("iou", iou)):
        statistics[name] = _pooled(metric, held, None)
        if len(classes) > 2:
            statistics |= {f"{name}/{label}": _pooled(metric, held, index) for index, label in enumerate(classes[1:])}
    intervals = percentile_bootstrap(statistics, range(len(held)), resamples=resamples, seed=seed)
    method = (
        f"one volume; {_bootstrap(_SLICES, len(held), resamples)}, their voxels pooled; "
        f"says how even the volume is, not how other patients will do{_doubt(_SLICES, len(held))}"
    )
    return {
        name: _measured(measured[name].value, interval, measured[name].n, method, _none_why(len(held)))
        for name, interval in intervals.items()
    }


def _pooled(metric: Callable[[FloatArray], FloatArray], counts: FloatArray, index: int | None) -> Statistic:
    """A metric of the slices' summed counts: of one foreground class, or the mean of all."""

    def statistic(weights: FloatArray) -> FloatArray:
        values = metric(np.tensordot(weights, counts, axes=1))
        return np.asarray(values.mean(axis=1) if index is None else values[:, index])

    return statistic


def _groups(patients: Sequence[str]) -> tuple[list[str], str]:
    """What is resampled: the patients; with a single patient, its cases."""
    if len(set(patients)) > 1 or len(patients) == 1:
        return list(patients), "patient{s}"
    return [str(index) for index in range(len(patients))], "case{s} of one patient"


def _bootstrap(unit: str, count: int, resamples: int) -> str:
    return f"{LEVEL:.0%} percentile bootstrap over {_count(unit, count)}, {resamples} resamples"


def _doubt(unit: str, count: int) -> str:
    """What must be added to the method where too few are resampled for the interval to be believed."""
    return f"; only {_count(unit, count)}: the interval is a guess" if count < FEW else ""


def _none_why(count: int) -> str:
    return "no interval: one case" if count < 2 else "no interval: not defined in most of the resamples"


_SLICES = "axial slice{s} that hold foreground"


def _count(unit: str, count: int) -> str:
    """A number with its noun, singular or plural.

    >>> _count("case{s} of one patient", 1), _count("patient{s}", 12)
    ('1 case of one patient', '12 patients')
    """
    return f"{count} {unit.format(s='' if count == 1 else 's')}"


def _measured(value: float, interval: tuple[float, float], n: int, method: str, without_interval: str) -> Measured:
    low, high = interval
    return Measured(value, low, high, n, method if math.isfinite(low) else without_interval)
