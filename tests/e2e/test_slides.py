"""From a folder of whole slides to a heat map of a new one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from medrail import cli
from slides import tissue_slide, write_slide


def alive(rgb: np.ndarray, seed: int) -> np.ndarray:
    """Tissue of uneven stain with gaps of glass at other places on every slide, as no two slides are copies."""
    random = np.random.default_rng(seed)
    field = cv2.GaussianBlur(random.normal(size=rgb.shape[:2]), (0, 0), 12)
    field /= field.std()
    stained = rgb.min(axis=-1) < 215
    uneven = np.clip(rgb * (1 + 0.12 * field[..., None]), 0, 255).astype(np.uint8)
    return np.where((stained & (field < 1.2))[..., None], uneven, np.where(stained[..., None], 243, rgb)).astype(
        np.uint8
    )


@pytest.mark.slow
def test_two_kinds_of_tissue_are_told_apart_on_a_slide_that_has_both(tmp_path: Path) -> None:
    for number in range(4):
        for kind in ("pink", "purple"):
            rgb = tissue_slide(560, 700, ((30, 30, 530, 660), kind), seed=number)
            rgb = alive(rgb, seed=10 * number + len(kind))
            write_slide(tmp_path / "data" / kind / f"{kind}{number}.tif", rgb, 0.5)
    both = tissue_slide(600, 1200, ((40, 40, 560, 512), "pink"), ((40, 512, 560, 1160), "purple"), seed=99)
    write_slide(tmp_path / "new.tif", alive(both, seed=999), 0.5)
    project = str(tmp_path / "project")
    assert cli.main(["init", project, "--data", str(tmp_path / "data")]) == 0
    quick = ["--set", "train.epochs=8", "--set", "train.track=false"]
    assert cli.main(["check", project]) == 0
    assert cli.main(["run", project, *quick]) == 0
    assert cli.main(["predict", project, str(tmp_path / "new.tif"), "-o", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "new_tiles.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 10
    right = [row["class_name"] == ("pink" if int(row["x"]) < 512 else "purple") for row in rows]
    assert sum(right) >= 0.9 * len(right)
    summary = json.loads((tmp_path / "out" / "new_slide.json").read_text())
    assert summary["share_of_tissue"]["purple"] == pytest.approx(648 / 1120, abs=0.12)
    assert (tmp_path / "out" / "new.png").read_bytes().startswith(b"\x89PNG")
