"""export_ensemble: a group's networks -> one ONNX file, and a bundle that says whose its numbers are."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrail.bundle import (
    Calibration,
    InputKind,
    Manifest,
    NetworkSpec,
    Predictor,
    Reference,
    load_network,
    onnx_backend,
    write_network,
)
from medrail.bundle.load import NETWORK_FILE, NETWORK_SPEC_FILE
from medrail.bundle.manifest import FileEntry
from medrail.bundle.reference import REFERENCE_FILE, TOLERANCES
from medrail.config import Config
from medrail.errors import ExportError
from medrail.evaluate import Evaluation
from medrail.evaluate.pooled import ordered
from medrail.export.bundle import beside, ship
from medrail.export.card import write_card
from medrail.export.inputs import MIXED, MOST_MIXTURES, mixtures, network_inputs
from medrail.export.network import check_parity, forget_calibration_of_another
from medrail.export.onnx_file import OPSET, write_onnx
from medrail.export.parity import chosen_cases, measure_parity
from medrail.group import MEMBER_NOUN, Group
from medrail.models.ensemble import Ensemble
from medrail.prepare import store_of
from medrail.train import load_model, torch_backend
from medrail.train.checkpoint import load
from medrail.train.weights import weights_sha256
from medrail.types import Case
from medrail.workspace import Run, Workspace, read_json

NUMBERS_ARE_OF = {
    "folds": "The numbers are out of fold: each case was judged by the one member that had not seen it. They are of "
    "the members, not of the ensemble in this bundle: all cases are in some member's training, so none is left to "
    "judge the ensemble by. They estimate how a network trained on the other folds does on new patients like these. "
    "An ensemble is mostly somewhat better than its members; how much is not known here. Judge it on data of your own.",
    "seeds": "The numbers are of this ensemble itself, calibrated and judged as one network, on the same cases as its "
    "members.",
}
NOT_CALIBRATED = (
    "This bundle applies no temperature and no threshold: no cases are left to fit them on. The members had their own, "
    "so what depends on these (accuracy, sensitivity, log loss and the like) is left out."
)


@dataclass(frozen=True)
class Material:
    """What an ensemble is made from: its group, the settings, and all cases with the first member's splits."""

    group: Group
    config: Config
    workspace: Workspace
    cases: Sequence[Case]


def export_ensemble(material: Material, evaluation: Evaluation) -> Path:
    """Put the network that ``ensemble_network`` wrote into a bundle.

    Parameters
    ----------
    evaluation:
        Of seeds that of the ensemble, whose calibration lies beside its network; of folds that of the members.

    Returns
    -------
    The bundle's folder.

    Raises
    ------
    RunError, BundleError
        If there is no usable network.
    """
    group, place = material.group, Run(material.group.folder)
    if group.kind == "folds":
        evaluation, said = _served(evaluation, [load_network(run.folder).calibration for run in group.runs])
    else:
        said = ""
    ensemble = load_network(place.folder)
    parity = read_json(place.folder / NETWORK_SPEC_FILE)["parity"]
    metrics = evaluation.to_json()["metrics"]
    provenance = _provenance(material, evaluation, said)
    more = beside(place, ensemble.calibration)
    manifest = Manifest(
        material.config.name,
        material.config.export.version,
        ensemble.spec,
        metrics,
        provenance,
        parity,
        tolerance=TOLERANCES if REFERENCE_FILE in more else {},
    )
    card = write_card(manifest, evaluation, ensemble.calibration)
    return ship(manifest, place.network, card, material.workspace, more)


def _served(evaluation: Evaluation, calibrations: Sequence[Calibration | None]) -> tuple[Evaluation, str]:
    """Of the members' numbers those that do not hang on a calibration which the bundle does not have."""
    if not any(one and (one.temperature != 1 or one.thresholds) for one in calibrations):
        return evaluation, ""
    metrics = {name: one for name, one in evaluation.metrics.items() if ordered(name)}
    return replace(evaluation, metrics=metrics, confusion=()), NOT_CALIBRATED


def ensemble_network(material: Material) -> Path:
    """Write one network of all members to the group's folder, after comparing it with torch on real cases.

    A calibration of another network that lies there is removed.

    Raises
    ------
    ExportError
        If the members do not fit together, or ONNX and torch differ by more than ``config.export.parity_tolerance``.
    RunError, BundleError
        If a member has no usable weights or is not exported.
    """
    group, config, place = material.group, material.config, Run(material.group.folder)
    spec = _common_spec([load_network(run.folder).spec for run in group.runs], group)
    network = Ensemble([load_model(run) for run in group.runs], several=getattr(spec, "multi_label", False)).eval()
    grid = tuple(load(group.runs[0].best)["grid"])
    for name in (NETWORK_FILE, NETWORK_SPEC_FILE, REFERENCE_FILE):
        (place.folder / name).unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(dir=group.folder, prefix=".export."))
    try:
        path = folder / NETWORK_FILE
        write_onnx(network, (spec.channels, *grid), path)
        trained = Predictor(spec, torch_backend(network), bundle_id=group.name)
        exported = Predictor(spec, onnx_backend(path), bundle_id=group.name)
        store = store_of(config, material.workspace)
        ready = set(store.ids())
        known = [case for case in material.cases if case.id in ready]
        cases = chosen_cases(known, config.export.parity_cases)
        found = measure_parity(trained, exported, store, cases)
        check_parity(found, config.export.parity_tolerance, place)
        learned_from = [case for case in known if case.split != "test"] or known
        mixed = mixtures(network_inputs(spec, store, learned_from, MIXED * MOST_MIXTURES))
        reference = folder / REFERENCE_FILE
        reference.write_bytes(Reference.of(mixed, exported.backend, exported.backend).to_bytes())
        parity = {**found.to_dict(), "asked_cases": config.export.parity_cases, "opset": OPSET}
        written = write_network(folder, spec, parity, _checkpoint(group))
        forget_calibration_of_another(place, FileEntry.of(path).sha256)
        path.replace(place.network)
        reference.replace(place.network.with_name(REFERENCE_FILE))
        written.replace(place.network.with_name(NETWORK_SPEC_FILE))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return place.network


def _common_spec(specs: Sequence[NetworkSpec], group: Group) -> NetworkSpec:
    """What all members say; the kinds of raw images they were trained on may differ, as their cases do.

    The ensemble answers with logits alone, so it has no cells of evidence: those of a mean of probabilities would not
    add up to its logits.
    """
    kind = InputKind.merge(*(spec.input_kind for spec in specs))
    alike = [replace(spec, input_kind=kind, cells=()) for spec in specs]
    if any(spec.to_dict() != alike[0].to_dict() for spec in alike):
        raise ExportError(
            "the members differ in preprocessing, classes or size",
            needed="members of one configuration",
            where=str(group.folder),
            remedy=f"Train the group again with `medrail train --{group.kind} {len(group.members)}`.",
        )
    return alike[0]


def _checkpoint(group: Group) -> str:
    return hashlib.sha256("".join(weights_sha256(run) for run in group.runs).encode()).hexdigest()


def _provenance(material: Material, evaluation: Evaluation, said: str) -> dict[str, Any]:
    """As that of a run's bundle; what differs between the members stands in ``ensemble.members``."""
    group = material.group
    numbers_are_of = " ".join(filter(None, (NUMBERS_ARE_OF[group.kind], said)))
    passports = [read_json(run.passport) for run in group.runs]
    first, code, noun = passports[0], passports[0].get("project") or {}, MEMBER_NOUN[group.kind]
    members = [
        {
            "run": run.name,
            noun: member.number,
            "fingerprint": passport["fingerprint"],
            "weights_sha256": weights_sha256(run),
            "epochs": passport["result"]["epochs"],
            "data": passport["data"],
        }
        for run, member, passport in zip(group.runs, group.members, passports, strict=True)
    ]
    prints = "".join(str(passport["fingerprint"]) for passport in passports)
    learned = [case for case in material.cases if group.kind == "folds" or case.split in ("train", "val")]
    leaks = evaluation.accepted_leaks
    return {
        "run": group.name,
        "fingerprint": hashlib.sha256(prints.encode()).hexdigest(),
        "completed": max(str(passport.get("completed", "")) for passport in passports),
        "seed": first["seed"],
        "model": material.config.model.model_dump(mode="json", exclude={"weights"}),
        "epochs": max(member["epochs"] for member in members),
        "chosen_by": first["result"]["chosen_by"],
        "data": {"train_cases": len(learned), "train_patients": len({case.patient for case in learned})},
        "commit": code.get("commit", ""),
        "diff_sha256": code.get("diff_sha256", ""),
        "medrail": first["medrail"]["version"],
        "packages": first["packages"],
        "machine": first["machine"],
        "ensemble": {"kind": group.kind, "numbers_are_of": numbers_are_of, "members": members},
        "evaluation": {
            "split": evaluation.split,
            "cases": evaluation.n,
            "patients": evaluation.patients,
            "fingerprint": evaluation.fingerprint,
            **({"accepted_leaks": {key: leaks[key] for key in leaks if key != "groups"}} if leaks else {}),
        },
    }
