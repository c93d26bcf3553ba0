"""Mistakes in prepare.steps: all at once, each with its key and a suggestion."""

from __future__ import annotations

import pytest

from medrail.config import parse
from medrail.errors import ConfigError
from medrail.prepare.pipeline import Pipeline
from medrail.prepare.steps import STEPS, check_steps


def test_the_examples_are_the_whole_table(examples):
    assert set(examples) == set(STEPS)
    assert check_steps(list(examples.values())[:-4]) == []


@pytest.mark.parametrize(
    ("step", "key", "words"),
    [
        ({"kind": "resampel", "spacing_mm": 1}, "kind", "Did you mean 'resample'?"),
        ({"spacing_mm": 1}, "kind", "Known: orient"),
        ({"kind": 3}, "kind", "there is no step 3"),
        ({"kind": "resample"}, "spacing_mm", "missing"),
        ({"kind": "resample", "spacing_m": 1, "spacing_mm": 1}, "spacing_m", "Did you mean 'spacing_mm'?"),
        ({"kind": "resample", "spacing_mm": [1, 1]}, "spacing_mm", "one number, or three"),
        ({"kind": "resample", "spacing_mm": 0}, "spacing_mm", "above 0"),
        ({"kind": "resample", "spacing_mm": "1"}, "spacing_mm", "found '1'"),
        ({"kind": "resample", "spacing_mm": 1, "antialias": "yes"}, "antialias", "boolean"),
        ({"kind": "orient", "axes": "LPL"}, "axes", "one letter each"),
        ({"kind": "window", "preset": "lungs"}, "", "Did you mean 'lung'?"),
        ({"kind": "window", "presett": "lung", "center_hu": 1, "width_hu": 1}, "presett", "Did you mean 'preset'?"),
        ({"kind": "window", "preset": "lung", "width_hu": 3}, "", "one or the other"),
        ({"kind": "window", "center_hu": 40, "width_hu": 0}, "width_hu", "greater than 0"),
        ({"kind": "window", "center_hu": True, "width_hu": 5}, "center_hu", "number"),
        ({"kind": "clip_percentile", "low": 60, "high": 40}, "", "not below"),
        ({"kind": "crop_foreground", "threshold": "otzu"}, "threshold", "a number or otsu"),
        ({"kind": "crop_pad", "size": [4]}, "size", "[H, W]"),
        ({"kind": "crop_pad", "size": [4, -4]}, "size", "above 0"),
        ({"kind": "slices", "size": [4, 4, 4]}, "size", "two whole numbers"),
        ({"kind": "slices", "size": [4, 4], "planes": ["axail"]}, "planes.0", "Did you mean 'axial'?"),
        ({"kind": "slices", "size": [4, 4], "planes": ["axial", "axial"]}, "planes", "each once"),
        ({"kind": "normalise", "method": "z-score"}, "method", "Did you mean 'zscore'?"),
        ({"kind": "normalise", "method": "custom", "mean": 1}, "", "needs mean and std"),
        ({"kind": "normalise", "method": "zscore", "mean": 1, "std": 1}, "", "belong to method custom"),
        ({"kind": "normalise", "method": "custom", "mean": 0, "std": 0}, "", "not above 0"),
        ({"kind": "normalise", "method": "custom", "mean": [1, 2], "std": [1, 2, 3]}, "", "2 numbers and std 3"),
        ({"kind": "normalise", "method": "imagenet", "foreground": True}, "", "no meaning"),
        ({"kind": "resample", "spacing_mm": float("nan")}, "spacing_mm", "millimetres"),
    ],
)
def test_one_mistake(step, key, words):
    problems = check_steps([{"kind": "grey_to_rgb"}, step])
    assert len(problems) == 1
    assert problems[0].key == ".".join(["prepare.steps.1", *([key] if key else [])])
    assert words in str(problems[0])


def test_all_mistakes_at_once():
    steps = [{"kind": "orientt"}, {"kind": "crop_pad", "size": 3, "colour": 1}, {"kind": "normalise"}, "window"]
    with pytest.raises(ConfigError) as caught:
        Pipeline.from_dict(steps)
    assert [problem.key for problem in caught.value.problems] == [
        "prepare.steps.0.kind",
        "prepare.steps.1.size",
        "prepare.steps.1.colour",
        "prepare.steps.3",
    ]


@pytest.mark.parametrize("kind", ["orient", "resample", "slices"])
def test_what_needs_geometry_after_slices(kind, examples):
    problems = check_steps([examples["slices"], examples[kind]])
    assert f"Put {kind} before slices" in str(problems[0])


def test_config_reports_them_beside_its_own():
    values = {
        "task": "classification",
        "data": {"kind": "csv", "path": "a.csv", "pth": 1},
        "model": {"name": "resnet18", "dims": 2},
        "prepare": {"steps": [{"kind": "rezise", "size": [2, 2]}]},
    }
    with pytest.raises(ConfigError, match=r"(?s)2 mistakes.*data.pth.*prepare.steps.0.kind.*'resize'"):
        parse(values, step_check=check_steps)
