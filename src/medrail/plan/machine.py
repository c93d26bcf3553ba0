"""Machine: what this computer can carry, as far as it can be told without torch."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from medrail.machine import memory_limits_bytes, processors


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
    return min([installed, *memory_limits_bytes()]) / 2**30
