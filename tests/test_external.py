"""`medrail evaluate RUN --data OTHER`: another hospital's cases, what is lost there, and no image seen before."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from hospitals import picture
from medrail.cli import main
from medrail.errors import ConfigError, LeakError
from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.drop import differences
from medrail.stages import evaluate_elsewhere, open_project, open_run, run_all
from medrail.workspace import Run

CONFIG = """\
medrail: 1
name: plain
task: classification
data: {{kind: csv, path: table.csv, classes: {classes}}}
split: {{by: given}}
prepare: {{steps: [{{kind: normalise, method: custom, mean: [128], std: [64]}}], workers: 1}}
model: {{name: tiny_cnn, dims: 2}}
train: {{epochs: 3, batch_size: 16, track: false, threads: 1, lr: 0.01}}
evaluate: {{resamples: 200}}
serve: {{threads: 1}}
"""


def project(root: Path, seed: int, *, splits: dict[str, int], noise: float, classes: str = "[dark, bright]") -> Path:
    generator = np.random.default_rng(seed)
    root.mkdir(parents=True)
    rows = ["path,label,patient,split,sex"]
    for split, count in splits.items():
        for number in range(count):
            name = f"{split}{number}.png"
            level = (80, 170)[number % 2] + generator.normal(0, noise)
            Picture.fromarray(picture(generator, level)).save(root / name)
            rows.append(f"{name},{('dark', 'bright')[number % 2]},{split}{number},{split},{'FM'[number % 3 == 0]}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    (root / "medrail.yaml").write_text(CONFIG.format(classes=classes))
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    root = project(tmp_path_factory.mktemp("desk") / "here", 1, splits={"train": 40, "val": 40, "test": 40}, noise=5)
    run_all(open_project(root))
    return root


@pytest.mark.slow
def test_the_drop_is_found_and_told(trained: Path, tmp_path: Path, capsys: Any) -> None:
    other = project(tmp_path / "other hospital", 2, splits={"train": 30, "test": 30}, noise=60)
    assert main(["evaluate", str(trained), "--data", str(other), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["external"], values["n"], values["patients"]) == ("other-hospital", 60, 60), "all of its splits"
    run = open_run(trained)[1]
    own = json.loads((run.evaluation / "evaluation.json").read_text())
    gap = values["drop"]["accuracy"]
    assert gap["value"] == pytest.approx(values["metrics"]["accuracy"]["value"] - own["metrics"]["accuracy"]["value"])
    assert gap["low"] < gap["value"] < gap["high"] < 0, "pictures of overlapping brightness are harder"
    assert (run.folder / "external" / "other-hospital" / "index.html").is_file()
    assert own["split"] == "test", "the run's own evaluation stays"
    assert set(values["strata"]) == {"sex"}


@pytest.mark.slow
def test_images_that_were_seen_in_training_are_refused(trained: Path, tmp_path: Path) -> None:
    other = project(tmp_path / "copies", 3, splits={"test": 20}, noise=5)
    (other / "test0.png").write_bytes((trained / "train0.png").read_bytes())
    opened, run = open_run(trained)
    with pytest.raises(LeakError, match="1 of 20"):
        evaluate_elsewhere(opened, run, other)
    opened, run = open_run(trained, accept_leak=True)
    result = evaluate_elsewhere(opened, run, other)
    assert result.values["accepted_leaks"]["cases"] == 1
    assert "LEAK ACCEPTED" in result.summary


@pytest.mark.slow
def test_other_classes_are_refused(trained: Path, tmp_path: Path) -> None:
    other = project(tmp_path / "named", 4, splits={"test": 4}, noise=5, classes="[dark, bright, blue]")
    with pytest.raises(ConfigError, match="blue"):
        evaluate_elsewhere(*open_run(trained), other)


def test_another_evaluation_lies_apart(tmp_path: Path) -> None:
    own, elsewhere = Run(tmp_path), Run(tmp_path, external="b")
    assert own.evaluation != elsewhere.evaluation
    assert own.network == elsewhere.network


NUMBERS = st.floats(0.1, 0.9)
WIDTHS = st.floats(0.001, 0.09)


@given(NUMBERS, NUMBERS, WIDTHS, WIDTHS)
def test_the_interval_of_a_difference(here: float, own: float, wide: float, narrow: float) -> None:
    first, second = (Measured(value, value - gap, value + gap, 10, "") for value, gap in ((here, wide), (own, narrow)))
    gap = differences({"auc": first, "f1": first}, {"auc": second})
    assert list(gap) == ["auc"]
    half = math.hypot(wide, narrow)  # of two independent, symmetric estimates
    assert (gap["auc"].low, gap["auc"].high) == pytest.approx((here - own - half, here - own + half))
    back = differences({"auc": second}, {"auc": first})["auc"]
    assert (back.low, back.high) == pytest.approx((-gap["auc"].high, -gap["auc"].low))


def test_without_an_interval_there_is_none() -> None:
    known, unknown = Measured(0.5, 0.4, 0.6, 9, ""), Measured(0.6, math.nan, math.nan, 9, "")
    found = differences({"auc": known}, {"auc": unknown})["auc"]
    assert found.value == pytest.approx(-0.1)
    assert math.isnan(found.low)
    assert "no interval" in found.method
