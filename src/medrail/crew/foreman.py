"""The foreman: hands the jobs to the lanes of this machine, and knows what to do when one of them dies."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Generic, TypeVar

from medrail.crew.admission import SHARE_OF_FREE, Estimate, fits
from medrail.crew.lane import KILLED_END_S, Lane
from medrail.crew.terms import Crew, Job, Loss, Result, Why
from medrail.crew.worker import Answer, Ready
from medrail.errors import PrepareError
from medrail.machine import free_shared_bytes, own_limit_bytes, processors

J = TypeVar("J", bound=Job)
R = TypeVar("R", bound=Result)

_WATCH_S = 0.05
_ASK_AGAIN_S = 1.0  # what the machine has free, which others change as well
_STARTS = 2  # so often in a row no process may start


class Foreman(Generic[J, R]):
    """Work on jobs in processes; the arguments are those of ``work_through``."""

    def __init__(
        self,
        work: Callable[[J], R],
        crew: Crew,
        finished: Callable[[R], None],
        lost: Callable[[J, Loss], R],
        again: Callable[[J, Loss], None],
    ) -> None:
        self._work, self._crew = work, crew
        self._finished, self._lost, self._again = finished, lost, again
        self._lanes: list[Lane[J]] = []
        self._most_lanes = crew.workers or processors()
        self._waiting: deque[J] = deque()  # drawn, and not yet begun
        self._suspects: list[J] = []  # to be done again alone
        self._estimate = Estimate()
        self._failed_starts = 0
        self._watched_s = 0.0
        self._asked_s, self._budget_bytes = float("-inf"), crew.budget_bytes

    def work_through(self, jobs: Iterator[J]) -> None:
        """All jobs, then those that need a second try, each alone; the processes have ended when this returns."""
        try:
            self._all(jobs)
            while self._suspects:
                self._end(self._lanes, Lane.kill, KILLED_END_S)
                self._waiting.append(self._suspects.pop(0))
                self._all(iter(()), alone=True)
            # Idle all of them: nothing is lost, and by themselves they would take most of a second.
            self._end(self._lanes, Lane.kill, KILLED_END_S)
        except BaseException:
            self._end(self._lanes, Lane.kill, KILLED_END_S)
            raise

    def _all(self, jobs: Iterator[J], *, alone: bool = False) -> None:
        while self._hand_out(jobs, alone=alone):
            self._listen()

    def _hand_out(self, jobs: Iterator[J], *, alone: bool) -> bool:
        """Begin what can begin now; whether there is anything left to wait for."""
        while self._has_place():
            if not self._waiting:
                if (job := next(jobs, None)) is None:
                    break
                self._waiting.append(job)
            if not self._begin(self._waiting[0], alone=alone):
                break
            self._waiting.popleft()
        return bool(self._waiting) or any(lane.job is not None for lane in self._lanes)

    def _has_place(self) -> bool:
        return len(self._lanes) < self._most_lanes or any(lane.job is None for lane in self._lanes)

    def _begin(self, job: J, *, alone: bool) -> bool:
        """Begin the job if its memory is there, in an idle process or a new one."""
        idle = [lane for lane in self._lanes if lane.job is None]
        running = [
            max(lane.seen_bytes, self._estimate.of(lane.job.needs_bytes))
            for lane in self._lanes
            if lane.job is not None
        ]
        more_bytes, budget_bytes = self._estimate.of(job.needs_bytes), self._budget()
        if not fits(budget_bytes, running, more_bytes):
            return False
        if not fits(budget_bytes, running, more_bytes, self._estimate.idle_bytes * len(idle[1:])):
            self._end(idle[1:], Lane.kill, KILLED_END_S)
        if idle:
            idle[0].begin(job)
            return True
        try:
            self._lanes.append(Lane(self._work, job, alone=alone))
        except OSError:
            self._start_failed()
            return False
        return True

    def _listen(self) -> None:
        """Wait a moment for what the lanes say; then see what they hold and which takes too long."""
        pipes = {lane.pipe: lane for lane in self._lanes}
        for pipe in wait(list(pipes), _WATCH_S):
            lane = pipes[pipe]  # type: ignore[index]  # only pipes went in
            message = lane.receive()
            if message is None:
                self._died(lane)
            elif isinstance(message, Ready):
                self._failed_starts = 0
                if message.idle_bytes:
                    self._estimate.idle_bytes = message.idle_bytes
            else:
                self._answered(lane, message)
        now_s = time.monotonic()
        if now_s - self._watched_s >= _WATCH_S:
            self._watched_s = now_s
            self._watch()

    def _watch(self) -> None:
        for lane in list(self._lanes):
            lane.watch()
            late = 0 < self._crew.timeout_s < lane.seconds()
            if late and lane.job is not None and not lane.pipe.poll():
                self._end([lane], Lane.kill, KILLED_END_S)
                self._finished(self._lost(lane.job, lane.loss("timeout")))

    def _answered(self, lane: Lane[J], answer: Answer) -> None:
        job, lane.job = lane.job, None
        if answer.error is not None:
            raise answer.error
        if job is None:
            return
        if answer.out_of_memory:
            self._failed(lane, job, "memory", answer.peak_bytes)
            return
        if answer.peak_bytes:
            self._estimate.learn(job.needs_bytes, answer.peak_bytes)
        self._finished(answer.result)

    def _died(self, lane: Lane[J]) -> None:
        self._end([lane], Lane.let_go, KILLED_END_S)  # not killed: what ended it is still to be read
        if not lane.ready:
            if lane.job is not None:
                self._waiting.appendleft(lane.job)
            self._start_failed()
        elif lane.job is not None:
            self._failed(lane, lane.job, "killed")

    def _failed(self, lane: Lane[J], job: J, why: Why, peak_bytes: int | None = None) -> None:
        """A job that deserves a second try gets one, alone; after that it is lost."""
        loss = lane.loss(why, peak_bytes)
        if loss.alone:
            self._finished(self._lost(job, loss))
            return
        self._estimate.learn_least(job.needs_bytes, loss.seen_bytes or 0)
        self._suspects.append(job)
        self._again(job, loss)

    def _start_failed(self) -> None:
        """Once may be chance; then there are fewer processes, or it is the end where there is none."""
        self._failed_starts += 1
        if self._failed_starts < _STARTS:
            return
        if not any(lane.ready for lane in self._lanes):
            raise PrepareError(
                "worker processes cannot start",
                remedy='In a script, call it below `if __name__ == "__main__":`; or set `prepare.workers: 1`.',
            )
        self._most_lanes = len(self._lanes)

    def _budget(self) -> int | None:
        """What all processes may take: what is free for others beside what they have, so it is asked now and then."""
        if self._crew.budget_bytes is not None or time.monotonic() - self._asked_s < _ASK_AGAIN_S:
            return self._budget_bytes
        self._asked_s = time.monotonic()
        free_bytes = free_shared_bytes()
        held_bytes = sum(lane.now_bytes() for lane in self._lanes)
        shared = None if free_bytes is None else int(SHARE_OF_FREE * free_bytes) + held_bytes
        self._budget_bytes = min((value for value in (shared, own_limit_bytes()) if value is not None), default=None)
        return self._budget_bytes

    def _end(self, lanes: list[Lane[J]], how: Callable[[Lane[J]], None], timeout_s: float) -> None:
        """End processes, first all at once, then wait for them together."""
        lanes = list(lanes)
        for lane in lanes:
            how(lane)
        last_s = time.monotonic() + timeout_s
        for lane in lanes:
            lane.wait_for_end(last_s - time.monotonic())
            self._lanes.remove(lane)
