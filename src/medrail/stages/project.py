"""Project: a configuration and its folder, and what every stage answers with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from medrail.cases import build_cases, write_table
from medrail.cases.listing import counted, shown
from medrail.config import Config, load
from medrail.errors import ConfigError, MedrailError, RunError
from medrail.group import is_group, read_group
from medrail.machine import collecting_seldom
from medrail.prepare import check_steps
from medrail.types import Case, Progress
from medrail.workspace import Run, Workspace

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
    RunError
        If the folder is none of a project, but that of several runs.
    """
    _refuse_several(Path(config_path))
    config = load(config_path, sets, step_check=check_steps)
    return Project(config, Workspace.of_config(config_path), accept_leak=accept_leak)


def open_run(path: str | Path, sets: Sequence[str] = (), *, accept_leak: bool = False) -> tuple[Project, Run]:
    """A run folder, or a project whose newest run is meant, with the configuration the run was trained with.

    How it is evaluated, exported and served is no part of the training: for a project that comes from its medrail.yaml
    as it is now.

    Raises
    ------
    RunError
        If there is no run, or the folder is that of several.
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
        _refuse_several(path)
        run = Workspace.of_config(path).newest_run()
    trained = load(run.config_file, step_check=check_steps)
    changed = load(run.config_file, sets, step_check=check_steps)
    if changed.fingerprint(*FIXED_BY_TRAINING) != trained.fingerprint(*FIXED_BY_TRAINING):
        raise ConfigError(
            "--set changes what this run was trained with",
            where=str(run.folder),
            needed="only evaluate.*, export.*, slim.* and serve.* can be changed for a trained run",
            remedy="Change it in medrail.yaml and run `medrail train` again.",
        )
    if not is_run:
        now = load(path, sets, step_check=check_steps)
        later = {name: getattr(now, name) for name in type(now).model_fields if name not in FIXED_BY_TRAINING}
        changed = trained.model_copy(update=later)
    return Project(changed, run.workspace, accept_leak=accept_leak), run


def _refuse_several(path: Path) -> None:
    """The folder of a group, or of a study, holds several runs: which one is meant must be said."""
    folder = path.resolve()
    if is_group(folder):
        members = read_group(folder).members
        names = [str(path.parent / member.run) for member in members if member.run]
        what, one = f"a group of {len(members)} runs", "one of its runs"
    elif folder.parent.name == "tune" and folder.is_dir() and not (folder / "medrail.yaml").is_file():
        names = [str(path / found.parent.name) for found in sorted(folder.glob("trial-*/passport.json"))]
        what, one = f"a study of {counted(len(names), 'trained trial')}", "one of its trials"
    else:
        return
    raise RunError(
        f"this is {what}, not a run or a project",
        needed=f"{one}, or the project's folder",
        where=str(path),
        remedy=f"Give one of {shown(names, 10)}." if names else "None of them is trained yet: give the project.",
    )


FIXED_BY_TRAINING = ("task", "data", "split", "prepare", "model", "train")


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
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
