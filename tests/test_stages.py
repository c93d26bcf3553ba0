"""Each stage does what depends on a change, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medrail import cli
from medrail.errors import CaseError, ConfigError, ExportError, LeakError, RunError
from medrail.stages import check, evaluate_run, inferred_project, open_project, open_run, prepare_cases, run_all
from medrail.stages import train_run as train_stage
from medrail.workspace import read_json

CONFIG = """\
name: shade
task: classification
data: {kind: class_folders, path: ../data, classes: [dark, light], patient_pattern: "p(\\\\d+)_"}
split: {val: 0.2, test: 0.2}
prepare:
  workers: 1
  steps:
    - {kind: resize, size: [16, 16]}
    - {kind: normalise, method: custom, mean: [128], std: [64]}
model: {name: tiny_cnn, dims: 2, channels: 1}
train: {epochs: 2, batch_size: 8, threads: 1, track: false}
evaluate: {resamples: 200}
"""


@pytest.fixture
def folder(tmp_path):
    """A project on 30 pictures of 15 patients, dark and light."""
    rng = np.random.default_rng(0)
    for number in range(30):
        name = ("dark", "light")[number % 2]
        pixels = rng.integers(0, 90, (20, 24), dtype=np.uint8) + np.uint8(150 * (number % 2))
        path = tmp_path / "data" / name / f"p{number // 2}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(pixels).save(path)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "medrail.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path / "project"


def run(folder: Path, *sets: str) -> tuple[Path, dict[str, bool]]:
    """The run's folder, and stage -> whether it was up to date."""
    results = []
    finished, _ = run_all(open_project(folder, sets), results.append)
    return finished.folder, {result.stage: result.up_to_date for result in results if result.stage != "check"}


@pytest.mark.slow
def test_only_what_depends_on_a_change_is_done_again(folder):
    first, done = run(folder)
    assert done == {"prepare": False, "train": False, "evaluate": False, "export": False}

    again, done = run(folder)
    assert done == {"prepare": True, "train": True, "evaluate": True, "export": True}
    assert again == first

    touched = next((folder.parent / "data" / "dark").iterdir())
    os.utime(touched)
    _, done = run(folder)
    assert done == {"prepare": True, "train": True, "evaluate": True, "export": True}, "only its time changed"

    same, done = run(folder, "evaluate.resamples=300")
    assert done == {"prepare": True, "train": True, "evaluate": False, "export": False}
    assert same == first

    trained, done = run(folder, "train.lr=0.002")
    assert done == {"prepare": True, "train": False, "evaluate": False, "export": False}
    assert trained != first

    stepped, done = run(folder, "prepare.steps.0.size=[32,32]")
    assert done == {"prepare": False, "train": False, "evaluate": False, "export": False}
    assert stepped not in (first, trained)

    Picture.new("L", (20, 24), 7).save(touched)
    changed, done = run(folder)
    assert done == {"prepare": False, "train": False, "evaluate": False, "export": False}
    assert changed not in (first, trained, stepped)


@pytest.mark.slow
def test_a_case_that_cannot_be_read_is_named_and_the_others_go_on(folder, capsys):
    (folder.parent / "data" / "dark" / "p99_broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    assert cli.main(["run", str(folder)]) == 1
    told = capsys.readouterr()
    assert "30 of 31 cases ready, 1 failed" in told.out
    assert "p99_broken" in told.out
    assert (folder / "bundles" / "shade" / "1" / "bundle.json").is_file()
    assert "Traceback" not in told.out + told.err


def test_a_leak_stops_everything_before_any_work(folder):
    for split in ("train", "val", "test"):
        for name in ("dark", "light"):
            path = folder.parent / "split" / split / name / f"p1_{split}{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Picture.new("L", (20, 24), len(split) * len(name)).save(path)
    project = open_project(folder, ["split.by=given", "data.path=../split"])
    results = []
    with pytest.raises(LeakError, match="check says stop"):
        run_all(project, results.append)
    (checked,) = results
    assert checked.failed
    assert checked.values["leaks"]["patient"][0]["splits"] == ["train", "val", "test"]
    assert not (folder / "runs").exists()


def test_what_is_wrong_without_a_leak_is_a_case_error(folder):
    project = open_project(folder, ["data.classes=[dark, bright]"])
    with pytest.raises(CaseError, match="check says stop"):
        run_all(project)


def test_a_stage_without_the_one_before_names_the_command(folder):
    project = open_project(folder)
    with pytest.raises(RunError, match="medrail prepare"):
        train_stage(project)
    with pytest.raises(RunError, match="medrail train"):
        evaluate_run(project, project.workspace.run("shade-001"))
    with pytest.raises(RunError, match="medrail train"):
        open_run(folder)


def test_a_trained_run_keeps_what_it_was_trained_with(folder):
    project = open_project(folder)
    prepare_cases(project)
    trained, _ = train_stage(project)
    assert open_run(folder)[1] == open_run(trained.folder)[1] == trained
    assert open_run(folder, ["evaluate.split=val"])[0].config.evaluate.split == "val"
    with pytest.raises(ConfigError, match="what this run was trained with"):
        open_run(folder, ["train.lr=1"])


def test_the_check_writes_a_table_and_a_verdict(folder):
    result = check(open_project(folder))
    assert not result.failed
    assert read_json(folder / "check.json")["cases"] == 30
    assert (folder / "cases.csv").read_text(encoding="utf-8").count("\n") == 31


def test_a_folder_without_a_project_is_judged_and_left_alone(folder):
    data = folder.parent / "data"
    before = sorted(data.rglob("*"))
    with inferred_project(data) as project:
        result = check(project)
        assert result.values["cases"] == 30
        assert result.files == ()
    assert sorted(data.rglob("*")) == before
    assert not project.workspace.root.exists()


@pytest.mark.slow
def test_a_project_s_file_says_how_its_run_is_evaluated_and_exported(folder):
    trained, _ = run(folder)
    text = (
        CONFIG.replace("resamples: 200", "resamples: 300, split: val")
        + 'export: {version: "7", parity_tolerance: 1.0e-15}\n'
    )
    (folder / "medrail.yaml").write_text(text, encoding="utf-8")
    project, found = open_run(folder)
    assert found.folder == trained
    assert (project.config.evaluate.resamples, project.config.evaluate.split) == (300, "val")
    assert project.config.export.version == "7"
    of_the_run, _ = open_run(trained)
    assert of_the_run.config.evaluate.resamples == 200
    recorded = read_json(trained / "network.json")["parity"]["max_abs_difference"]
    assert recorded > 1e-15, "or the next line proves nothing"
    with pytest.raises(ExportError, match="parity_tolerance"):
        evaluate_run(project, found)
