"""Where and how exactly is computed: device, precision, threads, and what makes a run repeatable."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from medrail.config import Task, TrainConfig
from medrail.errors import ConfigError
from medrail.machine import processors
from medrail.train.processes import launched, nodes_of, world_size

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
PATIENCE_H = 12
"""How long processes wait for the one that validates."""
_QUIET = ("lightning_fabric", "lightning.fabric")


@dataclass(frozen=True)
class Machine:
    """What was chosen for this training.

    device:
        "cpu", "cuda" or "mps".
    precision, threads:
        Of the network's numbers; on the CPU.
    numbers:
        Of the GPUs, as this process counts them (CUDA_VISIBLE_DEVICES hides others).
    note:
        Which GPU, its free memory before the training, and why just this one where there was a choice; "" for a CPU.
    processes, nodes:
        That train together, and the machines they are on.
    """

    device: str
    precision: Precision
    threads: int
    numbers: tuple[int, ...] = ()
    note: str = ""
    processes: int = 1
    nodes: int = 1

    @property
    def device_names(self) -> str:
        """Of the GPUs, as the driver calls them; "" for a CPU."""
        names = [torch.cuda.get_device_name(number) for number in self.numbers] if self.device == "cuda" else []
        return ", ".join(names)


def choose(config: TrainConfig, task: Task, dims: Literal[2, 3]) -> Machine:
    """Resolve what is "auto" on this machine.

    Of several GPUs the ones with most free memory are taken. On a CPU mixed bfloat16 is chosen only where the processor
    computes in it (AMX or AVX512_BF16; measured 1.2 to 2 times as quick on the latter) and only for classification: a
    small U-Net gained a quarter in time and lost 0.003 to 0.005 of Dice with each of four seeds. For 3-D networks it is
    refused there: the gradient of a 3-D convolution's weight in bfloat16 holds memory that was never written (torch
    2.13, seen where the map has few places), so two runs differ, and now and then the loss is no number any more. On a
    GPU it is chosen where the GPU has it.

    Raises
    ------
    ConfigError
        If the device is unknown or this machine has none, or the precision is not one for it.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device, _, number = config.device.partition(":")
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(device) or (number and (device != "cuda" or not number.isdigit())):
        here = ", ".join(name for name, there in available.items() if there)
        raise ConfigError(
            f"device {config.device!r}" + (" is not on this machine" if device in available else ""),
            needed=f"one of auto, {here}" + (", cuda:0, ..." if available["cuda"] else ""),
            where="train.device",
        )
    numbers, note = _gpus(config, int(number) if number else None) if device == "cuda" else ((), "")
    if device == "cpu" and dims == 3 and config.precision == "bf16-mixed":
        raise ConfigError(
            "bf16-mixed for a 3-D network on a CPU, where torch's gradients are not to be trusted",
            needed="32-true, or a GPU",
            where="train.precision",
        )
    precision = _precision(device, task, dims) if config.precision == "auto" else config.precision
    threads = config.threads or min(torch.get_num_threads(), processors())
    return Machine(device, precision, threads, numbers, note, world_size(config), nodes_of(config))


def _gpus(config: TrainConfig, wanted: int | None) -> tuple[tuple[int, ...], str]:
    """The numbers of the GPUs to use, and which those are and why."""
    there = torch.cuda.device_count()
    if (wanted or 0) >= there or config.devices > there:
        raise ConfigError(
            f"device {config.device!r}, devices: {config.devices}",
            needed=f"at most {there} (numbers from 0): so many GPUs are visible to this process",
            where="train.devices" if config.devices > there else "train.device",
            remedy="CUDA_VISIBLE_DEVICES may hide some.",
        )
    if launched():  # each process takes its own; asking all of all of them would take memory of each
        chosen = tuple(range(there)) if wanted is None else (wanted,)
        return chosen, _named(chosen, there)
    if wanted is not None or config.devices == there:
        chosen = tuple(range(there)) if wanted is None else (wanted,)
        return chosen, _told(chosen, there)
    free = {number: torch.cuda.mem_get_info(number)[0] for number in range(there)}
    chosen = tuple(sorted(sorted(free, key=lambda number: (-free[number], number))[: config.devices]))
    each = ", ".join(f"{number}: {free[number] / 2**30:.1f}" for number in free)
    return chosen, f"{_named(chosen, there)}, with most free memory (GB free: {each})"


def _named(numbers: tuple[int, ...], there: int) -> str:
    names = " and ".join(dict.fromkeys(torch.cuda.get_device_name(number) for number in numbers))
    return f"GPU {' and '.join(map(str, numbers))} of {there} ({names})"


def _told(numbers: tuple[int, ...], there: int) -> str:
    """Which GPUs, and their free memory where the driver tells it."""
    try:
        free = " and ".join(f"{torch.cuda.mem_get_info(number)[0] / 2**30:.1f}" for number in numbers)
    except RuntimeError:  # a GPU that another process has for itself: the training will say so
        return _named(numbers, there)
    return f"{_named(numbers, there)}, {free} GB free"


def _precision(device: str, task: Task, dims: int) -> Precision:
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if device == "mps" or task == "segmentation" or dims == 3:
        return "32-true"
    flags = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not public, so they may go
    has_bf16 = any(getattr(torch.cpu, flag, bool)() for flag in flags)
    return "bf16-mixed" if has_bf16 else "32-true"


@contextmanager
def repeatable(machine: Machine) -> Iterator[Fabric]:
    """Deterministic algorithms and the chosen threads inside, everything as before after it.

    Where there are several processes, they have found each other.

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
            fabric = _fabric(machine)
            fabric.launch()
            yield fabric
        finally:
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            deterministic.fill_uninitialized_memory = filling
            torch.set_num_threads(threads)
            torch.set_rng_state(random_state)


def _fabric(machine: Machine) -> Fabric:
    world, nodes = machine.processes, machine.nodes
    numbers: Any = list(machine.numbers) if machine.numbers else 1
    if world == 1:
        return Fabric(accelerator=machine.device, devices=numbers, precision=machine.precision)
    return Fabric(
        accelerator=machine.device,
        devices=list(machine.numbers[: world // nodes]) if machine.numbers else world // nodes,
        num_nodes=nodes,
        # Rank 0 validates while the others wait.
        strategy=DDPStrategy(timeout=timedelta(hours=PATIENCE_H)),
        precision=machine.precision,
    )
