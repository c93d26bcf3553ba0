"""What this machine, or the container it runs in, has: processors, free memory, and what this process has used."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def processors() -> int:
    """How many processors this process may use: its affinity, and the container's quota (cgroup v2) if there is one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _words(Path("/sys/fs/cgroup/cpu.max"))
    if len(quota) == 2 and quota[0].isdigit():
        count = min(count, max(1, int(quota[0]) // int(quota[1])))
    return count


def free_memory_bytes() -> int | None:
    """Memory that can be taken without swapping, within the container's limit; None where nobody says."""
    free = [_status_bytes(Path("/proc/meminfo"), "MemAvailable")]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, now = _words(Path("/sys/fs/cgroup", limit)), _words(Path("/sys/fs/cgroup", used))
        if most and now and most[0].isdigit() and now[0].isdigit():
            free.append(max(0, int(most[0]) - int(now[0])))
    known = [value for value in free if value is not None]
    return min(known) if known else None


def peak_memory_bytes() -> int | None:
    """The most memory that this process ever held; None where the system does not say (Windows)."""
    peak = _status_bytes(Path("/proc/self/status"), "VmHWM")  # of this process alone; ru_maxrss inherits the parent's
    if peak is None and sys.platform == "darwin":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak


def _status_bytes(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []
