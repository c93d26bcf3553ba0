"""reproduce: an undisturbed run passes bit for bit, and everything that is changed is found and named."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medrail import cli
from medrail.config import TrainConfig
from medrail.config import load as load_config
from medrail.errors import RunError
from medrail.lock import locked
from medrail.stages import StageResult, open_project, prepare_cases, reproduce_run, train_run
from medrail.train import passport
from medrail.train.checkpoint import load, save
from medrail.train.reproduce import scratch
from medrail.workspace import Run, Workspace, read_json, write_json

CONFIG = """\
name: shade
task: classification
data: {kind: csv, path: ../data/table.csv, classes: [dark, light]}
split: {by: given}
prepare:
  workers: 1
  steps:
    - {kind: resize, size: [16, 16]}
    - {kind: normalise, method: custom, mean: [128], std: [64]}
model: {name: tiny_cnn, dims: 2, channels: 1}
train: {epochs: 2, batch_size: 8, threads: 1, device: cpu, track: false, augment: {noise: 0.1}}
"""


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ of 24 pictures, and project/ with one finished run."""
    root = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    rows = ["path,label,patient,split"]
    (root / "data").mkdir()
    for number in range(24):
        name = ("dark", "light")[number % 2]
        pixels = rng.integers(0, 90, (20, 24), dtype=np.uint8) + np.uint8(150 * (number % 2))
        Picture.fromarray(pixels).save(root / "data" / f"p{number:02d}.png")
        split = ("train", "train", "train", "train", "val", "test")[number // 4]
        rows.append(f"p{number:02d}.png,{name},P{number:02d},{split}")
    (root / "data" / "table.csv").write_text("\n".join(rows) + "\n")
    (root / "project").mkdir()
    (root / "project" / "medrail.yaml").write_text(CONFIG, encoding="utf-8")
    project = open_project(root / "project")
    prepare_cases(project)
    train_run(project)
    return root


@pytest.fixture
def root(trained_once: Path, tmp_path: Path) -> Path:
    """The same, moved to another place."""
    shutil.copytree(trained_once, tmp_path / "moved")
    return tmp_path / "moved"


def reproduce(root: Path, **options: Any) -> dict[str, Any]:
    result = reproduce_run(root / "project", **options)
    assert result.failed == (result.values["verdict"] == "FAIL")
    assert json.loads(json.dumps(result.values, allow_nan=False)) == result.values
    return dict(result.values)


def run_of(root: Path) -> Run:
    return Workspace(root / "project").run("shade-001")


def named(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["what"], one["name"]) for one in values["differs"]]


def edit_passport(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = read_json(run_of(root).passport)
    change(values)
    write_json(run_of(root).passport, values)


def edit_table(root: Path, row: int, column: str, value: str) -> None:
    path = root / "data" / "table.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[row][column] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_an_undisturbed_run_passes_bit_for_bit_and_leaves_no_trace(root: Path) -> None:
    before = {path: path.read_bytes() for path in run_of(root).folder.rglob("*") if path.is_file()}
    told: list[StageResult] = []
    values = reproduce(root, report=told.append)
    assert values["verdict"] == "PASS"
    assert values["differs"] == []
    assert values["same"] == ["seed", "configuration", "data", "code", "environment", "weights", "metrics"]
    assert values["weights"]["recorded"] == values["weights"]["found"]
    assert values["rerun"]
    assert values["answers"] is values["first_different_epoch"] is values["kept"] is None
    assert [one.stage for one in told] == ["rebuild"]
    assert {path: path.read_bytes() for path in run_of(root).folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in (root / "project" / "runs").iterdir()] == ["shade-001"]


def test_prepared_data_that_are_gone_are_made_again(root: Path) -> None:
    shutil.rmtree(root / "project" / "prepared")
    assert reproduce(root)["verdict"] == "PASS"


def test_the_second_run_can_be_kept_and_is_no_run_of_the_project(root: Path) -> None:
    left = root / "project" / "runs" / ".reproduce-shade-001.12345"
    shutil.copytree(run_of(root).folder, left)  # as a kill leaves it
    kept = Path(reproduce(root, keep=True)["kept"])
    assert not left.exists()
    assert load(Run(kept).best)["epoch"] == load(run_of(root).best)["epoch"]
    assert Workspace(root / "project").newest_run() == run_of(root)
    _, result = train_run(open_project(root / "project"))
    assert result.up_to_date
    assert result.values["run"] == str(run_of(root).folder)
    assert reproduce(root, keep=True)["verdict"] == "PASS"


def test_what_killed_repetitions_left_is_removed_and_nothing_else(root: Path) -> None:
    """Of whatever run; not what was kept, nor what another process works on."""
    run, runs = run_of(root), root / "project" / "runs"

    def lay(name: str) -> Path:
        (runs / name).mkdir()
        (runs / name / "config.yaml").write_text("")
        return runs / name

    killed = [lay(".reproduce-gone-007.12345"), lay(f".reproduce-{run.name}.4")]
    alone = runs / ".reproduce-gone-008.99.lock"
    alone.write_text('{"process": 99}')
    lay("odd.3")
    left = [lay(".reproduce-odd.3"), lay(".reproduce-gone-009"), lay(".reproduce-busy-001.1")]
    with locked(runs / ".reproduce-busy-001.1.lock"), scratch(run, keep=False) as name:
        assert (runs / f"{name}.lock").is_file()
        assert not any(path.exists() for path in (*killed, alone))
        assert all(path.is_dir() for path in left)
    with scratch(run, keep=False):
        assert [path.is_dir() for path in left] == [True, True, False]
    assert not list(runs.glob(".reproduce-*.lock"))


def test_a_changed_byte_of_an_image_is_found_and_named(root: Path) -> None:
    path = root / "data" / "p05.png"
    pixels = np.array(Picture.open(path))
    pixels[3, 4] ^= 1
    Picture.fromarray(pixels).save(path)
    values = reproduce(root)
    assert values["verdict"] == "FAIL"
    assert named(values) == [("data", "image of case p05")]
    assert "data: image of 1 case changed (p05)" in values["reason"]
    assert not values["rerun"]
    assert "data" not in values["same"]


def test_a_missing_image_and_a_missing_row_are_found_and_named(root: Path) -> None:
    table = (root / "data" / "table.csv").read_text().splitlines()
    (root / "data" / "table.csv").write_text("\n".join(table[:3] + table[5:]) + "\n")
    values = reproduce(root)
    assert named(values) == [("data", "case p02"), ("data", "case p03")]
    assert "2 cases missing (p02, p03)" in values["reason"]
    (root / "data" / "p07.png").unlink()
    assert reproduce(root)["verdict"] == "FAIL"


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [("label", "light", "label"), ("split", "val", "split"), ("patient", "somebody", "patient")],
)
def test_a_changed_row_of_the_table_is_found_and_named(root: Path, column: str, value: str, name: str) -> None:
    edit_table(root, 4, column, value)
    values = reproduce(root)
    assert values["verdict"] == "FAIL"
    assert named(values) == [("data", f"{name} of case p04")]
    assert "somebody" not in json.dumps(values), "who a patient is, is not told"


def test_added_cases_are_no_difference(root: Path) -> None:
    shutil.copy(root / "data" / "p01.png", root / "data" / "q.png")
    with (root / "data" / "table.csv").open("a") as file:
        file.write("q.png,light,P01,train\n")
    values = reproduce(root)
    assert values["verdict"] == "PASS"
    assert values["notes"] == ["1 case added since the training, and left out"]


def test_another_seed_is_found_and_named(root: Path) -> None:
    text = run_of(root).config_file.read_text()
    run_of(root).config_file.write_text(text.replace("seed: 0\n  device", "seed: 7\n  device"))
    values = reproduce(root)
    assert values["verdict"] == "FAIL"
    assert values["differs"] == [{"what": "seed", "name": "train.seed", "recorded": "0", "found": "7"}]


def test_another_setting_in_the_run_is_found_and_named(root: Path) -> None:
    text = run_of(root).config_file.read_text()
    run_of(root).config_file.write_text(text.replace("batch_size: 8", "batch_size: 4"))
    values = reproduce(root)
    assert values["verdict"] == "FAIL"
    assert named(values) == [("configuration", "config.yaml")]


def test_a_later_change_of_the_project_is_noted_and_the_run_s_own_settings_are_taken(root: Path) -> None:
    (root / "project" / "medrail.yaml").write_text(CONFIG.replace("epochs: 2", "epochs: 3, seed: 9"))
    values = reproduce(root)
    assert values["verdict"] == "PASS"
    assert "medrail.yaml has changed since (train)" in values["notes"][0]


def test_another_package_passes_if_the_weights_are_the_same_and_is_named(root: Path) -> None:
    edit_passport(root, lambda values: values["packages"].update(torch="0.0.1"))
    values = reproduce(root)
    assert values["verdict"] == "PASS"
    assert named(values) == [("environment", "torch")]
    assert values["differs"][0]["recorded"] == "0.0.1"
    assert "environment: torch 0.0.1 -> " in values["reason"]


def other_weights(root: Path, by: float) -> None:
    """The run's best weights are others, as another machine would have made them; the passport names them."""
    run = run_of(root)
    content = load(run.best)
    content["weights"] = {
        name: value + by if value.is_floating_point() else value for name, value in content["weights"].items()
    }
    content.pop("format")
    save(run.best, content)
    edit_passport(root, lambda values: values["result"].pop("weights_sha256"))


@pytest.mark.parametrize(("by", "verdict"), [(1e-6, "PASS"), (0.5, "FAIL")])
def test_in_another_environment_the_tolerance_decides(root: Path, by: float, verdict: str) -> None:
    other_weights(root, by)
    edit_passport(root, lambda values: values["machine"].update(processor="another one", capability="NONE"))
    values = reproduce(root)
    assert values["verdict"] == verdict
    assert named(values) == [("environment", "processor"), ("environment", "capability")]
    assert values["answers"]["cases"] == 4
    assert (values["answers"]["difference"] <= 0.02) == (verdict == "PASS")
    assert values["answers"]["difference"] > 0
    assert "weights" not in values["same"]
    assert reproduce(root, tolerance=0)["verdict"] == "FAIL"


def test_other_weights_for_no_known_reason_are_not_deterministic(root: Path) -> None:
    other_weights(root, 1e-6)
    values = reproduce(root)
    assert values["verdict"] == "FAIL"
    assert "not deterministic" in values["reason"]
    assert "no epoch's numbers differ" in values["reason"]
    lines = [json.loads(line) for line in run_of(root).metrics.read_text().splitlines()]
    lines[1]["train_loss"] += 1e-9
    run_of(root).metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    values = reproduce(root)
    assert values["first_different_epoch"] == 2
    assert "the first epoch that differs is 2" in values["reason"]


def test_weights_that_were_changed_after_the_training_are_found(root: Path) -> None:
    content = load(run_of(root).best)
    first = next(iter(content["weights"]))
    content["weights"][first] = content["weights"][first] + 1e-3
    content.pop("format")
    save(run_of(root).best, content)
    values = reproduce(root)
    assert values["verdict"] == "FAIL"
    assert named(values) == [("weights", "checkpoints/best.pt")]


def test_another_source_of_medrail_is_named_and_no_tolerance_helps(root: Path) -> None:
    edit_passport(root, lambda values: values["medrail"].update(source_sha256="0" * 64))
    values = reproduce(root)
    assert values["verdict"] == "PASS", "identical is identical"
    assert named(values) == [("code", "medrail source")]
    assert "code" not in values["same"]
    other_weights(root, 1e-6)
    values = reproduce(root, tolerance=0.9)
    assert values["verdict"] == "FAIL"
    assert "code: medrail source 000000000000... -> " in values["reason"]


def test_the_project_s_commit_and_diff_are_named(root: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", *identity, *words], cwd=root / "project", check=True, capture_output=True)

    git("init")
    git("add", "medrail.yaml")
    git("commit", "-m", "first")
    edit_passport(root, lambda values: values.update(project=passport.project_code(root / "project")))
    assert reproduce(root)["differs"] == []
    (root / "project" / "medrail.yaml").write_text(CONFIG + "# a remark\n")
    assert named(reproduce(root)) == [("code", "project diff")]
    git("commit", "-am", "second")
    assert named(reproduce(root)) == [("code", "project commit")]


def test_a_run_whose_sessions_differ_names_what_changed_in_between(root: Path) -> None:
    packages = read_json(run_of(root).passport)["packages"]
    session = {"when": "2026-01-01T00:00:00+00:00", "packages": {**packages, "numpy": "9.9"}}
    edit_passport(root, lambda values: values.update(sessions=[session]))
    values = reproduce(root)
    assert [(one["name"], one["recorded"]) for one in values["differs"]] == [
        ("numpy", f"{packages['numpy']}, then 9.9")
    ]


@pytest.mark.skipif("minutes" not in TrainConfig.model_fields, reason="no time budgets in this version")
def test_a_run_with_a_time_budget_is_rerun_with_the_epochs_that_it_held(root: Path) -> None:
    project = open_project(root / "project", ["train.minutes=0.02", "train.patience=0"])
    run, _ = train_run(project)
    schedule = read_json(run.passport)["schedule"]
    values = dict(reproduce_run(run.folder, keep=True).values)
    assert values["verdict"] == "PASS"
    assert values["differs"] == []
    kept = load_config(Path(values["kept"]) / "config.yaml").train
    assert (kept.minutes, kept.epochs) == (0, schedule["epochs"])


def test_an_unfinished_run_is_refused(root: Path) -> None:
    edit_passport(root, lambda values: values.update(finished=False))
    with pytest.raises(RunError, match="not finished"):
        reproduce(root)


def test_the_verb_s_exit_code_and_object(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", str(run_of(root).folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "PASS"
    edit_table(root, 4, "label", "light")
    assert cli.main(["reproduce", str(run_of(root).folder)]) == 1
    out = capsys.readouterr().out
    assert "FAIL: data: label of 1 case changed (p04)" in out


SCRIPT = """
import os, signal, sys
from medrail.stages import open_project, train_run

def make(title):
    def killed(done, total, note=""):
        if done == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    return killed

train_run(open_project(sys.argv[1], sys.argv[4:]), sys.argv[3], make)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_that_was_killed_and_resumed_with_two_threads_is_reproduced_in_another_process(root: Path) -> None:
    words = [str(root / "project"), "3", "killed", "train.threads=2", "train.epochs=4"]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, timeout=300, check=False)
    assert done.returncode == -9, done.stderr.decode()
    medrail = str(Path(sys.executable).with_name("medrail"))
    words = ["train", str(root / "project"), "--run", "killed", "--set", "train.threads=2", "--set", "train.epochs=4"]
    subprocess.run([medrail, *words], check=True, capture_output=True, timeout=300)
    run = Workspace(root / "project").run("killed")
    assert read_json(run.passport)["resumed"] == 1
    assert read_json(run.passport)["machine"]["threads"] == 2
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["reproduce", str(run.folder), "--json"]
    done = subprocess.run([medrail, *words], capture_output=True, timeout=300, check=False, env=one_thread)
    assert done.returncode == 0, done.stderr.decode()
    values = json.loads(done.stdout)
    assert values["verdict"] == "PASS"
    assert values["differs"] == []
    assert "weights" in values["same"]


@pytest.mark.parametrize("scheme", ["hf", "https"])
def test_weights_with_an_address_are_compared_as_fetched(
    root: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in a cache is found there; what is gone, and cannot be fetched, is named."""
    content = run_of(root).best.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    cached = root / "cache" / "best.pt"
    cached.parent.mkdir()
    cached.write_bytes(content)

    def download(*_: Any, **__: Any) -> str:
        if not cached.is_file():
            raise OSError("no network")
        return str(cached)

    client = SimpleNamespace(hf_hub_download=download, try_to_load_from_cache=lambda *_, **__: str(cached))
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(Path(download()).read_bytes()))
    name = "hf://owner/model/best.pt" if scheme == "hf" else f"https://example.org/best.pt#sha256={sha256}"
    shutil.rmtree(run_of(root).folder)
    train_run(open_project(root / "project", [f"model.weights={name}"]))
    values = reproduce(root)
    assert (values["verdict"], values["differs"]) == ("PASS", [])
    cached.unlink()
    shutil.rmtree(root / "project" / "weights", ignore_errors=True)
    (gone,) = reproduce(root)["differs"]
    assert (gone["name"], gone["recorded"], gone["found"]) == ("file of model.weights", sha256, "missing")
