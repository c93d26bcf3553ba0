"""A quantised run is a run like any other: evaluated, exported and served by what was chosen for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medrail.bundle import Choice, Manifest, choose_engine, load_bundle, load_network, verify_bundle
from medrail.bundle.reference import REFERENCE_FILE
from medrail.errors import BundleError, RunError
from medrail.evaluate import evaluate
from medrail.evaluate.fitting import fit_calibration
from medrail.export import export_bundle, export_network
from medrail.slim.quantise import quantise_run
from medrail.stages.evaluating import network
from medrail.stages.project import Project
from medrail.workspace import Run, read_json
from trained_runs import Trained, trained


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("made") / "project", "pictures")


def quantised(made: Trained, **more: Any) -> Run:
    return quantise_run(made.run, made.config, made.workspace, made.cases, **more)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "patches"])
def test_a_quantised_run_goes_the_whole_way(kind: str, tmp_path: Path) -> None:
    made = trained(tmp_path / "project", kind)
    run = quantised(made)
    assert run.name == f"{made.run.name}-int8"
    told = read_json(run.folder / "network.json")
    assert told["engine"] == {"engine": "onnxruntime", "precision": "int8", "device": "cpu"}
    assert 0 <= told["quantised"]["gap"] < 0.2
    passport = read_json(run.passport)
    assert passport["parent"]["run"] == made.run.name
    assert passport["slim"]["said"].startswith("int8: ")
    assert passport["fingerprint"] != read_json(made.run.passport)["fingerprint"]
    assert run.best.read_bytes() == made.run.best.read_bytes()
    exported = run.network.read_bytes()
    assert exported != made.run.network.read_bytes()
    project = Project(made.config, made.workspace)
    assert network(project, run) == run.network
    assert run.network.read_bytes() == exported, "the float network is not exported over it"
    fit_calibration(run, made.config, made.workspace, made.cases)
    evaluate(run, made.config, made.cases)
    bundle = export_bundle(run, made.config, made.workspace, made.cases)
    manifest = verify_bundle(bundle)
    assert manifest.engine == Choice("onnxruntime", "int8")
    assert REFERENCE_FILE in manifest.files
    predictor = load_bundle(bundle, 1)
    assert predictor.taken is not None
    assert str(predictor.taken) == "onnxruntime int8: as its judge chose"
    assert "quantised against unquantised" in (bundle / "card.md").read_text(encoding="utf-8")
    with pytest.raises(RunError, match="quantised already"):
        quantise_run(run, made.config, made.workspace, made.cases)
    openvino = Choice("openvino", "int8")
    if not openvino.problem and not crashes(bundle):
        assert load_bundle(bundle, 1, "openvino").taken.choice == openvino
        choose_engine(run.folder, openvino)
        assert load_network(run.folder, 1).taken.choice == openvino


def crashes(bundle: Path) -> bool:
    """Whether OpenVINO was seen to crash at the network, on this machine."""
    try:
        load_bundle(bundle, 1, "openvino")
    except BundleError as error:
        if "crashes" in error.found:
            return True
        raise
    return False


def test_the_same_request_gives_the_same_run_and_another_one_is_no_overwriting(made: Trained) -> None:
    run = quantised(made)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()}
    assert quantised(made) == run
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()} == before
    with pytest.raises(RunError, match="made from something else"):
        quantised(made, run_name=made.run.name)
    fewer = replace(made, cases=made.cases[1:])
    with pytest.raises(RunError, match="made from something else"):
        quantised(fewer)
    assert [path.name for path in made.workspace.runs.glob(".slim*") if path.is_dir()] == []


def test_other_weights_beside_a_quantised_network_are_noticed(made: Trained) -> None:
    run = quantised(made, run_name="touched")
    run.best.write_bytes(run.best.read_bytes() + b"0")
    with pytest.raises(RunError, match="made from other weights"):
        network(Project(made.config, made.workspace), run)


@pytest.mark.slow
def test_a_float_network_has_a_reference_too_and_a_bundle_of_it_can_run_in_any_engine(made: Trained) -> None:
    export_network(made.run, made.config, made.workspace, made.cases)
    evaluate(made.run, made.config, made.cases)
    bundle = export_bundle(made.run, made.config, made.workspace, made.cases)
    manifest = Manifest.read(bundle)
    assert (manifest.engine, sorted(manifest.tolerance)) == (None, ["bf16", "fp32", "int8"])
    possible = ["auto", "onnxruntime", *([] if Choice("openvino").problem else ["openvino"])]
    for name in possible:
        assert load_bundle(bundle, 1, name).taken.choice.precision == "fp32"
