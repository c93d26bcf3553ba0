"""Several labels an image: how many have none, which occur together, and which are too rare to say anything about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from medrail.cases.listing import Finding, counted, shown
from medrail.types import SPLITS, Case

_PAIRS_TOLD = 6
# With fewer patients an interval of sensitivity spans most of what is possible (Wilson: 2 of 4, 0.15 to 0.85).
FEWEST_PATIENTS = 5


@dataclass(frozen=True)
class Together:
    """Which labels the cases have.

    none, several:
        Cases without any of the labels, and with more than one.
    pairs:
        (label, label) -> cases that have both, the most frequent first; those that never occur are left out.
    """

    cases: int
    none: int
    several: int
    pairs: Mapping[tuple[str, str], int]

    @staticmethod
    def of(has: Sequence[set[str]], names: Sequence[str]) -> Together:
        """``has``: the labels of each case."""
        found = [[name for name in names if name in one] for one in has]
        pairs = Counter(pair for labels in found for pair in combinations(labels, 2))
        ranked = dict(sorted(pairs.items(), key=lambda item: (-item[1], item[0])))
        return Together(len(found), sum(not one for one in found), sum(len(one) > 1 for one in found), ranked)

    def to_json(self) -> dict[str, Any]:
        together = [{"labels": list(pair), "cases": count} for pair, count in self.pairs.items()]
        return {"none": self.none, "several": self.several, "together": together}

    def lines(self) -> tuple[tuple[str, str], ...]:
        """(what, value) rows for the terminal."""
        rows = [("labels", f"{self.none:,} of {counted(self.cases, 'case')} have none, {self.several:,} have several")]
        if self.pairs:
            pairs = (f"{a} + {b} {count:,}" for (a, b), count in self.pairs.items())
            rows.append(("together", shown(pairs, _PAIRS_TOLD)))
        return tuple(rows)


def rare_labels(cases: Sequence[Case], has: Mapping[str, set[str]], names: Sequence[str]) -> list[Finding]:
    """Labels that some split has, but from few patients; that a split has none of is said elsewhere."""
    findings = []
    for name in names:
        patients = {
            split: len({case.patient for case in cases if case.split == split and name in has[case.id]})
            for split in SPLITS
        }
        few = [f"{split} {count}" for split, count in patients.items() if 0 < count < FEWEST_PATIENTS]
        if few:
            what = f"few patients have {name!r} ({', '.join(few)}): its interval will be wide, or it is hardly learnt"
            remedy = "Add cases of it, join it with a label that is near it, or take it out of the labels."
            findings.append(Finding("rare_label", f"label {name}", what, remedy, "warn"))
    return findings
