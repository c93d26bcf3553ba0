"""Charts: written whole, alike for the same numbers, and with what was asked for in them."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import pytest

from medrail.charts import Panel, Row, draw_intervals, draw_panels, draw_points


def _panels(path: Path) -> Path:
    curve = [(0.0, 0.1), (0.5, 0.7), (1.0, 0.9)]
    band = [(at, height - 0.1, height + 0.1) for at, height in curve]
    first = Panel("ROC $1", "1 - specificity", "sensitivity", {"A": curve}, {"A": band}, diagonal=True)
    second = Panel("Loss", "epoch", "loss", {"train": curve, "val": curve[::-1]}, marked=[(0.5, "chosen")])
    return draw_panels(path, [first, second])


def _intervals(path: Path) -> Path:
    rows = [Row("all", 0.9, 0.8, 0.95, note="n = 20"), Row("few", 0.5, math.nan, math.nan, muted=True)]
    return draw_intervals(path, rows, title="AUC", x="AUC", reference=0.5)


def _points(path: Path) -> Path:
    groups = {"trials": [(3.0, 0.8, ""), (9.0, 0.9, "best")], "pruned": [(5.0, 0.7, "")]}
    return draw_points(path, groups, title="Trials", x="latency, ms", y="AUC", front=[(9, 0.9), (3, 0.8)], log_x=True)


@pytest.mark.parametrize("draw", [_panels, _intervals, _points])
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_numbers_give_the_same_bytes_and_nothing_is_left_beside(tmp_path, draw, kind):
    first, second = draw(tmp_path / f"a.{kind}"), draw(tmp_path / f"b.{kind}")

    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{kind}", f"b.{kind}"]


@pytest.mark.parametrize("draw", [_panels, _intervals, _points])
def test_a_picture_is_one_and_is_not_empty(tmp_path, draw):
    picture = cv2.imread(str(draw(tmp_path / "a.png")))

    assert picture is not None
    assert min(picture.shape[:2]) > 100
    assert picture.std() > 5
