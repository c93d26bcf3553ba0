"""A trained transformer, which has no exact evidence, is explained by Grad-CAM wherever it is evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medrail.stages import evaluate_external, evaluate_run, open_project, open_run, prepare_cases, train_run

pytestmark = pytest.mark.slow
CONFIG = """\
name: shade
task: classification
data: {kind: class_folders, path: ../data, classes: [dark, light], patient_pattern: "p(\\\\d+)_"}
split: {val: 0.2, test: 0.4}
prepare:
  workers: 1
  steps:
    - {kind: resize, size: [32, 32]}
    - {kind: normalise, method: custom, mean: [128], std: [64]}
model: {name: vit, dims: 2, channels: 1}
train: {epochs: 1, lr: 0.001, batch_size: 8, threads: 1, device: cpu, track: false}
evaluate: {resamples: 200, explained_cases: 2}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """project/ with a run, on data/; other/ is from elsewhere."""
    pytest.importorskip("torch")
    root, rng = tmp_path_factory.mktemp("explained"), np.random.default_rng(0)
    for folder, count in (("data", 30), ("other", 8)):
        for number in range(count):
            kind = number % 2
            path = root / folder / ("dark", "light")[kind] / f"p{number // 2}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Picture.fromarray(rng.integers(0, 90, (32, 32), dtype=np.uint8) + np.uint8(150 * kind)).save(path)
    (root / "project").mkdir()
    (root / "project" / "medrail.yaml").write_text(CONFIG, encoding="utf-8")
    project = open_project(root / "project")
    prepare_cases(project)
    train_run(project)
    return root


def test_the_stage_shows_and_tests_gradcam_and_says_whether_to_trust_it(trained: Path) -> None:
    project, run = open_run(trained / "project")
    result = evaluate_run(project, run)
    explanation = result.values["explanation"]
    assert explanation["deletion_gain"]["n"] == 2
    assert explanation["deletion_gain"]["method"].endswith("approximate (Grad-CAM)")
    assert len([note for note in result.notes if note.startswith("The approximate (Grad-CAM) maps")]) == 1
    assert not result.warnings
    assert (run.evaluation / "index.html").read_text(encoding="utf-8").count("近似（Grad-CAM）</span>") == 5
    again = evaluate_run(project, run)
    assert again.up_to_date
    assert again.notes == result.notes


def test_other_data_are_explained_by_the_run_s_own_weights(trained: Path) -> None:
    project, run = open_run(trained / "project")
    result = evaluate_external(project, run, trained / "other")
    assert result.values["external"]["explanation"]["deletion_gain"]["n"] == 2
    assert any(note.startswith("The approximate (Grad-CAM) maps") for note in result.notes)
    text = (run.folder / "external" / "other" / "index.html").read_text(encoding="utf-8")
    assert text.count("近似（Grad-CAM）</span>") == 5
