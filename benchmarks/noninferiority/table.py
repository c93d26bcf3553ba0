"""The tables of docs/explanation/slimming.md, from benchmarks/results/noninferiority.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "noninferiority.json"
PAGE = ROOT / "docs" / "explanation" / "slimming.md"
BEGIN, END = "<!-- non-inferiority: made by benchmarks/make_page.py -->\n", "<!-- /non-inferiority -->"
AT_MOST = 5.0


def tables() -> str:
    """Markdown: errors beside the usual tests, the limit, and the power; a column a number of patients."""
    measures = json.loads(RESULTS.read_text(encoding="utf-8"))["measures"]
    parts = [
        "Worse by just the margin, and accepted all the same, %:\n",
        _table(measures, ("error", "usual"), bold_above=AT_MOST),
        "\nFailures so rare that so few patients need not show them, accepted, %:\n",
        _table(measures, ("limit",)),
        "\nAs good as the first, and accepted, % (margin 0.01):\n",
        _table(measures, ("power",)),
    ]
    return "\n".join(parts) + "\n"


def _table(measures: list[dict[str, Any]], kinds: tuple[str, ...], bold_above: float = 101.0) -> str:
    rows: dict[tuple[str, str], dict[int, str]] = {}
    for one in measures:
        _, kind, *_, patients = one["name"].split("/")
        if kind not in kinds:
            continue
        what, _, test = one["baseline"].partition("; ")
        cell = f"{one['value']:.1f}"
        shown = f"**{cell}**" if one["value"] > bold_above else cell
        rows.setdefault((what, test or "medrail"), {})[int(patients)] = shown
    sizes = sorted({size for row in rows.values() for size in row})
    lines = [f"| networks | test | {' | '.join(f'n = {size}' for size in sizes)} |", "|---|---|" + "---:|" * len(sizes)]
    lines += [_row(what, test, row, sizes) for (what, test), row in rows.items()]
    return "\n".join(lines)


def _row(what: str, test: str, row: Mapping[int, str], sizes: list[int]) -> str:
    return f"| {what} | {test} | {' | '.join(row.get(size, '') for size in sizes)} |"


def with_tables(text: str) -> str:
    """The page with its tables, between their two marks, as the results say."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE.name}: no {BEGIN.strip()} ... {END} to put the tables into.")
    return before + begin + tables() + end + after


def main() -> None:
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote the tables of {PAGE}")


if __name__ == "__main__":
    main()
