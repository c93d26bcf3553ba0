"""Stage evaluate, of a group: what five seeds, or the folds of one data set, say together."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.cases.listing import counted
from medrail.group import MEMBER_NOUN, Group, read_group
from medrail.stages.evaluating import evaluate_run
from medrail.stages.project import MakeProgress, Project, StageResult, open_run, timed
from medrail.workspace import Run, read_json, write_json, write_text

if TYPE_CHECKING:
    from medrail.evaluate import Evaluation
    from medrail.evaluate.bootstrap import Measured
    from medrail.evaluate.spread import Spread

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Asked:
    """What is asked of each member: overrides of evaluate.*, and whether leaks are accepted."""

    sets: tuple[str, ...] = ()
    accept_leak: bool = False


def evaluate_group(
    path: str | Path,
    asked: Asked | None = None,
    report: Callable[[StageResult], None] = lambda _: None,
    make_progress: MakeProgress = lambda _: None,
) -> StageResult:
    """Evaluate every member (each result goes to ``report``), then put them together.

    Seeds: mean, SD and t interval over the trainings, beside each one's interval over patients (summary.json).
    Folds: one evaluation of all cases, each by the network that had not seen it (evaluation/, summary.json).
    """
    asked = asked or Asked()
    with timed() as seconds:
        group = read_group(path)
        noun = MEMBER_NOUN[group.kind]
        failed = False
        for member, run in zip(group.members, group.runs, strict=True):
            result = evaluate_run(*member_project(group, run, asked), make_progress)
            report(replace(result, stage=f"{noun} {member.number}", notes=()))
            failed = failed or result.failed
        put_together = _seeds if group.kind == "seeds" else _folds
        result = put_together(group, _evaluations(group), asked)
    return replace(result, seconds=seconds(), failed=failed)


def member_project(group: Group, run: Run, asked: Asked) -> tuple[Project, Run]:
    """Folds are always judged on their test cases; the validation cases are others' test cases."""
    sets = [*asked.sets, *(["evaluate.split=test"] if group.kind == "folds" else [])]
    project, _ = open_run(run.folder, sets, accept_leak=asked.accept_leak)
    return project, run


def _evaluations(group: Group) -> list[Evaluation]:
    from medrail.evaluate import Evaluation

    return [Evaluation.load(run) for run in group.runs]


def _seeds(group: Group, evaluations: Sequence[Evaluation], asked: Asked) -> StageResult:
    spreads, first = _spreads(group, evaluations), evaluations[0]
    values = {
        **_about(group),
        "split": first.split,
        "n": first.n,
        "patients": first.patients,
        "metrics": {name: one.to_json() for name, one in spreads.items()},
    }
    write_json(group.folder / SUMMARY_FILE, values)
    seeds = counted(len(evaluations), "seed")
    return StageResult(
        "evaluate",
        f"{first.split} split: {counted(first.n, 'case')} of {counted(first.patients, 'patient')}, {seeds}",
        facts=_two_sources(group, spreads),
        notes=(
            *_by_method(spreads),
            "the patients' intervals are each run's own; their methods stand in summary.json",
        ),
        files=(group.folder / SUMMARY_FILE,),
        values=values,
    )


def _spreads(group: Group, evaluations: Sequence[Evaluation]) -> dict[str, Spread]:
    from medrail.evaluate.glossary import limits
    from medrail.evaluate.spread import spread

    names = [name for name in evaluations[0].metrics if all(name in one.metrics for one in evaluations)]
    labels = [run.name for run in group.runs]
    return {
        name: spread({label: one.metrics[name] for label, one in zip(labels, evaluations, strict=True)}, limits(name))
        for name in names
    }


def out_of_fold(group: Group, asked: Asked) -> Evaluation:
    """Of folds: the evaluation of all cases, made anew from the members' as they are.

    Raises
    ------
    RunError
        If a member is not evaluated.
    """
    return _pooled(group, _evaluations(group), asked)[0]


def _two_sources(group: Group, spreads: Mapping[str, Spread]) -> tuple[tuple[str, str], ...]:
    """What varies between trainings, and below it what varies between patients, each under its own line."""
    seeds = [f"seed {member.number}" for member in group.members]
    rows = [("BETWEEN TRAININGS", f"mean     SD       95 % of the mean, n = {len(seeds)} seeds")]
    rows += [
        (f"  {name}", f"{_number(one.mean):<7}  {_number(one.sd):<7}  {_bounds(one)}") for name, one in spreads.items()
    ]
    rows.append(("BETWEEN PATIENTS", "  ".join(f"{seed:<24}" for seed in seeds) + "  (each run's own 95 %)"))
    rows += [
        (
            f"  {name}",
            "  ".join(f"{_number(run.value)} {_bounds(run)}".ljust(24) for run in one.runs.values()),
        )
        for name, one in spreads.items()
    ]
    return tuple(rows)


def _pooled(group: Group, evaluations: Sequence[Evaluation], asked: Asked) -> tuple[Evaluation, dict[int, Path]]:
    """The evaluation of all folds' cases, and each fold's table."""
    from medrail.evaluate.evaluation import CASE_FILE
    from medrail.evaluate.pooled import measure_pooled, pool, pooled_evaluation

    numbers = [member.number for member in group.members]
    files = {number: run.evaluation / CASE_FILE for number, run in zip(numbers, group.runs, strict=True)}
    pooled = pool({number: _answers(files[number], one) for number, one in zip(numbers, evaluations, strict=True)})
    settings = member_project(group, group.runs[0], asked)[0].config.evaluate
    measured = measure_pooled(pooled, resamples=settings.resamples, seed=settings.seed)
    # Those that each member has, under the same names: with two classes ppv is that of the second, and said once.
    shared = [name for name in evaluations[0].metrics if all(name in one.metrics for one in evaluations)]
    metrics = {name: measured[name] for name in shared if name in measured}
    made_from = [*(one.fingerprint for one in evaluations), settings.resamples, settings.seed]
    fingerprint = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()
    return pooled_evaluation(pooled, metrics, evaluations, fingerprint), files


def _folds(group: Group, evaluations: Sequence[Evaluation], asked: Asked) -> StageResult:
    from medrail.evaluate.evaluation import CASE_FILE
    from medrail.evaluate.pooled import pooled_table

    evaluation, files = _pooled(group, evaluations, asked)
    numbers, metrics, place = list(files), evaluation.metrics, Run(group.folder)
    write_text(place.evaluation / CASE_FILE, pooled_table(files))
    _write_images(group, place)
    evaluation.save(place)
    folds = [
        {
            "run": run.name,
            "fold": number,
            "n": one.n,
            "metrics": {name: measured.to_json() for name, measured in one.metrics.items()},
        }
        for run, number, one in zip(group.runs, numbers, evaluations, strict=True)
    ]
    values = {**_about(group), **evaluation.to_json(), "folds": folds}
    write_json(group.folder / SUMMARY_FILE, values)
    return StageResult(
        "evaluate",
        f"out of fold: {counted(evaluation.n, 'case')} of {counted(evaluation.patients, 'patient')}, "
        f"{counted(len(numbers), 'fold')}",
        facts=tuple(
            (
                name,
                f"{_number(one.value)}  {_bounds(one):<16}  n = {one.n:<5} by fold: "
                + "  ".join(_number(part.metrics[name].value) for part in evaluations),
            )
            for name, one in metrics.items()
        ),
        notes=_by_method(metrics),
        files=(place.evaluation, group.folder / SUMMARY_FILE),
        warnings=tuple(f"{entry['case']}: {entry['reason']}" for entry in evaluation.failed),
        values=values,
    )


def _by_method(metrics: Mapping[str, Measured] | Mapping[str, Spread]) -> tuple[str, ...]:
    """Each method once, after the metrics that it is of."""
    methods: dict[str, list[str]] = {}
    for name, one in metrics.items():
        methods.setdefault(one.method, []).append(name)
    return tuple(f"{', '.join(names)}: {method}" for method, names in methods.items())


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"


def _bounds(one: Measured | Spread) -> str:
    return f"[{_number(one.low)}, {_number(one.high)}]"


def _answers(path: Path, evaluation: Evaluation) -> Any:
    from medrail.evaluate.answers import read_answers

    return read_answers(path, tuple(evaluation.metrics), multi_label=evaluation.multi_label)


def _write_images(group: Group, place: Run) -> None:
    """The digests of the cases, so that who compares two groups knows whether they judged the same images."""
    known: dict[str, dict[str, str]] = {"sha256": {}, "masks": {}}
    for run in group.runs:
        recorded = read_json(run.images)
        for key, digests in known.items():
            digests |= recorded.get(key, {})
    write_json(place.images, {"format": 1, **known})


def _about(group: Group) -> dict[str, Any]:
    return {"group": str(group.folder), "kind": group.kind, "runs": [run.name for run in group.runs]}
