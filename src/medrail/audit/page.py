"""A summary as files: audit.json, and audit.html, one page that asks no network for anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medrail.audit.logs import Found
from medrail.audit.summary import Summary
from medrail.audit.words import WORDS
from medrail.cases.check.charts import COLOURS, bars
from medrail.cases.check.page import safe
from medrail.cases.check.words import in_both
from medrail.evaluate.document import document
from medrail.workspace import write_json, write_text

PAGE_FILE, RESULT_FILE = "audit.html", "audit.json"
PERCENTILES = ("p50", "p95", "p99")
_WIDTH, _LABEL, _NUMBER, _ROW = 560, 90, 70, 26
_MOST_BARS = 60


def write_summary(summary: Summary, found: Found, folder: Path) -> tuple[Path, Path]:
    """Write both files, whole ones."""
    write_json(folder / RESULT_FILE, as_json(summary, found))
    write_text(folder / PAGE_FILE, page(summary, found))
    return folder / PAGE_FILE, folder / RESULT_FILE


def as_json(summary: Summary, found: Found) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {**asdict(found), **asdict(summary)}


def page(summary: Summary, found: Found) -> str:
    """The text of audit.html."""
    sections = [_counts(summary, found)]
    if summary.requests:
        sections += [
            _bars("by_day", summary.by_day),
            _latency(summary.latency_ms),
            _bars("by_model", summary.by_model),
            *(_answers(summary, model) for model in summary.answers),
            _bars("problems", {kind: {"": count} for kind, count in summary.problems.items()}),
            _bars("jobs", {status: {"": count} for status, count in summary.jobs.items()}),
            _bars("by_route", summary.by_route),
            _bars("by_key", summary.keys),
        ]
    return document("audit summary", "audit.jsonl", "".join(sections), _both)


def _counts(summary: Summary, found: Found) -> str:
    note = f'<p class="note">{_both("read", **asdict(found))}</p>'
    if not summary.requests:
        return _card("counts", f"<p>{_both('nothing')}</p>{note}")
    begins = {
        name: sum(n for status, n in summary.by_status.items() if status.startswith(digit))
        for name, digit in (("refused", "4"), ("failed", "5"))
    }
    tiles: dict[str, float] = {"requests": summary.requests, **begins}
    if summary.peak_mb is not None:
        tiles["peak"] = round(summary.peak_mb)
    drawn = "".join(f"<div><dt>{_both(word)}</dt><dd>{value:,}</dd></div>" for word, value in tiles.items())
    when = _both("from_to", first=_minute(summary.first), last=_minute(summary.last))
    return _card("counts", f'<dl class="tiles">{drawn}</dl><p>{when}</p>{note}')


def _minute(moment: str | None) -> str:
    return (moment or "")[:16].replace("T", " ")


def _bars(word: str, rows: Mapping[str, Mapping[str, int]]) -> str:
    """A bar a row, its parts by status; of very many rows the last ones."""
    if not rows:
        return ""
    kept = dict(list(rows.items())[-_MOST_BARS:])
    visible = {_shown(row): {_shown(part): n for part, n in parts.items()} for row, parts in kept.items()}
    return _card(word, bars(visible, WORDS[word][0]))


def _answers(summary: Summary, model: str) -> str:
    counts = summary.answers[model]
    told = {
        "n": summary.answered[model],
        "abstained": summary.abstained.get(model, 0),
        "unlike": summary.unlike_training.get(model, 0),
    }
    drawn = bars(
        {_shown(name): {"": count} for name, count in counts.items()}, f"{WORDS['answers'][0]}: {_shown(model)}"
    )
    return _card("answers", f'{drawn}<p class="note">{_both("answers_means", **told)}</p>', about=model)


def _latency(latency_ms: Mapping[str, Mapping[str, float | int | None]]) -> str:
    if not latency_ms:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("n", *PERCENTILES))
    rows = "".join(
        f'<tr><td class="name">{safe(stage)}</td>' + "".join(f"<td>{_ms(row[name])}</td>" for name in row) + "</tr>"
        for stage, row in latency_ms.items()
    )
    table = f'<table><thead><tr><th scope="col">{_both("stage")}</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
    note = f'<p class="note">{_both("latency_means")}</p>'
    return _card("latency", f'{_spans(latency_ms)}<div class="scroll">{table}</div>{note}')


def _spans(latency_ms: Mapping[str, Mapping[str, float | int | None]]) -> str:
    """A line a stage from p50 to its last percentile, on a logarithmic scale; the marks differ in size, too."""
    found = [float(row[name] or 0) for row in latency_ms.values() for name in PERCENTILES if row[name]]
    if not found:
        return ""
    low, high = math.floor(math.log10(max(min(found), 1e-3))), math.ceil(math.log10(max(found)) + 1e-9)
    wide = _WIDTH - _LABEL - _NUMBER

    def at(value: float) -> float:
        return _LABEL + (math.log10(max(value, 10.0**low)) - low) / max(high - low, 1) * wide

    tall = len(latency_ms) * _ROW
    drawn = []
    for power in range(low, high + 1):
        x = at(10.0**power)
        drawn.append(f'<path d="M{x:.1f} 0V{tall}" stroke="currentColor" opacity=".2"/>')
        drawn.append(f'<text x="{x:.1f}" y="{tall + 16}" text-anchor="middle">{10.0**power:g} ms</text>')
    for place, (stage, row) in enumerate(latency_ms.items()):
        y = place * _ROW + _ROW / 2
        points = [(name, float(value)) for name in PERCENTILES if (value := row[name]) is not None]
        drawn.append(f'<text x="{_LABEL - 10}" y="{y + 4:.0f}" text-anchor="end">{safe(stage)}</text>')
        if points:
            ends = f"M{at(points[0][1]):.1f} {y}H{at(points[-1][1]):.1f}"
            drawn.append(f'<path d="{ends}" stroke="{COLOURS[0]}" stroke-width="3"/>')
        for size, (name, value) in zip((6, 4.5, 3), points, strict=False):
            hint = f"{stage} {name}: {_ms(value)} ms"
            colour = COLOURS[PERCENTILES.index(name)]
            drawn.append(
                f'<circle cx="{at(value):.1f}" cy="{y}" r="{size}" fill="{colour}"><title>{safe(hint)}</title></circle>'
            )
    label = "; ".join(
        f"{stage}: " + ", ".join(f"{p} {_ms(row[p])} ms" for p in PERCENTILES if row[p] is not None)
        for stage, row in latency_ms.items()
    )
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {tall + 22}" style="max-width:{_WIDTH}px" role="img" '
        f'aria-label="{safe(label)}">{"".join(drawn)}</svg>'
    )


def _ms(value: float | int | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _shown(text: str) -> str:
    """A log may have been written by anyone: letters that turn or hide others are left out."""
    return "".join(letter for letter in text if letter.isprintable())


def _card(word: str, inside: str, about: str = "") -> str:
    named = f' <span class="where">{safe(about)}</span>' if about else ""
    return f'<section class="card"><h2>{_both(word)}{named}</h2>{inside}</section>'


def _both(word: str, **values: object) -> str:
    english, chinese = (text.format(**values) for text in WORDS[word])
    return in_both((english, chinese))
