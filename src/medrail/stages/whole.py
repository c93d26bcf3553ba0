"""run_all: every stage in its turn; each skips what is up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medrail.errors import CaseError
from medrail.stages.checking import check, stop_on
from medrail.stages.evaluating import evaluate_run
from medrail.stages.exporting import export_run
from medrail.stages.preparing import prepare_cases
from medrail.stages.project import MakeProgress, Project, StageResult
from medrail.stages.training import train_run
from medrail.workspace import Run


def run_all(
    project: Project,
    report: Callable[[StageResult], None] = lambda _: None,
    make_progress: MakeProgress = lambda _: None,
) -> tuple[Run, Path]:
    """Check, prepare, train, evaluate, export; each stage's result goes to ``report`` as soon as it is there.

    Returns
    -------
    The run, and the bundle's folder.

    Raises
    ------
    LeakError, CaseError
        If the check's verdict is "stop". Single cases that cannot be prepared do not stop the others.
    """
    checked = check(project, make_progress)
    report(checked)
    if checked.failed:
        stop_on(checked, project)
    prepared = prepare_cases(project, make_progress)
    report(prepared)
    if prepared.values["failed"] and not prepared.values["succeeded"] + prepared.values["skipped"]:
        raise CaseError(
            "not one case could be prepared",
            where=str(project.workspace.root),
            remedy="The reasons stand above and in failures.csv; mend prepare.steps or the files, and repeat.",
        )
    run, trained = train_run(project, make_progress=make_progress)
    report(trained)
    evaluated = evaluate_run(project, run, make_progress)
    report(evaluated)
    # A project that is run as a whole has one bundle, of its newest run; what it replaced is said.
    exported = export_run(project, run, replace=True)
    report(exported)
    return run, Path(exported.values["bundle"])
