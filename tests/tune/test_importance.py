"""What decides is told with an interval, and not at all of few trials."""

from __future__ import annotations

import optuna
import pytest

from medrail.tune.importance import LEAST, importance_of

optuna.logging.set_verbosity(optuna.logging.ERROR)


def study_of(trials: int, *, flat: bool = False) -> optuna.Study:
    def objective(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return 1.0 if flat else -((x - 0.3) ** 2) + 1e-4 * y

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=trials)
    return study


@pytest.mark.parametrize("study", [study_of(LEAST - 1), study_of(LEAST, flat=True)], ids=["few", "flat"])
def test_where_it_cannot_be_told_nothing_is_told(study):
    assert importance_of(study, 0) == []


def test_what_decides_comes_first_with_an_interval_around_it():
    x, y = importance_of(study_of(60), 0)
    assert (x.key, y.key) == ("x", "y")
    assert x.value + y.value == pytest.approx(1)
    assert y.high < x.low <= x.value <= x.high <= 1
    assert importance_of(study_of(60), 0) == [x, y], "the same seed, the same interval"
