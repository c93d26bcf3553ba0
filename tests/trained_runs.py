"""Trained runs, small and quick, made by the rooms that make them for everyone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from medrail.cases import build_cases
from medrail.config import Config, parse
from medrail.prepare import prepare
from medrail.read import write_nifti
from medrail.train import train
from medrail.types import Case, Geometry, Image
from medrail.workspace import Run, Workspace


@dataclass(frozen=True)
class Trained:
    config: Config
    workspace: Workspace
    cases: tuple[Case, ...]
    run: Run

    def with_export(self, **changes: Any) -> Config:
        values = self.config.to_dict()
        values["export"] |= changes
        return parse(values)


def pictures(root: Path) -> dict[str, Any]:
    """16 x 24 colour pictures, bright on the left or on the right."""
    rng = np.random.default_rng(0)
    rows = ["path,label,patient,split"]
    for number in range(16):
        side = ("left", "right")[number % 2]
        pixels = rng.integers(0, 90, (16, 24, 3), dtype=np.uint8)
        pixels[:, slice(0, 12) if side == "left" else slice(12, 24)] += 120
        PIL.Image.fromarray(pixels).save(root / f"p{number:02d}.png")
        rows.append(f"p{number:02d}.png,{side},p{number:02d},{'train' if number < 12 else 'test'}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return {
        "task": "classification",
        "data": {"kind": "csv", "path": "raw/table.csv", "classes": ["left", "right"]},
        "model": {"name": "tiny_cnn", "dims": 2, "channels": 3},
    }


def volumes(root: Path, dims: int, patch: tuple[int, ...] = ()) -> dict[str, Any]:
    """8 x 16 x 24 volumes with a bright block."""
    rng = np.random.default_rng(0)
    rows = ["path,mask,patient,split"]
    geometry = Geometry.from_spacing((3.0, 1.0, 0.8))
    for number in range(4):
        labels = np.zeros((1, 8, 16, 24), np.uint8)
        labels[0, 2:6, 4:10, 6 + number : 16] = 1
        voxels = rng.normal(0, 0.3, labels.shape).astype(np.float32) + 2 * labels
        write_nifti(Image(voxels, geometry), root / f"p{number}.nii.gz")
        write_nifti(Image(labels, geometry, "label"), root / f"p{number}_mask.nii.gz")
        rows.append(f"p{number}.nii.gz,p{number}_mask.nii.gz,p{number},{'train' if number < 3 else 'test'}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return {
        "task": "segmentation",
        "data": {"kind": "csv", "path": "raw/table.csv", "classes": ["background", "block"]},
        "model": {"name": "unet", "dims": dims, "width": 4, "patch": list(patch)},
    }


KINDS: dict[str, Any] = {
    "pictures": pictures,
    "slices": lambda root: volumes(root, 2),
    "volumes": lambda root: volumes(root, 3),
    "patches": lambda root: volumes(root, 3, (8, 8, 16)),
}


def trained(root: Path, kind: str) -> Trained:
    (root / "raw").mkdir(parents=True)
    values = KINDS[kind](root / "raw")
    train_settings = {"epochs": 2, "batch_size": 4, "device": "cpu", "threads": 1, "track": False}
    steps = [{"kind": "normalise", "method": "zscore"}]
    config = parse(
        {
            "name": "small",
            "split": {"by": "given"},
            "prepare": {"steps": steps, "workers": 1},
            "train": train_settings,
            "serve": {"threads": 1},
            **values,
        }
    )
    workspace = Workspace(root)
    cases = build_cases(config, workspace)
    assert not prepare(config, workspace, cases).failed
    return Trained(config, workspace, cases, train(config, workspace, cases))
