"""failures.csv: what could not be prepared, why, and what its files were at that time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medrail.workspace import keep_text


@dataclass(frozen=True)
class Failure:
    """Of one case.

    made_from:
        The fingerprint of its files, "" where they could not be read.
    lost:
        "killed", "timeout" or "memory" where the work on it ended without a word; it is never done in this process.
    """

    case: str
    reason: str
    made_from: str = ""
    lost: str = ""


def read_failures(path: Path) -> Mapping[str, Failure]:
    """By case; nothing where there is no such table."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [
        Failure(row["case"], row.get("reason") or "", row.get("made_from") or "", row.get("lost") or "")
        for row in rows
        if row.get("case")
    ]
    return {failure.case: failure for failure in found}


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """The whole table, if it is another one than before; ``OSError`` if it cannot be written."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case", "reason", "made_from", "lost"])
    table.writerows([failure.case, failure.reason, failure.made_from, failure.lost] for failure in failures)
    keep_text(path, text.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
