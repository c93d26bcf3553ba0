"""Other data for the same network: their classes by name, and the drop from the internal test with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from medrail.cases.labels import is_none_label, joined_labels, labels_of, nearest_class
from medrail.cases.listing import shown
from medrail.config import Config, DataConfig
from medrail.errors import ConfigError
from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import LEVEL, FloatArray, Measured, percentiles, point, resampled
from medrail.evaluate.intervals import doubt
from medrail.types import Case

_ORDERED_FROM = 0.7
"""Where an AUC's whole interval lies above this, the scores order the cases well enough to speak of a threshold."""
_TWO_SEEDS = 1_000_003
"""Apart from the first sample's seed, so that the two are resampled independently."""


@dataclass(frozen=True)
class Drop:
    """One metric on the run's own test and on other data; ``difference`` is external less internal."""

    internal: float
    external: float
    difference: Measured

    def to_json(self) -> dict[str, Any]:
        """``{internal, external, difference: {value, low, high, n, method}}`` with null for NaN."""
        numbers = {"internal": self.internal, "external": self.external}
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return {**finite, "difference": self.difference.to_json()}


def drops(
    internal: Answers,
    external: Answers,
    measured: tuple[Mapping[str, Measured], Mapping[str, Measured]] = ({}, {}),
    *,
    resamples: int,
    seed: int,
) -> dict[str, Drop]:
    """How each metric that both have changes from the one sample of patients to the other.

    The samples have no patient in common, so the difference's interval is from resampling the patients of each by
    themselves (two-sample bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8).
    Where all resamples of a side are alike (everything is right), a bootstrap sees no doubt in it. There the intervals
    of the two evaluations are put together (MOVER: Zou and Donner, Stat Med 27:1693, 2008), if both have one.

    Parameters
    ----------
    measured:
        The metrics of the two evaluations, with their intervals; given, no others are compared.
    """
    ours, theirs = internal.statistics(), external.in_order_of(internal.classes).statistics()
    names = [name for name in ours if name in theirs and all(not those or name in those for those in measured)]
    here = resampled({name: ours[name] for name in names}, internal.patients, resamples=resamples, seed=seed)
    there = resampled(
        {name: theirs[name] for name in names}, external.patients, resamples=resamples, seed=seed + _TWO_SEEDS
    )
    patients = len(set(internal.patients)), len(set(external.patients))
    few = doubt("patient{s}", min(patients))
    method = (
        f"external less internal; {LEVEL:.0%} percentile bootstrap of the difference of independent samples, over "
        f"{patients[0]} and {patients[1]} patients, {resamples} resamples each{few}"
    )
    found = {}
    for name in names:
        before, after = point(ours[name], len(internal.ids)), point(theirs[name], len(external.ids))
        low, high = percentiles(there[name] - here[name])
        told = method if math.isfinite(low) else "no interval: not defined in most of the resamples"
        if math.isfinite(low) and (_all_alike(here[name]) or _all_alike(there[name])):
            low, high, told = _from_both(measured[0].get(name), measured[1].get(name))
            told += few if math.isfinite(low) else ""
        found[name] = Drop(before, after, Measured(after - before, low, high, len(external.ids), told))
    return found


def threshold_carries(metrics: Mapping[str, Measured], thresholds: Mapping[str, float]) -> str:
    """Whether the run's threshold fits other data: a sentence where it does not, else nothing.

    Two classes. It does not where AUC's interval lies above 0.7 and balanced accuracy at the threshold (the upper end
    of its interval) stays below what a well placed threshold would reach at the lower end of AUC's (``reachable``).
    """
    area, balanced = metrics.get("auc"), metrics.get("balanced_accuracy")
    if area is None or balanced is None or len(thresholds) != 1:
        return ""
    if not all(map(math.isfinite, (area.low, balanced.high))) or area.low <= _ORDERED_FROM:
        return ""
    within_reach = reachable(area.low)
    if balanced.high >= within_reach:
        return ""
    ((name, threshold),) = thresholds.items()
    return (
        f"the threshold does not carry over: the order of the scores holds here (auc {_told(area)}), but at the run's "
        f"threshold of {name}, {threshold:.3g}, balanced_accuracy is {_told(balanced)}, and one that fits these data "
        f"would reach {within_reach:.2f} or more. Choose it on labelled patients of this place, and judge it on others."
    )


def reachable(area: float) -> float:
    """The balanced accuracy of the best threshold at an AUC, of normal scores of equal spread in both classes.

    Phi(z / sqrt 2) with z = Phi^-1(AUC).

    >>> round(reachable(0.5), 3), round(reachable(0.9), 3)
    (0.5, 0.818)
    """
    normal = NormalDist()
    return normal.cdf(normal.inv_cdf(min(area, 1 - 1e-12)) / math.sqrt(2))


def _told(one: Measured) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}], n = {one.n}"


def _all_alike(values: FloatArray) -> bool:
    defined = values[np.isfinite(values)]
    return bool(defined.size) and float(np.ptp(defined)) <= 1e-12 * max(1.0, float(np.abs(defined).max()))


def _from_both(before: Measured | None, after: Measured | None) -> tuple[float, float, str]:
    """The interval of the difference of two independent numbers from their own intervals (MOVER)."""
    bounds = [bound for one in (before, after) if one for bound in (one.low, one.high)]
    if not before or not after or not all(map(math.isfinite, bounds)):
        return math.nan, math.nan, "no interval: all resamples alike"
    difference = after.value - before.value
    low = difference - math.hypot(after.value - after.low, before.high - before.value)
    high = difference + math.hypot(after.high - after.value, before.value - before.low)
    method = (
        f"external less internal; {LEVEL:.0%} interval from both intervals (MOVER), because all resamples of a side "
    )
    return low, high, method + "are alike"


def fitting_config(
    run: Config, other: Config, classes: Sequence[str], *, named: bool
) -> tuple[Config, tuple[str, ...]]:
    """The run's configuration for other data: their layout and mask values, with the run's classes in its order.

    Parameters
    ----------
    classes:
        Of the run's network, in the order of its outputs.
    named:
        Whether the names of the other data's mask classes are a person's. Names that were made up for data without
        configuration say nothing; there the masks' values are compared.

    Returns
    -------
    The configuration, and what was taken for granted, in sentences.

    Raises
    ------
    ConfigError
        If the task is another one, or a class of the other data is none of the network's.
    """
    if run.task != other.task:
        raise ConfigError(
            f"the other data are for {other.task}, and the network is for {run.task}",
            needed="data of the same task",
            remedy="Give a project of the same task, whose medrail.yaml says how these data are labelled.",
        )
    data, notes = other.data, tuple[str, ...]()
    if run.task == "segmentation":
        values, notes = _mask_values(run.data, data, classes, named=named)
        data = data.model_copy(update=values)
    reading = {name: getattr(run.data, name) for name in ("on_defect", "four_d", "voi_lut", "jpeg")}
    data = data.model_copy(update={"classes": tuple(classes), **reading})
    return run.model_copy(update={"data": data}), notes


def in_words_of(
    cases: Sequence[Case], classes: Sequence[str], ours: DataConfig, theirs: DataConfig
) -> tuple[list[Case], tuple[str, ...]]:
    """Labelled cases of the other data with their classes as the network calls them.

    With several labels a case (``multi_label``) each of them is renamed; data with one class a case are then taken for
    data with one label a case, and ``none_label`` for none.

    Parameters
    ----------
    classes:
        Of the run's network, in the order of its outputs.
    ours, theirs:
        How the run's data are labelled, and how the other ones are.

    Returns
    -------
    The cases, and what must be known of them, in sentences.

    Raises
    ------
    ConfigError
        If a class has no counterpart, or a case may have several and the network knows one.
    """
    if theirs.multi_label and not ours.multi_label:
        raise ConfigError(
            "the other data have several labels a case (data.multi_label), and the network answers with one class",
            needed="one class a case",
            where="data.multi_label of --data",
            remedy="Write a CSV with the one class that is asked for of each image, and give its project.",
        )
    if not ours.multi_label:
        known = class_map(sorted({str(case.target) for case in cases}), classes)
        return [replace(case, target=known[str(case.target)]) for case in cases], ()
    has = [[name for name in labels_of(case.target, theirs) if not is_none_label(name, ours)] for case in cases]
    known = class_map(sorted({name for names in has for name in names}), classes)
    renamed = [
        replace(case, target=joined_labels((known[name] for name in names), classes))
        for case, names in zip(cases, has, strict=True)
    ]
    absent = [name for name in classes if name not in known.values()]
    if not absent:
        return renamed, ()
    said = f"no case has {shown(absent, 6)}: nothing is said of it here, and means over the labels are of the others"
    return renamed, (said,)


def class_map(theirs: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """The other data's class name -> the network's: the same name, in whatever case.

    Raises
    ------
    ConfigError
        If one of them has no counterpart.
    """
    folded = {name.casefold(): name for name in ours}
    unknown = [name for name in theirs if name.casefold() not in folded]
    if unknown:
        raise ConfigError(
            f"the network does not know the class{'es' if len(unknown) > 1 else ''} {shown(map(repr, unknown), 6)}",
            needed=f"classes among {shown(ours, 12)}",
            where="data of --data",
            remedy=nearest_class(unknown[0], ours)
            or "Name the classes alike in a medrail.yaml for these data, and give its folder.",
        )
    return {name: folded[name.casefold()] for name in theirs}


def _mask_values(
    ours: DataConfig, theirs: DataConfig, classes: Sequence[str], *, named: bool
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """mask_values and foreground_nonzero of the other data in the order of the network's classes."""
    own = ours.mask_values or tuple(range(len(classes)))
    if not named:
        if theirs.foreground_nonzero or ours.foreground_nonzero:
            if len(classes) != 2:
                raise _other_values(theirs, own)
            return {"foreground_nonzero": True, "mask_values": ()}, ("every mask value above 0 is taken for the class",)
        found = theirs.mask_values or tuple(range(len(theirs.classes)))
        if not set(found) <= set(own):
            raise _other_values(theirs, own)
        said = f"mask values are taken to mean what they mean in the run's data: {shown(own)} for {shown(classes)}"
        return {"foreground_nonzero": False, "mask_values": own}, (said,)
    known = class_map(theirs.classes, classes)
    missing = [name for name in classes if name not in known.values()]
    if missing:
        raise ConfigError(
            f"the other data have no class {missing[0]!r}",
            needed=f"all of {shown(classes, 12)}",
            where="data.classes of --data",
            remedy="What is not marked cannot be told from what is not there. Name the mask value of each class.",
        )
    values = theirs.mask_values or tuple(range(len(theirs.classes)))
    by_name = {known[name]: value for name, value in zip(theirs.classes, values, strict=True)}
    if theirs.foreground_nonzero:
        return {"foreground_nonzero": True, "mask_values": ()}, ()
    return {"foreground_nonzero": False, "mask_values": tuple(by_name[name] for name in classes)}, ()


def _other_values(theirs: DataConfig, own: Sequence[int]) -> ConfigError:
    return ConfigError(
        f"masks with the values {shown(theirs.mask_values or range(len(theirs.classes)), 8)}",
        needed=f"those of the run's data, {shown(own, 8)}",
        where="data of --data",
        remedy="Write a medrail.yaml for these data whose data.classes and data.mask_values name them, and give its "
        "folder.",
    )
