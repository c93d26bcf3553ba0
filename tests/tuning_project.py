"""A project that is tuned in seconds: 16 x 24 pictures, bright on the left or on the right, in much noise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from medrail import cli

CONFIG = """\
name: small
task: classification
data: {kind: csv, path: raw/table.csv, classes: [left, right]}
split: {by: given}
prepare: {workers: 1, steps: [{kind: normalise, method: zscore}]}
model: {name: tiny_cnn, dims: 2}
train: {epochs: 2, batch_size: 8, lr: 0.003, device: cpu, threads: 1, precision: 32-true, track: false}
tune:
  trials: 3
  space:
    train.lr: {low: 1e-4, high: 1e-2, log: true}
    train.batch_size: [4, 8]
"""


def make_project(root: Path, *, test_seed: int = 0, splits: str = "train val test") -> Path:
    """Prepared; ``test_seed`` decides what the pictures of the test split show, and nothing else."""
    names = splits.split()
    rows = ["path,label,patient,split"]
    (root / "raw").mkdir(parents=True)
    for number in range(24):
        split = names[0] if number < 12 else names[1 if number < 18 else -1]
        rng = np.random.default_rng([number, test_seed if split == "test" else 0])
        side = ("left", "right")[number % 2 if split != "test" else int(rng.integers(2))]
        pixels = rng.integers(0, 160, (16, 24), dtype=np.uint8)
        pixels[:, slice(0, 12) if side == "left" else slice(12, 24)] += 30
        PIL.Image.fromarray(pixels).save(root / "raw" / f"p{number:02d}.png")
        rows.append(f"p{number:02d}.png,{side},p{number:02d},{split}")
    (root / "raw" / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (root / "medrail.yaml").write_text(CONFIG, encoding="utf-8")
    assert cli.main(["prepare", str(root)]) == 0
    return root


def start(root: Path, *sets: str, **variables: str) -> subprocess.Popen[str]:
    """`medrail tune` as a process of its own."""
    words = [word for entry in sets for word in ("--set", entry)]
    return subprocess.Popen(
        [sys.executable, "-m", "medrail.cli", "tune", str(root), *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """trials.csv."""
    import csv

    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def only_study(root: Path) -> Path:
    (folder,) = (root / "tune").iterdir()
    return folder
