"""The outcome as files: slim.json, tradeoff.png and index.html, one page that asks no network for anything."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path

from medrail.cases.check.page import safe
from medrail.cases.check.words import in_both
from medrail.charts import Mark, draw_marks
from medrail.evaluate.document import document
from medrail.evaluate.glossary import title_of
from medrail.evaluate.page import safe_both
from medrail.evaluate.verdict import has_unit, lower_is_better
from medrail.slim.outcome import Outcome, Row
from medrail.slim.race import Faster
from medrail.slim.words import WORDS
from medrail.workspace import write_json, write_text

RESULT_FILE, PAGE_FILE, PICTURE_FILE = "slim.json", "index.html", "tradeoff.png"
HEADER = (
    "candidate",
    "ms",
    "faster",
    "network",
    "rate",
    "file",
    "memory",
    "value",
    "difference",
    "unbeaten",
    "verdict",
)


def write_outcome(outcome: Outcome, folder: Path) -> tuple[Path, ...]:
    """Write the files, whole ones; slim.json last, so that what is broken off is not taken for a result."""
    picture = draw_tradeoff(outcome, folder / PICTURE_FILE)
    write_text(folder / PAGE_FILE, page(outcome, picture))
    write_json(folder / RESULT_FILE, outcome.to_json())
    return (folder / PAGE_FILE, folder / RESULT_FILE, picture)


def draw_tradeoff(outcome: Outcome, path: Path) -> Path:
    """Latency against the difference to the base, with intervals and the margin."""
    groups: dict[str, list[Mark]] = {}
    for row in outcome.rows:
        if row.timed is None or not (row.kind == "base" or (row.judged and math.isfinite(row.judged.difference))):
            continue
        group = {"base": "as evaluated", "unstructured": "zeros (unstructured)"}.get(row.kind, "")
        group = group or f"{row.engine} {row.precision}"
        groups.setdefault(group, []).append(_mark(row, chosen=row.name == outcome.chosen))
    margin = outcome.margin if lower_is_better(outcome.metric) else -outcome.margin
    drawn = [row for row in outcome.rows if row.front]
    title = title_of(outcome.metric)[0]
    return draw_marks(
        path,
        groups,
        title=f"{outcome.run}: latency and {title}, {outcome.patients} validation patients",
        x="milliseconds a case, from the file to the answer",
        y=f"difference of {title} to the run as evaluated",
        levels=[(0.0, ""), (margin, f"margin {outcome.margin:g}")],
        front=[(row.latency_ms, row.judged.difference if row.judged else 0.0) for row in drawn],
    )


def _mark(row: Row, *, chosen: bool) -> Mark:
    judged, label = row.judged, f"{row.ratio:.0%}" if row.ratio else ""
    if judged is None:
        return Mark(row.latency_ms, 0.0, math.nan, math.nan)
    if not judged.changed:  # nothing is known of what a change costs: an interval of that would hide all others
        return Mark(row.latency_ms, judged.difference, math.nan, math.nan, label, ring=chosen)
    return Mark(row.latency_ms, judged.difference, judged.low, judged.high, label, ring=chosen)


def header() -> tuple[str, ...]:
    """Of the table on a terminal."""
    return tuple(WORDS[word][0] for word in HEADER)


def table(outcome: Outcome) -> list[tuple[str, ...]]:
    """A row a candidate, for a terminal and for the page."""
    return [_cells(row, outcome) for row in outcome.rows]


def _cells(row: Row, outcome: Outcome) -> tuple[str, ...]:
    timed, judged = row.timed, row.judged
    form = ".4g" if has_unit(outcome.metric) else ".4f"
    difference = ""
    if judged and math.isfinite(judged.difference):
        bounds = ", ".join(f"{one:+{form}}" if math.isfinite(one) else "-" for one in (judged.low, judged.high))
        difference = f"{judged.difference:+{form}} [{bounds}]"
    return (
        row.told,
        f"{row.latency_ms:.3g}" if timed else "",
        _times(timed.faster) if timed else "",
        f"{timed.faster_network.value:.2f}x" if timed and timed.faster_network else "",
        f"{timed.cases_per_s:.3g}" if timed else "",
        f"{row.file_mb:.3g}",
        f"{timed.memory_mb:.0f}" if timed and math.isfinite(timed.memory_mb) else "",
        f"{row.value:{form}}" if math.isfinite(row.value) else "",
        difference,
        "*" if row.unbeaten else "",
        verdict_of(row, outcome)[0],
    )


def _times(faster: Faster | None) -> str:
    return f"{faster.value:.2f}x [{faster.low:.2f}, {faster.high:.2f}]" if faster else ""


def verdict_of(row: Row, outcome: Outcome) -> tuple[str, str]:
    """In English and Chinese."""
    if row.kind != "candidate":
        return WORDS[f"is_{row.kind}"]
    if not row.accepted:
        return row.why_not, row.why_not
    return WORDS["chosen" if row.name == outcome.chosen else "accepted"]


def page(outcome: Outcome, picture: Path) -> str:
    """The text of index.html."""
    sections = (
        _answer(outcome),
        _card("picture", _note("picture_means") + _figure(picture)),
        _table(outcome),
        _confirmed(outcome),
        _listed("notes", outcome.notes),
        _listed("methods", _methods(outcome)),
    )
    return document("slim", outcome.run, "".join(sections), _both)


def _answer(outcome: Outcome) -> str:
    done = _both("changed", run=outcome.result) if outcome.accepted and outcome.result else _both("unchanged")
    inside = f"<p><strong>{safe(outcome.sentence)}</strong></p><p>{done}</p>{_note('english')}"
    return _card("answer", inside, "" if outcome.accepted else "look")


def _table(outcome: Outcome) -> str:
    head = "".join(f'<th scope="col" class="name">{_both(word)}</th>' for word in HEADER)
    rows = []
    for row in outcome.rows:
        told, *cells, _ = _cells(row, outcome)
        verdict = safe_both(verdict_of(row, outcome))
        muted = ' class="muted"' if row.kind == "candidate" and not row.accepted else ""
        inside = "".join(_cell(word, cell) for word, cell in zip(HEADER[1:-1], cells, strict=True))
        rows.append(f'<tr{muted}><td class="name text">{safe(told)}</td>{inside}<td class="text">{verdict}</td></tr>')
    note = _note("table_means", n=outcome.n, patients=outcome.patients)
    body = f'<table class="operating"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return _card("table", f'{note}<div class="scroll">{body}</div>')


def _cell(word: str, cell: str) -> str:
    """With its name, for screens that are too narrow for a table; an interval stands below its value."""
    value, bracket, interval = cell.partition(" [")
    below = f' <span class="n interval">{safe(bracket[1:] + interval)}</span>' if bracket else ""
    return f'<td class="name"><span class="label">{_both(word)}</span> {safe(value)}{below}</td>'


def _confirmed(outcome: Outcome) -> str:
    if outcome.confirmed is None:
        return ""
    judged = outcome.confirmed.judged
    said = f"{judged.sentence(title_of(outcome.metric)[0])}; {judged.n} cases of {judged.patients} patients"
    inside = f"<p>{safe(said)}</p>{_note('confirmed_means', looks=outcome.confirmed.looks)}"
    return _card("confirmed", inside + _note("unseen", share=f"{judged.unseen:.1%}"))


def _methods(outcome: Outcome) -> Sequence[str]:
    methods = dict.fromkeys(row.judged.method for row in outcome.rows if row.judged)
    machine = outcome.machine
    flags = ", ".join(machine.get("flags", ())) or "none of the known ones"
    where = f"{machine.get('processor', '')}, {machine.get('processors', '')} processors; flags: {flags}"
    return (*methods, where) if machine else tuple(methods)


def _listed(title: str, lines: Sequence[str]) -> str:
    inside = "".join(f"<li>{safe(line)}</li>" for line in lines)
    return _card(title, f'<ul class="said">{inside}</ul>') if inside else ""


def _figure(picture: Path) -> str:
    data = base64.b64encode(picture.read_bytes()).decode("ascii")
    return f'<figure><img class="chart" alt="{safe(picture.stem)}" src="data:image/png;base64,{data}"></figure>'


def _both(word: str, **values: object) -> str:
    english, chinese = (text.format(**values) for text in WORDS[word])
    return in_both((english, chinese))


def _note(word: str, **values: object) -> str:
    return f'<p class="note">{_both(word, **values)}</p>'


def _card(title: str, inside: str, kind: str = "") -> str:
    return f'<section class="card{kind and " " + kind}"><h2>{_both(title)}</h2>{inside}</section>'
