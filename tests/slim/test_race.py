"""The race: processes in turns, without torch, and an error that names who does not answer."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from medrail.bundle import InputKind, NetworkSpec, load_network, stopwatch, write_network
from medrail.cases import write_table
from medrail.errors import RunError
from medrail.slim.race import Runner, race
from medrail.types import Case
from medrail.workspace import Run
from small_bundles import evidence_network

STEPS = ({"kind": "normalise", "method": "zscore"},)
SPEC = NetworkSpec("classification", ("a", "b"), 2, 1, STEPS, InputKind(True, 1, "uint8"))


@pytest.fixture
def served(tmp_path: Path) -> tuple[Run, Path]:
    """A run's folder with a network, and a table of three pictures."""
    folder = tmp_path / "runs" / "model-001"
    folder.mkdir(parents=True)
    (folder / "network.onnx").write_bytes(evidence_network())
    write_network(folder, SPEC, {"cases": 0})
    cases = []
    for number in range(3):
        path = tmp_path / f"p{number}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (16, 20), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(path)
        cases.append(Case(f"p{number}", f"p{number}", (str(path),), "a", "val"))
    write_table(cases, tmp_path / "timed.csv", tmp_path)
    return Run(folder), tmp_path / "timed.csv"


def test_everyone_is_timed_in_every_round(served) -> None:
    run, table = served
    told: list[tuple[int, int]] = []
    runners = [Runner("base", run), Runner("same", run)]
    found = race(runners, table, threads=1, rounds=5, progress=lambda done, total, note="": told.append((done, total)))
    assert list(found) == ["base", "same"]
    for one in found.values():
        assert len(one.rounds_ms) == 5
        assert set(one.parts_ms) == set(stopwatch.PARTS)
        assert one.latency_ms > 0
        assert one.cases_per_s > 0
        assert not one.memory_mb < 10
    assert found["base"].faster is None
    assert found["same"].faster is not None
    assert told[-1] == (10, 10)


def test_the_stopwatch_does_what_each_line_asks(served) -> None:
    run, table = served
    from medrail.cases import read_table

    answers = io.StringIO()
    orders = io.StringIO("one\nmany\nmemory\n")
    stopwatch.serve(lambda: load_network(run.folder, threads=1), read_table(table), orders, answers)
    ready, one, many, memory = map(json.loads, answers.getvalue().splitlines())
    assert ready["ready"]
    assert all(one[part] >= 0 for part in stopwatch.PARTS)
    assert many["cases_per_s"] > 0
    assert memory.keys() == {"peak_mb", "now_mb"}


def test_the_stopwatch_has_no_torch_in_its_memory() -> None:
    code = "import medrail.bundle.stopwatch, sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "numpy" in loaded
    assert not loaded & {"torch", "monai", "lightning_fabric"}


def test_who_does_not_answer_is_named_with_the_reason(served) -> None:
    run, table = served
    run.network.write_bytes(b"not a network")
    with pytest.raises(RunError, match="broken does not answer"):
        race([Runner("broken", run)], table, threads=1, rounds=5)


def test_one_that_does_not_answer_is_lost_and_the_others_are_timed(served, tmp_path: Path) -> None:
    run, table = served
    broken = Run(tmp_path / "runs" / "broken")
    shutil.copytree(run.folder, broken.folder)
    broken.network.write_bytes(b"not a network")
    lost: dict[str, RunError] = {}
    runners = [Runner("base", run), Runner("broken", broken), Runner("same", run)]
    found = race(runners, table, threads=1, rounds=5, lost=lost)
    assert list(found) == ["base", "same"]
    assert len(found["same"].rounds_ms) == 5
    assert list(lost) == ["broken"]
    assert "broken does not answer" in lost["broken"].found
    with pytest.raises(RunError, match="base does not answer"):
        race([Runner("base", broken), Runner("same", run)], table, threads=1, rounds=5, lost=lost)
