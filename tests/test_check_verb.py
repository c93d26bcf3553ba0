"""`medrail check` as it is typed: what it writes and where, the page, and the corrected table."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medrail import cli
from medrail.console import Console
from medrail.stages import StageResult, open_project


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
    words = shlex.split(out.partition("Next: ")[2])
    assert words[:3] == ["medrail", "run", str(project)]
    code, again = run(capsys, project, *words[3:])
    assert code == 0, "what it says to do next is a command that works"
    assert "20 cases of 10 patients" in again
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
    before = files(here)
    assert cli.main(["check", str(data), "--fix"]) == 2
    assert "-o FOLDER" in capsys.readouterr().err
    assert files(here) == before
    code, out = run(capsys, data, "--fix", "-o", "fixed")
    assert code == 0, out
    fixed = {f"fixed/{name}" for name in ("cases-fixed.csv", "cases-left-out.csv", "fix.md")}
    assert files(here) - before == {*fixed, "fixed/check.json", "fixed/check.html"}
    words = shlex.split(out.partition("Next: ")[2])
    assert words == ["medrail", "init", "my-project", "--data", "fixed/cases-fixed.csv"]
    assert cli.main(words[1:]) == 0
    assert open_project("my-project").config.split.by == "given", "the splits of the table are kept"


@pytest.mark.parametrize("words", [(), ("--fix",)])
@pytest.mark.parametrize("of_project", [True, False])
def test_nothing_is_written_into_the_folder_of_the_data(
    words: tuple[str, ...], of_project: bool, data: Path, project: Path, capsys: Any
) -> None:
    before = files(data)
    assert cli.main(["check", str(project if of_project else data), "-o", str(data / "report"), *words]) == 2
    assert "never writes beside the original images" in capsys.readouterr().err
    assert files(data) == before
    assert not (data / "report").exists()


def test_a_project_inside_the_data_keeps_its_own_files(data: Path, capsys: Any) -> None:
    project = data / "project"
    project.mkdir()
    (project / "medrail.yaml").write_text(
        "task: classification\ndata: {kind: class_folders, path: .., patient_pattern: '(.+)'}\n"
        "split: {by: given}\nmodel: {name: tiny_cnn, dims: 2}\n"
    )
    assert run(capsys, project, "-o", project / "report")[0] == 0
    assert files(project / "report") == {"check.json", "check.html"}


def test_the_splits_of_a_bare_folder_are_judged_as_they_are(data: Path, capsys: Any) -> None:
    """`init` would draw them anew; who asks for a check wants to know whether these are clean."""
    code, out = run(capsys, data)
    assert code == 1
    assert "10 train" in out
    assert "STOP 10 x patient_leak" in out
    assert "`medrail init` would not keep them" in out
    assert "data.patient_pattern: '" in out
    code, out = run(capsys, data, "--json")
    values = json.loads(out)
    assert values["splits"] == {"train": 10, "val": 0, "test": 10}
    assert {tuple(leak["splits"]) for leak in values["leaks"]["patient"]} == {("train", "test")}
    assert len(values["assumed"]) == 2


def test_a_bare_folder_takes_overrides(data: Path, capsys: Any) -> None:
    code, out = run(capsys, data, "--set", "split.by=patient", "--json")
    values = json.loads(out)
    assert code == 0
    assert values["verdict"] == "ok"
    assert values["leaks"]["patient"] == []
    assert not any("are judged" in sentence for sentence in values["assumed"])
    every = "data.patient_pattern=(.+)"
    assert json.loads(run(capsys, data, "--set", every, "--json")[1])["leaks"]["patient"] == []
    assert cli.main(["check", str(data), "--set", "split.nothing=1"]) == 2
    error = capsys.readouterr().err
    assert "split.nothing" in error
    assert "medrail-" not in error


def test_images_without_labels_are_judged(tmp_path: Path, data: Path, capsys: Any) -> None:
    """Ten pictures in one folder, one of them twice, one cut off: no layout of a data set, but a folder to look at."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in sorted((data / "train").rglob("*.png")):
        (flat / path.name).write_bytes(path.read_bytes())
    (flat / "copy.png").write_bytes((flat / "patient0_0.png").read_bytes())
    (flat / "cut.png").write_bytes((flat / "patient1_0.png").read_bytes()[:300])
    code, out = run(capsys, flat, "--json")
    values = json.loads(out)
    assert code == 0
    assert values["verdict"] == "warn"
    assert values["cases"] == 12
    assert values["defects"]["unlabelled"] == 1
    assert values["defects"]["duplicate"] == 1
    assert values["defects"]["unreadable"] == 1
    assert "medrail-" not in out
    (one,) = (finding for finding in values["findings"] if finding["defect"] == "unlabelled")
    assert "12 images have no label or mask, of 12" in one["what"]
    assert "copy.png, cut.png, patient0_0.png and 9 more" in one["what"]


def test_a_project_without_labels_stops_and_judges_the_images(project: Path, data: Path, capsys: Any) -> None:
    rows = [f"{path}," for path in sorted(data.rglob("*.png"))]
    (project / "list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    (project / "medrail.yaml").write_text(
        "task: classification\ndata: {kind: csv, path: list.csv}\nmodel: {name: tiny_cnn, dims: 2}\n"
    )
    code, out = run(capsys, project, "--json")
    values = json.loads(out)
    assert code == 1
    assert values["cases"] == 20
    assert values["by_split"]["none"]["usable"] == 20
    stops = [finding for finding in values["findings"] if finding["severity"] == "stop"]
    assert [finding["defect"] for finding in stops] == ["unlabelled"]
    assert "Fill the column 'label'" in stops[0]["remedy"]
    assert cli.main(["check", str(project), "--fix"]) == 1
    assert "no case is left" in capsys.readouterr().err


def test_what_is_not_part_of_the_data_is_counted(data: Path, capsys: Any) -> None:
    for n in range(3):
        (data / "more" / "inside").mkdir(parents=True, exist_ok=True)
        Picture.new("L", (9, 9), n).save(data / "more" / "inside" / f"{n}.png")
    np.savez(data / "set.npz", a=np.zeros(3))
    (data / "list.csv").write_text(
        "\n".join(
            ["path,label", *(f"{path.relative_to(data)},x{path.parent.name}" for path in data.glob("t*/*/*.png"))]
        )
    )
    values = json.loads(run(capsys, data, "--json")[1])
    (left,) = (finding for finding in values["findings"] if finding["defect"] == "not_taken")
    assert left["severity"] == "warn"
    assert left["what"].startswith("4 files below it are in no case: the folder itself: 1 npz, more: 3 pictures")


def test_whatever_belongs_to_a_case_is_taken(data: Path, capsys: Any) -> None:
    assert "not_taken" not in run(capsys, data, "--json")[1]


def test_what_stops_stands_first_and_is_marked(data: Path, project: Path, capsys: Any) -> None:
    """Seventeen kinds of doubt and one reason to stop: it must be found without colour."""
    for n in range(14):
        place = data / "train" / "a" / f"patient{50 + n}_0.png"
        place.write_bytes((data / "train" / "a" / "patient0_0.png").read_bytes()[: 200 + n])
    (project / "medrail.yaml").write_text(
        "task: classification\n"
        "data: {kind: class_folders, path: ../data, patient_pattern: '(patient\\d+)', classes: [b]}\n"
        "split: {by: given}\nmodel: {name: tiny_cnn, dims: 2}\n"
    )
    code, out = run(capsys, project)
    assert code == 1
    lines = [line.strip() for line in out.splitlines()]
    stops, looks = lines.index("What stops:"), lines.index("To look at:")
    assert stops < looks
    assert all(line.startswith("STOP ") for line in lines[stops + 1 : looks])
    assert lines[looks + 1].startswith("look ")
    assert not any(line.startswith("!") for line in lines)


def test_more_findings_than_fit_say_where_they_stand(capsys: Any, tmp_path: Path) -> None:
    result = StageResult("check", "", stops=("one",), warnings=tuple(map(str, range(14))))
    page, values = tmp_path / "check.html", tmp_path / "check.json"
    Console().stage(replace(result, files=(page, values)))
    assert f"look and 4 more: see {page} and {values}" in capsys.readouterr().out
    Console().stage(result)
    assert "look and 4 more: -o DIR writes a page with all of them" in capsys.readouterr().out


def test_the_report_of_a_correction_says_what_to_clear(project: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    (project / "medrail.yaml").write_text(
        "task: classification\ndata: {kind: class_folders, path: ../data, patient_pattern: '(patient\\d+)'}\n"
        "split: {by: given}\nmodel: {name: tiny_cnn, dims: 2}\n"
    )
    assert run(capsys, project, "--fix")[0] == 0
    text = (project / "fix.md").read_text()
    assert "Clear data.patient_pattern: the table says all of it." in text
    assert "path: cases-fixed.csv" in text
    out = tmp_path / "elsewhere"
    assert run(capsys, project, "--fix", "-o", out)[0] == 0
    assert f"path: {out.as_posix()}/cases-fixed.csv" in (out / "fix.md").read_text()


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
