"""Which settings decide: importance with an interval, or nothing where the trials are too few to tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medrail.tune.tuned import Importance

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

LEAST = 20
"""Complete trials below which nothing is said: with ten of them the order of two settings is a matter of luck."""
RESAMPLES = 100


def importance_of(study: optuna.Study, seed: int) -> list[Importance]:
    """Share of each setting in what makes a trial one of the better ones, by PED-ANOVA (Watanabe et al., IJCAI 2023).

    The interval is the 2.5th to 97.5th percentile over ``RESAMPLES`` draws of the complete trials with replacement: it
    says how far the order depends on these trials. With two objectives it is of the first one.

    Returns
    -------
    The largest first; [] of fewer than ``LEAST`` complete trials, of fewer than two settings, or where all are as good.
    """
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    keys = sorted({key for trial in trials for key in trial.params})
    if len(trials) < LEAST or len(keys) < 2 or len({trial.values[0] for trial in trials}) < 2:
        return []
    larger = study.directions[0].name == "MAXIMIZE"
    shares = _shares(trials, larger)
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(trials), (RESAMPLES, len(trials)))
    drawn = [_shares([trials[place] for place in row], larger) for row in rows]
    found = []
    for key in keys:
        value = shares.get(key, 0.0)
        low, high = np.percentile([one.get(key, 0.0) for one in drawn], (2.5, 97.5))
        found.append(Importance(key, value, min(float(low), value), max(float(high), value)))
    return sorted(found, key=lambda one: -one.value)


def _shares(trials: Sequence[FrozenTrial], larger: bool) -> Mapping[str, float]:
    import optuna

    study = optuna.create_study(direction="maximize" if larger else "minimize")
    study.add_trials(
        optuna.trial.create_trial(params=one.params, distributions=one.distributions, value=one.values[0])
        for one in trials
    )
    return optuna.importance.get_param_importances(study)
