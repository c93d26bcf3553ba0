"""Stage train: prepared cases -> a Run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrail.stages.preparing import usable_cases
from medrail.stages.project import MakeProgress, Project, StageResult, timed
from medrail.workspace import Run, read_json


def train_run(
    project: Project, run_name: str | None = None, make_progress: MakeProgress = lambda _: None
) -> tuple[Run, StageResult]:
    """Prepared cases -> a Run; an unfinished run of the same configuration and data is resumed, a finished one kept."""
    from medrail.train import train

    with timed() as seconds:
        started = time.time()
        run = train(
            project.config,
            project.workspace,
            usable_cases(project),
            run_name=run_name,
            progress=make_progress("Training"),
            table=project.cases,
        )
        passport = read_json(run.passport)
    last = _last_line(run.metrics)
    up_to_date = run.passport.stat().st_mtime < started
    shown = {name: value for name, value in last.items() if isinstance(value, float) and name not in _NOT_SHOWN}
    facts = tuple((f"last {name}", f"{value:.4g}") for name, value in shown.items())
    return run, StageResult(
        "train",
        f"{project.config.model.name} {project.config.model.dims}-D, {last.get('epoch', '?')} epochs, run {run.name}",
        facts=facts,
        notes=(*passport.get("result", {}).get("notes", ()), *_without_budget(passport.get("schedule") or {})),
        files=(run.best, run.metrics, run.passport),
        up_to_date=up_to_date,
        seconds=seconds(),
        values={"run": str(run.folder), "fingerprint": passport.get("fingerprint", ""), "last_epoch": last},
    )


def _without_budget(schedule: Mapping[str, Any]) -> tuple[str, ...]:
    """How --seeds and --folds, which take no time budget, do the same."""
    from medrail.train.schedule import as_sets

    if not schedule.get("minutes"):
        return ()
    sets = " ".join(f"--set {entry}" for entry in as_sets(schedule))
    return (f"the same epochs without the budget, as --seeds and --folds need it: {sets}",)


_NOT_SHOWN = ("lr", "seconds")


def _last_line(path: Path) -> dict[str, Any]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return dict(json.loads(lines[-1])) if lines else {}
