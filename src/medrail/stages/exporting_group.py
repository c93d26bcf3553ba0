"""Stage export, of a group: its networks as one bundle."""

from __future__ import annotations

import time
from pathlib import Path

from medrail.cases import read_record
from medrail.errors import RunError
from medrail.group import Group, read_group
from medrail.stages.evaluating_group import Asked, current_evaluation, member_project
from medrail.stages.exporting import agreement
from medrail.stages.project import StageResult, timed


def export_group(path: str | Path, asked: Asked | None = None) -> StageResult:
    """Members that are evaluated -> one bundle of their ensemble.

    Raises
    ------
    RunError
        If the group, or a member, is not evaluated as its data and settings are now.
    """
    from medrail.bundle import verify_bundle
    from medrail.export.ensemble import Material, export_ensemble

    asked = asked or Asked()
    with timed() as seconds:
        started = time.time()
        group = read_group(path)
        evaluation = current_evaluation(group, asked)
        _check_members(group, asked)
        project, run = member_project(group, group.runs[0], asked)
        cases = read_record(run).known(project.cases)
        folder = export_ensemble(Material(group, project.config, project.workspace, cases, evaluation))
        manifest = verify_bundle(folder)
    model = folder / "model.onnx"
    return StageResult(
        "export",
        f"bundle {manifest.bundle_id}, an ensemble of {len(group.members)}, {model.stat().st_size / 1e6:.2f} MB",
        facts=(("ONNX against torch", agreement(manifest.parity)),),
        notes=(str(manifest.provenance["ensemble"]["numbers_are_of"]),),
        files=tuple(sorted(folder.iterdir())),
        up_to_date=(folder / "bundle.json").stat().st_mtime < started,
        seconds=seconds(),
        values={
            "bundle": str(folder),
            "bundle_id": manifest.bundle_id,
            "parity": dict(manifest.parity),
            "members": [run.name for run in group.runs],
        },
    )


def _check_members(group: Group, asked: Asked) -> None:
    """Each member's evaluation is of its present network, data and settings."""
    from medrail.evaluate import Evaluation
    from medrail.stages.evaluating import leaked_cases

    for run in group.runs:
        project, _ = member_project(group, run, asked)
        cases = read_record(run).known(project.cases)
        if not Evaluation.is_current(run, project.config, cases, leaked=leaked_cases(project, run)):
            raise RunError(
                "its evaluation is of another network, other settings or other data than there are now",
                where=str(run.folder),
                remedy=f"Run `medrail evaluate {group.folder}` with the same settings, then export again.",
            )
