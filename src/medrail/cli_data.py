"""The verbs about raw data: inspect, convert, check, deidentify; otherwise as ``medrail.cli``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from medrail.errors import ConfigError

if TYPE_CHECKING:
    from medrail.console import Console
    from medrail.stages import Project

OK, FAILED = 0, 1


def check(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    path = Path(arguments.path)
    configured = path.suffix in (".yaml", ".yml") or (path / "medrail.yaml").is_file() or not path.exists()
    if configured:
        return _check(stages.open_project(path, arguments.set), "medrail run", path, console)
    if arguments.set:
        raise ConfigError("--set needs a configuration", where=str(path), remedy="`medrail init` writes one.")
    with stages.inferred_project(path) as project:
        console.line(f"{path} has no medrail.yaml; judged as `medrail init` would read it.")
        return _check(project, "medrail init my-project --data", path, console)


def _check(project: Project, next_command: str, path: Path, console: Console) -> int:
    from medrail import stages

    with console.progress() as bars:
        result = stages.check(project, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    if result.failed:
        console.error("this data would give a wrong result, or none; see above what to do")
        return FAILED
    console.next_command(next_command, path)
    return OK
