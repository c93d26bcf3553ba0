"""Compressed NIfTI volumes -> window -> 128^3 -> stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import agreement
import ct
import race
import record
from race import Contender


def measure(paths: Sequence[Path], root: Path, rounds: int) -> tuple[list[record.Measure], list[str]]:
    """All contenders on the same volumes -> measures, and how far the results are apart."""
    target = ct.TARGETS["ct128"]
    peers = {**target.peers, "window": ct.WINDOW}
    contenders = [
        Contender("simpleitk_threads", "simpleitk_script:threads", peers),
        Contender("simpleitk", "simpleitk_script:serial", peers),
        Contender("nibabel_scipy", "nibabel_script:serial", peers, cases=2),
        ct.medrail("medrail_one", target, 1),
        ct.medrail("medrail", target, 2),
    ]
    results = agreement.Results(paths[0].name.partition(".")[0])
    taken = race.race(contenders, paths, root, rounds, results.look)
    agrees = results.said("simpleitk", "medrail", "nibabel_scipy")
    where = "prepare/nifti"
    measures = [
        race.times_faster(
            f"{where}/vs_simpleitk", taken["medrail"], taken["simpleitk_threads"], "SimpleITK, 4 threads"
        ),
        race.times_faster(
            f"{where}/one_process/vs_simpleitk", taken["medrail_one"], taken["simpleitk"], "SimpleITK, one process"
        ),
        race.times_faster(
            f"{where}/one_process/vs_nibabel", taken["medrail_one"], taken["nibabel_scipy"], "nibabel + scipy zoom"
        ),
        *(race.seconds(f"{where}/{name}/seconds", one, name) for name, one in taken.items()),
        *(race.peak(f"{where}/peak_rss/{name}_mb", one, "VmHWM of its largest process") for name, one in taken.items()),
    ]
    return measures, [f"nifti, the first volume: {'; '.join(agrees)}."]
