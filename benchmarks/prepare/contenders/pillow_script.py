"""Pictures as the usual script does them: Pillow opens, converts and resizes, numpy stores; four threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

THREADS, SIDE = 4, 224


@contextmanager
def usual(options: Mapping[str, Any]) -> Iterator[Any]:
    """float32 in 0..1, a file a picture; with ``draft`` the decoder may give a smaller JPEG."""
    with ThreadPoolExecutor(THREADS) as pool:

        def work(paths: Sequence[Path], out: Path) -> None:
            for _ in pool.map(partial(_own_file, out, bool(options.get("draft"))), paths):
                pass

        yield work


@contextmanager
def one_array(options: Mapping[str, Any]) -> Iterator[Any]:
    """uint8, all pictures in one memory-mapped array."""
    with ThreadPoolExecutor(THREADS) as pool:

        def work(paths: Sequence[Path], out: Path) -> None:
            shape = (len(paths), SIDE, SIDE, 3)
            array = np.lib.format.open_memmap(out / "pictures.npy", "w+", np.uint8, shape)

            def keep(row: int) -> None:
                array[row] = _pixels(paths[row], bool(options.get("draft")))

            for _ in pool.map(keep, range(len(paths))):
                pass
            array.flush()

        yield work


def _own_file(out: Path, draft: bool, path: Path) -> None:
    np.save(out / f"{path.stem}.npy", _pixels(path, draft).astype(np.float32) / 255)


def _pixels(path: Path, draft: bool) -> np.ndarray:
    with Image.open(path) as picture:
        if draft:
            picture.draft("RGB", (2 * SIDE, 2 * SIDE))
        return np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
