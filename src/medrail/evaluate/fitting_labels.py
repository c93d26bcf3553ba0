"""Several labels an image: from which probability on each is a finding, chosen on the validation cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medrail.cases.listing import counted, shown
from medrail.evaluate.bootstrap import FloatArray
from medrail.evaluate.metrics import BoolArray
from medrail.evaluate.operating import threshold_for_sensitivity, youden_threshold

FEWEST_OF_CLASS = 5
"""Patients with a class or label, and without it, below which it gets no threshold: two or three cases would decide."""


def enough_of_class(positive: BoolArray, patients: Sequence[str]) -> bool:
    """Whether at least 5 patients have a class or label, and at least 5 have cases without it."""
    people = np.asarray(patients)
    return all(len(set(people[chosen].tolist())) >= FEWEST_OF_CLASS for chosen in (positive, ~positive))


def label_thresholds(
    truth: BoolArray, probabilities: FloatArray, patients: Sequence[str], classes: Sequence[str], rule: str
) -> tuple[dict[str, float], list[str]]:
    """Label -> threshold by the rule ("youden" or "sensitivity=0.95"), and what is to be said of it.

    A label that too few patients have, or whose probabilities are no better than guessing, gets none: it stays at 0.5.

    Parameters
    ----------
    truth, probabilities:
        (n, K).
    """
    name, _, target = rule.partition("=")
    found: dict[str, float] = {}
    without: list[str] = []
    for index, label in enumerate(classes):
        positive, scores = truth[:, index], probabilities[:, index]
        value = float("nan")
        if enough_of_class(positive, patients):
            value = (
                threshold_for_sensitivity(positive, scores, float(target))
                if name == "sensitivity"
                else youden_threshold(positive, scores)
            )
        if np.isfinite(value):
            found[label] = float(np.clip(value, 0, 1))
        else:
            without.append(label)
    on = f"{counted(len(truth), 'validation case')} of {counted(len(set(patients)), 'patient')}"
    values = ", ".join(f"{label} {value:.3g}" for label, value in found.items())
    said = [f"thresholds by the rule {rule} on {on}: {values or 'none'}"]
    if without:
        why = f"fewer than {FEWEST_OF_CLASS} patients with or without it, or no better than guessing"
        said.append(f"at 0.5, because of {why}: {shown(without, 20)}")
    return found, said
