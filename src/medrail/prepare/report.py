"""What one call of ``prepare`` did, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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

    @staticmethod
    def nothing_done(cases: int, seconds: float, folder: Path) -> PrepareReport:
        """All cases were up to date."""
        return PrepareReport(cases, 0, (), cases, seconds, 0.0, None, folder)

    def then(self, last: PrepareReport) -> PrepareReport:
        """This pass and the one that went on from it, as one: the last one's cases, the work of both."""
        seconds, steps = self.seconds + last.seconds, dict(self.seconds_by_step)
        for step, spent in last.seconds_by_step.items():
            steps[step] = steps.get(step, 0.0) + spent
        read_mb = self.input_mb_per_s * self.seconds + last.input_mb_per_s * last.seconds
        peaks = [peak for peak in (self.peak_rss_mb, last.peak_rss_mb) if peak is not None]
        return replace(
            last,
            seconds=seconds,
            input_mb_per_s=read_mb / seconds,
            peak_rss_mb=max(peaks, default=None),
            output_mb=self.output_mb + last.output_mb,
            workers=max(self.workers, last.workers),
            seconds_by_step=steps,
            notes=(*self.notes, *last.notes),
        )

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
