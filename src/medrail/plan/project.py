"""init: a data path -> a project folder with a commented medrail.yaml that runs as it is."""

from __future__ import annotations

import csv
import io
import os
import shlex
from pathlib import Path

from medrail.config import Config, Task, load
from medrail.errors import ConfigError
from medrail.plan.layout import NewTable
from medrail.plan.proposal import Plan, plan
from medrail.plan.writer import config_text
from medrail.prepare import check_steps
from medrail.types import Progress
from medrail.workspace import Workspace, write_text

# A path with more steps up than this says less than the absolute one.
_MOST_STEPS_UP = 2
_PATH_COLUMNS = ("path", "mask")


def init(
    directory: str | Path,
    data_path: str | Path,
    *,
    force: bool = False,
    task: Task | None = None,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> tuple[Plan, Path]:
    """Look at the data and write DIR/medrail.yaml (and a table where the data need one).

    Parameters
    ----------
    minutes:
        That training may take, which is then held to them; None: planned for half an hour at most.

    Returns
    -------
    The plan, and the file that was written.

    Raises
    ------
    ConfigError
        If DIR/medrail.yaml, or the table, is there already and ``force`` is not set.
    CaseError
        If no layout fits the data, or none of the sampled images can be read.
    """
    workspace = Workspace(Path(directory).absolute())
    _refuse_overwriting(workspace.config_file, force)
    made = plan(data_path, task=task, minutes=minutes, progress=progress)
    if made.table is not None:
        _refuse_overwriting(workspace.root / made.table.name, force)
        write_text(workspace.root / made.table.name, table_text(made.table, workspace.root))
    config = project_config(made, workspace.root)
    write_text(workspace.config_file, config_text(config, made))
    load(workspace.config_file, step_check=check_steps)  # never leave a file that would not run
    return made, workspace.config_file


def next_command(directory: str | Path, made: Plan) -> str:
    """What to type after ``init``: `check`; where a table must be filled in before that, a comment behind says so."""
    command = f"medrail check {shlex.quote(str(directory))}"
    if made.table is None or not made.table.needs_filling:
        return command
    return f"{command}  # first fill in the column label of {Path(directory) / made.table.name}"


def project_config(made: Plan, folder: Path) -> Config:
    """The plan's configuration with the data's path as it is written into a project."""
    data = made.config.data
    in_table = made.table is not None and data.path == made.table.name
    path = data.path if in_table else written_path(data.path, folder)
    return made.config.model_copy(update={"data": data.model_copy(update={"path": path})})


def written_path(path: str, folder: Path) -> str:
    """Relative to the project folder where that takes at most two steps up, else absolute; always with slashes.

    A project and its data that are moved together go on working.
    """
    target = Path(path)
    try:
        relative = Path(os.path.relpath(target.resolve(), folder.resolve()))
    except ValueError:  # another drive
        return target.as_posix()
    up = sum(part == ".." for part in relative.parts)
    return relative.as_posix() if up <= _MOST_STEPS_UP else target.as_posix()


def table_text(table: NewTable, folder: Path) -> str:
    """The table as CSV, its paths as ``written_path`` writes them."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.header)
    for row in table.rows:
        cells = zip(table.header, row, strict=True)
        writer.writerow([written_path(cell, folder) if name in _PATH_COLUMNS else cell for name, cell in cells])
    return buffer.getvalue()


def _refuse_overwriting(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise ConfigError(
            "there is one already", where=str(path), remedy="Use --force to overwrite it, or another folder."
        )
