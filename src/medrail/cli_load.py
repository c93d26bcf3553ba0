"""The verb that puts a running service under load."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from medrail.errors import ConfigError

if TYPE_CHECKING:
    from medrail.console import Console
    from medrail.loadtest.measure import Measured
    from medrail.loadtest.outcome import Outcome, StepResult

OK, FAILED = 0, 1
KEY_VARIABLE = "MEDRAIL_API_KEY"


def loadtest(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.console import shown
    from medrail.loadtest import Plan, load_test
    from medrail.loadtest.target import Target
    from medrail.loadtest.write import write_outcome

    target = Target.of(arguments.url, _key(arguments.key_file), arguments.ca_file, verify=not arguments.insecure)
    plan = Plan(
        scenario=arguments.scenario,
        inputs=tuple(arguments.input),
        users=arguments.users or (),
        rates=arguments.rate or (),
        every_s=arguments.every,
        think_s=arguments.think,
        seconds=arguments.seconds,
        limit_ms=arguments.limit_ms,
        error_share=arguments.max_errors,
        timeout_s=arguments.timeout,
        model=arguments.model,
        pid=arguments.pid,
        seed=arguments.seed,
    )

    def report(step: StepResult) -> None:
        console.err.print(_line(step), markup=False)

    outcome = load_test(target, plan, report)
    files = write_outcome(outcome, Path(arguments.out))
    console.line()
    console.grid(_HEADER, [_row(step) for step in outcome.steps])
    _say(outcome, console)
    console.line()
    for path in files:
        console.line(f"-> {shown(path)}")
    if console.as_json:
        console.json(outcome.to_json())
    return FAILED if outcome.failed else OK


_HEADER = ("load", "n", "requests/s [95 %]", "p50 ms", "p95 ms [95 %]", "p99 ms [95 %]", "errors", "cores", "MB")


def _row(step: StepResult) -> tuple[str, ...]:
    server = step.server
    return (
        _load(step),
        str(step.n),
        _with_interval(step.rps, ".3g"),
        "-" if step.latency_ms["p50"].value is None else f"{step.latency_ms['p50'].value:.0f}",
        _with_interval(step.latency_ms["p95"], ".0f"),
        _with_interval(step.latency_ms["p99"], ".0f"),
        str(step.errors),
        "" if server.cores is None else f"{server.cores:.2f}",
        "" if server.rss_mb is None else f"{server.rss_mb:.0f}",
    )


def _load(step: StepResult) -> str:
    if step.planned_rps is None:
        return f"{step.users} user{'' if step.users == 1 else 's'}"
    return f"{step.planned_rps:.3g}/s" + (f" ({step.users} users)" if step.users else "")


def _with_interval(measured: Measured, form: str) -> str:
    if measured.value is None:
        return "-"
    low, high = ("?" if bound is None else f"{bound:{form}}" for bound in (measured.low, measured.high))
    return f"{measured.value:{form}} [{low}, {high}]"


def _line(step: StepResult) -> str:
    p95 = step.p95.value
    told = "no right answer" if p95 is None else f"p95 {p95:.0f} ms, {step.rps.value:.3g} requests/s"
    return f"{_load(step)}: {told}, {step.errors} errors"


def _say(outcome: Outcome, console: Console) -> None:
    for found in (outcome.capacity, outcome.open_capacity):
        if found is not None and (found is outcome.capacity or found != outcome.capacity):
            console.line(f"\n{found.sentence}")
    kinds: dict[str, int] = {}
    for step in outcome.steps:
        for kind, count in step.error_kinds.items():
            kinds[kind] = kinds.get(kind, 0) + count
    if kinds:
        console.line("\nErrors:")
        console.bullets([f"{count} x {kind}" for kind, count in kinds.items()])
    if outcome.notes:
        console.line("\nTo know when reading this:")
        console.bullets(outcome.notes)
    if outcome.ended:
        console.error(f"{outcome.ended}; what was measured until then is kept")
    elif outcome.failed:
        console.error("not one request was answered as it must be")


def _key(file: str | None) -> str:
    """The first line of the file, else the environment's.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds no key.
    """
    if file is None:
        return os.environ.get(KEY_VARIABLE, "").strip()
    try:
        lines = Path(file).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        raise ConfigError("cannot be read", where=f"--key-file {file}", needed="a file with the key") from None
    if not lines:
        raise ConfigError("is empty", where=f"--key-file {file}", needed="a file with the key")
    return lines[0]
