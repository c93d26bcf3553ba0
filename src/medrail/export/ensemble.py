"""export_ensemble: a group's networks -> one ONNX file, and a bundle that says whose its numbers are."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrail.bundle import InputKind, Manifest, NetworkSpec, Predictor, load_network, onnx_backend, write_network
from medrail.bundle.load import NETWORK_FILE, NETWORK_SPEC_FILE
from medrail.config import Config
from medrail.errors import ExportError
from medrail.evaluate import Evaluation
from medrail.export.bundle import ship
from medrail.export.card import write_card
from medrail.export.network import check_parity
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
    "seeds": "The numbers are means over the members, which differ in their seed, on the same cases. They are of the "
    "members, not of the ensemble in this bundle, which was not judged by itself. The brackets are what other seeds "
    "would change, not other patients.",
}


@dataclass(frozen=True)
class Material:
    """What an ensemble is made from: its group, the settings, all cases with the first member's splits, and the
    members' numbers put together.
    """

    group: Group
    config: Config
    workspace: Workspace
    cases: Sequence[Case]
    evaluation: Evaluation


def export_ensemble(material: Material) -> Path:
    """Write one network of all members, compare it with torch on real cases, and put it into a bundle.

    Returns
    -------
    The bundle's folder.

    Raises
    ------
    ExportError
        If the members do not fit together, or ONNX and torch differ by more than ``config.export.parity_tolerance``.
    RunError, BundleError
        If a member has no usable weights or is not exported.
    """
    group = material.group
    spec = _common_spec([load_network(run.folder).spec for run in group.runs], group)
    parity = _export(material, spec)
    metrics = material.evaluation.to_json()["metrics"]
    version = material.config.export.version
    manifest = Manifest(material.config.name, version, spec, metrics, _provenance(material), parity)
    network = Run(group.folder).network
    return ship(manifest, network, write_card(manifest, material.evaluation), material.workspace)


def _export(material: Material, spec: NetworkSpec) -> Mapping[str, Any]:
    """group/network.onnx and network.json; what they say of the agreement with torch."""
    group, config = material.group, material.config
    network = Ensemble([load_model(run) for run in group.runs], several=getattr(spec, "multi_label", False)).eval()
    grid = tuple(load(group.runs[0].best)["grid"])
    for name in (NETWORK_FILE, NETWORK_SPEC_FILE):
        (group.folder / name).unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(dir=group.folder, prefix=".export."))
    try:
        path = folder / NETWORK_FILE
        write_onnx(network, (spec.channels, *grid), path)
        trained = Predictor(spec, torch_backend(network), bundle_id=group.name)
        exported = Predictor(spec, onnx_backend(path), bundle_id=group.name)
        store = store_of(config, material.workspace)
        ready = set(store.ids())
        cases = chosen_cases([case for case in material.cases if case.id in ready], config.export.parity_cases)
        found = measure_parity(trained, exported, store, cases)
        check_parity(found, config.export.parity_tolerance, Run(group.folder))
        parity = {**found.to_dict(), "asked_cases": config.export.parity_cases, "opset": OPSET}
        written = write_network(folder, spec, parity, _checkpoint(group))
        path.replace(group.folder / NETWORK_FILE)
        written.replace(group.folder / NETWORK_SPEC_FILE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return parity


def _common_spec(specs: Sequence[NetworkSpec], group: Group) -> NetworkSpec:
    """What all members say; the kinds of raw images they were trained on may differ, as their cases do."""
    kind = InputKind.merge(*(spec.input_kind for spec in specs))
    alike = [replace(spec, input_kind=kind) for spec in specs]
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


def _provenance(material: Material) -> dict[str, Any]:
    """As that of a run's bundle; what differs between the members stands in ``ensemble.members``."""
    group, evaluation = material.group, material.evaluation
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
        "ensemble": {"kind": group.kind, "numbers_are_of": NUMBERS_ARE_OF[group.kind], "members": members},
        "evaluation": {
            "split": evaluation.split,
            "cases": evaluation.n,
            "patients": evaluation.patients,
            "fingerprint": evaluation.fingerprint,
            **({"accepted_leaks": {key: leaks[key] for key in leaks if key != "groups"}} if leaks else {}),
        },
    }
