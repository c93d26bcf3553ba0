"""What one run answered on the cases it was judged on, as evaluation/cases.csv keeps it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medrail.cases.labels import SEPARATOR
from medrail.config import Task
from medrail.errors import RunError
from medrail.evaluate.agreement import RATES, agreement_statistics
from medrail.evaluate.bootstrap import FloatArray, Statistic
from medrail.evaluate.metrics import (
    BoolArray,
    IntArray,
    classification_statistics,
    mean_defined,
    mean_over_patients,
)
from medrail.evaluate.multilabel import statistics_of_findings
from medrail.evaluate.scoring import probability_statistics

NO_LABELS: IntArray = np.zeros(0, dtype=np.int64)
NO_PROBABILITIES: FloatArray = np.zeros((0, 0))
PROBABILITY = "p/"
RANKED = ("auc", "auprc")
"""Metrics for which only the order of the probabilities counts; also with a label behind a slash, or ``_micro``."""
REMEDY = "`medrail evaluate` writes it anew."


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers on n cases.

    ids, patients:
        (n,) of the cases.
    classes:
        Classification: the K names in the order of ``probabilities``.
    multi_label:
        Whether a case may have several of the classes, or none.
    truth, predicted:
        Classification: (n,) class indices; with ``multi_label`` (n, K) bool.
    probabilities:
        Classification: (n, K).
    scores:
        Segmentation: metric -> (n,), NaN where it is not defined.
    folds:
        Of a group of folds: (n,) the fold of each case, whose network answered; else ().
    images, masks:
        Case id -> digest of its image, and of its mask, as the run recorded them; without those it did not.
    """

    task: Task
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    classes: tuple[str, ...] = ()
    truth: IntArray | BoolArray = field(default_factory=lambda: NO_LABELS)
    predicted: IntArray | BoolArray = field(default_factory=lambda: NO_LABELS)
    probabilities: FloatArray = field(default_factory=lambda: NO_PROBABILITIES)
    scores: Mapping[str, FloatArray] = field(default_factory=dict)
    folds: tuple[str, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, str] = field(default_factory=dict)
    multi_label: bool = False

    def of(self, ids: Sequence[str]) -> Answers:
        """Those on the named cases, in their order."""
        at = {one: place for place, one in enumerate(self.ids)}
        chosen = np.array([at[one] for one in ids], dtype=np.int64)
        classified = self.task == "classification"
        return replace(
            self,
            ids=tuple(ids),
            patients=tuple(self.patients[place] for place in chosen),
            truth=self.truth[chosen] if classified else self.truth,
            predicted=self.predicted[chosen] if classified else self.predicted,
            probabilities=self.probabilities[chosen] if classified else self.probabilities,
            scores={name: values[chosen] for name, values in self.scores.items()},
            folds=tuple(self.folds[place] for place in chosen) if self.folds else (),
        )

    def in_order_of(self, classes: Sequence[str]) -> Answers:
        """The same with the classes in another order."""
        if tuple(classes) == self.classes or self.task != "classification":
            return self
        place = np.array([list(classes).index(name) for name in self.classes], dtype=np.int64)
        order = np.argsort(place)
        return replace(
            self,
            classes=tuple(classes),
            truth=self.truth[:, order] if self.multi_label else place[self.truth],
            predicted=self.predicted[:, order] if self.multi_label else place[self.predicted],
            probabilities=self.probabilities[:, order],
        )

    def statistics(self) -> dict[str, Statistic]:
        """Every metric as a function of the cases' weights (``medrail.evaluate.bootstrap.Statistic``)."""
        if self.task == "segmentation":
            return {name: mean_over_patients(values, self.patients) for name, values in self.scores.items()}
        if self.multi_label:
            return label_statistics(self)
        truth, predicted = (np.asarray(one, dtype=np.int64) for one in (self.truth, self.predicted))
        return class_statistics(truth, predicted, self.probabilities, self.classes, self.folds)

    def same_as(self, other: Answers) -> bool:
        """Whether the two answer the same on every case, to the last digit of the table."""
        if self.task == "segmentation":
            return self.scores.keys() == other.scores.keys() and all(
                np.array_equal(values, other.scores[name], equal_nan=True) for name, values in self.scores.items()
            )
        same = np.array_equal(self.predicted, other.predicted)
        return same and np.array_equal(self.probabilities, other.probabilities)


def class_statistics(
    truth: IntArray,
    predicted: IntArray,
    probabilities: FloatArray,
    classes: Sequence[str],
    folds: Sequence[str] = (),
) -> dict[str, Statistic]:
    """The metrics of classification: those of the label from ``predicted``, the others from ``probabilities``.

    The two need not agree: with a threshold of its own the likelier class is not always the predicted one. With two
    classes the rates without a class's name are those of the second one. With ``folds`` the metrics of the order are
    the mean of those within each fold, since probabilities of different networks have no common scale.
    """
    by_label = classification_statistics(truth, np.eye(len(classes))[predicted], classes)
    rates, chances = agreement_statistics(truth, predicted, classes), probability_statistics(truth, probabilities)
    found = {**by_label, **rates, **chances, **_of_order(truth, probabilities, classes)}
    plain = {name: found[f"{name}/{classes[1]}"] for name in RATES} if len(classes) == 2 else {}
    return found | plain | _within_folds(truth, probabilities, classes, folds)


def _within_folds(
    truth: IntArray, probabilities: FloatArray, classes: Sequence[str], folds: Sequence[str]
) -> dict[str, Statistic]:
    places = [np.flatnonzero(np.asarray(folds) == name) for name in sorted(set(folds))]
    parts = [_of_order(truth[at], probabilities[at], classes) for at in places]
    return {name: _mean_of_parts([part[name] for part in parts], places) for name in RANKED} if places else {}


def _mean_of_parts(statistics: Sequence[Statistic], places: Sequence[npt.NDArray[np.int64]]) -> Statistic:
    def of_weights(weights: FloatArray) -> FloatArray:
        found = [one(weights[:, at]) for one, at in zip(statistics, places, strict=True)]
        return mean_defined(np.stack(found, axis=1))

    return of_weights


def label_statistics(answers: Answers) -> dict[str, Statistic]:
    """The metrics of several labels a case; with folds those of the order are the mean of those within each fold."""
    truth, predicted = (np.asarray(one, dtype=bool) for one in (answers.truth, answers.predicted))
    found = statistics_of_findings(truth, answers.probabilities, predicted, answers.classes)
    places = [np.flatnonzero(np.asarray(answers.folds) == name) for name in sorted(set(answers.folds))]
    if not places:
        return found
    parts = [
        statistics_of_findings(truth[at], answers.probabilities[at], predicted[at], answers.classes) for at in places
    ]
    within = {name: _mean_of_parts([part[name] for part in parts], places) for name in found if is_ranked(name)}
    return found | within


def is_ranked(metric: str) -> bool:
    """Whether only the order of the probabilities counts.

    >>> is_ranked("auc/mass"), is_ranked("auprc_micro"), is_ranked("f1")
    (True, True, False)
    """
    return metric.partition("/")[0].removesuffix("_micro") in RANKED


def _of_order(truth: IntArray, probabilities: FloatArray, classes: Sequence[str]) -> dict[str, Statistic]:
    area = classification_statistics(truth, probabilities, classes)["auc"]
    return {"auc": area, "auprc": probability_statistics(truth, probabilities)["auprc"]}


def ranks(probabilities: FloatArray, metric: str = "") -> FloatArray:
    """Each class's probabilities by their order, from 1; equal ones share their mean rank.

    For a metric that takes all labels as one question (``auc_micro``) all of them are put into one order.
    """
    from scipy.stats import rankdata

    together = metric.endswith("_micro")
    found = np.asarray(rankdata(probabilities, axis=None if together else 0), dtype=np.float64)
    return found.reshape(probabilities.shape)


def read_answers(path: Path, metrics: Sequence[str], *, multi_label: bool = False) -> Answers:
    """The answers of an evaluation's cases.csv.

    Parameters
    ----------
    metrics:
        Names of evaluation.json: those columns of a segmentation's table are its scores.
    multi_label:
        As evaluation.json has it: a table in which every case has one label does not tell.

    Raises
    ------
    RunError
        If the table is missing or broken, or of a kind that cannot be compared.
    """
    header, rows = _rows(path)
    ids = tuple(row["id"] for row in rows)
    if len(set(ids)) < len(ids):
        raise RunError("a case stands in it twice", where=str(path), remedy=REMEDY)
    patients = tuple(row["patient"] for row in rows)
    folds = tuple(row["fold"] for row in rows) if "fold" in header else ()
    try:
        if "truth" in header:
            answers = Answers("classification", ids, patients, folds=folds, multi_label=multi_label)
            return _classified(answers, header, rows, path)
        scores = {
            name: np.array([float(row[name]) if row[name] else np.nan for row in rows])
            for name in header
            if name in metrics
        }
    except (ValueError, KeyError):
        raise RunError("a cell of it is no number", where=str(path), remedy=REMEDY) from None
    if not scores:
        raise RunError("no column of it is a metric of evaluation.json", where=str(path), remedy=REMEDY)
    return Answers("segmentation", ids, patients, scores=scores, folds=folds)


def _rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            header, rows = list(reader.fieldnames or ()), list(reader)
    except FileNotFoundError:
        raise RunError("there is no table of the judged cases", where=str(path), remedy=REMEDY) from None
    except (csv.Error, UnicodeDecodeError):
        raise RunError("not readable as a CSV", where=str(path), remedy=REMEDY) from None
    if not rows or "id" not in header or "patient" not in header or any(None in (*row, *row.values()) for row in rows):
        raise RunError("not a table of judged cases", needed="id,patient,...", where=str(path), remedy=REMEDY)
    return header, rows


def _classified(answers: Answers, header: Sequence[str], rows: Sequence[Mapping[str, str]], path: Path) -> Answers:
    classes = tuple(name.removeprefix(PROBABILITY) for name in header if name.startswith(PROBABILITY))
    cells = {row[column] for row in rows for column in ("truth", "predicted")}
    named = {name for cell in cells for name in (_labels(cell) if answers.multi_label else (cell,))}
    unknown, fewest = sorted(named - set(classes)), 1 if answers.multi_label else 2
    if unknown or len(classes) < fewest:
        raise RunError(f"no probability for {unknown[:3]}", needed="p/CLASS of each", where=str(path), remedy=REMEDY)
    place = {name: index for index, name in enumerate(classes)}
    return replace(
        answers,
        classes=classes,
        truth=_has(rows, "truth", classes) if answers.multi_label else _places(rows, "truth", place),
        predicted=_has(rows, "predicted", classes) if answers.multi_label else _places(rows, "predicted", place),
        probabilities=np.array([[float(row[f"{PROBABILITY}{name}"]) for name in classes] for row in rows]),
    )


def _places(rows: Sequence[Mapping[str, str]], column: str, place: Mapping[str, int]) -> npt.NDArray[np.int64]:
    return np.array([place[row[column]] for row in rows], dtype=np.int64)


def _has(rows: Sequence[Mapping[str, str]], column: str, classes: Sequence[str]) -> BoolArray:
    """(n, K): which of the classes each case has."""
    cells = [_labels(row[column]) for row in rows]
    return np.array([[name in cell for name in classes] for cell in cells], dtype=bool)


def _labels(cell: str) -> tuple[str, ...]:
    return tuple(name for name in cell.split(SEPARATOR) if name)
