"""A lane: one worker process, seen from its parent, with at most one job in it.

Not ``ProcessPoolExecutor(1)``: a process that is killed while it sends a result leaves that pool waiting for the rest
of it for ever, and the interpreter with it, as the pool holds both ends of its pipes. Here the end is seen at once.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from medrail.crew.terms import Job, Loss, Why
from medrail.crew.worker import Answer, Ready, serve
from medrail.machine import memory_of

J = TypeVar("J", bound=Job)

KILLED_END_S = 1.0  # a process with much memory takes some time to give it back


class Lane(Generic[J]):
    """A worker process that has been started; ``job`` is what it has to do, and counts as begun once it is ready.

    Raises
    ------
    OSError
        If the system starts no process.
    """

    def __init__(self, work: Callable[[J], Any], job: J, *, alone: bool) -> None:
        # Spawned, not forked: the fork of a process with threads can hang, and Windows has nothing else.
        context = multiprocessing.get_context("spawn")
        self.job: J | None = job
        self.alone = alone
        self.ready = False
        self._begun_s = 0.0
        self._seen_bytes: int | None = None
        self.pipe, theirs = context.Pipe()
        # A daemon: where all else fails, it is ended when this interpreter ends.
        self._process = context.Process(target=serve, args=(theirs, work), daemon=True)
        try:
            with _interrupts_kept_from_children():
                self._process.start()
        except BaseException:
            self.pipe.close()
            if self._process.is_alive():
                self._process.kill()
            raise
        finally:
            theirs.close()

    def begin(self, job: J) -> None:
        """Give a ready and idle process its job."""
        self.job = job
        self._send()

    def receive(self) -> Ready | Answer | None:
        """What the process says, once its pipe has something; None: it is dead. A job that waited for it is sent."""
        try:
            message: Ready | Answer = self.pipe.recv()
        except (EOFError, OSError):
            return None
        if isinstance(message, Ready):
            self.ready = True
            self._send()
        return message

    def watch(self) -> None:
        """Look how much memory the process has, to know it even if it is killed."""
        if self.job is not None and self.ready and (memory := memory_of(self._process.pid or 0)):
            self._seen_bytes = max(self._seen_bytes or 0, memory.peak_bytes)

    def seconds(self) -> float:
        """How long the job has been going on; 0 where none has begun."""
        return time.monotonic() - self._begun_s if self.job is not None and self.ready else 0.0

    @property
    def seen_bytes(self) -> int:
        """The most memory seen in this job; 0 where nothing was seen."""
        return self._seen_bytes or 0

    def now_bytes(self) -> int:
        """What the process holds now; 0 where the system does not say."""
        memory = memory_of(self._process.pid or 0)
        return memory.now_bytes if memory else 0

    def loss(self, why: Why, peak_bytes: int | None = None) -> Loss:
        """The job as lost, with the most memory that was seen or that its process told; if killed, also by what."""
        number = -(self._process.exitcode or 0) if why == "killed" else 0
        name = signal.Signals(number).name if number in signal.valid_signals() else ""
        return Loss(why, self.alone, max(self.seen_bytes, peak_bytes or 0) or None, name)

    def kill(self) -> None:
        """End the process, whatever it does; it is gone after ``wait_for_end``."""
        self._process.kill()
        self.pipe.close()

    def let_go(self) -> None:
        """Tell an idle process to end; it is gone after ``wait_for_end``."""
        self.pipe.close()

    def wait_for_end(self, timeout_s: float) -> None:
        """Wait until the process has ended, and end it if that takes too long."""
        self._process.join(max(0.0, timeout_s))
        if self._process.is_alive():
            self._process.kill()
            self._process.join(KILLED_END_S)

    def _send(self) -> None:
        self._begun_s, self._seen_bytes = time.monotonic(), None
        with suppress(OSError):  # it has just died, which is what is read next
            self.pipe.send(self.job)


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """A process that starts in here never sees Ctrl-C, not even while its interpreter starts; this one does later."""
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # else started below, where it would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
