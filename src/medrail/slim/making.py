"""Making: the run of each candidate, below the slimmed run's own folder. What is there already is not made again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medrail.bundle import Choice, choose_engine, load_network
from medrail.bundle.engines import INT8
from medrail.bundle.load import NETWORK_SPEC_FILE
from medrail.config import Config
from medrail.errors import MedrailError, OtherRunError, RunError
from medrail.evaluate import fit_calibration
from medrail.export import export_network
from medrail.slim.candidates import Candidate, source_name
from medrail.slim.quantise import quantise_run
from medrail.slim.run import prune_run, sparsify_run
from medrail.slim.write import copy_record
from medrail.types import Case, Progress
from medrail.workspace import Run, Workspace, read_json, write_json

MakeProgress = Callable[[str], "Progress | None"]
PLAIN = Choice()
"""How every network is run that nobody chose an engine for."""


@dataclass
class Making:
    """What candidates are made from.

    run:
        The run that is to be slimmed, exported and calibrated.
    cases:
        With the splits of its record.
    prepared:
        Those of them that are in the store.
    """

    run: Run
    config: Config
    workspace: Workspace
    cases: Sequence[Case]
    prepared: Sequence[Case]
    make_progress: MakeProgress = lambda _: None
    _sources: dict[str, Run] = field(default_factory=dict)
    _failed: dict[str, MedrailError] = field(default_factory=dict)

    @property
    def inner(self) -> Workspace:
        """Where the candidates' runs lie: RUN/slim/NAME."""
        return Workspace(self.workspace.root, f"{self.workspace.runs_in}/{self.run.name}/{self.run.slim.name}")

    @property
    def base(self) -> Choice:
        """How the run was evaluated, before anything is chosen for it."""
        taken = load_network(self.run.folder, threads=1, calibrated=False).taken
        return taken.choice if taken else PLAIN

    def of(self, candidate: Candidate) -> Run:
        """The candidate's run: exported, calibrated, and served by its engine.

        Raises
        ------
        MedrailError
            If it cannot be pruned, quantised or run so.
        """
        source = self._source(candidate.ratio, unstructured=candidate.unstructured)
        if candidate.choice.precision == INT8:
            source = self._quantised(source, candidate)
        place = self.inner.run(candidate.name)
        made = with_engine(source, candidate.choice, place, self.workspace)
        if not made.calibration.is_file():
            fit_calibration(made, self.config, self.workspace, self.cases)
        return made

    def _source(self, ratio: float, *, unstructured: bool) -> Run:
        if not ratio:
            return self.run
        name = source_name(ratio, unstructured=unstructured)
        return self._once(name, lambda: self._without_weights(name, ratio, unstructured=unstructured))

    def _without_weights(self, name: str, ratio: float, *, unstructured: bool) -> Run:
        asked = (self.run, self.config, self.inner, self.prepared)
        if unstructured:
            run = self._anew(name, lambda: sparsify_run(*asked, ratio, run_name=name))
        else:
            told = self.make_progress(f"Pruning {ratio:.0%}")
            run = self._anew(name, lambda: prune_run(*asked, ratio, run_name=name, progress=told))
        exported(run, self.config, self.workspace, self.prepared)
        fit_calibration(run, self.config, self.workspace, self.cases)
        return run

    def _quantised(self, source: Run, candidate: Candidate) -> Run:
        name = f"{source_name(candidate.ratio, unstructured=candidate.unstructured)}-{INT8}"
        return self._once(name, lambda: self._in_whole_numbers(name, source, candidate))

    def _in_whole_numbers(self, name: str, source: Run, candidate: Candidate) -> Run:
        told = self.make_progress(f"Quantising {candidate.ratio:.0%} pruned")
        asked = (source, self.config, self.inner, self.prepared)
        run = self._anew(name, lambda: quantise_run(*asked, run_name=name, progress=told))
        fit_calibration(run, self.config, self.workspace, self.cases)
        return run

    def _once(self, name: str, make: Callable[[], Run]) -> Run:
        """What is made, or why it cannot be: neither is found out again for another engine."""
        if name in self._failed:
            raise self._failed[name]
        if name not in self._sources:
            try:
                self._sources[name] = make()
            except MedrailError as error:
                self._failed[name] = error
                raise
        return self._sources[name]

    def _anew(self, name: str, make: Callable[[], Run]) -> Run:
        """What is made; one of that name that was made otherwise, with settings of before, gives way to it."""
        try:
            return make()
        except OtherRunError:
            shutil.rmtree(self.inner.run(name).folder)
            return make()


def exported(run: Run, config: Config, workspace: Workspace, prepared: Sequence[Case]) -> None:
    """Export a run whose network is not there, or is of other weights."""
    description = run.network.with_name(NETWORK_SPEC_FILE)
    checkpoint = hashlib.sha256(run.best.read_bytes()).hexdigest()
    if run.network.is_file() and description.is_file() and read_json(description).get("checkpoint") == checkpoint:
        return
    export_network(run, config, workspace, prepared)


def with_engine(source: Run, choice: Choice, place: Run, workspace: Workspace) -> Run:
    """The same network, to be run by another engine: a run of its own, with the source as its parent.

    Raises
    ------
    BundleError
        If the engine does not answer as the source's network.
    """
    passport = read_json(source.passport)
    described = read_json(source.network.with_name(NETWORK_SPEC_FILE))
    made_of = [passport.get("fingerprint", ""), described["sha256"], choice.to_dict()]
    fingerprint = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    if _is_of(place, fingerprint):
        return place
    filled = Run(place.folder.with_name(f".{place.name}.new"))
    shutil.rmtree(filled.folder, ignore_errors=True)
    try:
        copy_run(source, filled, workspace)
        if choice != PLAIN or described.get("engine"):
            choose_engine(filled.folder, choice)
    except BaseException:
        shutil.rmtree(filled.folder, ignore_errors=True)
        raise
    whose = passport.get("parent") or {"run": source.name, "fingerprint": passport.get("fingerprint", "")}
    slim = {"method": "engine", "ratio": 0.0, **(passport.get("slim") or {}), "engine": choice.to_dict()}
    said = (passport.get("slim") or {}).get("said", "not pruned")
    slim["said"] = f"{said}; run by {choice}"
    write_json(filled.passport, {**passport, "fingerprint": fingerprint, "parent": whose, "slim": slim})
    shutil.rmtree(place.folder, ignore_errors=True)
    filled.folder.rename(place.folder)
    return place


def _is_of(place: Run, fingerprint: str) -> bool:
    try:
        known = read_json(place.passport).get("fingerprint") == fingerprint
        load_network(place.folder, threads=1, calibrated=False)
    except (MedrailError, OSError):
        return False
    return bool(known)


_COPIED = ("config.yaml", "images.json", "metrics.jsonl", "curves.png", "passport.json")
_LINKED = ("network.onnx", "network.json", "reference.npz", "calibration.json")


def copy_run(source: Run, target: Run, workspace: Workspace) -> None:
    """The files of a run without its evaluation; large ones that nobody changes in place share their room on the disk.

    Raises
    ------
    RunError
        If it has no weights or no network.
    """
    for path in (source.best, source.network):
        if not path.is_file():
            raise RunError("there is no such file", where=str(path))
    target.checkpoints.mkdir(parents=True)
    for name in _COPIED:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, target.folder / name)
    for name in (*_LINKED, f"{source.checkpoints.name}/{source.best.name}"):
        if (source.folder / name).is_file():
            _linked(source.folder / name, target.folder / name)
    copy_record(source, target, workspace)


def _linked(source: Path, target: Path) -> None:
    """Another name of the same file, which is only ever replaced as a whole; a copy where the disk cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def size_mb(run: Run) -> float:
    """Of the network's file (10^6 bytes)."""
    return round(run.network.stat().st_size / 1e6, 3)
