"""A subgroup may have one case, one class, one patient or nobody: undefined is NaN with a reason, never a warning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medrail.evaluate.agreement import agreement_statistics
from medrail.evaluate.by_chance import calibration_error_interval
from medrail.evaluate.calibration import (
    classwise_calibration_error,
    expected_calibration_error,
    named_class,
    reliability,
)
from medrail.evaluate.chosen import Area, MeanShare, chosen_intervals
from medrail.evaluate.coverage import abstention_curve, accuracy_above, area_under_risk_coverage, set_statistics
from medrail.evaluate.delong import delong_difference, delong_interval, delong_method
from medrail.evaluate.metrics import classification_statistics, mean_over_patients
from medrail.evaluate.operating import at_class_thresholds, class_thresholds
from medrail.evaluate.proportion import Share
from medrail.evaluate.scoring import probability_statistics

SETS = {
    "nobody": ([], []),
    "one case": ([1], ["a"]),
    "one class": ([1, 1, 1], ["a", "b", "c"]),
    "one patient": ([0, 1, 1, 0], ["a"] * 4),
    "one of each": ([0, 1], ["a", "b"]),
    "two patients, both classes": ([0, 1, 0, 1], ["a", "a", "b", "b"]),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("flat", [True, False])
def test_everything_of_few_cases(name: str, n_classes: int, flat: bool) -> None:
    truth, patients = np.array(SETS[name][0], dtype=int), SETS[name][1]
    n, names = len(truth), "abc"[:n_classes]
    given = np.random.default_rng(0).dirichlet(np.ones(n_classes), n)
    given = np.full((n, n_classes), 1 / n_classes) if flat else given
    confidence, correct = named_class(given, truth)
    predicted = given.argmax(axis=1) if n else np.empty(0, int)
    statistics = {
        **classification_statistics(truth, given, names),
        **probability_statistics(truth, given),
        **agreement_statistics(truth, predicted, names),
        **at_class_thresholds(truth, given, names, class_thresholds(truth, given, names)),
        **set_statistics(given, truth, 0.5),
        **accuracy_above(confidence, correct, 0.7),
        "ece": expected_calibration_error(confidence, correct, equal_mass=True),
        "classwise": classwise_calibration_error(given, truth),
        "aurc": area_under_risk_coverage(confidence, correct),
        "mean": mean_over_patients(confidence, patients),
    }
    shares = tuple(Share(correct, truth == index) for index in range(n_classes))
    kinds = {"accuracy": Share.of_all(correct), "balanced_accuracy": MeanShare(shares), "auprc": Area(), "auc": Area()}
    found = chosen_intervals(statistics, kinds, patients, resamples=50, seed=0)
    for one, interval in found.items():
        assert math.isnan(interval.low) == interval.method.startswith("no interval"), one
        assert math.isnan(interval.low) or interval.low <= interval.high, one
    assert not (n == 0 and any(not math.isnan(interval.low) for interval in found.values()))
    area = delong_interval(truth == 1, given[:, 1], patients)
    assert math.isnan(area.low) == delong_method(truth == 1, given[:, 1], patients).startswith("no interval")
    delong_difference(truth == 1, given[:, 1], given[:, 0], patients)
    calibration_error_interval(confidence, correct, patients)
    assert sum(one.n for one in reliability(confidence, correct)) == n
    assert len(abstention_curve(confidence, correct)) == len(np.unique(confidence))
