"""quantise_run: a Run -> one whose network computes in whole numbers of 8 bits, a run like any other."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrail.bundle import Choice, NetworkSpec, Predictor, Reference, load_network, onnx_backend, write_network
from medrail.bundle.backend import EVIDENCE, LOGITS, fetch
from medrail.bundle.engines import INT8
from medrail.bundle.load import NETWORK_FILE, NETWORK_SPEC_FILE
from medrail.bundle.manifest import FileEntry
from medrail.bundle.reference import REFERENCE_FILE
from medrail.config import Config
from medrail.errors import OtherRunError, RunError
from medrail.export import export_network
from medrail.export.inputs import FloatArray, mixtures, network_inputs
from medrail.export.network import checked_gap
from medrail.export.onnx_file import OPSET
from medrail.export.parity import chosen_cases, evidence_gap, measure_parity
from medrail.export.quantise import TOOL, Quantised, quantise_within
from medrail.lock import Busy, locked
from medrail.prepare import Store, store_of
from medrail.slim.write import copy_record
from medrail.train.passport import now
from medrail.types import Case, Progress
from medrail.workspace import Run, Workspace, read_json, write_json

CALIBRATED_ON = {2: 128, 3: 24}
"""Inputs of a network of so many dimensions from which the ranges are found; as many again that it never sees tell what
quantisation changed, at most."""
JUDGED_ON = {2: 32, 3: 8}
_COPIED = ("config.yaml", "images.json", "metrics.jsonl", "curves.png")


def quantise_run(
    parent: Run,
    config: Config,
    workspace: Workspace,
    cases: Sequence[Case],
    *,
    run_name: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Quantise a run's exported network, which is exported first where it is not; the weights stay the parent's.

    Calibrated on prepared training cases. Layers that cost accuracy stay in float (see ``quantise_within``). The same
    request gives the same run without doing anything.

    Parameters
    ----------
    cases:
        The prepared cases, with the splits of the parent's record.
    run_name:
        Folder below ``runs``; None: PARENT-int8.

    Returns
    -------
    A run with ``parent`` and ``slim`` in its passport, whose network.json says that it is quantised, how far it is from
    the network it was made of, and that ONNX Runtime runs it; ``medrail.bundle.choose_engine`` says otherwise.

    Raises
    ------
    RunError
        If the parent is not finished or is quantised already, or a run of that name is another one or being made.
    ExportError
        If the network cannot be quantised, or its evidence would not be exact.
    """
    passport = read_json(parent.passport)
    if not passport.get("finished"):
        raise RunError(
            "the training is not finished", where=str(parent.folder), remedy="`medrail train` goes on with it."
        )
    if not (parent.network.is_file() and parent.network.with_name(NETWORK_SPEC_FILE).is_file()):
        export_network(parent, config, workspace, cases)
    described = read_json(parent.network.with_name(NETWORK_SPEC_FILE))
    if described.get("quantised"):
        raise RunError("the network is quantised already", where=str(parent.network), needed="the run it was made of")
    store = store_of(config, workspace)
    trained_on = [case for case in cases if case.split == "train"] or list(cases)
    spec = load_network(parent.folder, calibrated=False).spec
    fingerprint = _fingerprint(passport, described, store, trained_on, spec)
    run = workspace.run(run_name or f"{parent.name}-int8")
    try:
        with locked(workspace.runs / f".slim-{run.name}.lock"):
            if not _is_made(run, fingerprint):
                made = _Making(parent, config, workspace, store, tuple(cases), trained_on, spec, described, progress)
                made.fill(run, passport, fingerprint)
    except Busy as busy:
        raise RunError(
            f"another process (number {busy.note.get('process', 'unknown')}) is making it",
            where=str(run.folder),
            remedy="Wait until it has ended and repeat: what is finished is not made again.",
        ) from None
    return run


def _is_made(run: Run, fingerprint: str) -> bool:
    """Whether this very run is there.

    Raises
    ------
    OtherRunError
        If another one is.
    """
    if not run.folder.exists():
        return False
    if run.passport.is_file() and read_json(run.passport).get("fingerprint") == fingerprint:
        return True
    raise OtherRunError(
        "exists and was made from something else",
        where=str(run.folder),
        remedy="Choose another name, or delete the folder.",
    )


def _fingerprint(
    passport: Mapping[str, Any], described: Mapping[str, Any], store: Store, cases: Sequence[Case], spec: NetworkSpec
) -> str:
    made_of = {
        "parent": passport.get("fingerprint"),
        "network": described["sha256"],
        "tool": TOOL,
        "inputs": [CALIBRATED_ON[spec.dims], JUDGED_ON[spec.dims]],
        "data": store.fingerprint(case.id for case in cases),
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Making:
    """What a quantised run is made from."""

    parent: Run
    config: Config
    workspace: Workspace
    store: Store
    cases: tuple[Case, ...]
    trained_on: Sequence[Case]
    spec: NetworkSpec
    described: Mapping[str, Any]
    progress: Progress | None

    def fill(self, run: Run, passport: Mapping[str, Any], fingerprint: str) -> None:
        """Under another name, which becomes the run's when all is there."""
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        filled = Run(Path(tempfile.mkdtemp(dir=run.folder.parent, prefix=f".slim-{run.name}.")))
        try:
            for name in _COPIED:
                if (self.parent.folder / name).is_file():
                    shutil.copyfile(self.parent.folder / name, filled.folder / name)
            copy_record(self.parent, filled, self.workspace)
            weights = filled.checkpoints / self.parent.best.name
            weights.parent.mkdir()
            shutil.copyfile(self.parent.best, weights)
            found = self._network(filled.folder)
            slim = {"said": _said(found), "method": INT8, **found, "before": passport.get("slim")}
            of = {"run": self.parent.name, "fingerprint": passport.get("fingerprint", "")}
            told = {**passport, "fingerprint": fingerprint, "completed": now(), "parent": of, "slim": slim}
            write_json(filled.passport, told)
            filled.folder.chmod(0o755)
            filled.folder.rename(run.folder)
        finally:
            shutil.rmtree(filled.folder, ignore_errors=True)

    def _network(self, folder: Path) -> dict[str, Any]:
        """Write network.onnx, reference.npz and network.json; what is to be told of it."""
        self._tell(0, "taking inputs from the training cases")
        wanted, judged = CALIBRATED_ON[self.spec.dims], JUDGED_ON[self.spec.dims]
        inputs = network_inputs(self.spec, self.store, self.trained_on, wanted)
        held_out = network_inputs(self.spec, self.store, self._unseen(), judged, seed=1)
        path = folder / NETWORK_FILE
        self._tell(1, "quantising")
        found = quantise_within(self.parent.network, path, _batches(inputs), _batches(held_out))
        self._tell(2, "comparing it with the network it was made of")
        exact = Predictor(self.spec, onnx_backend(self.parent.network, self.config.serve.threads), self.parent.name)
        ours = Predictor(self.spec, onnx_backend(path, self.config.serve.threads), folder.name)
        mixed = mixtures(inputs)
        (folder / REFERENCE_FILE).write_bytes(Reference.of(mixed, exact.backend, ours.backend).to_bytes())
        told = _told(found, self.parent.network, path, len(inputs))
        write_network(
            folder,
            self.spec,
            self._parity(exact, ours),
            self.described.get("checkpoint", ""),
            engine=Choice("onnxruntime", INT8),
            quantised=told,
        )
        self._tell(3, "")
        return told

    def _unseen(self) -> Sequence[Case]:
        return [case for case in self.cases if case.split == "val"] or self.trained_on

    def _parity(self, exact: Predictor, ours: Predictor) -> dict[str, Any]:
        compared = chosen_cases(self.cases, self.config.export.parity_cases)
        parity = measure_parity(exact, ours, self.store, compared)
        facts = {**parity.to_dict(), "asked_cases": self.config.export.parity_cases, "opset": OPSET}
        if ours.has_evidence:
            bias = _bias(exact, self.store, compared[0])
            facts["evidence_gap"] = checked_gap(evidence_gap(ours, bias, self.store, compared))
        return facts

    def _tell(self, done: int, note: str) -> None:
        if self.progress:
            self.progress(done, 3, note)


def _batches(inputs: Sequence[FloatArray]) -> list[FloatArray]:
    return [one[np.newaxis] for one in inputs]


def _bias(exact: Predictor, store: Store, case: Case) -> FloatArray:
    """(K,): what the exact network adds to the mean of its evidence."""
    voxels = store.load(case.id)[0].voxels.astype(np.float32)
    batch = voxels[np.newaxis] if exact.spec.dims == 3 else np.moveaxis(voxels, 1, 0)[:1]
    found = fetch(exact.backend, batch, (LOGITS, EVIDENCE))
    means = found[EVIDENCE][0].reshape(len(exact.spec.classes), -1).mean(axis=1, dtype=np.float64)
    return np.asarray(found[LOGITS][0] - means, dtype=np.float32)


def _told(found: Quantised, before: Path, after: Path, inputs: int) -> dict[str, Any]:
    return {
        "tool": TOOL,
        "layers": found.layers,
        "in_float": list(found.in_float),
        "gap": found.gap,
        "calibrated_on": inputs,
        "bytes": FileEntry.of(after).bytes,
        "bytes_before": FileEntry.of(before).bytes,
    }


def _said(told: Mapping[str, Any]) -> str:
    left = f", {len(told['in_float'])} of {told['layers']} layers left in float" if told["in_float"] else ""
    share = told["bytes"] / told["bytes_before"]
    return f"int8: {share:.0%} of the file's size, logits off by {told['gap']:.2g} of their size{left}"
