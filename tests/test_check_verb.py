"""`medrail check` as it is typed: what it writes and where, the page, and the corrected table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medrail import cli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten patients with two pictures each, split by picture: every patient is divided."""
    random = np.random.default_rng(0)
    for patient in range(10):
        for n, split in enumerate(("train", "test")):
            path = tmp_path / "data" / split / "ab"[patient % 2] / f"patient{patient}_{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            small = Picture.fromarray(random.integers(0, 256, (9, 9), dtype=np.uint8))
            small.resize((64, 64), Picture.Resampling.BICUBIC).save(path)
    return tmp_path / "data"


@pytest.fixture
def project(data: Path) -> Path:
    folder = data.parent / "project"
    folder.mkdir()
    (folder / "medrail.yaml").write_text(
        "task: classification\ndata: {kind: class_folders, path: ../data}\n"
        "split: {by: given}\nmodel: {name: tiny_cnn, dims: 2}\n"
    )
    return folder


def run(capsys: Any, *words: object) -> tuple[int, str]:
    code = cli.main(["check", *map(str, words)])
    return code, capsys.readouterr().out


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_divided_patients_stop_and_the_corrected_table_does_not(project: Path, data: Path, capsys: Any) -> None:
    before = files(data)
    code, out = run(capsys, project)
    assert code == 1
    assert "10 of these patients stand in more than one split" in out
    assert "set data.patient_pattern" in out
    assert {"check.json", "check.html"} <= files(project)
    code, out = run(capsys, project, "--fix")
    assert code == 0, out
    assert "to use it: data.kind: csv, data.path: cases-fixed.csv" in out
    assert files(data) == before
    (project / "medrail.yaml").write_text(
        "task: classification\ndata: {kind: csv, path: cases-fixed.csv}\n"
        "split: {by: given}\nmodel: {name: tiny_cnn, dims: 2}\n"
    )
    code, out = run(capsys, project)
    assert code == 0, out
    assert "20 cases of 10 patients: ok" in out.replace("warn", "ok")


def test_a_bare_folder_writes_only_where_it_is_told(
    data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    run(capsys, data)
    assert files(here) == set()
    run(capsys, data, "-o", "report")
    assert files(here) == {"report/check.json", "report/check.html"}
    code, out = run(capsys, data, "--fix")
    assert code == 0, out
    assert files(here) >= {"cases-fixed.csv", "cases-left-out.csv", "fix.md"}
    monkeypatch.chdir(data)
    before = files(data)
    code = cli.main(["check", str(data), "--fix"])
    assert code == 2
    assert "-o FOLDER" in capsys.readouterr().err
    assert files(data) == before


def test_json_of_a_correction_is_one_object(project: Path, capsys: Any) -> None:
    code, out = run(capsys, project, "--fix", "--json")
    values = json.loads(out)
    assert code == 0
    assert values["verdict"] == "stop"
    assert values["patient_pattern"]["divided"] == 10
    assert values["fix"]["verdict"] != "stop"
    assert set(values["fix"]) == {"table", "left_out", "joined", "moved", "verdict"}
    assert {finding["severity"] for finding in values["findings"]} <= {"warn", "stop"}


def test_the_page_of_a_folder_with_a_hostile_name(tmp_path: Path, capsys: Any) -> None:
    for n in range(6):
        path = tmp_path / "data" / "ab"[n % 2] / f"<script>alert({n})<!--.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.new("L", (40, 30 + n), 10 * n).save(path)
    run(capsys, tmp_path / "data", "-o", tmp_path / "out")
    html = (tmp_path / "out" / "check.html").read_text(encoding="utf-8")
    assert html.count("<script>") == 1
    assert "&lt;script&gt;alert(3)" in html
