"""What a process holds and may hold, in bytes: read from /proc where there is one."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """``now_bytes``: in memory now; ``peak_bytes``: the most since the process began, or since ``restart_peak``."""

    now_bytes: int
    peak_bytes: int


def memory_of(process: int | str = "self") -> Memory | None:
    """What the process of this number holds; None where the system does not say, or once it has ended."""
    fields = _status(process)
    if "VmRSS" not in fields:
        return None
    return Memory(fields["VmRSS"], fields.get("VmHWM", fields["VmRSS"]))


def peak_memory_bytes() -> int | None:
    """The most memory that this process held since it began or ``restart_peak``; None on Windows."""
    memory = memory_of()  # of this process alone; ru_maxrss inherits the parent's
    if memory is not None:
        return memory.peak_bytes
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def restart_peak() -> None:
    """Let ``peak_memory_bytes`` of this process begin anew, where the system can (Linux: proc_pid_clear_refs(5))."""
    with suppress(OSError), open("/proc/self/clear_refs", "wb", buffering=0) as file:  # noqa: PTH123 - ten times as quick
        file.write(b"5")


def own_limit_bytes() -> int | None:
    """How much this process, or one that it starts, may allocate at most (``ulimit -v``, ``-d``); None: no limit."""
    if sys.platform == "win32":
        return None
    import resource

    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)


def own_free_bytes() -> int | None:
    """What is left to this process of such a limit."""
    limit = own_limit_bytes()
    if limit is None:
        return None
    return max(0, limit - _status("self").get("VmSize", 0))


def _status(process: int | str) -> dict[str, int]:
    try:
        text = (_PROC / str(process) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.split() for line in text.splitlines() if line.startswith("Vm"))
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3}
