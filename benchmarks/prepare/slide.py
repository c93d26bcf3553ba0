"""A whole slide -> tiles -> stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import race
import record
import sets
from race import Contender

TILE_PX = 256
PNG_ROWS = 8  # of tiles: compressing them takes long


def measure(path: Path, root: Path, rounds: int) -> tuple[list[record.Measure], list[str]]:
    """All contenders on one slide -> measures, and whether a tile is the same."""
    count = sets.SLIDE_PX // TILE_PX
    grid = {"tile_px": TILE_PX, "columns": count, "rows": count}
    medrail = {**grid, "steps": [], "dims": 2}
    contenders = [
        Contender("openslide_png", "openslide_script:tiles", {**grid, "saved": "png", "rows": PNG_ROWS}),
        Contender("openslide_npy", "openslide_script:tiles", {**grid, "saved": "npy"}),
        Contender("medrail", "medrail_prepare:tiles", {**medrail, "workers": 2}),
        Contender("medrail_one", "medrail_prepare:tiles", {**medrail, "workers": 1}),
    ]
    made: dict[str, np.ndarray] = {}

    def looked(name: str, folder: Path) -> None:
        if name == "openslide_npy":
            made[name] = np.load(folder / f"r{count // 2}c{count // 2}.npy")
        elif name == "medrail":
            made[name] = _from_store(folder, f"r{count // 2}c{count // 2}")

    taken = race.race(contenders, [path], root, rounds, looked)
    where = "prepare/slide"
    for each in contenders:
        tiles = count * each.options["rows"]
        taken[each.name] = [race.Taken(one.seconds / tiles, one.peak_mb) for one in taken[each.name]]
    measures = [
        race.times_faster(f"{where}/vs_openslide", taken["medrail"], taken["openslide_png"], "OpenSlide, a PNG a tile"),
        race.times_faster(
            f"{where}/vs_openslide_npy", taken["medrail"], taken["openslide_npy"], "OpenSlide, an npy a tile"
        ),
    ]
    measures += [race.a_second(f"{where}/{name}/tiles_per_s", one, "tiles/s", name) for name, one in taken.items()]
    measures += [race.peak(f"{where}/{name}/peak_rss_mb", taken[name], "largest process") for name in taken]
    largest = int(np.abs(made["openslide_npy"].astype(int) - made["medrail"]).max())
    return measures, [f"slide: a tile of medrail and of OpenSlide differ by at most {largest} of 255."]


def _from_store(folder: Path, case: str) -> np.ndarray:
    from medrail.prepare import Pipeline, Store
    from medrail.workspace import Workspace

    image, _ = Store(Workspace(folder), Pipeline.from_dict([])).load(case)
    return np.moveaxis(image.voxels[:, 0], 0, -1).astype(int)
