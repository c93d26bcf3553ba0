"""Small real projects: raw files, case table and prepared data, made by the rooms that make them for everyone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from medrail.cases import build_cases
from medrail.config import Config, parse
from medrail.prepare import prepare
from medrail.read import write_nifti
from medrail.types import Case, Geometry, Image
from medrail.workspace import Workspace

Settings = dict[str, Any]


@dataclass(frozen=True)
class SmallProject:
    config: Config
    workspace: Workspace
    cases: tuple[Case, ...]

    def with_settings(self, **train: Any) -> SmallProject:
        values = self.config.to_dict()
        values["train"] |= train
        return SmallProject(parse(values), self.workspace, self.cases)


def quick(**changes: Any) -> Settings:
    return {
        "epochs": 4,
        "batch_size": 4,
        "lr": 3e-3,
        "device": "cpu",
        "threads": 1,
        "track": False,
        "augment": {"flip": ["W"], "rotate_deg": 10, "noise": 0.1, "gamma": 0.2},
        **changes,
    }


def classification_project(root: Path, val: bool = True, **train: Any) -> SmallProject:
    """16 x 24 pictures that are bright on the left or on the right; 12 to train on, 4 to validate, 4 to test."""
    rng = np.random.default_rng(0)
    rows = ["path,label,patient,split"]
    for number in range(20):
        side = ("left", "right")[number % 2]
        pixels = rng.integers(0, 90, (16, 24), dtype=np.uint8)
        pixels[:, :12] += 120 * (side == "left")
        pixels[:, 12:] += 120 * (side == "right")
        split = "train" if number < 12 else ("val" if number < 16 and val else "test")
        (root / "raw").mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(root / "raw" / f"p{number:02d}.png")
        rows.append(f"p{number:02d}.png,{side},p{number:02d},{split}")
    (root / "raw" / "table.csv").write_text("\n".join(rows) + "\n")
    return _made(
        root,
        {
            "task": "classification",
            "data": {"kind": "csv", "path": "raw/table.csv", "classes": ["left", "right"]},
            "prepare": {"steps": [{"kind": "normalise", "method": "zscore"}], "workers": 1},
            "model": {"name": "tiny_cnn", "dims": 2},
            "train": quick(augment={"rotate_deg": 10, "noise": 0.1, "gamma": 0.2, "blur": 0.5}, **train),
        },
    )


def segmentation_project(root: Path, dims: int = 2, **train: Any) -> SmallProject:
    """8 x 16 x 24 volumes with a bright ball; 3 to train on, 1 to validate, 1 to test."""
    rng = np.random.default_rng(0)
    rows, splits = ["path,mask,patient,split"], ["train", "train", "train", "val", "test"]
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(16), np.arange(24), indexing="ij"))
    (root / "raw").mkdir(parents=True, exist_ok=True)
    for number in range(5):
        centre = np.array([4, 6 + number, 8 + 2 * number])[:, None, None, None]
        inside = (((grid - centre) / np.array([1.5, 3, 4])[:, None, None, None]) ** 2).sum(0) <= 1.5
        voxels = rng.normal(0, 0.3, inside.shape).astype(np.float32) + 2 * inside
        geometry = Geometry.from_spacing((3.0, 1.0, 0.8))
        write_nifti(Image(voxels[None], geometry), root / "raw" / f"p{number}.nii.gz")
        write_nifti(Image(inside.astype(np.uint8)[None], geometry, "label"), root / "raw" / f"p{number}_mask.nii.gz")
        rows.append(f"p{number}.nii.gz,p{number}_mask.nii.gz,p{number},{splits[number]}")
    (root / "raw" / "table.csv").write_text("\n".join(rows) + "\n")
    model: dict[str, Any] = {"name": "unet", "dims": dims, "width": 4}
    if dims == 3:
        model["patch"] = [8, 16, 16]
    return _made(
        root,
        {
            "task": "segmentation",
            "data": {"kind": "csv", "path": "raw/table.csv", "classes": ["background", "ball"]},
            "prepare": {"steps": [{"kind": "normalise", "method": "zscore"}], "workers": 1},
            "model": model,
            "train": quick(**train),
        },
    )


def _made(root: Path, values: dict[str, Any]) -> SmallProject:
    config = parse({"name": "small", "split": {"by": "given"}, **values})
    workspace = Workspace(root)
    cases = build_cases(config, workspace)
    report = prepare(config, workspace, cases)
    assert not report.failed
    return SmallProject(config, workspace, cases)


PROJECTS: dict[str, Callable[[Path], SmallProject]] = {
    "classification": classification_project,
    "segmentation": segmentation_project,
    "segmentation-3d": lambda root: segmentation_project(root, dims=3),
}
