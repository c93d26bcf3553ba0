"""Study: the trials of all processes, one database, and which trial comes next.

Optuna (Akiba et al., KDD 2019) chooses the values and says which trial is hopeless; what is a trial, who does it, and
what becomes of one whose process died is decided here. A trial of a dead process is no failure: it goes on from its
last whole epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrail.config import TuneConfig
from medrail.errors import ConfigError, RunError
from medrail.tune.claims import Claims
from medrail.tune.space import Space
from medrail.tune.storage import open_storage
from medrail.tune.tuned import Goal, State, TrialRecord

if TYPE_CHECKING:
    import optuna
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

FORMAT = 1
MOST_STARTS = 4
"""A trial whose process died so often is given up: it is probably the reason."""
_ABOUT = "medrail"


def _tpe(seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed)


def _random(seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _gp(seed: int) -> BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed)


def _nsga2(seed: int) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {"tpe": _tpe, "random": _random, "gp": _gp, "nsga2": _nsga2}
"""Name -> (seed) -> sampler."""


def pruner_of(name: str, epochs: int) -> BasePruner:
    """The pruner of trainings of so many epochs; none of them acts before the network had time to learn anything."""
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    if name == "median":
        return MedianPruner(n_startup_trials=4, n_warmup_steps=max(1, epochs // 5))
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=max(2, epochs // 9), reduction_factor=3)
    return NopPruner()


@dataclass(frozen=True)
class Started:
    """A trial of this process: Optuna's handle, its settings, and the claim that ends when ``claim`` is closed."""

    trial: Trial
    settings: Mapping[str, Any]
    claim: ExitStack
    again: bool = False


@dataclass(frozen=True)
class Study:
    """One study, open."""

    study: optuna.Study
    claims: Claims
    space: Space
    goal: Goal
    seed: int
    sampler: str
    storage: str

    def next(self, asked: int) -> Started | None:
        """The next trial to do: one whose process died, or a new one; None when ``asked`` are done or being done."""
        with self.claims.alone():
            for frozen in self._frozen():
                started = self._taken_up(frozen) if frozen.state.name == "RUNNING" else None
                if started:
                    return started
            waiting = any(frozen.state.name == "WAITING" for frozen in self._frozen())
            if not waiting and len(self._frozen()) >= asked:
                return None
            return self._begun()

    def finish(self, started: Started, values: tuple[float, ...] | None, state: State) -> None:
        """Write down how a trial ended, unless another process has meanwhile."""
        from optuna.trial import TrialState

        ended = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(state, TrialState.FAIL)
        with self.claims.alone():
            self.study.tell(started.trial, values, ended, skip_if_finished=True)

    def note(self, started: Started, **facts: Any) -> None:
        """Write down facts of a trial, JSON values."""
        with self.claims.alone():
            for name, value in facts.items():
                started.trial.set_user_attr(name, value)

    def reported(self, number: int) -> Mapping[int, float]:
        """Step -> value, of the epochs of a trial that are in the database."""
        return next(one.intermediate_values for one in self._frozen() if one.number == number)

    def twin(self, started: Started) -> TrialRecord | None:
        """The first finished trial with these very settings: from the same seed it would be the same training."""
        same = (one for one in self.records() if one.settings == started.settings and one.same_as is None)
        return next((one for one in same if one.state in ("complete", "pruned")), None)

    def records(self) -> list[TrialRecord]:
        """All trials that have begun, by number."""
        return [self._record(frozen) for frozen in self._frozen() if frozen.state.name != "WAITING"]

    def front(self) -> list[TrialRecord]:
        """With two objectives: the trials that no other one beats in both."""
        found = [self._record(frozen) for frozen in self.study.best_trials] if self.goal.two else []
        return sorted((trial for trial in found if trial.same_as is None), key=self.goal.rank)

    def _frozen(self) -> list[FrozenTrial]:
        return sorted(self.study.get_trials(deepcopy=False), key=lambda frozen: frozen.number)

    def _begun(self) -> Started:
        frozen = self._frozen()
        if not frozen and (values := self.space.as_it_stands):
            self.study.enqueue_trial(values)  # the first trial is what there is already
        # A sampler of its own for each number: a study that went on after a kill draws what it would have drawn.
        number = next((one.number for one in frozen if one.state.name == "WAITING"), len(frozen))
        self.study.sampler = SAMPLERS[self.sampler](_seed(self.seed, number))
        trial = self.study.ask()
        claim = self.claims.claim(trial.number)
        if claim is None:
            raise RunError(
                f"trial {trial.number} is held by another process", remedy="Is the same study open under two folders?"
            )
        with claim:
            trial.set_user_attr("starts", 1)
            return Started(trial, self.space.draw(trial), claim.pop_all())

    def _taken_up(self, frozen: FrozenTrial) -> Started | None:
        """A trial of a process that is no more."""
        import optuna

        claim = self.claims.claim(frozen.number)
        if claim is None:
            return None
        with claim:
            self.study.sampler = SAMPLERS[self.sampler](_seed(self.seed, frozen.number))
            trial = optuna.trial.Trial(self.study, frozen._trial_id)  # Optuna has no public way to one that exists
            starts = int(frozen.user_attrs.get("starts", 0)) + 1
            if starts > MOST_STARTS:
                trial.set_user_attr("reason", f"its process ended {starts - 1} times before the training did")
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
                return None
            trial.set_user_attr("starts", starts)
            return Started(trial, self.space.draw(trial), claim.pop_all(), again=True)

    def _record(self, frozen: FrozenTrial) -> TrialRecord:
        states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        values, facts = frozen.values or [], frozen.user_attrs
        reported = frozen.intermediate_values
        epochs = int(facts.get("epochs", max(reported, default=-1) + 1))
        best = max if self.goal.larger_is_better else min
        pruned = best(reported.values(), default=math.nan)
        return TrialRecord(
            frozen.number,
            states.get(frozen.state.name, "running"),
            self.space.decoded(frozen.params),
            (values[0] if values else math.nan) if frozen.state.name == "COMPLETE" else pruned,
            values[1] if len(values) > 1 else math.nan,
            epochs,
            float(facts.get("seconds", 0.0)),
            str(facts.get("reason", "")),
            facts.get("same_as"),
        )


@contextmanager
def open_study(name: str, folder: Path, tune: TuneConfig, space: Space, goal: Goal, identity: str) -> Iterator[Study]:
    """Open a study, or begin it.

    Parameters
    ----------
    identity:
        Hash of what makes the values of its trials comparable.

    Raises
    ------
    ConfigError
        If a study of this name looks for something else, or among other settings.
    RunError
        If the folder holds trials of a study that is no more, or the storage cannot be used.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    epochs = space.config.train.epochs
    with open_storage(tune.storage, name, folder) as place:
        with place.claims.alone():
            study = optuna.create_study(
                storage=place.storage,
                pruner=pruner_of("none" if goal.two else tune.pruner, epochs),
                study_name=name,
                directions=goal.directions,
                load_if_exists=True,
            )
            _recognise(study, folder, identity)
        yield Study(study, place.claims, space, goal, tune.seed, tune.sampler, place.shown)


def _recognise(study: optuna.Study, folder: Path, identity: str) -> None:
    about = study.user_attrs.get(_ABOUT)
    if about is None:
        if any(folder.glob("trial-*")):
            raise RunError(
                "holds trials of a study whose database is gone",
                where=str(folder),
                remedy="Delete the folder, or choose another tune.study.",
            )
        study.set_user_attr(_ABOUT, {"format": FORMAT, "identity": identity})
    elif about != {"format": FORMAT, "identity": identity}:
        raise ConfigError(
            f"the study {study.study_name!r} was made with other data, other settings, another space or another goal",
            where="tune.study",
            remedy="Its results could not be compared with new ones: choose another name, or leave tune.study empty.",
        )


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed & 0xFFFFFFFF, number]).generate_state(1)[0])
