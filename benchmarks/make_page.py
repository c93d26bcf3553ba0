"""docs/benchmarks.md from benchmarks/results/*.json; never edited by hand."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

Generated from `benchmarks/results/*.json` by `make bench`; never edited by hand. Each number is the median of `n`
rounds with the smallest and the largest round; contenders run in turn in the same run. Believe ratios more than
seconds.
"""


def page() -> str:
    parts = [HEAD]
    for file in sorted((HERE / "results").glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        machine = result["machine"]
        flags = ", ".join(machine["flags"]) or "none of the known ones"
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        parts.append(
            f"## {file.stem}\n\n`{result['command']}`, {result['date']}, commit {result['commit']}. {machine['cpu']}, "
            f"{machine['cores']} cores, {machine['memory_gb']} GB; flags: {flags}. {versions}.\n\n"
            "| measure | median | smallest to largest | n | held against |\n|---|---:|---:|---:|---|\n"
            + "".join(row(measure) for measure in result["measures"])
        )
        parts += [f"- {note}\n" for note in result.get("notes", [])]
    return "\n".join(parts)


def row(measure: dict[str, object]) -> str:
    return (
        f"| `{measure['name']}` | {measure['value']} {measure['unit']} | {measure['low']} to {measure['high']} "
        f"| {measure['n']} | {measure['baseline']} |\n"
    )


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
