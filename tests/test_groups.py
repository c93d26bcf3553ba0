"""Groups: five seeds, k folds; trained so that they can be gone on with, and put together as they should."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medrail import cli
from medrail.bundle import load_bundle, load_network
from medrail.errors import ConfigError, RunError
from medrail.evaluate import fitting
from medrail.group import read_group
from medrail.read import read
from medrail.stages import Asked, evaluate_group, export_group, open_project, open_run, prepare_cases, train_group
from medrail.workspace import read_json, write_json

CONFIG = """\
name: shade
task: classification
data: {kind: csv, path: ../data/table.csv, classes: [dark, light]}
split: {val: 0.2, test: 0.2}
prepare:
  workers: 1
  steps:
    - {kind: resize, size: [16, 16]}
    - {kind: normalise, method: custom, mean: [128], std: [64]}
model: {name: tiny_cnn, dims: 2, channels: 1}
train: {epochs: 1, batch_size: 8, threads: 1, device: cpu, track: false}
evaluate: {resamples: 200}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared project of 30 pictures of 15 patients, not easy to tell apart."""
    root = tmp_path_factory.mktemp("groups")
    rng = np.random.default_rng(0)
    rows = ["path,label,patient"]
    (root / "data").mkdir()
    for number in range(30):
        name = ("dark", "light")[number % 2]
        pixels = rng.integers(0, 200, (20, 24), dtype=np.uint8) + np.uint8(12 * (number % 2))
        Picture.fromarray(pixels).save(root / "data" / f"c{number:02d}.png")
        rows.append(f"c{number:02d}.png,{name},P{number // 2}")
    (root / "data" / "table.csv").write_text("\n".join(rows) + "\n")
    (root / "project").mkdir()
    (root / "project" / "medrail.yaml").write_text(CONFIG, encoding="utf-8")
    prepare_cases(open_project(root / "project"))
    return root / "project"


def test_seeds_are_trained_gone_on_with_and_put_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = open_project(folder, ["train.seed=4"])
    two, _ = train_group(project, "seeds", 2)
    group, result = train_group(project, "seeds", 3)
    assert result.values["kept"] == 2, "finished members are kept"
    assert [member.number for member in group.members] == [4, 5, 6]
    assert (two.name, group.name) == ("shade-seeds-001", "shade-seeds-002")
    assert {run.name for run in two.runs} < {run.name for run in group.runs}
    passports = [read_json(run.passport) for run in group.runs]
    assert [one["seed"] for one in passports] == [4, 5, 6]
    assert [one["groups"] for one in passports] == [[two.name, group.name]] * 2 + [[group.name]]
    assert len({one["result"]["weights_sha256"] for one in passports}) == 3
    again, result = train_group(project, "seeds", 3)
    assert again == group == read_group(group.folder)
    assert result.up_to_date

    assert cli.main(["evaluate", str(group.folder), "--json"]) == 0
    told = capsys.readouterr()
    values = json.loads(told.out)
    assert values == read_json(group.folder / "summary.json")
    accuracy = values["metrics"]["accuracy"]
    own = [read_json(run.evaluation / "evaluation.json")["metrics"]["accuracy"] for run in group.runs]
    assert list(accuracy["runs"].values()) == own
    numbers = [one["value"] for one in own]
    assert accuracy["value"] == pytest.approx(np.mean(numbers))
    assert accuracy["sd"] == pytest.approx(np.std(numbers, ddof=1))
    assert "mean of 3 trainings that differ in the seed" in accuracy["method"]
    assert "BETWEEN TRAININGS" in told.err
    assert "BETWEEN PATIENTS" in told.err
    result = export_group(group.folder, replace=True)
    assert "of this ensemble itself" in result.notes[0]
    assert result.values["members"] == [run.name for run in group.runs]


@pytest.fixture
def confident(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, where a few validation patients are enough to calibrate."""
    monkeypatch.setattr(fitting, "FEWEST_PATIENTS", 2)
    return folder


def test_a_bundle_of_seeds_ships_what_the_ensemble_itself_reaches(confident: Path) -> None:
    group, _ = train_group(open_project(confident, ["train.seed=20"]), "seeds", 2)
    with pytest.raises(RunError, match="not evaluated yet"):
        export_group(group.folder, replace=True)
    evaluate_group(group.folder)
    members = [load_network(run.folder) for run in group.runs]
    assert all(member.has_evidence for member in members)
    bundle_folder = Path(export_group(group.folder, replace=True).values["bundle"])
    bundle, manifest = load_bundle(bundle_folder, engine="onnxruntime"), read_json(bundle_folder / "bundle.json")
    card = (bundle_folder / "card.md").read_text()

    assert not bundle.has_evidence
    assert not bundle.spec.cells
    assert "no exact maps of evidence" in card
    assert "It has exact maps" not in card

    calibration = bundle.calibration
    assert calibration
    assert calibration.temperature != 1
    assert "What is applied to its answers" in card
    with (group.folder / "evaluation" / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    answers = {row["id"]: bundle(read(_picture(confident, row))) for row in rows}
    right = [answers[row["id"]].class_name == row["truth"] for row in rows]
    losses = [-np.log(answers[row["id"]].probabilities[row["truth"]]) for row in rows]
    assert manifest["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert manifest["metrics"]["log_loss"]["value"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert manifest["provenance"]["evaluation"]["cases"] == len(rows)
    assert export_group(group.folder).up_to_date


def _picture(folder: Path, row: dict[str, str]) -> Path:
    (found,) = (path for path in (folder.parent / "data").glob("*.png") if path.stem in row["id"])
    return found


def test_a_bundle_of_folds_ships_no_number_that_hangs_on_the_members_calibration(confident: Path) -> None:
    group, _ = train_group(open_project(confident, ["train.seed=30"]), "folds", 3)
    evaluate_group(group.folder)
    assert any(load_network(run.folder).calibration.temperature != 1 for run in group.runs)
    folder = Path(export_group(group.folder, replace=True).values["bundle"])
    assert load_bundle(folder).calibration is None
    assert set(read_json(folder / "bundle.json")["metrics"]) == {"auc", "auprc"}
    card = (folder / "card.md").read_text()
    assert "no temperature and no threshold" in card
    assert "taken for" not in card


def test_accepted_leaks_of_seeds_are_counted_once(folder: Path, tmp_path: Path) -> None:
    rows = (folder.parent / "data" / "table.csv").read_text().splitlines()
    splits = ["train"] * 16 + ["val"] * 6 + ["test"] * 8
    table = [f"{rows[0]},split", *(f"{row},{split}" for row, split in zip(rows[1:], splits, strict=True))]
    table = [line.replace("P14,test", "P0,test") for line in table]
    (folder.parent / "data" / "leaky.csv").write_text("\n".join(table) + "\n")
    project = open_project(folder, ["data.path=../data/leaky.csv", "split.by=given"], accept_leak=True)
    group, _ = train_group(project, "seeds", 2)
    evaluate_group(group.folder, Asked(accept_leak=True))
    bundle = Path(export_group(group.folder, Asked(accept_leak=True), replace=True).values["bundle"])
    first = read_json(group.runs[0].evaluation / "evaluation.json")["accepted_leaks"]
    assert first["cases"] == 2
    shipped = read_json(bundle / "bundle.json")["provenance"]["evaluation"]["accepted_leaks"]
    assert shipped == {key: value for key, value in first.items() if key != "groups"}


@pytest.mark.parametrize("kind", ["seeds", "folds"])
def test_a_time_budget_that_would_plan_other_epochs_for_each_run_is_refused(folder: Path, kind: Any) -> None:
    """And the whole command is said that trains them all alike."""
    budget = ["train.minutes=1.5"]
    with pytest.raises(ConfigError, match=rf"--{kind} 2 with a time budget.*`medrail train .* --minutes 1\.5`"):
        train_group(open_project(folder, budget), kind, 2)
    schedule = {"epochs": 12, "samples_per_epoch": 64, "patience": 4, "minutes": 1.5}
    run = folder / "runs" / f"planned-for-{kind}"
    run.mkdir(parents=True)
    write_json(run / "passport.json", {"schedule": schedule})
    try:
        with pytest.raises(ConfigError) as caught:
            train_group(open_project(folder, budget), kind, 2)
    finally:
        shutil.rmtree(run)
    assert run.name in caught.value.remedy
    typed = shlex.split(caught.value.remedy.split("`")[1])
    assert typed[:5] == ["medrail", "train", str(folder), f"--{kind}", "2"]
    train = open_project(folder, [*budget, *typed[6::2]]).config.train
    assert (train.minutes, train.epochs, train.samples_per_epoch, train.patience) == (0, 12, 64, 4)


def test_a_folder_of_several_runs_says_which_ones_it_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group, _ = train_group(open_project(folder, ["train.seed=4"]), "seeds", 2)
    study = folder / "tune" / "lr"
    for number in range(2):
        trial = study / f"trial-{number:04d}"
        trial.mkdir(parents=True, exist_ok=True)
        (trial / "passport.json").write_text("{}")
    for place, names in ((group.folder, [run.name for run in group.runs]), (study, ["trial-0000", "trial-0001"])):
        with pytest.raises(RunError, match=f"not a run or a project.*{'.*'.join(names)}"):
            open_run(place)
        for verb in ("reproduce", "tune"):
            assert cli.main([verb, str(place)]) != 0
            told = capsys.readouterr().err
            assert "no run yet" not in told
            assert names[1] in told


def test_folds_test_every_case_once_and_are_pooled(folder: Path) -> None:
    project = open_project(folder)
    group, _ = train_group(project, "folds", 3)
    assert [open_project(run.folder / "config.yaml").config.split.fold for run in group.runs] == [0, 1, 2]
    assert {case.split for case in project.cases} == {"train", "val", "test"}
    table = (folder / "cases.csv").read_text()
    assert ",test,,0," not in table, "the project's table is that of its own configuration"
    values = evaluate_group(group.folder).values
    assert values["n"] == 30
    assert values["patients"] == 15
    with (group.folder / "evaluation" / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == 30
    assert list(rows[0])[-1] == "fold"
    by_fold: dict[str, set[str]] = {}
    for row in rows:
        by_fold.setdefault(row["patient"], set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in by_fold.values()), "no patient is in two folds"
    correct = np.mean([int(row["correct"]) for row in rows])
    assert values["metrics"]["accuracy"]["value"] == pytest.approx(correct)
    own = [fold["metrics"]["auc"]["value"] for fold in values["folds"]]
    assert values["metrics"]["auc"]["value"] == pytest.approx(np.mean(own))
    assert "within each of 3 folds" in values["metrics"]["auc"]["method"]
    assert sum(map(sum, values["confusion"])) == 30
    again = evaluate_group(group.folder)
    assert again.values == values
    shown = dict(again.facts)
    assert all(len(cells.partition("by fold:")[2].split()) == 3 for cells in shown.values()), "no cell is empty"
    told = [note.partition(": ")[0].split(", ") for note in again.notes]
    assert sorted(name for names in told for name in names) == sorted(shown), "each has its method"

    result = export_group(group.folder, replace=True)
    bundle = load_bundle(result.values["bundle"], engine="onnxruntime")
    members = [load_network(run.folder) for run in group.runs]
    for path in sorted((folder.parent / "data").glob("*.png"))[:3]:
        expected = np.mean([list(member(read(path)).probabilities.values()) for member in members], axis=0)
        assert list(bundle(read(path)).probabilities.values()) == pytest.approx(expected, abs=1e-6)
    manifest = read_json(Path(result.values["bundle"]) / "bundle.json")
    ensemble = manifest["provenance"]["ensemble"]
    assert [one["run"] for one in ensemble["members"]] == [run.name for run in group.runs]
    assert [one["fold"] for one in ensemble["members"]] == [0, 1, 2]
    assert manifest["metrics"] == values["metrics"]
    card = (Path(result.values["bundle"]) / "card.md").read_text()
    assert "An ensemble of 3 networks" in card
    assert "not of the ensemble in this bundle" in card
    assert "Members: " in card
    assert export_group(group.folder).up_to_date
    assert str(folder.parent) not in card + json.dumps(manifest)
    with pytest.raises(RunError, match="medrail evaluate"):
        export_group(group.folder, Asked(("evaluate.resamples=300",)))


def test_a_group_of_which_a_member_is_missing_says_what_to_do(folder: Path, monkeypatch: Any) -> None:
    from medrail.stages import grouping

    project, trained = open_project(folder, ["train.lr=0.02"]), grouping.train_run
    calls: list[int] = []

    def stop(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return trained(*arguments, **options)

    monkeypatch.setattr(grouping, "train_run", stop)
    with pytest.raises(KeyboardInterrupt):
        train_group(project, "seeds", 2)
    (left,) = [path for path in (folder / "runs").glob("*-seeds-*") if len(read_json(path / "group.json")["runs"]) < 2]
    with pytest.raises(RunError, match=r"1 of 2 members.*--seeds 2"):
        evaluate_group(left)
    group, result = train_group(project, "seeds", 2)
    assert group.folder == left
    assert result.values["kept"] == 1


def test_folds_that_the_data_give_must_be_as_many_as_are_asked_for(folder: Path, tmp_path: Path) -> None:
    rows = (folder.parent / "data" / "table.csv").read_text().splitlines()
    table = [f"{rows[0]},fold", *(f"{row},{int(row.rpartition('P')[2]) % 3}" for row in rows[1:])]
    (folder.parent / "data" / "folds.csv").write_text("\n".join(table) + "\n")
    project = open_project(folder, ["data.path=../data/folds.csv"])
    with pytest.raises(ConfigError, match="would never be tested"):
        train_group(project, "folds", 2)


@pytest.mark.parametrize("words", [["--seeds", "1"], ["--folds", "x"], ["--seeds", "2", "--folds", "2"]])
def test_a_wrong_number_is_told_by_the_command_line(folder: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", str(folder), *words])


def test_a_name_for_several_runs_is_refused(folder: Path) -> None:
    assert cli.main(["train", str(folder), "--seeds", "2", "--run", "x"]) == 2
