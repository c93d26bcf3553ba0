"""The outcome as files: loadtest.json, loadtest.csv and index.html, whole ones."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from medrail.loadtest.outcome import Outcome, StepResult
from medrail.loadtest.page import page
from medrail.workspace import write_json, write_text

RESULT_FILE, TABLE_FILE, PAGE_FILE = "loadtest.json", "loadtest.csv", "index.html"
_COLUMNS = (
    "mode",
    "users",
    "planned_rps",
    "n",
    "rps",
    "rps_low",
    "rps_high",
    *(f"{name}_ms{end}" for name in ("p50", "p95", "p99") for end in ("", "_low", "_high")),
    "errors",
    "error_kinds",
    "server_cores",
    "server_rss_mb",
    "client_cores",
)


def write_outcome(outcome: Outcome, folder: Path) -> tuple[Path, ...]:
    """Write the three files; the page first in the list."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / PAGE_FILE, page(outcome))
    write_text(folder / TABLE_FILE, table(outcome))
    write_json(folder / RESULT_FILE, outcome.to_json())
    return folder / PAGE_FILE, folder / TABLE_FILE, folder / RESULT_FILE


def table(outcome: Outcome) -> str:
    """A row a step, as CSV; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_row(step) for step in outcome.steps)
    return text.getvalue()


def _row(step: StepResult) -> list[object]:
    values = step.to_json()
    row = []
    for column in _COLUMNS:
        name, _, end = column.rpartition("_")
        if end in ("low", "high"):
            value = values[f"{name}_95"][end == "high"]
        elif column == "error_kinds":
            value = "; ".join(f"{count} x {kind}" for kind, count in step.error_kinds.items())
        else:
            value = values[column]
        row.append("" if value is None else value)
    return row
