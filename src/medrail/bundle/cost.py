"""What one answer costs: time and memory of an ONNX network, in a process of its own.

``answer_cost(path, shape)`` starts ``python -m medrail.bundle.cost``, which has neither torch nor a trained network in
its memory; it loads the network by the engine that serves it, and answers one image again and again.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrail.bundle.engines import ENGINES, Choice, open_engine
from medrail.errors import BundleError
from medrail.machine import memory_of, peak_memory_bytes, restart_peak

_WARM_UP = 3
_LEAST, _MOST = 10, 200
_ENOUGH_S = 2.0
_LIMIT_S = 600


@dataclass(frozen=True)
class AnswerCost:
    """``latency_ms``: median of one forward pass; ``memory_mb``: what loading and answering need at most (10^6 bytes).

    ``memory_mb`` is NaN where the system does not tell. ``n``: the passes of which the time is the median.
    """

    latency_ms: float
    memory_mb: float
    n: int


def answer_cost(path: Path, shape: Sequence[int], choice: Choice | None = None, threads: int = 1) -> AnswerCost:
    """Measure an ONNX file.

    Parameters
    ----------
    shape:
        (C, [D,] H, W) of one input.
    choice:
        How it is run; None: ONNX Runtime in fp32.
    threads:
        Of one answer; 0: all CPUs.

    Raises
    ------
    BundleError
        If it cannot be loaded or does not answer, or this machine cannot run it so.
    """
    asked = json.dumps({"choice": (choice or Choice()).to_dict(), "threads": threads, "shape": list(shape)})
    command = [sys.executable, "-P", "-m", "medrail.bundle.cost", str(path), asked]
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, env={**os.environ, **quiet})  # noqa: S603 - our own words
    except subprocess.TimeoutExpired:
        raise BundleError(f"did not answer {_LEAST} times within {_LIMIT_S} s", where=str(path)) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
        raise BundleError(f"did not answer ({reason})", where=str(path))
    latency_ms, memory_mb, n = json.loads(done.stdout)
    return AnswerCost(latency_ms, float("nan") if memory_mb is None else memory_mb, n)


def main(arguments: Sequence[str]) -> None:
    """Print latency (ms), memory (MB or null) and the number of passes as one JSON list."""
    asked = json.loads(arguments[1])
    choice = Choice.from_dict(asked["choice"])
    content = Path(arguments[0]).read_bytes()
    batch = np.zeros((1, *asked["shape"]), dtype=np.float32)
    if not choice.problem:
        ENGINES[choice.engine].imported()  # its own code is the same for every network
    restart_peak()
    before = memory_of()
    backend = open_engine(content, choice, asked["threads"], at_once=1)
    for _ in range(_WARM_UP):
        backend(batch)
    passes: list[float] = []
    began = time.perf_counter()
    while len(passes) < _LEAST or (len(passes) < _MOST and time.perf_counter() - began < _ENOUGH_S):
        start = time.perf_counter()
        backend(batch)
        passes.append(1000 * (time.perf_counter() - start))
    peak = peak_memory_bytes()
    memory_mb = None if before is None or peak is None else (peak - before.now_bytes) / 1e6
    sys.stdout.write(json.dumps([statistics.median(passes), memory_mb, len(passes)]))


if __name__ == "__main__":
    main(sys.argv[1:])
