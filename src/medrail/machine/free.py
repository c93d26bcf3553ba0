"""What is there to be used: processors and memory, within the limits of the container and of the process."""

from __future__ import annotations

import os
from pathlib import Path

from medrail.machine.cgroups import memory_groups, processor_quotas
from medrail.machine.process import own_free_bytes


def processors() -> int:
    """How many processors this process may use: its affinity, and the quotas of its control groups."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *(int(quota) for quota in processor_quotas())]))


def free_memory_bytes() -> int | None:
    """Memory that this process can take without swapping, within its own and its container's limits.

    None where nobody says.
    """
    known = [value for value in (free_shared_bytes(), own_free_bytes()) if value is not None]
    return min(known, default=None)


def free_shared_bytes(root: Path = Path("/")) -> int | None:
    """Memory that all processes of this container together can take without swapping; None where nobody says.

    File cache that can be given up counts as free. ``root`` is where /proc and /sys lie.
    """
    free = [max(0, group.limit_bytes - group.used_bytes) for group in memory_groups(root)]
    available = _available_bytes(root / "proc/meminfo")
    return min([*free, *([] if available is None else [available])], default=None)


def memory_limits_bytes() -> list[int]:
    """The limits of this process's control groups."""
    return [group.limit_bytes for group in memory_groups()]


def _available_bytes(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
