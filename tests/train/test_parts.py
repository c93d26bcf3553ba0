"""The parts of a training: loss, learning rate, device, weights, checkpoint, passport, tracking."""

from __future__ import annotations

import getpass
import json
import logging
import math
import pickle
import platform
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.bundle import InputKind, NetworkSpec, Predictor
from medrail.config import ModelConfig, TrainConfig
from medrail.errors import ConfigError, RunError
from medrail.models import build_model
from medrail.train import TRACKERS, load_model, torch_backend, train
from medrail.train import passport as passports
from medrail.train.checkpoint import clear_leftovers, load, save
from medrail.train.device import choose, repeatable
from medrail.train.loss import inverse_frequency, learning_rate, make_loss
from medrail.train.material import gather
from medrail.train.track import Guarded, flattened
from medrail.train.weights import start_from
from medrail.workspace import read_json

CPU = torch.device("cpu")

# --- loss and learning rate


@given(counts=st.lists(st.integers(0, 50), min_size=2, max_size=6).filter(lambda counts: sum(counts) > 0))
@settings(deadline=None)
def test_every_class_that_occurs_weighs_the_same_in_total(counts: list[int]) -> None:
    weights = inverse_frequency(counts)
    totals = [count * weight for count, weight in zip(counts, weights, strict=True) if count]
    assert totals == pytest.approx([totals[0]] * len(totals))
    assert sum(totals) == pytest.approx(sum(counts))
    assert all(math.isfinite(weight) and weight > 0 for weight in weights)


def test_class_weights_make_a_rare_class_count() -> None:
    logits, targets = torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    weighted = make_loss(TrainConfig(), "classification", (3, 1), CPU)(logits, targets)
    plain = make_loss(TrainConfig(class_weights="none"), "classification", (3, 1), CPU)(logits, targets)
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert plain == pytest.approx((3 * right + wrong) / 4, rel=1e-5)
    assert weighted == pytest.approx((right + wrong) / 2, rel=1e-5)


def test_dice_and_cross_entropy_by_hand() -> None:
    logits = torch.zeros(1, 2, 1, 4)
    targets = torch.tensor([[[0, 0, 1, 1]]])
    found = make_loss(TrainConfig(), "segmentation", (), CPU)(logits, targets)
    dice = 2 * (0.5 + 0.5) / (4 * 0.5 + 2)  # all probabilities are a half
    assert found == pytest.approx(1 - dice + math.log(2), rel=1e-4)
    only = make_loss(TrainConfig(loss="cross_entropy"), "segmentation", (), CPU)(logits, targets)
    assert only == pytest.approx(math.log(2))


def test_a_slice_without_foreground_does_not_spoil_the_dice_of_the_batch() -> None:
    logits = torch.full((2, 2, 1, 4), -20.0)
    targets = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, 0]]])
    logits.scatter_(1, targets[:, None], 20.0)
    assert make_loss(TrainConfig(), "segmentation", (), CPU)(logits, targets) == pytest.approx(0, abs=1e-4)


@given(steps=st.integers(1, 500), peak=st.floats(1e-6, 1))
@settings(deadline=None)
def test_the_learning_rate_rises_to_its_peak_and_falls_to_nearly_nothing(steps: int, peak: float) -> None:
    rates = [learning_rate(step, steps, peak) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(peak)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top <= 0.05 * steps + 1
    assert steps < 100 or rates[-1] < 0.01 * peak


# --- device


def test_what_is_chosen_automatically_exists_here() -> None:
    machine = choose(TrainConfig(), "classification", 2)
    assert machine.device in ("cpu", "cuda", "mps")
    assert machine.threads >= 1
    with repeatable(machine) as fabric:
        assert fabric.device.type == machine.device
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_bfloat16_is_chosen_on_a_cpu_only_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, wanted in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has, raising=False)
        assert choose(TrainConfig(device="cpu"), "classification", 2).precision == wanted
        assert choose(TrainConfig(device="cpu"), "segmentation", 2).precision == "32-true"
    fixed = TrainConfig(device="cpu", precision="bf16-mixed")
    assert choose(fixed, "segmentation", 2).precision == "bf16-mixed"


def test_everything_is_put_back_also_after_an_error() -> None:
    before = torch.get_num_threads(), torch.get_rng_state()
    machine = choose(TrainConfig(device="cpu", threads=1), "classification", 2)
    with pytest.raises(ZeroDivisionError), repeatable(machine):
        torch.manual_seed(5 // 0)
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


# --- a torch network as a backend


def test_the_backend_answers_in_evaluation_mode_and_leaves_the_mode_alone() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(0.9), torch.nn.Flatten(), torch.nn.Linear(64, 2))
    network.train()
    backend = torch_backend(network)
    batch = np.ones((3, 1, 8, 8), np.float32)
    np.testing.assert_array_equal(backend(batch), backend(batch))
    assert network.training
    spec = NetworkSpec("classification", ("a", "b"), 2, 1, (), InputKind(None, 0, ""))
    from medrail.types import Image

    assert Predictor(spec, backend).probabilities(Image(np.ones((1, 5, 8, 8), np.float32))).shape == (2,)


@pytest.mark.parametrize("together", [1, 5, 64])
def test_pictures_validated_together_get_what_the_predictor_gives_each(
    pictures: Any, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    from medrail.train import validate as room

    monkeypatch.setattr(room, "SLICES_TOGETHER", together)
    material = gather(pictures.config, pictures.workspace, pictures.cases)
    predictor = Predictor(material.spec((16, 24)), torch_backend(small()))
    found = [*room._class_probabilities(predictor, material.store, material.cases)]
    wanted = [predictor.probabilities(material.store.load(case.id)[0]) for case in material.cases]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


# --- weights to start from


def small(n_classes: int = 2, channels: int = 1) -> torch.nn.Module:
    return build_model(ModelConfig(name="tiny_cnn", dims=2, channels=channels), "classification", n_classes)


@pytest.mark.parametrize("wrapper", ["", "weights", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_come_from_every_usual_kind_of_file(tmp_path: Path, wrapper: str, prefix: str) -> None:
    source, target = small(), small()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pt")
    said = start_from(target, tmp_path / "w.pt")
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())
    assert "w.pt" in said


def test_the_last_layer_may_have_other_classes(tmp_path: Path) -> None:
    torch.save(small(5).state_dict(), tmp_path / "w.pt")
    target = small(2)
    head = target.state_dict()["head.weight"].clone()
    assert "random: head.weight, head.bias" in start_from(target, tmp_path / "w.pt")
    assert torch.equal(target.state_dict()["head.weight"], head)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = build_model(ModelConfig(name="unet", dims=2), "segmentation", 2)
    torch.save(other.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"model\.weights.*same network"):
        start_from(small(), tmp_path / "w.pt")


class _Runs:
    def __reduce__(self) -> Any:
        return (print, ("this must never run",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "not readable"),
        (b"PK\x03\x04 rubbish", "not readable"),
        ("code", "could run code"),
    ],
)
def test_files_that_are_no_weights_say_so(tmp_path: Path, content: Any, said: str, capsys: Any) -> None:
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save({"state_dict": _Runs()}, path)
    with pytest.raises(ConfigError, match=said):
        start_from(small(), path)
    assert capsys.readouterr().out == ""


def test_training_starts_from_the_configured_weights(pictures: Any) -> None:
    first = train(pictures.config, pictures.workspace, pictures.cases)
    values = pictures.config.to_dict()
    values["model"]["weights"] = str(first.best.relative_to(pictures.workspace.root))
    values["train"] |= {"epochs": 1, "lr": 1e-12}
    from medrail.config import parse

    second = train(parse(values), pictures.workspace, pictures.cases)
    assert second != first
    old, new = load(first.best)["weights"], load(second.best)["weights"]
    torch.testing.assert_close(old["head.weight"], new["head.weight"], atol=1e-6, rtol=0)
    values["model"]["weights"] = "gone.pt"
    with pytest.raises(ConfigError, match=r"gone\.pt: there is no such file"):
        train(parse(values), pictures.workspace, pictures.cases)


def test_load_model_refuses_what_it_cannot_use(pictures: Any) -> None:
    run = train(pictures.config, pictures.workspace, pictures.cases)
    network = load_model(run)
    assert not network.training
    content = load(run.best)
    content["classes"] = ["left", "right", "up"]
    save(run.best, content)
    with pytest.raises(RunError, match=r"best\.pt"):
        load_model(run)
    run.best.unlink()
    with pytest.raises(RunError, match="no such file"):
        load_model(run)


# --- checkpoint


def test_a_checkpoint_holds_only_what_torch_reads_safely(tmp_path: Path) -> None:
    save(tmp_path / "x.pt", {"a": torch.ones(2), "b": [1.5, "two"], "c": (-math.inf, 3)})
    content = load(tmp_path / "x.pt")
    assert torch.equal(content["a"], torch.ones(2))
    assert content["b"] == [1.5, "two"]
    assert tuple(content["c"]) == (-math.inf, 3)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path / "x.pt", {"a": 1})
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        save(tmp_path / "x.pt", {"a": lambda: 1})
    assert load(tmp_path / "x.pt")["a"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_a_broken_checkpoint_is_a_run_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(RunError, match=r"x\.pt: not a checkpoint"):
        load(tmp_path / "x.pt")


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path, capsys: Any) -> None:
    torch.save({"format": 1, "a": _Runs()}, tmp_path / "x.pt")
    with pytest.raises(RunError, match="not a checkpoint"):
        load(tmp_path / "x.pt")
    assert capsys.readouterr().out == ""


def test_what_a_kill_left_is_cleared(tmp_path: Path) -> None:
    save(tmp_path / "last.pt", {"a": 1})
    (tmp_path / ".last.pt.abc").write_bytes(b"half")
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


# --- passport


def test_the_passport_says_what_the_result_depends_on(pictures: Any) -> None:
    run = train(pictures.config, pictures.workspace, pictures.cases)
    values = read_json(run.passport)
    assert len(values["fingerprint"]) == 64
    assert values["seed"] == 0
    assert values["data"]["train_cases"] == 12
    assert values["data"]["val_patients"] == 4
    assert values["packages"]["torch"] == torch.__version__
    assert values["machine"]["threads"] == 1
    assert values["machine"]["device"] == "cpu"
    assert len(values["medrail"]["source_sha256"]) == 64
    assert values["project"] is None


def test_the_passport_names_neither_the_user_nor_the_host_nor_a_path(pictures: Any) -> None:
    run = train(pictures.config, pictures.workspace, pictures.cases)
    text = run.passport.read_text()
    assert str(pictures.workspace.root) not in text
    assert platform.node() not in text or len(platform.node()) < 4
    user = getpass.getuser()
    assert f'"{user}"' not in text
    assert f"/{user}/" not in text


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A B", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_commit_and_diff_of_the_project_folder_are_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "repository" / "project"
    folder.mkdir(parents=True)
    assert passports.project_code(folder) is None
    git(tmp_path / "repository", "init", "-q")
    (folder / "medrail.yaml").write_text("lr: 1\n")
    (tmp_path / "repository" / "elsewhere.txt").write_text("1\n")
    git(tmp_path / "repository", "add", "-A")
    git(tmp_path / "repository", "commit", "-q", "-m", "first")
    clean = passports.project_code(folder)
    assert clean is not None
    assert clean["commit"] == git(folder, "rev-parse", "HEAD").strip()
    assert clean["diff"] == ""
    (folder / "medrail.yaml").write_text("lr: 2\n")
    (tmp_path / "repository" / "elsewhere.txt").write_text("2\n")
    changed = passports.project_code(folder)
    assert changed is not None
    assert "+lr: 2" in changed["diff"]
    assert "elsewhere" not in changed["diff"]
    assert "A B" not in json.dumps(changed)
    assert changed["diff_sha256"] != clean["diff_sha256"]


def test_a_huge_diff_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("1\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    (tmp_path / "a.txt").write_text("é" * 1000 + "\n")
    monkeypatch.setattr(passports, "LARGEST_DIFF_BYTES", 301)
    code = passports.project_code(tmp_path)
    assert code is not None
    assert not code["diff_whole"]
    assert len(code["diff"].encode()) <= 301


def test_the_source_hash_is_the_same_twice() -> None:
    assert passports.source_sha256() == passports.source_sha256()


# --- tracking


class Breaks:
    """A tracker that fails at its n-th call."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def _call(self, *_: Any) -> None:
        self.calls += 1
        if self.calls >= self.at:
            raise ConnectionError("the server is away")

    begin = epoch = end = _call


@pytest.mark.parametrize("at", [1, 2, 6])
def test_a_failing_tracker_never_stops_a_training_and_is_said_once(
    pictures: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    broken = Breaks(at)
    monkeypatch.setitem(TRACKERS, "mlflow", lambda: broken)
    run = train(pictures.with_settings(track=True).config, pictures.workspace, pictures.cases)
    assert read_json(run.passport)["finished"]
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert "the server is away" in said[0].getMessage()
    assert broken.calls == at


def test_an_interrupt_is_told_as_such(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Remembers:
        def begin(self, run: Any, config: Any, passport: Any, history: Any) -> None:
            told.append(("begin", len(history)))

        def epoch(self, line: Any) -> None:
            told.append(("epoch", line["epoch"]))

        def end(self, status: Any) -> None:
            told.append(("end", status))

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 7:
            raise KeyboardInterrupt

    monkeypatch.setitem(TRACKERS, "mlflow", Remembers)
    project = pictures.with_settings(track=True)
    with pytest.raises(KeyboardInterrupt):
        train(project.config, project.workspace, project.cases, progress=stop)
    train(project.config, project.workspace, project.cases)
    assert told == [
        ("begin", 0),
        ("epoch", 1),
        ("epoch", 2),
        ("end", "KILLED"),
        ("begin", 2),
        ("epoch", 3),
        ("epoch", 4),
        ("end", "FINISHED"),
    ]


@pytest.mark.slow
def test_mlflow_mirrors_the_run_folder_also_after_an_interrupt(
    pictures: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    project = pictures.with_settings(track=True)

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(project.config, project.workspace, project.cases, progress=stop)
    run = train(project.config, project.workspace, project.cases)
    output = capfd.readouterr()
    assert output.out == output.err == ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{project.workspace.tracking_database}")
        experiment = client.get_experiment_by_name("small")
        assert experiment is not None
        (mirrored,) = client.search_runs([experiment.experiment_id])
        history = client.get_metric_history(mirrored.info.run_id, "train_loss")
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert {entry.step: entry.value for entry in history} == {line["epoch"]: line["train_loss"] for line in lines}
    assert len(history) == len(lines)
    assert mirrored.info.status == "FINISHED"
    assert mirrored.data.params == flattened(project.config)
    assert mirrored.data.tags["medrail.run"] == run.name
    assert getpass.getuser() not in mirrored.data.tags.values()
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.slow
def test_a_server_that_is_not_there_is_given_up_soon(
    pictures: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run = train(pictures.with_settings(track=True).config, pictures.workspace, pictures.cases)
    assert read_json(run.passport)["finished"]
    assert "not tracked from here on" in caplog.text
    assert not pictures.workspace.tracking_database.exists()


def test_a_guarded_tracker_lets_an_interrupt_through() -> None:
    class Interrupted(Breaks):
        def end(self, *_: Any) -> None:  # type: ignore[override]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Guarded(Interrupted(9)).end("FINISHED")
