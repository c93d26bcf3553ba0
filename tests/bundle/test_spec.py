"""NetworkSpec: survives JSON, refuses contradictions, names what training images have in common."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.bundle import InputKind, NetworkSpec
from medrail.errors import BundleError
from medrail.types import Image, ReadOptions

sizes = st.integers(1, 512)


@st.composite
def specs(draw: st.DrawFn) -> NetworkSpec:
    dims, task = draw(st.sampled_from([2, 3])), draw(st.sampled_from(["classification", "segmentation"]))
    extent = st.one_of(st.just(()), st.tuples(*[sizes] * dims))
    return NetworkSpec(
        task=task,  # type: ignore[arg-type]
        classes=tuple(draw(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=5, unique=True))),
        dims=dims,  # type: ignore[arg-type]
        channels=draw(st.integers(1, 4)),
        pipeline=tuple(draw(st.sampled_from([[], [{"kind": "orient"}], [{"kind": "window", "preset": "lung"}]]))),
        input_kind=InputKind(
            draw(st.sampled_from([True, False, None])),
            draw(st.integers(0, 4)),
            draw(st.sampled_from(["", "HU", "uint8"])),
        ),
        patch=draw(extent),
        grid=draw(extent),
        multi_label=task == "classification" and draw(st.booleans()),
        cells=draw(st.one_of(st.just(()), st.tuples(*[st.tuples(st.floats(0.25, 64), st.floats(-32, 64))] * dims))),
        read_options=ReadOptions(jpeg_least_px=draw(st.one_of(st.none(), st.tuples(sizes, sizes)))),
    )


@settings(deadline=None, max_examples=50)
@given(specs())
def test_json_and_back_is_equal(spec: NetworkSpec) -> None:
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


GOOD: dict[str, Any] = {
    "task": "segmentation",
    "classes": ["background", "organ"],
    "dims": 3,
    "channels": 1,
    "pipeline": [],
    "input_kind": {"picture": False, "channels": 1, "unit": "HU"},
    "patch": [4, 5, 6],
    "grid": [],
}


@pytest.mark.parametrize(
    "change",
    [
        {"cells": [[16, 0]]},
        {"cells": [[16, 0], [0, 0], [16, 0]]},
        {"task": "detection"},
        {"dims": 4},
        {"classes": ["one"]},
        {"classes": ["same", "same"]},
        {"channels": 0},
        {"patch": [4, 5]},
        {"grid": [4, 5, 0]},
        {"unknown": 1},
        {"input_kind": {"picture": True}},
        {"input_kind": None},
    ],
)
def test_contradictions_are_refused(change: dict[str, Any]) -> None:
    NetworkSpec.from_dict(GOOD)
    with pytest.raises(BundleError, match="description"):
        NetworkSpec.from_dict(GOOD | change)


def test_a_missing_field_is_refused() -> None:
    for name in ("task", "classes", "dims", "channels", "pipeline", "input_kind"):
        with pytest.raises(BundleError):
            NetworkSpec.from_dict({key: value for key, value in GOOD.items() if key != name})


def test_input_kind_names_what_is_common() -> None:
    grey = Image(np.zeros((1, 1, 4, 5), np.uint8), unit="uint8")
    rgb = Image(np.zeros((3, 1, 4, 5), np.uint8), unit="uint8")
    volume = Image(np.zeros((1, 6, 4, 5), np.int16), unit="HU")
    assert InputKind.of(grey, grey) == InputKind(True, 1, "uint8")
    assert InputKind.of(grey, rgb) == InputKind(True, 0, "uint8")
    assert InputKind.of(grey, volume) == InputKind(None, 1, "")
    assert InputKind.merge(InputKind.of(grey, rgb), InputKind.of(grey)) == InputKind(True, 0, "uint8")


def test_a_description_from_before_there_were_several_labels_is_read() -> None:
    assert NetworkSpec.from_dict(GOOD).multi_label is False
    with pytest.raises(BundleError, match="multi_label True for task segmentation"):
        NetworkSpec.from_dict(GOOD | {"multi_label": True})


def test_a_single_finding_is_enough_where_there_may_be_several() -> None:
    one = GOOD | {"task": "classification", "classes": ["fracture"], "patch": [], "multi_label": True}
    assert NetworkSpec.from_dict(one).classes == ("fracture",)
    with pytest.raises(BundleError, match="at least two"):
        NetworkSpec.from_dict(one | {"multi_label": False})
