"""Answers of models that were never trained: drawn, with a known skill."""

from __future__ import annotations

import numpy as np

from medrail.evaluate.answers import Answers


def classified(rng: np.random.Generator, n: int, classes: str, patients: int, skill: float, truth=None) -> Answers:
    truth = rng.integers(0, len(classes), n) if truth is None else truth
    logits = rng.normal(size=(n, len(classes))) + skill * np.eye(len(classes))[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Answers(
        "classification",
        tuple(f"c{i:04}" for i in range(n)),
        tuple(f"p{i % patients:03}" for i in range(n)),
        tuple(classes),
        truth,
        probabilities.argmax(axis=1),
        probabilities,
    )


def segmented(rng: np.random.Generator, n: int, patients: int, shift: float = 0.0) -> Answers:
    scores = {"dice": rng.beta(8, 2, n) + shift, "hd95_mm": np.where(rng.random(n) < 0.1, np.nan, rng.gamma(2, 3, n))}
    return Answers(
        "segmentation", tuple(f"c{i}" for i in range(n)), tuple(f"p{i % patients}" for i in range(n)), scores=scores
    )
