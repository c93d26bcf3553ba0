"""Stage export, of a group: its networks as one bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from medrail.cases import Leaked, read_record
from medrail.errors import RunError
from medrail.group import Group, read_group
from medrail.stages.evaluating import leaked_cases
from medrail.stages.evaluating_group import Asked, member_project, out_of_fold
from medrail.stages.exporting import agreement, bundle_there, replaced
from medrail.stages.project import MakeProgress, StageResult, timed
from medrail.workspace import Run

if TYPE_CHECKING:
    from medrail.evaluate import Evaluation
    from medrail.export.ensemble import Material


def export_group(
    path: str | Path,
    asked: Asked | None = None,
    make_progress: MakeProgress = lambda _: None,
    *,
    replace: bool = False,
) -> StageResult:
    """Members that are evaluated -> one bundle of their ensemble.

    Of seeds the ensemble itself is calibrated and evaluated, on the same cases as its members, and that is shipped
    (the group's calibration.json and evaluation/). Of folds no cases are left for it; the members' numbers are shipped.

    Parameters
    ----------
    replace:
        Whether a bundle of another run or group may give way. One of this group always does.

    Raises
    ------
    RunError
        If the group, or a member, is not evaluated as its data and settings are now, or the bundle of this name and
        version is of another run or group, and is not to be replaced.
    """
    from medrail.bundle import verify_bundle
    from medrail.export.ensemble import Material, ensemble_network, export_ensemble

    asked = asked or Asked()
    with timed() as seconds:
        started = time.time()
        group = read_group(path)
        project, run = member_project(group, group.runs[0], asked)
        there = bundle_there(project.config, project.workspace, group.folder, replace=replace)
        if group.kind == "folds":
            evaluation = out_of_fold(group, asked)
        _check_members(group, asked)
        cases = read_record(run).known(project.cases)
        material = Material(group, project.config, project.workspace, cases)
        ensemble_network(material)
        if group.kind == "seeds":
            evaluation = _judged(material, leaked_cases(project, run), make_progress)
        folder = export_ensemble(material, evaluation)
        manifest = verify_bundle(folder)
    model = folder / "model.onnx"
    return StageResult(
        "export",
        f"bundle {manifest.bundle_id}, an ensemble of {len(group.members)}, {model.stat().st_size / 1e6:.2f} MB",
        facts=(("ONNX against torch", agreement(manifest.parity)),),
        notes=(str(manifest.provenance["ensemble"]["numbers_are_of"]),),
        files=tuple(sorted(folder.iterdir())),
        warnings=(
            *(f"{entry['case']}: {entry['reason']}" for entry in evaluation.failed),
            *replaced(there, manifest),
        ),
        up_to_date=(folder / "bundle.json").stat().st_mtime < started,
        seconds=seconds(),
        values={
            "bundle": str(folder),
            "bundle_id": manifest.bundle_id,
            "parity": dict(manifest.parity),
            "members": [run.name for run in group.runs],
        },
    )


def _judged(material: Material, leaked: Leaked, make_progress: MakeProgress) -> Evaluation:
    """The ensemble's own evaluation, after its calibration was fitted; what lies there is kept if it is just that."""
    from medrail.evaluate import Evaluation, evaluate, fit_calibration

    place, config, cases = Run(material.group.folder), material.config, material.cases
    fit_calibration(
        place, config, material.workspace, cases, make_progress("Calibrating the ensemble on the validation cases")
    )
    if Evaluation.is_current(place, config, cases, leaked=leaked):
        return Evaluation.load(place)
    return evaluate(place, config, cases, make_progress("Evaluating the ensemble"), leaked=leaked)


def _check_members(group: Group, asked: Asked) -> None:
    """Each member's evaluation is of its present network, data and settings."""
    from medrail.evaluate import Evaluation

    for run in group.runs:
        project, _ = member_project(group, run, asked)
        cases = read_record(run).known(project.cases)
        Evaluation.load(run)
        if not Evaluation.is_current(run, project.config, cases, leaked=leaked_cases(project, run)):
            raise RunError(
                "its evaluation is of another network, other settings or other data than there are now",
                where=str(run.folder),
                remedy=f"Run `medrail evaluate {group.folder}` with the same settings, then export again.",
            )
