"""Compressed series -> 128^3 -> stored, beside the best decoder alone."""

from __future__ import annotations

from pathlib import Path

import ct
import race
import record
import sets
from contenders.decoders import DECODERS
from race import Contender

SYNTAXES = ("rle", "jpeg_ls", "jpeg_2000")
SLOW_ROUNDS = 3


def measure(syntax: str, root: Path, work: Path, rounds: int) -> tuple[list[record.Measure], list[str]]:
    """One series of one syntax -> measures."""
    paths = sets.ct_set(root, 1, syntax)
    decoders = [
        Contender(name, "decoders:alone", {"syntax": syntax, "decoder": name}, warm=0) for name in DECODERS[syntax]
    ]
    # With antialias every slice counts, so that both decode all of them.
    warm = tuple(sets.ct_set(root, 1, SYNTAXES[0]))  # the same kernels, sooner
    ours = ct.medrail("medrail", ct.TARGETS["ct128"], 1, antialias=True, warm_paths=warm)
    rounds = min(rounds, SLOW_ROUNDS) if syntax == "jpeg_2000" else rounds
    taken = race.race([*decoders, ours], paths, work, rounds)
    best = race.fastest(taken, *DECODERS[syntax])
    medians = {name: sorted(one.seconds for one in taken[name])[rounds // 2] for name in DECODERS[syntax]}
    told = ", ".join(f"{name} {1000 * seconds / sets.SLICES:.2f} ms a slice" for name, seconds in medians.items())
    name = f"prepare/compressed/{syntax}"
    return [
        race.times_the_time(f"{name}/vs_decoder", taken["medrail"], best, f"the best decoder alone of {told}"),
        race.seconds(f"{name}/medrail/seconds", taken["medrail"], "one process"),
        race.peak(f"{name}/medrail/peak_rss_mb", taken["medrail"], "VmHWM"),
    ], []
