"""Pictures that show a square, a disc, both or neither: the smallest data in which an image may have several labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from medrail.cases import build_cases
from medrail.config import Config, parse
from medrail.prepare import prepare
from medrail.types import Case
from medrail.workspace import Workspace

SHAPES = ("disc", "square")


@dataclass(frozen=True)
class ShapesProject:
    config: Config
    workspace: Workspace
    cases: tuple[Case, ...]


def shape_picture(target: str, seed: int) -> np.ndarray:
    """(24, 24) uint8: the square is in the upper half and bright, the disc in the lower one and dark."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(110, 10, (24, 24))
    if "square" in target:
        top, left = rng.integers(1, 4), rng.integers(2, 12)
        pixels[top : top + 8, left : left + 8] += 110
    if "disc" in target:
        y, x = np.ogrid[:24, :24]
        centre = rng.integers(6, 18)
        pixels[(y - 18) ** 2 + (x - centre) ** 2 <= 20] -= 90
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_shapes(folder: Path, patients: int = 40) -> Path:
    """Two pictures a patient and table.csv: path, patient, labels ("disc|square", "No Finding", ...)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["path,patient,labels"]
    for number in range(2 * patients):
        target = ("disc|square", "", "disc", "square", "disc", "")[number % 6]
        PIL.Image.fromarray(shape_picture(target, number)).save(folder / f"s{number:03d}.png")
        rows.append(f"s{number:03d}.png,p{number // 2:02d},{target or 'No Finding'}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "table.csv"


def shapes_project(root: Path, **train: Any) -> ShapesProject:
    """Prepared, divided by patient."""
    write_shapes(root / "raw")
    config = parse(
        {
            "name": "shapes",
            "task": "classification",
            "data": {"kind": "csv", "path": "raw/table.csv", "multi_label": True, "classes": list(SHAPES)},
            "split": {"val": 0.2, "test": 0.2},
            "prepare": {"steps": [{"kind": "normalise", "method": "custom", "mean": [110], "std": [50]}], "workers": 1},
            "model": {"name": "tiny_cnn", "dims": 2},
            "train": {
                "epochs": 12,
                "batch_size": 8,
                "lr": 5e-3,
                "device": "cpu",
                "threads": 1,
                "track": False,
                **train,
            },
            "evaluate": {"resamples": 200},
            "serve": {"threads": 1},
        }
    )
    workspace = Workspace(root)
    cases = build_cases(config, workspace)
    report = prepare(config, workspace, cases)
    assert not report.failed
    return ShapesProject(config, workspace, cases)
