"""The benchmark: everything that is installed, timed in turn, with intervals that hold, and answers compared."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from medrail import stages
from medrail.bundle import InputKind, NetworkSpec, Predictor
from medrail.cli import main
from medrail.export.benchmark import Contender, answer_in_turn, median_interval, rows_of, time_in_turn
from medrail.types import Case, Image
from medrail.workspace import read_json


def test_every_way_to_run_it_is_in_one_table(pictures: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--set", "export.benchmark_rounds=6", "--set", "serve.threads=1"]
    assert main(["export", str(pictures.run.folder), "--benchmark", "--json", *sets]) == 0
    told = capsys.readouterr()
    values = json.loads(told.out)
    assert values == read_json(pictures.run.folder / "benchmark.json")
    ways = [(row["format"], row["engine"], row["precision"]) for row in values["rows"]]
    assert ways[0] == ("torch", "eager", "fp32")
    assert {("torchscript", "torch", "fp32"), ("onnx", "onnxruntime", "fp32"), ("onnx", "openvino", "fp32")} <= {*ways}
    assert ("onnx", "onnxruntime", "int8") in ways
    assert any("cuda" in reason for reason in values["absent"]) or ("onnx", "onnxruntime cuda", "fp32") in ways
    assert (values["split"], values["cases"], values["metric"]) == ("test", 4, "accuracy")
    assert values["machine"]["cpu_share"] > 0
    for row in values["rows"]:
        latency = row["latency_ms"]
        assert 0 < latency["low"] <= latency["value"] <= latency["high"]
        assert row["file_mb"] > 0
        if row["precision"] == "fp32":
            assert row["max_abs_difference"] < 1e-3
    assert values["rows"][0]["times_as_fast"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert "times as fast" in told.err
    assert "not timed: onnxruntime on cuda" in told.err or ("onnx", "onnxruntime cuda", "fp32") in ways


@pytest.mark.parametrize("n", [6, 10, 15])
def test_the_interval_of_a_median_holds_it_whatever_the_distribution(n: int) -> None:
    """95 % and no less, of skewed times with outliers; 4,000 repeats, so within 0.7 %."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(4000):
        found = median_interval(list(rng.exponential(size=n) + 50 * (rng.uniform(size=n) < 0.1)))
        held += found.low <= _MEDIAN <= found.high
    assert held / 4000 > 0.943


_SORTED = np.sort(
    np.random.default_rng(1).exponential(size=400_000) + 50 * (np.random.default_rng(2).uniform(size=400_000) < 0.1)
)
_MEDIAN = float(np.median(_SORTED))


def test_with_few_rounds_there_is_no_interval() -> None:
    assert np.isnan(median_interval([1.0, 2.0, 3.0, 4.0, 5.0]).low)
    assert median_interval([2.0] * 10).to_json() == {"value": 2.0, "low": 2.0, "high": 2.0}


def test_all_are_called_in_turn_and_each_round_begins_with_another() -> None:
    called: list[str] = []
    calls = [lambda name=name: called.append(name) for name in "abc"]
    times = time_in_turn(calls, 3)
    assert [len(one) for one in times] == [3, 3, 3]
    turns = [name for place, name in enumerate(called) if place == 0 or called[place - 1] != name]
    assert "".join(turns).startswith("ab")
    firsts = [called[51 * 3 * number] for number in range(3)]  # a turn is one call that does not count, and 50
    assert firsts == ["a", "b", "c"]


SPEC = NetworkSpec("classification", ("no", "yes"), 2, 1, (), InputKind(True, 1, "uint8"), grid=(2, 2))


class Stored:
    """A store of pictures whose first value is the logit of the second class."""

    def __init__(self, values: dict[str, float]) -> None:
        self.values = values

    def load(self, case_id: str) -> tuple[Image, None]:
        return Image(np.full((1, 1, 2, 2), self.values[case_id], np.float32)), None


def contender(flips_below: float) -> Contender:
    def backend(batch: Any) -> Any:
        z = batch[:, 0, 0, 0]
        z = np.where(np.abs(z) < flips_below, -z, z)
        return np.stack([-z, z], axis=1).astype(np.float32)

    return Contender("onnx", "made up", f"{flips_below}", 1.0, Predictor(SPEC, backend))


def test_differences_are_paired_and_by_patient() -> None:
    rng = np.random.default_rng(0)
    values = {f"c{number}": float(z) for number, z in enumerate(rng.normal(1, 0.5, 60))}
    cases = [Case(name, f"p{number // 3}", ("x",), "yes", "val") for number, name in enumerate(values)]
    both = (contender(0.0), contender(0.6))
    answers = answer_in_turn(both, Stored(values), cases)  # type: ignore[arg-type]
    times = [[2.0] * 6, [1.0] * 6]
    first, second = rows_of(both, times, answers, cases, resamples=500, seed=0)
    changed = np.mean([abs(z) < 0.6 for z in values.values()])
    assert first["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert second["labels_changed"] == pytest.approx(changed)
    assert second["difference"]["value"] == pytest.approx(second["accuracy"] - first["accuracy"])
    assert second["difference"]["low"] < second["difference"]["value"] < second["difference"]["high"]
    assert second["times_as_fast"]["value"] == 2.0


def test_validation_cases_are_taken_before_test_cases(pictures: Any) -> None:
    from medrail.stages import benchmarking

    cases = [Case(f"c{n:03d}", f"p{n}", ("x",), "left", "val" if n % 2 else "test") for n in range(40)]
    split, chosen = benchmarking._judged(cases, 5, pictures.run)
    assert (split, len(chosen), {case.split for case in chosen}) == ("val", 5, {"val"})
    assert stages.benchmark_table({"metric": "dice", "rows": []})[0][6] == "dice"
