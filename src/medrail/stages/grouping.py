"""Stage train, several at once: one training for each seed, or one for each fold."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from medrail.cases.listing import counted, shown
from medrail.config import Config, parse
from medrail.errors import ConfigError
from medrail.group import MEMBER_NOUN, Group, GroupKind, Member, find_group
from medrail.stages.preparing import usable_cases
from medrail.stages.project import FIXED_BY_TRAINING, MakeProgress, Project, StageResult, timed
from medrail.stages.training import train_run
from medrail.workspace import Run, Workspace, read_json, write_json

FEWEST, MOST = 2, 100


def train_group(
    project: Project,
    kind: GroupKind,
    count: int,
    report: Callable[[StageResult], None] = lambda _: None,
    make_progress: MakeProgress = lambda _: None,
) -> tuple[Group, StageResult]:
    """Train ``count`` runs that differ in ``train.seed`` (from the configured one on), or in ``split.fold`` (from 0).

    Each is an ordinary run; one that is finished is kept, an interrupted one is taken up again. Each member's result
    goes to ``report``.

    Raises
    ------
    ConfigError
        If there are fewer than two, the folds are not those of the data, the epochs are to fit into a time, or this is
        one of several processes.
    """
    from medrail.train.processes import refuse_several

    refuse_several(f"training of several {kind}")
    if not FEWEST <= count <= MOST:
        raise ConfigError(f"--{kind} {count}", needed=f"a number from {FEWEST} to {MOST}")
    _check_epochs(project, kind, count)
    noun = MEMBER_NOUN[kind]
    with timed() as seconds:
        projects = _members(project, kind, count)
        numbers = [_number(one.config, kind) for one in projects]
        if kind == "folds":
            _check_folds(projects, count)
        prints = [_fingerprint(one) for one in projects]
        folder = find_group(project.workspace, project.config.name, kind, prints)
        group = Group(
            folder,
            kind,
            tuple(map(Member, numbers, prints)),
            {name: project.config.to_dict()[name] for name in _SHARED},
        )
        kept = 0
        for position, one in enumerate(projects):
            run, result = train_run(one, make_progress=make_progress)
            kept += result.up_to_date
            report(replace(result, stage=f"{noun} {numbers[position]}"))
            members = list(group.members)
            members[position] = replace(members[position], run=run.name)
            group = replace(group, members=tuple(members))
            _say(run, group)
            group.write()
        if kind == "folds":
            _write_table_again(project)
    names = [run.name for run in group.runs]
    return group, StageResult(
        "train",
        f"{counted(count, noun)} ({shown(numbers, 10)}), group {group.name}"
        + (f"; {kept} of the runs {'was' if kept == 1 else 'were'} there already" if kept else ""),
        facts=(("runs", shown(names, 10)),),
        files=(group.folder,),
        up_to_date=kept == count,
        seconds=seconds(),
        values={
            "group": str(group.folder),
            "kind": kind,
            "runs": [str(run.folder) for run in group.runs],
            "kept": kept,
        },
    )


_SHARED = ("name", *FIXED_BY_TRAINING)


def _members(project: Project, kind: GroupKind, count: int) -> list[Project]:
    values = project.config.to_dict()

    def changed(**stages: dict[str, Any]) -> Project:
        config = parse({**values, **{name: {**values[name], **some} for name, some in stages.items()}})
        return replace(project, config=config)

    if kind == "seeds":
        return [changed(train={"seed": project.config.train.seed + number}) for number in range(count)]
    return [changed(split={"by": "folds", "folds": count, "fold": number}) for number in range(count)]


def _number(config: Config, kind: GroupKind) -> int:
    return config.train.seed if kind == "seeds" else config.split.fold


def _check_folds(projects: Sequence[Project], count: int) -> None:
    """Folds that the data give may be more than were asked for; then some cases would never be tested."""
    tested = Counter(case.id for one in projects for case in one.cases if case.split == "test")
    never = [case.id for case in projects[0].cases if not tested[case.id]]
    if never:
        raise ConfigError(
            f"--folds {count}, and the data give other folds: {counted(len(never), 'case')} would never be tested",
            needed="as many folds as the data's column fold has",
            where="fold",
            remedy="Give that number, or delete the column: then the folds are drawn by split.seed.",
        )


def _fingerprint(project: Project) -> str:
    """Of the run that this configuration and these data would make."""
    from medrail.train import passport
    from medrail.train.material import gather

    material = gather(project.config, project.workspace, usable_cases(project))
    return passport.fingerprint(project.config, material.store, material.classes, material.cases, material.weights)


def _check_epochs(project: Project, kind: GroupKind, count: int) -> None:
    """A time budget holds other numbers of epochs from run to run; then the members differ in more than the seed."""
    minutes = project.config.train.minutes
    if minutes:
        raise ConfigError(
            f"--{kind} {count} with a time budget of {minutes:g} minutes: each run would plan epochs of its own, and "
            f"the runs would differ in more than the {MEMBER_NOUN[kind]}",
            needed="train.minutes 0, and a number of epochs that is the same for all",
            where="train.minutes",
            remedy=_of_one_run(project.workspace, f"--{kind} {count}", minutes),
        )


def _of_one_run(workspace: Workspace, several: str, minutes: float) -> str:
    """The whole command, with the numbers of the newest run that was planned for so many minutes."""
    from medrail.train.schedule import as_sets

    command = f"medrail train {shlex.quote(str(workspace.root))}"
    planned = [
        (passport.stat().st_mtime, passport.parent.name, schedule)
        for passport in workspace.runs.glob("[!.]*/passport.json")
        if (schedule := read_json(passport).get("schedule") or {}).get("minutes") == minutes
    ]
    if not planned:
        return (
            f"Train one run first: `{command} --minutes {minutes:g}`. Then type this command again: it will say "
            "which keys to set, with the numbers of that run."
        )
    _, name, schedule = max(planned, key=lambda one: one[:2])
    sets = " ".join(f"--set {entry}" for entry in as_sets(schedule))
    return f"With what was planned for the run {name}: `{command} {several} {sets}`."


def _say(run: Run, group: Group) -> None:
    """The run's passport names the group; one that does already is left alone, with its time."""
    values = read_json(run.passport)
    if group.name not in values.get("groups", []):
        write_json(run.passport, {**values, "groups": [*values.get("groups", []), group.name]})


def _write_table_again(project: Project) -> None:
    """cases.csv of the project is that of its own configuration, not of the last fold."""
    _ = replace(project).cases
