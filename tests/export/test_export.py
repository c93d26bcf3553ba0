"""Run -> network.onnx -> bundle: the same answers, all or nothing, and a card that says what a person must know."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medrail.bundle import Manifest, Predictor, load_bundle, load_network, onnx_backend
from medrail.bundle.manifest import FileEntry
from medrail.bundle.onnx_parts import forget_origin
from medrail.errors import BundleError, ExportError, RunError
from medrail.evaluate import Evaluation, Measured, evaluate
from medrail.evaluate import evaluation as evaluation_room
from medrail.export import export_bundle, export_network
from medrail.export import network as network_room
from medrail.export.card import write_card
from medrail.export.parity import chosen_cases, measure_parity
from medrail.prepare import Pipeline, Store
from medrail.read import read
from medrail.train import load_model, torch_backend
from medrail.types import Case
from medrail.workspace import Run, find_bundle, read_json
from small_calibrations import small_calibration


def exported(made: Any, **changes: Any) -> Path:
    return export_network(made.run, made.with_export(**changes), made.workspace, made.cases)


def bundled(made: Any, **changes: Any) -> Path:
    return export_bundle(made.run, made.with_export(**changes), made.workspace, made.cases)


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """The exporter writes what it wrote before, at once: for what happens after it. (That it writes the same bytes each
    time is tested.)
    """

    def of(made: Any) -> None:
        content = made.run.network.read_bytes()
        monkeypatch.setattr(network_room, "write_onnx", lambda _, __, path, ___: path.write_bytes(content))

    return of


def test_the_exported_network_answers_as_the_trained_one_on_raw_files(any_shipped: Any, capfd: Any) -> None:
    any_run, before = any_shipped, any_shipped.run.network.read_bytes()
    capfd.readouterr()
    path = exported(any_run)
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")
    assert path == any_run.run.network
    assert path.read_bytes() == before, "the same network gives the same bytes"
    predictor = load_network(any_run.run.folder, threads=1)
    trained = Predictor(predictor.spec, torch_backend(load_model(any_run.run)))
    for case in any_run.cases:
        image = read(case.paths[0], case.item)
        ours, theirs = predictor(image), trained(image)
        if any_run.config.task == "classification":
            assert ours.probabilities == pytest.approx(dict(theirs.probabilities), abs=1e-4)
        else:
            assert ours.mask is not None
            assert theirs.mask is not None
            changed = np.mean(ours.mask.voxels != theirs.mask.voxels)
            assert changed < 2e-3, "but for a voxel or two that were undecided after so short a training"


def test_network_json_says_what_the_network_is(any_shipped: Any) -> None:
    any_run = any_shipped
    values = read_json(any_run.run.folder / "network.json")
    spec, parity = values["spec"], values["parity"]
    found = tuple(spec["input_kind"][key] for key in ("picture", "channels", "unit"))
    pictures = any_run.config.task == "classification"
    assert found == ((True, 3, "uint8") if pictures else (False, 1, "arbitrary"))
    assert spec["classes"] == list(any_run.config.data.classes)
    assert bool(spec["patch"]) != bool(spec["grid"])
    assert 0 < parity["cases"] <= 4
    assert parity["max_abs_difference"] <= 1e-3
    assert parity["labels_changed"] < 2e-3
    assert parity["metric_change"] < 2e-3
    assert parity["opset"] == 20
    assert [path.name for path in any_run.run.folder.glob(".*")] == []


def test_any_batch_size_goes_through(shipped_slices: Any) -> None:
    backend = onnx_backend(shipped_slices.run.network, threads=1)
    network = load_model(shipped_slices.run)
    for count in (1, 3, 16):
        images = np.random.default_rng(count).normal(size=(count, 1, 16, 24)).astype(np.float32)
        with torch.inference_mode():
            wanted = network(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(backend(images), wanted, atol=1e-3)


class Shifted:
    """A network's backend whose first logit is off."""

    def __init__(self, backend: Any, by: float) -> None:
        self.backend, self.by = backend, by

    def __call__(self, batch: Any) -> Any:
        logits = self.backend(batch).copy()
        logits[:, 0] += self.by
        return logits


@pytest.mark.parametrize("off", [0.05, float("nan")])
def test_without_parity_there_is_an_error_and_no_file(
    any_shipped: Any, as_before: Any, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    any_run = any_shipped
    as_before(any_run)
    monkeypatch.setattr(network_room, "onnx_backend", lambda path: Shifted(onnx_backend(path, 1), off))
    with pytest.raises(ExportError, match=r"differ by up to .*needed: at most 0\.001"):
        exported(any_run)
    assert not any_run.run.network.exists()
    assert not (any_run.run.folder / "network.json").exists()
    assert [path.name for path in any_run.run.folder.glob(".*")] == []


def test_a_larger_tolerance_lets_a_small_difference_pass_and_records_it(
    shipped_pictures: Any, as_before: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture_run = shipped_pictures
    as_before(picture_run)
    monkeypatch.setattr(network_room, "onnx_backend", lambda path: Shifted(onnx_backend(path, 1), 0.05))
    exported(picture_run, parity_tolerance=0.1)
    parity = read_json(picture_run.run.folder / "network.json")["parity"]
    assert 1e-3 < parity["max_abs_difference"] <= 0.1


def test_parity_counts_changed_answers_and_the_change_of_the_metric(shipped_slices: Any) -> None:
    slice_run = shipped_slices
    exact = load_network(slice_run.run.folder, threads=1)
    wrong = Predictor(exact.spec, Shifted(exact.backend, 1000.0))
    store = Store(slice_run.workspace, Pipeline.from_dict(slice_run.config.prepare.steps))
    parity = measure_parity(exact, wrong, store, slice_run.cases)
    labels = [exact.probabilities(store.load(case.id)[0]).argmax(0) for case in slice_run.cases]
    assert parity.labels_changed == pytest.approx(np.mean([np.mean(one != 0) for one in labels]))
    assert parity.max_abs_difference > 0.4
    assert parity.metric == "dice"
    assert parity.metric_change > 0


def test_parity_is_measured_on_unseen_cases_first() -> None:
    splits: list[Any] = ["train"] * 5 + ["val"] * 2 + ["test"] * 3
    cases = [Case(f"c{n:02d}", f"p{n}", ("x",), None, split) for n, split in enumerate(splits)]
    chosen = [case.split for case in chosen_cases(cases, 6)]
    assert chosen == ["test"] * 3 + ["val"] * 2 + ["train"]
    assert len(chosen_cases(cases, 100)) == 10
    assert [case.id for case in chosen_cases([case for case in cases if case.split == "train"], 2)] == ["c00", "c02"]


def test_no_case_to_compare_on_is_an_error(picture_run: Any) -> None:
    with pytest.raises(ExportError, match=r"no prepared case|raw images"):
        export_network(picture_run.run, picture_run.config, picture_run.workspace, ())
    assert not picture_run.run.network.exists()


def test_a_run_without_weights_says_so(picture_run: Any) -> None:
    picture_run.run.best.unlink()
    with pytest.raises(RunError, match=r"best\.pt: there is no such file"):
        exported(picture_run)


def test_weights_that_a_training_replaces_meanwhile_are_not_taken_for_those_that_were_read(
    picture_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network of one epoch with the SHA-256 of the next one would never be made anew."""

    def then_replaced(run: Run) -> Any:
        found = load_model(run)
        torch.save({**torch.load(run.best, weights_only=True), "epoch": 99}, run.best)
        return found

    monkeypatch.setattr(network_room, "load_model", then_replaced)
    with pytest.raises(RunError, match="it is being trained"):
        exported(picture_run)


def test_raw_images_that_are_gone_are_named(picture_run: Any) -> None:
    for case in picture_run.cases:
        Path(case.paths[0]).unlink()
    with pytest.raises(ExportError, match="none of the raw images can be read"):
        exported(picture_run)


# --- the bundle


def test_a_bundle_is_whole_and_answers_as_the_run_was_evaluated(any_shipped: Any) -> None:
    any_run = any_shipped
    folder = any_run.workspace.bundles / "small" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.json", "card.md", "model.onnx", "reference.npz"]
    assert [path.name for path in folder.parent.iterdir()] == ["1"]
    manifest, evaluated = Manifest.read(folder), load_network(any_run.run.folder, 1)
    served = load_bundle(folder, 1, "onnxruntime")
    assert served.bundle_id.startswith("small/1@")
    case = any_run.cases[-1]
    image = read(case.paths[0])
    assert served(image).probabilities == evaluated(image).probabilities
    evaluation = read_json(any_run.run.evaluation / "evaluation.json")
    assert json.loads(json.dumps(manifest.to_dict()["metrics"])) == evaluation["metrics"]
    assert manifest.provenance["fingerprint"] == read_json(any_run.run.passport)["fingerprint"]
    assert manifest.parity == read_json(any_run.run.folder / "network.json")["parity"]


def test_the_card_says_what_a_person_must_know(any_shipped: Any) -> None:
    any_run = any_shipped
    card = (any_run.workspace.bundles / "small" / "1" / "card.md").read_text()
    metrics = read_json(any_run.run.evaluation / "evaluation.json")["metrics"]
    assert "Not a medical device" in card
    for name, measured in metrics.items():
        row = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
        assert f"{measured['value']:.4g}" in row
        assert measured["method"] in row
    train = sum(case.split == "train" for case in any_run.cases)
    assert f"{train} cases of {train} patients" in card
    assert all(name in card for name in any_run.config.data.classes)
    assert "`normalise`" in card
    assert str(any_run.workspace.root) not in card


def test_the_exported_network_has_features_and_where_it_is_exact_evidence(any_shipped: Any) -> None:
    any_run = any_shipped
    predictor = load_network(any_run.run.folder, threads=1)
    classifies = predictor.spec.task == "classification"
    assert predictor.has_evidence is classifies
    assert predictor.spec.cells == (((16.0, 0.0), (16.0, 0.0)) if classifies else ())
    parity = read_json(any_run.run.folder / "network.json")["parity"]
    assert ("evidence_gap" in parity) is classifies
    assert parity.get("evidence_gap", 0) < 1e-4
    image = read(any_run.cases[0].paths[0])
    answers = predictor.answers(predictor.prepare(image))
    assert answers.features is not None
    assert np.isfinite(answers.features).all()
    evidence = predictor(image, evidence=True).evidence
    assert (evidence is not None) is classifies
    if evidence:
        assert evidence.values.grid == image.grid


def test_a_network_whose_evidence_is_not_exact_is_not_exported(
    shipped_pictures: Any, as_before: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture_run = shipped_pictures
    as_before(picture_run)
    monkeypatch.setattr(network_room, "evidence_gap", lambda *_: 2e-4)
    with pytest.raises(ExportError, match="evidence"):
        exported(picture_run)
    assert not picture_run.run.network.exists()


def test_the_calibration_is_shipped_applied_and_on_the_card(shipped_pictures: Any) -> None:
    picture_run = shipped_pictures
    sha256 = FileEntry.of(picture_run.run.network).sha256
    calibration = small_calibration(128, sha256, thresholds={"right": 0.8})
    calibration.write(picture_run.run.calibration)
    evaluate(picture_run.run, picture_run.config, picture_run.cases)
    folder = bundled(picture_run)
    assert sorted(path.name for path in folder.iterdir()) == [
        "bundle.json",
        "calibration.json",
        "card.md",
        "model.onnx",
        "reference.npz",
    ]
    manifest = Manifest.read(folder)
    assert "calibration.json" in manifest.files
    assert (manifest.calibration["temperature"], manifest.calibration["thresholds"]) == (2.0, {"right": 0.8})
    assert load_bundle(folder, threads=1).calibration == calibration
    card = (folder / "card.md").read_text()
    assert "right from a probability of 0.8 on (highest Youden index on 40 validation cases)" in card
    assert "at least 90% have their true class" in card
    assert "Fitted on: split val, cases 40, patients 30." in card
    assert "exact maps of evidence" in card


def test_a_calibration_of_another_network_goes_when_a_new_one_is_exported(
    shipped_pictures: Any, as_before: Any
) -> None:
    picture_run = shipped_pictures
    as_before(picture_run)
    sha256 = FileEntry.of(exported(picture_run)).sha256
    for kept, calibration in ((True, small_calibration(128, sha256)), (False, small_calibration(128))):
        calibration.write(picture_run.run.calibration)
        exported(picture_run)
        assert picture_run.run.calibration.exists() is kept


def test_neither_a_path_nor_the_diff_goes_into_the_bundle(any_shipped: Any) -> None:
    any_run = any_shipped
    passport = read_json(any_run.run.passport)
    passport["project"] = {"commit": "abc", "diff": "+my secret", "diff_whole": True, "diff_sha256": "0" * 64}
    any_run.run.passport.write_text(json.dumps(passport))
    folder = bundled(any_run)
    assert b'"abc"' in (folder / "bundle.json").read_bytes()
    places = [any_run.workspace.root, sys.prefix, Path.home(), Path(torch.__file__).parent]
    told = [str(place).encode() for place in places if len(str(place)) > 3]
    for path in folder.iterdir():
        content = path.read_bytes()
        found = [word for word in (b"site-packages", b"secret", *told) if word in content]
        found += re.findall(rb"[\w/]{3,}\.py\b", content)  # three letters before it are no chance in the weights
        assert not found, path.name


def test_no_part_of_a_network_tells_its_origin() -> None:
    """Model, graph, subgraph, value, node, attribute, tensor, function: whichever of them an exporter fills."""
    from onnx import TensorProto, helper

    def graph(name: str, *nodes: Any) -> Any:
        values = [helper.make_tensor_value_info(f"{name}-{end}", TensorProto.FLOAT, [1]) for end in ("in", "out")]
        made = helper.make_graph(
            nodes, name, values[:1], values[1:], [helper.make_tensor(f"{name}-w", TensorProto.FLOAT, [1], [2.0])]
        )
        told = [made, *made.node, *made.initializer, *made.input, *made.output]
        for part in [*told, *(attribute for node in made.node for attribute in node.attribute)]:
            part.doc_string = "/home/somebody/net.py"
            if hasattr(part, "metadata_props"):
                part.metadata_props.add(key="stack", value="/home/somebody/net.py")
        return made

    inner = graph("inner", helper.make_node("Relu", ["inner-in"], ["inner-out"]))
    outer = graph("outer", helper.make_node("If", ["outer-in"], ["outer-out"], then_branch=inner, else_branch=inner))
    function = helper.make_function("own", "f", ["a"], ["b"], list(inner.node), [helper.make_opsetid("", 18)])
    function.doc_string = "/home/somebody/net.py"
    model = helper.make_model(outer, functions=[function], doc_string="/home/somebody/net.py")
    model.metadata_props.add(key="where", value="/home/somebody")
    assert model.SerializeToString().count(b"somebody") > 15
    forget_origin(model)
    assert b"somebody" not in model.SerializeToString()
    assert model.graph.node[0].attribute[0].g.initializer[0].float_data == [2.0], "nothing else is lost"


def test_the_same_again_leaves_the_bundle_as_it_is(shipped_pictures: Any) -> None:
    picture_run = shipped_pictures
    folder = bundled(picture_run)
    before = (folder / "bundle.json").stat().st_mtime_ns
    assert export_bundle(picture_run.run, picture_run.config, picture_run.workspace, picture_run.cases) == folder
    assert (folder / "bundle.json").stat().st_mtime_ns == before


def test_another_or_damaged_bundle_of_that_version_is_replaced_whole(shipped_pictures: Any) -> None:
    picture_run = shipped_pictures
    folder = bundled(picture_run)
    good = (folder / "bundle.json").read_text()
    (folder / "card.md").write_text("tampered")
    (folder / "stray.txt").write_text("x")
    export_bundle(picture_run.run, picture_run.config, picture_run.workspace, picture_run.cases)
    assert (folder / "bundle.json").read_text() == good
    assert not (folder / "stray.txt").exists()
    load_bundle(folder, 1)
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_versions_stand_side_by_side(shipped_pictures: Any) -> None:
    picture_run = shipped_pictures
    bundled(picture_run)
    export_bundle(picture_run.run, picture_run.with_export(version="2.0-rc1"), picture_run.workspace, picture_run.cases)
    names = sorted(path.name for path in (picture_run.workspace.bundles / "small").iterdir())
    assert names == ["1", "2.0-rc1"]


def test_a_failure_halfway_leaves_the_old_bundle(shipped_pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    picture_run = shipped_pictures
    from medrail.export import bundle as bundle_room

    folder = bundled(picture_run)
    before = (folder / "bundle.json").read_text()

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_room.shutil, "copyfile", full_disk)
    with pytest.raises(OSError, match="No space"):
        export_bundle(picture_run.run, picture_run.config, picture_run.workspace, picture_run.cases)
    assert (folder / "bundle.json").read_text() == before
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_when_the_new_bundle_cannot_take_its_place_the_old_one_is_back(
    shipped_pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture_run = shipped_pictures
    folder = bundled(picture_run)
    before = (folder / "bundle.json").read_text()
    (folder / "card.md").write_text("tampered")
    rename = Path.rename

    def refuse_the_new(path: Path, target: Path) -> Path:
        if target == folder and path.name != "old":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(PermissionError):
        export_bundle(picture_run.run, picture_run.config, picture_run.workspace, picture_run.cases)
    assert (folder / "bundle.json").read_text() == before
    assert (folder / "card.md").read_text() == "tampered"
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_when_nothing_can_be_renamed_the_old_bundle_is_not_deleted(
    shipped_pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture_run = shipped_pictures
    folder = bundled(picture_run)
    (folder / "card.md").write_text("tampered")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if target == folder:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        export_bundle(picture_run.run, picture_run.config, picture_run.workspace, picture_run.cases)
    (card,) = folder.parent.rglob("card.md")
    assert card.read_text() == "tampered"


def test_leftovers_of_a_killed_export_are_swept_and_never_found(shipped_pictures: Any) -> None:
    picture_run = shipped_pictures
    folder = bundled(picture_run)
    for name in (".1.leftover", ".1.replaced.x/old"):
        shutil.copytree(folder, folder.parent / name)
        newest = (folder / "bundle.json").stat().st_mtime + 100
        os.utime(folder.parent / name / "bundle.json", (newest, newest))
    assert find_bundle(picture_run.workspace.root) == folder
    assert find_bundle(folder.parent) == folder
    export_bundle(picture_run.run, picture_run.config, picture_run.workspace, picture_run.cases)
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_an_evaluation_of_something_else_is_not_bundled(shipped_pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    picture_run = shipped_pictures
    shutil.rmtree(picture_run.workspace.bundles)
    settings = picture_run.config.evaluate

    def fails(config: Any = picture_run.config, cases: Any = picture_run.cases) -> None:
        with pytest.raises(RunError, match="Run `medrail evaluate`"):
            export_bundle(picture_run.run, config, picture_run.workspace, cases)
        assert not any(picture_run.workspace.bundles.glob("*/*"))

    for changes in ({"split": "train"}, {"resamples": settings.resamples + 1}):
        fails(config=picture_run.config.model_copy(update={"evaluate": settings.model_copy(update=changes)}))
    fails(cases=picture_run.cases[:-1])
    with monkeypatch.context() as changed:
        changed.setattr(evaluation_room, "source_sha256", lambda: "0" * 64)
        fails()
    image = Path(picture_run.cases[-1].paths[0])
    content = image.read_bytes()
    image.write_bytes(Path(picture_run.cases[0].paths[0]).read_bytes())
    fails()
    image.write_bytes(content)
    export_bundle(picture_run.run, picture_run.config, picture_run.workspace, picture_run.cases)


def test_what_is_missing_is_said_in_order(shipped_pictures: Any, as_before: Any) -> None:
    picture_run = shipped_pictures
    as_before(picture_run)
    shutil.rmtree(picture_run.workspace.bundles)
    shutil.rmtree(picture_run.run.evaluation)
    (picture_run.run.folder / "network.json").unlink()

    def fails(match: str, kind: type[Exception] = RunError) -> None:
        with pytest.raises(kind, match=match):
            export_bundle(picture_run.run, picture_run.config, picture_run.workspace, picture_run.cases)
        assert not any(picture_run.workspace.bundles.glob("*/*"))

    fails(r"network\.json: there is no such file")
    exported(picture_run)
    fails("not evaluated yet")
    evaluate(picture_run.run, picture_run.config, picture_run.cases)
    content = picture_run.run.network.read_bytes()
    picture_run.run.network.write_bytes(content[:-1] + b"x")
    fails("SHA-256", BundleError)
    picture_run.run.network.write_bytes(content)
    passport = read_json(picture_run.run.passport) | {"finished": False}
    picture_run.run.passport.write_text(json.dumps(passport))
    fails("not finished")


def test_the_card_tells_nothing_of_parts_with_too_few_patients(shipped_pictures: Any) -> None:
    picture_run = shipped_pictures
    folder = bundled(picture_run)
    manifest, evaluation = Manifest.read(folder), Evaluation.load(picture_run.run)
    told = {"accuracy": Measured(0.125, 0.1, 0.2, 40, "")}
    alone = {"accuracy": Measured(0.375, 0.3, 0.4, 1, "")}
    strata = {"scanner": {"Aera": told, "Vida": alone}, "village": {"Ytterby": alone}}
    small = {"scanner": {"Vida": "1 patient"}, "village": {"Ytterby": "1 patient"}}
    card = write_card(manifest, replace(evaluation, strata=strata, too_small=small))
    assert "| scanner: Aera | accuracy | 0.125 |" in card
    assert "2 parts of the cases with too few to read are left out." in card
    assert not any(word in card for word in ("Vida", "Ytterby", "0.375"))
    only = write_card(manifest, replace(evaluation, strata={"village": strata["village"]}, too_small=small))
    assert "1 part of the cases with too few to read is left out." in only
