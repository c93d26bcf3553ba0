"""How far the named classes agree with the true ones, class by class and beyond chance; functions of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import FloatArray, Statistic
from medrail.evaluate.metrics import confusion, ratio, sensitivities


def agreement_statistics(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, classes: Sequence[str]
) -> dict[str, Statistic]:
    """``mcc``, and of each class against the rest ``sensitivity/``, ``specificity/``, ``ppv/`` and ``npv/CLASS``.

    * ``mcc``: Matthews' correlation coefficient, of several classes after Gorodkin (Computational Biology and Chemistry
      28, 2004). NaN if all true classes are the same; 0 if all predicted ones are, as nothing is told apart then.
    * ``sensitivity``: share of the cases of this class that are taken for it.
    * ``specificity``: share of the cases of other classes that are not taken for this one.
    * ``ppv``: share of the cases taken for this class that are of it. ``npv``: share of the others that are not.
      Both depend on how frequent the class is among these cases.

    Parameters
    ----------
    truth, predicted:
        (n,) class indices.
    classes:
        K names.
    """
    true, found = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)

    def counts(weights: FloatArray) -> FloatArray:
        return confusion(true, found, len(classes), weights)

    def of_class(rate: Callable[[FloatArray], FloatArray], index: int) -> Statistic:
        return lambda weights: rate(counts(weights))[:, index]

    statistics: dict[str, Statistic] = {"mcc": lambda weights: matthews(counts(weights))}
    for name, rate in RATES.items():
        statistics |= {f"{name}/{label}": of_class(rate, index) for index, label in enumerate(classes)}
    return statistics


def matthews(matrices: FloatArray) -> FloatArray:
    """Matthews' correlation coefficient of confusion matrices, from (R, K, K) to (R,)."""
    total = matrices.sum(axis=(1, 2))
    of_true, of_found = matrices.sum(axis=2), matrices.sum(axis=1)
    together = total * np.trace(matrices, axis1=1, axis2=2) - (of_true * of_found).sum(axis=1)
    spread_true = total**2 - (of_true**2).sum(axis=1)
    spread_found = total**2 - (of_found**2).sum(axis=1)
    value = ratio(together, np.sqrt(spread_true * spread_found), empty=0.0)
    return np.where(spread_true > 0, value, math.nan)


def specificities(matrices: FloatArray) -> FloatArray:
    """TN / (TN + FP) of each class, from (R, K, K) to (R, K)."""
    neither, extra = _neither(matrices), _extra(matrices)
    return ratio(neither, neither + extra)


def positive_values(matrices: FloatArray) -> FloatArray:
    """TP / (TP + FP) of each class, from (R, K, K) to (R, K)."""
    return ratio(np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(axis=1))


def negative_values(matrices: FloatArray) -> FloatArray:
    """TN / (TN + FN) of each class, from (R, K, K) to (R, K)."""
    neither = _neither(matrices)
    return ratio(neither, neither + matrices.sum(axis=2) - np.diagonal(matrices, axis1=1, axis2=2))


RATES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "sensitivity": sensitivities,
    "specificity": specificities,
    "ppv": positive_values,
    "npv": negative_values,
}


def _extra(matrices: FloatArray) -> FloatArray:
    return np.asarray(matrices.sum(axis=1) - np.diagonal(matrices, axis1=1, axis2=2))


def _neither(matrices: FloatArray) -> FloatArray:
    hit = np.diagonal(matrices, axis1=1, axis2=2)
    either = matrices.sum(axis=1) + matrices.sum(axis=2) - hit
    return np.asarray(matrices.sum(axis=(1, 2))[:, np.newaxis] - either)
