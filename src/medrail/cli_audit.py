"""The verb of the audit log: summary."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrail.audit import Summary
    from medrail.console import Console

OK = 0


def audit(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.audit import Span, find_logs, records, summarise, write_summary
    from medrail.audit.logs import Found
    from medrail.audit.page import as_json
    from medrail.console import shown

    span, found = Span.of(arguments.since, arguments.until), Found()
    summary = summarise(records(find_logs(arguments.paths), span, found))
    _tell(summary, console)
    for count, what in ((found.broken, "that cannot be read were passed over"), (found.lost, "could not be written")):
        if count:
            console.line(f"\n{count} lines {what}.")
    written = write_summary(summary, found, Path(arguments.out)) if arguments.out else ()
    for path in written:
        console.line(f"-> {shown(path)}")
    if console.as_json:
        console.json(as_json(summary, found))
    return OK


def _tell(summary: Summary, console: Console) -> None:
    if not summary.requests:
        console.line("No request in this time.")
        return
    first, last = ((moment or "")[:16].replace("T", " ") for moment in (summary.first, summary.last))
    console.line(f"{summary.requests} requests from {first} to {last} (UTC)")
    statuses = tuple(summary.by_status)
    for name, table in (
        ("day", summary.by_day),
        ("route", summary.by_route),
        ("model", summary.by_model),
        ("key", summary.keys),
    ):
        if table:
            rows = [[row, *(str(parts.get(status, "")) for status in statuses)] for row, parts in table.items()]
            console.line()
            console.grid([name, *statuses], rows)
    if summary.latency_ms:
        console.line("\nMilliseconds of predictions that were answered:")
        header = ("n", "p50", "p95", "p99")
        rows = [[stage, *(_cell(times[name]) for name in header)] for stage, times in summary.latency_ms.items()]
        console.grid(["stage", *header], rows)
    for model, classes in summary.answers.items():
        console.line(
            f"\n{model}: {summary.answered[model]} answers, {summary.abstained.get(model, 0)} leave it to a person, "
            f"{summary.unlike_training.get(model, 0)} for images unlike the training data"
        )
        console.grid(["class", "answers"], [[name, str(count)] for name, count in classes.items()])
    for name, counts in (("problem", summary.problems), ("jobs that were", summary.jobs)):
        if counts:
            console.line()
            console.grid([name, "number"], [[kind, str(count)] for kind, count in counts.items()])


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1f}"
