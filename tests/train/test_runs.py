"""Which folder a training takes: two processes at once, killed ones, and what is written down of each start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medrail.cases import read_table
from medrail.errors import RunError
from medrail.train import passport, train
from medrail.workspace import read_json

SCRIPT = """
import json, sys, time
from pathlib import Path
from medrail.cases import build_cases
from medrail.config import parse
from medrail.train import loop
from medrail.workspace import Workspace

config, workspace = parse(json.loads(sys.argv[1])), Workspace(Path(sys.argv[2]))
here, go = Path(sys.argv[3]), Path(sys.argv[4])
load = loop.load_samples

def wait():
    here.touch()
    while not go.exists():
        time.sleep(0.01)

def slowly(*arguments, **others):  # between choosing a folder and writing into it
    time.sleep(0.5)
    return load(*arguments, **others)

loop.load_samples = slowly
if sys.argv[5] == "before":
    wait()
loop.train(config, workspace, build_cases(config, workspace),
           progress=lambda done, total, note="": wait() if sys.argv[5] == "within" and done == 2 else None)
"""


def start(project: Any, here: Path, go: Path, when: str) -> subprocess.Popen[bytes]:
    arguments = [json.dumps(project.config.to_dict()), str(project.workspace.root), str(here), str(go), when]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stderr=subprocess.PIPE)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.01)


def test_two_processes_with_other_settings_at_the_same_time_make_two_runs(pictures: Any, tmp_path: Path) -> None:
    go, projects = tmp_path / "go", [pictures.with_settings(lr=lr, epochs=2) for lr in (1e-3, 2e-3)]
    processes = [start(project, tmp_path / f"here{n}", go, "before") for n, project in enumerate(projects)]
    for number, process in enumerate(processes):
        wait_for(tmp_path / f"here{number}", process)
    go.touch()
    for process in processes:
        assert process.communicate(timeout=120)[1] == b""
        assert process.returncode == 0
    runs = [pictures.workspace.run(name) for name in ("small-001", "small-002")]
    passports = [read_json(run.passport) for run in runs]
    assert all(one["finished"] for one in passports)
    assert passports[0]["fingerprint"] != passports[1]["fingerprint"]
    assert sorted(path.name for path in pictures.workspace.runs.iterdir()) == ["small-001", "small-002"]


def test_a_second_process_on_the_same_run_is_told_and_a_killed_ones_lock_is_taken_over(
    pictures: Any, tmp_path: Path
) -> None:
    process = start(pictures, tmp_path / "here", tmp_path / "go", "within")
    try:
        wait_for(tmp_path / "here", process)
        with pytest.raises(RunError, match=rf"small-001: another process \(number {process.pid}\).*--run NAME"):
            train(pictures.config, pictures.workspace, pictures.cases)
        beside = train(pictures.config, pictures.workspace, pictures.cases, run_name="beside")
        assert read_json(beside.passport)["finished"]
    finally:
        process.kill()
        process.communicate()
    killed = pictures.workspace.run("small-001")
    assert killed.lock.is_file()
    beside.folder.rename(tmp_path / "away")
    assert train(pictures.config, pictures.workspace, pictures.cases) == killed
    assert read_json(killed.passport)["resumed"] == 1
    assert not killed.lock.exists()


def test_a_process_that_has_no_passport_yet_is_known_by_its_lock(pictures: Any) -> None:
    from medrail.train import loop

    def in_the_meantime(*_: Any) -> Any:
        with pytest.raises(RunError, match="another process"):
            train(pictures.config, pictures.workspace, pictures.cases)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "load_samples", in_the_meantime)
        with pytest.raises(KeyboardInterrupt):
            train(pictures.config, pictures.workspace, pictures.cases)
    assert list(pictures.workspace.runs.iterdir()) == [], "of a run that could not begin nothing is left"


def test_what_killed_processes_left_in_the_runs_is_removed(pictures: Any) -> None:
    run = train(pictures.config, pictures.workspace, pictures.cases)
    left = [run.folder / ".passport.json.abc_1234", run.checkpoints / ".last.pt.abc_1234"]
    export = run.folder / ".export.abc_1234"
    fresh, own = run.folder / ".network.json.abc_1234", run.folder / ".mine"
    export.mkdir()
    (export / "network.onnx").touch()
    for path in (*left, fresh, own):
        path.write_text("half")
    for path in (*left, own, export):
        os.utime(path, (0, 0))
    train(pictures.with_settings(lr=1e-3).config, pictures.workspace, pictures.cases)
    assert not any(path.exists() for path in (*left, export))
    assert fresh.exists(), "somebody may be writing it"
    assert own.exists(), "not ours"


def test_each_later_session_is_recorded_with_what_differs(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    for packages in (passport.PACKAGES, passport.PACKAGES, (*passport.PACKAGES, "pytest")):
        monkeypatch.setattr(passport, "PACKAGES", packages)
        with pytest.raises(KeyboardInterrupt):
            train(pictures.config, pictures.workspace, pictures.cases, progress=stop)
    run = train(pictures.config, pictures.workspace, pictures.cases)
    written = read_json(run.passport)
    assert "pytest" not in written["packages"]
    assert {"onnx", "onnxruntime", "onnxscript"} <= written["packages"].keys()
    first, second, third = written["sessions"]
    assert first.keys() == third.keys() == {"when"}
    assert second.keys() == {"when", "packages"}
    assert second["packages"]["pytest"]
    assert written["resumed"] == 3


def test_the_run_records_all_cases_with_their_splits(pictures: Any) -> None:
    trained = [case for case in pictures.cases if case.split != "test"]
    run = train(pictures.config, pictures.workspace, trained, table=pictures.cases)
    assert read_table(run.case_table) == pictures.cases
    assert read_json(run.images)["sha256"].keys() == {case.id for case in pictures.cases}


def test_notes_of_progress_count_epochs_from_one(pictures: Any) -> None:
    notes: list[str] = []
    train(pictures.config, pictures.workspace, pictures.cases, progress=lambda done, total, note="": notes.append(note))
    heads = [note.partition(":")[0] for note in notes]
    expected = [f"epoch {number} of 4" for number in (1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4)]
    assert heads == expected
    assert "train_loss" in notes[-1]
