"""train: what a run's folder holds, repeating, resuming, stopping, and what is refused."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from medrail.bundle import Predictor
from medrail.errors import CaseError, ConfigError, RunError
from medrail.models import build_model
from medrail.train import load_model, torch_backend, train
from medrail.train.checkpoint import load
from medrail.train.material import gather
from medrail.types import Case
from medrail.workspace import Run, read_json


def fit(project: Any, **how: Any) -> Run:
    return train(project.config, project.workspace, project.cases, **how)


def weights(run: Run, which: str = "last") -> dict[str, torch.Tensor]:
    content = load(run.last if which == "last" else run.best)
    state: dict[str, torch.Tensor] = content["network"] if which == "last" else content["weights"]
    return state


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


class StopAt:
    """A progress that stops the training as Ctrl-C would, at one batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if done == self.batch:
            raise KeyboardInterrupt


def test_a_run_holds_everything_that_a_run_is(project: Any) -> None:
    seen: list[tuple[int, int]] = []
    run = fit(project, progress=lambda done, total, note="": seen.append((done, total)))
    assert run.name == "small-001"
    passport = read_json(run.passport)
    assert passport["finished"]
    assert [line["epoch"] for line in lines(run)] == [1, 2, 3, 4]
    score = {"classification": "val_balanced_accuracy", "segmentation": "val_dice"}[project.config.task]
    assert all(0 <= line[score] <= 1 and line["train_loss"] > 0 for line in lines(run))
    best = max(lines(run), key=lambda line: line[score])
    assert passport["result"][score] == best[score]
    assert load(run.best)["epoch"] == passport["result"]["best_epoch"]
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))
    assert {total for _, total in seen} == {len(seen)}
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "cases.csv",
        "checkpoints",
        "config.yaml",
        "images.json",
        "metrics.jsonl",
        "passport.json",
    ]


def test_the_configuration_in_the_run_reads_back_as_it_was(pictures: Any) -> None:
    from medrail.config import load as load_config

    run = fit(pictures)
    assert load_config(run.config_file) == pictures.config


def test_training_learns(pictures: Any) -> None:
    run = fit(pictures.with_settings(epochs=15))
    assert lines(run)[-1]["train_loss"] < 0.5 * lines(run)[0]["train_loss"]
    assert max(line["val_accuracy"] for line in lines(run)) == 1


def test_segmentation_learns(volumes: Any) -> None:
    run = fit(volumes.with_settings(epochs=30, seed=1))  # from few seeds the network misses a ball in a new place
    assert lines(run)[-1]["val_dice"] > 0.8


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(project: Any) -> None:
    first = weights(fit(project, run_name="one"))
    second = weights(fit(project, run_name="two"))
    other = weights(fit(project.with_settings(seed=1), run_name="three"))
    assert same(first, second)
    assert not same(first, other)


def test_neither_the_order_of_the_table_nor_what_was_drawn_before_matters(pictures: Any) -> None:
    first = weights(fit(pictures, run_name="one"))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    run = train(pictures.config, pictures.workspace, pictures.cases[::-1], run_name="two")
    assert same(first, weights(run))
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator is put back"
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("batch", [1, 3, 6, 8])
def test_an_interrupted_run_ends_with_the_same_weights(project: Any, batch: int) -> None:
    undisturbed = fit(project, run_name="undisturbed")
    with pytest.raises(KeyboardInterrupt):
        fit(project, run_name="interrupted", progress=StopAt(batch))
    halfway = project.workspace.run("interrupted")
    assert read_json(halfway.passport)["finished"] is False
    resumed = fit(project, run_name="interrupted")
    assert resumed == halfway
    for which in ("last", "best"):
        assert same(weights(undisturbed, which), weights(resumed, which))
    without_clock = [
        [{**line, "time": "", "seconds": 0, "images_per_s": 0} for line in lines(run)] for run in (undisturbed, resumed)
    ]
    assert without_clock[0] == without_clock[1]
    assert read_json(resumed.passport)["resumed"] == 1


def test_an_unfinished_run_is_found_by_its_fingerprint(pictures: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(pictures, progress=StopAt(7))
    assert fit(pictures).name == "small-001"
    assert [folder.name for folder in pictures.workspace.runs.iterdir()] == ["small-001"]


def test_a_finished_run_is_returned_as_it_is(pictures: Any) -> None:
    run = fit(pictures)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert fit(pictures) == run
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_another_setting_is_another_run_but_not_one_that_decides_nothing(pictures: Any) -> None:
    assert fit(pictures).name == "small-001"
    assert fit(pictures.with_settings(lr=1e-3)).name == "small-002"
    assert fit(pictures.with_settings(lr=1e-3, threads=0)).name == "small-002"
    assert fit(pictures).name == "small-001"


def test_another_content_of_a_case_is_another_run(pictures: Any) -> None:
    from medrail.prepare import prepare

    fit(pictures)
    case = next(case for case in pictures.cases if case.split == "train")
    shutil.copyfile(next(c for c in pictures.cases if c.split == "test").paths[0], case.paths[0])
    prepare(pictures.config, pictures.workspace, pictures.cases)
    assert fit(pictures).name == "small-002"


def test_a_run_whose_best_weights_were_deleted_is_trained_again(pictures: Any) -> None:
    run = fit(pictures)
    before = weights(run, "best")
    run.best.unlink()
    assert fit(pictures) == run
    assert same(weights(run, "best"), before)


def test_a_name_that_belongs_to_another_run_is_refused(pictures: Any) -> None:
    fit(pictures, run_name="mine")
    with pytest.raises(RunError, match="another configuration"):
        fit(pictures.with_settings(lr=1e-4), run_name="mine")
    with pytest.raises(ConfigError, match="no folders"):
        fit(pictures, run_name="../mine")


def test_a_broken_checkpoint_is_said_not_ignored(pictures: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(pictures, progress=StopAt(7))
    last = pictures.workspace.run("small-001").last
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"last\.pt: not a checkpoint"):
        fit(pictures)


def test_without_validation_all_epochs_are_trained_and_the_last_weights_kept(
    pictures_without_validation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="medrail.train")
    run = fit(pictures_without_validation.with_settings(patience=1))
    assert len(lines(run)) == 4
    assert same(load(run.last)["average"], weights(run, "best"))
    assert "no validation cases" in read_json(run.passport)["result"]["chosen_by"]
    assert "no validation cases" in read_json(run.passport)["result"]["notes"][0]
    assert "no validation cases" in caplog.text


def test_early_stopping_waits_for_patience_and_keeps_the_best(pictures: Any) -> None:
    run = fit(pictures.with_settings(epochs=40, patience=3, lr=3e-2))
    result = read_json(run.passport)["result"]
    assert result["epochs"] == result["best_epoch"] + 3 < 40
    assert load(run.best)["epoch"] == result["best_epoch"]


def test_patience_does_not_count_before_anything_is_found(volumes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from medrail.train import fresh as room

    def sure_of_background(*arguments: Any) -> torch.nn.Module:
        network = build_model(*arguments)
        last = [bias for name, bias in network.named_parameters() if name.endswith("bias") and bias.shape == (2,)][-1]
        torch.nn.init.constant_(last[:1], 9.0)
        return network

    monkeypatch.setattr(room, "build_model", sure_of_background)
    slow = volumes.with_settings(epochs=6, patience=2, lr=1e-6, ema=0)
    run = fit(slow)
    history = lines(run)
    assert {line["val_dice"] for line in history} == {0.0}, "the test is about a network that finds nothing"
    assert len(history) == 6
    result = read_json(run.passport)["result"]
    assert result["best_epoch"] == min(history, key=lambda line: line["val_loss"])["epoch"]
    assert any("in no epoch" in note for note in result["notes"])


def test_epochs_of_equal_dice_are_told_apart_by_their_loss(volumes: Any) -> None:
    from medrail.train.validate import validate

    material = gather(volumes.config, volumes.workspace, volumes.cases)
    spec = material.spec((16, 24))

    def score(of_ball: float) -> Any:
        def backend(batch: Any) -> Any:
            mask = material.store.load(material.validation[0].id)[1].voxels[0]
            inside = np.stack([1 - of_ball * mask, of_ball * mask], axis=1)
            return np.log(np.maximum(inside, 1e-3)).astype(np.float32)

        return validate(Predictor(spec, backend), material.store, material.validation)

    low, higher, good = score(0.1), score(0.4), score(0.9)
    assert low.metrics["val_dice"] == higher.metrics["val_dice"] == 0
    assert low.rank < higher.rank < good.rank
    assert [one.found for one in (low, higher, good)] == [False, False, True]


def test_what_was_taken_from_a_file_of_weights_stands_in_the_passport(pictures: Any) -> None:
    from medrail.config import parse

    first = fit(pictures)
    values = pictures.config.to_dict()
    values["model"]["weights"] = str(first.best.relative_to(pictures.workspace.root))
    run = train(parse(values), pictures.workspace, pictures.cases)
    assert read_json(run.passport)["result"]["notes"][0].startswith("started from ")


def test_another_label_is_another_run(pictures: Any) -> None:
    from dataclasses import replace

    fit(pictures)
    other = [replace(case, target="left") if case.split == "val" else case for case in pictures.cases]
    assert train(pictures.config, pictures.workspace, other).name == "small-002"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_kept_network_answers_as_it_was_validated(project: Any, precision: str) -> None:
    from medrail.train.validate import validate

    project = project.with_settings(precision=precision)
    if precision != "32-true" and project.config.task == "segmentation":
        pytest.skip("the small segmenter overflows in bfloat16; it is not chosen for it either")
    run = fit(project)
    material = gather(project.config, project.workspace, project.cases)
    spec = material.spec(tuple(load(run.best)["grid"]))
    score = validate(Predictor(spec, torch_backend(load_model(run))), material.store, material.validation)
    best = lines(run)[load(run.best)["epoch"] - 1]
    rounding = 1e-6 if precision == "32-true" else 2e-2  # validation computes in the precision of training
    assert {key: best[key] for key in score.metrics} == pytest.approx(score.metrics, abs=rounding)


def test_mixed_precision_still_repeats_and_resumes(pictures: Any) -> None:
    mixed = pictures.with_settings(precision="bf16-mixed")
    undisturbed = weights(fit(mixed, run_name="one"))
    with pytest.raises(KeyboardInterrupt):
        fit(mixed, run_name="two", progress=StopAt(8))
    assert same(undisturbed, weights(fit(mixed, run_name="two")))


def test_a_share_of_the_samples_can_make_an_epoch(pictures: Any) -> None:
    seen: list[int] = []
    fit(pictures.with_settings(samples_per_epoch=5), progress=lambda done, total, note="": seen.append(total))
    assert set(seen) == {4 * 2}


# --- what is refused


def test_no_training_case_says_where_the_cases_are(pictures: Any) -> None:
    cases = [case for case in pictures.cases if case.split != "train"]
    with pytest.raises(CaseError, match=r"no case to train on \(train 0, val 4, test 4\)"):
        train(pictures.config, pictures.workspace, cases)


def test_one_class_only_is_refused(pictures: Any) -> None:
    cases = [case for case in pictures.cases if case.target == "left"]
    with pytest.raises(CaseError, match="all 6 training cases are 'left'"):
        train(pictures.config, pictures.workspace, cases)


def test_a_case_that_is_not_prepared_is_named(pictures: Any) -> None:
    cases = [*pictures.cases, Case("stranger", "p", ("/raw/x.png",), "left", "train")]
    with pytest.raises(RunError, match="stranger is not prepared"):
        train(pictures.config, pictures.workspace, cases)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"device": "cuda:7"}, r"train\.device"),
        ({"device": "warp"}, r"train\.device"),
        ({"loss": "dice_ce"}, r"train\.loss"),
        ({"augment": {"flip": ["D"]}}, r"train\.augment\.flip"),
    ],
)
def test_settings_that_do_not_go_together_name_their_key(pictures: Any, settings: Any, where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        fit(pictures.with_settings(**settings))


def test_a_loss_that_is_no_number_stops_the_run_with_a_remedy(pictures: Any) -> None:
    with pytest.raises(RunError, match=r"the loss is .* in epoch .*Lower train\.lr"):
        fit(pictures.with_settings(lr=1e30, precision="32-true"))


def test_a_bad_setting_leaves_no_run_behind(pictures: Any) -> None:
    with pytest.raises(ConfigError):
        fit(pictures.with_settings(device="warp"))
    assert not pictures.workspace.runs.exists()


def test_saving_takes_a_small_share_of_the_time_and_nothing_is_lost_at_the_end(
    pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrail.train import checkpoint, state

    saved: list[str] = []
    real = checkpoint.save

    def save(path: Any, content: Any) -> None:
        saved.append(path.name)
        real(path, content)

    every_epoch = fit(pictures, run_name="every")
    monkeypatch.setattr(checkpoint, "save", save)
    monkeypatch.setattr(state, "SHARE_FOR_SAVING", 1e-9)
    run = fit(pictures, run_name="seldom")
    assert saved.count("last.pt") == 2, "after the first epoch and after the last"
    assert load(run.last)["epoch"] == 4 == len(lines(run))
    for which in ("last", "best"):
        assert same(weights(every_epoch, which), weights(run, which))
    assert load(run.best)["epoch"] == load(run.last)["best_epoch"]


def test_what_was_not_saved_when_it_was_interrupted_is_trained_again_alike(
    pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrail.train import state

    undisturbed = fit(pictures, run_name="undisturbed")
    monkeypatch.setattr(state, "SHARE_FOR_SAVING", 1e-9)
    with pytest.raises(KeyboardInterrupt):
        fit(pictures, run_name="interrupted", progress=StopAt(10))
    halfway = pictures.workspace.run("interrupted")
    assert (load(halfway.last)["epoch"], len(lines(halfway))) == (1, 3)
    resumed = fit(pictures, run_name="interrupted")
    for which in ("last", "best"):
        assert same(weights(undisturbed, which), weights(resumed, which))
    assert [line["epoch"] for line in lines(resumed)] == [1, 2, 3, 4]


@pytest.mark.parametrize("old", [False, True])
def test_that_memory_did_not_suffice_is_known_after_a_resume(
    pictures: Any, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    """Told once, as it was at last; a last.pt of before that time is still gone on with."""
    from medrail.train import checkpoint
    from medrail.train.step import Step

    real, most = Step._gradient, 2

    def hungry(self: Step, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if -(-len(images) // self.parts) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, images, targets)

    def stop(history: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Step, "_gradient", hungry)
    small = pictures.with_settings(epochs=2, batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        train(small.config, small.workspace, small.cases, run_name="one", on_epoch=stop)
    run = small.workspace.run("one")
    if old:
        content = checkpoint.load(run.last)
        del content["notes"]
        checkpoint.save(run.last, content)
    train(small.config, small.workspace, small.cases, run_name="one")
    notes = [note for note in read_json(run.passport)["result"]["notes"] if "memory did not suffice" in note]
    assert read_json(run.passport)["resumed"] == 1
    assert notes == ([] if old else ["memory did not suffice for more: each step computes 2 samples at a time"])
