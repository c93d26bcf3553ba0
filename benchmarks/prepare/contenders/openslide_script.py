"""A slide to tiles as the usual script does it: OpenSlide reads each region, Pillow saves it; four threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openslide

THREADS = 4


@contextmanager
def tiles(options: Mapping[str, Any]) -> Iterator[Any]:
    """``saved`` as png, or as npy (no compression: what costs least)."""
    with ThreadPoolExecutor(THREADS) as pool:

        def work(paths: Sequence[Path], out: Path) -> None:
            px, columns, rows = (options[name] for name in ("tile_px", "columns", "rows"))
            rows = min(rows, 4) if out.name == "warm_up" else rows
            for path in paths:
                with openslide.OpenSlide(path) as slide:

                    def one(place: tuple[int, int], slide: Any = slide) -> None:
                        row, column = place
                        tile = slide.read_region((px * column, px * row), 0, (px, px)).convert("RGB")
                        name = out / f"r{row}c{column}"
                        if options["saved"] == "png":
                            tile.save(name.with_suffix(".png"))
                        else:
                            np.save(name.with_suffix(".npy"), np.asarray(tile))

                    for _ in pool.map(one, [(row, column) for row in range(rows) for column in range(columns)]):
                        pass

        yield work
