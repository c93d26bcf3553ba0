"""k folds as one evaluation: every case judged once, by the network that had not seen it.

What is decided case by case (a label right or wrong, a Dice) is put together over all cases. A metric of the order of
the scores (AUC) is not: each fold has a network of its own, and a score of one network is not comparable with that of
another, so that pooling them gives another number than any of the networks has, mostly a lower one. Such a metric is
taken within each fold and averaged, each fold counting the same (Forman and Scholz, ACM SIGKDD Explorations 12(1):49,
2010, "AUC_avg" against "AUC_merge"; Airola et al., Comput Stat Data Anal 55:1828, 2011, on the bias of pooling).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.cases import leak_sentence
from medrail.errors import CaseError
from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import LEVEL, FloatArray, Measured, Statistic, percentile_bootstrap, point, wilson
from medrail.evaluate.evaluation import Evaluation

ORDERED = ("auc", "auprc", "average_precision", "auc_micro", "auprc_micro")
"""Metrics of the order of the scores; also with a class behind a slash."""
_MEMBERS_ONLY = "; of the members, each on its own fold: no one network has this number"
_CAVEAT = (
    "the trainings share cases, so the interval says what other patients to be judged would change, not what other "
    "patients to learn from would"
)


@dataclass(frozen=True, eq=False)
class Pooled:
    """The answers of all folds in one, and the fold of each case."""

    answers: Answers
    folds: npt.NDArray[np.int64]

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(number) for number in np.unique(self.folds))

    def statistics(self) -> dict[str, Statistic]:
        """Each metric as a function of the cases' weights: of all cases, or averaged over the folds."""
        statistics = self.answers.statistics()
        if self.answers.task == "segmentation":
            return statistics
        within = {number: self._of_fold(number) for number in self.numbers}
        return {
            name: _mean_over_folds([parts[name] for parts in within.values()], self._places())
            if ordered(name)
            else statistic
            for name, statistic in statistics.items()
        }

    def _places(self) -> list[npt.NDArray[np.int64]]:
        return [np.flatnonzero(self.folds == number) for number in self.numbers]

    def _of_fold(self, number: int) -> dict[str, Statistic]:
        one = self.answers
        return one.of([one.ids[place] for place in np.flatnonzero(self.folds == number)]).statistics()


def ordered(name: str) -> bool:
    """Whether a metric depends on the order of the scores.

    >>> ordered("auc"), ordered("auc/left"), ordered("accuracy")
    (True, True, False)
    """
    return name.partition("/")[0] in ORDERED


def pool(parts: Mapping[int, Answers]) -> Pooled:
    """Put the folds' answers together.

    Raises
    ------
    CaseError
        If a case is in two folds, or the folds' classes are different ones.
    """
    folds = [number for number, one in parts.items() for _ in one.ids]
    answers = list(parts.values())
    ids = [one for part in answers for one in part.ids]
    if len(set(ids)) < len(ids):
        doubles = sorted({one for one in ids if ids.count(one) > 1})
        raise CaseError(f"{len(doubles)} cases are judged in several folds", where=doubles[0])
    first = answers[0]
    if any(set(one.classes) != set(first.classes) or one.multi_label != first.multi_label for one in answers):
        raise CaseError("the members have different classes", needed="the same ones in every fold")
    in_order = [one.in_order_of(first.classes) for one in answers]
    names = [name for name in first.scores if all(name in one.scores for one in answers)]
    whole = replace(
        first,
        ids=tuple(ids),
        patients=tuple(patient for one in answers for patient in one.patients),
        truth=np.concatenate([one.truth for one in in_order]),
        predicted=np.concatenate([one.predicted for one in in_order]),
        probabilities=np.concatenate([one.probabilities for one in in_order]),
        scores={name: np.concatenate([one.scores[name] for one in answers]) for name in names},
    )
    return Pooled(whole, np.array(folds, dtype=np.int64))


def measure_pooled(pooled: Pooled, *, resamples: int, seed: int) -> dict[str, Measured]:
    """Every metric with its interval by the bootstrap over patients; a patient is in one fold, with all cases."""
    statistics, one = pooled.statistics(), pooled.answers
    intervals = percentile_bootstrap(statistics, one.patients, resamples=resamples, seed=seed)
    patients, folds = len(set(one.patients)), len(pooled.numbers)
    bootstrap = f"{LEVEL:.0%} percentile bootstrap over {patients} patients, {resamples} resamples; {_CAVEAT}"
    measured = {}
    for name, statistic in statistics.items():
        where = (
            f"out of fold: within each of {folds} folds, then their mean, each fold counting the same"
            if ordered(name)
            else f"out of fold: all cases of {folds} folds together"
            + (", each patient counting the same" if one.task == "segmentation" else "")
        )
        value, (low, high) = point(statistic, len(one.ids)), intervals[name]
        method = f"{where}; {bootstrap}{_MEMBERS_ONLY}"
        if low == high and math.isfinite(value):
            low, high, method = _without_spread(name, value, patients, where)
        elif not math.isfinite(low):
            method = f"{where}; no interval: not defined in most of the resamples{_MEMBERS_ONLY}"
        measured[name] = Measured(value, low, high, _counted(pooled, name), method)
    return measured


def pooled_evaluation(
    pooled: Pooled, metrics: Mapping[str, Measured], members: Sequence[Evaluation], fingerprint: str
) -> Evaluation:
    """As an evaluation of one run; what it lists of failed cases is all members'."""
    one = pooled.answers
    confusion: tuple[tuple[int, ...], ...] = ()
    if one.task == "classification" and not one.multi_label:
        counts = np.zeros((len(one.classes), len(one.classes)), dtype=int)
        np.add.at(counts, (one.truth, one.predicted), 1)
        confusion = tuple(tuple(int(count) for count in row) for row in counts)
    return Evaluation(
        split="test",
        n=len(one.ids),
        patients=len(set(one.patients)),
        metrics=marked(metrics, leaks_of(members)),
        failed=tuple(entry for member in members for entry in member.failed),
        fingerprint=fingerprint,
        confusion=confusion,
        accepted_leaks=leaks_of(members),
        multi_label=one.multi_label,
        settings=members[0].settings,
    )


def leaks_of(members: Sequence[Evaluation]) -> dict[str, Any]:
    """The accepted leaks of all folds, each with cases of its own: counts summed, and all groups; {} where none."""
    found = [one.accepted_leaks for one in members if one.accepted_leaks]
    merged: dict[str, Any] = {}
    for leaks in found:
        for key, value in leaks.items():
            merged[key] = merged[key] + value if key in merged else value
    if merged:
        merged["judged"] = sum(one.n for one in members)
    return merged


def marked(metrics: Mapping[str, Measured], leaks: Mapping[str, Any]) -> dict[str, Measured]:
    """The numbers with the accepted leaks in their method, as each member's have them."""
    said = f"; {leak_sentence(leaks)}" if leaks else ""
    return {name: replace(one, method=one.method + said) for name, one in metrics.items()}


def pooled_table(files: Mapping[int, Path]) -> str:
    """The members' cases.csv as one, with the fold of each case in the last column."""
    rows: list[dict[str, str]] = []
    columns: dict[str, None] = {}
    for number, path in files.items():
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows += [{**row, "fold": str(number)} for row in reader]
            columns |= dict.fromkeys(reader.fieldnames or ())
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, "fold"], lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _mean_over_folds(statistics: Sequence[Statistic], places: Sequence[npt.NDArray[np.int64]]) -> Statistic:
    """The mean of those folds in which it is defined: not where a fold, or a resample of it, lacks a class."""

    def mean(weights: FloatArray) -> FloatArray:
        values = np.stack([one(weights[:, at]) for one, at in zip(statistics, places, strict=True)])
        defined = np.isfinite(values)
        sums, counts = np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0)
        return np.asarray(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0))

    return mean


def _without_spread(name: str, value: float, patients: int, where: str) -> tuple[float, float, str]:
    """Where all resamples are alike a bootstrap sees no doubt; of an accuracy Wilson's interval does."""
    if name == "accuracy" and patients > 1:
        low, high = wilson(value, patients)
        told = f"{LEVEL:.0%} Wilson interval for {patients} patients, because all resamples are alike"
        return low, high, f"{where}; {told}{_MEMBERS_ONLY}"
    return math.nan, math.nan, f"{where}; no interval: all bootstrap resamples are alike{_MEMBERS_ONLY}"


def _counted(pooled: Pooled, name: str) -> int:
    one = pooled.answers
    if one.task == "segmentation":
        return int(np.isfinite(one.scores[name]).sum())
    kind, _, label = name.partition("/")
    if one.multi_label:
        has = one.truth[:, one.classes.index(label)] if label else one.truth
        kinds = {"sensitivity": has, "specificity": ~np.asarray(has, dtype=bool)}
        return int(kinds[kind].sum()) if label and kind in kinds else len(one.ids)
    if kind not in _SHARE_OF or (not label and len(one.classes) != 2):
        return len(one.ids)
    of, inside = _SHARE_OF[kind]
    found = (one.truth if of == "truth" else one.predicted) == one.classes.index(label or one.classes[1])
    return int((found == inside).sum())


_SHARE_OF = {
    "sensitivity": ("truth", True),
    "specificity": ("truth", False),
    "ppv": ("predicted", True),
    "npv": ("predicted", False),
}
"""Of which cases a rate is a share: those that are, or are called, the class (or not)."""
