"""Several runs on the same cases: each one's metrics, how they differ from the reference, in what, at which cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from medrail.cases import leak_sentence
from medrail.cases.listing import counted
from medrail.config import did_you_mean
from medrail.errors import ConfigError
from medrail.evaluate.answers import Answers
from medrail.evaluate.bca import bca_intervals
from medrail.evaluate.bootstrap import LEVEL, Measured, point
from medrail.evaluate.comparison import Compared, Comparison, Told
from medrail.evaluate.differing import Differing, cost_of, differing, mean_cost
from medrail.evaluate.entrants import Entrant, Member
from medrail.evaluate.holm import holm
from medrail.evaluate.over_seeds import group_mean, group_test, spread_of
from medrail.evaluate.paired import Drawing, PairedTest, paired_test
from medrail.evaluate.published import CAUTION, Published, against_published
from medrail.evaluate.same_cases import Matched, match_cases
from medrail.evaluate.units import units_of
from medrail.evaluate.verdict import verdict
from medrail.types import Progress

DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = {
    "classification": ("auc", "accuracy", "balanced_accuracy", "f1"),
    "labels": ("auc", "auprc", "f1", "subset_accuracy"),
    "segmentation": ("dice", "nsd", "hd95_mm", "hd95_px"),
}
_TOLD_APART = 1e-3
_HARMLESS = ("evaluate.resamples", "evaluate.seed")


@dataclass(frozen=True)
class Asked:
    """What is to be compared, and how.

    metrics:
        To be tested; empty: ``DEFAULT_METRICS`` of the task.
    common:
        Whether runs of different test cases are compared on those in common.
    """

    metrics: tuple[str, ...] = ()
    common: bool = False
    published: tuple[Published, ...] = ()
    drawing: Drawing = field(default_factory=Drawing)


def compare(entrants: Sequence[Entrant], asked: Asked, progress: Progress | None = None) -> Comparison:
    """Compare runs, or groups of seeds, with the first of them.

    Raises
    ------
    RunError
        If they were judged on different cases (and ``asked.common`` is not set), or differ in task or classes.
    ConfigError
        If a metric is not known, or groups are held against published numbers.
    """
    matched = match_cases(_by_member(entrants), common=asked.common)
    answers = {one.name: [matched.answers[name] for name in _member_names(one)] for one in entrants}
    metrics = _metrics(asked, answers[entrants[0].name][0])
    _refuse_unfair(entrants, asked, metrics, answers)
    told = tuple(_told(one, answers[one.name], matched, metrics, asked.drawing) for one in entrants)
    pairs = list(_pairs(entrants, metrics, asked, told))
    done: list[tuple[str, str, PairedTest, bool]] = []
    for place, (a, b, metric, published) in enumerate(pairs):
        if progress:
            progress(place, len(pairs), f"{b} {metric}")
        if published is None:
            done.append((a, b, _test(entrants, answers, (a, b), metric, asked.drawing), _same(answers[a], answers[b])))
        else:
            known = next(one for one in told if one.name == b).metrics
            own = known.get(metric) or remeasured(answers[b][0], asked.drawing)[metric]
            done.append((a, b, against_published(answers[b][0], own, published), False))
    if progress:
        progress(len(pairs), len(pairs), "")
    corrected = holm([test.p for _, _, test, _ in done])
    differs = differing(
        {one.name: one.trained[0] for one in entrants},
        {one.name: [member.evaluation.settings for member in one.members] for one in entrants},
    )
    return Comparison(
        n=len(next(iter(matched.answers.values())).ids),
        patients=len(set(next(iter(matched.answers.values())).patients)),
        runs=told,
        metrics=metrics,
        tests=tuple(
            Compared(a, b, test, p, verdict(test, p, same=same))
            for (a, b, test, same), p in zip(done, corrected, strict=True)
        ),
        differs=differs,
        warnings=(*matched.notes, *_warnings(entrants, matched, differs), *([CAUTION] if asked.published else [])),
        left_out=matched.left_out,
    )


def _by_member(entrants: Sequence[Entrant]) -> dict[str, Answers]:
    return {
        name: member.answers for one in entrants for name, member in zip(_member_names(one), one.members, strict=True)
    }


def _member_names(entrant: Entrant) -> list[str]:
    return [f"{entrant.name}/{one.run.name}" if entrant.is_group else entrant.name for one in entrant.members]


def _metrics(asked: Asked, answers: Answers) -> tuple[str, ...]:
    known = answers.statistics()
    wanted = (*asked.metrics, *(one.metric for one in asked.published))
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"the metric {name!r} cannot be compared",
                where="--metric or --published",
                needed=f"one of {', '.join(known)}",
                remedy=did_you_mean(name, list(known), or_else=False),
            )
    if asked.metrics:
        return tuple(dict.fromkeys(asked.metrics))
    return tuple(name for name in DEFAULT_METRICS["labels" if answers.multi_label else answers.task] if name in known)


def _refuse_unfair(
    entrants: Sequence[Entrant], asked: Asked, metrics: Sequence[str], answers: Mapping[str, Sequence[Answers]]
) -> None:
    if asked.published and any(one.is_group for one in entrants):
        raise ConfigError(
            "a group of seeds against a published number",
            where="--published",
            needed="a single run: the published number is of one training, as far as is known",
        )
    for metric in metrics:
        lacking = [name for name, members in answers.items() if any(metric not in one.statistics() for one in members)]
        if lacking:
            raise ConfigError(f"{', '.join(lacking)} has no {metric}", where="--metric", needed="metrics that all have")


def _pairs(
    entrants: Sequence[Entrant], metrics: Sequence[str], asked: Asked, told: Sequence[Told]
) -> Iterator[tuple[str, str, str, Published | None]]:
    """(a, b, metric, published) of every test, in the order of the result."""
    reference, *others = (one.name for one in entrants)
    for metric in metrics:
        for other in others:
            yield reference, other, metric, None
    for published in asked.published:
        for one in told:
            yield str(published), one.name, published.metric, published


def _test(
    entrants: Sequence[Entrant],
    answers: Mapping[str, Sequence[Answers]],
    names: tuple[str, str],
    metric: str,
    drawing: Drawing,
) -> PairedTest:
    first, second = (answers[name] for name in names)
    if len(first) == 1:
        return paired_test(first[0], second[0], metric, drawing)
    seeds = [next(one for one in entrants if one.name == name).seeds() for name in names]
    paired = sorted(seeds[0]) == sorted(seeds[1]) and len(set(seeds[0])) == len(seeds[0]) and "" not in seeds[0]
    if paired:
        first, second = (
            [member for _, member in sorted(zip(seed, members, strict=True), key=lambda one: one[0])]
            for seed, members in zip(seeds, (first, second), strict=True)
        )
    return group_test(first, second, metric, paired=paired)


def _same(first: Sequence[Answers], second: Sequence[Answers]) -> bool:
    return len(first) == len(second) and all(one.same_as(other) for one, other in zip(first, second, strict=True))


def _told(
    entrant: Entrant, answers: Sequence[Answers], matched: Matched, metrics: Sequence[str], drawing: Drawing
) -> Told:
    members = entrant.members
    told = Told(
        entrant.name,
        str(entrant.folder),
        members[0].evaluation.split,
        metrics=members[0].evaluation.metrics,
        cost=mean_cost([cost_of(run) for run in entrant.trained]),
    )
    if entrant.is_group:
        return replace(
            told,
            metrics={metric: group_mean(answers, metric) for metric in metrics},
            spreads={metric: spread_of(answers, metric) for metric in metrics},
            seeds=entrant.seeds(),
        )
    return replace(told, metrics=remeasured(answers[0], drawing)) if matched.left_out[entrant.name] else told


def remeasured(answers: Answers, drawing: Drawing) -> dict[str, Measured]:
    """The metrics on the cases that are compared, where those are fewer than were judged."""
    units, unit = units_of(answers.patients)
    statistics = answers.statistics()
    intervals = bca_intervals(statistics, units, resamples=drawing.resamples, seed=drawing.seed)
    measured = {}
    for name, statistic in statistics.items():
        low, high, how = intervals[name]
        if low == high:
            low = high = math.nan
        method = f"{LEVEL:.0%} {how} by {unit}, {drawing.resamples} resamples" if math.isfinite(low) else how
        measured[name] = Measured(point(statistic, len(units)), low, high, len(units), f"recomputed; {method}")
    return measured


def _warnings(entrants: Sequence[Entrant], matched: Matched, differs: Sequence[Differing]) -> Iterator[str]:
    for one in entrants:
        for name, member in zip(_member_names(one), one.members, strict=True):
            evaluation = member.evaluation
            if evaluation.accepted_leaks:
                yield f"{name}: {leak_sentence(evaluation.accepted_leaks)}"
            if evaluation.failed:
                yield f"{name}: {counted(len(evaluation.failed), 'case')} could not be evaluated"
            if not matched.left_out[name]:
                yield from _unlike_the_record(name, member)
    settings = [one.name for one in differs if one.name.startswith("evaluate.") and one.name not in _HARMLESS]
    if settings:
        yield f"judged with other settings, so the numbers may not mean the same: {', '.join(settings)}"
    splits = {member.evaluation.split for one in entrants for member in one.members}
    if "val" in splits:
        yield "validation cases: the epoch was chosen on them, so the numbers are too good"


def _unlike_the_record(name: str, member: Member) -> Iterator[str]:
    """The table and evaluation.json must tell the same, or one of them was changed."""
    for metric, statistic in member.answers.statistics().items():
        recorded = member.evaluation.metrics.get(metric)
        if recorded is None or not math.isfinite(recorded.value):
            continue
        found = point(statistic, len(member.answers.ids))
        if abs(found - recorded.value) > _TOLD_APART * max(1.0, abs(recorded.value)):
            yield (
                f"{name}: {metric} is {recorded.value:.4f} in evaluation.json and {found:.4f} from its cases.csv, "
                "which the tests use; `medrail evaluate` writes both anew"
            )
