"""Stage tune: prepared cases and a search space -> the settings that validate best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medrail.cases.listing import counted
from medrail.stages.preparing import usable_cases
from medrail.stages.project import MakeProgress, Project, StageResult, timed

if TYPE_CHECKING:
    from medrail.tune.tuned import Tuned

_SHOWN = 10


def tune_project(project: Project, make_progress: MakeProgress = lambda _: None) -> StageResult:
    """Trials until there are ``tune.trials`` of them; takes part in a study that has begun."""
    from medrail.tune import tune
    from medrail.tune.report import to_json

    with timed() as seconds:
        tuned = tune(
            project.config,
            project.workspace,
            usable_cases(project),
            table=project.cases,
            progress=make_progress("Tuning"),
        )
    counts = [f"{len(tuned.of('pruned'))} ended early", f"{len(tuned.of('failed'))} failed"]
    return StageResult(
        "tune",
        f"study {tuned.study}: {counted(len(tuned.trials), 'trial')} of {tuned.asked} ({', '.join(counts)})"
        + (f", best {tuned.goal.metric} {tuned.best.value:.4f} (trial {tuned.best.number})" if tuned.best else ""),
        facts=_facts(tuned),
        notes=tuple(tuned.notes),
        files=tuple(tuned.files),
        warnings=tuple(f"trial {trial.number} failed: {trial.reason}" for trial in tuned.of("failed")),
        seconds=seconds(),
        failed=tuned.best is None,
        values=to_json(tuned),
    )


def ranking(values: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The best trials as a table, header and rows: those of the front where there are two objectives.

    Parameters
    ----------
    values:
        Of ``tune_project``'s result.
    """
    trials = values["front"][:_SHOWN] or values["ranked"]
    keys = list(trials[0]["settings"]) if trials else []
    second = [] if values["second"] == "none" else [values["second"]]
    rows = [
        [
            str(trial["trial"]),
            f"{trial['value']:.4f}",
            *([f"{trial['second']:.4g}"] if second else []),
            *(_shown(trial["settings"][key]) for key in keys),
        ]
        for trial in trials
    ]
    return ["trial", values["metric"], *second, *keys], rows


def _facts(tuned: Tuned) -> tuple[tuple[str, str], ...]:
    """The best settings, and how much each decides."""
    shares = {one.key: f"  (decides {one.value:.0%}, {one.low:.0%} to {one.high:.0%})" for one in tuned.importance}
    found = tuned.best.settings.items() if tuned.best else ()
    return tuple((key, _shown(value) + shares.get(key, "")) for key, value in found)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
