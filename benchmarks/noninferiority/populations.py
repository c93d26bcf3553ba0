"""Pairs of networks of which the second is worse by a known amount: answers drawn from a population, not from data."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from medrail.evaluate.answers import Answers

Generator = np.random.Generator
Population = Callable[[Generator, int, float], tuple[Answers, Answers]]
"""(generator, patients, by how much the second is worse) -> the answers of both."""

_NORMAL = NormalDist()


def changed_answers(*, gained: float, right: float = 0.9, balanced: str = "") -> Population:
    """Right and wrong answers: a share ``gained`` of the cases goes right, and that plus the loss goes wrong.

    Parameters
    ----------
    balanced:
        "" for the loss in accuracy; "even": in balanced accuracy, the same in both classes; "small": all of it in the
        class of 30 % of the patients.
    """

    def drawn(rng: Generator, patients: int, worse: float) -> tuple[Answers, Answers]:
        truth = (rng.random(patients) < (0.3 if balanced else 0.5)).astype(np.int64)
        loss = np.full(patients, worse)
        if balanced == "small":
            loss = np.where(truth == 1, 2 * worse, 0.0)
        fate = rng.random(patients)
        lost = fate < gained + loss
        won = ~lost & (fate < 2 * gained + loss)
        before = np.where(lost, True, np.where(won, False, rng.random(patients) < right))
        after = np.where(lost, False, np.where(won, True, before))
        return tuple(_classified(truth, _scores(truth, is_right)) for is_right in (before, after))  # type: ignore[return-value]

    return drawn


def _scores(truth: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.where(right, truth, 1 - truth) * 0.8 + 0.1


def ranked(area: float, alike: float, *, positives: float = 0.5) -> Population:
    """Normal scores of both classes, correlated ``alike`` within a class; the second's area is lower by the loss."""

    def drawn(rng: Generator, patients: int, worse: float) -> tuple[Answers, Answers]:
        truth = (rng.random(patients) < positives).astype(np.int64)
        truth[:2] = (0, 1)
        apart = [math.sqrt(2) * _NORMAL.inv_cdf(one) for one in (area, area - worse)]
        shared, own = rng.normal(size=patients), rng.normal(size=patients)
        noise = (shared, alike * shared + math.sqrt(1 - alike * alike) * own)
        scores = [_squashed(far * truth + one) for far, one in zip(apart, noise, strict=True)]
        return _classified(truth, scores[0]), _classified(truth, scores[1])

    return drawn


def ranked_with_failures(area: float, positives: float = 0.5) -> Population:
    """The second answers as the first, but for a few positive cases, in which it sees nothing at all."""

    def drawn(rng: Generator, patients: int, worse: float) -> tuple[Answers, Answers]:
        truth = (rng.random(patients) < positives).astype(np.int64)
        truth[:2] = (0, 1)
        apart = math.sqrt(2) * _NORMAL.inv_cdf(area)
        noise = rng.normal(size=patients)
        fails = (truth == 1) & (rng.random(patients) < worse / (area - 0.5))
        scores = apart * truth + noise
        return _classified(truth, _squashed(scores)), _classified(
            truth, _squashed(np.where(fails, rng.normal(size=patients), scores))
        )

    return drawn


def outlined(differences: Callable[[Generator, int, float], np.ndarray]) -> Population:
    """Dice of patients: the first's lie near 0.8, the second's differ by what is drawn (clipped at neither end)."""

    def drawn(rng: Generator, patients: int, worse: float) -> tuple[Answers, Answers]:
        before = rng.beta(8, 2, patients)
        ids = tuple(f"c{place:05}" for place in range(patients))
        first, second = (
            Answers("segmentation", ids, ids, scores={"dice": values})
            for values in (before, before + differences(rng, patients, worse))
        )
        return first, second

    return drawn


def even(spread: float) -> Callable[[Generator, int, float], np.ndarray]:
    """Every patient loses about the same: normal, with this SD."""
    return lambda rng, patients, worse: rng.normal(-worse, spread, patients)


def skewed(gain: float) -> Callable[[Generator, int, float], np.ndarray]:
    """Mostly a little better, now and then much worse: an exponential tail."""
    return lambda rng, patients, worse: gain - rng.exponential(gain + worse, patients)


def failing(one_in: int, spread: float = 0.003) -> Callable[[Generator, int, float], np.ndarray]:
    """Nearly the same in all patients but one of so many, and the whole loss in these."""

    def drawn(rng: Generator, patients: int, worse: float) -> np.ndarray:
        fails = rng.random(patients) < 1 / one_in
        return np.asarray(rng.normal(0, spread, patients) - np.where(fails, one_in * worse, 0.0))

    return drawn


def _squashed(scores: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-scores)))


def _classified(truth: np.ndarray, scores: np.ndarray) -> Answers:
    ids = tuple(f"c{place:05}" for place in range(len(truth)))
    probabilities = np.stack([1 - scores, scores], axis=1)
    return Answers("classification", ids, ids, ("a", "b"), truth, (scores > 0.5).astype(np.int64), probabilities)
