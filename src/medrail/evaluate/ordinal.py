"""Agreement on grades: an answer two grades off is worse than one that is one grade off."""

from __future__ import annotations

import math

import numpy as np

from medrail.evaluate.bootstrap import FloatArray, Statistic
from medrail.evaluate.metrics import IntArray, confusion


def quadratic_kappa(truth: IntArray, predicted: IntArray, n_classes: int) -> Statistic:
    """Cohen's kappa with quadratic weights, for classes that are grades in their order (Cohen, Psychol Bull 70, 1968).

    1 - (observed squared distance of grades) / (that of answers drawn at random with the same totals): 1 is perfect, 0
    is chance, below 0 is worse. NaN where chance cannot be wrong, as all cases and answers are of one grade.

    Parameters
    ----------
    truth, predicted:
        (n,) class indices; the distance of two grades is the difference of their indices.
    """
    grades = np.arange(n_classes, dtype=np.float64)
    distance = (grades[:, np.newaxis] - grades) ** 2

    def statistic(weights: FloatArray) -> FloatArray:
        counts = confusion(truth, predicted, n_classes, weights)
        observed = (counts * distance).sum(axis=(1, 2))
        rows, columns = counts.sum(axis=2), counts.sum(axis=1)
        chance = np.einsum("ri,rj,ij->r", rows, columns, distance) / counts.sum(axis=(1, 2))
        lost = np.divide(observed, chance, out=np.full(len(weights), math.nan), where=chance > 0)
        return np.asarray(1 - lost)

    return statistic
