"""What the cores can do without HTTP: read, decode, prepare, network, in one process on one thread.

Usage: ceiling.py BUNDLE FOLDER SECONDS. Prints the most images a second of three ways: by hand with ONNX Runtime (fp32
bundles only), medrail's own reading and preparing with the bundle's engine one at a time, and in batches of eight.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).with_name("apps")))
from prepared import prepared, session

from medrail.bundle import load_bundle
from medrail.read import read

BATCH = 8


def rate(do: Callable[[Sequence[Path]], object], files: Sequence[Path], at_once: int, seconds: float) -> float:
    """Images a second."""
    turns = itertools.cycle(files)
    do(list(itertools.islice(turns, at_once)))
    done, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        do(list(itertools.islice(turns, at_once)))
        done += at_once
    return done / passed


def main() -> None:
    bundle, folder, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    files = sorted(folder.glob("*.jpg"))
    predictor = load_bundle(bundle, threads=1)
    options = predictor.spec.read_options

    def made(path: Path) -> np.ndarray:
        image = predictor.pipeline(read(path, options=options))
        return image.voxels.transpose(1, 0, 2, 3).astype(np.float32)

    def batched(paths: Sequence[Path]) -> object:
        return predictor.backend(np.concatenate([made(path) for path in paths]))

    ways = {
        "one": rate(lambda paths: predictor(read(paths[0], options=options)), files, 1, seconds / 3),
        "batches": rate(batched, files, BATCH, seconds / 3),
    }
    if predictor.taken is None or predictor.taken.choice.precision == "fp32":
        opened, name, output = session(str(bundle / "model.onnx"))

        def by_hand(paths: Sequence[Path]) -> object:
            return opened.run([output], {name: prepared(paths[0].read_bytes())})

        ways["by_hand"] = rate(by_hand, files, 1, seconds / 3)
    print(json.dumps({"rps": max(ways.values()), "ways": ways, "engine": str(predictor.taken)}))


if __name__ == "__main__":
    main()
