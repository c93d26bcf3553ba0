"""export_network: a Run's best weights -> run/network.onnx + network.json, if both engines agree."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from medrail.bundle import Calibration, InputKind, Predictor, Reference, onnx_backend, write_network
from medrail.bundle.backend import EVIDENCE
from medrail.bundle.load import NETWORK_FILE, NETWORK_SPEC_FILE
from medrail.bundle.reference import REFERENCE_FILE
from medrail.config import Config
from medrail.errors import BundleError, ExportError, ReadError, RunError
from medrail.export.inputs import MIXED, MOST_MIXTURES, mixtures, network_inputs
from medrail.export.onnx_file import OPSET, write_onnx
from medrail.export.parity import Parity, chosen_cases, evidence_gap, measure_parity
from medrail.models import MODELS
from medrail.models.cells import cell_places
from medrail.models.evidence import WithEvidence
from medrail.prepare import store_of
from medrail.read import read
from medrail.train import load_model, torch_backend
from medrail.train.checkpoint import load
from medrail.train.material import network_spec
from medrail.types import Case, ReadOptions
from medrail.workspace import Run, Workspace

LARGEST_EVIDENCE_GAP = 1e-4
"""Between a logit and the mean of its evidence plus the bias, in units of the larger of 1 and the largest logit."""
LOOKED_AT = 32
"""Raw images that are opened to tell what kind the training images were."""


def export_network(run: Run, config: Config, workspace: Workspace, cases: Sequence[Case]) -> Path:
    """Write the run's best network as ONNX, after comparing it with torch on real prepared cases.

    Parameters
    ----------
    cases:
        All prepared cases; ``config.export.parity_cases`` of them are compared, of the test split first.

    Returns
    -------
    run/network.onnx, which answers with logits, features and, where they are exact, evidence (see
    ``medrail.models.evidence``); beside it lie network.json with the spec, the parity and the weights' SHA-256, and
    reference.npz, by which another engine can prove its answers (``medrail.bundle.reference``). A
    calibration of another network that lies there is removed.

    Raises
    ------
    ExportError
        If the network cannot be exported, or any probability differs by more than ``config.export.parity_tolerance``.
        No file is left in that case, an older export neither.
    RunError
        If the run has no usable weights, a training replaces them just now, or no case is prepared.
    """
    trained_network, about, checkpoint = _trained(run)
    store = store_of(config, workspace)
    learned_from = [case for case in cases if case.split in ("train", "val")] or cases
    kind = _input_kind(learned_from, config.read_options)
    spec = network_spec(config, store.pipeline, tuple(about["classes"]), tuple(about["grid"]), kind)
    shape = (spec.channels, *about["grid"])
    network = WithEvidence(trained_network, MODELS[about["model"]["name"]].ending, shape)
    if EVIDENCE in network.outputs:
        spec = replace(spec, cells=cell_places(network, shape))
    for name in (NETWORK_FILE, NETWORK_SPEC_FILE, REFERENCE_FILE):
        (run.folder / name).unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(dir=run.folder, prefix=".export."))
    try:
        path = folder / NETWORK_FILE
        write_onnx(network, shape, path, network.outputs)
        trained = Predictor(spec, torch_backend(network), bundle_id=run.name)
        exported = Predictor(spec, onnx_backend(path), bundle_id=run.name)
        compared = chosen_cases(cases, config.export.parity_cases)
        parity = measure_parity(trained, exported, store, compared)
        check_parity(parity, config.export.parity_tolerance, run)
        facts = {**parity.to_dict(), "asked_cases": config.export.parity_cases, "opset": OPSET}
        if exported.has_evidence:
            facts["evidence_gap"] = checked_gap(evidence_gap(exported, network.bias.detach().numpy(), store, compared))
        mixed = mixtures(network_inputs(spec, store, learned_from, MIXED * MOST_MIXTURES))
        reference = folder / REFERENCE_FILE
        reference.write_bytes(Reference.of(mixed, exported.backend, exported.backend).to_bytes())
        written = write_network(folder, spec, facts, checkpoint)
        forget_calibration_of_another(run, _sha256(path))
        path.replace(run.network)
        reference.replace(run.network.with_name(REFERENCE_FILE))
        written.replace(run.network.with_name(NETWORK_SPEC_FILE))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return run.network


def _trained(run: Run) -> tuple[nn.Module, dict[str, Any], str]:
    """The network, what its checkpoint says of it, and the SHA-256 of the very file that both are from."""
    before = _sha256(run.best) if run.best.is_file() else ""  # load_model says what to do where there is none
    network, about = load_model(run), load(run.best)
    if _sha256(run.best) != before:
        raise RunError(
            "its weights were replaced while they were read: it is being trained",
            where=str(run.folder),
            remedy="Wait until its training has ended, and repeat.",
        )
    return network, about, before


def check_parity(parity: Parity, tolerance: float, run: Run, engines: str = "ONNX Runtime and torch") -> None:
    """Raise ``ExportError`` if any probability differs by more than ``tolerance`` between these two engines."""
    if parity.max_abs_difference <= tolerance:
        return
    raise ExportError(
        f"{engines} differ by up to {parity.max_abs_difference:.3g} in a probability on {parity.cases} "
        f"cases ({parity.labels_changed:.2%} of the answers, {parity.metric} by {parity.metric_change:.3g})",
        needed=f"at most {tolerance:g} (export.parity_tolerance)",
        where=str(run.folder),
        remedy="Nothing was exported. If the change of the metric is nothing to you, raise export.parity_tolerance.",
    )


def checked_gap(gap: float) -> float:
    """The gap between logits and evidence, if it is none; else ``ExportError``."""
    if gap <= LARGEST_EVIDENCE_GAP:
        return gap
    raise ExportError(
        f"the mean of the evidence and the logit differ by {gap:.3g} of the largest logit",
        needed=f"at most {LARGEST_EVIDENCE_GAP:g}, as the evidence is said to be exact",
        remedy="Nothing was exported. Choose another model.name, and report this: it is a defect of medrail.",
    )


def forget_calibration_of_another(run: Run, network_sha256: str) -> None:
    """Remove the run's calibration unless it is of the network with this SHA-256."""
    try:
        kept = Calibration.read(run.calibration).network_sha256 == network_sha256
    except BundleError:
        kept = False
    if not kept:
        run.calibration.unlink(missing_ok=True)


def _input_kind(cases: Sequence[Case], options: ReadOptions) -> InputKind:
    """What the raw images have in common, from at most 32 of them, taken evenly."""
    step = max(1, -(-len(cases) // LOOKED_AT))
    kinds = []
    for case in cases[::step]:
        try:
            kinds.append(InputKind.of(read(case.paths[0], case.item, options)))
        except ReadError:
            continue  # it was readable when it was prepared; the others tell enough
    if not kinds:
        raise ExportError(
            "none of the raw images can be read any more",
            needed="one at least, to record what kind the network was trained on",
            where=cases[0].paths[0] if cases else "",
            remedy="Put the data back where data.path says.",
        )
    return InputKind.merge(*kinds)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
