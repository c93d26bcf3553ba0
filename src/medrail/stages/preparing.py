"""Stage prepare: raw images -> model-ready arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medrail.cases.listing import counted
from medrail.errors import RunError
from medrail.prepare import PrepareReport, outdated, prepare, store_of
from medrail.stages.project import MakeProgress, Project, StageResult, timed
from medrail.types import Case


def prepare_cases(project: Project, make_progress: MakeProgress = lambda _: None) -> StageResult:
    """Raw files -> model-ready arrays; cases that fail are named, the others go on."""
    with timed() as seconds:
        report = prepare(
            project.config, project.workspace, project.cases, make_progress("Preparing"), complete=project.stored
        )
    ready = report.succeeded + report.skipped
    folder = store_of(project.config, project.workspace).folder
    return StageResult(
        "prepare",
        f"{ready} of {report.cases} cases ready ({report.success_rate:.1%}), {len(report.failed)} failed",
        facts=_prepare_facts(report) if report.succeeded else (),
        files=(folder, folder / "failures.csv") if report.failed else (folder,),
        warnings=(*report.notes, *_alike(report.failed)),
        up_to_date=report.skipped == report.cases and not report.seconds_by_step,
        seconds=seconds(),
        failed=bool(report.failed),
        values=report.to_json(),
    )


def _alike(failed: Sequence[tuple[str, str]]) -> list[str]:
    """One line for many cases that failed for the same reason, as one wrong setting makes them."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for case, reason in failed:
        groups.setdefault(_PLACE.sub("", reason), []).append((case, reason))
    lines = []
    for group in groups.values():
        case, reason = group[0]
        lines.append(f"{case}: {reason}" if len(group) == 1 else f"{len(group)} cases, as {case}: {reason}")
    return lines


_PLACE = re.compile(r"\S*[/\\]\S*")  # paths, by which reasons differ that are the same


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


_SHOWN = 0.01  # of the time


def _prepare_facts(report: PrepareReport) -> tuple[tuple[str, str], ...]:
    """Speed, memory, and where the time of all workers went."""
    spent = sum(report.seconds_by_step.values())
    slowest = sorted(report.seconds_by_step.items(), key=lambda item: item[1], reverse=True)
    peak = "unknown" if report.peak_rss_mb is None else f"{report.peak_rss_mb:.0f} MB"
    return (
        ("made now", f"{report.succeeded}, already up to date {report.skipped}"),
        ("speed", f"{_rate(report.cases_per_s)} cases/s, {_rate(report.input_mb_per_s)} MB/s of files"),
        ("stored", f"{report.output_mb:,.1f} MB"),
        ("memory", f"{peak} in the largest of {counted(report.workers, 'process', 'processes')}"),
        *(
            (f"  {step}", f"{seconds:.2f} s, {seconds / spent:.0%}")
            for step, seconds in slowest
            if seconds > spent / 100
        ),
    )


def usable_cases(project: Project) -> tuple[Case, ...]:
    """The cases whose prepared arrays are in the store, all of them made from the files and labels as they are now.

    Raises
    ------
    RunError
        If nothing has been prepared with this configuration's pipeline, or something has changed since.
    """
    cases = in_store(project, project.cases)
    if old := outdated(project.config, project.workspace, project.cases):
        named = ", ".join(old[:_NAMED]) + (", ..." if len(old) > _NAMED else "")
        raise RunError(
            f"{len(old)} of {len(project.cases)} cases were changed or added since the last `medrail prepare`: {named}",
            where=str(project.workspace.prepared),
            remedy=f"Run `medrail prepare {project.workspace.root}` first.",
        )
    return cases


def in_store(project: Project, cases: Sequence[Case]) -> tuple[Case, ...]:
    ready = set(store_of(project.config, project.workspace).ids())
    prepared = tuple(case for case in cases if case.id in ready)
    if not prepared:
        raise RunError(
            "no case is prepared with this configuration's steps",
            where=str(project.workspace.prepared),
            remedy=f"Run `medrail prepare {project.workspace.root}` first.",
        )
    return prepared


_NAMED = 5
