"""Contenders in turn, each in a fresh process of its own: seconds a case, and the memory of its largest process."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import record

_ENTRY = Path(__file__).with_name("entry.py")
_LOOK_S = 0.05

Looked = Callable[[str, Path], None]


@dataclass(frozen=True)
class Contender:
    """One way to do a task.

    does:
        ``module:function`` in ``contenders``.
    cases, rounds:
        How many cases, and in how many rounds it takes part; None: all.
    cold:
        Whether its files leave the file cache before it begins.
    warm:
        How many of its cases are its warm-up, too.
    warm_paths:
        Others for the warm-up, where its own take long.
    """

    name: str
    does: str
    options: Mapping[str, Any] = field(default_factory=dict)
    cases: int | None = None
    rounds: int | None = None
    cold: bool = False
    warm: int = 1
    warm_paths: tuple[Path, ...] | None = None


@dataclass(frozen=True)
class Taken:
    """What one round took: seconds a case, and the most memory that any one of its processes held."""

    seconds: float
    peak_mb: float


Rounds = dict[str, list[Taken]]


def race(
    contenders: Sequence[Contender], paths: Sequence[Path], root: Path, rounds: int, looked: Looked | None = None
) -> Rounds:
    """Every contender once a round, in turn; ``looked`` sees what each has made in the first round."""
    taken: Rounds = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            if contender.rounds is not None and number >= contender.rounds:
                continue
            out = root / "out"
            one = run(contender, paths, out)
            if looked and number == 0:
                looked(contender.name, out / "made")
            shutil.rmtree(out)
            taken[contender.name].append(one)
            print(f"  {number} {contender.name}: {one.seconds:.4f} s a case, {one.peak_mb:.0f} MB", flush=True)
    return taken


def run(contender: Contender, paths: Sequence[Path], out: Path) -> Taken:
    """One contender, now."""
    chosen = [str(path) for path in paths[: contender.cases]]
    order = {
        "does": contender.does,
        "options": dict(contender.options),
        "paths": chosen,
        "warm": chosen[: contender.warm] if contender.warm_paths is None else list(map(str, contender.warm_paths)),
        "out": str(out),
        "cold": contender.cold,
    }
    os.sync()  # nobody pays for what the one before has written
    command = [sys.executable, "-W", "ignore", str(_ENTRY), json.dumps(order)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peaks: dict[int, float] = {}
        while True:
            try:
                text, _ = process.communicate(timeout=_LOOK_S)
                break
            except subprocess.TimeoutExpired:
                _look(process.pid, peaks)
    if process.returncode:
        raise SystemExit(f"{contender.name} failed: {json.dumps(order)[:300]}")
    return Taken(json.loads(text.splitlines()[-1])["seconds"] / len(chosen), max(peaks.values(), default=0.0))


def _look(pid: int, peaks: dict[int, float]) -> None:
    """The most that the process and all below it have held until now (VmHWM)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        peaks[pid] = max(peaks.get(pid, 0.0), int(status.split("VmHWM:")[1].split()[0]) / 1024)
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = " ".join((task / "children").read_text(encoding="utf-8") for task in tasks)
    except (OSError, IndexError):
        return  # it has just ended
    for child in children.split():
        _look(int(child), peaks)


def fastest(taken: Rounds, *names: str) -> list[Taken]:
    """Of several forms of one peer, the fastest of each round, of those that took part in it."""
    rounds = zip_longest(*(taken[name] for name in names))
    return [min((form for form in one if form), key=lambda form: form.seconds) for one in rounds]


def times_faster(name: str, ours: Sequence[Taken], theirs: Sequence[Taken], peer: str) -> record.Measure:
    """How many times their seconds ours are, round by round."""
    pairs = list(zip(ours, theirs, strict=False))
    against = f"{peer}: {_seconds(theirs)} a case"
    return record.Measure.of(name, [b.seconds / a.seconds for a, b in pairs], "times faster", against)


def times_the_time(name: str, ours: Sequence[Taken], limit: Sequence[Taken], what: str) -> record.Measure:
    """How many times the limit's time we take, round by round: 1 is the best there is."""
    pairs = list(zip(ours, limit, strict=False))
    against = f"{what}: {_seconds(limit)} a case"
    return record.Measure.of(name, [a.seconds / b.seconds for a, b in pairs], "times the limit's time", against)


def seconds(name: str, ours: Sequence[Taken], told: str) -> record.Measure:
    return record.Measure.of(name, [one.seconds for one in ours], "s a case", told)


def a_second(name: str, ours: Sequence[Taken], unit: str, told: str) -> record.Measure:
    return record.Measure.of(name, [1 / one.seconds for one in ours], unit, told)


def peak(name: str, ours: Sequence[Taken], told: str) -> record.Measure:
    return record.Measure.of(name, [one.peak_mb for one in ours], "MB", told)


def _seconds(taken: Sequence[Taken]) -> str:
    return f"{statistics.median(one.seconds for one in taken):.4f} s"
