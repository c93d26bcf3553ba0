"""The judge: every candidate made, asked, timed and tested against the run as it was evaluated."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrail.bundle import Choice
from medrail.cases import write_table
from medrail.config import Config
from medrail.errors import MedrailError, RunError
from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import point
from medrail.evaluate.compare import DEFAULT_METRICS
from medrail.evaluate.noninferiority import NonInferiority, non_inferiority
from medrail.evaluate.same_cases import match_cases
from medrail.evaluate.verdict import lower_is_better
from medrail.slim.answering import SPLIT, Answered, answers_on_validation
from medrail.slim.candidates import Candidate, candidates_of
from medrail.slim.making import PLAIN, Making, size_mb
from medrail.slim.outcome import Kind, Outcome, Row, choose, with_verdicts
from medrail.slim.race import EAGER, SERVED, Runner, Timed, race
from medrail.types import Case
from medrail.workspace import Run, read_json, source_sha256, write_json

BASE, EAGER_NAME = "base", "eager"
UNSTEADY = 1.5
"""The base's slower quarter of rounds over its quicker one; seen on a machine that does nothing else: 1.2."""
UNSTRUCTURED = 0.5
"""Share of the weights that are zero in the row that shows what that is good for."""
ANSWERS, TABLE, TIMES, RESULT = "answers", "timed.csv", "times.json", "slim.json"


def judge(making: Making) -> Outcome:
    """Everything up to the choice; the test cases are not looked at.

    Candidates that cannot be made are named in ``notes``, and the others go on.

    Raises
    ------
    RunError
        If there are no validation cases, or the base cannot answer them.
    ConfigError
        If the metric is not one of the task.
    """
    config, run = making.config, making.run
    base_choice = making.base
    candidates, notes = candidates_of(config.slim, base_choice)
    base = _answered(making, run, BASE)
    metric = _metric(config, base.answers)
    made, unmade = _made(making, candidates, base_choice)
    answered = {}
    for name, (candidate, place) in list(made.items()):
        try:
            answered[name] = _answered(making, place, name)
        except MedrailError as error:  # the base has answered
            unmade.setdefault(_first(error), []).append(candidate)
            del made[name]
    lost: dict[str, RunError] = {}
    timed = _timed(making, {name: place for name, (_, place) in made.items()}, lost)
    for name, reason in lost.items():
        if name in made:
            unmade.setdefault(_first(reason), []).append(made.pop(name)[0])
    rows = [
        _row("as it was evaluated", "base", Candidate(0.0, base_choice), run, timed.get(BASE), base, None, metric),
        _eager(run, timed.get(EAGER_NAME)),
    ]
    for name, (candidate, place) in made.items():
        judged, why = _judged(base, answered[name], metric, config)
        kind: Kind = "unstructured" if candidate.unstructured else "candidate"
        row = _row(candidate.told, kind, candidate, place, timed.get(name), answered[name], judged, metric)
        rows.append(row if not why else _refused(row, why))
    less = lower_is_better(metric)
    verdicts = with_verdicts(rows, lower_is_better=less)
    return Outcome(
        run=run.name,
        metric=metric,
        margin=config.slim.margin,
        target_latency_ms=config.slim.target_latency_ms,
        n=len(base.answers.ids),
        patients=len(set(base.answers.patients)),
        rows=verdicts,
        chosen=choose(verdicts, config.slim.target_latency_ms, lower_is_better=less),
        notes=(*notes, *_why_unmade(unmade), *unsteady(timed.get(BASE))),
        unmade=sum(not candidate.unstructured for several in unmade.values() for candidate in several),
        machine=_machine(),
    )


def _answered(making: Making, run: Run, name: str) -> Answered:
    place = making.run.slim / ANSWERS / f"{name}.csv"
    told = making.make_progress(f"Judging {name}")
    return answers_on_validation(run, making.config, making.cases, place, told)


def _metric(config: Config, answers: Answers) -> str:
    known = answers.statistics()
    if config.slim.metric:
        if config.slim.metric not in known:
            non_inferiority(answers, answers, config.slim.metric, config.slim.margin, draws=1)  # says what there is
        return config.slim.metric
    usual = DEFAULT_METRICS["labels" if answers.multi_label else answers.task]
    return next(name for name in usual if name in known)


def _made(
    making: Making, candidates: Sequence[Candidate], base: Choice
) -> tuple[dict[str, tuple[Candidate, Run]], dict[str, list[Candidate]]]:
    """Name -> candidate and run, the unstructured one first; why others could not be made -> those."""
    found: dict[str, tuple[Candidate, Run]] = {}
    unmade: dict[str, list[Candidate]] = {}
    shown = [Candidate(UNSTRUCTURED, PLAIN if base != PLAIN else base, unstructured=True)]
    told = making.make_progress("Making candidates")
    everyone = [*shown, *candidates]
    for index, candidate in enumerate(everyone):
        if told:
            told(index, len(everyone), candidate.told)
        try:
            found[candidate.name] = (candidate, making.of(candidate))
        except MedrailError as error:
            unmade.setdefault(_first(error), []).append(candidate)
    if told:
        told(len(everyone), len(everyone), "")
    return found, unmade


def _why_unmade(unmade: Mapping[str, Sequence[Candidate]]) -> list[str]:
    """A sentence a reason."""
    found = []
    for reason, (first, *others) in unmade.items():
        more = f" and {len(others)} more" if others else ""
        found.append(f"{first.told}{more} could not be made or judged: {reason}")
    return found


def _first(error: MedrailError) -> str:
    return str(error).splitlines()[0]


def _judged(base: Answered, candidate: Answered, metric: str, config: Config) -> tuple[NonInferiority | None, str]:
    """The test, or why there is none."""
    lost = sorted(candidate.failed.keys() - base.failed.keys())
    if lost:
        return None, f"no answer in {len(lost)} cases that the base answers ({lost[0]}: {candidate.failed[lost[0]]})"
    matched = match_cases({"base": base.answers, "candidate": candidate.answers}, common=True)
    both = matched.answers
    return (
        non_inferiority(both["base"], both["candidate"], metric, config.slim.margin, seed=config.evaluate.seed),
        "",
    )


def _refused(row: Row, why: str) -> Row:
    return Row(**{**vars(row), "why_not": why})


def _row(
    told: str,
    kind: Kind,
    candidate: Candidate,
    run: Run,
    timed: Timed | None,
    answered: Answered,
    judged: NonInferiority | None,
    metric: str,
) -> Row:
    return Row(
        name=BASE if kind == "base" else candidate.name,
        told=told if kind != "base" else f"{told} ({candidate.choice})",
        kind=kind,
        ratio=candidate.ratio,
        precision=candidate.choice.precision,
        engine=candidate.choice.engine,
        run=run.folder.name if kind == "base" else f"{run.folder.parent.name}/{run.folder.name}",
        file_mb=size_mb(run),
        value=point(answered.answers.statistics()[metric], len(answered.answers.ids)),
        judged=judged,
        timed=timed,
    )


def _eager(run: Run, timed: Timed | None) -> Row:
    file_mb = round(run.best.stat().st_size / 1e6, 3)
    told = "torch, as one would serve it without exporting (fp32, eager)"
    return Row(EAGER_NAME, told, "eager", 0.0, "fp32", "torch", run.folder.name, file_mb, timed=timed)


@dataclass(frozen=True)
class _Asked:
    """What the times depend on."""

    table: Path
    runners: tuple[Runner, ...]
    fingerprint: str


def _timed(making: Making, runs: dict[str, Run], lost: dict[str, RunError]) -> dict[str, Timed]:
    """The race of all of them; as it was, if the same ones have raced on the same cases on this machine undisturbed.

    ``lost`` gets those that did not answer in it; then it is not kept.
    """
    asked = _asked(making, runs)
    place = making.run.slim / TIMES
    if place.is_file():
        known = read_json(place)
        if known.get("fingerprint") == asked.fingerprint:
            timed = {name: Timed.from_json(values) for name, values in known["timed"].items()}
            if not unsteady(timed.get(BASE)):
                return timed
    slim = making.config.slim
    found = race(
        asked.runners,
        asked.table,
        threads=making.config.serve.threads,
        rounds=slim.timed_rounds,
        lost=lost,
        progress=making.make_progress("Timing"),
    )
    if not lost:
        write_json(
            place, {"fingerprint": asked.fingerprint, "timed": {name: one.to_json() for name, one in found.items()}}
        )
    return found


def unsteady(base: Timed | None) -> tuple[str, ...]:
    """A sentence where the base's own rounds say that the machine had other things to do as well."""
    if base is None or len(base.rounds_ms) < 2:
        return ()
    first, _, third = statistics.quantiles(base.rounds_ms, n=4)
    if third <= UNSTEADY * first:
        return ()
    return (
        f"the machine was busy: the base itself took {first:.3g} ms or less in a quarter of the rounds and {third:.3g} "
        "ms or more in another, so do not trust the times; the same command times all anew when nothing else runs",
    )


def _asked(making: Making, runs: dict[str, Run]) -> _Asked:
    slim, table = making.config.slim, making.run.slim / TABLE
    cases = _evenly([case for case in making.cases if case.split == SPLIT], slim.timed_cases)
    write_table(cases, table, making.workspace.root)
    runners = (
        Runner(BASE, making.run, SERVED),
        Runner(EAGER_NAME, making.run, EAGER),
        *(Runner(name, run, SERVED) for name, run in runs.items()),
    )
    made_from = {
        "medrail": source_sha256(),
        "machine": _machine(),
        "cases": [case.id for case in cases],
        "threads": making.config.serve.threads,
        "rounds": slim.timed_rounds,
        "networks": [[one.name, _network_of(one.run)] for one in runners],
    }
    return _Asked(table, runners, hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest())


def _network_of(run: Run) -> list[Any]:
    described = read_json(run.network.with_name("network.json"))
    return [described["sha256"], described.get("engine")]


def _evenly(cases: Sequence[Case], count: int) -> list[Case]:
    ordered = sorted(cases, key=lambda case: case.id)
    count = min(count, len(ordered))
    return [ordered[index * len(ordered) // count] for index in range(count)]


def _machine() -> dict[str, Any]:
    """What speed hangs on: the processor with its flags, and how many of it this process may use."""
    from medrail.machine import processors
    from medrail.slim.processor import flags, processor_name

    return {"processor": processor_name(), "flags": list(flags()), "processors": processors()}
