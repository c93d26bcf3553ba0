"""Work that goes wrong in every way, for the tests of the crew: other processes import it from here."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000


@dataclass(frozen=True)
class Task:
    """What to do: see ``work``. ``folder``: where each try leaves a file, so that tries can be counted."""

    name: str
    what: str = ""
    folder: str = ""
    needs_bytes: int = 1 * MB
    amount: float = 0.0


@dataclass(frozen=True)
class Done:
    name: str
    out_of_memory: bool = False
    worker: int = 0
    note: str = ""


def tries(folder: Path, name: str) -> int:
    """How often the job of this name was begun."""
    return len(list(folder.glob(f"{name}.*")))


def work(task: Task) -> Done:
    first = True
    if task.folder:
        folder = Path(task.folder)
        first = tries(folder, task.name) == 0
        (folder / f"{task.name}.{os.getpid()}.{time.monotonic_ns()}").touch()
    if task.what == "die slowly":
        time.sleep(0.5)  # a worker of a cluster that dies while it begins is not started again
    if task.what in ("die", "die slowly") or (task.what == "die once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if task.what == "crash":
        ctypes.string_at(0)
    if task.what == "exit":
        os._exit(3)
    if task.what == "hang" or (task.what == "sleep" and not task.amount):
        time.sleep(600)
    if task.what == "sleep":
        time.sleep(task.amount)
    if task.what == "raise":
        raise ValueError(task.name)
    if task.what == "raise memory" or (task.what == "raise memory once" and first):
        raise MemoryError
    if task.what == "take":
        return _take(task)
    if task.what == "unsendable":
        return Done(task.name, note=lambda: None)  # type: ignore[arg-type]
    if task.what == "large":
        return Done(task.name, worker=os.getpid(), note="x" * int(task.amount))
    return Done(task.name, worker=os.getpid())


def _take(task: Task) -> Done:
    """Allocate ``amount`` bytes within 1.5 GB of address space, and hold them a little."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (1_500 * MB, hard))
    try:
        held = bytearray(int(task.amount))
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(0.2)
    except MemoryError:
        return Done(task.name, out_of_memory=True)
    return Done(task.name, worker=os.getpid())
