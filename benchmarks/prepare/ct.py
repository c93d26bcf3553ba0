"""CT series -> window -> 128^3, and -> 1 mm -> stored."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agreement
import numpy as np
import race
import record
import sets
from race import Contender

WINDOW = (-150.0, 250.0)  # centre 50, width 400
SLOW_CASES, SLOW_ROUNDS = 1, 3
MORE = 3  # times the series, to tell the time of a series from that of the start
_SLICE_MM, _PIXEL_MM = 1.0, 0.7421875

_TURNS = {
    "monai": lambda array: array.T,
    "torchio": lambda array: array[::-1, ::-1].T,
}


@dataclass(frozen=True)
class Target:
    """What the series are brought to.

    peers:
        The options that say it to the peers.
    step:
        The one that says it to medrail.
    grid:
        (D, H, W) of the result.
    """

    name: str
    peers: dict[str, Any]
    step: dict[str, Any]
    grid: tuple[int, int, int]

    @property
    def written(self) -> int:
        """Bytes of the result as medrail stores it."""
        return 2 * int(np.prod(self.grid))


_SIDE_MM = round(sets.SIDE * _PIXEL_MM / 1.0)
TARGETS = {
    "ct128": Target("ct128", {"size": [128] * 3}, {"kind": "resize", "size": [128] * 3}, (128, 128, 128)),
    "ct1mm": Target(
        "ct1mm", {"spacing_mm": 1.0}, {"kind": "resample", "spacing_mm": 1.0}, (sets.SLICES, _SIDE_MM, _SIDE_MM)
    ),
}


def steps(target: Target, *, antialias: bool) -> list[dict[str, Any]]:
    window = {"kind": "window", "center_hu": sum(WINDOW) / 2, "width_hu": WINDOW[1] - WINDOW[0]}
    return [{"kind": "orient"}, window, {**target.step, "antialias": antialias}, {"kind": "round", "to": "float16"}]


def medrail(
    name: str, target: Target, workers: int, *, antialias: bool = False, times: int = 1, **rest: Any
) -> Contender:
    options = {"steps": steps(target, antialias=antialias), "workers": workers, "times": times}
    return Contender(name, "medrail_prepare:whole", options, **rest)


def measure(target: Target, paths: Sequence[Path], root: Path, rounds: int) -> tuple[list[record.Measure], list[str]]:
    """Every contender on the same series -> measures, and what is to be said beside them."""
    results = agreement.Results(paths[0].name, _TURNS)
    taken = race.race(_contenders(target), paths, root, rounds, results.look)
    agrees = results.said("simpleitk", "medrail", "medrail_antialias", "monai", "torchio")
    raw_mb = sum(file.stat().st_size for file in sets.files_of(paths[:1])) / 2**20
    return (
        [
            *_against_peers(target, taken),
            *_without_start(target, taken),
            *_limits(target, taken),
            *_memory(target, taken, raw_mb),
        ],
        [f"{target.name}, the first series: {'; '.join(agrees)}."],
    )


def _contenders(target: Target) -> list[Contender]:
    peers = {**target.peers, "window": WINDOW}
    written = {"written": target.written}
    slow: dict[str, Any] = {"cases": SLOW_CASES, "rounds": SLOW_ROUNDS}
    contenders = [
        Contender("simpleitk_threads", "simpleitk_script:threads", peers),
        Contender("simpleitk", "simpleitk_script:serial", peers, cases=2),
        Contender("simpleitk_processes", "simpleitk_script:processes", peers, cases=4, warm=2),
        Contender("monai", "monai_chain:serial", peers, **slow),
        Contender("monai_processes", "monai_chain:processes", peers, cases=2, rounds=1, warm=2),
        medrail("medrail", target, 0),
        medrail("medrail_two", target, 2),
        medrail("medrail_more", target, 2, times=MORE, rounds=SLOW_ROUNDS),
        medrail("medrail_antialias", target, 0, antialias=True),
        Contender("limit_one", "bytes_limit:serial", written),
        Contender("limit", "bytes_limit:processes", written, warm=2),
    ]
    if has_torchio():
        contenders.insert(5, Contender("torchio", "torchio_chain:serial", peers, **slow))
    return contenders


def has_torchio() -> bool:
    return importlib.util.find_spec("torchio") is not None


def _against_peers(target: Target, taken: race.Rounds) -> list[record.Measure]:
    name, ours, one = f"prepare/{target.name}", taken["medrail"], taken["medrail"]
    usual, monai = taken["simpleitk_threads"], race.fastest(taken, "monai", "monai_processes")
    single, told = "SimpleITK in one process, its own threads", "MONAI, the faster of one process and two"
    measures = [
        race.times_faster(f"{name}/vs_usual_script", ours, usual, "SimpleITK in ThreadPoolExecutor(4)"),
        race.times_faster(
            f"{name}/vs_simpleitk_processes", ours, taken["simpleitk_processes"], "SimpleITK in two processes"
        ),
        race.times_faster(f"{name}/vs_monai", ours, monai, told),
        race.times_faster(f"{name}/one_process/vs_simpleitk", one, taken["simpleitk"], single),
        race.times_faster(f"{name}/one_process/vs_monai", one, taken["monai"], "MONAI in one process"),
        race.times_faster(
            f"{name}/antialias/vs_usual_script", taken["medrail_antialias"], usual, "SimpleITK, not antialiased"
        ),
        race.times_faster(f"{name}/antialias/vs_monai", taken["medrail_antialias"], monai, "MONAI, not antialiased"),
    ]
    if "torchio" in taken:
        measures.append(race.times_faster(f"{name}/vs_torchio", ours, taken["torchio"], "TorchIO"))
    shown = [each for each in taken if "more" not in each]
    return [*measures, *(race.seconds(f"{name}/{each}/seconds", taken[each], each) for each in shown)]


def _without_start(target: Target, taken: race.Rounds) -> list[record.Measure]:
    """What one more series takes: from calls with ``MORE`` times as many."""
    name, told = f"prepare/{target.name}/one_more", f"of calls with the series once and {MORE} times"
    two = _one_more(taken["medrail_two"], taken["medrail_more"])
    usual, monai = taken["simpleitk_threads"], race.fastest(taken, "monai", "monai_processes")
    start = [race.Taken(a.seconds - b.seconds, a.peak_mb) for a, b in zip(taken["medrail_two"], two, strict=False)]
    return [
        race.seconds(f"{name}/medrail/seconds", two, f"two workers: the difference {told}"),
        race.seconds(f"{name}/start_share/seconds", start, "what the start of prepare adds to each series of the call"),
        race.times_faster(f"{name}/vs_usual_script", two, usual, "SimpleITK in ThreadPoolExecutor(4)"),
        race.times_faster(f"{name}/vs_monai", two, monai, "MONAI, the faster of one process and two"),
        race.times_the_time(f"{name}/vs_read_bytes", two, taken["limit"], "the same bytes, two processes"),
    ]


def _one_more(few: Sequence[race.Taken], more: Sequence[race.Taken]) -> list[race.Taken]:
    return [race.Taken((b.seconds - a.seconds) / (MORE - 1), b.peak_mb) for a, b in zip(few, more, strict=False)]


def _limits(target: Target, taken: race.Rounds) -> list[record.Measure]:
    name, told = f"prepare/{target.name}", "reading and writing the same bytes, one process as medrail here"
    return [
        race.times_the_time(f"{name}/vs_read_bytes", taken["medrail"], taken["limit_one"], told),
        race.times_the_time(f"{name}/antialias/vs_read_bytes", taken["medrail_antialias"], taken["limit_one"], told),
    ]


def _memory(target: Target, taken: race.Rounds, raw_mb: float) -> list[record.Measure]:
    name, largest = f"prepare/{target.name}", "VmHWM of its largest process"
    ours, monai = taken["medrail"], taken["monai"]
    measures = [
        record.Measure.of(
            f"{name}/peak_rss/vs_monai",
            [b.peak_mb / a.peak_mb for a, b in zip(ours, monai, strict=False)],
            "times less memory",
            "MONAI in one process; the largest process of each",
        ),
        record.Measure.of(
            f"{name}/peak_rss/vs_raw_series",
            [one.peak_mb / raw_mb for one in ours],
            "times the raw bytes",
            f"the files of one series: {raw_mb:.0f} MB; the largest process",
        ),
    ]
    shown = [each for each in taken if not each.startswith("limit")]
    return measures + [race.peak(f"{name}/peak_rss/{each}_mb", taken[each], largest) for each in shown]


def measure_cold(paths: Sequence[Path], root: Path, rounds: int) -> tuple[list[record.Measure], list[str]]:
    """128^3 from files that are not in the file cache."""
    target = TARGETS["ct128"]
    written = {"written": target.written}
    contenders = [
        medrail("medrail_cold", target, 0, cold=True),
        Contender("limit_one_cold", "bytes_limit:serial", written, cold=True),
        Contender("limit_cold", "bytes_limit:processes", written, cold=True, warm=2),
    ]
    taken = race.race(contenders, paths, root, rounds)
    limit = race.fastest(taken, "limit_one_cold", "limit_cold")
    told = "reading and writing the same bytes, the faster of one process and two, files not in the cache"
    return [
        race.times_the_time("prepare/ct128/cold/vs_read_bytes", taken["medrail_cold"], limit, told),
        race.seconds("prepare/ct128/cold/medrail/seconds", taken["medrail_cold"], "files not in the cache"),
        race.seconds("prepare/ct128/cold/limit/seconds", limit, told),
    ], []
