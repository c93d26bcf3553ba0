"""Leaked: those of the judged cases that a network has seen in training, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medrail.cases.leaks import Leak
from medrail.cases.listing import counted
from medrail.errors import LeakError
from medrail.types import SplitName

KINDS = ("exact", "near", "patient")
_NAMED = 5


@dataclass(frozen=True)
class Leaked:
    """The leaks between what was learned and what is judged.

    judged:
        How many cases are judged, leaked or not.
    leaks:
        Groups of images that belong together, on both sides.
    reasons:
        Judged case -> kind of leak -> a few words for a person, as "its patient".
    """

    judged: int = 0
    leaks: tuple[Leak, ...] = ()
    reasons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.reasons)

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> groups; ``cases`` of ``judged`` are in one of them."""
        found = {kind: sum(leak.kind == kind for leak in self.leaks) for kind in KINDS}
        return {**found, "cases": len(self.reasons), "judged": self.judged}

    def kinds(self, case_id: str) -> str:
        """How a case leaks, as "exact patient"; "" for one that does not."""
        return " ".join(kind for kind in KINDS if kind in self.reasons.get(case_id, {}))

    def to_json(self) -> dict[str, Any]:
        """What evaluation.json says under ``accepted_leaks``."""
        groups = [
            {"kind": leak.kind, "group": list(leak.group), "splits": list(leak.splits)}
            for leak in sorted(self.leaks, key=lambda leak: (leak.kind, leak.group))
        ]
        return {**self.counts, "groups": groups}

    def error(self, where: str, splits: tuple[SplitName, ...]) -> LeakError:
        """Why they must not be judged; ``splits`` are those that the network has seen."""
        lines = [f"{case_id} ({', '.join(reasons.values())})" for case_id, reasons in self.reasons.items()]
        more = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
        return LeakError(
            f"{len(lines)} of {self.judged} cases to be judged were there in training: "
            f"{', '.join(lines[:_NAMED])}{more}",
            needed=f"patients and images that are in none of {', '.join(splits)}",
            where=where,
            remedy="Correct the data (`medrail check` lists all of them), and train anew with `medrail run`. With "
            "--accept-leak they are judged all the same, and every result says so.",
        )


def leak_sentence(counts: Mapping[str, int]) -> str:
    """What every result says whose leaks were accepted; ``counts`` as ``Leaked.counts`` has them.

    >>> leak_sentence({"exact": 1, "near": 0, "patient": 2, "cases": 3, "judged": 12})
    'LEAK ACCEPTED: 1 exact, 0 near, 2 patient; 3 of 12 cases were seen in training'
    """
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS)
    seen = "was" if counts["cases"] == 1 else "were"
    return f"LEAK ACCEPTED: {kinds}; {counts['cases']} of {counted(counts['judged'], 'case')} {seen} seen in training"
