"""What a check found, as an object: verdict, numbers, findings; and the same in few lines for a person."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from medrail.cases.check.summary import Summary
from medrail.cases.check.together import Together
from medrail.cases.leaks import Leak
from medrail.cases.listing import Entry, Finding, Severity, short_name
from medrail.cases.look.examine import Facts, place_of
from medrail.types import SPLITS, Case

Verdict = Literal["ok", "warn", "stop"]

# More findings of one kind are one line for a person.
_EACH = 3


@dataclass(frozen=True)
class Examined:
    """The cases with what is known of each: what the page and the correction are made of."""

    cases: tuple[Case, ...]
    facts: Mapping[str, Facts]
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def usable(self, case: Case) -> bool:
        """Whether its image and its mask could be read and are right."""
        return not self.facts[case.id].findings

    @cached_property
    def by_place(self) -> Mapping[str, Case]:
        """Where -> the case, as findings and leaks call it."""
        named = {str(entry.where): case for case in self.cases if (entry := self.entries.get(case.id)) and entry.where}
        masks = {case.target: case for case in self.cases if case.target}
        return {**named, **masks, **{place_of(case): case for case in self.cases}}


@dataclass(frozen=True)
class PatternProposal:
    """A ``data.patient_pattern`` that file names suggest; for a person to confirm.

    example:
        (file name, patient).
    divided:
        Patients by this pattern that stand in more than one split.
    """

    pattern: str
    patients: int
    files: int
    example: tuple[str, str]
    divided: int

    def to_json(self) -> dict[str, Any]:
        file, patient = self.example
        return {
            "pattern": self.pattern,
            "patients": self.patients,
            "files": self.files,
            "example": {"file": file, "patient": patient},
            "divided": self.divided,
        }


@dataclass(frozen=True)
class CheckReport:
    """What was found.

    splits, classes:
        Cases in each split; cases of each class (segmentation: cases whose mask has the class).
    table:
        Rows of text for a person, the header first: split, cases, those of them that can be used, patients, then a
        column a class.
    findings:
        What is wrong; what stops comes first.
    labels:
        Where an image may have several labels: which occur together; else None.
    """

    cases: int
    patients: int
    splits: dict[str, int]
    classes: dict[str, int]
    table: tuple[tuple[str, ...], ...]
    leaks: tuple[Leak, ...]
    findings: tuple[Finding, ...]
    summary: Summary
    pattern: PatternProposal | None = None
    labels: Together | None = None
    examined: Examined = field(default_factory=lambda: Examined((), {}), repr=False, compare=False)

    @property
    def verdict(self) -> Verdict:
        """stop: a result would be wrong or cannot be had; warn: look at it; ok."""
        severities = {finding.severity for finding in self.findings}
        return "stop" if "stop" in severities else "warn" if severities else "ok"

    @property
    def defects(self) -> dict[str, int]:
        """How often each kind of defect was found."""
        return dict(sorted(Counter(finding.defect for finding in self.findings).items()))

    @property
    def unusable(self) -> dict[str, int]:
        """How many cases of each split are refused or cannot be read."""
        return {row[0]: int(row[1]) - int(row[2]) for row in self.table[1:] if row[0] in SPLITS}

    @property
    def problems(self) -> tuple[tuple[str, str, str], ...]:
        """(case or file, what is wrong, remedy) of each finding."""
        return tuple((finding.where, finding.what, finding.remedy) for finding in self.findings)

    def measured(self) -> tuple[tuple[str, str], ...]:
        """(what, value) rows for a person: the labels where there may be several, then the images."""
        return (*(self.labels.lines() if self.labels else ()), *self.summary.lines())

    def lines(self, severity: Severity) -> tuple[str, ...]:
        """The findings of a severity for a person: many alike ones are one line with their number and the first few."""
        found = [finding for finding in self.findings if finding.severity == severity]
        return tuple(line for group in alike(found) for line in _told(group))

    def to_json(self) -> dict[str, Any]:
        """The object that `medrail check --json` prints; its keys are an interface."""
        kinds = ("exact", "near", "patient")
        return {
            "cases": self.cases,
            "patients": self.patients,
            "splits": self.splits,
            "classes": self.classes,
            "defects": self.defects,
            "unusable": self.unusable,
            "leaks": {
                kind: [
                    {"group": list(leak.group), "splits": list(leak.splits)} for leak in self.leaks if leak.kind == kind
                ]
                for kind in kinds
            },
            "verdict": self.verdict,
            **({"labels": self.labels.to_json()} if self.labels else {}),
            **self.summary.to_json(),
            "by_split": self._by_split(),
            "patient_pattern": self.pattern.to_json() if self.pattern else None,
            "findings": [
                {
                    "defect": finding.defect,
                    "severity": finding.severity,
                    "where": finding.where,
                    "what": finding.what,
                    "remedy": finding.remedy,
                }
                for finding in self.findings
            ],
        }

    def _by_split(self) -> dict[str, Any]:
        """The table as numbers: split -> cases, usable, patients, classes."""
        names = self.table[0][4:] if self.table else ()
        return {
            row[0]: {
                "cases": int(row[1]),
                "usable": int(row[2]),
                "patients": int(row[3]),
                "classes": dict(zip(names, map(int, row[4:]), strict=True)),
            }
            for row in self.table[1:]
        }


def alike(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Findings of one kind and severity together, in the order of their first ones, what stops first."""
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.severity, finding.defect].append(finding)
    return sorted(groups.values(), key=lambda group: group[0].severity != "stop")


def _told(group: Sequence[Finding]) -> list[str]:
    if len(group) <= _EACH:
        return [f"{finding.defect}: {finding}" for finding in group]
    first = group[0]
    others = ", ".join(short_name(finding.where) for finding in group[1:_EACH])
    more = f"{others} and {len(group) - _EACH} more" if len(group) > _EACH else others
    return [f"{len(group)} x {first.defect}: {first} The same kind: {more}"]


def table_of(
    cases: Sequence[Case], usable: Iterable[Case], has: Mapping[str, set[str]], names: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """split, cases, usable, patients, and the number of cases of each class; the header first."""
    rows = [("split", "cases", "usable", "patients", *names)]
    good = Counter(case.split for case in usable)
    for split in (*SPLITS, None):
        inside = [case for case in cases if case.split == split]
        if inside or split:
            counts = (sum(name in has[case.id] for case in inside) for name in names)
            patients = len({case.patient for case in inside})
            rows.append((split or "none", *map(str, (len(inside), good[split], patients, *counts))))
    return tuple(rows)
