"""What medrail reports of one made study: every number with its interval."""

from __future__ import annotations

import numpy as np
from samples import Sample

from medrail.evaluate.agreement import agreement_statistics
from medrail.evaluate.bca import Interval
from medrail.evaluate.bootstrap import Statistic, point
from medrail.evaluate.by_chance import calibration_error_interval
from medrail.evaluate.calibration import expected_calibration_error, named_class
from medrail.evaluate.chosen import Area, Kind, MeanShare, chosen_intervals
from medrail.evaluate.coverage import area_under_risk_coverage
from medrail.evaluate.delong import auc_components, delong_difference, delong_interval
from medrail.evaluate.metrics import classification_statistics, mean_over_patients
from medrail.evaluate.proportion import Share
from medrail.evaluate.scoring import probability_statistics

METHODS = {
    "auc": "DeLong, logit",
    "auc_of_classes": "jackknife, logit",
    "auc_difference": "DeLong, paired",
    "auprc": "jackknife, logit",
    "accuracy": "Wilson by patient",
    "sensitivity": "Wilson by patient",
    "specificity": "Wilson by patient",
    "ppv": "Wilson by patient",
    "balanced_accuracy": "MOVER of Wilson",
    "f1": "BCa",
    "mcc": "BCa",
    "brier": "BCa",
    "log_loss": "BCa",
    "aurc": "BCa",
    "ece": "jackknife and chance",
    "dice": "BCa",
    "dice_failing": "BCa",
}
"""Every number of the table in docs/explanation/statistics.md, and how its interval is made."""


def true_values(sample: Sample) -> dict[str, float]:
    """The numbers of a very big study."""
    statistics, _ = _statistics(sample)
    values = {name: point(statistic, len(sample.truth)) for name, statistic in statistics.items()}
    if sample.probabilities.shape[1] == 2:
        values["auc"] = auc_components(sample.truth == 1, sample.probabilities[:, 1]).auc
        values["auc_difference"] = 0.0
    values["ece"] = point(
        expected_calibration_error(*named_class(sample.probabilities, sample.truth)), len(sample.truth)
    )
    return values


def intervals(sample: Sample, *, resamples: int, seed: int) -> dict[str, Interval]:
    """The numbers' intervals, as an evaluation makes them."""
    statistics, kinds = _statistics(sample)
    patients = sample.patients
    found = chosen_intervals(statistics, kinds, patients, resamples=resamples, seed=seed)
    if sample.probabilities.shape[1] == 2:
        positive, scores = sample.truth == 1, sample.probabilities[:, 1]
        found["auc"] = Interval(*delong_interval(positive, scores, patients)[1:], "DeLong")
        difference = delong_difference(positive, scores, sample.second[:, 1], patients)
        found["auc_difference"] = Interval(difference.low, difference.high, "DeLong")
    confidence, correct = named_class(sample.probabilities, sample.truth)
    found["ece"] = calibration_error_interval(confidence, correct, patients, seed=seed)
    return found


def _statistics(sample: Sample) -> tuple[dict[str, Statistic], dict[str, Kind]]:
    """Of the last class, the rare one, where a number is one class's."""
    truth, given = sample.truth, sample.probabilities
    names = [str(index) for index in range(given.shape[1])]
    predicted, last = given.argmax(axis=1), given.shape[1] - 1
    found = classification_statistics(truth, given, names)
    agreed = agreement_statistics(truth, predicted, names)
    chances = probability_statistics(truth, given)
    statistics: dict[str, Statistic] = {
        **({"auc_of_classes": found["auc"]} if last > 1 else {}),
        "auprc": chances["auprc"],
        **{name: found[name] for name in ("accuracy", "balanced_accuracy", "f1")},
        **{name: agreed[f"{name}/{last}"] for name in ("sensitivity", "specificity", "ppv")},
        "mcc": agreed["mcc"],
        "brier": chances["brier"],
        "log_loss": chances["log_loss"],
        "aurc": area_under_risk_coverage(*named_class(given, truth)),
        "dice": mean_over_patients(sample.dice, sample.patients),
        "dice_failing": mean_over_patients(sample.dice_failing, sample.patients),
    }
    right = predicted == truth
    kinds: dict[str, Kind] = {
        "auc_of_classes": Area(),
        "auprc": Area(),
        "accuracy": Share.of_all(right),
        "balanced_accuracy": MeanShare(tuple(Share(right, truth == index) for index in range(last + 1))),
        "sensitivity": Share(right, truth == last),
        "specificity": Share(np.asarray(predicted != last), truth != last),
        "ppv": Share(right, predicted == last),
    }
    return statistics, kinds
