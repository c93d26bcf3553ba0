"""What one run answered on the cases it was judged on, as evaluation/cases.csv keeps it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medrail.config import Task
from medrail.errors import RunError
from medrail.evaluate.agreement import RATES, agreement_statistics
from medrail.evaluate.bootstrap import FloatArray, Statistic
from medrail.evaluate.metrics import IntArray, classification_statistics, mean_defined, mean_over_patients
from medrail.evaluate.scoring import probability_statistics

NO_LABELS: IntArray = np.zeros(0, dtype=np.int64)
NO_PROBABILITIES: FloatArray = np.zeros((0, 0))
PROBABILITY = "p/"
RANKED = ("auc", "auprc")
"""Metrics for which only the order of the probabilities counts."""
REMEDY = "`medrail evaluate` writes it anew."


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers on n cases.

    ids, patients:
        (n,) of the cases.
    classes:
        Classification: the K names in the order of ``probabilities``.
    truth, predicted:
        Classification: (n,) class indices.
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
    truth: IntArray = field(default_factory=lambda: NO_LABELS)
    predicted: IntArray = field(default_factory=lambda: NO_LABELS)
    probabilities: FloatArray = field(default_factory=lambda: NO_PROBABILITIES)
    scores: Mapping[str, FloatArray] = field(default_factory=dict)
    folds: tuple[str, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, str] = field(default_factory=dict)

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
            truth=place[self.truth],
            predicted=place[self.predicted],
            probabilities=self.probabilities[:, order],
        )

    def statistics(self) -> dict[str, Statistic]:
        """Every metric as a function of the cases' weights (``medrail.evaluate.bootstrap.Statistic``)."""
        if self.task == "segmentation":
            return {name: mean_over_patients(values, self.patients) for name, values in self.scores.items()}
        return class_statistics(self.truth, self.predicted, self.probabilities, self.classes, self.folds)

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

    def mean(name: str) -> Statistic:
        def of_weights(weights: FloatArray) -> FloatArray:
            found = [part[name](weights[:, at]) for part, at in zip(parts, places, strict=True)]
            return mean_defined(np.stack(found, axis=1))

        return of_weights

    return {name: mean(name) for name in RANKED} if places else {}


def _of_order(truth: IntArray, probabilities: FloatArray, classes: Sequence[str]) -> dict[str, Statistic]:
    area = classification_statistics(truth, probabilities, classes)["auc"]
    return {"auc": area, "auprc": probability_statistics(truth, probabilities)["auprc"]}


def ranks(probabilities: FloatArray) -> FloatArray:
    """Each class's probabilities by their order, from 1; equal ones share their mean rank."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(probabilities, axis=0), dtype=np.float64)


def read_answers(path: Path, metrics: Sequence[str]) -> Answers:
    """The answers of an evaluation's cases.csv.

    Parameters
    ----------
    metrics:
        Names of evaluation.json: those columns of a segmentation's table are its scores.

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
            return _classified(Answers("classification", ids, patients, folds=folds), header, rows, path)
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
    named = {row[column] for row in rows for column in ("truth", "predicted")}
    unknown = sorted(named - set(classes))
    if unknown and all(part in classes for name in unknown for part in name.split("|") if part):
        raise RunError(
            "several classes in one answer (data.multi_label)",
            needed="one class a case",
            where=str(path),
            remedy="Runs of several labels a case cannot be compared yet; compare their tables by label.",
        )
    if unknown or len(classes) < 2:
        raise RunError(f"no probability for {unknown[:3]}", needed="p/CLASS of each", where=str(path), remedy=REMEDY)
    place = {name: index for index, name in enumerate(classes)}
    return replace(
        answers,
        classes=classes,
        truth=_places(rows, "truth", place),
        predicted=_places(rows, "predicted", place),
        probabilities=np.array([[float(row[f"{PROBABILITY}{name}"]) for name in classes] for row in rows]),
    )


def _places(rows: Sequence[Mapping[str, str]], column: str, place: Mapping[str, int]) -> npt.NDArray[np.int64]:
    return np.array([place[row[column]] for row in rows], dtype=np.int64)
