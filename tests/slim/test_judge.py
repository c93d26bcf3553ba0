"""medrail slim on a small real project: a slimmed run or nothing, and nothing done twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from medrail import cli
from medrail.bundle import load_bundle
from medrail.slim.race import Faster, Runner, Timed
from medrail.stages import slimming
from medrail.workspace import Run, read_json

SETS = ("slim.engines=[onnxruntime]", "slim.epochs=1", "slim.round_to=1", "evaluate.explained_cases=0")


class Clock:
    """Instead of a race: what is pruned more, and int8, is faster."""

    def __init__(self) -> None:
        self.races = 0

    def __call__(self, runners: Sequence[Runner], table: Path, **_: Any) -> dict[str, Timed]:
        self.races += 1
        return {runner.name: _timed(place, runner.name) for place, runner in enumerate(runners)}


def _timed(place: int, name: str) -> Timed:
    times = 2.0 * ("pruned" in name) + 1.0 * ("int8" in name) + 0.5
    faster = None if not place else Faster(times, 0.9 * times, 1.1 * times)
    parts = {"read": 1.0, "prepare": 1.0, "model": 8.0 / times, "post": 0.1}
    return Timed(parts, [10.0 / times] * 5, 100.0, 100.0, faster, faster)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(import_module("medrail.slim.judge"), "race", found)  # the function has the module's name
    return found


def slim(run: Run, capsys: pytest.CaptureFixture[str], *words: str, margin: str = "0.9") -> tuple[int, dict[str, Any]]:
    """Exit code and the JSON object. No Brier score of 4 patients gets worse by 0.9, and none stays as it was."""
    sets = [word for entry in SETS for word in ("--set", entry)]
    ratios = ["--ratio", "0", "--ratio", "0.5"]
    code = cli.main(
        ["slim", str(run.folder), "--metric", "brier", "--margin", margin, *ratios, *sets, "--json", *words]
    )
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_what_is_accepted_becomes_a_run_like_any_other(pictures, clock, capsys) -> None:
    run, workspace = pictures.run, pictures.project.workspace
    code, found = slim(run, capsys)
    assert code == 0
    assert found["accepted"]
    assert found["chosen"] == "pruned-50-onnxruntime-int8"
    assert {one["name"] for one in found["candidates"]} == {
        "whole-onnxruntime-int8",
        "pruned-50-onnxruntime-fp32",
        "pruned-50-onnxruntime-int8",
    }
    assert [one["kind"] for one in found["beside"]] == ["base", "eager", "unstructured"]
    slimmed = workspace.run(found["result"])
    assert slimmed.name == f"{run.name}-slim"
    passport = read_json(slimmed.passport)
    assert passport["parent"]["run"] == run.name
    assert passport["slim"]["judged"]["of"] == run.name
    assert (slimmed.evaluation / "evaluation.json").is_file()
    assert read_json(slimmed.network.with_name("network.json"))["engine"]["precision"] == "int8"
    assert workspace.newest_run() == slimmed

    made = {path: path.stat().st_mtime_ns for path in workspace.runs.rglob("network.onnx")}
    again_code, again = slim(run, capsys)
    assert (again_code, again["sentence"], clock.races) == (0, found["sentence"], 1)
    assert again["confirmed"]["looks"] == 1
    assert {path: path.stat().st_mtime_ns for path in workspace.runs.rglob("network.onnx")} == made

    assert cli.main(["slim", str(slimmed.folder)]) == 1
    assert f"Slim {run.name} with other settings" in capsys.readouterr().err
    assert cli.main(["export", str(slimmed.folder), "--json"]) == 0
    bundle = Path(json.loads(capsys.readouterr().out)["bundle"])
    assert bundle.name == "1-slim"
    assert str(load_bundle(bundle, 1).taken) == "onnxruntime int8: as its judge chose"
    assert cli.main(["compare", str(run.folder), str(slimmed.folder), "--metric", "accuracy"]) == 0


@pytest.mark.slow
def test_where_none_passes_or_the_test_says_no_nothing_changes(pictures, clock, capsys, monkeypatch) -> None:
    run, workspace = pictures.run, pictures.project.workspace
    code, found = slim(run, capsys, margin="1e-6")
    assert (code, found["accepted"], found["chosen"]) == (1, False, None)
    assert "non-inferior at 1e-06 on 4 validation patients" in found["sentence"]
    assert not workspace.run(f"{run.name}-slim").folder.exists()

    ask = slimming._on_test
    monkeypatch.setattr(slimming, "_on_test", lambda *given: replace(ask(*given), passed=False))
    code, found = slim(run, capsys)
    assert (code, found["accepted"]) == (1, False)
    assert found["sentence"].startswith("nothing is changed: the test cases do not confirm 50% pruned")
    assert [path.name for path in workspace.runs.iterdir() if not path.name.startswith(".")] == [run.name]
    assert clock.races == 1, "the same networks on the same cases"

    monkeypatch.setattr(slimming, "_on_test", None)  # the test cases are not asked again
    code, found = slim(run, capsys)
    assert (code, found["confirmed"]["looks"]) == (1, 1)
    assert len(read_json(run.folder / "slim-looks.json")) == 1, "beside the candidates, which may be deleted"


@pytest.mark.slow
@pytest.mark.parametrize("any_run", ["segmentation"], indirect=True)
def test_masks_are_judged_and_timed(any_run, capsys) -> None:
    """With the real clock, and validation cases of one patient: nobody can be accepted, and it says why."""
    run = any_run.run
    sets = [
        word
        for entry in (*SETS, "slim.timed_rounds=5", "slim.timed_cases=1", "slim.precisions=[fp32]")
        for word in ("--set", entry)
    ]
    assert cli.main(["slim", str(run.folder), "--ratio", "0.5", "--json", *sets]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "dice"
    assert "fewer than two patients" in found["sentence"]
    (candidate,) = found["candidates"]
    assert candidate["latency_ms"] > 0
    assert candidate["timed"]["parts_ms"]["model"] > 0
    assert not (run.folder / "evaluation" / "predictions").exists()


def test_a_run_of_that_name_is_not_overwritten(pictures, capsys) -> None:
    other = pictures.project.workspace.run(f"{pictures.run.name}-slim")
    other.folder.mkdir()
    assert cli.main(["slim", str(pictures.run.folder)]) == 1
    assert "not made by slimming this one" in capsys.readouterr().err
    assert list(other.folder.iterdir()) == []
