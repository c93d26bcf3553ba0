"""The verbs of runs: train, evaluate, export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrail.console import Console

OK, FAILED = 0, 1


def leaky(command: str, arguments: argparse.Namespace) -> str:
    """The next command of a chain in which leaks are accepted."""
    return f"{command} --accept-leak" if arguments.accept_leak else command


def train(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    project = stages.open_project(arguments.path, arguments.set, accept_leak=arguments.accept_leak)
    with console.progress() as bars:
        run, result = stages.train_run(project, arguments.run, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    from medrail.console import shown

    console.next_command(leaky("medrail evaluate", arguments), shown(run.folder))
    return OK


def evaluate(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    project, run = stages.open_run(arguments.path, arguments.set, accept_leak=arguments.accept_leak)
    with console.progress() as bars:
        if arguments.data:
            result = stages.evaluate_elsewhere(project, run, arguments.data, bars)
        else:
            result = stages.evaluate_run(project, run, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    if result.failed:
        return FAILED
    from medrail.console import shown

    console.next_command(leaky("medrail export", arguments), shown(run.folder))
    return OK


def export(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    project, run = stages.open_run(arguments.path, arguments.set, accept_leak=arguments.accept_leak)
    result = stages.export_run(project, run)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    from medrail.console import shown

    console.next_command("medrail serve", shown(Path(result.values["bundle"])))
    return OK
