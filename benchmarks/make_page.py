"""docs/benchmarks.md, and the tables of the READMEs and of statistics.md, from benchmarks/results/*.json."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
READMES = (HERE.parent / "README.md", HERE.parent / "README.zh-CN.md")

# The READMEs' table: who, and the measure of benchmarks/results/prepare.json that says how long and how much memory.
SPEED = (("medrail", "medrail"), ("SimpleITK", "simpleitk_threads"), ("TorchIO", "torchio"), ("MONAI", "monai"))
SPEED_HEAD = {
    "README.md": "| a CT series of 300 slices | to 128³ | peak memory | to 1 mm | peak memory |",
    "README.zh-CN.md": "| 一个 300 层的 CT 序列 | 重采样到 128³ | 峰值内存 | 重采样到 1 mm | 峰值内存 |",
}

STATISTICS = HERE.parent / "docs" / "explanation" / "statistics.md"
GOOD_COVERAGE = (93.0, 97.0)

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


def with_speed(name: str, text: str) -> str:
    """The README with its table, between its two marks, as the results say."""
    return _between(name, text, "speed", speed(SPEED_HEAD[name]))


def with_coverage(text: str) -> str:
    """statistics.md with the table of the intervals' coverage, between its two marks, as the results say."""
    return _between(STATISTICS.name, text, "coverage", coverage())


def _between(name: str, text: str, mark: str, table: str) -> str:
    before, begin, rest = text.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    if not begin or not end:
        raise SystemExit(f"{name}: no <!-- {mark} --> ... <!-- /{mark} --> to put the table into.")
    return before + begin + table + end + after


def coverage() -> str:
    """A row a number, a column a kind of study; what lies outside 93 to 97 % is bold."""
    result = json.loads((HERE / "results" / "intervals.json").read_text(encoding="utf-8"))
    cells: dict[str, dict[str, str]] = {}
    methods: dict[str, str] = {}
    for measure in result["measures"]:
        _, setting, name = measure["name"].split("/")
        low, high = GOOD_COVERAGE
        value = f"{measure['value']:.1f}"
        cells.setdefault(name, {})[setting] = value if low <= measure["value"] <= high else f"**{value}**"
        methods[name] = measure["baseline"].partition(";")[0]
    settings = list(dict.fromkeys(setting for row in cells.values() for setting in row))
    lines = [f"| number | interval | {' | '.join(settings)} |", "|---|---|" + "---:|" * len(settings)]
    lines += [
        f"| {name} | {methods[name]} | {' | '.join(row.get(setting, '') for setting in settings)} |"
        for name, row in cells.items()
    ]
    return "\n".join(["", *lines, "", *(f"- {note}" for note in result["notes"]), ""])


def speed(head: str) -> str:
    measures = json.loads((HERE / "results" / "prepare.json").read_text(encoding="utf-8"))["measures"]
    value = {measure["name"].removeprefix("prepare/"): float(measure["value"]) for measure in measures}
    lines = [head, "|---|---:|---:|---:|---:|"]
    for who, name in SPEED:
        cells = [who]
        for task in ("ct128", "ct1mm"):
            cells += [f"{value[f'{task}/{name}/seconds']:.2f} s", f"{value[f'{task}/peak_rss/{name}_mb']:,.0f} MB"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
    for readme in READMES:
        readme.write_text(with_speed(readme.name, readme.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"wrote the table of {readme}")
    STATISTICS.write_text(with_coverage(STATISTICS.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote the table of {STATISTICS}")


if __name__ == "__main__":
    main()
