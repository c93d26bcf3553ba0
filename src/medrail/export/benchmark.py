"""benchmark: one network in every format, engine and precision that is installed here: how fast, and how right.

All contenders are timed in turn, round after round, so that what else the machine does meets each of them alike; the
factor between two is taken within a round. The interval is that of a median, from the order of the rounds alone
(Conover, Practical Nonparametric Statistics, 3rd edition 1999, section 3.2): no shape is assumed, and of ten rounds it
goes from the second to the ninth.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from medrail.bundle import Predictor
from medrail.evaluate.bootstrap import percentile_bootstrap
from medrail.evaluate.scoring import mean_of
from medrail.export.parity import labels_of, largest_difference, metric_of, score_of
from medrail.prepare import Store
from medrail.types import Case, Progress

_TURN_S, _MOST_CALLS, _LEAST_CALLS = 0.2, 50, 2


@dataclass(frozen=True)
class Contender:
    """One way to run the network; ``file_mb``: of its file (10^6 bytes)."""

    format: str
    engine: str
    precision: str
    file_mb: float
    predictor: Predictor

    @property
    def name(self) -> str:
        return f"{self.format} {self.engine} {self.precision}"


@dataclass(frozen=True)
class Value:
    """A number with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


@dataclass(frozen=True)
class Answered:
    """How a contender answered: its score on each case, and how its answers differ from the first contender's."""

    scores: list[float] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    of: list[int] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


def median_interval(values: Sequence[float]) -> Value:
    """The median with its 95 % interval, which holds whatever the values' distribution is.

    >>> median_interval([3.0, 1.0, 2.0, 5.0, 4.0, 6.0])
    Value(value=3.5, low=1.0, high=6.0)
    """
    ordered, n = sorted(values), len(values)
    tail, rank = 0.0, 0
    while rank < n // 2:
        tail += math.comb(n, rank) / 2**n
        if 2 * tail > 0.05:
            break
        rank += 1
    middle = statistics.median(ordered) if n else math.nan
    return Value(middle, ordered[rank - 1], ordered[n - rank]) if rank else Value(middle, math.nan, math.nan)


def time_in_turn(
    calls: Sequence[Callable[[], object]], rounds: int, progress: Progress | None = None
) -> list[list[float]]:
    """For each of the calls its milliseconds in each of the rounds: the median of that round's turn.

    A turn begins with a call that does not count, and lasts a fifth of a second or 50 calls, at least two. Each round
    begins with another of the calls.
    """
    found: list[list[float]] = [[] for _ in calls]
    for number in range(rounds):
        for place in range(len(calls)):
            index = (number + place) % len(calls)
            found[index].append(_turn(calls[index]))
        if progress:
            progress(number + 1, rounds)
    return found


def _turn(call: Callable[[], object]) -> float:
    call()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < _LEAST_CALLS or (len(times) < _MOST_CALLS and time.perf_counter() - began < _TURN_S):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def answer_in_turn(
    contenders: Sequence[Contender], store: Store, cases: Sequence[Case], progress: Progress | None = None
) -> list[Answered]:
    """Let each contender answer for each prepared case, which is loaded once."""
    found = [Answered() for _ in contenders]
    spec = contenders[0].predictor.spec
    for number, case in enumerate(cases):
        image, mask = store.load(case.id)
        truth = mask.voxels[0] if mask is not None else None
        first, first_labels = None, None
        for contender, answered in zip(contenders, found, strict=True):
            probabilities = contender.predictor.probabilities(image)
            labels = labels_of(probabilities, spec)
            if first is None or first_labels is None:
                first, first_labels = probabilities, labels
            answered.scores.append(score_of(case, truth, labels, spec))
            answered.changed.append(int(np.count_nonzero(labels != first_labels)))
            answered.of.append(int(np.size(labels)))
            answered.gaps.append(largest_difference(probabilities, first))
        if progress:
            progress(number + 1, len(cases), case.id)
    return found


def rows_of(
    contenders: Sequence[Contender],
    times: Sequence[Sequence[float]],
    answers: Sequence[Answered],
    cases: Sequence[Case],
    *,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """For each contender what it took and how it answered, beside the first one; JSON values.

    The interval of the difference in the metric is that of a paired bootstrap over patients.
    """
    patients = [case.patient for case in cases]
    rows = []
    for contender, its, answered in zip(contenders, times, answers, strict=True):
        differences = np.asarray(answered.scores) - np.asarray(answers[0].scores)
        drawn = percentile_bootstrap({"mean": mean_of(differences)}, patients, resamples=resamples, seed=seed)
        difference = Value(float(differences.mean()), *drawn["mean"])
        rows.append(
            {
                "format": contender.format,
                "engine": contender.engine,
                "precision": contender.precision,
                "file_mb": contender.file_mb,
                "latency_ms": median_interval(its).to_json(),
                "times_as_fast": median_interval([a / b for a, b in zip(times[0], its, strict=True)]).to_json(),
                metric_of(contender.predictor.spec): float(np.mean(answered.scores)),
                "difference": difference.to_json(),
                "labels_changed": sum(answered.changed) / sum(answered.of),
                "max_abs_difference": max(answered.gaps),
            }
        )
    return rows


@contextmanager
def cpu_share() -> Iterator[Callable[[], float]]:
    """Gives a function that tells, after the block, how much of one processor's time this process got in it.

    About 1 or more for a computation that nobody disturbs; less where other processes had the processors meanwhile.
    """
    began, used = time.perf_counter(), time.process_time()
    ended: list[float] = []
    yield lambda: ended[0]
    ended.append((time.process_time() - used) / (time.perf_counter() - began))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch computes with so many threads inside, as the other engines do, and with as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
