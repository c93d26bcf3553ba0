"""Records of the audit log -> numbers."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

STAGES = ("upload", "queue", "decode", "prepare", "model", "post", "preview")
TOTAL = "total"
NOBODY = "(none)"
_JOBS_ROUTE = "/v1/jobs"
_ANSWER = frozenset({"class_name", "findings", "volumes_ml", "voxels"})
_AT = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
Table = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Summary:
    """Counts of requests; ``by_...`` are row -> status -> number.

    latency_ms:
        Stage -> ``{n, p50, p95, p99}`` of predictions that were answered; a percentile is None where n is too small to
        have one (p95: 20, p99: 100). "total" is from the first byte to the end of the answer.
    answers:
        Model -> class -> answers; of several labels each finding counts.
    answered, abstained, unlike_training:
        Model -> answers; of these the ones that leave it to a person, and those for images unlike the training data.
    problems:
        Kind of problem -> requests and jobs that were refused or failed for it.
    jobs:
        How long work ended (done, failed, cancelled) -> jobs; their times and answers count where they were made, not
        where they were fetched.
    keys:
        Id of the key -> status -> requests; "(none)" for those without a key.
    peak_mb:
        The most that one serving process has held; None where no line says it.
    """

    first: str | None = None
    last: str | None = None
    requests: int = 0
    by_day: Table = field(default_factory=dict)
    by_route: Table = field(default_factory=dict)
    by_model: Table = field(default_factory=dict)
    by_status: dict[str, int] = field(default_factory=dict)
    latency_ms: dict[str, dict[str, float | int | None]] = field(default_factory=dict)
    answers: Table = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    abstained: dict[str, int] = field(default_factory=dict)
    unlike_training: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, int] = field(default_factory=dict)
    keys: Table = field(default_factory=dict)
    peak_mb: float | None = None


def summarise(lines: Iterable[tuple[datetime, Mapping[str, Any]]]) -> Summary:
    """Count the records, in any order."""
    tally = _Tally()
    for moment, record in lines:
        tally.take(moment, record)
    return tally.summary()


def percentile(ranked: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of them do not exceed; None where they are too few to have one."""
    n = len(ranked)
    if n < round(1 / (1 - share)) or (share <= 0.5 and not n):
        return None
    return ranked[math.ceil(share * n - 1e-9) - 1]


class _Tally:
    def __init__(self) -> None:
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.by: dict[str, defaultdict[str, Counter[str]]] = {
            name: defaultdict(Counter) for name in ("day", "route", "model", "key", "answers")
        }
        self.counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("status", "problem", "answered", "abstain", "unlike", "job")
        }
        self.times: dict[str, array[float]] = {stage: array("f") for stage in (*STAGES, TOTAL)}
        self.peak_mb = 0.0

    def take(self, moment: datetime, record: Mapping[str, Any]) -> None:
        self.first = moment if self.first is None else min(self.first, moment)
        self.last = moment if self.last is None else max(self.last, moment)
        model, problem = _model(record), record.get("problem")
        self.peak_mb = max(self.peak_mb, _number(record.get("process_peak_mb")) or 0.0)
        if record["event"] == "job":
            self.counts["job"][record["job_status"]] += 1
            self.counts["problem"].update([str(problem)] if problem else [])
            if record["job_status"] == "done":
                self._done(model, record)
            return
        status = str(record["status"])
        self.by["day"][moment.astimezone(UTC).date().isoformat()][status] += 1
        self.by["route"][record["route"]][status] += 1
        self.by["key"][str(record.get("key_id") or NOBODY)][status] += 1
        self.counts["status"][status] += 1
        if model:
            self.by["model"][model][status] += 1
        if not record["route"].startswith(_JOBS_ROUTE):
            self.counts["problem"].update([str(problem)] if problem else [])
            if record["status"] < 400:
                self._done(model, record)

    def _done(self, model: str, record: Mapping[str, Any]) -> None:
        self._times(record)
        result = record.get("result")
        for one in result if isinstance(result, list) else [result]:
            if model and isinstance(one, Mapping) and not _ANSWER.isdisjoint(one):
                self._answer(model, one)

    def _times(self, record: Mapping[str, Any]) -> None:
        timings = record.get("timings_ms")
        if not isinstance(timings, Mapping):
            return
        for stage, value in ((TOTAL, record.get("total_ms")), *((stage, timings.get(stage)) for stage in STAGES)):
            if (number := _number(value)) is not None:
                self.times[stage].append(number)

    def _answer(self, model: str, result: Mapping[str, Any]) -> None:
        findings = result.get("findings")
        names = findings if isinstance(findings, list) else [result.get("class_name")]
        for name in names or [NOBODY]:
            if name is not None:
                self.by["answers"][model][str(name)] += 1
        self.counts["answered"][model] += 1
        self.counts["abstain"][model] += result.get("abstain") is True
        self.counts["unlike"][model] += result.get("unlike_training") is True

    def summary(self) -> Summary:
        tables = {
            name: {row: dict(sorted(rows[row].items())) for row in sorted(rows)} for name, rows in self.by.items()
        }
        counts = {name: dict(count.most_common()) for name, count in self.counts.items()}
        return Summary(
            first=self.first.isoformat() if self.first else None,
            last=self.last.isoformat() if self.last else None,
            requests=sum(counts["status"].values()),
            by_day=tables["day"],
            by_route=tables["route"],
            by_model=tables["model"],
            by_status=dict(sorted(counts["status"].items())),
            latency_ms={stage: _percentiles(times) for stage, times in self.times.items() if times},
            answers=tables["answers"],
            answered=counts["answered"],
            abstained=counts["abstain"],
            unlike_training=counts["unlike"],
            problems=counts["problem"],
            jobs=counts["job"],
            keys=tables["key"],
            peak_mb=self.peak_mb or None,
        )


def _percentiles(times: array[float]) -> dict[str, float | int | None]:
    ranked = sorted(times)
    found = {name: percentile(ranked, share) for name, share in _AT.items()}
    return {"n": len(ranked), **{name: None if value is None else round(value, 3) for name, value in found.items()}}


def _model(record: Mapping[str, Any]) -> str:
    name, version = record.get("model"), record.get("version")
    return f"{name}/{version}" if name and version else str(name or "")


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < math.inf else None
