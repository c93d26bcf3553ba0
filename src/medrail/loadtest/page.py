"""The page of a load test: one HTML file that asks no network for anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medrail.cases.check.page import safe
from medrail.cases.check.words import in_both
from medrail.evaluate.document import document
from medrail.loadtest.curves import Axis, Curve, Point, draw
from medrail.loadtest.measure import Measured
from medrail.loadtest.outcome import CLOSED, OPEN, Outcome, StepResult
from medrail.loadtest.words import METHODS, WORDS

_PERCENTILES = ("p50", "p95", "p99")


def page(outcome: Outcome) -> str:
    """The text of index.html."""
    sections = (
        _answer(outcome),
        _steps(outcome),
        _loop(outcome, CLOSED, "users", lambda step: float(step.users)),
        _loop(outcome, OPEN, "planned arrivals a second", lambda step: step.planned_rps or 0.0),
        _server(outcome),
        _kinds(outcome),
        _errors(outcome),
        _listed("notes", outcome.notes),
        _listed("methods", (*METHODS, *_settings(outcome))),
    )
    return document("loadtest", f"{outcome.url}, {outcome.scenario}", "".join(sections), _both)


def _answer(outcome: Outcome) -> str:
    found = dict.fromkeys(one.sentence for one in (outcome.capacity, outcome.open_capacity) if one is not None)
    said = [f"<p><strong>{safe(sentence)}</strong></p>" for sentence in found]
    if not found:
        said.append(f"<p>{_both('no_capacity')}</p>")
    if outcome.ended:
        said.append(f"<p><strong>{_both('ended', why=outcome.ended)}</strong></p>")
    requests = sum(step.n for step in outcome.steps)
    errors = sum(step.errors for step in outcome.steps)
    most = max((step.rps.value or 0.0 for step in outcome.steps), default=0.0)
    tiles = (("most", f"{most:.3g}"), ("requests", f"{requests:,}"), ("errors", f"{errors:,}"))
    inside = "".join(f"<div><dt>{_both(word)}</dt><dd>{value}</dd></div>" for word, value in tiles)
    kind = "look" if outcome.failed or outcome.capacity is None or not outcome.capacity.users else ""
    return _card("answer", f'{"".join(said)}{_note("english")}<dl class="tiles">{inside}</dl>', kind)


def _steps(outcome: Outcome) -> str:
    head = ("load", "n", "rps", *_PERCENTILES, "errors", "cores", "memory", "client")
    rows = [
        (
            _load(step),
            f"{step.n:,}",
            _interval(step.rps, ".3g"),
            *(_interval(step.latency_ms[name], ".0f") for name in _PERCENTILES),
            f"{step.errors:,}",
            _known(step.server.cores, ".2f"),
            _known(step.server.rss_mb, ".0f"),
            f"{step.client_cores:.2f}",
        )
        for step in outcome.steps
    ]
    settings = outcome.settings
    note = _note("steps_means", warmup=settings["warmup_s"], timeout=settings["timeout_s"])
    return _card("steps", note + _table(head, rows))


def _loop(outcome: Outcome, mode: str, x: str, of: Callable[[StepResult], float]) -> str:
    """Latency and throughput against the load, of the steps of one mode."""
    steps = sorted((step for step in outcome.steps if step.mode == mode), key=of)
    if not any(step.p95.value is not None for step in steps):
        return ""
    latency = [
        Curve(name, [_point(of(step), step.latency_ms[name]) for step in steps if step.latency_ms[name].value])
        for name in _PERCENTILES
    ]
    speed = [Curve("right answers", [_point(of(step), step.rps) for step in steps])]
    limit = float(outcome.settings["limit_ms"])
    axis = Axis(x, log=mode == CLOSED and len(steps) > 1)
    left = draw(latency, axis, Axis("latency, ms", log=True), (limit, f"limit {limit:g} ms"))
    right = draw(speed, axis, Axis("requests a second"))
    return _card(mode, f'{_note(f"{mode}_means")}<div class="pair"><div>{left}</div><div>{right}</div></div>')


def _point(x: float, measured: Measured) -> Point:
    return Point(x, measured.value or 0.0, measured.low, measured.high)


def _server(outcome: Outcome) -> str:
    if not outcome.samples:
        return ""
    axis = Axis("seconds from the begin")
    cores = [Curve("cores", [Point(second, value) for second, value, _ in outcome.samples], dots=False)]
    memory = [Curve("memory", [Point(second, value) for second, _, value in outcome.samples], dots=False)]
    begins = [step.begin_s for step in outcome.steps]
    pair = f"<div>{draw(cores, axis, Axis('cores'), marks=begins)}</div>"
    pair += f"<div>{draw(memory, axis, Axis('resident memory, MB'), marks=begins)}</div>"
    return _card("server", f'{_note("server_means", how=outcome.watched)}<div class="pair">{pair}</div>')


def _kinds(outcome: Outcome) -> str:
    names = sorted({kind for step in outcome.steps for kind in step.by_kind})
    if len(names) < 2:
        return ""
    rows = [
        (
            _load(step),
            name,
            str(one["n"]),
            *(_known(one[f"{percentile}_ms"], ".0f") for percentile in _PERCENTILES),
            str(one["errors"]),
        )
        for step in outcome.steps
        for name in names
        if (one := step.by_kind.get(name))
    ]
    return _card("kinds", _table(("load", "kind", "n", *_PERCENTILES, "errors"), rows))


def _errors(outcome: Outcome) -> str:
    rows = [
        (_load(step), kind, str(count)) for step in outcome.steps for kind, count in step.error_kinds.items() if count
    ]
    return _card("wrong", _table(("load", "error", "count"), rows) if rows else f"<p>{_both('none')}</p>")


def _settings(outcome: Outcome) -> tuple[str, ...]:
    machine = outcome.machine
    told = ", ".join(f"{name} {value}" for name, value in outcome.settings.items() if value is not None)
    return (
        f"Machine of the client: {machine['cpu']}, {machine['cores']} cores, {machine['system']}.",
        f"Models: {', '.join(outcome.models)}. Begun {outcome.started}. Settings: {told}.",
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f'<th scope="col">{_both(word)}</th>' for word in head)
    body = "".join("<tr>" + "".join(f"<td>{safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _load(step: StepResult) -> str:
    if step.planned_rps is None:
        return f"{step.users} user{'' if step.users == 1 else 's'}"
    return f"{step.planned_rps:.3g}/s" + (f" ({step.users} users)" if step.users else "")


def _interval(measured: Measured, form: str) -> str:
    if measured.value is None:
        return "-"
    low, high = ("?" if bound is None else f"{bound:{form}}" for bound in (measured.low, measured.high))
    return f"{measured.value:{form}} [{low}, {high}]"


def _known(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _listed(title: str, lines: Sequence[str]) -> str:
    inside = "".join(f"<li>{safe(line)}</li>" for line in lines)
    return _card(title, f'<ul class="said">{inside}</ul>') if inside else ""


def _both(word: str, **values: object) -> str:
    english, chinese = (text.format(**values) for text in WORDS[word])
    return in_both((english, chinese))


def _note(word: str, **values: object) -> str:
    return f'<p class="note">{_both(word, **values)}</p>'


def _card(title: str, inside: str, kind: str = "") -> str:
    return f'<section class="card{kind and " " + kind}"><h2>{_both(title)}</h2>{inside}</section>'
