"""Colour pictures of about 1000 x 1000 -> 224 x 224 -> stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import race
import record
from agreement import difference
from race import Contender

WARM = 128  # so many that kernels are compiled in the warm-up
PEER_CASES, FEW = 400, 3  # pictures for those that take long, rounds for the forms beside the first
STEPS = [{"kind": "resize", "size": [224, 224]}, {"kind": "normalise", "method": "imagenet"}]
_MEAN, _SD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def medrail(name: str, workers: int, data: dict[str, str] | None = None, **rest: int) -> Contender:
    options = {"steps": STEPS, "workers": workers, "dims": 2, "data": data or {}}
    return Contender(name, "medrail_prepare:whole", options, warm=WARM, **rest)


def _pillow(name: str, way: str, *, draft: bool = False, rounds: int | None = None) -> Contender:
    return Contender(name, f"pillow_script:{way}", {"draft": draft}, PEER_CASES, rounds, warm=16)


def measure(ending: str, paths: Sequence[Path], root: Path, rounds: int) -> tuple[list[record.Measure], list[str]]:
    """All contenders on pictures of one format -> measures, and how far the results are apart."""
    kind = "jpeg" if ending == "jpg" else ending
    contenders = [
        _pillow("pillow_threads4", "usual"),
        _pillow("pillow_one_array", "one_array", rounds=FEW),
        medrail("medrail", 2),
        medrail("medrail_one", 1, cases=PEER_CASES, rounds=FEW),
    ]
    if kind == "jpeg":
        contenders += [
            _pillow("pillow_draft", "usual", draft=True, rounds=FEW),
            _pillow("pillow_draft_one_array", "one_array", draft=True, rounds=FEW),
            medrail("medrail_full", 2, {"jpeg": "full"}, rounds=FEW),
        ]
    made: dict[str, np.ndarray] = {}

    def looked(name: str, folder: Path) -> None:
        if name == "pillow_threads4":
            made[name] = np.load(folder / f"{paths[0].stem}.npy")
        elif name.startswith("medrail"):
            made[name] = _from_store(folder, paths[0].stem)

    taken = race.race(contenders, paths, root, rounds, looked)
    where, ours = f"prepare/{kind}224", taken["medrail"]
    measures = [
        race.times_faster(f"{where}/vs_pillow_threads4", ours, taken["pillow_threads4"], "Pillow, ThreadPool(4), npy"),
        race.times_faster(f"{where}/vs_pillow_one_array", ours, taken["pillow_one_array"], "Pillow, uint8 memmap"),
    ]
    if kind == "jpeg":
        draft = race.fastest(taken, "pillow_draft", "pillow_draft_one_array")
        measures += [
            race.times_faster(f"{where}/vs_pillow_draft", ours, draft, "Pillow with draft, the faster way to store"),
            race.times_faster(
                f"{where}/full_decode/vs_pillow_threads4", taken["medrail_full"], taken["pillow_threads4"], "Pillow"
            ),
        ]
    measures += [race.a_second(f"{where}/{name}/images_per_s", one, "images/s", name) for name, one in taken.items()]
    measures += [race.peak(f"{where}/{name}/peak_rss_mb", taken[name], "largest process") for name in taken]
    apart = [f"{name} {difference(made[name], made['pillow_threads4'])}" for name in made if name != "pillow_threads4"]
    return measures, [f"{kind}224, the first picture against Pillow's in 0..1: {'; '.join(apart)}."]


def _from_store(folder: Path, case: str) -> Any:
    """(224, 224, 3) in 0..1, without the normalisation."""
    from medrail.prepare import Pipeline, Store
    from medrail.workspace import Workspace

    image, _ = Store(Workspace(folder), Pipeline.from_dict(STEPS)).load(case)
    return np.moveaxis(image.voxels[:, 0], 0, -1) * _SD + _MEAN
