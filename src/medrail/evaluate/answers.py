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
from medrail.evaluate.bootstrap import FloatArray, Statistic
from medrail.evaluate.metrics import IntArray, classification_statistics, mean_over_patients

NO_LABELS: IntArray = np.zeros(0, dtype=np.int64)
NO_PROBABILITIES: FloatArray = np.zeros((0, 0))
PROBABILITY = "p/"
RANKED = ("auc",)
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
        return class_statistics(self.truth, self.predicted, self.probabilities, self.classes)

    def same_as(self, other: Answers) -> bool:
        """Whether the two answer the same on every case, to the last digit of the table."""
        if self.task == "segmentation":
            return self.scores.keys() == other.scores.keys() and all(
                np.array_equal(values, other.scores[name], equal_nan=True) for name, values in self.scores.items()
            )
        same = np.array_equal(self.predicted, other.predicted)
        return same and np.array_equal(self.probabilities, other.probabilities)


def class_statistics(
    truth: IntArray, predicted: IntArray, probabilities: FloatArray, classes: Sequence[str]
) -> dict[str, Statistic]:
    """The metrics of classification: those of the label from ``predicted``, those of the order from ``probabilities``.

    The two need not agree: with a threshold of its own the likelier class is not always the predicted one.
    """
    by_label = classification_statistics(truth, np.eye(len(classes))[predicted], classes)
    by_order = classification_statistics(truth, probabilities, classes)
    return {name: by_order[name] if name in RANKED else by_label[name] for name in by_label}


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
    try:
        if "truth" in header:
            return _classified(Answers("classification", ids, patients), header, rows, path)
        scores = {
            name: np.array([float(row[name]) if row[name] else np.nan for row in rows])
            for name in header
            if name in metrics
        }
    except (ValueError, KeyError):
        raise RunError("a cell of it is no number", where=str(path), remedy=REMEDY) from None
    if not scores:
        raise RunError("no column of it is a metric of evaluation.json", where=str(path), remedy=REMEDY)
    return Answers("segmentation", ids, patients, scores=scores)


def _rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            header, rows = list(reader.fieldnames or ()), list(reader)
    except FileNotFoundError:
        raise RunError("there is no table of the judged cases", where=str(path), remedy=REMEDY) from None
    except (csv.Error, UnicodeDecodeError):
        raise RunError("not readable as a CSV", where=str(path), remedy=REMEDY) from None
    if not rows or "id" not in header or "patient" not in header or any(None in row.values() for row in rows):
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
