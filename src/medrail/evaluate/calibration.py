"""Whether a probability of 0.8 is right in eight of ten cases, and the temperature that brings it nearer to that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import FloatArray, Statistic, wilson
from medrail.evaluate.metrics import IntArray, ratio

COLDEST, HOTTEST = 0.05, 20.0
"""Between these the temperature is looked for."""


@dataclass(frozen=True)
class Bin:
    """Cases of like confidence.

    ``confidence`` and ``accuracy`` are means over the cases, ``accuracy_low`` and ``accuracy_high`` Wilson's 95 %
    interval with each case as a trial; all NaN in an empty bin. ``low`` and ``high`` are the bin's bounds.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


def reliability(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 10, *, equal_mass: bool = False
) -> list[Bin]:
    """The reliability curve: in each bin of confidence the share of cases that are right.

    Parameters
    ----------
    confidence:
        (n,) from 0 to 1: the probability of the named class; or, for the curve of one class, that class's probability.
    correct:
        (n,) bool: the named class is the true one; or the case is of that class.
    equal_mass:
        Bins that hold about equally many cases, instead of bins that are equally wide. Equal confidences stay in one
        bin, so there may be fewer bins.

    Returns
    -------
    The bins from low to high, empty ones too.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    edges = bin_edges(sure, bins, equal_mass=equal_mass)
    places = bin_of(sure, edges)
    found = []
    for index, (low, high) in enumerate(pairwise(edges)):
        here = places == index
        n = int(here.sum())
        if not n:
            found.append(Bin(float(low), float(high), 0, *[math.nan] * 4))
            continue
        accuracy = float(right[here].mean())
        found.append(Bin(float(low), float(high), n, float(sure[here].mean()), accuracy, *wilson(accuracy, n)))
    return found


def bin_edges(confidence: FloatArray, bins: int, *, equal_mass: bool = False) -> FloatArray:
    """The bounds of the bins (B + 1,), from 0 to 1; a bin holds its upper bound, the first one its lower bound, too."""
    if not equal_mass or not len(confidence):
        return np.linspace(0, 1, bins + 1)
    inner = np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf")
    return np.concatenate([[0.0], np.unique(inner[(inner > 0) & (inner < confidence.max())]), [1.0]])


def bin_of(confidence: FloatArray, edges: FloatArray) -> IntArray:
    """For each confidence the number of its bin (n,)."""
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2).astype(np.int64)


def expected_calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 10, *, equal_mass: bool = False
) -> Statistic:
    """Mean over the cases of their bin's gap between confidence and accuracy (Naeini and others, AAAI 2015).

    A function of the cases' weights; the bins are those of the given cases. Chance alone makes gaps: a perfectly
    calibrated model has an error above 0, the more so the fewer cases a bin holds (``by_chance.expected_by_chance``).
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    edges = bin_edges(sure, bins, equal_mass=equal_mass)
    in_bin = np.eye(len(edges) - 1)[bin_of(sure, edges)]
    gaps = in_bin * (sure - right)[:, np.newaxis]
    return lambda weights: ratio(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))


def classwise_calibration_error(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, bins: int = 10, *, equal_mass: bool = False
) -> Statistic:
    """Mean over the classes of the calibration error of each class's probability (Nixon et al., CVPR 2019)."""
    given, true = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    of_class = [
        expected_calibration_error(given[:, index], true == index, bins, equal_mass=equal_mass)
        for index in range(given.shape[1])
    ]
    return lambda weights: np.asarray(np.mean([error(weights) for error in of_class], axis=0))


def fit_temperature(logits: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The temperature T > 0 for which softmax(logits / T) has the least log loss (Guo et al., ICML 2017).

    The loss is convex in 1/T, so the bounded search on its logarithm finds the one minimum. There is none where every
    case's true class has the highest logit: the loss falls forever as T goes to 0, and nothing shows that the model is
    too sure or too unsure. T is 1 then, as for no cases at all.

    Parameters
    ----------
    logits:
        (n, K). For several labels with a sigmoid each: one row (0, logit) a case and label.
    truth:
        (n,) class indices.

    Returns
    -------
    T, between 0.05 and 20; above 1 for a model that is too sure.
    """
    from scipy import optimize

    given, true = np.asarray(logits, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    if not len(true):
        return 1.0
    given = given - given[np.arange(len(true)), true][:, np.newaxis]
    # What is left are the other classes' leads over the true one.
    others = np.delete(given.ravel(), np.arange(len(true)) * given.shape[1] + true)
    if not (others >= 0).any():
        return 1.0
    found = optimize.minimize_scalar(
        lambda log_t: float(_log_sum_exp(given / math.exp(log_t)).mean()),
        bounds=(math.log(COLDEST), math.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(math.exp(found.x))


def softmax(logits: npt.ArrayLike, temperature: float = 1.0) -> FloatArray:
    """Probabilities (n, K) from logits (n, K) at a temperature."""
    given = np.asarray(logits, dtype=np.float64) / temperature
    raised = np.exp(given - given.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def named_class(
    probabilities: npt.ArrayLike, truth: Sequence[int] | IntArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Confidence and correctness of the most probable class: (n,) float and (n,) bool."""
    given, true = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    predicted = given.argmax(axis=1)
    return given[np.arange(len(true)), predicted], predicted == true


def _log_sum_exp(values: FloatArray) -> FloatArray:
    top = values.max(axis=1)
    return np.asarray(top + np.log(np.exp(values - top[:, np.newaxis]).sum(axis=1)))
