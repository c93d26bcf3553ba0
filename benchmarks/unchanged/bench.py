"""How long a second ``medrail prepare`` takes when nothing has changed: 10,000 pictures, the whole command.

Every picture's size and times are asked for and compared, every stored array is looked for, the folders are listed and
the table of cases is made anew: nothing is believed but the system's word on each file. Pictures are rows of one array,
or (``npy``) files of their own; the splits are given by the folders, or drawn by patient, which also looks for copies.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

ROUNDS = 5
PICTURES, SIDE = 10_000, 32
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
CLASSES = "ab"
# Name of the measure's last part -> (prepare.store, split.by).
KINDS = {"": ("compact", "given"), "/npy": ("npy", "given"), "/by_patient": ("compact", "patient")}
SETTLED_S = 3.0  # files that are newer are not believed yet
PROJECT = """medrail: 1
task: classification
data: {{kind: class_folders, path: ../data}}
split: {{by: {split}}}
prepare:
  store: {store}
  steps: [{{kind: resize, size: [28, 28]}}, {{kind: normalise}}]
model: {{name: tiny_cnn, dims: 2}}
"""
NOTES = (
    f"{PICTURES:,} grey PNGs of {SIDE} x {SIDE}, warm files; the command from its start to its end, imports included.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="medrail-bench-") as name:
        root = Path(name)
        write_pictures(root / "data")
        time.sleep(SETTLED_S)
        contenders: dict[str, Callable[[], float]] = {}
        for kind, (store, split) in KINDS.items():
            project = root / f"project{kind.replace('/', '-')}"
            project.mkdir()
            (project / "medrail.yaml").write_text(PROJECT.format(store=store, split=split), encoding="utf-8")
            _prepare(project)
            contenders[kind] = partial(_unchanged, project)
        record.rounds_in_turn(contenders, 1)  # warm
        measured = record.rounds_in_turn(contenders, rounds)
    measures = [
        record.Measure.of(
            f"prepare/unchanged_{PICTURES}_s{kind}",
            seconds,
            "s",
            f"store: {KINDS[kind][0]}, split.by: {KINDS[kind][1]}",
        )
        for kind, seconds in measured.items()
    ]
    record.write("unchanged", measures, NOTES)


def write_pictures(folder: Path) -> None:
    """CLASS folders below folders of splits."""
    rng = np.random.default_rng(0)
    for split, share in SHARES.items():
        for name in CLASSES:
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(round(share * PICTURES / len(CLASSES))):
                pixels = rng.integers(0, 255, (SIDE, SIDE), np.uint8)
                Image.fromarray(pixels).save(place / f"{split}{name}{number:05}.png")


def _prepare(project: Path) -> str:
    command = [record.medrail_command(), "prepare", str(project)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _unchanged(project: Path) -> float:
    begin = time.perf_counter()
    said = _prepare(project)
    taken = time.perf_counter() - begin
    if "up to date" not in said:
        raise SystemExit(f"something was made again: {said}")
    return taken


if __name__ == "__main__":
    main()
