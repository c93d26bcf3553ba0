"""What a contender's own process runs: its imports and a warm-up first, then the work, timed.

The order comes as JSON: ``does`` names a function in ``contenders`` as ``module:function``; with ``options`` it gives a
context manager of ``work(paths, out)``, which writes what it makes of the files below the folder ``out``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main() -> None:
    order = json.loads(sys.argv[1])
    module, _, name = order["does"].partition(":")
    make = getattr(importlib.import_module(f"contenders.{module}"), name)
    paths, warm, out = (
        [Path(path) for path in order["paths"]],
        [Path(path) for path in order["warm"]],
        Path(order["out"]),
    )
    for name in ("warm_up", "made"):
        (out / name).mkdir(parents=True)
    with make(order["options"]) as work:
        work(warm, out / "warm_up")
        if order["cold"]:
            forget(paths)
        begin = time.perf_counter()
        told = work(paths, out / "made")
        seconds = time.perf_counter() - begin
    # What a limit measures is a part of its work only: then it says itself how long that took.
    print(json.dumps({"seconds": seconds if told is None else told}))


def forget(paths: Sequence[Path]) -> None:
    """Take these files, and no others, out of the system's file cache (posix_fadvise(2))."""
    os.sync()
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            number = os.open(file, os.O_RDONLY)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(number)


if __name__ == "__main__":
    main()
