"""Whether runs were judged on the same cases: the same ids, the same images, the same references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medrail.cases.listing import counted
from medrail.errors import RunError
from medrail.evaluate.answers import Answers

_NAMED = 3


@dataclass(frozen=True)
class Matched:
    """Answers on the same cases, in the same order.

    left_out:
        Name of a run -> how many of its cases are not compared.
    checked:
        Of how many cases every run says what their image and reference are; the others are the same by their id alone.
    notes:
        Sentences for whoever reads the result.
    """

    answers: Mapping[str, Answers]
    left_out: Mapping[str, int]
    checked: int
    notes: tuple[str, ...]


def match_cases(answers: Mapping[str, Answers], *, common: bool, where: str = "") -> Matched:
    """Bring the answers of several runs to the same cases.

    Cases count as the same if their id, their class and, where the runs recorded them, the digests of their image and
    mask agree.
    Where runs call the patients differently, cases are of one patient that are so for any of them.

    Parameters
    ----------
    answers:
        Name of the run -> its answers; the first is the reference.
    common:
        Compare the cases that all have in common, instead of refusing.

    Raises
    ------
    RunError
        If tasks, classes or folds differ; or cases, and ``common`` is not set; or none is common.
    """
    reference = next(iter(answers.values()))
    _refuse_other_questions(answers, where)
    ordered = {name: one.in_order_of(reference.classes) for name, one in answers.items()}
    shared = [case for case in sorted(reference.ids) if all(case in set_ for set_ in _id_sets(ordered))]
    differing = _differing(ordered, shared)
    kept = [case for case in shared if case not in differing]
    left_out = {name: len(one.ids) - len(kept) for name, one in ordered.items()}
    if any(left_out.values()):
        reasons = _reasons(ordered, shared, differing)
        if not common:
            raise RunError(
                f"the runs were not judged on the same cases: {'; '.join(reasons)}",
                needed="the same test cases, with the same images and references",
                where=where,
                remedy="Train both with the same data and the same split and evaluate them anew; or take --common to "
                f"compare on the {len(kept)} cases that all have in common.",
            )
        if len(kept) < 2:
            raise RunError(f"the runs have {counted(len(kept), 'case')} in common", needed="2 or more", where=where)
    chosen = {name: one.of(kept) for name, one in ordered.items()}
    if len({one.folds for one in chosen.values()}) > 1:
        raise RunError(
            "the cases are not in the same folds",
            needed="groups of the same folds (split.folds, split.seed, data): else each case's networks learned from "
            "other cases",
            where=where,
        )
    patients, joined = joined_patients([one.patients for one in chosen.values()])
    chosen = {name: replace(one, patients=patients) for name, one in chosen.items()}
    checked = sum(all(_told(one, case) for one in chosen.values()) for case in kept)
    return Matched(chosen, left_out, checked, _notes(left_out, kept, checked, joined))


def joined_patients(named: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], bool]:
    """One patient a case from several runs' ideas of it: cases that any run calls one patient are of one.

    Returns
    -------
    (n,) names, and whether the runs disagreed about who belongs together.
    """
    first = list(named[0])
    groups = [{tuple(group) for group in _grouped(patients)} for patients in named]
    if all(one == groups[0] for one in groups):
        return tuple(first), False
    parent = list(range(len(first)))

    def root(case: int) -> int:
        while parent[case] != case:
            parent[case] = parent[parent[case]]
            case = parent[case]
        return case

    for one in groups:
        for group in one:
            for case in group[1:]:
                parent[root(case)] = root(group[0])
    return tuple(f"{root(case)}" for case in range(len(first))), True


def _grouped(patients: Sequence[str]) -> list[list[int]]:
    members: dict[str, list[int]] = {}
    for case, patient in enumerate(patients):
        members.setdefault(patient, []).append(case)
    return list(members.values())


def _refuse_other_questions(answers: Mapping[str, Answers], where: str) -> None:
    names = list(answers)
    reference = answers[names[0]]
    for name, one in answers.items():
        if one.task != reference.task:
            raise RunError(
                f"{names[0]} is of {reference.task}, {name} of {one.task}", needed="runs of one task", where=where
            )
        if one.multi_label != reference.multi_label:
            several, single = (names[0], name) if reference.multi_label else (name, names[0])
            raise RunError(
                f"{several} has several labels a case (data.multi_label), {single} one class",
                needed="runs that answer the same question",
                where=where,
            )
        if set(one.classes) != set(reference.classes):
            only = sorted(set(one.classes) ^ set(reference.classes))
            raise RunError(
                f"the classes of {names[0]} and {name} differ, by {', '.join(only[:8])}",
                needed="the same classes",
                where=where,
            )


def _told(answers: Answers, case: str) -> bool:
    """Whether the run recorded all that the case consists of."""
    return bool(answers.images.get(case)) and (answers.task == "classification" or bool(answers.masks.get(case)))


def _id_sets(answers: Mapping[str, Answers]) -> list[frozenset[str]]:
    return [frozenset(one.ids) for one in answers.values()]


def _differing(answers: Mapping[str, Answers], shared: Sequence[str]) -> dict[str, str]:
    """Case -> in what the runs differ about it."""
    reference, *others = answers.values()
    truths = [dict(zip(one.ids, one.truth.tolist(), strict=False)) for one in (reference, *others)]
    found: dict[str, str] = {}
    for case in shared:
        if any(truth.get(case) != truths[0].get(case) for truth in truths[1:]):
            found[case] = "another class"
        for digests in ("images", "masks"):
            told = {getattr(one, digests).get(case, "") for one in (reference, *others)} - {""}
            if len(told) > 1:
                found.setdefault(case, f"another {digests[:-1]}")
    return found


def _reasons(answers: Mapping[str, Answers], shared: Sequence[str], differing: Mapping[str, str]) -> list[str]:
    reference, *others = answers
    reasons = []
    for name in others:
        for one, other in ((reference, name), (name, reference)):
            known = set(answers[other].ids)
            only = [case for case in answers[one].ids if case not in known]
            if only:
                reasons.append(f"{counted(len(only), 'case')} only of {one} ({_shown(only)})")
    for reason in dict.fromkeys(differing.values()):
        cases = [case for case in shared if differing.get(case) == reason]
        reasons.append(f"{counted(len(cases), 'case')} with {reason} under the same id ({_shown(cases)})")
    return reasons


def _shown(cases: Sequence[str]) -> str:
    rest = ", ..." if len(cases) > _NAMED else ""
    return f"{', '.join(sorted(cases)[:_NAMED])}{rest}"


def _notes(left_out: Mapping[str, int], kept: Sequence[str], checked: int, joined: bool) -> tuple[str, ...]:
    notes = []
    if any(left_out.values()):
        parts = ", ".join(f"{count} of {name}" for name, count in left_out.items() if count)
        notes.append(f"on the {counted(len(kept), 'common case')} only (--common); left out: {parts}")
    if checked < len(kept):
        notes.append(
            f"of {counted(len(kept) - checked, 'case')} not all runs recorded the image and the mask: they are taken "
            "for the same by what is known"
        )
    if joined:
        notes.append("the runs disagree about who is one patient; cases are of one patient that are so for any of them")
    return tuple(notes)
