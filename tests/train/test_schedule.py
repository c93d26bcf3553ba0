"""Time budgets: what is planned fits, is recorded, and can be repeated; the pace; the curves."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.config import TrainConfig
from medrail.data import batches_per_epoch
from medrail.errors import ConfigError
from medrail.train import load_model, train
from medrail.train import trial as trial_room
from medrail.train.checkpoint import load
from medrail.train.pace import Pace
from medrail.train.schedule import FEWEST_EPOCHS, MOST_EPOCHS, Schedule, fitting, fixed, measured
from medrail.train.track import MlflowTracker
from medrail.workspace import read_json


@given(
    minutes=st.floats(0.1, 1000),
    count=st.integers(2, 100_000),
    step_s=st.floats(1e-4, 20),
    validation_s=st.floats(0, 100),
    used_s=st.floats(0, 100),
    batch=st.integers(1, 64),
)
@settings(deadline=None)
def test_what_is_planned_fits_into_the_budget(
    minutes: float, count: int, step_s: float, validation_s: float, used_s: float, batch: int
) -> None:
    config = TrainConfig(minutes=minutes, batch_size=batch)
    try:
        found = fitting(config, count, used_s, step_s, validation_s)
    except ConfigError:
        assert minutes * 60 < used_s + 2 * step_s + validation_s + 0.09 * minutes * 60
        return
    steps = batches_per_epoch(count, batch, found.samples_per_epoch)
    needed = used_s + found.epochs * (steps * step_s + validation_s)
    assert needed <= minutes * 60
    assert found.epochs >= FEWEST_EPOCHS or found.samples_per_epoch
    another = needed + steps * step_s + validation_s
    assert found.epochs == MOST_EPOCHS or found.samples_per_epoch or another > 0.9 * minutes * 60, "time is left over"
    assert found.patience == max(config.patience, found.epochs // 3)


def test_too_little_time_says_what_takes_long() -> None:
    with pytest.raises(ConfigError, match="a step takes 5") as caught:
        fitting(TrainConfig(minutes=0.1), 100, 3.0, 5.0, 2.0)
    assert caught.value.where == "train.minutes"


def test_enough_is_measured_but_not_too_much() -> None:
    assert len(measured(lambda: 5.0)) == 3
    assert len(measured(lambda: 0.001)) == 12
    assert len(measured(lambda: 0.5)) == 4


def test_a_time_budget_is_recorded_and_repeats_exactly_with_the_recorded_epochs(
    pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrainConfig] = []

    def five(config: TrainConfig, *measurements: Any) -> Schedule:
        asked.append(config)
        return Schedule(5, 8, 4, config.minutes, 0.1, 0.2)

    monkeypatch.setattr(trial_room, "fitting", five)
    budget = pictures.with_settings(minutes=1, epochs=99)
    seen: list[int] = []

    def stop(done: int, total: int, note: str = "") -> None:
        seen.append(total)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(budget.config, budget.workspace, budget.cases, progress=stop)
    run = train(budget.config, budget.workspace, budget.cases)  # goes on
    assert len(asked) == 1, "a run that is taken up again is not planned anew"
    assert set(seen) == {10}
    passport = read_json(run.passport)
    assert passport["result"]["epochs"] == 5
    assert any(": 5 epochs" in note for note in passport["result"]["notes"])
    again = fixed(budget.config, passport["schedule"])
    assert (again.train.minutes, again.train.epochs, again.train.samples_per_epoch) == (0, 5, 8)
    repeated = train(again, budget.workspace, budget.cases)
    assert repeated != run
    assert read_json(repeated.passport)["fingerprint"] == passport["schedule"]["fingerprint"] != passport["fingerprint"]
    assert read_json(repeated.passport)["schedule"]["fingerprint"] == passport["schedule"]["fingerprint"]
    for key in ("network", "average"):
        one, other = load(run.last)[key], load(repeated.last)[key]
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_trial_leaves_no_trace(pictures: Any) -> None:
    budget = pictures.with_settings(minutes=0.1, patience=0)
    run = train(budget.config, budget.workspace, budget.cases)
    passport = read_json(run.passport)
    assert passport["schedule"]["step_s"] > 0
    assert passport["result"]["epochs"] == passport["schedule"]["epochs"]
    again = train(fixed(budget.config, passport["schedule"]), budget.workspace, budget.cases)
    one, other = load(run.last)["network"], load(again.last)["network"]
    assert all(torch.equal(value, other[name]) for name, value in one.items())


# --- what is kept is the average


def test_the_average_is_what_is_kept_and_comes_back_after_an_interrupt(pictures: Any) -> None:
    run = train(pictures.config, pictures.workspace, pictures.cases)
    last, best = load(run.last), load(run.best)
    if best["epoch"] == last["epoch"]:
        assert all(torch.equal(value, best["weights"][key]) for key, value in last["average"].items())
    assert any(not torch.equal(value, last["network"][key]) for key, value in last["average"].items())
    kept = load_model(run).state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in best["weights"].items())
    off = pictures.with_settings(ema=0)
    plain = train(off.config, off.workspace, off.cases)
    assert load(plain.last)["average"] == {}
    assert all(torch.equal(value, load(plain.last)["network"][key]) for key, value in last["network"].items()), (
        "averaging does not change what is averaged"
    )


# --- pace and curves


def test_the_pace_counts_images_and_foresees_the_end() -> None:
    now = [0.0]
    pace = Pace(epochs=4, done=1, clock=lambda: now[0])
    pace.begin_epoch()
    now[0] = 10.0
    pace.batch(50, 0.5, torch.tensor(0.25))
    assert pace.images_per_s == pytest.approx(5)
    assert pace.note(epochs_done=1) == "loss 0.2500, 5 images/s, 50 s left"  # half an epoch of three took 10 s
    now[0] = 1000.0
    pace.batch(50, 1.0, torch.tensor(0.125))
    assert pace.note(epochs_done=1) == "loss 0.1250, 0.1 images/s, 33 min left"
    assert pace.epoch_s == 1000


def test_notes_of_progress_say_loss_speed_and_time_left(pictures: Any) -> None:
    notes: list[str] = []
    train(pictures.config, pictures.workspace, pictures.cases, progress=lambda done, total, note="": notes.append(note))
    assert all(
        word in notes[3] for word in ("epoch 2 of 4: loss ", " images/s", " left; before: train_loss", "val_loss")
    )


def test_curves_lie_in_the_run_and_travel_to_mlflow(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracked = pictures.with_settings(track=True)
    run = train(tracked.config, tracked.workspace, tracked.cases)
    assert run.curves.read_bytes().startswith(b"\x89PNG")
    copies = [*(tracked.workspace.root / "mlruns").rglob("curves.png")]
    assert [copy.read_bytes() for copy in copies] == [run.curves.read_bytes()]
    assert MlflowTracker.__doc__


def test_curves_are_drawn_after_an_interrupt_too(pictures: Any) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(pictures.config, pictures.workspace, pictures.cases, run_name="stopped", progress=stop)
    assert pictures.workspace.run("stopped").curves.is_file()


def test_curves_that_cannot_be_drawn_never_stop_a_training(
    pictures: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from medrail.train import curves

    def broken(*arguments: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(curves, "draw_panels", broken)
    monkeypatch.setattr(curves, "REDRAW_S", -math.inf)
    with caplog.at_level(logging.WARNING):
        run = train(pictures.config, pictures.workspace, pictures.cases)
    assert read_json(run.passport)["finished"]
    assert [record.getMessage() for record in caplog.records].count(
        "no curves (OSError: no space left on device); metrics.jsonl has the numbers"
    ) == 1
