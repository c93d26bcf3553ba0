"""What one answer costs: time and memory of an ONNX network, in a process of its own, on one thread.

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

from medrail.bundle.backend import onnx_backend
from medrail.errors import BundleError
from medrail.machine import memory_of, peak_memory_bytes, restart_peak

_WARM_UP = 3
_LEAST, _MOST = 10, 200
_ENOUGH_S = 2.0
_LIMIT_S = 600


@dataclass(frozen=True)
class AnswerCost:
    """``latency_ms``: median of one forward pass; ``memory_mb``: what loading and answering need at most (10^6 bytes).

    ``memory_mb`` is NaN where the system does not tell.
    """

    latency_ms: float
    memory_mb: float
    n: int


def answer_cost(path: Path, shape: Sequence[int]) -> AnswerCost:
    """Measure an ONNX file.

    Parameters
    ----------
    shape:
        (C, [D,] H, W) of one input.

    Raises
    ------
    BundleError
        If it cannot be loaded or does not answer.
    """
    command = [sys.executable, "-P", "-m", "medrail.bundle.cost", str(path), *map(str, shape)]
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
    import onnxruntime  # noqa: F401 - before the count begins: the engine's own code is the same for every network

    batch = np.zeros((1, *map(int, arguments[1:])), dtype=np.float32)
    restart_peak()
    before = memory_of()
    backend = onnx_backend(arguments[0], threads=1)
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
