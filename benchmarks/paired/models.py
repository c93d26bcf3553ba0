"""Pairs of models that are equally good: answers drawn so that the null hypothesis holds."""

from __future__ import annotations

import numpy as np

from medrail.evaluate.answers import Answers

OF_PATIENT = 0.6


def classifiers(
    rng: np.random.Generator,
    patients: int,
    *,
    cases: int = 1,
    classes: int = 2,
    skill: float = 1.5,
    shared: float = 0.7,
    bias: float = 0.0,
    luck: float = 0.0,
    count: int = 2,
) -> list[Answers]:
    """``count`` models on the same cases, whose scores share a part, as those of real networks do.

    Parameters
    ----------
    cases:
        Of each patient; they share the class, and ``OF_PATIENT`` of what makes them hard, for all and for each model.
    shared:
        Correlation of the models' errors.
    bias:
        Added to the logit of class 1 by every second model, and taken away by the others: as many errors, but of
        another kind.
    luck:
        SD of each model's skill: what a lucky or unlucky seed does.
    """
    truth = np.repeat(rng.integers(0, classes, patients), cases)

    def drawn() -> np.ndarray:
        """A part of the patient's, and one of each case, together of variance 1."""
        of_patient = np.repeat(rng.normal(size=(patients, classes)), cases, axis=0)
        return np.asarray(
            np.sqrt(OF_PATIENT) * of_patient + np.sqrt(1 - OF_PATIENT) * rng.normal(size=of_patient.shape)
        )

    hardness = drawn()
    names = tuple(f"p{place:05}" for place in np.repeat(np.arange(patients), cases))
    ids = tuple(f"c{place:05}" for place in range(len(truth)))
    found = []
    for model in range(count):
        noise = np.sqrt(shared) * hardness + np.sqrt(1 - shared) * drawn()
        logits = noise + (skill + luck * rng.normal()) * np.eye(classes)[truth]
        logits[:, 1] += bias if model % 2 else -bias
        odds = np.exp(logits)
        probabilities = odds / odds.sum(axis=1, keepdims=True)
        labels = tuple("abcdefgh"[:classes])
        found.append(Answers("classification", ids, names, labels, truth, probabilities.argmax(axis=1), probabilities))
    return found


def dice_differences(rng: np.random.Generator, patients: int, *, skew: bool = False) -> np.ndarray:
    """A patient's Dice by one model less that by another, their mean being 0.

    Parameters
    ----------
    skew:
        Mostly a little better, now and then much worse: not symmetric, so the runs cannot be exchanged.
    """
    if skew:
        return 0.02 - rng.exponential(0.02, patients)
    hardness = rng.beta(8, 2, patients)
    both = [np.clip(hardness + rng.normal(0, 0.03, patients), 0, 1) for _ in range(2)]
    return np.asarray(both[1] - both[0])
