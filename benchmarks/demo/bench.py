"""How long the two demos take from an empty folder, and how well they end: as whole commands, each round afresh."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

ROUNDS = 5
AIMS = {"segment": "under 240 s on 2 cores, Dice >= 0.93", "classify": "under 120 s on 2 cores, accuracy >= 0.97"}
METRIC = {"segment": "dice", "classify": "accuracy"}


def one(task: str) -> tuple[float, float, float]:
    """Seconds of the first call, seconds of the second, and the metric."""
    with tempfile.TemporaryDirectory() as folder:
        command = [record.medrail_command(), "demo", "--task", task, "--no-serve", "--json", "--workspace", folder]
        seconds = []
        for _ in range(2):
            begin = time.perf_counter()
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            seconds.append(time.perf_counter() - begin)
    return seconds[0], seconds[1], float(json.loads(answer.stdout)[METRIC[task]]["value"])


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    measured: dict[str, list[tuple[float, float, float]]] = {task: [] for task in METRIC}
    for _ in range(rounds):
        for task, values in measured.items():
            values.append(one(task))
    measures = []
    for task, values in measured.items():
        first, second, metric = (list(column) for column in zip(*values, strict=True))
        measures.append(record.Measure.of(f"demo/{task}_s", first, "s", AIMS[task]))
        measures.append(record.Measure.of(f"demo/{task}_again_s", second, "s", "the first call, same folder"))
        measures.append(record.Measure.of(f"demo/{task}_{METRIC[task]}", metric, METRIC[task], AIMS[task]))
    record.write("demo", measures)


if __name__ == "__main__":
    main()
