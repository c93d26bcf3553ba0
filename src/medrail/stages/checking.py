"""Stage check: the data are judged, and corrected where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medrail.cases import CheckReport, check_data, write_table
from medrail.cases.check.page import page
from medrail.cases.listing import counted
from medrail.errors import CaseError, ConfigError, LeakError
from medrail.stages.project import MakeProgress, Project, StageResult, timed
from medrail.workspace import Workspace, write_json, write_text


def check(project: Project, make_progress: MakeProgress = lambda _: None, out: Path | None = None) -> StageResult:
    """Judge the data; the verdict "stop" makes the result ``failed``. Unchanged files are recalled, not read again.

    The verdict is written as check.json and as a page, into ``out`` where given, else into the project's folder.

    Raises
    ------
    ConfigError
        If ``out`` lies in the data's folder.
    """
    if out is not None:
        _refuse_data_folder(project, out)
    with timed() as seconds:
        report = _judged(project, make_progress)
        values = report.to_json()
        if project.bare:
            values["assumed"] = list(project.bare.assumed)
        files: tuple[Path, ...] = ()
        stopped = _stopped(report, project)
        if project.stored and not stopped:
            files = (write_cases(project),)
        if out is not None or project.stored:
            files = (*files, *_write_check(report, project, Workspace(out) if out is not None else project.workspace))
    return StageResult(
        "check",
        f"{counted(values['cases'], 'case')} of {counted(values['patients'], 'patient')}: {values['verdict']}"
        + (" (LEAK ACCEPTED)" if report.verdict == "stop" and not stopped else "")
        + "".join(f"; {finding.what}" for finding in report.findings if finding.defect == "unusable_cases"),
        facts=(*_columns(report.table), *report.measured()),
        notes=project.bare.assumed if project.bare else (),
        files=files,
        warnings=report.lines("warn"),
        stops=report.lines("stop"),
        seconds=seconds(),
        failed=stopped,
        values=values,
    )


def _judged(project: Project, make_progress: MakeProgress) -> CheckReport:
    from medrail.plan.bare import told_without
    from medrail.plan.patients import propose

    report = check_data(
        project.config,
        project.workspace,
        make_progress("Checking cases"),
        propose,
        without_labels="warn" if project.bare else "stop",
    )
    return told_without(report, project.bare, project.workspace.root) if project.bare else report


def _refuse_data_folder(project: Project, out: Path) -> None:
    """Nothing is written among the originals; a project that lies there may keep its own files in itself."""
    source = project.workspace.source(project.config.data.path)
    data = (project.bare.folder if project.bare else source if source.is_dir() else None) or None
    place, own = out.resolve(), project.workspace.root.resolve()
    if data is None or not place.is_relative_to(data.resolve()):
        return
    if project.stored and place.is_relative_to(own) and own.is_relative_to(data.resolve()):
        return
    raise ConfigError(
        "this lies in the data's folder",
        where=f"-o {out}",
        needed="another folder: medrail never writes beside the original images",
        remedy="Name one with -o FOLDER.",
    )


_LEAKS = frozenset({"exact_leak", "near_leak", "patient_leak"})


def _stopped(report: CheckReport, project: Project) -> bool:
    kinds = {finding.defect for finding in report.findings if finding.severity == "stop"}
    return bool(kinds - _LEAKS if project.accept_leak else kinds)


def fix(project: Project, out: Path, make_progress: MakeProgress = lambda _: None) -> StageResult:
    """Write a corrected case table into a folder, and judge it; the originals are not touched.

    Raises
    ------
    ConfigError
        If the folder lies in the data's.
    CaseError
        If no case is left.
    """
    from medrail.cases.check.fix import correct, fixed_config, table_path, write_correction

    out = out.resolve()  # the corrected table is read again, as a path of the configuration
    with timed() as seconds:
        report = _judged(project, make_progress)
        correction = correct(report, project.config)
        files = write_correction(correction, out, project.config, project.workspace)
        then = check_data(fixed_config(project.config, files[0]), project.workspace, make_progress("Checking again"))
    left = len(correction.left_out)
    return StageResult(
        "fix",
        f"{counted(then.cases, 'case')} of {counted(then.patients, 'patient')} kept, {left} left out; "
        f"the corrected table: {then.verdict}",
        facts=(*_columns(then.table), ("left out", str(left)), ("other split", str(correction.moved))),
        notes=(
            f"to use it: data.kind: csv, data.path: {table_path(files[0], project.workspace)}, split.by: given, and "
            "clear data.patient_pattern" + (" and data.label_columns" if project.config.data.label_columns else ""),
        ),
        files=files,
        warnings=then.lines("warn"),
        stops=then.lines("stop"),
        seconds=seconds(),
        failed=then.verdict == "stop",
        values={
            "table": str(files[0]),
            "left_out": [{"id": one.id, "where": one.where, "reason": one.reason} for one in correction.left_out],
            "joined": [list(group) for group in correction.joined],
            "moved": correction.moved,
            "verdict": then.verdict,
        },
    )


def using(project: Project, fixed: StageResult) -> tuple[str, ...]:
    """What must be set so that a project reads the corrected table; as ``--set`` takes it."""
    from medrail.cases.check.fix import as_sets, fixed_config, table_path

    table = table_path(Path(fixed.values["table"]), project.workspace)
    return as_sets(project.config, fixed_config(project.config, Path(table)))


def _write_check(report: CheckReport, project: Project, place: Workspace) -> tuple[Path, Path]:
    values = {**report.to_json(), "problems": [list(one) for one in report.problems]}
    write_json(place.check_report, values)
    write_text(place.check_page, page(report, Path(project.config.data.path).name or project.config.name))
    return place.check_page, place.check_report


def write_cases(project: Project) -> Path:
    """The case table as a file that a person can open."""
    write_table(project.cases, project.workspace.case_table, project.workspace.root)
    return project.workspace.case_table


def _columns(table: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    """A table with a header as rows of (first column, the others side by side)."""
    widths = [max(len(row[column]) for row in table) for column in range(1, len(table[0]))] if table else []
    return tuple(
        (row[0], "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))) for row in table
    )


def stop_on(checked: StageResult, project: Project) -> None:
    """Raise what a failed check means.

    Raises
    ------
    LeakError
        If one patient, or one image, stands in several splits.
    CaseError
        For every other reason.
    """
    leaks = any(checked.values["leaks"].values())
    kind = LeakError if leaks else CaseError
    accepting = " --accept-leak goes on in spite of leaks, and every result then says so." if leaks else ""
    raise kind(
        "the check says stop: what is listed above would make every result wrong",
        where=str(project.workspace.root),
        remedy=f"Mend it and repeat; `medrail check {project.workspace.root}` judges the data alone.{accepting}",
    )
