"""The table of false alarms in docs/explanation/paired-tests.md, from benchmarks/results/paired.json."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "paired.json"
PAGE = ROOT / "docs" / "explanation" / "paired-tests.md"
BEGIN, END = "<!-- false alarms: made by benchmarks/make_page.py -->\n", "<!-- /false alarms -->"


def table() -> str:
    """Markdown: what was tested, and the percentage of false alarms with its 95 % interval."""
    lines = ["| test | false alarms, % | 95 % interval |", "|---|---:|---|"]
    for one in json.loads(RESULTS.read_text(encoding="utf-8"))["measures"]:
        lines.append(f"| {one['baseline']} | {one['value']:.1f} | {one['low']:.1f} to {one['high']:.1f} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """The page with its table, between its two marks, as the results say."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE.name}: no {BEGIN.strip()} ... {END} to put the table into.")
    return before + begin + table() + end + after


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote the table of {PAGE}")


if __name__ == "__main__":
    main()
