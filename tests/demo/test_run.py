"""The demo never touches what is not its own, and lays out the same data every time."""

from __future__ import annotations

import csv
import math
from collections import Counter

import pytest

from medrail.cases import build_cases
from medrail.config import load
from medrail.demo import TASKS
from medrail.demo.run import _claim, _write_config
from medrail.errors import ConfigError
from medrail.prepare import check_steps
from medrail.read import read, read_mask
from medrail.workspace import Workspace


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_demos_project_is_an_ordinary_one(task, tmp_path):
    task.lay_out(tmp_path / "raw")
    assert _write_config(tmp_path, task) == ()
    cases = build_cases(load(tmp_path, step_check=check_steps), Workspace(tmp_path))
    heads = {case.patient: case.split for case in cases}
    assert heads == {"colin27": "train", "mni152": "test"}
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    task.lay_out(tmp_path / "raw")
    assert stamps == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}


def test_the_heads_and_their_masks_lie_on_one_grid(tmp_path):
    TASKS["segment"].lay_out(tmp_path)
    for head in ("colin27", "mni152"):
        image, mask = read(tmp_path / "images" / f"{head}.nii.gz"), read_mask(tmp_path / "masks" / f"{head}.nii.gz")
        assert image.grid == mask.grid
        assert image.geometry.is_close(mask.geometry)
        litres = (mask.voxels > 0).sum() * math.prod(image.geometry.spacing_mm) / 1e6
        assert 1.4 < litres < 2.1


def test_the_slices_show_their_planes(tmp_path):
    """A head is longer from front to back than from ear to ear: 181 x 217 x 181 and 91 x 109 x 91 voxels."""
    TASKS["classify"].lay_out(tmp_path)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    height_width = {"axial": (217, 181), "coronal": (181, 181), "sagittal": (181, 217)}
    for row in rows:
        expected = height_width[row["label"]]
        halved = tuple((size + 1) // 2 for size in expected)
        assert read(tmp_path / row["path"]).grid[1:] == (expected if row["patient"] == "colin27" else halved)
    counts = Counter((row["label"], row["split"]) for row in rows)
    assert min(counts.values()) > 70
    assert len(counts) == 6


def test_somebodys_folder_is_left_alone(tmp_path):
    (tmp_path / "medrail.yaml").write_text("my: precious config")
    with pytest.raises(ConfigError, match="--workspace"):
        _claim(tmp_path, TASKS["segment"])
    assert (tmp_path / "medrail.yaml").read_text() == "my: precious config"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_other_demos_folder_is_refused_and_the_own_one_kept(tmp_path):
    folder = tmp_path / "new"
    _claim(folder, TASKS["segment"])
    _claim(folder, TASKS["segment"])
    with pytest.raises(ConfigError, match="segment demo's"):
        _claim(folder, TASKS["classify"])


def test_an_edited_configuration_is_used_and_said(tmp_path):
    _write_config(tmp_path, TASKS["segment"])
    path = tmp_path / "medrail.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("epochs: 12", "epochs: 3"), encoding="utf-8")
    (warning,) = _write_config(tmp_path, TASKS["segment"])
    assert "edited" in warning
    assert load(tmp_path).train.epochs == 3
