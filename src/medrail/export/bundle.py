"""export_bundle: a Run with its exported network and its evaluation -> bundles/NAME/VERSION/."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrail.bundle import Calibration, Manifest, load_network, verify_bundle
from medrail.bundle.calibration import CALIBRATION_FILE
from medrail.bundle.load import NETWORK_SPEC_FILE
from medrail.bundle.manifest import CARD_FILE, MODEL_FILE
from medrail.bundle.reference import REFERENCE_FILE, TOLERANCES
from medrail.bundle.settle import choice_of
from medrail.cases import Leaked
from medrail.config import Config
from medrail.errors import BundleError, RunError
from medrail.evaluate import Evaluation
from medrail.evaluate.evaluation import NOTHING_LEAKED
from medrail.export.card import write_card
from medrail.types import Case
from medrail.workspace import Run, Workspace, read_json, write_folder, write_text


def export_bundle(
    run: Run, config: Config, workspace: Workspace, cases: Sequence[Case], leaked: Leaked = NOTHING_LEAKED
) -> Path:
    """Put together what is shipped: model.onnx, calibration.json where the run has one, bundle.json and card.md, with
    the metrics of run/evaluation.

    The folder is filled under another name and then renamed, so what stands at bundles/NAME/VERSION is always whole. A
    bundle of the same content is left as it is; another one of that version is replaced. What a killed export left
    behind is removed.

    Parameters
    ----------
    cases:
        The project's cases: the evaluation must be one of this network on those of the split that the configuration
        names.
    leaked:
        Those of them that the network has seen in training, where that was accepted: the bundle says so.

    Returns
    -------
    The bundle's folder.

    Raises
    ------
    RunError
        If the run is not finished, exported or evaluated, or was evaluated with another network, other settings or
        other data than the present ones.
    BundleError
        If the exported network is not the one that network.json describes, or the calibration is not one of it.
    """
    manifest, evaluation, calibration = _manifest(run, config, cases, leaked)
    card = write_card(manifest, evaluation, calibration)
    return ship(manifest, run.network, card, workspace, beside(run, calibration))


def beside(run: Run, calibration: Calibration | None) -> dict[str, Path]:
    """What a bundle holds besides its network and card, of what lies in a run: name in the bundle -> file."""
    reference = run.network.with_name(REFERENCE_FILE)
    told = read_json(run.network.with_name(NETWORK_SPEC_FILE)).get("reference_sha256")
    return {
        **({CALIBRATION_FILE: run.calibration} if calibration else {}),
        **({REFERENCE_FILE: reference} if told else {}),
    }


def ship(manifest: Manifest, network: Path, card: str, workspace: Workspace, more: Mapping[str, Path]) -> Path:
    """Fill bundles/NAME/VERSION with a network, its manifest, its card and the other files (see ``beside``).

    Whole or not at all; that folder.
    """
    folder = workspace.bundles / manifest.name / manifest.version

    def fill(filled: Path) -> bool:
        shutil.copyfile(network, filled / MODEL_FILE)
        write_text(filled / CARD_FILE, card)
        names = [MODEL_FILE, CARD_FILE]
        for name, file in more.items():
            shutil.copyfile(file, filled / name)
            names.append(name)
        complete = manifest.write(filled, names)
        return _existing(folder) != complete.to_dict()

    return write_folder(folder, fill)


def _manifest(
    run: Run, config: Config, cases: Sequence[Case], leaked: Leaked
) -> tuple[Manifest, Evaluation, Calibration | None]:
    passport: Mapping[str, Any] = read_json(run.passport)
    if not passport.get("finished"):
        raise RunError("the training is not finished", where=str(run.folder), remedy="`medrail train` goes on with it.")
    predictor = load_network(run.folder)  # checks that both files belong together, and that the engine takes them
    evaluation = Evaluation.load(run)
    if not Evaluation.is_current(run, config, cases, leaked=leaked):
        raise RunError(
            f"the evaluation that lies there ({evaluation.split} split, {evaluation.n} cases) was made with another "
            "network, other settings, other data or another medrail",
            needed=f"an evaluation on the {config.evaluate.split} split as it is now",
            where=str(run.evaluation),
            remedy="Run `medrail evaluate` with the same settings, then export again.",
        )
    metrics = evaluation.to_json()["metrics"]
    described = read_json(run.folder / NETWORK_SPEC_FILE)
    provenance = _provenance(run, config, passport, evaluation, leaked)
    manifest = Manifest(
        config.name,
        config.export.version,
        predictor.spec,
        metrics,
        provenance,
        described["parity"],
        engine=choice_of(described),
        tolerance=TOLERANCES if described.get("reference_sha256") else {},
    )
    return manifest, evaluation, predictor.calibration


def _provenance(
    run: Run, config: Config, passport: Mapping[str, Any], evaluation: Evaluation, leaked: Leaked
) -> dict[str, Any]:
    """Fingerprints, counts and versions, but neither the project's diff nor a path."""
    code = passport.get("project") or {}
    return {
        "run": run.name,
        "fingerprint": passport["fingerprint"],
        "completed": passport.get("completed", ""),
        "seed": passport["seed"],
        "model": config.model.model_dump(mode="json", exclude={"weights"}),
        "epochs": passport["result"]["epochs"],
        "chosen_by": passport["result"]["chosen_by"],
        "data": passport["data"],
        "commit": code.get("commit", ""),
        "diff_sha256": code.get("diff_sha256", ""),
        "medrail": passport["medrail"]["version"],
        "packages": passport["packages"],
        "machine": passport["machine"],
        **{key: passport[key] for key in ("parent", "slim") if key in passport},
        "evaluation": {
            "split": evaluation.split,
            "cases": evaluation.n,
            "patients": evaluation.patients,
            "fingerprint": evaluation.fingerprint,
            # Counts only: a bundle travels, and names of files and patients stay.
            **({"accepted_leaks": leaked.counts} if leaked else {}),
        },
    }


def _existing(folder: Path) -> dict[str, Any] | None:
    try:
        return verify_bundle(folder).to_dict()
    except BundleError:
        return None
