"""A comparison as files: compare.md for a person, compare.csv for a spreadsheet, compare.json, and pictures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from medrail.charts import Row, draw_intervals
from medrail.evaluate.comparison import Compared, Comparison
from medrail.evaluate.comparison_tables import Table, between, p_text, tables
from medrail.evaluate.verdict import has_unit
from medrail.workspace import write_json, write_text

NOT_A_DEVICE = "Not a medical device: for research and education only."
_READ = """\
A difference is the run less what it is held against. "no difference shown" does not mean equal: the interval says how
large a difference may still be. Tests take each patient as one witness. Choosing the best run by these test cases and
then reporting its number from them makes the number too good; choose by validation cases.
"""
_CSV = (
    *("metric", "run", "less", "difference", "low", "high", "p", "p_corrected", "verdict", "n", "patients"),
    *("effect", "method"),
)


def write_comparison(comparison: Comparison, folder: Path, *, pictures: bool = True) -> tuple[Path, ...]:
    """Write the files, whole ones; pictures need matplotlib.

    Raises
    ------
    ModuleNotFoundError
        If ``pictures`` are asked for without it; the other files are written before.
    """
    write_json(folder / "compare.json", comparison.to_json())
    write_text(folder / "compare.csv", as_csv(comparison))
    write_text(folder / "compare.md", as_markdown(comparison))
    drawn = draw_comparison(comparison, folder) if pictures else ()
    if drawn:
        write_text(folder / "compare.md", as_markdown(comparison, drawn))
    return (folder / "compare.md", folder / "compare.csv", folder / "compare.json", *drawn)


def as_csv(comparison: Comparison) -> str:
    """One row a test."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV)
    for one in comparison.tests:
        test = one.test
        numbers = [test.difference, test.low, test.high, test.p, one.p_corrected]
        cells = [f"{number:.6g}" if math.isfinite(number) else "" for number in numbers]
        effect = " ".join(f"{name}={value:.4g}" for name, value in {**test.effect, **test.counts}.items())
        writer.writerow([test.metric, one.b, one.a, *cells, one.verdict, test.n, test.patients, effect, test.method])
    return text.getvalue()


def as_markdown(comparison: Comparison, pictures: Sequence[Path] = ()) -> str:
    """The page: how to read it, warnings, every table, the methods, the further tests."""
    names = ", ".join(one.name for one in comparison.runs)
    parts = [f"# Comparison: {names}", f"{NOT_A_DEVICE} Reference: {comparison.reference}.", _READ.rstrip()]
    if comparison.warnings:
        parts.append("\n".join(f"- **{warning}**" for warning in comparison.warnings))
    for table in tables(comparison):
        parts += [f"## {table.title}", _markdown(table)]
    parts += [f"![{path.stem}]({path.name})" for path in pictures]
    methods: dict[str, list[str]] = {}
    for one in comparison.tests:
        methods.setdefault(one.test.method, []).append(f"{one.test.metric} ({one.b})")
    lines = [f"- {', '.join(dict.fromkeys(tests))}: {method}" for method, tests in methods.items()]
    if comparison.caution:
        lines.append(f"- {comparison.caution[0].upper()}{comparison.caution[1:]}.")
    if lines:
        parts += ["## How it was tested", "\n".join(lines)]
    further = [_further(one) for one in comparison.tests if one.test.further]
    if further:
        parts += [
            "## The same asked another way",
            "Not corrected, and not there to be chosen from: if these tell another story than the tests above, say so.",
            "\n".join(further),
        ]
    return "\n\n".join(parts) + "\n"


def _further(one: Compared) -> str:
    told = [
        f"{other.method}: {between(other.difference, other.low, other.high, signed=True)}, p {p_text(other.p)}"
        for other in one.test.further
    ]
    return f"- {one.test.metric}, {one.b} less {one.a}: {'; '.join(told)}"


def _markdown(table: Table) -> str:
    rows = [table.header, tuple("---" for _ in table.header), *table.rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def draw_comparison(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """differences.png and metrics.png of what lies between 0 and 1; metrics with units have pictures of their own."""
    drawn = []
    tests = list(comparison.tests)
    plain = [one for one in tests if not has_unit(one.test.metric)]
    if plain:
        drawn.append(_forest(folder / "differences.png", plain, "difference"))
    for metric in dict.fromkeys(one.test.metric for one in tests if has_unit(one.test.metric)):
        mine = [one for one in tests if one.test.metric == metric]
        drawn.append(_forest(folder / f"differences-{metric.replace('/', '-')}.png", mine, f"difference of {metric}"))
    rows = [
        Row(f"{metric}  {one.name}", measured.value, measured.low, measured.high, note=f"{measured.value:.3f}")
        for metric in comparison.metrics
        if not has_unit(metric)
        for one in comparison.runs
        if (measured := one.metrics.get(metric)) is not None
    ]
    if rows:
        title = f"Metrics with 95 % intervals, n = {comparison.n}"
        drawn.append(draw_intervals(folder / "metrics.png", rows, title=title, x="value"))
    return tuple(drawn)


def _forest(path: Path, tests: Sequence[Compared], x: str) -> Path:
    rows = [
        Row(
            f"{one.test.metric}  {one.b} - {one.a}",
            one.test.difference,
            one.test.low,
            one.test.high,
            muted=one.verdict not in ("better", "worse"),
            note=f"p corrected {p_text(one.p_corrected)}",
        )
        for one in tests
    ]
    return draw_intervals(path, rows, title="Differences with 95 % intervals", x=x, reference=0.0)
