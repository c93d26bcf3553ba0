"""From the judged cases to the numbers of an Evaluation: metrics, operating points, sets, parts, curves, advice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medrail.bundle import Predictor
from medrail.bundle.calibration import Calibration
from medrail.cases import Leaked, leak_sentence
from medrail.cases.listing import counted
from medrail.config import Config
from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.calibration import reliability
from medrail.evaluate.coverage import RARE, abstention_curve, covered_by_chance
from medrail.evaluate.curves import precision_recall, roc, shares_below, thinned
from medrail.evaluate.evaluation import NOTHING_LEAKED, Evaluation, Points
from medrail.evaluate.intervals import Resampling
from medrail.evaluate.multilabel import measure_multilabel
from medrail.evaluate.patients_needed import halving_sentence, more_patients
from medrail.evaluate.scored import Scored
from medrail.evaluate.subgroups import many_looked_at, subgroups, too_small
from medrail.evaluate.summary import (
    BINS,
    Answers,
    measure_classification,
    measure_conformal,
    measure_operating_points,
    measure_segmentation,
    measure_share,
)

HALF = 0.5
"""The threshold of two classes where none was chosen."""


@dataclass(frozen=True)
class Measuring:
    """Measures sets of judged cases, with the predictor's calibration and the configuration's settings."""

    predictor: Predictor
    config: Config
    leaked: Leaked = NOTHING_LEAKED

    @property
    def _calibration(self) -> Calibration | None:
        return self.predictor.calibration

    @property
    def _classifies(self) -> bool:
        return self.predictor.spec.task == "classification"

    def evaluation(self, split: str, scored: Sequence[Scored]) -> Evaluation:
        """All numbers of the judged cases; what went wrong and how long it took is added by the caller."""
        strata = subgroups(scored, self.leaked)
        least, classes = self.config.evaluate.subgroup_patients, self.predictor.spec.classes
        reasons = {
            name: {value: reason for value, part in parts.items() if (reason := too_small(part, least, classes))}
            for name, parts in strata.items()
        }
        small = {name: values for name, values in reasons.items() if values}
        metrics = self.metrics(scored)
        whole = Evaluation(
            split=split,
            n=len(scored),
            patients=len({one.case.patient for one in scored}),
            metrics=self._marked(metrics),
            strata={
                name: {
                    value: self._marked(self.metrics(part), leaked=name != "leaked") for value, part in parts.items()
                }
                for name, parts in strata.items()
            },
            too_small=small,
            accepted_leaks=self.leaked.to_json() if self.leaked else {},
            calibration=calibration_summary(self._calibration),
            ood=self._ood(scored),
            curves=self._ood_curves(scored),
            patients_needed=needed(metrics, scored),
        )
        if self.predictor.spec.multi_label:
            whole = self._of_labels(whole, scored)
        else:
            whole = self._of_answers(whole, scored) if self._classifies else self._of_masks(whole, scored)
        warnings = (*self._fitted_on_these(split), *self._doubts(whole), many_looked_at(strata, small))
        return replace(whole, warnings=tuple(filter(None, warnings)))

    def metrics(self, scored: Sequence[Scored]) -> dict[str, Measured]:
        """The metrics of the task."""
        if self.predictor.spec.multi_label:
            truth, probabilities = [one.labels for one in scored], [one.probabilities for one in scored]
            classes = self.predictor.spec.classes
            return measure_multilabel(truth, probabilities, classes, self._how(scored), self._thresholds)
        if self._classifies:
            return measure_classification(self._answers(scored))
        scores = [one.scores for one in scored]
        found = measure_segmentation(scores, scored[0].counts, self.predictor.spec.classes, self._how(scored))
        unit = "mm" if "hd95_mm" in found else "pixels"
        within = f"; tolerance {self.config.evaluate.surface_tolerance_mm:g} {unit}"
        return {
            name: replace(one, method=one.method + within) if name.startswith("nsd") else one
            for name, one in found.items()
        }

    def _how(self, scored: Sequence[Scored]) -> Resampling:
        settings = self.config.evaluate
        return Resampling([one.case.patient for one in scored], settings.resamples, settings.seed)

    def _answers(self, scored: Sequence[Scored]) -> Answers:
        answers = Answers.of(
            [one.truth for one in scored],
            [one.probabilities for one in scored],
            self.predictor.spec.classes,
            self._how(scored),
            [one.predicted for one in scored],
        )
        return replace(answers, ordered=self.config.data.ordered)

    @property
    def _thresholds(self) -> dict[str, float]:
        return dict(self._calibration.thresholds) if self._calibration else {}

    def _of_labels(self, whole: Evaluation, scored: Sequence[Scored]) -> Evaluation:
        """Of several labels: the curves of each; each is a question of its own, so there is no table of confusion."""
        truth = np.array([one.labels for one in scored], dtype=bool)
        probabilities = np.array([one.probabilities for one in scored])
        drawn = {"roc": roc, "precision_recall": precision_recall}
        curves: dict[str, dict[str, Points]] = {
            name: {
                label: points
                for index, label in enumerate(self.predictor.spec.classes)
                if (points := curve(truth[:, index], probabilities[:, index]))
            }
            for name, curve in drawn.items()
        }
        return replace(whole, curves={**{name: of for name, of in curves.items() if of}, **whole.curves})

    def _of_answers(self, whole: Evaluation, scored: Sequence[Scored]) -> Evaluation:
        answers, calibration, thresholds = self._answers(scored), self._calibration, self._thresholds
        if not thresholds and len(answers.classes) == 2:
            thresholds = {answers.classes[1]: HALF}
        conformal = calibration.conformal if calibration else None
        return replace(
            whole,
            confusion=_confusion(answers),
            operating_points=measure_operating_points(answers, thresholds),
            conformal=measure_conformal(answers, conformal.quantile) if conformal else {},
            curves={**_answer_curves(answers), **whole.curves},
        )

    def _of_masks(self, whole: Evaluation, scored: Sequence[Scored]) -> Evaluation:
        shown = {name: shares_below([one.scores.get(name, math.nan) for one in scored]) for name in ("dice", "nsd")}
        per_case = {name: points for name, points in shown.items() if len(points) > 1}
        return replace(whole, curves={"per_case": per_case, **whole.curves} if per_case else whole.curves)

    def _ood(self, scored: Sequence[Scored]) -> dict[str, Measured]:
        if self._calibration is None or self._calibration.ood is None:
            return {}
        return measure_share("called_unlike", [one.unlike for one in scored], self._how(scored))

    def _ood_curves(self, scored: Sequence[Scored]) -> dict[str, dict[str, Points]]:
        points = shares_below([one.ood_score for one in scored])
        return {"ood": {"evaluated cases": points}} if len(points) > 1 else {}

    def _marked(self, metrics: Mapping[str, Measured], *, leaked: bool = True) -> dict[str, Measured]:
        """Wherever a number goes, its method goes with it: so that is where accepted leaks are said."""
        said = f"; {leak_sentence(self.leaked.counts)}" if leaked and self.leaked else ""
        return {name: replace(measured, method=measured.method + said) for name, measured in metrics.items()}

    def _fitted_on_these(self, split: str) -> tuple[str, ...]:
        if split != "val" or not calibration_summary(self._calibration).get("fitted"):
            return ()
        return (
            "temperature, thresholds and conformal sets were fitted on these very cases: what depends on them looks "
            "better here than it is",
        )

    def _doubts(self, whole: Evaluation) -> tuple[str, ...]:
        found = []
        called, ood = whole.ood.get("called_unlike"), self._calibration.ood if self._calibration else None
        if called and ood and called.low > 1 - ood.quantile:
            found.append(
                f"{called.value:.0%} of the cases are unlike the training data, where about {1 - ood.quantile:.0%} of "
                "images of the same kind would be: these data are of another kind, or the training data are too few"
            )
        coverage, conformal = whole.conformal.get("coverage"), self._calibration and self._calibration.conformal
        if coverage and conformal and coverage.high < 1 - conformal.alpha and self._calibration:
            held_out = int(self._calibration.made_from.get("val_patients", 0))
            by_chance = held_out and covered_by_chance(coverage.value, whole.patients, held_out, conformal.alpha)
            why = (
                f"{counted(held_out, 'validation patient')} are so few that chance alone may do that"
                if by_chance and by_chance >= RARE
                else "these cases are not like those of the validation"
            )
            found.append(
                f"the conformal sets hold the true class in {coverage.value:.0%} of the cases only, "
                f"{1 - conformal.alpha:.0%} were promised: {why}"
            )
        return tuple(found)


def calibration_summary(calibration: Calibration | None) -> dict[str, Any]:
    """What an evaluation says of the calibration it was made with, without its arrays."""
    if calibration is None:
        return {}
    made_from = {key: value for key, value in calibration.made_from.items() if key != "fingerprint"}
    conformal, ood = calibration.conformal, calibration.ood
    return {
        "temperature": calibration.temperature,
        "thresholds": dict(calibration.thresholds),
        "threshold_rule": calibration.threshold_rule,
        "conformal": {"alpha": conformal.alpha, "quantile": conformal.quantile} if conformal else {},
        "ood": {"threshold": ood.threshold, "quantile": ood.quantile, "features": len(ood.mean)} if ood else {},
        **made_from,
    }


def needed(metrics: Mapping[str, Measured], scored: Sequence[Scored]) -> dict[str, Any]:
    """What it would take to halve the first metric's interval."""
    name, measured = next(iter(metrics.items()))
    patients = len({one.case.patient for one in scored})
    if patients < 2 or not math.isfinite(measured.low) or measured.high <= measured.low:
        return {}  # the interval is over parts of one patient, and says nothing of others
    return {
        "metric": name,
        "width": round(measured.high - measured.low, 6),
        "patients": patients,
        "more": more_patients(patients),
        "sentence": f"{name}: {halving_sentence(measured, patients)}",
    }


def _confusion(answers: Answers) -> tuple[tuple[int, ...], ...]:
    counts = np.zeros((len(answers.classes),) * 2, dtype=int)
    np.add.at(counts, (answers.truth, answers.predicted), 1)
    return tuple(tuple(int(count) for count in row) for row in counts)


def _answer_curves(answers: Answers) -> dict[str, dict[str, Points]]:
    indices = [1] if len(answers.classes) == 2 else range(len(answers.classes))
    receiver: dict[str, Points] = {}
    precision: dict[str, Points] = {}
    for index in indices:
        positive, scores = answers.truth == index, answers.probabilities[:, index]
        receiver[answers.classes[index]] = roc(positive, scores)
        precision[answers.classes[index]] = precision_recall(positive, scores)
    bins = [one for one in reliability(answers.confidence, answers.correct, BINS) if one.n]
    abstained: dict[str, Points] = {"cases": thinned(abstention_curve(answers.confidence, answers.correct))}
    curves: dict[str, dict[str, Points]] = {
        "roc": {name: points for name, points in receiver.items() if points},
        "precision_recall": {name: points for name, points in precision.items() if points},
        "reliability": {"cases": [(round(one.confidence, 6), round(one.accuracy, 6)) for one in bins]},
        "reliability_n": {"cases": [(round(one.confidence, 6), float(one.n)) for one in bins]},
        "abstention": abstained,
    }
    return {name: found for name, found in curves.items() if found}
