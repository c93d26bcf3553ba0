"""From the cases' answers and scores to the metrics of a set of cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medrail.evaluate.agreement import agreement_statistics
from medrail.evaluate.bca import bca_intervals
from medrail.evaluate.bootstrap import FloatArray, Measured, Statistic, point
from medrail.evaluate.by_chance import calibration_error_interval
from medrail.evaluate.calibration import expected_calibration_error
from medrail.evaluate.chosen import Area, MeanShare
from medrail.evaluate.coverage import conformal_sets, set_statistics
from medrail.evaluate.delong import delong_interval, delong_method
from medrail.evaluate.glossary import meaning_of
from medrail.evaluate.intervals import (
    Counted,
    Resampling,
    WithIntervals,
    bootstrap_words,
    count_of,
    doubt,
)
from medrail.evaluate.metrics import BoolArray, IntArray, classification_statistics, dice, iou, mean_over_patients
from medrail.evaluate.operating import at_class_thresholds
from medrail.evaluate.ordinal import quadratic_kappa
from medrail.evaluate.proportion import Share
from medrail.evaluate.scoring import mean_of, probability_statistics

BINS = 10
RATES = ("sensitivity", "specificity", "ppv", "npv")
_SLICES = "axial slice{s} that hold foreground"


@dataclass(frozen=True)
class Answers:
    """What was answered and what is true.

    truth, predicted:
        (n,) class indices; the answer is the decision as it is served.
    probabilities:
        (n, K).
    how:
        Whose cases they are, and how they are resampled.
    ordered:
        Whether the classes are grades in their order.
    """

    truth: IntArray
    predicted: IntArray
    probabilities: FloatArray
    classes: tuple[str, ...]
    how: Resampling
    ordered: bool = False

    @staticmethod
    def of(
        truth: npt.ArrayLike,
        probabilities: npt.ArrayLike,
        classes: Sequence[str],
        how: Resampling,
        predicted: npt.ArrayLike | None = None,
    ) -> Answers:
        """From plain lists; without ``predicted`` the most probable class is the answer, the first one on a tie."""
        given = np.asarray(probabilities, dtype=np.float64).reshape(-1, len(classes))
        named = given.argmax(axis=1) if predicted is None else np.asarray(predicted)
        return Answers(np.asarray(truth, dtype=np.int64), named.astype(np.int64), given, tuple(classes), how)

    @property
    def confidence(self) -> FloatArray:
        """(n,): the probability of the answer."""
        return np.asarray(self.probabilities[np.arange(len(self.truth)), self.predicted])

    @property
    def correct(self) -> BoolArray:
        return np.asarray(self.predicted == self.truth)


def measure_classification(answers: Answers) -> dict[str, Measured]:
    """Every classification metric of ``medrail.evaluate.glossary`` over all cases, with its interval.

    ``n`` is the number of cases; of a sensitivity, specificity or predictive value, the number of cases it is a share
    of.
    """
    statistics, counted = _statistics(answers)
    two = len(answers.classes) == 2
    measuring = WithIntervals(answers.how, counted)
    measured = measuring.of(statistics, skip=("auc", "ece") if two else ("ece",))
    if two:
        measured["auc"] = measure_area(answers.truth == 1, answers.probabilities[:, 1], answers.how)
    error = point(statistics["ece"], len(answers.truth))
    interval = calibration_error_interval(answers.confidence, answers.correct, answers.how.groups, BINS)
    measured["ece"] = measuring.measured("ece", error, interval)
    return {name: measured[name] for name in statistics}


def _statistics(answers: Answers) -> tuple[dict[str, Statistic], dict[str, Counted]]:
    truth, predicted, classes = answers.truth, answers.predicted, answers.classes
    most_probable = answers.probabilities.argmax(axis=1)
    found = classification_statistics(truth, answers.probabilities, classes, predicted)
    agreed = agreement_statistics(truth, predicted, classes)
    chances = probability_statistics(truth, answers.probabilities)
    statistics: dict[str, Statistic] = {"auc": found.pop("auc"), "auprc": chances.pop("auprc")}
    statistics["accuracy"] = found.pop("accuracy")
    counted = {"accuracy": share_of_all(answers.correct), "auprc": Counted(kind=Area())}
    counted |= {"auc": Counted(kind=Area()), "balanced_accuracy": Counted(kind=_mean_sensitivity(answers))}
    if len(classes) == 2:
        statistics["accuracy_most_probable"] = mean_of(most_probable == truth)
        counted["accuracy_most_probable"] = share_of_all(most_probable == truth)
    statistics |= {"balanced_accuracy": found["balanced_accuracy"], "f1": found["f1"], "mcc": agreed["mcc"]}
    names = {name: f"{name}/{classes[1]}" for name in RATES} if len(classes) == 2 else {}
    names |= {f"sensitivity/{label}": f"sensitivity/{label}" for label in classes}
    if len(classes) > 2:
        names |= {f"{rate}/{label}": f"{rate}/{label}" for rate in RATES[1:] for label in classes}
    for shown, name in names.items():
        statistics[shown] = (found | agreed)[name]
        rate, _, label = name.partition("/")
        index = classes.index(label)
        counted[shown] = share_of_class(rate, truth == index, predicted == index)
    if answers.ordered:
        statistics["quadratic_kappa"] = quadratic_kappa(truth, predicted, len(classes))
    sure = expected_calibration_error(answers.confidence, answers.correct, BINS)
    return {**statistics, **chances, "ece": sure}, counted


def share_of_all(right: BoolArray) -> Counted:
    """A share of all cases."""
    return Counted(kind=Share.of_all(np.asarray(right, dtype=bool)))


def share_of_class(rate: str, is_one: BoolArray, called: BoolArray) -> Counted:
    """A rate of one class: the cases that it is a share of, and which of them are right."""
    right, counts = {
        "sensitivity": (called, is_one),
        "specificity": (~called, ~is_one),
        "ppv": (is_one, called),
        "npv": (~is_one, ~called),
    }[rate]
    return Counted(counts, Share(right, counts))


def _mean_sensitivity(answers: Answers) -> MeanShare:
    """Of the classes that occur."""
    occurring = np.unique(answers.truth)
    return MeanShare(tuple(Share(answers.predicted == index, answers.truth == index) for index in occurring))


def measure_area(positive: BoolArray, scores: FloatArray, how: Resampling) -> Measured:
    """AUC of cases that are positive or not, with DeLong's interval by patient."""
    groups = how.groups
    found = delong_interval(positive, scores, groups)
    method = how.in_words(delong_method(positive, scores, groups))
    if math.isfinite(found.low):
        units = min(how.units(positive), how.units(~positive))
        method = f"over all cases; {method}{doubt(how.unit, units)}"
    return Measured(found.auc, found.low, found.high, len(positive), method)


def measure_operating_points(answers: Answers, thresholds: Mapping[str, float]) -> dict[str, dict[str, Measured]]:
    """Class -> sensitivity, specificity, ppv, npv of that class against the rest, at its threshold."""
    statistics = at_class_thresholds(answers.truth, answers.probabilities, answers.classes, thresholds)
    counted = {}
    for name in statistics:
        rate, _, label = name.partition("@/")
        index = answers.classes.index(label)
        counted[name] = share_of_class(
            rate, answers.truth == index, answers.probabilities[:, index] >= thresholds[label]
        )
    measured = WithIntervals(answers.how, counted).of(statistics)
    return {
        label: {rate: measured[f"{rate}@/{label}"] for rate in RATES}
        for label in answers.classes
        if label in thresholds
    }


def measure_conformal(answers: Answers, quantile: float) -> dict[str, Measured]:
    """Coverage and mean size of the conformal sets."""
    found = set_statistics(answers.probabilities, answers.truth, quantile)
    statistics = {"coverage": found["set_coverage"], "mean_size": found["set_size"]}
    holds = conformal_sets(answers.probabilities, quantile)[np.arange(len(answers.truth)), answers.truth]
    return WithIntervals(answers.how, {"coverage": share_of_all(holds)}).of(statistics)


def measure_share(name: str, values: npt.ArrayLike, how: Resampling) -> dict[str, Measured]:
    """The share of the cases for which something is so."""
    return WithIntervals(how, {name: share_of_all(np.asarray(values, dtype=bool))}).of({name: mean_of(values)})


def measure_segmentation(
    scores: Sequence[Mapping[str, float]], first_counts: IntArray | None, classes: Sequence[str], how: Resampling
) -> dict[str, Measured]:
    """The mean over the patients of each case's score, with intervals.

    Parameters
    ----------
    scores:
        One mapping a case, metric name -> value; NaN (HD95 with one mask empty) is left out and ``n`` is smaller.
    first_counts:
        Confusion counts (S, K, K) of the axial slices of the first case: with a single case the interval of Dice and
        IoU comes from its slices.
    """
    columns = {
        name: np.array([score.get(name, math.nan) for score in scores])
        for name in dict.fromkeys(name for score in scores for name in score)
    }
    counted = {name: _defined(name, values) for name, values in columns.items()}
    statistics = {name: mean_over_patients(values, how.patients) for name, values in columns.items()}
    measured = WithIntervals(how, counted).of(statistics)
    if len(scores) == 1 and first_counts is not None:
        measured |= _over_slices(measured, first_counts, classes, how)
    return measured


def _defined(name: str, values: FloatArray) -> Counted:
    defined = np.isfinite(values)
    missing = len(values) - int(defined.sum())
    doubted = f"; left out: {count_of('case{s}', missing)} in which it is not defined" if missing else ""
    meaning = meaning_of(name)
    empty = f" ({meaning.empty.replace(';', ',')})" if meaning and meaning.empty else ""
    return Counted(defined, said=f"mean over cases, each patient counting the same{empty}", doubted=doubted)


def _over_slices(
    measured: Mapping[str, Measured], counts: IntArray, classes: Sequence[str], how: Resampling
) -> dict[str, Measured]:
    """Intervals of one volume's Dice and IoU, from resampling its axial slices and pooling their voxels."""
    either = counts[:, 1:, :].any(axis=(1, 2)) | counts[:, :, 1:].any(axis=(1, 2))
    held = counts[either].astype(np.float64)
    if len(held) < 2:
        return {}
    statistics: dict[str, Statistic] = {}
    for name, metric in (("dice", dice), ("iou", iou)):
        statistics[name] = _pooled(metric, held, None)
        if len(classes) > 2:
            statistics |= {f"{name}/{label}": _pooled(metric, held, index) for index, label in enumerate(classes[1:])}
    intervals = bca_intervals(statistics, range(len(held)), resamples=how.resamples, seed=how.seed)
    method = (
        f"one volume; {bootstrap_words(_SLICES, len(held), how.resamples)}, their voxels pooled; "
        f"says how even the volume is, not how other patients will do{doubt(_SLICES, len(held))}"
    )
    return {
        name: Measured(
            measured[name].value,
            found.low,
            found.high,
            measured[name].n,
            method if math.isfinite(found.low) else f"one volume; {found.method}",
        )
        for name, found in intervals.items()
    }


def _pooled(metric: Callable[[FloatArray], FloatArray], counts: FloatArray, index: int | None) -> Statistic:
    """A metric of the slices' summed counts: of one foreground class, or the mean of all."""

    def statistic(weights: FloatArray) -> FloatArray:
        values = metric(np.tensordot(weights, counts, axes=1))
        return np.asarray(values.mean(axis=1) if index is None else values[:, index])

    return statistic
