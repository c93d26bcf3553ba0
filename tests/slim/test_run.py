"""A slimmed run is a run like any other: evaluated, exported, compared; made once; whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medrail.bundle import verify_bundle
from medrail.cases import read_record, read_table
from medrail.config import parse
from medrail.errors import ConfigError, RunError
from medrail.models.structure import structure_of
from medrail.slim import Making, evaluate_sparsity, sparsify_run
from medrail.stages.evaluating import evaluate_run
from medrail.stages.exporting import export_run
from medrail.stages.project import open_run
from medrail.stages.reproducing import reproduce_run
from medrail.train import load_model
from medrail.train.checkpoint import load, save
from medrail.train.weights import weights_sha256
from medrail.workspace import Run, Workspace, read_json


def names(run: Run) -> list[str]:
    return sorted(path.name for path in run.folder.parent.iterdir())


def test_a_pruned_run_is_a_run(any_run: Any) -> None:
    run, parent = any_run.pruned(), any_run.run
    assert run.name == f"{parent.name}-pruned50"
    assert names(run) == [parent.name, run.name], "nothing else is left"
    assert [path.name for path in run.checkpoints.iterdir()] == ["best.safetensors"]
    passport, was = read_json(run.passport), read_json(parent.passport)
    assert passport["finished"]
    assert passport["parent"] == {
        "run": parent.name,
        "fingerprint": was["fingerprint"],
        "weights_sha256": was["result"]["weights_sha256"],
    }
    slim = passport["slim"]
    assert slim["method"] == "structured"
    assert slim["ratio"] == 0.5
    assert slim["after"]["macs"] <= 0.5 * slim["before"]["macs"]
    assert passport["result"]["weights_sha256"] == weights_sha256(run)
    assert passport["result"]["epochs"] == 2
    assert len(run.metrics.read_text().splitlines()) == 2
    assert read_record(run).cases == read_record(parent).cases
    assert read_record(run).images == read_record(parent).images
    network = load_model(run)
    assert structure_of(network) == load(run.best)["structure"]
    assert sum(p.numel() for p in network.parameters()) == slim["after"]["parameters"]


@pytest.mark.slow
def test_it_is_evaluated_exported_and_told_apart(pictures: Any) -> None:
    run = pictures.pruned()
    project, opened = open_run(run.folder)
    assert opened.folder == run.folder.resolve()
    evaluated = evaluate_run(project, opened)
    assert not evaluated.failed
    assert evaluated.values["n"] == 4
    exported = export_run(project, opened)
    manifest = verify_bundle(Path(exported.values["bundle"]))
    assert manifest.provenance["parent"]["run"] == pictures.run.name
    assert manifest.provenance["slim"]["ratio"] == 0.5
    whole, whole_run = open_run(pictures.run.folder)
    evaluate_run(whole, whole_run)
    from medrail.evaluate.differing import differing

    rows = {row.name: row.values for row in differing({"a": whole_run, "b": opened}, {})}
    assert rows["slimmed"]["a"] == ""
    assert rows["slimmed"]["b"].startswith("structured, by l2: ")
    assert opened.network.stat().st_size < 0.8 * whole_run.network.stat().st_size
    with pytest.raises(RunError, match=rf"made from the run {pictures.run.name} by `medrail slim`"):
        reproduce_run(run.folder)


def test_the_same_request_is_answered_by_the_same_run(pictures: Any) -> None:
    first = pictures.pruned()
    before = first.passport.stat().st_mtime_ns
    told: list[int] = []
    assert pictures.pruned(progress=lambda done, total, note="": told.append(done)) == first
    assert first.passport.stat().st_mtime_ns == before
    assert told == []
    other = pictures.pruned(epochs=1)
    assert other.name == f"{first.name}-2"
    with pytest.raises(RunError, match="made from another configuration"):
        pictures.pruned(epochs=1, name=first.name)


def test_what_was_killed_goes_on_and_ends_the_same(pictures: Any) -> None:
    class Killed(BaseException):
        pass

    seen: list[tuple[int, int]] = []

    def kill(done: int, total: int, note: str = "") -> None:
        seen.append((done, total))
        if done > 0.8 * total:
            raise Killed

    wanted = pictures.pruned(name="undisturbed", rounds=2)
    with pytest.raises(Killed):
        pictures.pruned(name="disturbed", rounds=2, progress=kill)
    folder = wanted.folder.with_name("disturbed")
    assert not folder.exists()
    begun = len(seen)
    run = pictures.pruned(name="disturbed", rounds=2, progress=lambda done, total, note="": seen.append((done, total)))
    assert run.folder == folder
    assert weights_sha256(run) == weights_sha256(wanted)
    assert len(seen) - begun < begun, "the first round is not done again"
    assert names(run) == sorted([pictures.run.name, "undisturbed", "disturbed"])
    assert len(read_json(run.passport)["slim"]["each_round"]) == 2
    fewer = [each["channels"] for each in read_json(run.passport)["slim"]["each_round"]]
    assert fewer[0] > fewer[1]


def test_a_begun_run_of_other_settings_is_begun_again(pictures: Any) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pictures.pruned(ratio=0.3, name="one", progress=stop)
    run = pictures.pruned(ratio=0.6, name="one")
    assert weights_sha256(run) == weights_sha256(pictures.pruned(ratio=0.6, name="two"))


@pytest.mark.slow
def test_without_epochs_nothing_is_trained(pictures: Any) -> None:
    run = pictures.pruned(epochs=0, importance="taylor")
    result = read_json(run.passport)["result"]
    assert (result["epochs"], result["chosen_by"]) == (0, "not fine-tuned")
    assert not run.metrics.exists()
    project, opened = open_run(run.folder)
    assert evaluate_run(project, opened).values["n"] == 4


def test_a_pruned_run_can_be_pruned_again(pictures: Any) -> None:
    first = pictures.pruned(epochs=0)
    again = type(pictures)(pictures.project, first).pruned(epochs=0)
    assert again.name == f"{first.name}-pruned50"
    sizes = read_json(again.passport)["slim"]
    assert sizes["before"] == read_json(first.passport)["slim"]["after"]
    assert sizes["after"]["channels"] < sizes["before"]["channels"]


def test_the_unstructured_baseline_is_as_large_as_before(pictures: Any) -> None:
    project = pictures.project
    run = sparsify_run(pictures.run, pictures.slimming(), project.workspace, project.cases, 0.4)
    assert run.name == f"{pictures.run.name}-sparse40"
    slim = read_json(run.passport)["slim"]
    assert slim["sparsity"] == pytest.approx(0.4, abs=1e-3)
    assert slim["before"] == slim["after"]
    assert evaluate_sparsity(load_model(run)).share == slim["sparsity"]
    assert run.best.stat().st_size > 0.95 * sum(4 * p.numel() for p in load_model(run).parameters())


def test_a_candidate_lies_deeper_and_its_record_finds_the_images(pictures: Any) -> None:
    project, run = pictures.project, pictures.run
    inner = Workspace(project.workspace.root, f"runs/{run.name}/slim")
    made = sparsify_run(run, pictures.slimming(), inner, project.cases, 0.4, run_name="zeros")
    cases = read_table(made.case_table)
    assert cases == read_table(run.case_table)
    assert all(Path(case.paths[0]).is_file() for case in cases)
    assert made.workspace == Workspace(project.workspace.root.resolve(), inner.runs_in)
    assert project.workspace.newest_run() == run, "a candidate is not the project's newest run"


def test_a_candidate_of_other_settings_gives_way_and_no_other_fault_removes_one(pictures: Any) -> None:
    project = pictures.project
    making = Making(pictures.run, pictures.slimming(), project.workspace, project.cases, project.cases)

    def made(ratio: float) -> Run:
        asked = (pictures.run, making.config, making.inner, project.cases, ratio)
        return making._anew("zeros", lambda: sparsify_run(*asked, run_name="zeros"))

    for ratio in (0.4, 0.6):
        assert read_json(made(ratio).passport)["slim"]["ratio"] == ratio

    def fail() -> Run:
        raise RunError("another process is making it")

    with pytest.raises(RunError, match="another process"):
        making._anew("zeros", fail)
    assert making.inner.run("zeros").best.is_file()
    tried: list[int] = []

    def count() -> Run:
        tried.append(1)
        return fail()

    for _ in range(2):
        with pytest.raises(RunError, match="another process"):
            making._once("once", count)
    assert len(tried) == 1, "why it cannot be made is found out once, not for every engine"


def test_a_run_that_is_not_finished_is_refused(pictures: Any) -> None:
    passport = read_json(pictures.run.passport)
    pictures.run.passport.write_text(json.dumps({**passport, "finished": False}))
    with pytest.raises(RunError, match="the training is not finished"):
        pictures.pruned()


def test_a_transformer_is_refused_before_anything_is_done(pictures: Any) -> None:
    values = pictures.project.config.to_dict()
    values["model"]["name"] = "vit"
    content = load(pictures.run.best)
    save(pictures.run.best, {**content, "model": {**content["model"], "name": "vit"}})
    with pytest.raises(ConfigError, match="vit cannot be pruned"):
        type(pictures)(type(pictures.project)(parse(values), *_rest(pictures)), pictures.run).pruned()


def _rest(pictures: Any) -> tuple[Any, Any]:
    return pictures.project.workspace, pictures.project.cases


def test_a_damaged_or_wider_checkpoint_is_refused(pictures: Any) -> None:
    run = pictures.pruned(epochs=0)
    content = load(run.best)
    whole = run.best.read_bytes()
    wide = {**content["structure"], "blocks.0": {"in_channels": 1, "out_channels": 10**9, "groups": 1}}
    save(run.best, {**content, "structure": wide})
    with pytest.raises(RunError, match="not those of the network"):
        load_model(run)
    run.best.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="not a checkpoint"):
        load_model(run)
    run.best.write_bytes(whole)
    load_model(run)


def test_fine_tuning_helps(pictures: Any) -> None:
    """The distilled network answers more like the unpruned one than the one that was only pruned."""
    store_cases = [case for case in pictures.project.cases if case.split == "train"]
    from medrail.prepare import store_of

    store = store_of(pictures.project.config, pictures.project.workspace)
    images = torch.from_numpy(np.stack([store.load(case.id)[0].voxels[:, 0] for case in store_cases]).astype("f4"))
    whole = load_model(pictures.run)
    cut, taught = pictures.pruned(ratio=0.7, epochs=0), pictures.pruned(ratio=0.7, epochs=8, distil=0.9)
    with torch.inference_mode():
        gaps = [
            float((load_model(run)(images).softmax(1) - whole(images).softmax(1)).abs().mean()) for run in (cut, taught)
        ]
    assert gaps[1] < gaps[0]
