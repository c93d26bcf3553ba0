"""Which trial is whose: asked for, given out once, gone on with, and compared only with its like."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from medrail.config import parse
from medrail.errors import ConfigError, RunError
from medrail.tune.space import space_of
from medrail.tune.study import MOST_STARTS, SAMPLERS, open_study
from medrail.tune.tuned import Goal

GOAL = Goal("val_accuracy")


def space(**tune):
    data = {"kind": "class_folders", "path": "x", "classes": ["a", "b"]}
    tune = {"space": {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "train.batch_size": [4, 8, 16]}, **tune}
    return space_of(
        parse({"task": "classification", "data": data, "model": {"name": "tiny_cnn", "dims": 2}, "tune": tune})
    )


@contextmanager
def opened(folder: Path, goal=GOAL, identity="one", **tune):
    it = space(**tune)
    with open_study("s", folder / "s", it.config.tune, it, goal, identity) as study:
        yield study


def value(settings) -> float:
    return -abs(settings["train.lr"] - 0.003) - settings["train.batch_size"] / 1000


def work(study, asked: int, seconds: float = 0.0) -> list[int]:
    """A quick objective instead of a training."""
    done = []
    while started := study.next(asked):
        with started.claim:
            time.sleep(seconds)
            found = value(started.settings)
            study.finish(started, (found, 1.0) if study.goal.two else (found,), "complete")
            done.append(started.trial.number)
    return done


def _one_of_several(folder: str, asked: int, results) -> None:
    with opened(Path(folder)) as study:
        results.put(work(study, asked, 0.02))


def test_there_are_as_many_trials_as_asked_for_in_all(tmp_path):
    with opened(tmp_path) as study:
        assert work(study, 5) == [0, 1, 2, 3, 4]
    with opened(tmp_path) as study:
        assert work(study, 5) == []
        assert work(study, 7) == [5, 6]
        records = study.records()
    assert [record.number for record in records] == list(range(7))
    assert records[0].settings == {"train.lr": 0.001, "train.batch_size": 16}, "the configuration as it stands"
    assert len({str(record.settings) for record in records}) == 7


@pytest.mark.slow
def test_processes_that_share_a_study_do_each_trial_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_one_of_several, args=(str(tmp_path), 24, results)) for _ in range(3)]
    for process in processes:
        process.start()
    parts = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert sorted(number for part in parts for number in part) == list(range(24))
    with opened(tmp_path) as study:
        settings = [str(record.settings) for record in study.records()]
    assert len(set(settings)) == 24, "no two processes draw the same"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_that_is_taken_up_again_goes_on_as_an_undisturbed_one(tmp_path, sampler):
    with opened(tmp_path / "a", sampler=sampler) as study:
        work(study, 14)
        undisturbed = study.records()
    for asked in (3, 12, 14):
        with opened(tmp_path / "b", sampler=sampler) as study:
            work(study, asked)
    with opened(tmp_path / "b", sampler=sampler) as study:
        assert study.records() == undisturbed


def test_the_trial_of_a_process_that_is_gone_goes_on_and_is_no_new_one(tmp_path):
    with opened(tmp_path) as study:
        work(study, 2)
        left = study.next(3)
        with left.claim:
            assert study.next(3) is None, "somebody works on it"
        again = study.next(3)
        assert again.again
        assert again.trial.number == left.trial.number == 2
        assert again.settings == left.settings
        with again.claim:
            study.finish(again, (0.5,), "complete")
        assert study.next(3) is None


def test_a_trial_that_ends_its_process_every_time_is_given_up(tmp_path):
    with opened(tmp_path) as study:
        for _ in range(MOST_STARTS):
            started = study.next(1)
            started.claim.close()
        assert study.next(1) is None
        (record,) = study.records()
    assert record.state == "failed"
    assert "ended 4 times" in record.reason


def test_a_trial_that_somebody_else_has_finished_stays_as_it_is(tmp_path):
    with opened(tmp_path) as study:
        started = study.next(1)
        started.claim.close()
        again = study.next(1)
        study.finish(again, (0.25,), "complete")
        study.finish(started, (0.75,), "complete")
        assert [record.value for record in study.records()] == [0.25]


def test_a_study_of_something_else_is_refused(tmp_path):
    with opened(tmp_path) as study:
        work(study, 1)
    with pytest.raises(ConfigError, match=r"tune\.study"), ExitStack() as stack:
        stack.enter_context(opened(tmp_path, identity="two"))


def test_trials_without_their_database_are_not_taken_for_others(tmp_path):
    (tmp_path / "s" / "trial-0000").mkdir(parents=True)
    with pytest.raises(RunError, match="database is gone"), ExitStack() as stack:
        stack.enter_context(opened(tmp_path))


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.db").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(RunError, match=r"study\.db.*not a database"), ExitStack() as stack:
        stack.enter_context(opened(tmp_path))


def test_the_front_is_what_nothing_beats_in_both(tmp_path):
    points = [(0.9, 10.0), (0.8, 5.0), (0.8, 6.0), (0.95, 10.0), (0.7, 5.0), (0.95, 30.0)]
    with opened(tmp_path, Goal("val_accuracy", "latency_ms")) as study:
        for point in points:
            started = study.next(len(points))
            with started.claim:
                study.finish(started, point, "complete")
        assert [(one.value, one.cost) for one in study.front()] == [(0.95, 10.0), (0.8, 5.0)]


def test_of_a_loss_the_lowest_is_the_best():
    from medrail.tune.tuned import TrialRecord, Tuned

    trials = [
        TrialRecord(0, "complete", {}, 0.5),
        TrialRecord(1, "complete", {}, 0.2),
        TrialRecord(2, "pruned", {}, 0.1),
    ]
    assert Tuned("s", Path(), "", Goal("val_loss"), 3, trials).best.number == 1
    assert Tuned("s", Path(), "", Goal("val_dice"), 3, trials).best.number == 0
