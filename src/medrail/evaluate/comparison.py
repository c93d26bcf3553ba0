"""Comparison: the result of comparing runs, as compare.json keeps it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.differing import Cost, Differing
from medrail.evaluate.over_seeds import Spread
from medrail.evaluate.paired import PairedTest


@dataclass(frozen=True)
class Compared:
    """One test: ``b`` less ``a``, its p corrected for all tests of the comparison, and what may be said."""

    a: str
    b: str
    test: PairedTest
    p_corrected: float
    verdict: str

    def to_json(self) -> dict[str, Any]:
        test = self.test
        numbers = {"difference": test.difference, "low": test.low, "high": test.high, "p": test.p}
        return {
            "metric": test.metric,
            "a": self.a,
            "b": self.b,
            **_finite({**numbers, "p_corrected": self.p_corrected}),
            "method": test.method,
            "n": test.n,
            "patients": test.patients,
            "effect": _finite(test.effect),
            "counts": dict(test.counts),
            "verdict": self.verdict,
            "further": [{**_finite(_without(vars(one), "method")), "method": one.method} for one in test.further],
        }


@dataclass(frozen=True)
class Told:
    """What is told of one entrant; ``spreads`` only of a group of seeds."""

    name: str
    folder: str
    split: str
    metrics: Mapping[str, Measured]
    cost: Cost
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    seeds: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        spreads = {
            name: {"values": list(spread.values), **_finite({"mean": spread.mean, "sd": spread.sd})}
            for name, spread in self.spreads.items()
        }
        return {
            "run": self.name,
            "folder": self.folder,
            "split": self.split,
            "metrics": {name: measured.to_json() for name, measured in self.metrics.items()},
            "cost": self.cost.to_json(),
            "seeds": list(self.seeds),
            "spread": spreads,
        }


@dataclass(frozen=True)
class Comparison:
    """The whole result; the first of ``runs`` is the reference."""

    n: int
    patients: int
    runs: tuple[Told, ...]
    metrics: tuple[str, ...]
    tests: tuple[Compared, ...]
    differs: tuple[Differing, ...]
    warnings: tuple[str, ...]
    left_out: Mapping[str, int]

    @property
    def reference(self) -> str:
        return self.runs[0].name

    @property
    def caution(self) -> str:
        """What must not be read out of it, where a run stands for a method; "" where all are groups of seeds."""
        if len(self.runs) < 2 or all(one.spreads for one in self.runs):
            return ""
        return (
            "without several seeds this compares trainings, not methods: another seed may turn a result round "
            "(train each with --seeds, then compare the groups)"
        )

    @property
    def corrected_over(self) -> int:
        """How many p-values Holm's correction took together."""
        return sum(math.isfinite(one.test.p) for one in self.tests)

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints and compare.json keeps."""
        return {
            "reference": self.reference,
            "n": self.n,
            "patients": self.patients,
            "left_out": dict(self.left_out),
            "runs": [{**one.to_json(), "n": self.n, "patients": self.patients} for one in self.runs],
            "tests": [one.to_json() for one in self.tests],
            "correction": "Holm",
            "corrected_over": self.corrected_over,
            "differs": [one.to_json() for one in self.differs],
            "warnings": list(self.warnings),
        }


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
