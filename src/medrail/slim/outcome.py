"""Outcome: what the judge found of every candidate, which one it chose, and the sentence that says so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from medrail.evaluate.glossary import title_of
from medrail.evaluate.noninferiority import NonInferiority
from medrail.slim.race import Timed

FORMAT = 1
Kind = Literal["base", "eager", "unstructured", "candidate"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    kind:
        "base": the run as it was evaluated; "eager": its weights in torch; "unstructured": the run with single weights
        set to zero; "candidate".
    run:
        Folder of its run.
    value:
        The metric on the validation cases; NaN: not judged (the network is the base's).
    judged:
        Against the base; None of the base itself, and where it could not be judged.
    timed:
        None where it could not be made.
    accepted:
        Non-inferior, and faster with certainty.
    why_not:
        Why it is not accepted, "" if it is; of the others than candidates "".
    front:
        Whether nothing else is both faster and better.
    unbeaten:
        Whether nothing else is at least as good in all of latency, throughput, file, memory and metric, and better in
        one of them.
    """

    name: str
    told: str
    kind: Kind
    ratio: float
    precision: str
    engine: str
    run: str
    file_mb: float
    value: float = math.nan
    judged: NonInferiority | None = None
    timed: Timed | None = None
    accepted: bool = False
    why_not: str = ""
    front: bool = False
    unbeaten: bool = False

    @property
    def latency_ms(self) -> float:
        return self.timed.latency_ms if self.timed else math.nan

    def to_json(self) -> dict[str, Any]:
        """Flat where ``medrail slim --json`` promises keys: ``ratio, precision, engine, latency_ms, metric, difference,
        low, high, non_inferior``.
        """
        judged = self.judged
        numbers = {"difference": judged.difference, "low": judged.low, "high": judged.high} if judged else {}
        faster = self.timed.faster if self.timed else None
        return {
            "name": self.name,
            "told": self.told,
            "kind": self.kind,
            "ratio": self.ratio,
            "precision": self.precision,
            "engine": self.engine,
            "latency_ms": _finite(self.latency_ms),
            "faster": faster.to_json() if faster else None,
            "metric": judged.metric if judged else None,
            **{key: _finite(numbers.get(key, math.nan)) for key in ("difference", "low", "high")},
            "non_inferior": bool(judged and judged.passed),
            "accepted": self.accepted,
            "why_not": self.why_not,
            "front": self.front,
            "unbeaten": self.unbeaten,
            "file_mb": self.file_mb,
            "run": self.run,
            "value": _finite(self.value),
            "judged": judged.to_json() if judged else None,
            "timed": self.timed.to_json() if self.timed else None,
        }


@dataclass(frozen=True)
class Confirmed:
    """What the one look at the test cases said of the chosen candidate.

    looks:
        How often these test cases have been asked by ``medrail slim`` of this run, this time included.
    """

    judged: NonInferiority
    looks: int

    def to_json(self) -> dict[str, Any]:
        return {**self.judged.to_json(), "looks": self.looks}


@dataclass(frozen=True)
class Outcome:
    """The whole result.

    rows:
        The base, the eager row, the unstructured one, then the candidates.
    chosen:
        Name of the candidate that was asked of the test cases; "" if none was accepted.
    confirmed:
        None until it was.
    notes:
        What was left out, and why.
    unmade:
        How many candidates could not be made; ``notes`` says why.
    """

    run: str
    metric: str
    margin: float
    target_latency_ms: float
    n: int
    patients: int
    rows: tuple[Row, ...]
    chosen: str = ""
    confirmed: Confirmed | None = None
    result: str = ""
    notes: tuple[str, ...] = ()
    unmade: int = 0
    machine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> Row:
        return self.rows[0]

    @property
    def candidates(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.kind == "candidate")

    @property
    def accepted(self) -> bool:
        """Whether there is a slimmed run that passed validation and test."""
        return bool(self.confirmed and self.confirmed.judged.passed)

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @property
    def sentence(self) -> str:
        """The answer.

        "2.9x faster end to end (95 % CI 2.7-3.1), AUC difference -0.002 [-0.006, +0.002], non-inferior at 0.01".
        """
        title = title_of(self.metric)[0]
        if not self.chosen:
            return f"nothing is changed: {self._why_none()}"
        row = self.row(self.chosen)
        faster = row.timed.faster if row.timed else None
        speed = f"{faster.value:.1f}x faster end to end (95 % CI {faster.low:.1f}-{faster.high:.1f})" if faster else ""
        if self.confirmed is None:
            assert row.judged  # noqa: S101 - it was accepted by this
            shown = f"{row.told}: {speed}, {row.judged.sentence(title)} on validation"
            return f"nothing is changed: there are no test cases to confirm the choice with ({shown})"
        said = self.confirmed.judged.sentence(title)
        if self.accepted:
            return f"{speed}, {said} ({row.told}; on the test cases)"
        return f"nothing is changed: the test cases do not confirm {row.told} ({said})"

    def _why_none(self) -> str:
        candidates = self.candidates
        if not candidates and self.unmade:
            return f"no candidate could be made, of {self.unmade}"
        if not candidates:
            return "there is no candidate that this machine can run"
        fit = [row for row in candidates if row.judged and row.judged.passed]
        if not fit:
            tried = f"{len(candidates)} candidate{'s' if len(candidates) > 1 else ''}"
            why = next((row.judged.why for row in candidates if row.judged and row.judged.why), "")
            return (
                f"none of {tried} is shown to be non-inferior at {self.margin:g} on {self.patients} validation patients"
                + (f" ({why})" if why else "")
            )
        if not any(row.accepted for row in candidates):
            return f"{len(fit)} of {len(candidates)} candidates are non-inferior, and none of them is measured faster"
        return f"no accepted candidate answers within {self.target_latency_ms:g} ms"

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints and slim.json keeps."""
        return {
            "format": FORMAT,
            "run": self.run,
            "accepted": self.accepted,
            "chosen": self.chosen or None,
            "result": self.result or None,
            "sentence": self.sentence,
            "metric": self.metric,
            "margin": self.margin,
            "target_latency_ms": self.target_latency_ms or None,
            "split": "val",
            "n": self.n,
            "patients": self.patients,
            "candidates": [row.to_json() for row in self.candidates],
            "beside": [row.to_json() for row in self.rows if row.kind != "candidate"],
            "confirmed": self.confirmed.to_json() if self.confirmed else None,
            "notes": list(self.notes),
            "machine": dict(self.machine),
        }


def with_verdicts(rows: Sequence[Row], *, lower_is_better: bool = False) -> tuple[Row, ...]:
    """The rows with ``accepted``, ``why_not``, ``front`` and ``unbeaten`` filled in.

    A candidate is accepted if it is non-inferior and the 95 % interval of its speed lies above 1.
    """
    found = []
    for row in rows:
        if row.kind == "candidate":
            why = row.why_not or _why_not(row)
            row = replace(row, accepted=not why, why_not=why)
        found.append(row)
    sign = 1.0 if lower_is_better else -1.0
    costs = {row.name: _costs(row, sign) for row in found if _has_place(row)}
    two = {name: (one[0], one[-1]) for name, one in costs.items()}
    return tuple(
        replace(row, front=_is_unbeaten(row.name, two), unbeaten=_is_unbeaten(row.name, costs)) for row in found
    )


def _why_not(row: Row) -> str:
    if row.judged is None or row.timed is None or row.timed.faster is None:
        return "it could not be judged"
    if not row.judged.passed:
        return "not shown to be non-inferior" + (f": {_why_unshown(row.judged)}" if _why_unshown(row.judged) else "")
    if not row.timed.faster.low > 1:
        return "not measured faster"
    return ""


def _why_unshown(judged: NonInferiority) -> str:
    if judged.why or judged.changed:
        return judged.why
    return "no answer changed, which tells nothing of how much a change would cost in a patient who was not seen"


def _costs(row: Row, sign: float) -> tuple[float, ...]:
    """Less is better of each: latency, time of many cases, file, memory, metric."""
    assert row.timed  # noqa: S101 - it has a place
    memory_mb = row.timed.memory_mb if math.isfinite(row.timed.memory_mb) else 0.0
    return (row.latency_ms, -row.timed.cases_per_s, row.file_mb, memory_mb, sign * row.value)


def _is_unbeaten(name: str, costs: Mapping[str, tuple[float, ...]]) -> bool:
    """Pareto: no other is at least as good in everything, and better in something."""
    if name not in costs:
        return False
    mine = costs[name]
    return not any(one != mine and all(a <= b for a, b in zip(one, mine, strict=True)) for one in costs.values())


def _has_place(row: Row) -> bool:
    """Whether both of its numbers are known and it may be taken."""
    return math.isfinite(row.value) and row.timed is not None and row.kind != "unstructured"


def choose(rows: Sequence[Row], target_latency_ms: float = 0, *, lower_is_better: bool = False) -> str:
    """The accepted candidate to be asked of the test: the fastest; of those within a target, the one that is best.

    Fastest by the ratio to the base of the same rounds, which a busy moment of the machine changes less than the times.
    "" if there is none.
    """
    accepted = [row for row in rows if row.accepted]
    if not target_latency_ms:
        return max(accepted, key=_times_as_fast).name if accepted else ""
    within = [row for row in accepted if row.latency_ms <= target_latency_ms]
    sign = -1.0 if lower_is_better else 1.0
    return max(within, key=lambda row: sign * row.value).name if within else ""


def _times_as_fast(row: Row) -> float:
    return row.timed.faster.value if row.timed and row.timed.faster else 0.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
