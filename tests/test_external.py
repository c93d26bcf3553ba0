"""A run judged on other data: read by its own rules, told by its classes, and the drop with its interval."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medrail import cli
from medrail.errors import ConfigError, LeakError
from medrail.stages import StageResult, evaluate_external, open_project, open_run, prepare_cases, train_run
from medrail.workspace import read_json

CONFIG = """\
name: shade
task: classification
data: {{kind: class_folders, path: {path}, classes: [dark, light], patient_pattern: "p(\\\\d+)_"}}
split: {{val: 0.2, test: 0.3}}
prepare:
  workers: 1
  steps:
    - {{kind: resize, size: [16, 16]}}
    - {{kind: normalise, method: custom, mean: [128], std: [64]}}
model: {{name: tiny_cnn, dims: 2, channels: 1}}
train: {{epochs: 3, lr: 0.01, batch_size: 8, threads: 1, device: cpu, track: false}}
evaluate: {{resamples: 300}}
"""


def pictures(folder: Path, count: int, names: tuple[str, str], gap: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.integers(0, 90, (20, 24), dtype=np.uint8) + np.uint8(gap * (number % 2))
        path = folder / names[number % 2] / f"p{number // 2}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """project/ with a run, on data/; other/ is darker."""
    root = tmp_path_factory.mktemp("external")
    pictures(root / "data", 30, ("dark", "light"), 150, 0)
    pictures(root / "other", 24, ("Dark", "Light"), 40, 1)
    (root / "project").mkdir()
    (root / "project" / "medrail.yaml").write_text(CONFIG.format(path="../data"), encoding="utf-8")
    project = open_project(root / "project")
    prepare_cases(project)
    train_run(project)
    return root


def external(root: Path, data: Path, *, accept_leak: bool = False) -> StageResult:
    project, run = open_run(root / "project", accept_leak=accept_leak)
    return evaluate_external(project, run, data)


def drops_as_told(result: StageResult) -> dict[str, int]:
    """Metric -> its n on the other data, as the table tells it."""
    rows = dict(result.facts)
    assert rows["metric"].split()[:4] == ["internal", "external,", "95", "%"]
    return {name: int(rows[name].split("]")[1].split()[0]) for name in result.values["drops"]}


def test_other_data_without_configuration_are_judged_whole_and_the_drop_is_told(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(trained / "project")[1]
    before = sorted((trained / "other").rglob("*"))
    result = external(trained, trained / "other")
    assert sorted((trained / "other").rglob("*")) == before
    folder = run.folder / "external" / "other"
    assert result.files == (folder,)
    assert {path.name for path in folder.iterdir()} >= {"evaluation.json", "cases.csv", "overlays", "external.json"}
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
    assert read_json(folder / "external.json") == json.loads(json.dumps(result.values))
    assert result.values["external"]["n"] == 24
    assert "inferred" not in json.dumps(result.values)
    own, theirs = (read_json(place / "evaluation.json")["metrics"] for place in (run.evaluation, folder))
    for name in ("accuracy", "balanced_accuracy"):
        drop = result.values["drops"][name]
        assert drop["internal"] == pytest.approx(own[name]["value"])
        assert drop["external"] == pytest.approx(theirs[name]["value"])
        assert drop["difference"]["value"] == pytest.approx(drop["external"] - drop["internal"])
    methods = {drop["difference"]["method"] for drop in result.values["drops"].values()}
    assert any("independent samples" in method for method in methods)
    assert all("guess" in method for method in methods if "no interval" not in method), "4 patients in its own test"
    assert drops_as_told(result) == {name: theirs[name]["n"] for name in result.values["drops"]}
    assert external(trained, trained / "other").up_to_date
    assert cli.main(["evaluate", str(trained / "project"), "--data", str(trained / "other"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "other"


def test_other_data_with_a_configuration_are_read_by_it(trained: Path, tmp_path: Path) -> None:
    text = CONFIG.format(path=json.dumps(str(trained / "other"))).replace("[dark, light]", "[Light, Dark]")
    (tmp_path / "hospital").mkdir()
    (tmp_path / "hospital" / "medrail.yaml").write_text(text, encoding="utf-8")
    with_file = external(trained, tmp_path / "hospital")
    without = external(trained, trained / "other")
    assert with_file.values["name"] == "hospital"
    assert with_file.values["external"]["metrics"] == without.values["external"]["metrics"]
    assert with_file.values["external"]["patients"] == 12
    assert not (tmp_path / "hospital" / "cases.csv").exists()


def test_data_of_the_same_name_from_another_place_get_a_number(trained: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "other", 12, ("dark", "light"), 150, 5)
    first = external(trained, trained / "other").values["name"]
    assert {first, external(trained, tmp_path / "other").values["name"]} == {"other", "other-2"}


def test_a_class_that_the_network_does_not_know_is_an_error(trained: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "strange", 12, ("dark", "lihgt"), 150, 5)
    with pytest.raises(ConfigError, match=r"does not know the class 'lihgt'.*Did you mean 'light'"):
        external(trained, tmp_path / "strange")


def test_images_of_the_training_are_refused_or_named(trained: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "mixed", 12, ("dark", "light"), 150, 5)
    project, run = open_run(trained / "project")
    seen = next(case for case in project.cases if case.split == "train")
    shutil.copy(seen.paths[0], tmp_path / "mixed" / seen.target / "p77_copy.png")
    with pytest.raises(LeakError, match=f"its image is that of {seen.id}.*Leave these images out of --data"):
        external(trained, tmp_path / "mixed")
    assert not (run.folder / "external" / "mixed").exists()
    values = external(trained, tmp_path / "mixed", accept_leak=True).values
    assert values["external"]["accepted_leaks"]["exact"] == 1
    assert any("LEAK ACCEPTED: 1 exact" in note for note in values["notes"])


def test_the_run_s_own_data_are_called_what_they_are(trained: Path, tmp_path: Path) -> None:
    project, run = open_run(trained / "project")
    for place in (trained / "data", trained / "project"):
        with pytest.raises(
            LeakError, match=r"the data that shade-001 was made from: all 30 images are its own"
        ) as caught:
            external(trained, place)
        assert caught.value.where == f"--data {place}"
        assert f"`medrail evaluate {run.folder}`" in caught.value.remedy
        assert "train anew" not in str(caught.value)
    for case in project.cases:
        if case.split == "test":
            target = tmp_path / "tested" / str(case.target) / Path(case.paths[0]).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(case.paths[0], target)
    notes = external(trained, tmp_path / "tested").values["notes"]
    assert "every image is one of the run's own test split: this is no external test" in notes


@pytest.mark.parametrize(
    ("sets", "path", "match"),
    [(["evaluate.split=val"], "other", "not test"), ([], "nowhere", "no such file")],
)
def test_what_cannot_be_done_is_told(trained: Path, sets: list[str], path: str, match: str) -> None:
    project, run = open_run(trained / "project", sets)
    with pytest.raises(ConfigError, match=match):
        evaluate_external(project, run, trained / path)


def test_a_group_has_no_external_test(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "group.json").write_text("{}")
    assert cli.main(["evaluate", str(tmp_path), "--data", str(trained / "other")]) == 2


@pytest.mark.slow
@pytest.mark.shared
def test_white_blood_cells_of_another_laboratory(shared_data: Path, tmp_path: Path) -> None:
    """Real masks of 0, 128 and 255 in pictures of two sizes; five masks of dataset2 have stray values."""
    words = ["init", str(tmp_path / "wbc"), "--data", str(shared_data / "wbc" / "dataset1")]
    assert cli.main(words) == 0
    sets = ["prepare.steps.1.size=[32,32]", "train.epochs=2", "model.width=4", "train.track=false"]
    project = open_project(tmp_path / "wbc", sets, accept_leak=True)
    prepare_cases(project)
    _, result = train_run(project)
    opened: Any = open_run(result.values["run"], accept_leak=True)
    found = evaluate_external(*opened, shared_data / "wbc" / "dataset2")
    assert found.values["external"]["n"] == 95
    assert len(found.values["external"]["failed"]) == 5
    assert found.values["drops"]["dice"]["difference"]["value"] < 0
