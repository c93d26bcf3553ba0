"""The files: a page that asks no network for anything, a table, and JSON that says the same."""

from __future__ import annotations

import csv
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from medrail.loadtest.capacity import Wanted, capacity
from medrail.loadtest.curves import Axis, Curve, Point, draw
from medrail.loadtest.outcome import Outcome
from medrail.loadtest.write import write_outcome

NUMBERS = st.floats(0.01, 1e6)


def outcome(steps, **more) -> Outcome:
    closed = [step for step in steps if step.mode == "closed"]
    opened = [step for step in steps if step.mode == "open"]
    values = {
        "url": "http://127.0.0.1:8000",
        "scenario": "ramp",
        "models": ("chest/1",),
        "started": "2026-11-27T20:00:00+00:00",
        "steps": tuple(steps),
        "capacity": capacity(closed, Wanted(1_000), "Here."),
        "open_capacity": capacity(opened, Wanted(1_000), "Here."),
        "machine": {"cpu": "<b>&", "cores": 2, "system": "Linux"},
        "shared_machine": True,
        "watched": "process 1",
        "samples": [(0.2, 0.5, 200.0), (0.4, 0.9, 201.0)],
        "notes": ("<script>alert(1)</script>",),
        "ended": "",
        "settings": {"limit_ms": 1000.0, "warmup_s": 2.0, "timeout_s": 30.0},
    }
    return Outcome(**(values | more))


def test_the_files_say_the_same_and_the_page_asks_no_network(make_step, tmp_path):
    steps = [make_step(1, 50), make_step(2, None), make_step(0, 300, planned_rps=10.0)]
    page, table, result = write_outcome(outcome(steps), tmp_path / "new")
    told = json.loads(result.read_text(encoding="utf-8"))
    assert [step["users"] for step in told["steps"]] == [1, 2, 0]
    assert {"rps", "p50_ms", "p95_ms", "p99_ms", "errors"} <= set(told["steps"][0])
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["p95_ms"] for row in rows] == ["50", "", "300"]
    assert rows[0]["p95_ms_low"] == "49.0"
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<b>&" not in text
    assert not re.search(r"(?:src|href)=[\"']?(?!data:|#)\w", text)
    assert told["capacity"]["sentence"].replace("<", "&lt;") in text
    assert text.count("<svg class") == 6


def test_a_test_that_ended_early_says_so(make_step, tmp_path):
    found = outcome([make_step(1, 50)], ended="the service stopped answering", samples=[], watched="")
    page, _, result = write_outcome(found, tmp_path)
    assert "the service stopped answering" in page.read_text(encoding="utf-8")
    assert json.loads(result.read_text(encoding="utf-8"))["ended"] == "the service stopped answering"
    assert found.failed
    assert not outcome([make_step(1, 50)]).failed


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12), st.booleans(), st.booleans())
def test_every_point_of_a_curve_lies_within_its_frame(pairs, log_x, log_y):
    points = [Point(x, y, y / 2, y * 2) for x, y in pairs]
    drawn = draw([Curve("p95", points)], Axis("users", log_x), Axis("ms", log_y), (100.0, "limit"))
    places = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', drawn)]
    assert len(places) == len(points)
    assert all(53 <= x <= 447 and 11 <= y <= 211 for x, y in places)


def test_no_points_no_drawing():
    assert draw([Curve("p95", [])], Axis("users"), Axis("ms")) == ""
