"""Shares of cases, each right or wrong, with intervals that know how many patients stand behind the cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from medrail.evaluate.bca import Interval
from medrail.evaluate.bootstrap import LEVEL, FloatArray, membership, wilson
from medrail.evaluate.metrics import BoolArray


@dataclass(frozen=True)
class Share:
    """The share of the cases that count which are right: (n,) bool each."""

    right: BoolArray
    counts: BoolArray

    @staticmethod
    def of_all(right: BoolArray) -> Share:
        """Every case counts."""
        return Share(right, np.ones(len(right), dtype=bool))


class _Found(NamedTuple):
    """A share, what each patient adds to its error (G,), how many independent cases it is worth, cases and patients."""

    value: float
    errors: FloatArray
    worth: float
    cases: int
    patients: int

    def interval(self) -> tuple[float, float]:
        return wilson(self.value, self.worth)


def share_interval(share: Share, patients: Sequence[Any]) -> Interval:
    """Wilson's interval of a share, with as many trials as the cases are worth.

    One case a patient: each is a trial. Several: what the patients' own shares vary tells how much less than n
    independent cases the n cases are worth (the design effect of a ratio, as in Rao and Scott, Biometrics 48, 1992).
    Few patients with an error tell little about that, so the worst case, in which all cases of a patient are right or
    wrong together, is mixed in with the weight of one such patient. Unlike a bootstrap this is not fooled by a share of
    1: there the worst case alone decides.

    Parameters
    ----------
    share:
        Which cases count, and which of them are right.
    patients:
        For each case its patient.

    Returns
    -------
    NaN if no case counts.
    """
    found = _found(share, patients)
    if not found.cases:
        return Interval(math.nan, math.nan, "no interval: no case counts")
    return Interval(*found.interval(), f"{LEVEL:.0%} Wilson interval over {_told(found)}")


def mean_share_interval(shares: Sequence[Share], patients: Sequence[Any]) -> Interval:
    """The interval of the mean of several shares, as balanced accuracy is of the classes' sensitivities.

    Made from the shares' own Wilson intervals by recovering their variances at either end (MOVER: Zou and Donner,
    Statistics in Medicine 27, 2008), with the shares' correlation where patients count in several of them. A class of
    which all cases are right still adds its doubt, which a bootstrap does not see. Shares without a case are left out.
    """
    found = [one for one in (_found(share, patients) for share in shares) if one.cases]
    if not found:
        return Interval(math.nan, math.nan, "no interval: no case counts")
    values = np.array([one.value for one in found])
    bounds = np.array([one.interval() for one in found])
    errors = np.array([one.errors for one in found])
    sizes = np.sqrt((errors**2).sum(axis=1))
    scaled = errors / np.where(sizes > 0, sizes, 1)[:, np.newaxis]
    related = scaled @ scaled.T
    np.fill_diagonal(related, 1)
    below, above = values - bounds[:, 0], bounds[:, 1] - values
    low, high = (math.sqrt(max(0.0, float(gap @ related @ gap))) / len(found) for gap in (below, above))
    smallest = min(found, key=lambda one: one.worth)
    method = f"{LEVEL:.0%} interval from the classes' Wilson intervals (MOVER), the smallest over {_told(smallest)}"
    return Interval(max(0.0, float(values.mean()) - low), min(1.0, float(values.mean()) + high), method)


def _found(share: Share, patients: Sequence[Any]) -> _Found:
    members, n_patients = membership(patients)
    cases_of = np.bincount(members, weights=share.counts, minlength=n_patients)
    right_of = np.bincount(members, weights=share.right & share.counts, minlength=n_patients)
    cases, with_cases = int(cases_of.sum()), int((cases_of > 0).sum())
    if not cases:
        return _Found(math.nan, np.zeros(n_patients), 0.0, 0, 0)
    value = float(right_of.sum() / cases)
    errors = (right_of - value * cases_of) / cases
    if cases == with_cases:
        return _Found(value, errors, float(cases), cases, with_cases)
    worst = float((cases_of**2).sum() / cases)
    seen = int(min((right_of > 0).sum(), (right_of < cases_of).sum()))
    effect = (seen * _design_effect(value, errors, cases, with_cases) + worst) / (seen + 1)
    return _Found(value, errors, cases / effect, cases, with_cases)


def _design_effect(value: float, errors: FloatArray, cases: int, patients: int) -> float:
    """How many times as large the variance is as that of independent cases; at least 1."""
    if patients < 2 or not 0 < value < 1:
        return 1.0
    variance = patients / (patients - 1) * float((errors**2).sum())
    return max(1.0, variance * cases / (value * (1 - value)))


def _told(found: _Found) -> str:
    if found.cases == found.patients:
        return _count(found.patients, "patient")
    return (
        f"{_count(found.patients, 'patient')}, whose {found.cases} cases are worth {found.worth:.0f} independent ones"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
