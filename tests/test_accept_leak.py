"""A leaked split is refused by name; accepted, every result says so, from the printed line to the served card."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medrail import cli
from medrail.bundle import Manifest
from medrail.stages import evaluate_run, open_project, open_run, prepare_cases, train_run
from medrail.workspace import find_bundle, read_json

CONFIG = """\
name: shade
task: classification
data: {kind: csv, path: table.csv, classes: [dark, light]}
split: {by: given}
prepare:
  workers: 1
  steps:
    - {kind: resize, size: [16, 16]}
    - {kind: normalise, method: custom, mean: [128], std: [64]}
model: {name: tiny_cnn, dims: 2, channels: 1}
train: {epochs: 1, batch_size: 8, threads: 1, track: false}
evaluate: {resamples: 200}
"""
PATIENT = "SECRETPATIENT"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """24 pictures; a test picture is a copy of a training one, and one patient is in train and test."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "project"
    folder.mkdir()
    rows = ["path,label,patient,split,centre"]
    for number in range(24):
        label = ("dark", "light")[number % 2]
        pixels = rng.integers(0, 90, (40, 48), dtype=np.uint8) + np.uint8(150 * (number % 2))
        Picture.fromarray(pixels).save(folder / f"{number}.png")
        patient = PATIENT if number in (0, 18) else f"p{number}"
        split = "train" if number < 12 else "val" if number < 16 else "test"
        rows.append(f"{number}.png,{label},{patient},{split},{'north' if number % 4 < 2 else 'south'}")
    shutil.copy(folder / "3.png", folder / "21.png")
    (folder / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "medrail.yaml").write_text(CONFIG, encoding="utf-8")
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_a_leaked_split_is_judged_only_when_told_to_and_every_result_says_so(project, capsys):
    code, out, err = told(capsys, "run", str(project))
    assert code == 1
    assert "--accept-leak" in err
    assert PATIENT not in out + err
    assert not (project / "runs").exists()

    code, out, err = told(capsys, "run", str(project), "--accept-leak")
    assert code == 0, err
    said = "LEAK ACCEPTED: 1 exact, 0 near, 1 patient; 2 of 8 cases were seen in training"
    assert "stop (LEAK ACCEPTED)" in out
    assert out.count(said) >= 4, "in the summaries and the warnings of evaluate and export, and behind the metrics"
    assert PATIENT not in out + err

    (run,) = (project / "runs").iterdir()
    evaluation = read_json(run / "evaluation" / "evaluation.json")
    accepted = evaluation["accepted_leaks"]
    assert {name: accepted[name] for name in ("exact", "near", "patient", "cases", "judged")} == {
        "exact": 1,
        "near": 0,
        "patient": 1,
        "cases": 2,
        "judged": 8,
    }
    assert [(group["kind"], len(group["group"]), group["splits"]) for group in accepted["groups"]] == [
        ("exact", 2, ["train", "test"]),
        ("patient", 2, ["train", "test"]),
    ]
    assert all(said in metric["method"] for metric in evaluation["metrics"].values())
    rows = list(csv.DictReader(io.StringIO((run / "evaluation" / "cases.csv").read_text(encoding="utf-8"))))
    assert {row["id"]: row["leaked"] for row in rows if row["leaked"]} == {"21": "exact", "18": "patient"}
    assert {row["centre"] for row in rows} == {"north", "south"}
    strata = evaluation["strata"]
    assert {name: {value: one["accuracy"]["n"] for value, one in found.items()} for name, found in strata.items()} == {
        "leaked": {"no": 6, "yes": 2},
        "centre": {"north": 4, "south": 4},
    }
    assert said not in strata["leaked"]["no"]["accuracy"]["method"]
    assert said in strata["centre"]["north"]["accuracy"]["method"]
    assert "centre: north" in out

    bundle = find_bundle(project)
    manifest = Manifest.read(bundle)
    assert manifest.provenance["evaluation"]["accepted_leaks"]["cases"] == 2
    assert all(said in metric["method"] for metric in manifest.metrics.values())
    card = (bundle / "card.md").read_text(encoding="utf-8")
    assert f"**{said}.**" in card
    assert "No patient is in two splits" not in card
    assert PATIENT not in card + (bundle / "bundle.json").read_text(encoding="utf-8")

    assert told(capsys, "run", str(project), "--accept-leak")[1].count("up to date") >= 4
    for verb in ("evaluate", "export"):
        code, out, err = told(capsys, verb, str(project))
        assert code == 1
        assert "more than one split" in err
        assert told(capsys, verb, str(project), "--accept-leak")[0] == 0


def test_leaks_that_only_the_pixels_show_are_refused_too(project):
    """No patient is divided here, and no file is another's copy: the same pixels are stored in another format."""
    table = (project / "table.csv").read_text(encoding="utf-8").replace(PATIENT, "", 1).replace("21.png", "21.bmp")
    (project / "table.csv").write_text(table, encoding="utf-8")
    Picture.open(project / "3.png").save(project / "21.bmp")
    opened = open_project(project)
    prepare_cases(opened)
    run, _ = train_run(opened)
    with pytest.raises(Exception, match=r"1 of 8 cases .* 21 \(its image is that of 3\)") as caught:
        evaluate_run(*open_run(project))
    assert type(caught.value).__name__ == "LeakError"
    result = evaluate_run(*open_run(run.folder, accept_leak=True))
    assert result.values["accepted_leaks"]["exact"] == 1
    assert "LEAK ACCEPTED: 1 exact" in result.summary
    assert "LEAK ACCEPTED" not in json.dumps(evaluate_run_on_val(project))


def evaluate_run_on_val(project: Path) -> dict[str, object]:
    """Nothing is shared by train and val, so the same run is judged there without a word."""
    return dict(evaluate_run(*open_run(project, ["evaluate.split=val"])).values)


def test_without_leaks_nothing_is_said_and_the_flag_changes_nothing(project, capsys):
    table = (project / "table.csv").read_text(encoding="utf-8").replace(PATIENT, "q", 1)
    (project / "table.csv").write_text(table, encoding="utf-8")
    Picture.fromarray(np.random.default_rng(9).integers(150, 250, (40, 48), dtype=np.uint8)).save(project / "21.png")
    code, out, _ = told(capsys, "run", str(project), "--accept-leak")
    assert code == 0
    assert "LEAK" not in out
    evaluation = read_json(next((project / "runs").iterdir()) / "evaluation" / "evaluation.json")
    assert evaluation["accepted_leaks"] == {}
    assert "leaked" not in evaluation["strata"]
    code, out, _ = told(capsys, "run", str(project))
    assert code == 0
    assert out.count("up to date") >= 4
