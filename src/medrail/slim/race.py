"""The race: how long each candidate takes end to end on this machine, all of them in turns, each in its own process.

Models timed one after the other are timed on different machines: clocks and neighbours change within minutes. So every
round asks everyone, in an order drawn anew, and what counts is the ratio to the base within the same round.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medrail.bundle.stopwatch import MANY, MEMORY, ONE, PARTS
from medrail.cases import read_table
from medrail.errors import RunError
from medrail.types import Progress
from medrail.workspace import Run

LEAST_ROUNDS = 5
MOST_TOGETHER = 8
"""Processes that are held at a time; the base is one of every group."""
EAGER = "medrail.slim.eager"
SERVED = "medrail.bundle.stopwatch"
_MANY_EVERY = 3
_ENOUGH_S = 600
"""Of one group: after the least number of rounds no further one is begun then."""


@dataclass(frozen=True)
class Runner:
    """Who takes part: a run as it is served, or (``module`` EAGER) its weights in torch."""

    name: str
    run: Run
    module: str = SERVED


@dataclass(frozen=True)
class Faster:
    """How many times as fast as the base: the middle of the rounds' ratios with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return dict(vars(self))


@dataclass(frozen=True)
class Timed:
    """What was measured of one.

    parts_ms:
        Median over the rounds of each part of an answer, a case.
    rounds_ms:
        A whole answer in each round, a case.
    cases_per_s:
        With as many cases at a time as there are processors.
    faster, faster_network:
        Than the base end to end, and in the network alone; None of the base itself.
    memory_mb:
        The most that the process held, the engine's own code with it; NaN where the system does not tell.
    """

    parts_ms: Mapping[str, float]
    rounds_ms: Sequence[float]
    cases_per_s: float
    memory_mb: float
    faster: Faster | None = None
    faster_network: Faster | None = None

    @property
    def latency_ms(self) -> float:
        return statistics.median(self.rounds_ms)

    def to_json(self) -> dict[str, Any]:
        return {
            "latency_ms": self.latency_ms,
            "parts_ms": dict(self.parts_ms),
            "rounds_ms": list(self.rounds_ms),
            "cases_per_s": self.cases_per_s,
            "memory_mb": self.memory_mb if math.isfinite(self.memory_mb) else None,
            "faster": self.faster and self.faster.to_json(),
            "faster_network": self.faster_network and self.faster_network.to_json(),
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Timed:
        """The inverse of ``to_json``."""
        both = {name: values[name] and Faster(**values[name]) for name in ("faster", "faster_network")}
        memory_mb = math.nan if values["memory_mb"] is None else values["memory_mb"]
        return Timed(values["parts_ms"], values["rounds_ms"], values["cases_per_s"], memory_mb, **both)


def race(
    runners: Sequence[Runner],
    table: Path,
    *,
    threads: int,
    rounds: int,
    lost: dict[str, RunError] | None = None,
    progress: Progress | None = None,
) -> dict[str, Timed]:
    """Time everyone on the cases of a table (``medrail.cases.write_table``).

    Parameters
    ----------
    runners:
        The first is the base.
    threads:
        Of the inference engines; 0: all cores.
    rounds:
        5 or more; fewer than asked for, but not fewer than 5, where they take more than ten minutes.
    lost:
        Gets who cannot answer, and why; those who raced with it race anew. None: nobody may be lost.

    Returns
    -------
    Name -> what was measured, in the runners' order, without the lost ones.

    Raises
    ------
    RunError
        If the base cannot answer, or one who may not be lost.
    """
    base, *others = runners
    size = MOST_TOGETHER - 1
    groups = [[base, *others[first : first + size]] for first in range(0, max(1, len(others)), size)]
    tallies: dict[str, _Tally] = {}
    begin, done, total = time.perf_counter(), 0, rounds * sum(map(len, groups))
    while groups:
        group = groups.pop(0)
        together: dict[str, _Tally] = {}
        try:
            for name, tally in _group_raced(group, table, threads, rounds):
                together.setdefault(name, _Tally()).add(tally)
                done += 1
                if progress:
                    progress(min(done, total), total, f"{name}, {time.perf_counter() - begin:.0f} s")
        except _Lost as error:
            if lost is None or error.runner is base:
                raise error.reason from None
            lost[error.runner.name] = error.reason
            groups.insert(0, [runner for runner in group if runner is not error.runner])
            continue
        for name, tally in together.items():
            tallies.setdefault(name, _Tally()).add(tally)
    left = [runner for runner in runners if runner.name in tallies]
    return {runner.name: tallies[runner.name].timed(is_base=runner is base) for runner in left}


class _Lost(Exception):
    """A runner that does not answer."""

    def __init__(self, runner: Runner, reason: RunError) -> None:
        super().__init__(runner.name)
        self.runner, self.reason = runner, reason


@dataclass
class _Tally:
    """One runner's rounds, with those of the base beside it."""

    mine: list[Mapping[str, float]] = field(default_factory=list)
    bases: list[Mapping[str, float]] = field(default_factory=list)
    cases_per_s: list[float] = field(default_factory=list)
    memory_mb: float = math.nan

    def add(self, other: _Tally) -> None:
        self.mine += other.mine
        self.bases += other.bases
        self.cases_per_s += other.cases_per_s
        self.memory_mb = other.memory_mb

    def timed(self, *, is_base: bool) -> Timed:
        faster = (
            None if is_base else faster_than([_whole(one) for one in self.bases], [_whole(one) for one in self.mine])
        )
        network = (
            None if is_base else faster_than([one["model"] for one in self.bases], [one["model"] for one in self.mine])
        )
        return Timed(
            {part: statistics.median(one[part] for one in self.mine) for part in PARTS},
            [_whole(one) for one in self.mine],
            statistics.median(self.cases_per_s),
            self.memory_mb,
            faster,
            network,
        )


def faster_than(base: Sequence[float], other: Sequence[float]) -> Faster:
    """How many times as long the base takes, from times of the same rounds.

    The geometric mean of the rounds' ratios, with Student's interval of their logarithms.

    >>> found = faster_than([2.0, 2.2, 1.9, 2.1], [1.0, 1.1, 1.0, 1.0])
    >>> round(found.value, 2), found.low < found.value < found.high
    (2.0, True)
    """
    from scipy import special

    ratios = np.log(np.asarray(base, dtype=np.float64) / np.asarray(other, dtype=np.float64))
    middle, count = float(ratios.mean()), len(ratios)
    half = float(special.stdtrit(count - 1, 0.975)) * float(ratios.std(ddof=1)) / math.sqrt(count)
    return Faster(*(math.exp(one) for one in (middle, middle - half, middle + half)))


def _whole(parts: Mapping[str, float]) -> float:
    return sum(parts[part] for part in PARTS)


def _group_raced(group: Sequence[Runner], table: Path, threads: int, rounds: int) -> Iterator[tuple[str, _Tally]]:
    """(name, one round of it), as they are measured; the last ones bring throughput and memory."""
    order = np.random.default_rng(0)
    cases = len(read_table(table))
    with ExitStack() as held:
        asked = {runner.name: held.enter_context(_process(runner, table, threads)) for runner in group}
        begin = time.perf_counter()
        for number in range(rounds):
            found: dict[str, Mapping[str, float]] = {}
            many: dict[str, list[float]] = {runner.name: [] for runner in group}
            for place in order.permutation(len(group)):
                runner = group[place]
                parts = asked[runner.name].ask(ONE)
                found[runner.name] = {part: parts[part] / cases for part in PARTS}
            if number % _MANY_EVERY == 0:
                for place in order.permutation(len(group)):
                    runner = group[place]
                    many[runner.name].append(asked[runner.name].ask(MANY)["cases_per_s"])
            enough = number + 1 >= LEAST_ROUNDS and time.perf_counter() - begin > _ENOUGH_S
            last = enough or number + 1 == rounds
            for runner in group:
                name = runner.name
                memory_mb = asked[name].ask(MEMORY)["peak_mb"] if last else None
                tally = _Tally([found[name]], [found[group[0].name]], many[name], memory_mb or math.nan)
                yield name, tally
            if last:
                return


class _Asked:
    """A process that answers a line with a line."""

    def __init__(self, runner: Runner, process: subprocess.Popen[str], errors: Any) -> None:
        self.runner, self.process, self.errors = runner, process, errors

    def ask(self, order: str) -> dict[str, Any]:
        assert self.process.stdin  # noqa: S101 - it was opened with a pipe
        try:
            self.process.stdin.write(order + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: what it said last is in its errors
        return self.heard()

    def heard(self) -> dict[str, Any]:
        assert self.process.stdout  # noqa: S101 - as above
        line = self.process.stdout.readline()
        try:
            return dict(json.loads(line))
        except ValueError:
            self.process.kill()
            self.process.wait()
            self.errors.seek(0)
            reason = (self.errors.read().strip().splitlines() or ["no reason given"])[-1][:300]
            told = RunError(f"{self.runner.name} does not answer ({reason})", where=str(self.runner.run.folder))
            raise _Lost(self.runner, told) from None


@contextmanager
def _process(runner: Runner, table: Path, threads: int) -> Iterator[_Asked]:
    """One that has loaded its network and answered every case once."""
    command = [sys.executable, "-P", "-m", runner.module, str(runner.run.folder), str(table), str(threads)]
    # While the others have their turn nobody's threads may spin.
    quiet = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own words
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=quiet
        )
        try:
            asked = _Asked(runner, process, errors)
            asked.heard()
            yield asked
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
