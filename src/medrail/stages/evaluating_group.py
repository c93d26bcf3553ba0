"""Stage evaluate, of a group: what five seeds, or the folds of one data set, say together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.cases.listing import counted
from medrail.group import MEMBER_NOUN, Group, read_group
from medrail.stages.evaluating import evaluate_run
from medrail.stages.project import MakeProgress, StageResult, open_run, timed
from medrail.workspace import Run, read_json, write_json, write_text

if TYPE_CHECKING:
    from medrail.evaluate import Evaluation
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
            result = evaluate_run(*_member(group, run, asked), make_progress)
            report(replace(result, stage=f"{noun} {member.number}"))
            failed = failed or result.failed
        evaluations = _evaluations(group)
        put_together = _seeds if group.kind == "seeds" else _folds
        result = put_together(group, evaluations, asked)
    return replace(result, seconds=seconds(), failed=failed)


def _member(group: Group, run: Run, asked: Asked) -> tuple[Any, Run]:
    """Folds are always judged on their test cases; the validation cases are others' test cases."""
    sets = [*asked.sets, *(["evaluate.split=test"] if group.kind == "folds" else [])]
    project, _ = open_run(run.folder, sets, accept_leak=asked.accept_leak)
    return project, run


def _evaluations(group: Group) -> list[Evaluation]:
    from medrail.evaluate import Evaluation

    return [Evaluation.load(run) for run in group.runs]


def _seeds(group: Group, evaluations: Sequence[Evaluation], asked: Asked) -> StageResult:
    from medrail.evaluate.spread import spread

    names = [name for name in evaluations[0].metrics if all(name in one.metrics for one in evaluations)]
    labels = [run.name for run in group.runs]
    spreads = {
        name: spread({label: one.metrics[name] for label, one in zip(labels, evaluations, strict=True)})
        for name in names
    }
    first = evaluations[0]
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
            next(iter(spreads.values())).method,
            "the patients' intervals are each run's own; their methods stand in summary.json",
        ),
        files=(group.folder / SUMMARY_FILE,),
        values=values,
    )


def _two_sources(group: Group, spreads: Mapping[str, Spread]) -> tuple[tuple[str, str], ...]:
    """What varies between trainings, and below it what varies between patients, each under its own line."""
    seeds = [f"seed {member.number}" for member in group.members]
    rows = [("BETWEEN TRAININGS", f"mean     SD       95 % of the mean, n = {len(seeds)} seeds")]
    rows += [
        (f"  {name}", f"{one.mean:<7.4f}  {one.sd:<7.4f}  [{one.low:.4f}, {one.high:.4f}]")
        for name, one in spreads.items()
    ]
    rows.append(("BETWEEN PATIENTS", "  ".join(f"{seed:<24}" for seed in seeds) + "  (each run's own 95 %)"))
    rows += [
        (
            f"  {name}",
            "  ".join(f"{run.value:.4f} [{run.low:.4f}, {run.high:.4f}]".ljust(24) for run in one.runs.values()),
        )
        for name, one in spreads.items()
    ]
    return tuple(rows)


def _folds(group: Group, evaluations: Sequence[Evaluation], asked: Asked) -> StageResult:
    from medrail.evaluate.evaluation import CASE_FILE
    from medrail.evaluate.pooled import measure_pooled, pool, pooled_evaluation, pooled_table

    numbers = [member.number for member in group.members]
    files = {number: run.evaluation / CASE_FILE for number, run in zip(numbers, group.runs, strict=True)}
    pooled = pool({number: _answers(files[number], one) for number, one in zip(numbers, evaluations, strict=True)})
    settings = open_run(group.runs[0].folder, asked.sets)[0].config.evaluate
    metrics = measure_pooled(pooled, resamples=settings.resamples, seed=settings.seed)
    made_from = [*(one.fingerprint for one in evaluations), settings.resamples, settings.seed]
    fingerprint = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()
    evaluation = pooled_evaluation(pooled, metrics, evaluations, fingerprint)
    place = Run(group.folder)
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
                f"{one.value:.4f}  [{one.low:.4f}, {one.high:.4f}]  n = {one.n}   by fold: "
                + "  ".join(f"{part.metrics[name].value:.4f}" for part in evaluations if name in part.metrics),
            )
            for name, one in metrics.items()
        ),
        notes=tuple(dict.fromkeys(one.method for one in metrics.values())),
        files=(place.evaluation, group.folder / SUMMARY_FILE),
        warnings=tuple(f"{entry['case']}: {entry['reason']}" for entry in evaluation.failed),
        values=values,
    )


def _answers(path: Path, evaluation: Evaluation) -> Any:
    from medrail.evaluate.answers import read_answers

    return read_answers(path, tuple(evaluation.metrics))


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
