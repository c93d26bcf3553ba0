"""The supervisor: several processes that answer at one address, each with the models in its own memory.

It serves nothing itself and loads no model, so there is little in it that could fail. A process that ends without being
told to is started again; its requests in work are lost, those of the others are not. SIGTERM drains all.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from medrail import errors
from medrail.errors import ServeError
from medrail.serve.counters import forget_process
from medrail.serve.log import ServiceLog
from medrail.serve.settings import Settings
from medrail.serve.watch import state_file
from medrail.serve.worker import GO, LOADED, READY

_AGAIN_S, _AGAIN_MOST_S = 0.1, 10.0
"""Pause before a process is started again: doubled each time that it ended before it had lived ``_LIVED_S``."""
_LIVED_S = 10.0
_GRACE_S = 5.0
"""How long after the time for draining a process may take to end."""


def supervise(
    bundles: Sequence[Path], listener: socket.socket, settings: Settings, on_ready: Callable[[], None]
) -> None:
    """Run ``settings.processes`` processes until SIGINT or SIGTERM; ``on_ready`` is called when all of them answer.

    Raises
    ------
    MedrailError
        The first process's error, if any does not start.
    """
    log = ServiceLog(settings)  # the same files as the processes', whose lines do not mix
    folder = Path(tempfile.mkdtemp(prefix="medrail-", dir=settings.temp_dir))
    stop = threading.Event()
    slots = [_Slot(number, bundles, listener, settings, folder, log) for number in range(settings.processes)]
    try:
        with _told_to_stop(stop, slots):
            _start_all(slots, stop)
            if not stop.is_set():
                on_ready()
            while not stop.wait(0.05):
                for slot in slots:
                    slot.look()
    finally:
        _end_all(slots, settings.drain_s + _GRACE_S)
        shutil.rmtree(folder, ignore_errors=True)
        log.close()


def _start_all(slots: Sequence[_Slot], stop: threading.Event) -> None:
    """None answers before all have loaded; at a signal to stop nothing more is begun or waited for.

    A process that begins as the signal comes is not told of it, and would wait to be told to go on for ever.
    """
    steps: Sequence[Callable[[_Slot], None]] = (
        _Slot.start,
        lambda slot: slot.expect(LOADED, stop),
        _Slot.go,
        lambda slot: slot.expect(READY, stop),
    )
    for step in steps:
        for slot in slots:
            if stop.is_set():
                return
            step(slot)


def _end_all(slots: Sequence[_Slot], limit_s: float) -> None:
    for slot in slots:
        slot.terminate()
    until = time.monotonic() + limit_s
    for slot in slots:
        slot.end(max(0.0, until - time.monotonic()))


@contextmanager
def _told_to_stop(stop: threading.Event, slots: Sequence[_Slot]) -> Iterator[None]:
    def told(number: int, frame: FrameType | None) -> None:
        stop.set()
        for slot in slots:
            slot.terminate()

    if threading.current_thread() is not threading.main_thread():  # then signals are somebody else's
        yield
        return
    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Slot:
    """One of the processes, and those that come after it when it crashes."""

    def __init__(
        self,
        number: int,
        bundles: Sequence[Path],
        listener: socket.socket,
        settings: Settings,
        folder: Path,
        log: ServiceLog,
    ) -> None:
        self._number = number
        self._listener = listener
        self._log = log
        self._uploads = folder / f"process-{number}"
        self._metrics = folder / "metrics"
        here: dict[str, Any] = {"temp_dir": self._uploads}
        here["jobs_dir"] = settings.jobs_dir or folder / "jobs"  # whoever is asked knows them all
        if state_file(bundles, settings) is None:
            here["state_dir"] = folder  # nothing outlives the service, but its processes know of each other
        values = settings.model_copy(update=here).model_dump(mode="json")
        self._order = {"bundles": [str(each) for each in bundles], "settings": values}
        self._process: subprocess.Popen[str] | None = None
        self._began_s = 0.0
        self._again_s = _AGAIN_S
        self._due_s: float | None = None

    def start(self) -> None:
        shutil.rmtree(self._uploads, ignore_errors=True)  # what a crash left
        for folder in (self._uploads, self._metrics):
            folder.mkdir(parents=True, exist_ok=True)
        self._began_s, self._due_s = time.monotonic(), None
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and nothing of a request
            [sys.executable, "-m", "medrail.serve.worker", str(self._listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[self._listener.fileno()],
            env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(self._metrics)},
        )
        self._tell(json.dumps(self._order))

    def go(self) -> None:
        self._tell(GO)

    def expect(self, said: str, stop: threading.Event) -> None:
        """Wait until the process says it; raises what it says instead."""
        line = self._running().stdout.readline().strip()  # type: ignore[union-attr]
        if line == said or stop.is_set():
            return
        raise _error(line)

    def look(self) -> None:
        """Start it again, if it has ended and the pause is over."""
        if self._process is None or self._process.poll() is None:
            return
        now = time.monotonic()
        if self._due_s is None:
            lived_s = now - self._began_s
            self._again_s = _AGAIN_S if lived_s > _LIVED_S else min(2 * self._again_s, _AGAIN_MOST_S)
            self._due_s = now + self._again_s
            self._log.event(
                "process-ended",
                level=logging.ERROR,
                process=self._number,
                code=self._process.returncode,
                again_in_s=round(self._again_s, 3),
            )
            forget_process(self._process.pid, self._metrics)
            self._close_pipes()
        elif now >= self._due_s:
            self.start()
            self.go()  # the others answer; this one may as soon as it can

    def terminate(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def end(self, limit_s: float) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_pipes()

    def _tell(self, line: str) -> None:
        pipe = self._running().stdin
        with suppress(OSError):  # it has ended, which look() or expect() finds
            pipe.write(line + "\n")  # type: ignore[union-attr]
            pipe.flush()  # type: ignore[union-attr]

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None  # noqa: S101 - it was started, with both pipes
        return self._process

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout) if self._process else ():
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _error(line: str) -> Exception:
    """The error that a process told."""
    try:
        values: dict[str, Any] = json.loads(line)
        kind = getattr(errors, str(values.pop("kind")))
        found = values.pop("found")
    except (ValueError, KeyError, AttributeError):
        return ServeError("a process of the service ended as it started", remedy="Its standard error says why.")
    error: Exception = kind(found, **{name: text for name, text in values.items() if text})
    return error
