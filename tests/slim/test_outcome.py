"""Verdicts, the front, the choice and the sentence: laws on made rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from medrail.bundle import Choice
from medrail.config import SlimConfig
from medrail.evaluate.noninferiority import NonInferiority
from medrail.slim.candidates import Candidate, candidates_of
from medrail.slim.judge import unsteady
from medrail.slim.outcome import Confirmed, Outcome, Row, choose, with_verdicts
from medrail.slim.page import header, page, table, write_outcome
from medrail.slim.race import Faster, Timed, faster_than


def judged(low: float, margin: float = 0.01, metric: str = "auc") -> NonInferiority:
    difference = low + 0.004
    return NonInferiority(
        metric, margin, difference, low, difference + 0.004, 0.01, low > -margin, "a method", 90, 80, 12, 0.037
    )


def timed(latency_ms: float, low: float | None = None) -> Timed:
    parts = {"read": 1.0, "prepare": 1.0, "model": latency_ms - 2.5, "post": 0.5}
    faster = None if low is None else Faster(low * 1.1, low, low * 1.2)
    return Timed(parts, [latency_ms] * 5, 1000 / latency_ms, 120.0, faster, faster)


def row(name: str, latency_ms: float, faster_low: float, low: float, value: float = 0.9, **more) -> Row:
    return Row(
        name,
        name,
        "candidate",
        0.5,
        "int8",
        "openvino",
        f"slim/{name}",
        1.5,
        value,
        judged(low),
        timed(latency_ms, faster_low),
        **more,
    )


BASE = Row(
    "base",
    "as it was evaluated",
    "base",
    0.0,
    "fp32",
    "onnxruntime",
    "model-001",
    44.7,
    0.9,
    None,
    timed(20),
)


def outcome(*rows: Row, chosen: str = "", confirmed: Confirmed | None = None, target: float = 0) -> Outcome:
    verdicts = with_verdicts([BASE, *rows])
    return Outcome(
        "model-001",
        "auc",
        0.01,
        target,
        90,
        80,
        verdicts,
        chosen=chosen or choose(verdicts, target),
        confirmed=confirmed,
        result="model-001-slim" if confirmed and confirmed.judged.passed else "",
        machine={"processor": "a processor", "flags": ["avx2"], "processors": 2},
    )


def test_accepted_is_what_is_faster_for_certain_and_no_worse() -> None:
    good, slow, worse = row("good", 7, 2.6, -0.004), row("slow", 19, 0.98, -0.004), row("worse", 5, 3.5, -0.02)
    refused = row("refused", 4, 4.0, -0.001, why_not="no answer in 3 cases")
    found = {one.name: one for one in with_verdicts([BASE, good, slow, worse, refused])}
    assert [name for name, one in found.items() if one.accepted] == ["good"]
    assert found["slow"].why_not == "not measured faster"
    assert "non-inferior" in found["worse"].why_not
    assert found["refused"].why_not == "no answer in 3 cases"


def test_where_no_answer_changed_that_is_the_reason() -> None:
    none = row("same", 4, 4.0, -0.02)
    none = replace(none, judged=replace(none.judged, changed=0))
    some = replace(none, name="other", judged=replace(none.judged, changed=3))
    found = {one.name: one.why_not for one in with_verdicts([BASE, none, some])}
    assert "no answer changed" in found["same"]
    assert found["other"] == "not shown to be non-inferior"


def test_a_busy_machine_is_told_and_a_quiet_one_is_not() -> None:
    def base(rounds_ms: list[float]) -> Timed:
        return replace(timed(20), rounds_ms=rounds_ms)

    assert unsteady(base([20, 21, 19, 20, 20.5, 20])) == ()
    assert unsteady(base([20, 20, 19, 20, 20.5, 21, 20, 20, 60])) == (), "one slow round is no busy machine"
    (told,) = unsteady(base([20, 40, 19, 55, 20.5, 60]))
    assert "busy" in told
    assert unsteady(None) == ()


def test_the_fastest_is_chosen_or_within_a_target_the_best() -> None:
    fast, good = row("fast", 5, 3.5, -0.004, value=0.90), row("good", 9, 2.0, -0.004, value=0.92)
    rows = with_verdicts([BASE, fast, good])
    assert choose(rows) == "fast"
    assert choose(rows, 10) == "good"
    assert choose(rows, 6) == "fast"
    assert choose(rows, 3) == ""
    assert choose(with_verdicts([BASE])) == ""


def test_nothing_on_the_front_is_beaten_in_both() -> None:
    rows = with_verdicts(
        [
            BASE,
            row("a", 5, 3, -0.004, value=0.88),
            row("b", 9, 2, -0.004, value=0.92),
            row("c", 9, 2, -0.02, value=0.85),
        ]
    )
    front = {one.name for one in rows if one.front}
    assert front == {"a", "b"}, "the base is slower and worse than b"
    lower = with_verdicts([BASE, row("a", 5, 3, -0.004, value=0.95)], lower_is_better=True)
    assert {one.name for one in lower if one.front} == {"a", "base"}


def test_the_sentence_is_of_the_test_cases() -> None:
    confirmed = Confirmed(judged(-0.006), 1)
    said = outcome(row("good", 7, 2.6, -0.004), confirmed=confirmed)
    assert said.accepted
    assert said.sentence == (
        "2.9x faster end to end (95 % CI 2.6-3.1), AUC difference -0.002 [-0.006, +0.002], non-inferior at 0.01 "
        "(good; on the test cases)"
    )
    failed = outcome(row("good", 7, 2.6, -0.004), confirmed=Confirmed(judged(-0.02), 1))
    assert not failed.accepted
    assert failed.sentence.startswith("nothing is changed: the test cases do not confirm good")


@pytest.mark.parametrize(
    ("rows", "target", "said"),
    [
        ((), 0, "there is no candidate that this machine can run"),
        ((row("worse", 5, 3.5, -0.02),), 0, "none of 1 candidate is shown to be non-inferior at 0.01 on 80"),
        ((row("slow", 19, 0.9, -0.001),), 0, "1 of 1 candidates are non-inferior, and none of them is measured faster"),
        ((row("good", 7, 2.6, -0.004),), 3, "no accepted candidate answers within 3 ms"),
    ],
)
def test_where_nothing_passes_it_says_why(rows, target, said) -> None:
    found = outcome(*rows, target=target)
    assert not found.accepted
    assert said in found.sentence


def test_candidates_that_could_not_be_made_are_no_fault_of_the_machine() -> None:
    assert replace(outcome(), unmade=3).sentence == "nothing is changed: no candidate could be made, of 3"


def test_without_test_cases_nothing_is_changed() -> None:
    found = outcome(row("good", 7, 2.6, -0.004))
    assert not found.accepted
    assert found.sentence.startswith(
        "nothing is changed: there are no test cases to confirm the choice with (good: 2.9x"
    )


def test_unbeaten_is_what_nothing_equals_in_every_number() -> None:
    """One that is slower and no better may still have the smaller file."""
    quick, small = row("quick", 5, 3, -0.004), replace(row("small", 6, 3, -0.004), file_mb=0.4)
    beaten = replace(row("beaten", 7, 3, -0.004, value=0.88), file_mb=2.0)
    found = {one.name: one for one in with_verdicts([BASE, quick, small, beaten])}
    assert {name for name, one in found.items() if one.unbeaten} == {"quick", "small"}
    assert {name for name, one in found.items() if one.front} == {"quick"}


def test_the_promised_keys_are_there(tmp_path: Path) -> None:
    found = outcome(row("good", 7, 2.6, -0.004), confirmed=Confirmed(judged(-0.006), 1))
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["accepted"] is True
    assert values["chosen"] == "good"
    promised = ["ratio", "precision", "engine", "latency_ms", "metric", "difference", "low", "high", "non_inferior"]
    assert set(promised) <= values["candidates"][0].keys()
    assert [one["kind"] for one in values["beside"]] == ["base"]
    write_outcome(found, tmp_path)
    assert json.loads((tmp_path / "slim.json").read_text(encoding="utf-8")) == values


def test_the_page_holds_itself_and_escapes(tmp_path: Path) -> None:
    found = outcome(row("<b>good</b>", 7, 2.6, -0.004), confirmed=Confirmed(judged(-0.006), 2))
    files = write_outcome(found, tmp_path)
    text = page(found, tmp_path / "tradeoff.png")
    assert "<b>good" not in text
    assert 'src="http' not in text
    assert "default-src 'none'" in text
    assert "asked 2 time(s)" in text
    assert all(path.is_file() for path in files)
    assert all(len(line) == len(header()) for line in table(found))


def test_a_ratio_is_of_the_same_rounds() -> None:
    drift = [1.0, 2.0, 4.0, 8.0, 3.0]
    found = faster_than([3 * one for one in drift], drift)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3, 3))
    again = Timed.from_json(json.loads(json.dumps(timed(7, 2.6).to_json())))
    assert again == timed(7, 2.6)
    assert math.isnan(Timed.from_json({**timed(7).to_json(), "memory_mb": None}).memory_mb)


def test_candidates_are_every_combination_but_the_base() -> None:
    config = SlimConfig(ratios=(0.5, 0, 0.5), engines=("onnxruntime",))
    found, notes = candidates_of(config, Choice())
    assert [(one.ratio, one.choice.precision) for one in found] == [(0, "int8"), (0.5, "fp32"), (0.5, "int8")]
    assert notes == ()
    assert len({one.name for one in found}) == 3
    assert Candidate(0.5, Choice(), unstructured=True).told == "50% of the weights zero, onnxruntime fp32"


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from medrail.bundle import engines

    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "openvino" else object())
    found, notes = candidates_of(SlimConfig(ratios=(0.5,)), Choice())
    assert {one.choice.engine for one in found} == {"onnxruntime"}
    assert "openvino is not among the candidates" in notes[0]
    assert "pip install" in notes[0]
