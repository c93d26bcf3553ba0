"""What one call of ``prepare`` did, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PrepareReport:
    """What one call of ``prepare`` did.

    ``cases`` = ``succeeded`` (made in this call) + failed + ``skipped`` (up to date). ``input_mb_per_s`` counts the
    files of the succeeded cases, 1 MB = 10^6 bytes; ``output_mb`` what was stored of them. ``peak_rss_mb`` is the
    largest of any one process, or None where the system does not say (Windows). ``seconds_by_step`` adds up over all
    ``workers``; reading and writing are steps, and a name like ``orient+resample`` is one pass. ``notes``: what was
    tried again. ``folder`` is where the store lies.
    """

    cases: int
    succeeded: int
    failed: tuple[tuple[str, str], ...]
    skipped: int
    seconds: float
    input_mb_per_s: float
    peak_rss_mb: float | None
    folder: Path
    output_mb: float = 0.0
    workers: int = 1
    seconds_by_step: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def success_rate(self) -> float:
        """Share of the cases that are in the store now."""
        return (self.succeeded + self.skipped) / self.cases if self.cases else 1.0

    @property
    def cases_per_s(self) -> float:
        return (self.succeeded + len(self.failed)) / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """The keys of ``medrail prepare --json``."""
        return {
            "cases": self.cases,
            "succeeded": self.succeeded,
            "failed": [{"case": case, "reason": reason} for case, reason in self.failed],
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "input_mb_per_s": round(self.input_mb_per_s, 3),
            "peak_rss_mb": None if self.peak_rss_mb is None else round(self.peak_rss_mb, 1),
            "success_rate": round(self.success_rate, 4),
            "cases_per_s": round(self.cases_per_s, 3),
            "output_mb": round(self.output_mb, 3),
            "workers": self.workers,
            "seconds_by_step": {step: round(seconds, 3) for step, seconds in self.seconds_by_step.items()},
            "notes": list(self.notes),
        }
