"""Where and how exactly is computed: device, precision, threads, and what makes a run repeatable."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from medrail.config import Task, TrainConfig
from medrail.errors import ConfigError
from medrail.machine import processors

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_QUIET = ("lightning_fabric", "lightning.fabric")


@dataclass(frozen=True)
class Machine:
    """What was chosen for this training: "cpu", "cuda" or "mps", the precision, and the threads on the CPU."""

    device: str
    precision: Precision
    threads: int


def choose(config: TrainConfig, task: Task) -> Machine:
    """Resolve what is "auto" on this machine.

    On a CPU mixed bfloat16 is chosen only where the processor computes in it (AMX or AVX512_BF16; measured 1.2 to 2
    times as quick on the latter) and only for classification: a small U-Net gained a quarter in time and lost 0.003 to
    0.005 of Dice with each of four seeds. On a GPU it is chosen where the GPU has it.

    Raises
    ------
    ConfigError
        If the device is unknown or this machine has none.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = config.device
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(device):
        here = ", ".join(name for name, there in available.items() if there)
        raise ConfigError(
            f"device {config.device!r}" + (" is not on this machine" if device in available else ""),
            needed=f"one of auto, {here}",
            where="train.device",
        )
    precision = _precision(device, task) if config.precision == "auto" else config.precision
    threads = config.threads or min(torch.get_num_threads(), processors())
    return Machine(device, precision, threads)


def _precision(device: str, task: Task) -> Precision:
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if device == "mps" or task == "segmentation":
        return "32-true"
    flags = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not public, so they may go
    has_bf16 = any(getattr(torch.cpu, flag, bool)() for flag in flags)
    return "bf16-mixed" if has_bf16 else "32-true"


@contextmanager
def repeatable(machine: Machine) -> Iterator[Fabric]:
    """Deterministic algorithms and the chosen threads inside, everything as before after it.

    Where an operation has no deterministic form on a GPU (upsampling, for one) the run goes on with the usual one: the
    same seed then gives nearly, not exactly, the same weights.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    deterministic: Any = torch.utils.deterministic
    filling = deterministic.fill_uninitialized_memory
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA asks for to be deterministic
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        warnings.filterwarnings("ignore", module="lightning_fabric")
        try:
            torch.use_deterministic_algorithms(True, warn_only=True)
            deterministic.fill_uninitialized_memory = False
            torch.set_num_threads(machine.threads)
            yield Fabric(accelerator=machine.device, devices=1, precision=machine.precision)
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            deterministic.fill_uninitialized_memory = filling
            torch.set_num_threads(threads)
            torch.set_rng_state(random_state)
