"""Stage export: a Run with its evaluation -> a bundle."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.cases import leak_sentence, read_record
from medrail.errors import BundleError, RunError
from medrail.stages.evaluating import leaked_cases, network
from medrail.stages.project import Project, StageResult, timed
from medrail.workspace import Run

if TYPE_CHECKING:
    from medrail.bundle import Manifest
    from medrail.config import Config
    from medrail.workspace import Workspace


def export_run(project: Project, run: Run, *, replace: bool = False) -> StageResult:
    """A Run with its evaluation -> a bundle: the one thing that is served, shared and load-tested.

    Parameters
    ----------
    replace:
        Whether a bundle of another run may give way. One of this run always does.

    Raises
    ------
    RunError
        If the bundle of this name and version is of another run, and is not to be replaced.
    """
    from medrail.bundle import verify_bundle
    from medrail.export import export_bundle

    with timed() as seconds:
        started = time.time()
        there = bundle_there(project.config, project.workspace, run.folder, replace=replace)
        network(project, run)
        cases, leaked = read_record(run).known(project.cases), leaked_cases(project, run)
        folder = export_bundle(run, project.config, project.workspace, cases, leaked)
        manifest = verify_bundle(folder)
    model = folder / "model.onnx"
    return StageResult(
        "export",
        f"bundle {manifest.bundle_id}, {model.stat().st_size / 1e6:.2f} MB",
        facts=(("ONNX against torch", agreement(manifest.parity)),),
        files=tuple(sorted(folder.iterdir())),
        warnings=(
            *((leak_sentence(leaked.counts),) if leaked else ()),
            *replaced(there, manifest),
        ),
        up_to_date=(folder / "bundle.json").stat().st_mtime < started,
        seconds=seconds(),
        values={"bundle": str(folder), "bundle_id": manifest.bundle_id, "parity": dict(manifest.parity)},
    )


def bundle_there(config: Config, workspace: Workspace, folder: Path, *, replace: bool) -> Manifest | None:
    """The bundle that has the name and version about to be written, if there is a usable one.

    Parameters
    ----------
    folder:
        Of the run, or the group, that is to be exported.

    Raises
    ------
    RunError
        If it is of another run or group, and is not to be replaced.
    """
    place, there = _found(config, workspace)
    if there is None or replace or there.provenance.get("run") == folder.name:
        return there
    command = f"medrail export {shlex.quote(str(folder))}"
    raise RunError(
        f"the bundle that lies there ({there.bundle_id}) is of {_whose(there)}, and this is {folder.name}",
        where=str(place),
        needed="another version, or a word that it may go",
        remedy=f"To keep both: `{command} --set export.version={next_version(place)}`. "
        f"To replace it: `{command} --replace`.",
    )


def keeping_both(project: Project, folder: Path) -> tuple[str, ...]:
    """What must be set to export a run, or a group, beside another one's bundle; nothing where none is in the way."""
    place, there = _found(project.config, project.workspace)
    if there is None or there.provenance.get("run") == folder.resolve().name:
        return ()
    return (f"export.version={next_version(place)}",)


def _found(config: Config, workspace: Workspace) -> tuple[Path, Manifest | None]:
    from medrail.bundle import Manifest

    place = workspace.bundles / config.name / config.export.version
    try:
        return place, Manifest.read(place)
    except BundleError:
        return place, None


def _whose(bundle: Manifest) -> str:
    if made_from := bundle.provenance.get("run"):
        return f"{'the group' if 'ensemble' in bundle.provenance else 'the run'} {made_from}"
    return "a network that was imported"


def next_version(place: Path) -> str:
    """A version that is free beside a bundle: one more where it is a number, else with a number behind it.

    >>> next_version(Path("bundles/chest/1")), next_version(Path("bundles/chest/1-slim"))
    ('2', '1-slim-2')
    """
    number = 2
    free = str(int(place.name) + 1) if place.name.isdecimal() else f"{place.name}-{number}"
    while place.with_name(free).exists():
        number += 1
        free = str(int(free) + 1) if place.name.isdecimal() else f"{place.name}-{number}"
    return free


def replaced(there: Manifest | None, now: Manifest) -> tuple[str, ...]:
    """Which bundle is gone, in one sentence."""
    if there is None or there.bundle_id == now.bundle_id:
        return ()
    return (f"replaced {there.bundle_id}, of {_whose(there)}; set export.version to keep several side by side",)


def agreement(parity: Mapping[str, Any]) -> str:
    return (
        f"probabilities differ by at most {parity['max_abs_difference']:.1g} on {parity['cases']} real cases, "
        f"{parity['metric']} by {parity['metric_change']:.1g}"
    )
