"""What every benchmark shares: the machine, the statistics of its rounds, and the form of its results file."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
REPOSITORY = Path(__file__).parents[1]
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
PACKAGES = ("medrail", "numpy", "torch", "onnxruntime", "fastapi", "pydicom", "monai")


@dataclass(frozen=True)
class Measure:
    """One number: the median of ``n`` rounds, with the smallest and largest of them, and what it is held against."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    n: int
    baseline: str

    @staticmethod
    def of(name: str, rounds: Sequence[float], unit: str, baseline: str) -> Measure:
        value = statistics.median(rounds)
        return Measure(name, round(value, 4), round(min(rounds), 4), round(max(rounds), 4), unit, len(rounds), baseline)


def machine() -> dict[str, object]:
    """CPU, its flags that decide about speed, cores, memory, and versions."""
    cpu, flags = platform.processor() or platform.machine(), set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
        flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0.0
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu,
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "versions": versions,
    }


def commit_of(repository: Path) -> str:
    """The commit that is checked out, with "+dirty" behind it where tracked or new files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False).stdout.strip()

    # Results are what a benchmark writes itself; those of an earlier one must not make this one's measured code dirty.
    changed = git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results", ":(exclude)docs/benchmarks.md")
    return git("rev-parse", "--short=12", "HEAD") + ("+dirty" if changed else "")


def write(name: str, measures: Sequence[Measure], notes: Sequence[str] = (), command: str = "") -> None:
    """Write ``benchmarks/results/NAME.json``; ``command`` if it is another one than ``NAME/bench.py``."""
    commit = commit_of(REPOSITORY)
    result = {
        "machine": machine(),
        "commit": commit,
        "command": command or f"python benchmarks/{name}/bench.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "measures": [asdict(measure) for measure in measures],
        "notes": list(notes),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for measure in measures:
        print(f"{measure.name}: {measure.value} {measure.unit} [{measure.low}, {measure.high}], n = {measure.n}")


def rounds_in_turn(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Every contender once a round, in turn, so that a busy moment of the machine hits all of them."""
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            measured[name].append(contender())
    return measured


def medrail_command() -> str:
    """The ``medrail`` of the environment that runs this benchmark."""
    return str(Path(sys.executable).with_name("medrail"))
