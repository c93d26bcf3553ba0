"""Promote: the chosen candidate becomes a run beside the others, RUN-slim, once the test cases have confirmed it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from medrail.cases import read_table, write_table
from medrail.config import Config, load
from medrail.errors import RunError
from medrail.slim.making import copy_run
from medrail.train.runs import config_text
from medrail.workspace import Run, Workspace, read_json, write_json, write_text

ENDING = "-slim"
JUDGED = "judged"
LOOKS_FILE = "slim-looks.json"
"""Beside the candidates' folder, which may be deleted; that the test cases were asked stays so."""


def slimmed_name(run: Run) -> str:
    """What the slimmed run is called."""
    return f"{run.name}{ENDING}"


def check_free(run: Run, workspace: Workspace) -> None:
    """Refuse to begin where the name of the slimmed run is that of another one.

    Raises
    ------
    RunError
        If there is such a run that ``medrail slim`` of this run has not made.
    """
    there = workspace.run(slimmed_name(run))
    if not there.folder.exists():
        return
    passport = read_json(there.passport) if there.passport.is_file() else {}
    made_by_us = (passport.get("slim") or {}).get(JUDGED, {}).get("of") == run.name
    if not made_by_us:
        raise RunError(
            "there is a run of this name that was not made by slimming this one",
            where=str(there.folder),
            remedy="Rename or remove it.",
        )


def put_forward(run: Run, candidate: Run, workspace: Workspace) -> Run:
    """A copy of the candidate under its coming name, still below the slimmed run's folder, to be evaluated there.

    The bundle that is made of it has a version of its own, so that it does not replace the unslimmed one. One that is
    there already, of the same candidate, is kept with its evaluation.
    """
    place = Run(run.slim / slimmed_name(run))
    fingerprint = read_json(candidate.passport)["fingerprint"]
    if place.passport.is_file() and read_json(place.passport).get("fingerprint") == fingerprint:
        return place
    shutil.rmtree(place.folder, ignore_errors=True)
    filled = Run(place.folder.with_name(f".{place.name}.new"))
    shutil.rmtree(filled.folder, ignore_errors=True)
    copy_run(candidate, filled, workspace)
    write_text(filled.config_file, config_text(_own_version(load(candidate.config_file))))
    filled.folder.rename(place.folder)
    return place


def _own_version(config: Config) -> Config:
    version = config.export.version
    if version.endswith(ENDING):
        return config
    return config.model_copy(update={"export": config.export.model_copy(update={"version": f"{version}{ENDING}"})})


def promote(run: Run, forward: Run, workspace: Workspace, says: Mapping[str, Any]) -> Run:
    """Move it, with its evaluation, to where runs lie; an earlier one that slimming made is replaced.

    Parameters
    ----------
    says:
        What the judge found, for the passport.
    """
    passport = read_json(forward.passport)
    slim = {**(passport.get("slim") or {}), JUDGED: {"of": run.name, **says}}
    parent = {"run": run.name, "fingerprint": read_json(run.passport).get("fingerprint", "")}
    write_json(forward.passport, {**passport, "parent": parent, "slim": slim})
    target = workspace.run(slimmed_name(run))
    cases = read_table(forward.case_table)
    filled, old = (Run(target.folder.with_name(f".{target.name}.{what}")) for what in ("new", "old"))
    for one in (filled, old):
        shutil.rmtree(one.folder, ignore_errors=True)
    forward.folder.rename(filled.folder)
    write_table(cases, filled.case_table, workspace.root)  # its paths are relative to where it lies
    if target.folder.exists():
        target.folder.rename(old.folder)
    try:
        filled.folder.rename(target.folder)
    except BaseException:
        if old.folder.exists():
            old.folder.rename(target.folder)
        raise
    shutil.rmtree(old.folder, ignore_errors=True)
    return target


def looks(run: Run) -> dict[str, Any]:
    """Fingerprint of a candidate -> what the test cases said of it: how often they were asked by slimming this run."""
    path = run.folder / LOOKS_FILE
    return dict(read_json(path)) if path.is_file() else {}


def remember_look(run: Run, fingerprint: str, judged: Mapping[str, Any]) -> None:
    """Write down that the test cases were asked of a candidate."""
    write_json(run.folder / LOOKS_FILE, {**looks(run), fingerprint: dict(judged)})
