"""What was found: steps with numbers, and the capacity, as one JSON-able thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from medrail.loadtest.attack import Sent
from medrail.loadtest.measure import Measured, percentile, rate, share
from medrail.loadtest.watch import Stretch

CLOSED, OPEN = "closed", "open"
NO_ANSWER = "no answer in time"
_PERCENTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))


@dataclass(frozen=True)
class StepResult:
    """One step in numbers.

    n:
        Requests that were planned after the warm-up; latencies are of those that were answered rightly, and of those
        that were not answered in time (at the time at which they were given up).
    rps:
        Right answers a second.
    client_cores:
        Cores that the sender used itself; near 1 it is the sender that was measured.
    late_ms:
        99 % of the requests were sent no later after their planned time than that.
    """

    mode: str
    users: int
    planned_rps: float | None
    n: int
    rps: Measured
    latency_ms: Mapping[str, Measured]
    errors: int
    error_share: Measured
    error_kinds: Mapping[str, int]
    by_kind: Mapping[str, Mapping[str, Any]]
    server: Stretch
    client_cores: float
    late_ms: float
    begin_s: float
    seconds: float

    @property
    def p95(self) -> Measured:
        return self.latency_ms["p95"]

    def to_json(self) -> dict[str, Any]:
        """The keys of ``steps`` of ``--json``."""
        values: dict[str, Any] = {"users": self.users, "mode": self.mode, "planned_rps": self.planned_rps, "n": self.n}
        values |= {"rps": _round(self.rps.value), "rps_95": _bounds(self.rps)}
        for name, measured in self.latency_ms.items():
            values |= {f"{name}_ms": _round(measured.value), f"{name}_ms_95": _bounds(measured)}
            values[f"{name}_n"] = measured.n
        values |= {"errors": self.errors, "error_share": self.error_share.value, "error_kinds": dict(self.error_kinds)}
        values["error_share_95"] = _bounds(self.error_share, 6)
        values |= {"by_kind": {kind: dict(one) for kind, one in self.by_kind.items()}}
        values |= {"server_cores": _round(self.server.cores), "server_rss_mb": _round(self.server.rss_mb)}
        values |= {"client_cores": _round(self.client_cores), "late_ms": _round(self.late_ms)}
        return values | {"begin_s": _round(self.begin_s), "seconds": _round(self.seconds)}


@dataclass(frozen=True)
class Capacity:
    """The most users that were shown to be served within the limit, and how sure that is.

    users:
        0 if not even the first step was.
    at_least:
        Whether no larger step was shown not to be: then it may be more.
    undecided:
        Users of the next larger step if its interval holds the limit, else 0.
    """

    users: int
    at_least: bool
    undecided: int
    limit_ms: float
    p95: Measured
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """The keys of ``capacity`` of ``--json``."""
        values = asdict(self) | {"p95_ms": _round(self.p95.value), "p95_ms_95": _bounds(self.p95), "n": self.p95.n}
        del values["p95"]
        return values


@dataclass(frozen=True)
class Outcome:
    """All of one load test.

    ended:
        Why it ended before its time; "" if it did not.
    """

    url: str
    scenario: str
    models: tuple[str, ...]
    started: str
    steps: tuple[StepResult, ...]
    capacity: Capacity | None
    open_capacity: Capacity | None
    machine: Mapping[str, Any]
    shared_machine: bool
    watched: str
    samples: Sequence[tuple[float, float, float]]
    notes: tuple[str, ...]
    ended: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it ended early, or nothing at all was answered rightly."""
        return bool(self.ended) or not any(step.rps.n for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """The object of ``--json`` and of loadtest.json."""
        return {
            "format": 1,
            "url": self.url,
            "scenario": self.scenario,
            "models": list(self.models),
            "started": self.started,
            "steps": [step.to_json() for step in self.steps],
            "capacity": self.capacity.to_json() if self.capacity else None,
            "open_capacity": self.open_capacity.to_json() if self.open_capacity else None,
            "machine": dict(self.machine),
            "shared_machine": self.shared_machine,
            "watched": self.watched,
            "server": [{"s": s, "cores": cores, "rss_mb": rss} for s, cores, rss in self.samples],
            "notes": list(self.notes),
            "ended": self.ended,
            "settings": dict(self.settings),
        }


def step_result(sent: Sent, warmup_s: float, server: Stretch, begin_s: float) -> StepResult:
    """The numbers of one step, without what was planned in its first ``warmup_s`` seconds."""
    step = sent.step
    counted = sent.planned_s >= warmup_s
    errors = [error for error, here in zip(sent.error, counted, strict=True) if here]
    right = counted & np.array([not error for error in sent.error], dtype=bool)
    timed = right | (counted & np.array([error == NO_ANSWER for error in sent.error], dtype=bool))
    finished_s = sent.planned_s + sent.latency_ms / 1e3
    every_right = np.array([not error for error in sent.error], dtype=bool)
    wrong = [error for error in errors if error]
    return StepResult(
        mode=CLOSED if step.rate is None else OPEN,
        users=step.users,
        planned_rps=step.rate,
        n=len(errors),
        rps=rate(finished_s[every_right], warmup_s, sent.seconds, step.seed),
        latency_ms={name: percentile(sent.latency_ms[timed], of) for name, of in _PERCENTILES},
        errors=len(wrong),
        error_share=share(len(wrong), len(errors)),
        error_kinds=dict(Counter(wrong).most_common()),
        by_kind=_by_kind(sent, counted, timed),
        server=server,
        client_cores=sent.cpu_s / sent.lasted_s if sent.lasted_s else 0.0,
        late_ms=float(np.quantile(sent.late_ms[counted], 0.99)) if counted.any() else 0.0,
        begin_s=begin_s,
        seconds=sent.seconds,
    )


def _by_kind(sent: Sent, counted: Any, timed: Any) -> dict[str, dict[str, Any]]:
    """For each kind of request: how many, how many wrong, and their latencies."""
    kinds = np.array(sent.kind)
    wrong = np.array([bool(error) for error in sent.error], dtype=bool)
    found = {}
    for kind in sorted(set(sent.kind)):
        here = (kinds == kind) & counted
        values: dict[str, Any] = {"n": int(here.sum()), "errors": int((here & wrong).sum())}
        for name, of in _PERCENTILES:
            measured = percentile(sent.latency_ms[here & timed], of)
            values |= {f"{name}_ms": _round(measured.value), f"{name}_ms_95": _bounds(measured)}
        found[kind] = values
    return found


def _round(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def _bounds(measured: Measured, digits: int = 3) -> list[float | None]:
    return [_round(measured.low, digits), _round(measured.high, digits)]
