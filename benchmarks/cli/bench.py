"""How long `medrail --help` takes, beside the interpreter that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

ROUNDS = 15


def seconds(*command: str) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    contenders = {
        "help": lambda: seconds(record.medrail_command(), "--help"),
        "python": lambda: seconds(sys.executable, "-c", "pass"),
    }
    record.rounds_in_turn(contenders, 2)  # warm files and byte code
    measured = record.rounds_in_turn(contenders, ROUNDS)
    python_s = sorted(measured["python"])[ROUNDS // 2]
    baseline = f"`python -c pass` takes {python_s:.3f} s; the aim is under 0.3 s"
    record.write("cli", [record.Measure.of("cli/help_s", measured["help"], "s", baseline)])


if __name__ == "__main__":
    main()
