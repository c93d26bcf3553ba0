"""Stage export: a Run with its evaluation -> a bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from medrail.cases import leak_sentence, read_record
from medrail.errors import BundleError
from medrail.stages.evaluating import leaked_cases, network
from medrail.stages.project import Project, StageResult, timed
from medrail.workspace import Run


def export_run(project: Project, run: Run) -> StageResult:
    """A Run with its evaluation -> a bundle: the one thing that is served, shared and load-tested."""
    from medrail.bundle import verify_bundle
    from medrail.export import export_bundle

    with timed() as seconds:
        started = time.time()
        network(project, run)
        replaced = _bundle_there(project)
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
            *(
                (f"replaced {replaced}; set export.version to keep several side by side",)
                if replaced not in ("", manifest.bundle_id)
                else ()
            ),
        ),
        up_to_date=(folder / "bundle.json").stat().st_mtime < started,
        seconds=seconds(),
        values={"bundle": str(folder), "bundle_id": manifest.bundle_id, "parity": dict(manifest.parity)},
    )


def _bundle_there(project: Project) -> str:
    """The id of the bundle that has the name and version about to be written, or nothing."""
    from medrail.bundle import Manifest

    try:
        return Manifest.read(project.workspace.bundles / project.config.name / project.config.export.version).bundle_id
    except BundleError:
        return ""


def agreement(parity: Mapping[str, Any]) -> str:
    return (
        f"probabilities differ by at most {parity['max_abs_difference']:.1g} on {parity['cases']} real cases, "
        f"{parity['metric']} by {parity['metric_change']:.1g}"
    )
