"""Machine: what this computer can carry, as far as it can be told without torch."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from medrail.cases.look.machine import processors

# Where Linux says how much memory a container may use (cgroup v2, then v1).
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Machine:
    """cores and memory_gb: what this process may use; gpu: an NVIDIA driver was seen (not more than that)."""

    cores: int
    memory_gb: float
    gpu: bool

    def describe(self) -> str:
        gpu = "an NVIDIA driver is installed" if self.gpu else "no GPU seen"
        return f"{self.cores} CPU core{'s' if self.cores > 1 else ''}, {self.memory_gb:.0f} GB memory, {gpu}"


def this_machine() -> Machine:
    """The computer this runs on; the GPU is guessed from the driver's tool, as torch is not imported for planning."""
    return Machine(processors(), round(_memory_gb(), 1), shutil.which("nvidia-smi") is not None)


def _memory_gb() -> float:
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        installed = 8 * 2**30
    limits = [int(text) for path in _MEMORY_LIMITS if (text := _read(path)).isdigit()]
    return min([installed, *limits]) / 2**30


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
