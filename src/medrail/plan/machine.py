"""Machine: what this computer can carry, as far as it can be told without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from medrail.machine import memory_limits_bytes, processors

BUDGET_MINUTES = 30.0
"""What a first training on one's own data should take at most."""
_TOLD_WITHIN_S = 10


@dataclass(frozen=True)
class Machine:
    """What training has at its disposal.

    cores, memory_gb:
        What this process may use.
    gpu, gpu_gb:
        Whether an NVIDIA driver was seen, and the free memory of the GPU that has most (0: unknown).
    minutes:
        That a training may take.
    """

    cores: int
    memory_gb: float
    gpu: bool
    gpu_gb: float = 0.0
    minutes: float = BUDGET_MINUTES

    def describe(self) -> str:
        free = f", {self.gpu_gb:.0f} GB free on a GPU" if self.gpu_gb else ""
        gpu = f"an NVIDIA driver is installed{free}" if self.gpu else "no GPU seen"
        return f"{self.cores} CPU core{'s' if self.cores > 1 else ''}, {self.memory_gb:.0f} GB memory, {gpu}"


def this_machine() -> Machine:
    """The computer this runs on; the GPU is guessed from the driver's tool, as torch is not imported for planning."""
    gpus = _free_gpu_memory_gb()
    return Machine(processors(), round(_memory_gb(), 1), gpus is not None, max(gpus or [0.0]))


def _free_gpu_memory_gb() -> list[float] | None:
    """Of each GPU, as the driver's tool tells it; None where there is no such tool, [] where it tells nothing."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        asked = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_TOLD_WITHIN_S, check=True)  # noqa: S603 - fixed words
        return [round(float(line) / 1024, 1) for line in done.stdout.split()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def _memory_gb() -> float:
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        installed = 8 * 2**30
    return min([installed, *memory_limits_bytes()]) / 2**30
