"""How long whole answers take, from the file to the answer, in a process of its own that has no torch in its memory.

``python -m medrail.bundle.stopwatch FOLDER TABLE THREADS`` loads a run's network as it is served and answers the cases
of a table, once each time it is told to: a line in, a line of JSON out. Whoever holds several such processes lets them
run in turns, so that a busy moment of the machine hits all of them (``medrail.slim.race``).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from medrail.bundle.predictor import Predictor
from medrail.cases import read_roi, read_table
from medrail.machine import memory_of, peak_memory_bytes, processors
from medrail.read import read
from medrail.types import Case

ONE, MANY, MEMORY = "one", "many", "memory"
PARTS = ("read", "prepare", "model", "post")


def serve(load: Callable[[], Predictor], cases: Sequence[Case], orders: IO[str], answers: IO[str]) -> None:
    """Load, answer every case once to warm up, say so, and do what each line asks, until there is none.

    * ``one``: one case after the other; answers the milliseconds of each part, added over the cases, as
      ``{read, prepare, model, post}``.
    * ``many``: as many cases at a time as there are processors; answers ``{cases_per_s}``.
    * ``memory``: answers ``{peak_mb, now_mb}`` of this process (10^6 bytes, null where the system does not tell).
    """
    begin = time.perf_counter()
    predictor = load()
    loaded_s = time.perf_counter() - begin
    for case in cases:
        _answer(predictor, case)
    _say(answers, {"ready": True, "load_s": loaded_s})
    work: Mapping[str, Callable[[], dict[str, Any]]] = {
        ONE: lambda: _one(predictor, cases),
        MANY: lambda: _many(predictor, cases),
        MEMORY: _memory,
    }
    for line in orders:
        _say(answers, work[line.strip()]())


def _say(answers: IO[str], values: Mapping[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def _answer(predictor: Predictor, case: Case) -> dict[str, float]:
    begin = time.perf_counter()
    image = read(case.paths[0], case.item, predictor.spec.read_options)
    roi = read_roi(case, image) if predictor.spec.needs_roi else None
    read_ms = 1e3 * (time.perf_counter() - begin)
    return {"read": read_ms, **predictor(image, roi).timings_ms}


def _one(predictor: Predictor, cases: Sequence[Case]) -> dict[str, Any]:
    found = [_answer(predictor, case) for case in cases]
    return {part: sum(one[part] for one in found) for part in PARTS}


def _many(predictor: Predictor, cases: Sequence[Case]) -> dict[str, Any]:
    at_once = max(1, processors())
    asked = list(cases) * max(1, -(-2 * at_once // len(cases)))
    begin = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda case: _answer(predictor, case), asked))
    return {"cases_per_s": len(asked) / (time.perf_counter() - begin)}


def _memory() -> dict[str, Any]:
    peak, now = peak_memory_bytes(), memory_of()
    return {"peak_mb": peak and peak / 1e6, "now_mb": now and now.now_bytes / 1e6}


def main(arguments: Sequence[str]) -> None:
    from medrail.bundle.load import load_network

    folder, table, threads = arguments
    cases = read_table(Path(table))
    serve(lambda: load_network(folder, threads=int(threads)), cases, sys.stdin, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
