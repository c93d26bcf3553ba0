"""Which run folder a training belongs to: a finished one, one to be taken up again, or a new one."""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from medrail.config import Config
from medrail.errors import ConfigError, OtherRunError, RunError
from medrail.lock import Busy, locked, read_note
from medrail.train.passport import resume
from medrail.workspace import Run, Workspace, read_json, write_json, write_text

SCRATCH = ".reproduce-"
"""What the folder of a run's repetition begins with; like all names with a dot it is passed over."""
SLIMMING = ".slim-"
"""And that of a run which is being slimmed."""
_NAME = re.compile(rf"(?:{re.escape(SCRATCH)}|{re.escape(SLIMMING)})?[A-Za-z0-9][A-Za-z0-9._-]{{0,79}}")
_SEARCH_S = 10
"""How long another process may take to choose its folder."""
_LEFT_BY_TRAINING = re.compile(
    r"\.(config\.yaml|passport\.json|cases\.csv|images\.json|metrics\.jsonl|last\.pt|best\.pt|\w+\.safetensors)\..+"
)
_LEFT_BY_ANY = re.compile(_LEFT_BY_TRAINING.pattern + r"|\.(export|network\.json|evaluation\.json)\..+")
_ABANDONED_S = 3600
"""A temporary file of this age is nobody's: each is written in one go."""


@dataclass(frozen=True)
class Place:
    """A run's folder and what its passport says; ``new``: there is no such folder yet."""

    run: Run
    passport: dict[str, Any]
    new: bool = False

    @property
    def finished(self) -> bool:
        return bool(self.passport.get("finished")) and self.run.best.is_file()


@contextmanager
def claim(config: Config, workspace: Workspace, fingerprint: str, run_name: str | None) -> Iterator[Place]:
    """The place of a training, held against other processes until the end; a finished one is not held.

    Two processes that start at the same moment choose one after the other, and a new folder is made when it is chosen.
    What killed processes left behind in the runs' folders is removed.

    Raises
    ------
    RunError
        If another process is training this very run, or a run of the given name was made from something else.
    ConfigError
        If the name cannot be a folder's.
    """
    place = find_place(config, workspace, fingerprint, run_name)
    if place.finished:
        yield place
        return
    run = place.run
    with ExitStack() as held:
        try:
            with locked(workspace.runs / ".lock", wait_s=_SEARCH_S):
                run = _choose(config, workspace, fingerprint, run_name)
                held.callback(_remove_if_empty, run.folder)
                held.enter_context(locked(run.lock, {"fingerprint": fingerprint}))
        except Busy as busy:
            process = busy.note.get("process", "unknown")
            raise RunError(
                f"another process (number {process}) is training it",
                where=str(run.folder),
                remedy="Wait until it has ended and repeat (what is finished is not trained again), or train a second "
                "one beside it under another name: `medrail train PROJECT --run NAME`.",
            ) from None
        sweep(workspace, run)
        yield Place(run, _passport(run))


def find_place(config: Config, workspace: Workspace, fingerprint: str, run_name: str | None) -> Place:
    """The run of this fingerprint, finished or not, or the name of a new one.

    Raises
    ------
    OtherRunError
        If a run of the given name exists and was made from something else.
    ConfigError
        If the name cannot be a folder's.
    """
    if run_name is not None:
        return _named(workspace, fingerprint, run_name)
    places = [Place(run, _passport(run)) for run in _runs(workspace)]
    same = [place for place in places if _fingerprint(place) == fingerprint]
    if same:
        return max(same, key=lambda place: (place.finished, place.run.name))
    pattern = re.compile(rf"{re.escape(config.name)}-(\d+)")
    names = [path.name for path in workspace.runs.glob("*")]
    taken = [int(match[1]) for name in names if (match := pattern.fullmatch(name))]
    return Place(workspace.run(f"{config.name}-{max(taken, default=0) + 1:03d}"), {}, new=True)


def open_place(place: Place, config: Config, passport: dict[str, Any]) -> dict[str, Any]:
    """Write config.yaml and the passport of a new run; a run that is taken up again keeps its first passport.

    Returns
    -------
    The passport to go on with; ``resumed`` counts how often the run was taken up again, ``sessions`` tells when.
    """
    if place.passport:
        passport = resume(place.passport, passport)
    else:
        write_text(place.run.config_file, config_text(config))
    write_json(place.run.passport, passport)
    return passport


def sweep(workspace: Workspace, own: Run) -> None:
    """Remove the temporary files that a kill left in the runs' folders: of the own run all of a training's, of others
    (somebody may be evaluating one) those that are old.
    """
    long_ago = time.time() - _ABANDONED_S
    for run in _runs(workspace):
        for path in (path for folder in (run.folder, run.checkpoints, run.evaluation) for path in folder.glob(".*")):
            with suppress(OSError):
                old = path.stat().st_mtime < long_ago
                if _LEFT_BY_ANY.fullmatch(path.name) and (old or (run == own and _LEFT_BY_TRAINING.match(path.name))):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _choose(config: Config, workspace: Workspace, fingerprint: str, run_name: str | None) -> Run:
    """Find the run and make its folder; where another program has just made it, the next number's."""
    while True:
        place = find_place(config, workspace, fingerprint, run_name)
        try:
            place.run.folder.mkdir(parents=True, exist_ok=not place.new)
        except FileExistsError:
            continue
        return place.run


def _remove_if_empty(folder: Path) -> None:
    """Of a run that could not even begin nothing is left."""
    with suppress(OSError):
        folder.rmdir()


def _named(workspace: Workspace, fingerprint: str, name: str) -> Place:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the run's name {name!r}", needed="letters, digits, '.', '_' and '-', no folders")
    run = workspace.run(name)
    passport = _passport(run)
    if passport and passport.get("fingerprint") != fingerprint:
        raise OtherRunError(
            "exists and was made from another configuration or other data",
            where=str(run.folder),
            remedy="Choose another name, or delete the folder.",
        )
    return Place(run, passport)


def _runs(workspace: Workspace) -> list[Run]:
    return [Run(folder) for folder in sorted(workspace.runs.glob("[!.]*")) if folder.is_dir()]


def _fingerprint(place: Place) -> object:
    """Of its passport, or where there is none yet, of the process that is beginning it."""
    return place.passport.get("fingerprint") if place.passport else read_note(place.run.lock).get("fingerprint")


def _passport(run: Run) -> dict[str, Any]:
    if not run.passport.is_file():
        return {}
    try:
        values = read_json(run.passport)
    except RunError:
        return {}
    return values if isinstance(values, dict) else {}


def config_text(config: Config) -> str:
    """config.yaml of a run."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(config.to_dict(), text)
    return text.getvalue()
