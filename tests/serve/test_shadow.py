"""What a shadow costs at most, and how its answer is compared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from medrail.bundle import InputKind, NetworkSpec
from medrail.serve import Settings
from medrail.serve.gate import Gate
from medrail.serve.metrics import Telemetry
from medrail.serve.registry import ServedModel
from medrail.serve.shadow import Shadows, difference
from medrail.types import Geometry, Image, Prediction, ReadOptions

SPEC = NetworkSpec(
    task="classification",
    classes=("no", "yes"),
    dims=3,
    channels=1,
    pipeline=({"kind": "resample", "spacing_mm": [1.0, 1.0, 1.0]},),
    input_kind=InputKind(picture=None, channels=1, unit=""),
)
ANSWER = Prediction("classification", ("no", "yes"), "x/1", {"no": 0.25, "yes": 0.75})
MOST_VALUES = 100


class Log:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def event(self, name: str, **values: Any) -> None:
        self.events.append({"event": name, **values})


class Predictor:
    """Says ``ANSWER`` as soon as it may."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.entered, self.may = threading.Event(), threading.Event()
        self.may.set()

    def __call__(self, image: Image, roi: Image | None) -> Prediction:
        self.entered.set()
        assert self.may.wait(30)
        return ANSWER


def model(version: str, spec: NetworkSpec = SPEC) -> ServedModel:
    return cast(ServedModel, SimpleNamespace(name="x", version=version, predictor=Predictor(spec)))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def shadows(log: Log) -> Iterator[Shadows]:
    settings = Settings(log_to_stderr=False, metrics=False)
    made = Shadows(Gate.of(settings), cast(Any, log), Telemetry(settings), MOST_VALUES)
    yield made
    made.close()


def image(values: int, spacing_mm: float | None = None) -> Image:
    affine = None if spacing_mm is None else Geometry(np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))
    return Image(np.zeros((1, 1, 1, values), np.float32), affine)


def test_all_that_wait_hold_no_more_than_one_image_may(shadows: Shadows, log: Log) -> None:
    first, second = model("1"), model("2")
    predictor = cast(Predictor, second.predictor)
    predictor.may.clear()
    shadows.after([second], first, image(60), None, ANSWER, "a")
    assert predictor.entered.wait(30)
    shadows.after([second], first, image(41), None, ANSWER, "b")
    shadows.after([second], first, image(20), image(21), ANSWER, "c")
    predictor.may.set()
    shadows.close()
    assert [(each["request_id"], each["passed_over"]) for each in log.events] == [("a", 2)]


def test_what_has_been_answered_makes_room(shadows: Shadows, log: Log) -> None:
    first, second = model("1"), model("2")
    for number in range(3):
        predictor = cast(Predictor, second.predictor)
        predictor.entered.clear()
        shadows.after([second], first, image(MOST_VALUES), None, ANSWER, str(number))
        assert predictor.entered.wait(30)
        while len(log.events) <= number:
            threading.Event().wait(0.01)
    assert {each["passed_over"] for each in log.events} == {0}


def test_a_shadow_that_would_enlarge_the_image_beyond_the_limit_does_not(shadows: Shadows, log: Log) -> None:
    second = model("2")
    shadows.after([second], model("1"), image(50, spacing_mm=1000.0), None, ANSWER, "a")
    while not log.events:
        threading.Event().wait(0.01)
    assert log.events[0]["failed"] == "too-many-voxels"
    assert not cast(Predictor, second.predictor).entered.is_set()


@pytest.mark.parametrize("on_defect", ["refuse", "resample"])
def test_a_shadow_that_reads_files_otherwise_is_told_of(shadows: Shadows, log: Log, on_defect: Any) -> None:
    second = model("2", replace(SPEC, read_options=ReadOptions(on_defect=on_defect)))
    first = model("1", replace(SPEC, read_options=ReadOptions()))
    shadows.after([second], first, image(50), None, ANSWER, "a")
    while not log.events:
        threading.Event().wait(0.01)
    assert log.events[0]["same"] is True
    assert ("reads_otherwise" in log.events[0]) is (on_defect != ReadOptions().on_defect)


def mask(values: list[int], *classes: str) -> Prediction:
    voxels = np.array(values, np.uint8).reshape(1, 1, 1, -1)
    return Prediction("segmentation", ("background", *classes), "x/1", mask=Image(voxels, unit="label"))


def test_classes_are_matched_by_their_names() -> None:
    """Whatever numbers and order the versions give them."""
    one, other = mask([0, 1, 2, 2], "brain", "ventricle"), mask([0, 2, 1, 1], "ventricle", "brain")
    assert difference(one, other) == {"voxels_differ": 0.0, "same": True}
    assert difference(one, mask([0, 1, 2, 2], "ventricle", "brain")) == {"voxels_differ": 0.75, "same": False}
    found = replace(ANSWER, findings=("no", "yes"))
    assert difference(found, replace(found, findings=("yes", "no"))) == {"max_difference": 0.0, "same": True}
