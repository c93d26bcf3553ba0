"""Several labels a case, where several evaluations come together: folds, other data, comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medrail import cli
from medrail.stages import (
    evaluate_external,
    evaluate_group,
    export_group,
    open_project,
    open_run,
    prepare_cases,
    train_group,
)
from medrail.workspace import read_json
from shapes import write_shapes

CONFIG = """\
name: shapes
task: classification
data: {kind: csv, path: ../data/table.csv, multi_label: true, classes: [disc, square]}
split: {val: 0.2, test: 0.2}
prepare:
  workers: 1
  steps:
    - {kind: normalise, method: custom, mean: [110], std: [50]}
model: {name: tiny_cnn, dims: 2, channels: 1}
train: {epochs: 2, lr: 0.01, batch_size: 8, threads: 1, device: cpu, track: false}
evaluate: {resamples: 200}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("several")
    write_shapes(root / "data")
    other = write_shapes(root / "other", patients=10)
    other.write_text(other.read_text().replace("disc", "Disc"))
    for name, text in (("project", CONFIG), ("hospital", CONFIG.replace("../data", "../other"))):
        (root / name).mkdir()
        (root / name / "medrail.yaml").write_text(text.replace("[disc", "[Disc") if name == "hospital" else text)
    return root


def test_folds_are_pooled_exported_and_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = open_project(folder / "project")
    prepare_cases(project)
    group, _ = train_group(project, "folds", 2)
    values = evaluate_group(group.folder).values
    assert values["multi_label"] is True
    assert values["n"] == 80
    assert {"auc", "auc/disc", "subset_accuracy"} <= set(values["metrics"])
    assert "within each of 2 folds" in values["metrics"]["auc/disc"]["method"]
    assert export_group(group.folder).values["bundle"]
    assert cli.main(["compare", str(group.folder), "--published", "auc=0.9,low=0.8,high=1", "--json"]) == 0
    assert not [one for one in json.loads(capsys.readouterr().out)["warnings"] if "cases.csv" in one]


def test_two_runs_are_judged_and_compared_on_other_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = open_project(folder / "project")
    prepare_cases(project)
    group, _ = train_group(project, "seeds", 2)
    for run in group.runs:
        opened, _ = open_run(run.folder, accept_leak=True)
        result = evaluate_external(opened, run, folder / "hospital")
        assert result.values["external"]["n"] == 20
        assert result.values["external"]["multi_label"] is True
        assert "auc/disc" in result.values["drops"]
        assert len(read_json(run.folder / "external" / "hospital" / "images.json")["sha256"]) == 20
    places = [str(run.folder / "external" / "hospital") for run in group.runs]
    assert cli.main(["compare", *places, "--metric", "auc/disc", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["run"] for one in found["runs"]] == [f"{run.name}/hospital" for run in group.runs]
    assert found["n"] == 20
    single, run = folder / "single", group.runs[0]
    single.mkdir()
    text = CONFIG.replace("multi_label: true, ", "").replace("../data/table", "../data/single")
    (single / "medrail.yaml").write_text(text)
    rows = (folder / "data" / "table.csv").read_text().splitlines()
    kept = [row for row in rows[1:] if row.endswith((",disc", ",square"))]
    (folder / "data" / "single.csv").write_text("\n".join(["path,patient,label", *kept]) + "\n")
    opened, _ = open_run(run.folder, accept_leak=True)
    assert evaluate_external(opened, run, single).values["external"]["n"] == len(kept)
