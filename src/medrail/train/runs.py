"""Which run folder a training belongs to: a finished one, one to be taken up again, or a new one."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from medrail.config import Config
from medrail.errors import ConfigError, RunError
from medrail.workspace import Run, Workspace, read_json, write_json, write_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Place:
    """A run's folder and what its passport says; an empty passport: nothing is there yet."""

    run: Run
    passport: dict[str, Any]

    @property
    def finished(self) -> bool:
        return bool(self.passport.get("finished")) and self.run.best.is_file()


def find_place(config: Config, workspace: Workspace, fingerprint: str, run_name: str | None) -> Place:
    """The run of this fingerprint, finished or not, or the name of a new one.

    Raises
    ------
    RunError
        If a run of the given name exists and was made from something else.
    ConfigError
        If the name cannot be a folder's.
    """
    if run_name is not None:
        return _named(workspace, fingerprint, run_name)
    places = [Place(run, _passport(run)) for run in _runs(workspace)]
    same = [place for place in places if place.passport.get("fingerprint") == fingerprint]
    if same:
        return max(same, key=lambda place: (place.finished, place.run.name))
    pattern = re.compile(rf"{re.escape(config.name)}-(\d+)")
    taken = [int(match[1]) for place in places if (match := pattern.fullmatch(place.run.name))]
    return Place(workspace.run(f"{config.name}-{max(taken, default=0) + 1:03d}"), {})


def open_place(place: Place, config: Config, passport: dict[str, Any]) -> dict[str, Any]:
    """Write config.yaml and the passport of a new run; a run that is taken up again keeps its first passport.

    Returns
    -------
    The passport to go on with; ``resumed`` counts how often the run was taken up again.
    """
    if place.passport:
        passport = {**place.passport, "finished": False, "resumed": int(place.passport.get("resumed", 0)) + 1}
    else:
        write_text(place.run.config_file, _yaml(config))
    write_json(place.run.passport, passport)
    return passport


def _named(workspace: Workspace, fingerprint: str, name: str) -> Place:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the run's name {name!r}", needed="letters, digits, '.', '_' and '-', no folders")
    run = workspace.run(name)
    passport = _passport(run)
    if passport and passport.get("fingerprint") != fingerprint:
        raise RunError(
            "exists and was made from another configuration or other data",
            where=str(run.folder),
            remedy="Choose another name, or delete the folder.",
        )
    return Place(run, passport)


def _runs(workspace: Workspace) -> list[Run]:
    return [Run(folder) for folder in sorted(workspace.runs.glob("*")) if folder.is_dir()]


def _passport(run: Run) -> dict[str, Any]:
    if not run.passport.is_file():
        return {}
    try:
        values = read_json(run.passport)
    except RunError:
        return {}
    return values if isinstance(values, dict) else {}


def _yaml(config: Config) -> str:
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(config.to_dict(), text)
    return text.getvalue()
