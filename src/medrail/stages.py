"""The stages in order: configuration -> cases -> prepared data -> Run -> Evaluation -> Bundle.

``run_all(project)`` does them all; each stage compares fingerprints and skips what is up to date, so that a changed
setting redoes only what depends on it. Each stage can also be called alone, and each returns a ``StageResult`` that a
person can read. Heavy libraries are imported inside the stage that needs them.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from medrail.cases import (
    CheckReport,
    Leaked,
    build_cases,
    check_data,
    find_leaks_of,
    leak_sentence,
    read_record,
    write_table,
)
from medrail.cases.check.page import page
from medrail.cases.listing import counted
from medrail.cases.record import SEEN_BEFORE
from medrail.config import Config, load
from medrail.errors import BundleError, CaseError, ConfigError, LeakError, MedrailError, RunError
from medrail.machine import collecting_seldom
from medrail.prepare import PrepareReport, check_steps, outdated, prepare, store_of
from medrail.types import Case, Progress
from medrail.workspace import Run, Workspace, read_json, write_json, write_text

if TYPE_CHECKING:
    from medrail.plan.bare import Bare

MakeProgress = Callable[[str], "Progress | None"]


@dataclass(frozen=True)
class Project:
    """A configuration and its folder.

    stored:
        False: nothing is written, data are judged where they lie.
    accept_leak:
        Whether cases are judged that the network has seen in training; every result then says so.
    bare:
        Of data without configuration: what was inferred.
    """

    config: Config
    workspace: Workspace
    stored: bool = True
    accept_leak: bool = False
    bare: Bare | None = None

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The case table, built from the data's layout and written to cases.csv.

        Raises
        ------
        DataError
            If the data cannot be turned into one; every bad row or file at once.
        """
        with collecting_seldom():
            cases = build_cases(self.config, self.workspace, accept_leak=self.accept_leak)
            if self.stored:
                write_table(cases, self.workspace.case_table, self.workspace.root)
        return cases


@dataclass(frozen=True)
class StageResult:
    """What one stage did: one line, a small table with notes, the files, and the values behind them.

    stops:
        Of a stage that judges: what stops, apart from ``warnings``; None for the others.
    """

    stage: str
    summary: str
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    stops: tuple[str, ...] | None = None
    up_to_date: bool = False
    seconds: float = 0.0
    failed: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)


def open_project(config_path: str | Path, sets: Sequence[str] = (), *, accept_leak: bool = False) -> Project:
    """Load the configuration of a project: its folder, or the file in it.

    Raises
    ------
    ConfigError
        With every mistake of the configuration at once.
    """
    config = load(config_path, sets, step_check=check_steps)
    return Project(config, Workspace.of_config(config_path), accept_leak=accept_leak)


def open_run(path: str | Path, sets: Sequence[str] = (), *, accept_leak: bool = False) -> tuple[Project, Run]:
    """A run folder, or a project whose newest run is meant, with the configuration the run was trained with.

    How it is evaluated, exported and served is no part of the training: for a project that comes from its medrail.yaml
    as it is now.

    Raises
    ------
    RunError
        If there is no run.
    ConfigError
        If ``sets`` changes what the run was trained with.
    """
    path = Path(path)
    is_run = (path / "passport.json").is_file() and (path / "config.yaml").is_file()
    if is_run:
        run = Run(path.resolve())
    else:
        if not path.exists():
            raise ConfigError(
                "there is no such folder",
                needed="a run, or a project folder with runs",
                where=str(path),
                remedy="`medrail train PROJECT` makes one.",
            )
        run = Workspace.of_config(path).newest_run()
    trained = load(run.config_file, step_check=check_steps)
    changed = load(run.config_file, sets, step_check=check_steps)
    if changed.fingerprint(*_FIXED_BY_TRAINING) != trained.fingerprint(*_FIXED_BY_TRAINING):
        raise ConfigError(
            "--set changes what this run was trained with",
            where=str(run.folder),
            needed="only evaluate.*, export.*, slim.* and serve.* can be changed for a trained run",
            remedy="Change it in medrail.yaml and run `medrail train` again.",
        )
    if not is_run:
        now = load(path, sets, step_check=check_steps)
        later = {name: getattr(now, name) for name in type(now).model_fields if name not in _FIXED_BY_TRAINING}
        changed = trained.model_copy(update=later)
    return Project(changed, run.workspace, accept_leak=accept_leak), run


_FIXED_BY_TRAINING = ("task", "data", "split", "prepare", "model", "train")


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
    with _timed() as seconds:
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
        facts=(*_columns(report.table), *report.summary.lines()),
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
    with _timed() as seconds:
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
            "clear data.patient_pattern",
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


def prepare_cases(project: Project, make_progress: MakeProgress = lambda _: None) -> StageResult:
    """Raw files -> model-ready arrays; cases that fail are named, the others go on."""
    with _timed() as seconds:
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
    cases = _in_store(project, project.cases)
    if old := outdated(project.config, project.workspace, project.cases):
        named = ", ".join(old[:_NAMED]) + (", ..." if len(old) > _NAMED else "")
        raise RunError(
            f"{len(old)} of {len(project.cases)} cases were changed or added since the last `medrail prepare`: {named}",
            where=str(project.workspace.prepared),
            remedy=f"Run `medrail prepare {project.workspace.root}` first.",
        )
    return cases


def _in_store(project: Project, cases: Sequence[Case]) -> tuple[Case, ...]:
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


def train_run(
    project: Project, run_name: str | None = None, make_progress: MakeProgress = lambda _: None
) -> tuple[Run, StageResult]:
    """Prepared cases -> a Run; an unfinished run of the same configuration and data is resumed, a finished one kept."""
    from medrail.train import train

    with _timed() as seconds:
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
        notes=tuple(passport.get("result", {}).get("notes", ())),
        files=(run.best, run.metrics, run.passport),
        up_to_date=up_to_date,
        seconds=seconds(),
        values={"run": str(run.folder), "fingerprint": passport.get("fingerprint", ""), "last_epoch": last},
    )


_NOT_SHOWN = ("lr", "seconds")


def _last_line(path: Path) -> dict[str, Any]:
    import json

    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return dict(json.loads(lines[-1])) if lines else {}


def evaluate_run(project: Project, run: Run, make_progress: MakeProgress = lambda _: None) -> StageResult:
    """The trained network, as it will be served, on the raw files of a split it was not trained on.

    The split is the one that the run was trained with, whatever has been added to the data since.

    Raises
    ------
    LeakError
        If the network has seen a patient or an image of that split in training, and leaks are not accepted.
    """
    from medrail.evaluate import Evaluation, evaluate

    with _timed() as seconds:
        network(project, run)
        record, split = read_record(run), project.config.evaluate.split
        leaked = leaked_cases(project, run, make_progress)
        cases, differences = record.known(project.cases), record.differences(project.cases, split)
        up_to_date = Evaluation.is_current(run, project.config, cases, leaked=leaked)
        if up_to_date:
            evaluation = Evaluation.load(run)
        else:
            evaluation = evaluate(run, project.config, cases, make_progress("Evaluating"), leaked=leaked)
    values = evaluation.to_json()
    metrics: Mapping[str, Mapping[str, Any]] = values["metrics"]
    facts = (*((name, _with_interval(metric)) for name, metric in metrics.items()), *_strata(values["strata"]))
    said = (leak_sentence(leaked.counts),) if leaked else ()
    methods: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        methods.setdefault(metric["method"], []).append(name)
    return StageResult(
        "evaluate",
        f"{values['split']} split: {counted(values['n'], 'case')} of {counted(values['patients'], 'patient')}"
        + _left_out(len(values.get("failed", [])), values["n"])
        + (" (not all of the data: see the run's cases.csv)" if differences else "")
        + "".join(f". {sentence}" for sentence in said),
        facts=facts,
        notes=tuple(f"{', '.join(names)}: {method}" for method, names in methods.items()),
        files=(run.evaluation,),
        warnings=(*said, *differences, *(f"{entry['case']}: {entry['reason']}" for entry in values.get("failed", []))),
        up_to_date=up_to_date,
        seconds=seconds(),
        failed=bool(values.get("failed")),
        values=values,
    )


def leaked_cases(project: Project, run: Run, make_progress: MakeProgress = lambda _: None) -> Leaked:
    """Those of the split to be judged that the network has seen; images that have not changed are not read again.

    Raises
    ------
    LeakError
        If there are any, and leaks are not accepted.
    """
    record, split = read_record(run), project.config.evaluate.split
    concerned = [case for case in record.known(project.cases) if case.split in (split, *SEEN_BEFORE[split])]
    found = find_leaks_of(project.config, project.workspace, concerned, make_progress("Looking for leaks"))
    leaked = record.leaked(project.cases, split, found)
    if leaked and not project.accept_leak:
        raise leaked.error(str(run.folder), SEEN_BEFORE[split])
    return leaked


def _left_out(failed: int, judged: int) -> str:
    return f"; {failed} of {counted(failed + judged, 'case')} left out, because they cannot be used" if failed else ""


def _strata(strata: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]) -> tuple[tuple[str, str], ...]:
    """A line for each part of the cases, with the first metric."""
    rows = []
    for name, values in strata.items():
        for value, metrics in values.items():
            first, metric = next(iter(metrics.items()))
            rows.append((f"{name}: {value}", f"{first} {_with_interval(metric)}"))
    return tuple(rows)


def _with_interval(metric: Mapping[str, Any]) -> str:
    def number(value: Any) -> str:
        return "-" if value is None else f"{value:.4f}"

    return f"{number(metric['value'])}  [{number(metric['low'])}, {number(metric['high'])}]  n = {metric['n']}"


def network(project: Project, run: Run) -> Path:
    """The run's network as ONNX, exported once and checked against torch on real cases as the configuration asks."""
    checkpoint = hashlib.sha256(run.best.read_bytes()).hexdigest() if run.best.is_file() else ""
    if not checkpoint:
        raise RunError("no trained weights", where=str(run.best), remedy="`medrail train` makes them.")
    description = run.folder / "network.json"
    if run.network.is_file() and description.is_file():
        known = read_json(description)
        parity, asked = known.get("parity", {}), project.config.export
        agreed = parity.get("max_abs_difference", math.inf) <= asked.parity_tolerance
        enough = parity.get("asked_cases") == asked.parity_cases
        if known.get("checkpoint") == checkpoint and agreed and enough:
            return run.network
    from medrail.export import export_network

    known = _in_store(project, read_record(run).known(project.cases))
    return export_network(run, project.config, project.workspace, known)


def export_run(project: Project, run: Run) -> StageResult:
    """A Run with its evaluation -> a bundle: the one thing that is served, shared and load-tested."""
    from medrail.bundle import verify_bundle
    from medrail.export import export_bundle

    with _timed() as seconds:
        started = time.time()
        network(project, run)
        replaced = _bundle_there(project)
        cases, leaked = read_record(run).known(project.cases), leaked_cases(project, run)
        folder = export_bundle(run, project.config, project.workspace, cases, leaked)
        manifest = verify_bundle(folder)
    model = folder / "model.onnx"
    return StageResult(
        "export",
        f"bundle {manifest.bundle_id}, {model.stat().st_size / 1e6:.2f} MB",
        facts=(("ONNX against torch", _agreement(manifest.parity)),),
        files=tuple(sorted(folder.iterdir())),
        warnings=(
            *((leak_sentence(leaked.counts),) if leaked else ()),
            *(
                (f"replaced {replaced}; set export.version to keep several side by side",)
                if replaced not in ("", manifest.bundle_id)
                else ()
            ),
        ),
        up_to_date=(folder / "bundle.json").stat().st_mtime < started,
        seconds=seconds(),
        values={"bundle": str(folder), "bundle_id": manifest.bundle_id, "parity": dict(manifest.parity)},
    )


def _bundle_there(project: Project) -> str:
    """The id of the bundle that has the name and version about to be written, or nothing."""
    from medrail.bundle import Manifest

    try:
        return Manifest.read(project.workspace.bundles / project.config.name / project.config.export.version).bundle_id
    except BundleError:
        return ""


def _agreement(parity: Mapping[str, Any]) -> str:
    return (
        f"probabilities differ by at most {parity['max_abs_difference']:.1g} on {parity['cases']} real cases, "
        f"{parity['metric']} by {parity['metric_change']:.1g}"
    )


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
    exported = export_run(project, run)
    report(exported)
    return run, Path(exported.values["bundle"])


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


@contextmanager
def _timed() -> Iterator[Callable[[], float]]:
    """Gives a function that tells the seconds since the block began, fixed when the block ends."""
    begin = time.perf_counter()
    end: list[float] = []
    yield lambda: (end[0] if end else time.perf_counter()) - begin
    end.append(time.perf_counter())


@contextmanager
def inferred_project(data_path: str | Path, sets: Sequence[str] = ()) -> Iterator[Project]:
    """A project for data without a configuration (``medrail.plan.bare``); gone, with its folder, at the end.

    Raises
    ------
    DataError
        If there is nothing that could be judged.
    ConfigError
        If ``sets`` makes a configuration that does not fit.
    """
    from medrail.plan.bare import without_folder, write_bare

    with TemporaryDirectory(prefix="medrail-") as name:
        folder = Path(name).resolve()
        try:
            bare = write_bare(folder, Path(data_path), sets)
            yield replace(open_project(folder, [*bare.sets, *sets]), stored=False, bare=bare)
        except MedrailError as error:
            raise without_folder(error, folder) from None
