"""Entrants: the runs, and groups of runs, that are compared, with what each answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medrail.errors import ConfigError, RunError
from medrail.evaluate.answers import Answers, read_answers
from medrail.evaluate.differing import passport_of
from medrail.evaluate.evaluation import CASE_FILE, EVALUATION_FILE, Evaluation
from medrail.workspace import Run, Workspace, read_json

GROUP_FILE = "group.json"
IMAGES_FILE = "images.json"
EXTERNAL = "external"


@dataclass(frozen=True)
class Member:
    """One run with its evaluation."""

    run: Run
    evaluation: Evaluation
    answers: Answers


@dataclass(frozen=True)
class Entrant:
    """What is compared as one: a run, or the runs of a group that differ in their seeds.

    name:
        As it is called in the result; no two are called the same. On other data it is RUN/NAME.
    trained:
        The runs that were trained for it; of a group of folds, which is one member, those of all folds.
    """

    name: str
    folder: Path
    members: tuple[Member, ...]
    trained: tuple[Run, ...]

    @property
    def is_group(self) -> bool:
        return len(self.members) > 1

    def seeds(self) -> tuple[str, ...]:
        """Of the members, as their passports have them."""
        return tuple(str(passport_of(member.run).get("seed", "")) for member in self.members)


def read_entrants(paths: Sequence[str | Path]) -> tuple[Entrant, ...]:
    """Every path as an Entrant: the folder of a run, of its evaluation on other data (RUN/external/NAME), of a group,
    or of a project (its newest run).

    Raises
    ------
    ConfigError
        If a path is none of these, or two are the same folder; or runs and groups are mixed.
    RunError
        If a run is not evaluated, or what is there cannot be read.
    """
    folders = [_folder_of(Path(path)) for path in paths]
    doubles = sorted({str(one) for one in folders if folders.count(one) > 1})
    if doubles:
        raise ConfigError("the same run twice", where=", ".join(doubles), needed="runs that differ")
    entrants = tuple(_entrant(name, folder) for name, folder in zip(_names(folders), folders, strict=True))
    groups = [one for one in entrants if one.is_group]
    if groups and len(groups) < len(entrants):
        single = next(one for one in entrants if not one.is_group)
        raise ConfigError(
            f"{groups[0].name} is a group of runs, {single.name} a single one",
            needed="groups with groups, runs with runs: of a single run nobody knows how much its seed did",
            remedy=f"Train {single.name} with several seeds, too, or name one run of the group.",
        )
    return entrants


def _folder_of(path: Path) -> Path:
    if not path.exists():
        raise ConfigError(
            "there is no such folder",
            needed="a run, a group of runs, a run's external/NAME, or a project folder with runs",
            where=str(path),
            remedy="`medrail train PROJECT` makes runs; they lie in PROJECT/runs.",
        )
    signs = (GROUP_FILE, "passport.json", f"evaluation/{EVALUATION_FILE}", EVALUATION_FILE)
    if any((path / name).exists() for name in signs):
        folder = path.resolve()
        return folder.parent if (folder / EVALUATION_FILE).is_file() and folder.name == "evaluation" else folder
    return Workspace.of_config(path).newest_run().folder


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names; where two are called the same, with the project before them, and then with a number."""
    runs = [_run_of(folder) for folder in folders]
    below = ["" if run == folder else f"/{folder.name}" for run, folder in zip(runs, folders, strict=True)]
    names = [f"{run.name}{rest}" for run, rest in zip(runs, below, strict=True)]
    full = [f"{run.parent.parent.name}/{run.name}{rest}" for run, rest in zip(runs, below, strict=True)]
    chosen = [longer if names.count(name) > 1 else name for name, longer in zip(names, full, strict=True)]
    return [
        f"{name} ({chosen[:place].count(name) + 1})" if chosen.count(name) > 1 else name
        for place, name in enumerate(chosen)
    ]


def _run_of(folder: Path) -> Path:
    """The run's folder: of RUN/external/NAME that of RUN."""
    return folder.parent.parent if _is_external(folder) else folder


def _is_external(folder: Path) -> bool:
    """Whether it is a run's evaluation on other data."""
    return (folder / EVALUATION_FILE).is_file() and folder.parent.name == EXTERNAL


def _entrant(name: str, folder: Path) -> Entrant:
    if _is_external(folder):
        run = Run(_run_of(folder))
        return Entrant(name, folder, (read_member(run, folder),), (run,))
    if not (folder / GROUP_FILE).is_file():
        return Entrant(name, folder, (read_member(Run(folder)),), (Run(folder),))
    group = read_json(folder / GROUP_FILE)
    names = group.get("runs") if isinstance(group, Mapping) else None
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise RunError("not a group that this medrail reads", where=str(folder / GROUP_FILE), needed="runs: [name]")
    untrained = sum(not one.get("run") for one in group.get("members", ()))
    if untrained:
        raise RunError(
            f"{untrained} of the group's runs are not trained yet",
            where=str(folder),
            remedy="Repeat `medrail train` of the group: it goes on where it stopped.",
        )
    runs = tuple(Run(folder.parent / one) for one in names)
    if group.get("kind") == "seeds":
        if len(runs) < 2:
            raise RunError("a group of one run", where=str(folder), needed="2 seeds or more")
        return Entrant(name, folder, tuple(read_member(run) for run in runs), runs)
    if not (folder / "evaluation" / EVALUATION_FILE).is_file():
        raise RunError(
            f"a group of {group.get('kind')} without an evaluation of its own: its runs have different test cases",
            where=str(folder),
            needed="an evaluation of the whole group",
            remedy="`medrail evaluate` of the group's folder makes it.",
        )
    return Entrant(name, folder, (read_member(Run(folder)),), runs)


def read_member(run: Run, external: Path | None = None) -> Member:
    """A run's evaluation and its answers: on its own cases, or in the folder of its evaluation on other data."""
    place, images = (external, external / IMAGES_FILE) if external else (run.evaluation, run.images)
    evaluation = Evaluation.read(place)
    answers = read_answers(place / CASE_FILE, tuple(evaluation.metrics), multi_label=evaluation.multi_label)
    digests = read_json(images) if images.is_file() else {}
    answers = replace(answers, images=digests.get("sha256", {}), masks=digests.get("masks", {}))
    return Member(run, evaluation, answers)
