"""The verbs of runs: train, tune, evaluate, slim, export, compare, reproduce."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from medrail.errors import ConfigError
from medrail.group import is_group, read_group

if TYPE_CHECKING:
    from medrail.console import Console
    from medrail.group import GroupKind
    from medrail.stages import Project

OK, FAILED = 0, 1


def leaky(command: str, arguments: argparse.Namespace) -> str:
    """The next command of a chain in which leaks are accepted."""
    return f"{command} --accept-leak" if arguments.accept_leak else command


def train(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages
    from medrail.train.processes import is_follower

    shorthand = {"train.minutes": arguments.minutes, "train.device": arguments.device}
    sets = [*arguments.set, *(f"{key}={value}" for key, value in shorthand.items() if value is not None)]
    project = stages.open_project(arguments.path, sets, accept_leak=arguments.accept_leak)
    if arguments.seeds or arguments.folds:
        return _train_group(arguments, project, console)
    with console.progress() as bars:
        run, result = stages.train_run(project, arguments.run, bars)
    if is_follower():  # one of several processes; the first one talks
        return OK
    console.stage(result)
    console.line("            one seed says nothing of the spread between trainings: --seeds 5 trains five")
    if console.as_json:
        console.json(result.values)
    from medrail.console import shown

    console.next_command(leaky("medrail evaluate", arguments), shown(run.folder))
    return OK


def _train_group(arguments: argparse.Namespace, project: Project, console: Console) -> int:
    from medrail import stages
    from medrail.console import shown

    if arguments.run:
        raise ConfigError("--run with several runs", needed="no --run: each one's name is counted on")
    kind: GroupKind = "seeds" if arguments.seeds else "folds"
    with console.progress() as bars:
        group, result = stages.train_group(project, kind, arguments.seeds or arguments.folds, console.stage, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    console.next_command(leaky("medrail evaluate", arguments), shown(group.folder))
    return OK


def tune(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    given = {name: getattr(arguments, name) for name in ("trials", "minutes")}
    sets = [f"tune.{name}={value}" for name, value in given.items() if value is not None]
    project = stages.open_project(arguments.path, [*arguments.set, *sets], accept_leak=arguments.accept_leak)
    with console.progress() as bars:
        result = stages.tune_project(project, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    if result.failed:
        return FAILED
    console.grid(*stages.ranking(result.values))
    found = result.values["sets"]
    kept = [entry for entry in arguments.set if not entry.startswith("tune.")]
    console.next_command(leaky("medrail train", arguments), arguments.path, sets=[*kept, *found])
    return OK


def evaluate(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    if arguments.data and is_group(arguments.path):
        raise ConfigError("--data with a group", needed="one run, or the group's bundle and `medrail predict`")
    with console.progress() as bars:
        if is_group(arguments.path):
            folder = Path(arguments.path)
            project, _ = stages.open_run(read_group(folder).runs[0].folder, arguments.set, accept_leak=True)
            asked = stages.Asked(tuple(arguments.set), arguments.accept_leak)
            result = stages.evaluate_group(folder, asked, console.stage, bars)
        else:
            project, run = stages.open_run(arguments.path, arguments.set, accept_leak=arguments.accept_leak)
            folder = run.folder
            if arguments.data:
                result = stages.evaluate_external(project, run, arguments.data, bars)
            else:
                result = stages.evaluate_run(project, run, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    if result.failed:
        return FAILED
    from medrail.console import shown

    console.next_command(leaky("medrail export", arguments), shown(folder), sets=stages.keeping_both(project, folder))
    return OK


def slim(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages
    from medrail.console import shown

    if is_group(arguments.path):
        raise ConfigError("a group of runs", needed="one run: its folder, or the project whose newest run is meant")
    shorthand = {
        "metric": arguments.metric,
        "margin": arguments.margin,
        "target_latency_ms": arguments.target_latency_ms,
    }
    sets = [f"slim.{key}={value}" for key, value in shorthand.items() if value is not None]
    if arguments.ratio:
        sets.append(f"slim.ratios=[{', '.join(map(str, arguments.ratio))}]")
    project, run = stages.open_run(arguments.path, [*arguments.set, *sets], accept_leak=arguments.accept_leak)
    run = stages.unslimmed(project, run, named=(Path(arguments.path) / "passport.json").is_file())
    with console.progress() as bars:
        result = stages.slim_run(project, run, bars)
    values = dict(result.values)
    header, rows = values.pop("header"), values.pop("table")
    console.grid(header, rows)
    console.line()
    console.stage(result)
    if console.as_json:
        console.json(values)
    if result.failed:
        return FAILED
    smaller = project.workspace.run(values["result"]).folder
    console.next_command(leaky("medrail export", arguments), shown(smaller), sets=stages.keeping_both(project, smaller))
    return OK


def export(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    if arguments.to or arguments.benchmark:
        return _export_otherwise(arguments, console)
    if is_group(arguments.path):
        with console.progress() as bars:
            asked = stages.Asked(tuple(arguments.set), arguments.accept_leak)
            result = stages.export_group(arguments.path, asked, bars, replace=arguments.replace)
    else:
        project, run = stages.open_run(arguments.path, arguments.set, accept_leak=arguments.accept_leak)
        result = stages.export_run(project, run, replace=arguments.replace)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    from medrail.console import shown

    console.next_command("medrail serve", shown(Path(result.values["bundle"])))
    return OK


def _export_otherwise(arguments: argparse.Namespace, console: Console) -> int:
    """In other formats, or timed in each; both of a run alone."""
    from medrail import stages

    if is_group(arguments.path):
        raise ConfigError("--to or --benchmark with a group", needed="one of its runs")
    project, run = stages.open_run(arguments.path, arguments.set, accept_leak=arguments.accept_leak)
    results = [stages.export_formats(project, run, arguments.to)] if arguments.to else []
    if arguments.benchmark:
        with console.progress() as bars:
            results.append(stages.benchmark_run(project, run, bars))
        console.grid(*stages.benchmark_table(results[-1].values))
    for result in results:
        console.stage(result)
    if console.as_json:
        console.json({key: value for result in results for key, value in result.values.items()})
    return OK


def compare(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    wanted = stages.Wanted(
        runs=tuple(arguments.runs),
        reference=arguments.reference,
        metrics=tuple(arguments.metric),
        published=tuple(arguments.published),
        common=arguments.common,
        seed=arguments.seed,
        out=Path(arguments.out) if arguments.out else None,
    )
    with console.progress() as bars:
        result, tables = stages.compare_runs(wanted, bars)
    for table in tables:
        console.line(f"\n{table.title}")
        console.grid(table.header, table.rows)
    console.line()
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    return OK


def reproduce(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    with console.progress() as bars:
        result = stages.reproduce_run(
            arguments.path,
            tolerance=arguments.tolerance,
            keep=arguments.keep,
            report=console.stage,
            make_progress=bars,
        )
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    return FAILED if result.failed else OK
