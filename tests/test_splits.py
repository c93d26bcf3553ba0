"""Folds, centres and a table edited by hand, from the command line to the evaluated cases."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medrail import cli
from medrail.cases import read_table
from medrail.stages import check, open_project, prepare_cases
from medrail.workspace import read_json

CONFIG = """\
name: shade
task: classification
data: {kind: class_folders, path: ../data, patient_pattern: "p(\\\\d+)_", centre_pattern: "_([NS])"}
split: {val: 0.2, test: 0.2}
prepare:
  workers: 1
  steps:
    - {kind: resize, size: [16, 16]}
    - {kind: normalise, method: custom, mean: [128], std: [64]}
model: {name: tiny_cnn, dims: 2, channels: 1}
train: {epochs: 1, batch_size: 8, threads: 1, track: false}
evaluate: {resamples: 200}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 pictures of 20 patients in two centres."""
    rng = np.random.default_rng(0)
    for number in range(40):
        patient, light = number // 2, number // 2 % 2
        path = tmp_path / "data" / ("dark", "light")[light] / f"p{patient}_{number}_{'NS'[patient // 10]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(rng.integers(0, 90, (40, 48), dtype=np.uint8) + np.uint8(150 * light)).save(path)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "medrail.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path / "project"


def test_every_patient_is_the_test_in_exactly_one_fold(folder):
    tested: Counter[str] = Counter()
    for fold in range(4):
        assert (
            cli.main(
                ["check", str(folder), "--set", "split.by=folds", "--set", "split.folds=4", f"--set=split.fold={fold}"]
            )
            == 0
        )
        cases = read_table(folder / "cases.csv")
        assert {case.split for case in cases} == {"train", "val", "test"}
        assert all((case.split == "test") == (case.fold == fold) for case in cases)
        tested.update({case.patient for case in cases if case.split == "test"})
    assert len(tested) == 20
    assert set(tested.values()) == {1}


def test_a_run_with_one_centre_left_out_is_judged_on_all_of_it(folder, capsys):
    assert cli.main(["run", str(folder), "--set", "split.by=centre", "--set", "split.centre=S"]) == 0
    (run,) = (folder / "runs").iterdir()
    assert read_json(run / "evaluation" / "evaluation.json")["n"] == 20
    with (run / "evaluation" / "cases.csv").open(encoding="utf-8", newline="") as file:
        assert {row["centre"] for row in csv.DictReader(file)} == {"S"}
    capsys.readouterr()
    assert cli.main(["check", str(folder), "--set", "split.by=centre", "--set", "split.centre=s"]) == 2
    assert "one of 'N', 'S'. Did you mean 'S'?" in capsys.readouterr().err


def test_a_copy_of_the_table_is_edited_by_hand_as_the_guide_says(folder):
    project = open_project(folder, ["split.by=folds"])
    assert not check(project).failed
    assert not prepare_cases(project).failed
    shutil.copy(folder / "cases.csv", folder / "my-cases.csv")
    with (folder / "my-cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    moved = rows[0]["patient"]
    for row in rows:
        if row["patient"] == moved:
            row["fold"] = str((int(row["fold"]) + 1) % 5)
    with (folder / "my-cases.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    text = CONFIG.replace(
        'kind: class_folders, path: ../data, patient_pattern: "p(\\\\d+)_", centre_pattern: "_([NS])"',
        "kind: csv, path: my-cases.csv",
    )
    text = text.replace("{val: 0.2, test: 0.2}", "{by: folds}")
    (folder / "medrail.yaml").write_text(text, encoding="utf-8")
    edited = open_project(folder)
    before = {case.id: case for case in project.cases}
    now = {case.id: case for case in edited.cases}
    assert before.keys() == now.keys()
    changed = {one for one in now if now[one].fold != before[one].fold}
    assert changed == {row["id"] for row in rows if row["patient"] == moved}
    assert all(
        (case.patient, case.centre, case.target) == (before[one].patient, before[one].centre, before[one].target)
        for one, case in now.items()
    )
    assert prepare_cases(edited).up_to_date
