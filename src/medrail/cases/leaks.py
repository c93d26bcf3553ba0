"""Leaks: images and patients that stand in several splits, so that what is judged was there in training.

Comes in: cases with what is known of each (``Facts`` of ``look.examine``). Goes out: groups that must not be divided.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from medrail.cases.labels import named_target
from medrail.cases.listing import Finding, short_name, shown
from medrail.cases.near.pairs import NearPair, near_pairs
from medrail.cases.near.signature import Signature
from medrail.cases.splits.split import patient_leaks
from medrail.types import SPLITS, Case, SplitName


class Known(Protocol):
    """What is used of ``Facts``."""

    @property
    def pixels(self) -> str: ...
    @property
    def blank(self) -> bool: ...
    @property
    def classes(self) -> tuple[int, ...]: ...
    @property
    def signature(self) -> str: ...


@dataclass(frozen=True)
class Leak:
    """Images that belong together but stand in different splits.

    how, score:
        Of near duplicates: what was done to one of the most alike pair, and their correlation (``near.NearPair``).
    sure:
        Whether it is beyond doubt. What is not is for a person to look at, and stops nothing.
    evidence:
        Of near duplicates: how each one of ``group`` belongs to another of it, as "as a.png, rotated by 90 degrees,
        correlation 0.998".
    """

    kind: Literal["exact", "near", "patient"]
    group: tuple[str, ...]
    splits: tuple[SplitName, ...]
    how: str = ""
    score: float = 1.0
    sure: bool = True
    evidence: tuple[str, ...] = ()


def find_leaks(
    cases: Sequence[Case], facts: Mapping[str, Known], pairs: Sequence[NearPair] | None = None
) -> tuple[Leak, ...]:
    """Everything beyond doubt that stands in several splits: equal pixels, near duplicates, patients.

    ``pairs``: what ``near_of`` found, where the caller has it already.
    """
    pairs = near_of(cases, facts) if pairs is None else pairs
    exact = [group for group in same_pixels(cases, facts) if len(_splits_of(group)) > 1]
    return (
        *(Leak("exact", _places(group), _splits_of(group)) for group in exact),
        *_near_leaks(cases, facts, [pair for pair in pairs if pair.sure], sure=True),
        *(Leak("patient", _places(group), _splits_of(group)) for group in patient_leaks(cases)),
    )


def doubtful_leaks(cases: Sequence[Case], facts: Mapping[str, Known], pairs: Sequence[NearPair]) -> tuple[Leak, ...]:
    """Pairs in different splits that look like near duplicates and may be none: to be shown to a person."""
    return _near_leaks(cases, facts, [pair for pair in pairs if not pair.sure], sure=False)


def near_of(cases: Sequence[Case], facts: Mapping[str, Known]) -> list[NearPair]:
    """Pairs of case ids whose images are nearly, and not exactly, the same; the most alike first."""
    texts = {case.id: facts[case.id].signature for case in cases if facts[case.id].signature}
    pairs = near_pairs({case_id: Signature.from_text(text) for case_id, text in texts.items()})
    return [pair for pair in pairs if facts[pair.a].pixels != facts[pair.b].pixels]


def same_pixels(cases: Iterable[Case], facts: Mapping[str, Known]) -> list[list[Case]]:
    """Groups of cases with the same pixels; blank images are all alike and say nothing."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if facts[case.id].pixels and not facts[case.id].blank:
            groups[facts[case.id].pixels].append(case)
    return [group for group in groups.values() if len(group) > 1]


def duplicates(
    cases: Sequence[Case], facts: Mapping[str, Known], pairs: Sequence[NearPair] | None = None
) -> list[Finding]:
    """Copies within one split, and copies whose labels contradict each other (in whatever splits they stand)."""
    pairs = near_of(cases, facts) if pairs is None else pairs
    findings: list[Finding] = []
    for group in same_pixels(cases, facts):
        first, *others = _places(group)
        if len(_splits_of(group)) < 2:
            what = f"the same pixels as {shown(others, 4)}"
            findings.append(Finding("duplicate", first, what, "Keep one of them.", "warn", tuple(others)))
        if _contradicting(group, facts):
            labels = shown(sorted({named_target(case.target) for case in group if case.target is not None}))
            what = f"the same pixels have the labels {labels}: {shown(others, 4)}"
            findings.append(
                Finding("contradicting_labels", first, what, "Correct the wrong label.", "warn", tuple(others))
            )
    by_id = {case.id: case for case in cases}
    for pair in pairs:
        findings += _near_duplicate([by_id[pair.a], by_id[pair.b]], facts, pair)
    return findings


def _near_duplicate(both: Sequence[Case], facts: Mapping[str, Known], pair: NearPair) -> list[Finding]:
    first, other = _places(both)
    nearly = f"{'nearly' if pair.sure else 'perhaps nearly'} the same image ({_evidence(pair)})"
    findings = []
    if len(_splits_of(both)) < 2:
        what = f"{nearly} as {other}"
        findings.append(Finding("near_duplicate", first, what, "Look at them; keep one.", "warn", (other,)))
    if pair.sure and _contradicting(both, facts):
        labels = shown(sorted({named_target(case.target) for case in both if case.target is not None}))
        what = f"{nearly} has the labels {labels}: {other}"
        remedy = "Look at them; correct the wrong label."
        findings.append(Finding("contradicting_labels", first, what, remedy, "warn", (other,)))
    return findings


def _contradicting(group: Sequence[Case], facts: Mapping[str, Known]) -> bool:
    """Whether cases of the same image have different class names (masks may differ: two readers)."""
    labels = {case.target for case in group if case.target is not None}
    return len(labels) > 1 and not any(facts[case.id].classes for case in group)


def _evidence(pair: NearPair) -> str:
    return f"{pair.how}, correlation {pair.score:.3f}"


def _near_leaks(
    cases: Sequence[Case], facts: Mapping[str, Known], pairs: Sequence[NearPair], sure: bool
) -> tuple[Leak, ...]:
    """Chains of pairs that reach over several splits, each with the evidence of the best pair that does."""
    by_id = {case.id: case for case in cases}
    leader = {case.id: case.id for case in cases}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    places = dict(zip(by_id, _places(cases), strict=True))
    short = Counter(map(short_name, places.values()))
    called = {name: short_name(place) if short[short_name(place)] == 1 else place for name, place in places.items()}
    evidence: dict[str, str] = {}  # of each case by its most alike one, the earlier one of the two last
    for group in same_pixels(cases, facts) if sure else ():
        for case in group:
            leader[find(case.id)] = find(group[0].id)
            other = group[1] if case is group[0] else group[0]
            evidence[case.id] = f"the same pixels as {called[other.id]}"
    for pair in pairs:
        leader[find(pair.b)] = find(pair.a)
        for one, twin in ((pair.b, pair.a), (pair.a, pair.b)):
            evidence.setdefault(one, f"as {called[twin]}, {_evidence(pair)}")
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[find(case.id)].append(case)
    best: dict[str, NearPair] = {}
    for pair in pairs:
        if _crosses(by_id[pair.a], by_id[pair.b]):
            best.setdefault(find(pair.a), pair)
    return tuple(
        Leak(
            *("near", _places(groups[root]), _splits_of(groups[root]), _evidence(pair), pair.score, sure),
            evidence=tuple(evidence[case.id] for case in groups[root]),
        )
        for root, pair in best.items()
    )


def _crosses(a: Case, b: Case) -> bool:
    return None not in (a.split, b.split) and a.split != b.split


def _splits_of(group: Sequence[Case]) -> tuple[SplitName, ...]:
    return tuple(name for name in SPLITS if any(case.split == name for case in group))


def _places(group: Sequence[Case]) -> tuple[str, ...]:
    return tuple(f"{case.paths[0]}{f' [{case.item}]' if case.item else ''}" for case in group)
