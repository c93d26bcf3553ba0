"""Several processes that train one network: those of torchrun or Slurm, or those that are started here.

Each has the same data and makes the same batches; of each batch it computes its share. Rank 0 is the process that was
called; it alone validates and writes.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medrail.config import TrainConfig
from medrail.errors import ConfigError, RunError

_SLURM, _TORCHRUN = ("SLURM_NTASKS", "SLURM_PROCID"), ("WORLD_SIZE", "RANK")
_CHILD = "from medrail.train.processes import follow; follow()"
_HANDED_OVER = "MEDRAIL_TRAIN_PROCESS"
_END_S = 120
_NOTICED_S = 5.0
"""After a connection broke: how long to look for the process that ended."""


def launched() -> bool:
    """Whether something else started this process as one of several."""
    return any(all(name in os.environ for name in names) for names in (_TORCHRUN, _SLURM_STEP))


_SLURM_STEP = (*_SLURM, "SLURM_STEP_ID")
"""What ``srun`` sets; a shell in an allocation has no step."""


def world_size(settings: TrainConfig) -> int:
    """How many processes train together."""
    if all(name in os.environ for name in _TORCHRUN):
        return int(os.environ["WORLD_SIZE"])
    return settings.devices * settings.nodes


def nodes_of(settings: TrainConfig) -> int:
    """On how many machines."""
    if all(name in os.environ for name in _TORCHRUN):
        return max(1, world_size(settings) // int(os.environ.get("LOCAL_WORLD_SIZE", settings.devices)))
    return settings.nodes


def is_follower() -> bool:
    """Whether this process is not the one that writes and talks."""
    if not launched():
        return False
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) > 0


def refuse_several(what: str) -> None:
    """Refuse what makes several trainings, where each of several processes would make all of them.

    Raises
    ------
    ConfigError
        If torchrun or srun started more than one process.
    """
    number = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) if launched() else 1
    if number > 1:
        raise ConfigError(
            f"{what}, started as one of {number} processes: each of them would do all of it",
            needed="one process",
            remedy="Start it without torchrun and without srun; train.devices works: it shares each batch.",
        )


@contextmanager
def companions(settings: TrainConfig, order: Any) -> Iterator[None]:
    """Inside, ``train.devices - 1`` more processes train along, unless something else has started them.

    Parameters
    ----------
    order:
        What ``medrail.train.loop.carry_out`` takes; it must be picklable.

    Raises
    ------
    ConfigError
        If there are several machines, on which no process can be started from here, or a batch has fewer samples than
        there are processes.
    RunError
        If one of them ended before its time, or failed at the end.
    """
    world = world_size(settings)
    if settings.step_size < world:
        raise ConfigError(
            f"{settings.step_size} samples a step for {world} processes",
            needed="at least one for each",
            where="train.batch_size",
        )
    if world == 1 or launched():
        yield
        return
    if settings.nodes > 1:
        raise ConfigError(
            f"{settings.nodes} machines, and this process is the only one",
            where="train.nodes",
            remedy="Start it on every machine: `torchrun --nnodes N --nproc-per-node GPUS --rdzv-backend c10d "
            "--rdzv-endpoint HOST:PORT --no-python medrail train PROJECT`, or with srun.",
        )
    with tempfile.TemporaryDirectory(prefix="medrail-train-") as folder:
        handed_over = Path(folder) / "job.pickle"
        handed_over.write_bytes(pickle.dumps(order))
        before, port = dict(os.environ), os.environ.get("MASTER_PORT") or str(_free_port())
        os.environ.update(_environment(world, 0, port))
        processes = [_start(handed_over, world, rank, port) for rank in range(1, world)]
        try:
            yield
            _wait(processes)
        except RuntimeError as error:  # torch's, of a connection to a process that is no more
            if lost := _ended(processes):
                raise lost from error
            raise
        finally:
            for process in processes:
                process.kill()
                process.wait()
            os.environ.clear()
            os.environ.update(before)


def follow() -> None:
    """What such a process does."""
    from medrail.train.loop import carry_out

    carry_out(pickle.loads(Path(os.environ[_HANDED_OVER]).read_bytes()))  # noqa: S301 - our own parent wrote it
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing of it is needed any more, and torch takes seconds to leave properly


def _start(handed_over: Path, world: int, rank: int, port: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **_environment(world, rank, port), _HANDED_OVER: str(handed_over)}
    return subprocess.Popen([sys.executable, "-c", _CHILD], env=environment)  # noqa: S603 - fixed words


def _environment(world: int, rank: int, port: str) -> dict[str, str]:
    return {
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        try:
            code = process.wait(_END_S)
        except subprocess.TimeoutExpired:
            raise RunError(
                f"one of the {len(processes) + 1} processes did not end within {_END_S} s",
                remedy="See what it printed.",
            ) from None
        if code:
            raise _lost(code, len(processes) + 1)


def _ended(processes: Sequence[subprocess.Popen[bytes]]) -> RunError | None:
    """What to say of the first process that ended and should not have; None where all are alive."""
    until = time.monotonic() + _NOTICED_S
    while True:
        for process in processes:
            if code := process.poll():
                return _lost(code, len(processes) + 1)
        if time.monotonic() >= until:
            return None
        time.sleep(0.05)


def _lost(code: int, world: int) -> RunError:
    who = f"one of the {world} processes"
    if code > 0:
        return RunError(f"{who} ended with {code}", remedy="See what it printed.")
    names = {number.value: number.name for number in signal.Signals}
    return RunError(
        f"{who} was ended by {names.get(-code, f'signal {-code}')}",
        remedy="A process is mostly killed where the machine's memory does not suffice: lower train.batch_size or "
        "train.devices, or free memory. The same command goes on after the last saved epoch.",
    )
