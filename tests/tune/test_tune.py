"""medrail tune on pictures: what it finds, keeps, never looks at, and how it ends."""

from __future__ import annotations

import json
import math

import pytest

from medrail import cli
from medrail.config import load, parse
from medrail.errors import CaseError, ConfigError, RunError
from medrail.prepare import check_steps
from medrail.stages import open_project, open_run, tune_project
from medrail.train import load_model
from medrail.tune import trial as trial_module
from medrail.tune.study import MOST_STARTS
from medrail.workspace import Run, read_json
from tuning_project import make_project, only_study, rows_of


@pytest.fixture
def root(tmp_path):
    return make_project(tmp_path / "project")


def tuned(root, *sets):
    return tune_project(open_project(root, sets))


def test_trials_are_runs_and_the_best_one_is_written_down(root, capsys):
    assert cli.main(["tune", str(root), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    folder = only_study(root)
    assert printed == read_json(folder / "study.json")
    assert printed["complete"] == printed["trials"] == printed["asked"] == 3
    assert printed["sets"]
    assert "test split was not looked at" in printed["notes"][0]
    assert not (root / "runs").exists()

    rows = rows_of(folder)
    assert [row["state"] for row in rows] == ["complete"] * 3
    values = [float(row["val_balanced_accuracy"]) for row in rows]
    best = printed["best"]["trial"]
    assert values[best] == max(values) == printed["best"]["value"]
    for number in range(3):
        run = Run(folder / f"trial-{number:04d}")
        lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        chosen = read_json(run.passport)["result"]["best_epoch"]
        assert lines[chosen - 1]["val_balanced_accuracy"] == values[number]
        assert run.best.is_file() == (number == best)
        assert not run.last.exists()
    for name in ("best.yaml", "trials.csv", "history.png"):
        assert (folder / name).stat().st_size


def test_a_time_budget_of_each_training_is_refused(root):
    with pytest.raises(ConfigError, match=r"1 minutes for each training(.|\n)*tune\.minutes"):
        tuned(root, "train.minutes=1")
    assert not (root / "tune").exists()


def test_the_best_settings_train_the_same_network_again(root):
    result = tuned(root)
    project = open_project(root, result.values["sets"])
    trial = Run(only_study(root) / f"trial-{result.values['best']['trial']:04d}")
    from medrail.stages import train_run

    run, _ = train_run(project)
    assert read_json(run.passport)["fingerprint"] == read_json(trial.passport)["fingerprint"]
    first, second = load_model(run).state_dict(), load_model(trial).state_dict()
    assert all(first[name].equal(second[name]) for name in first)

    merged = read_yaml(only_study(root) / "best.yaml")
    whole = load(root, step_check=check_steps).to_dict()
    for section, values in merged.items():
        whole[section] |= values
    assert parse(whole).train == project.config.train


def read_yaml(path):
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_trial_is_a_run_that_can_be_evaluated(root):
    result = tuned(root, "tune.trials=1")
    folder = only_study(root) / "trial-0000"
    project, run = open_run(folder)
    assert project.workspace.root == root.resolve()
    from medrail.stages import evaluate_run

    assert evaluate_run(project, run).values["split"] == "test"
    assert result.values["best"]["trial"] == 0


def test_the_test_split_changes_nothing_and_is_given_to_nobody(tmp_path, monkeypatch):
    """Two projects that differ in what the test pictures show, and in their labels."""
    found, splits = [], set()
    real = trial_module.train

    def watched(config, workspace, cases, **more):
        splits.update(case.split for case in cases)
        return real(config, workspace, cases, **more)

    monkeypatch.setattr(trial_module, "train", watched)
    for seed in (0, 1):
        root = make_project(tmp_path / str(seed), test_seed=seed)
        values = dict(tuned(root, "tune.trials=2").values)
        facts = [{key: one[key] for key in ("trial", "value", "settings")} for one in values["ranked"]]
        found.append((values["study"], facts))
    assert (tmp_path / "0" / "raw" / "p20.png").read_bytes() != (tmp_path / "1" / "raw" / "p20.png").read_bytes()
    assert found[0] == found[1]
    assert splits == {"train", "val"}


@pytest.mark.slow
def test_more_trials_go_on_with_the_same_study(root):
    first = tuned(root, "tune.trials=1").values
    second = tuned(root, "tune.trials=2", "train.threads=2").values
    assert first["study"] == second["study"]
    assert second["trials"] == 2
    assert rows_of(only_study(root))[0]["seconds"] == f"{first['best']['seconds']:.1f}"
    other = tuned(root, "tune.trials=1", "train.epochs=1").values
    assert other["study"] != first["study"], "values of other settings are not compared"


def test_hopeless_trials_are_ended_and_their_weights_dropped(root, monkeypatch):
    """The first trials learn; then the metric stays at the floor."""
    real, calls = trial_module.value_of, []

    def poor(goal, line):
        calls.append(line)
        number = len({id(one) for one in calls})
        return real(goal, line) * 0 + (1.0 if number <= 20 else 0.1)

    monkeypatch.setattr(trial_module, "value_of", poor)
    result = tuned(root, "train.epochs=5", "train.patience=0", "tune.trials=6")
    rows = rows_of(only_study(root))
    assert [row["state"] for row in rows[:4]] == ["complete"] * 4
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned
    assert result.values["pruned"] == len(pruned)
    for row in pruned:
        folder = only_study(root) / f"trial-{int(row['trial']):04d}"
        assert int(row["epochs"]) < 5
        assert (folder / "metrics.jsonl").is_file()
        assert not (folder / "checkpoints").exists()


@pytest.mark.slow
def test_a_second_objective_gives_a_front_and_prunes_nothing(root):
    space = "tune.space={model.name: [tiny_cnn, resnet18], train.lr: [0.003, 0.001]}"
    result = tuned(root, "tune.trials=4", "tune.second=parameters", space, "train.epochs=1")
    values = result.values
    assert values["pruned"] == 0
    assert any("no trial was ended early" in note for note in values["notes"])
    parameters = {row["model.name"]: float(row["parameters"]) for row in rows_of(only_study(root))}
    assert parameters["tiny_cnn"] < 1e6
    if "resnet18" in parameters:
        assert parameters["resnet18"] > 1e7
    front = {one["trial"] for one in values["front"]}
    assert front
    kept = {path.parent.parent.name for path in only_study(root).glob("trial-*/checkpoints/best.pt")}
    assert kept == {f"trial-{number:04d}" for number in front}
    assert (only_study(root) / "front.png").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("second", ["latency_ms", "memory_mb"])
def test_a_measured_cost_is_a_number(root, second):
    values = tuned(root, "tune.trials=1", f"tune.second={second}").values
    assert 0 < values["best"]["second"] < 1000


@pytest.mark.slow
def test_the_same_settings_are_not_trained_twice(root):
    values = tuned(root, "tune.space={train.batch_size: [4, 8]}", "tune.trials=6").values
    rows = rows_of(only_study(root))
    trained = {path.name for path in only_study(root).glob("trial-*")}
    assert values["complete"] == len(rows) == 6
    assert len(trained) == 2
    by_size = {}
    for row in rows:
        by_size.setdefault(row["train.batch_size"], set()).add(row["val_balanced_accuracy"])
        assert bool(row["reason"]) == (f"trial-{int(row['trial']):04d}" not in trained)
    assert all(len(found) == 1 for found in by_size.values())


@pytest.mark.slow
def test_all_weights_are_kept_where_wanted(root):
    tuned(root, "tune.keep=all", "tune.trials=2")
    assert len(list(only_study(root).glob("trial-*/checkpoints/best.pt"))) == 2


def test_a_trial_that_fails_is_told_and_the_others_go_on(root, monkeypatch):
    real = trial_module.train

    def failing(config, workspace, cases, *, run_name, **more):
        if run_name == "trial-0001":
            raise RunError("the loss is nan in epoch 1", where="there")
        return real(config, workspace, cases, run_name=run_name, **more)

    monkeypatch.setattr(trial_module, "train", failing)
    result = tuned(root)
    assert [row["state"] for row in rows_of(only_study(root))] == ["complete", "failed", "complete"]
    assert any("trial 1 failed: there: the loss is nan" in warning for warning in result.warnings)


def test_when_nothing_works_it_is_not_tried_on_and_on(root, monkeypatch, capsys):
    def failing(*_, **__):
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(trial_module, "train", failing)
    assert cli.main(["tune", str(root), "--trials", "20"]) == 1
    assert "all of the first 3 trials failed, the last one with: out of memory" in capsys.readouterr().err
    assert len(rows_of(only_study(root))) == 3


def test_ctrl_c_leaves_a_study_that_goes_on(root, monkeypatch, capsys):
    real = trial_module.Watch.__call__

    def interrupted(self, history):
        real(self, history)
        if self.started.trial.number == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trial_module.Watch, "__call__", interrupted)
        assert cli.main(["tune", str(root)]) == 130
        assert "same command goes on" in capsys.readouterr().err
        assert [row["state"] for row in rows_of(only_study(root))] == ["complete"], "written after each trial"
    assert len((only_study(root) / "trial-0001" / "metrics.jsonl").read_text().splitlines()) == 1
    values = tuned(root).values
    assert values["complete"] == values["trials"] == 3
    assert read_json(only_study(root) / "trial-0001" / "passport.json")["resumed"] == 1
    assert MOST_STARTS > 2


def test_time_ends_it_before_a_trial_that_would_take_longer(root):
    values = tuned(root, "tune.trials=50", "tune.minutes=0.0001").values
    assert values["trials"] == 1
    assert any("another trial takes longer" in note for note in values["notes"])


def test_an_unknown_metric_is_a_mistake_with_a_suggestion(root, capsys):
    assert cli.main(["tune", str(root), "--set", "tune.metric=val_acuracy"]) == 2
    error = capsys.readouterr().err
    assert "Did you mean 'val_accuracy'?" in error


@pytest.mark.slow
def test_a_loss_is_made_small(root):
    values = tuned(root, "tune.metric=val_loss").values
    assert values["direction"] == "minimize"
    assert values["best"]["value"] == min(float(row["val_loss"]) for row in rows_of(only_study(root)))
    assert math.isfinite(values["best"]["value"])


def test_without_validation_nothing_can_be_tuned(tmp_path):
    root = make_project(tmp_path / "project", splits="train test")
    with pytest.raises(CaseError, match="validate"):
        tuned(root)


def test_wrong_options_are_usage(root):
    assert cli.main(["tune", str(root), "--trials", "none"]) == 2
    assert cli.main(["tune", str(root), "--minutes", "-1"]) == 2
