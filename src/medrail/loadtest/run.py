"""load_test: a URL and a plan in, an Outcome out."""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from medrail.errors import ConfigError, LoadTestError
from medrail.loadtest.attack import Sender, Sent, Step, sending
from medrail.loadtest.capacity import Wanted, capacity
from medrail.loadtest.material import Material, find_files, gather
from medrail.loadtest.outcome import CLOSED, OPEN, Outcome, StepResult, step_result
from medrail.loadtest.scenario import SCENARIOS, Scenario
from medrail.loadtest.target import Target
from medrail.loadtest.watch import Watch
from medrail.machine import processors

_NEEDS = ("locust", "psutil")
_MOST_USERS = 512
_GAIN = 1.05
"""A doubling of users that brings less than this much throughput: the service is full."""
_OPEN_SHARES = (0.5, 0.7, 0.8, 0.9, 1.1)
_LONGER = 5.0
_CLIENT_FULL = 0.85
_LATE_MS = 20.0
_ALIVE_TRIES = 3
_LONGEST_WARMUP_S = 3.0
_WARMUP = 0.2


@dataclass(frozen=True)
class Plan:
    """What to do.

    scenario:
        A name of ``SCENARIOS``.
    inputs:
        Files and folders to send; (): invented ones.
    users:
        Closed loop, a step each; (): as the scenario says. With ``every_s`` an open loop: users who each send one
        request in so many seconds on average, independently of each other and of the answers.
    rates:
        Open loop, arrivals a second, a step each.
    think_s:
        Closed loop: mean pause after an answer (exponential).
    seconds, least:
        Of a step: at least so long, and so many requests, but no more than five times as long.
    limit_ms, error_share:
        What counts as served.
    """

    scenario: str = "images"
    inputs: tuple[str, ...] = ()
    users: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    every_s: float | None = None
    think_s: float = 0.0
    seconds: float = 10.0
    least: int = 240
    limit_ms: float = 1_000.0
    error_share: float = 0.01
    timeout_s: float = 30.0
    model: str = ""
    pid: int | None = None
    seed: int = 0
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def warmup_s(self) -> float:
        """Of each step, not counted."""
        return min(_LONGEST_WARMUP_S, _WARMUP * self.seconds)


Report = Callable[[StepResult], None]


def load_test(target: Target | str, plan: Plan | None = None, report: Report | None = None) -> Outcome:
    """Put the service under load, step by step; ``report`` gets each step when it is done.

    Raises
    ------
    ConfigError
        If the URL or the plan is wrong.
    LoadTestError
        If the service does not answer before the first step.
    ModuleNotFoundError
        Without the extra ``loadtest``.
    """
    plan = plan or Plan()
    for package in _NEEDS:
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(f"no {package}", name=package)
    target = Target.of(target) if isinstance(target, str) else target
    scenario = _scenario(plan)
    material = gather(target, tuple(scenario.mixture), plan.model, find_files(plan.inputs), plan.seed)
    models = tuple(f"{one['name']}/{one['version']}" for one in target.models())
    watch = Watch(target, plan.pid)
    test = _Test(target, plan, scenario, watch, report or (lambda step: None))
    started = datetime.now(UTC).isoformat(timespec="seconds")
    mixture = {kind: scenario.mixture[kind] for kind in material.requests}
    debug = bool(os.environ.get("MEDRAIL_DEBUG"))
    with watch.watching(), sending(target, material.requests, mixture, plan.timeout_s, debug=debug) as sender:
        test.go(sender)
    return test.outcome(material, models, started)


def _scenario(plan: Plan) -> Scenario:
    if plan.scenario not in SCENARIOS:
        raise ConfigError(f"no scenario {plan.scenario!r}", needed=f"one of {', '.join(SCENARIOS)}")
    if plan.rates and plan.users:
        raise ConfigError("both users and rates are given", needed="one of them", where="--users, --rate")
    if plan.every_s and not plan.users:
        raise ConfigError("--every without --users", needed="how many users send one request in so many seconds")
    if plan.every_s and plan.think_s:
        raise ConfigError("both --every and --think", needed="one of them: an open loop or a closed one")
    return SCENARIOS[plan.scenario]


class _Test:
    """The course of one load test."""

    def __init__(self, target: Target, plan: Plan, scenario: Scenario, watch: Watch, report: Report) -> None:
        self.target, self.plan, self.scenario, self.watch, self.report = target, plan, scenario, watch, report
        self.steps: list[StepResult] = []
        self.begin_unix = time.time()
        self.ended = ""

    def go(self, sender: Sender) -> None:
        """Every step, until there is no more or the service is gone."""
        for step in self._steps():
            try:
                sent = sender.run(step)
            except KeyboardInterrupt:
                self.ended = "it was interrupted"
                return
            except LoadTestError as error:
                self.ended = f"{error.found} in the step with {step.users} users"
                return
            self._keep(sent)
            if not self._lives():
                self.ended = f"the service stopped answering in step {len(self.steps)} of the test"
                return

    def _steps(self) -> Iterator[Step]:
        """The steps that were asked for, or those that the answers to earlier ones make worth while."""
        plan = self.plan
        if plan.rates:
            yield from (self._open(rate, 0, number) for number, rate in enumerate(plan.rates))
        elif plan.every_s:
            yield from (self._open(users / plan.every_s, users, n) for n, users in enumerate(plan.users))
        elif plan.users or self.scenario.users:
            for number, users in enumerate(plan.users or self.scenario.users):
                yield self._closed(users, number)
        else:
            yield from self._to_saturation()

    def _open(self, rate: float, users: int, number: int) -> Step:
        plan = self.plan
        seconds = max(plan.seconds, min(_LONGER * plan.seconds, plan.least / rate))
        return Step(users, rate, seconds=seconds, most_seconds=seconds, seed=plan.seed + number)

    def _closed(self, users: int, number: int) -> Step:
        plan = self.plan
        return Step(users, None, plan.think_s, plan.seconds, plan.least, _LONGER * plan.seconds, plan.seed + number)

    def _to_saturation(self) -> Iterator[Step]:
        users = 1
        while users <= _MOST_USERS:
            yield self._closed(users, users)
            if self._full():
                break
            users *= 2
        most = max((step.rps.value or 0.0 for step in self.steps), default=0.0)
        if most:
            for number, share in enumerate(_OPEN_SHARES):
                yield self._open(share * most, 0, number)

    def _full(self) -> bool:
        """Whether the last step was over the limit, and brought no more throughput than the one before."""
        last = self.steps[-1]
        over = Wanted(self.plan.limit_ms, self.plan.error_share).served(last) is False
        if len(self.steps) < 2 or not last.rps.n:
            return not last.rps.n
        return over and (last.rps.value or 0.0) < _GAIN * (self.steps[-2].rps.value or 0.0)

    def _keep(self, sent: Sent) -> None:
        warmup_s, seconds = self.plan.warmup_s, sent.seconds
        server = self.watch.between(sent.begin_unix + warmup_s, sent.begin_unix + seconds)
        result = step_result(sent, warmup_s, server, sent.begin_unix - self.begin_unix)
        self.steps.append(result)
        self.report(result)

    def _lives(self) -> bool:
        for attempt in range(_ALIVE_TRIES):
            if self.target.alive():
                return True
            time.sleep(0.2 * (attempt + 1))
        return False

    def outcome(self, material: Material, models: tuple[str, ...], started: str) -> Outcome:
        """Everything, with the sentences."""
        plan, here = self.plan, self.watch.here
        wanted = Wanted(plan.limit_ms, plan.error_share)
        machine = _machine()
        where = _where(machine, shared=here)
        closed, opened = ([step for step in self.steps if step.mode == mode] for mode in (CLOSED, OPEN))
        hostile_only = tuple(self.scenario.mixture) == ("bad",)
        return Outcome(
            url=self.target.url,
            scenario=plan.scenario,
            models=models,
            started=started,
            steps=tuple(self.steps),
            capacity=None if hostile_only else capacity(closed, wanted, where) or capacity(opened, wanted, where),
            open_capacity=None if hostile_only else capacity(opened, wanted, where),
            machine=machine,
            shared_machine=here,
            watched=self.watch.how,
            samples=_curve(self.watch, self.begin_unix),
            notes=(*material.notes, *self._doubts()),
            ended=self.ended,
            settings={
                "limit_ms": plan.limit_ms,
                "error_share": plan.error_share,
                "seconds": plan.seconds,
                "least": plan.least,
                "warmup_s": plan.warmup_s,
                "think_s": plan.think_s,
                "every_s": plan.every_s,
                "timeout_s": plan.timeout_s,
                "seed": plan.seed,
                **plan.settings,
            },
        )

    def _doubts(self) -> Iterator[str]:
        """What limits how the numbers may be read."""
        if not self.watch.how:
            yield "the server's processor and memory are not known: no process given or found, and no /metrics"
        if self.watch.here:
            yield "client and server shared one machine: each took time from the other"
        wanted = Wanted(self.plan.limit_ms, self.plan.error_share)
        if "bad" not in self.plan.scenario and any(step.n and wanted.served(step) is None for step in self.steps):
            yield "a step had too few requests to tell: longer ones do (--seconds)"
        full = max((step.client_cores for step in self.steps), default=0.0)
        if full > _CLIENT_FULL:
            yield f"the sender itself used up to {full:.2f} cores: the service may be able to do more than it says here"
        late = max((step.late_ms for step in self.steps if step.mode == OPEN), default=0.0)
        if late > _LATE_MS:
            yield f"open loop: 1 % of the requests were sent more than {late:.0f} ms late (counted in their latency)"


def _curve(watch: Watch, begin_unix: float) -> Sequence[tuple[float, float, float]]:
    """(seconds, cores, MB) between samples."""
    pairs = zip(watch.samples, watch.samples[1:], strict=False)
    return [
        (
            round(after.unix_s - begin_unix, 2),
            round(max(0.0, after.cpu_s - before.cpu_s) / max(after.unix_s - before.unix_s, 1e-9), 3),
            round(after.rss_mb, 1),
        )
        for before, after in pairs
    ]


def _machine() -> dict[str, object]:
    """The machine that sends."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {"cpu": cpu, "cores": processors(), "system": f"{platform.system()} {platform.machine()}"}


def _where(machine: dict[str, object], *, shared: bool) -> str:
    cores = machine["cores"]
    own = f"{machine['cpu']}, {cores} core{'' if cores == 1 else 's'}"
    if shared:
        return f"Client and server shared one machine ({own})."
    return f"The service ran on another machine; the client on {own}."
