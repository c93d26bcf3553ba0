"""What slimming reached, in docs/explanation/slimming.md, from benchmarks/results/slim.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "slim.json"
PAGE = ROOT / "docs" / "explanation" / "slimming.md"
BEGIN, END = "<!-- slim: made by benchmarks/make_page.py -->\n", "<!-- /slim -->"
WHAT = {
    "prune_network/vs_same_engine": "the network, pruned only, against itself unpruned in ONNX Runtime fp32",
    "network/vs_eager_fp32": "the network, as chosen, against torch in fp32",
    "end_to_end/vs_eager_fp32": "from the file to the answer, as chosen, against torch in fp32",
    "fp32_end_to_end/vs_eager_fp32": "from the file to the answer, the best of those in fp32, against torch in fp32",
    "file/vs_eager_fp32": "the file, as chosen, against torch's checkpoint (times smaller)",
}


def table() -> str:
    """Markdown: a row a set and aim, then the difference on the test cases, then the machine."""
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    lines = ["| set | what | times [95 %] | aim | reached | candidate |", "|---|---|---:|---:|---|---|"]
    confirmed = []
    for one in result["measures"]:
        _, dataset, what = one["name"].split("/", 2)
        if what in WHAT:
            lines.append(_row(dataset, WHAT[what], one))
        elif what == "difference":
            value = f"{one['value']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
            confirmed.append(f"- {dataset}, {one['unit']} on {one['n']} test cases: {value}; {one['baseline']}")
    machine = result["machine"]
    flags = ", ".join(machine["flags"]) or "none of the known ones"
    where = f"{machine['cpu']}, {machine['cores']} cores, flags: {flags}; {result['date']}, commit {result['commit']}."
    return "\n".join([*lines, "", *confirmed, "", where, ""])


def _row(dataset: str, what: str, one: dict[str, Any]) -> str:
    told, _, aimed = one["baseline"].partition("; at least ")
    aim = float(re.match(r"[\d.]+", aimed)[0])  # type: ignore[index]
    value = f"{one['value']:.1f} [{one['low']:.1f}, {one['high']:.1f}]"
    return f"| {dataset} | {what} | {value} | {aim:g} | {'yes' if one['value'] >= aim else '**no**'} | {told} |"


def with_table(text: str) -> str:
    """The page with its table, between its two marks, as the results say."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE.name}: no {BEGIN.strip()} ... {END} to put the table into.")
    return before + begin + table() + end + after


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote the table of what was reached of {PAGE}")


if __name__ == "__main__":
    main()
