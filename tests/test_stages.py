"""Each stage does what depends on a change, and nothing else."""

from __future__ import annotations

import os
from importlib import import_module
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
    assert "30 of 31 cases ready (96.8%), 1 failed" in told.out
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


def add_pictures(folder: Path, count: int) -> None:
    rng = np.random.default_rng(1)
    for number in range(30, 30 + count):
        name = ("dark", "light")[number % 2]
        pixels = rng.integers(0, 90, (20, 24), dtype=np.uint8) + np.uint8(150 * (number % 2))
        Picture.fromarray(pixels).save(folder.parent / "data" / name / f"p{number // 2}_{number}.png")


def test_a_run_is_judged_on_the_split_it_was_trained_with_whatever_is_added(folder):
    project = open_project(folder)
    prepare_cases(project)
    trained, _ = train_stage(project)
    first = evaluate_run(*open_run(folder))
    tested = {case.id for case in project.cases if case.split == "test"}
    add_pictures(folder, 30)
    now, same = open_run(folder)
    assert {case.id for case in now.cases if case.split == "test"} - {case.id for case in project.cases}
    again = evaluate_run(now, same)
    assert again.up_to_date
    assert again.values == first.values
    assert again.values["n"] == len(tested)
    assert "30 cases were added" in again.warnings[0]
    assert "not all of the data" in again.summary

    seen = next(case for case in project.cases if case.split == "train")
    judged = next(case for case in project.cases if case.split == "test")
    Path(judged.paths[0]).write_bytes(Path(seen.paths[0]).read_bytes())
    with pytest.raises(LeakError, match=f"{judged.id} .its image is that of {seen.id}"):
        evaluate_run(*open_run(trained.folder))


@pytest.mark.slow
def test_run_after_added_data_trains_anew_and_judges_by_the_new_split(folder):
    first, _ = run(folder)
    add_pictures(folder, 30)
    second, done = run(folder)
    assert second != first
    assert not done["evaluate"]
    cases = open_project(folder).cases
    tested = [line.split(",")[0] for line in (second / "evaluation" / "cases.csv").read_text().splitlines()[1:]]
    assert sorted(tested) == sorted(case.id for case in cases if case.split == "test")


def test_added_test_cases_join_the_record_of_an_unchanged_training(folder):
    data = folder.parent / "split"
    rng = np.random.default_rng(0)

    def add(split, numbers):
        for number in numbers:
            name = ("dark", "light")[number % 2]
            path = data / split / name / f"p{number}_.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 90, (20, 24), dtype=np.uint8) + np.uint8(150 * (number % 2))
            Picture.fromarray(pixels).save(path)

    add("train", range(8))
    add("val", range(8, 10))
    add("test", range(10, 12))
    sets = ["split.by=given", "data.path=../split"]
    for count in (2, 4):
        project = open_project(folder, sets)
        prepare_cases(project)
        trained, result = train_stage(project)
        assert trained.name == "shade-001"
        assert evaluate_run(project, trained).values["n"] == count
        add("test", range(12, 14))
    assert result.up_to_date


def test_training_on_what_was_prepared_from_other_files_is_refused(folder):
    prepare_cases(open_project(folder))
    changed = next((folder.parent / "data" / "dark").iterdir())
    Picture.new("L", (20, 24), 7).save(changed)
    with pytest.raises(RunError, match=r"1 of 30 cases were changed.*medrail prepare"):
        train_stage(open_project(folder))
    prepare_cases(open_project(folder))
    changed.rename(folder.parent / "data" / "light" / changed.name)
    with pytest.raises(RunError, match="medrail prepare"):
        train_stage(open_project(folder))
    (folder.parent / "data" / "dark" / "p98_broken.png").write_bytes(b"no picture")
    prepare_cases(open_project(folder))
    train_stage(open_project(folder))
    add_pictures(folder, 1)
    with pytest.raises(RunError, match="1 of 32 cases were changed or added"):
        train_stage(open_project(folder))


def test_the_notes_of_a_training_are_shown(folder):
    project = open_project(folder, ["split.val=0"])
    prepare_cases(project)
    assert "no validation cases" in train_stage(project)[1].notes[0]
    assert "no validation cases" in train_stage(project)[1].notes[0]


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
def test_a_project_s_file_says_how_its_run_is_evaluated_and_exported(folder, monkeypatch):
    # So small a network may answer alike to the last bit.
    monkeypatch.setattr(import_module("medrail.export.parity"), "largest_difference", lambda theirs, ours: 1e-7)
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
    assert read_json(trained / "network.json")["parity"]["max_abs_difference"] == 1e-7
    with pytest.raises(ExportError, match="parity_tolerance"):
        evaluate_run(project, found)


def test_when_not_one_case_can_be_prepared_the_reason_is_the_last_word(folder):
    results = []
    with pytest.raises(CaseError, match="not one case could be prepared"):
        run_all(open_project(folder, ["prepare.steps=[{kind: resample, spacing_mm: 1}]"]), results.append)
    assert results[-1].stage == "prepare"
    assert "resample" in results[-1].warnings[0]
