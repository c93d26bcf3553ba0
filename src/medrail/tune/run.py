"""tune: trial after trial, until there are as many as were asked for or the time is over."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medrail.config import Config
from medrail.errors import CaseError, ConfigError, RunError
from medrail.train import passport
from medrail.train.material import gather
from medrail.train.processes import refuse_several
from medrail.train.validate import select_by
from medrail.tune.importance import LEAST, importance_of
from medrail.tune.keeping import drop_weights
from medrail.tune.report import draw, write_results
from medrail.tune.space import Space, space_of
from medrail.tune.study import Study, open_study
from medrail.tune.trial import Given, Outcome, run_trial
from medrail.tune.tuned import Goal, TrialRecord, Tuned
from medrail.types import Case, Progress
from medrail.workspace import Workspace

if TYPE_CHECKING:
    from medrail.train.track import History

HOPELESS_AFTER = 3
"""Failed trials, without one that did not fail, after which it is not the settings' fault."""


def tune(
    config: Config,
    workspace: Workspace,
    cases: Sequence[Case],
    *,
    table: Sequence[Case] | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Look for the settings with which the network validates best; each trial is a training.

    Takes part in the study of the same data, settings, space and goal where there is one: with other processes that do
    so now, and after ones that were interrupted or killed, whose unfinished trainings go on. Cases of the test split
    are left out before anything else.

    Parameters
    ----------
    cases:
        Prepared ones.
    table:
        All cases, for the record in each trial's run; None: ``cases``.
    progress:
        Told after each epoch: epochs done, and of how many.

    Raises
    ------
    ConfigError
        If a setting of ``tune`` is wrong, the named study is another one, trainings have a time budget, or torchrun
        started several processes.
    CaseError
        If there are no cases for training or for validation.
    RunError
        If the study's database cannot be used, or the first trials all fail.
    """
    refuse_several("tune")
    if config.train.minutes:
        raise ConfigError(
            f"{config.train.minutes:g} minutes for each training: its epochs would follow from its settings and from "
            "what else the machine does, and trials could not be compared",
            needed="0: each trial has train.epochs",
            where="train.minutes",
            remedy="Add --set train.minutes=0; tune.minutes (tune --minutes) limits the whole study.",
        )
    learned = [case for case in cases if case.split in ("train", "val")]
    if not any(case.split == "val" for case in learned):
        raise CaseError(
            "no case to validate on, and the best settings are told by validation",
            where=str(workspace.case_table),
            remedy="Raise split.val, or give some cases the split val.",
        )
    space = space_of(config)
    goal = Goal(config.tune.metric or select_by(config), config.tune.second)
    identity = _identity(config, workspace, learned, space, goal)
    name = config.tune.study or f"{config.name}-{identity[:6]}"
    folder = workspace.study(name)
    given = Given(replace(workspace, runs_in=f"tune/{name}"), learned, table)
    with open_study(name, folder, config.tune, space, goal, identity) as study:
        session = Session(study, given, config, folder, progress)
        session.work()
        return session.report()


@dataclass
class Session:
    """What this process does for a study."""

    study: Study
    given: Given
    config: Config
    folder: Path
    progress: Progress | None = None
    began: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)

    def work(self) -> None:
        """Trial after trial. Ctrl-C and a kill leave the present one to whoever goes on."""
        while self._time_for_another() and (started := self.study.next(self.config.tune.trials)):
            with started.claim:
                begin = time.monotonic()
                twin = self.study.twin(started)
                outcome = (
                    _as_before(twin, self.study.goal)
                    if twin
                    else run_trial(self.study, started, self.given, self._told)
                )
                seconds = 0.0 if twin else round(time.monotonic() - begin, 3)
                self.study.note(started, seconds=seconds, **outcome.facts)
                self.study.finish(started, outcome.values, outcome.state)
            self._settle()
            self._stop_where_nothing_works(outcome)

    def report(self) -> Tuned:
        """The study as it is now, with its pictures."""
        importance = importance_of(self.study.study, self.config.tune.seed)
        with self.study.claims.alone():
            tuned = replace(self._tuned(), importance=importance)
            tuned = replace(tuned, notes=(*self.notes, *_notes(tuned, self.config)))
            files = [*write_results(tuned), *draw(tuned)]
        return replace(tuned, files=files)

    def _settle(self) -> None:
        with self.study.claims.alone():
            tuned = self._tuned()
            if self.config.tune.keep == "best":
                kept = tuned.front if tuned.goal.two else tuned.complete[:1]
            else:
                kept = tuned.complete
            drop_weights(self.folder, tuned.trials, kept)
            write_results(tuned)

    def _tuned(self) -> Tuned:
        trials, asked = self.study.records(), self.config.tune.trials
        front = self.study.front()
        return Tuned(
            self.study.study.study_name, self.folder, self.study.storage, self.study.goal, asked, trials, front
        )

    def _time_for_another(self) -> bool:
        limit_s = 60 * self.config.tune.minutes
        if not limit_s:
            return True
        took = [trial.seconds for trial in self.study.records() if trial.seconds]
        spent_s = time.monotonic() - self.began
        if spent_s + (statistics.median(took) if took else 0) <= limit_s:
            return True
        self.notes.append(
            f"ended after {spent_s / 60:.1f} of {self.config.tune.minutes:g} minutes: another trial takes longer"
        )
        return False

    def _told(self, number: int, history: History) -> None:
        if not self.progress:
            return
        records, asked, epochs = self.study.records(), self.config.tune.trials, self.config.train.epochs
        finished = [trial for trial in records if trial.state != "running"]
        best = min((trial for trial in records if trial.state == "complete"), key=self.study.goal.rank, default=None)
        words = [f"best {best.value:.4f} ({best.number})"] if best else []
        words.append(f"trial {number}: epoch {len(history)}")
        if left_s := _left_s(records, asked):
            words.append(f"about {left_s / 60:.0f} min left" if left_s >= 60 else f"about {left_s:.0f} s left")
        done = len(finished) * epochs + min(len(history), epochs)
        self.progress(min(done, asked * epochs), asked * epochs, ", ".join(words))

    def _stop_where_nothing_works(self, last: Outcome) -> None:
        ended = [trial for trial in self.study.records() if trial.state != "running"]
        if last.state == "failed" and len(ended) >= HOPELESS_AFTER and all(one.state == "failed" for one in ended):
            raise RunError(
                f"all of the first {len(ended)} trials failed, the last one with: {last.facts.get('reason')}",
                where=str(self.folder),
                remedy="See that `medrail train` works with the configuration as it is.",
            )


def _as_before(twin: TrialRecord, goal: Goal) -> Outcome:
    facts = {"epochs": twin.epochs, "same_as": twin.number, "reason": f"not trained: the same as trial {twin.number}"}
    if twin.state == "pruned":
        return Outcome("pruned", facts=facts)
    return Outcome("complete", (twin.value, twin.cost) if goal.two else (twin.value,), facts)


def _left_s(records: Sequence[TrialRecord], asked: int) -> float:
    """What the trials that are to come will take, by those that were; 0 where none was."""
    took = [trial.seconds for trial in records if trial.seconds]
    left = asked - sum(trial.state != "running" for trial in records)
    workers = max(1, sum(trial.state == "running" for trial in records))
    return statistics.fmean(took) * left / workers if took else 0.0


def _notes(tuned: Tuned, config: Config) -> list[str]:
    """What a reader must know to read the numbers."""
    notes = [
        "the test split was not looked at; the best of several values on the validation split is better than the"
        " settings are: `medrail evaluate` tells how good they are"
    ]
    if tuned.goal.two and config.tune.pruner != "none":
        notes.append("no trial was ended early: with a second objective there is no telling which is hopeless")
    if not tuned.importance:
        notes.append(f"which settings matter is told from {LEAST} complete trials on; there are {len(tuned.complete)}")
    if running := len(tuned.of("running")):
        notes.append(
            f"{running} trial{'s are' if running > 1 else ' is'} unfinished: the same command goes on with them"
        )
    return notes


def _identity(config: Config, workspace: Workspace, cases: Sequence[Case], space: Space, goal: Goal) -> str:
    """SHA-256 of what makes the values of two trials comparable: data, fixed settings, space and goal."""
    material = gather(config, workspace, cases)
    trained = passport.fingerprint(config, material.store, material.classes, material.cases, material.weights)
    text = json.dumps([trained, space.to_json(), goal.metric, goal.second])
    return hashlib.sha256(text.encode()).hexdigest()
