"""A worker's own side: it takes a job out of its pipe, puts the answer in, and never outlives its parent.

Nobody on this machine may work beside the next run: if the parent is killed, the worker is, too. Linux does that by
itself (``PR_SET_PDEATHSIG``, prctl(2)), even to one that computes without a pause; elsewhere a thread watches the
parent.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from medrail.machine import memory_of, peak_memory_bytes, restart_peak

_PR_SET_PDEATHSIG = 1


class _Closed(Exception):
    """The parent has closed the pipe, or is no more: the end of this process, too."""


@dataclass(frozen=True)
class Ready:
    """The first thing that a worker says: it is there, and holds so much without a job."""

    idle_bytes: int | None


@dataclass(frozen=True)
class Answer:
    """What became of a job: ``result``, or the error that came out of the work, which is a defect.

    ``out_of_memory``: there was none for the work or for its result. ``peak_bytes``: the most that the process held.
    """

    result: Any = None
    error: BaseException | None = None
    out_of_memory: bool = False
    peak_bytes: int | None = None


def serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    """Do ``work`` on what comes out of the pipe until it is closed: the whole life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent ends its workers
    _end_with_parent()
    memory = memory_of()
    with suppress(_Closed, OSError):
        pipe.send(Ready(memory.now_bytes if memory else peak_memory_bytes()))
        while True:
            restart_peak()
            _send(pipe, _answer(pipe, work))


def _answer(pipe: Connection, work: Callable[[Any], Any]) -> Answer:
    try:
        job = _receive(pipe)
        result = work(job)
        return Answer(result, out_of_memory=result.out_of_memory, peak_bytes=peak_memory_bytes())
    except _Closed:
        raise
    except MemoryError:
        return Answer(out_of_memory=True, peak_bytes=peak_memory_bytes())
    except Exception as error:  # noqa: BLE001  it is raised in the parent
        last = traceback.extract_tb(error.__traceback__)[-1]
        error.add_note(f"raised in a worker process, at {Path(last.filename).name}:{last.lineno}")
        return Answer(error=error)


def _receive(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        raise _Closed from None


def _send(pipe: Connection, answer: Answer) -> None:
    try:
        pipe.send(answer)
    except MemoryError:
        pipe.send(Answer(out_of_memory=True, peak_bytes=answer.peak_bytes))
    except OSError:  # the parent is no more
        raise
    except Exception as error:  # noqa: BLE001  it cannot be pickled; nothing of it was sent
        kind = type(answer.result if answer.error is None else answer.error).__name__
        pipe.send(Answer(error=TypeError(f"{kind} cannot be sent between processes ({type(error).__name__})")))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()  # sees an earlier death, too


def _watch(parent: int) -> None:
    wait([parent])
    os._exit(1)
