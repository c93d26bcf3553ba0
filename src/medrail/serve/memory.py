"""What memory a call took, where that can be told: the kernel keeps one highest value for the whole process.

So a call's own peak is known only if no other was in work from its beginning to its end; then the kernel's value is
set back first (proc_pid_clear_refs(5)). Where it cannot be set back, or others were at work, nothing is said.
"""

from __future__ import annotations

import functools
import mmap
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from medrail.machine import memory_of, restart_peak

if sys.platform != "win32":
    import resource

_MEBIBYTE = 2**20
_PROBE_BYTES = 16 * _MEBIBYTE


@dataclass
class Call:
    """A call in work: whether it has been alone so far, and what the process held when it began."""

    alone: bool
    before_bytes: int = 0


class ProcessMemory:
    """The process's memory now and at most, and that of calls; all of its methods may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, Call] = {}
        self._most = 0
        self._can_restart = _can_restart()
        self._sure_above = _used_bytes()

    def begin(self) -> Call:
        """A call begins; give what this returns to ``end``."""
        call = Call(alone=False)
        with self._lock:
            for other in self._open.values():
                other.alone = False
            if not self._open and self._can_restart:
                self._note()
                restart_peak()
                call.alone, call.before_bytes = True, resident_bytes()
            self._open[id(call)] = call
        return call

    def end(self, call: Call) -> dict[str, float]:
        """``process_peak_mb``, and where it is known ``call_peak_mb`` and ``call_added_mb``; {} without /proc."""
        with self._lock:
            self._open.pop(id(call), None)
            peak = self._note()
        if not peak:
            return {}
        told = {"process_peak_mb": _mb(self._most)}
        if call.alone:
            told |= {"call_peak_mb": _mb(peak), "call_added_mb": _mb(max(0, peak - call.before_bytes))}
        return told

    @contextmanager
    def working(self) -> Iterator[None]:
        """Long work that goes on beside the requests: none of them is alone meanwhile."""
        call = self.begin()
        try:
            yield
        finally:
            self.end(call)

    def peak_bytes(self) -> int:
        """The most that the process has held since it began; 0 where the system does not say."""
        with self._lock:
            self._note()
            return self._most

    def _note(self) -> int:
        peak = _peak_bytes(self._sure_above)
        self._most = max(self._most, peak)
        return peak


def resident_bytes() -> int:
    """What the process holds now; 0 where the system does not say. Quicker than /proc/self/status."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123 - pathlib would take as long again
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def _peak_bytes(sure_above: int) -> int:
    """The kernel's highest value; 0 where there is none.

    getrusage(2) is ten times as quick as /proc/self/status, but never says less than what the process had inherited
    when it was started: above that both are the same number.
    """
    quick = _used_bytes()
    if quick > sure_above:
        return quick
    memory = memory_of()
    return memory.peak_bytes if memory else 0


def _used_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if sys.platform == "linux" else 0


@functools.cache
def _can_restart() -> bool:
    """Whether setting the highest value back works here: tried out, because some sandboxes take it and do nothing."""
    with mmap.mmap(-1, _PROBE_BYTES) as probe:  # pages of its own, which go back at once
        probe.write(b"\1" * _PROBE_BYTES)
    before = memory_of()
    restart_peak()
    after = memory_of()
    return before is not None and after is not None and before.peak_bytes - after.peak_bytes > _PROBE_BYTES // 2


def _mb(size_bytes: int) -> float:
    return round(size_bytes / _MEBIBYTE, 1)
