"""How unlike the training data a case is: the distance of its features from theirs, in their own spread."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medrail.errors import InputError
from medrail.evaluate.bootstrap import FloatArray


@dataclass(frozen=True)
class OodModel:
    """Mean and whitening of the training features, and from which score on a case is called unlike them.

    mean:
        (F,).
    whitening:
        (F, F); ``whitening.T @ whitening`` is the inverse of the shrunk covariance.
    shrinkage:
        From 0 (the sample's covariance) to 1 (a sphere).
    n:
        Cases that the model was fitted to.
    threshold, quantile:
        Scores above the threshold are unlike the training data; it is this quantile of the held-out scores. NaN before
        ``with_threshold``.
    """

    mean: FloatArray
    whitening: FloatArray
    shrinkage: float
    n: int
    threshold: float = math.nan
    quantile: float = math.nan

    def scores(self, features: npt.ArrayLike) -> FloatArray:
        """Mahalanobis distances divided by sqrt(F), from (n, F) to (n,): about 1 for cases like the training data."""
        centred = np.atleast_2d(np.asarray(features, dtype=np.float64)) - self.mean
        return np.asarray(np.linalg.norm(centred @ self.whitening.T, axis=1) / math.sqrt(len(self.mean)))

    def with_threshold(self, held_out_scores: npt.ArrayLike, quantile: float = 0.99) -> OodModel:
        """The model with its threshold, from scores of cases that it was not fitted to (validation)."""
        threshold, reached = threshold_at(held_out_scores, quantile)
        return replace(self, threshold=threshold, quantile=reached)


def fit_ood(features: npt.ArrayLike) -> OodModel:
    """A Mahalanobis distance (Lee et al., NeurIPS 2018, with one mean) with a covariance shrunk after Ledoit and Wolf.

    With fewer cases than features the sample's covariance cannot be inverted; pulled towards a sphere by the amount
    that Ledoit and Wolf (J Multivariate Analysis 88, 2004) derive, it can, unless all cases are the same. Features
    are not scaled first: what varies little in training and much in a new case is just what is looked for.

    Parameters
    ----------
    features:
        (n, F), n >= 3, of training cases: with two the shrinkage sees no noise.

    Raises
    ------
    InputError
        Fewer than three cases, values that are not finite, or features that do not vary at all.
    """
    given = np.asarray(features, dtype=np.float64)
    if given.ndim != 2 or len(given) < 3 or not given.shape[1] or not np.isfinite(given).all():
        raise InputError(
            f"features of shape {given.shape}"
            + ("" if np.isfinite(given).all() else " with values that are not finite"),
            needed="three or more cases with the same finite features each (n, F)",
        )
    mean = given.mean(axis=0)
    centred = given - mean
    covariance, shrinkage = ledoit_wolf(centred)
    variances, directions = np.linalg.eigh(covariance)
    if not variances[-1] > 0:
        raise InputError(
            "features that are the same for all cases",
            needed="features that vary",
            remedy="Train the network first; one that gives the same features for every image cannot tell them apart.",
        )
    # Rounding may leave the smallest variances a little below 0 where nothing was shrunk.
    floor = variances[-1] * len(mean) * np.finfo(np.float64).eps
    whitening = directions.T / np.sqrt(np.maximum(variances, floor))[:, np.newaxis]
    return OodModel(mean, whitening, shrinkage, len(given))


def ledoit_wolf(centred: FloatArray) -> tuple[FloatArray, float]:
    """Shrunk covariance (F, F) of centred features (n, F), and how far it is shrunk towards a multiple of the identity.

    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004, lemma 3.2 to 3.4.
    """
    n, n_features = centred.shape
    covariance = centred.T @ centred / n
    variance = float(np.trace(covariance)) / n_features
    apart = float((covariance**2).sum()) - n_features * variance**2
    noise = float(((centred**2).sum(axis=1) ** 2).sum()) / n - float((covariance**2).sum())
    shrinkage = min(max(noise / n / apart, 0.0), 1.0) if apart > 0 else 0.0
    shrunk = (1 - shrinkage) * covariance
    shrunk[np.diag_indices(n_features)] += shrinkage * variance
    return shrunk, shrinkage


def threshold_at(held_out_scores: npt.ArrayLike, quantile: float) -> tuple[float, float]:
    """A threshold that a new case like the held-out ones exceeds with at most 1 - quantile, and the quantile reached.

    The smallest held-out score that at least ``quantile`` (n + 1) of them do not exceed. With fewer than
    1 / (1 - quantile) - 1 cases no score is safe enough: the largest is taken, and n / (n + 1) is what it reaches.
    NaN for both without cases.
    """
    ranked = np.sort(np.asarray(held_out_scores, dtype=np.float64).ravel())
    n = len(ranked)
    if not n:
        return math.nan, math.nan
    rank = math.ceil(quantile * (n + 1) - 1e-9)
    return (float(ranked[rank - 1]), quantile) if rank <= n else (float(ranked[-1]), n / (n + 1))
