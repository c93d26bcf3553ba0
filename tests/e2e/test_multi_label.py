"""Several labels an image, the whole way: `init` on a table, check, prepare, train, evaluate, export, predict."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrail.bundle import load_bundle
from medrail.bundle.evidence import EXACT_OF_LABEL
from medrail.cli import main
from medrail.evaluate import evaluate
from medrail.export import export_bundle, export_network
from medrail.predict import find_inputs, predict_files
from medrail.read import read
from medrail.train import train
from medrail.workspace import find_bundle, read_json
from shapes import SHAPES, shapes_project, write_shapes


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small project, trained, exported, evaluated, put into a bundle."""
    made = shapes_project(tmp_path_factory.mktemp("shapes"))
    run = train(made.config, made.workspace, made.cases)
    export_network(run, made.config, made.workspace, made.cases)
    evaluation = evaluate(run, made.config, made.cases)
    folder = export_bundle(run, made.config, made.workspace, made.cases)
    return made, run, evaluation, folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_label_is_judged_by_itself(project: Any) -> None:
    made, run, evaluation, _ = project
    assert evaluation.failed == ()
    assert evaluation.confusion == ()
    assert next(iter(evaluation.metrics)) == "auc"
    assert evaluation.metrics["auc"].value > 0.9
    assert {
        f"{name}/{label}" for name in ("auc", "auprc", "sensitivity", "specificity", "f1") for label in SHAPES
    } <= set(evaluation.metrics)
    rows = rows_of(run.evaluation / "cases.csv")
    truth = {case.id: case.target for case in made.cases if case.split == "test"}
    assert {row["id"]: row["truth"] for row in rows} == truth
    for row in rows:
        found = [name for name in SHAPES if float(row[f"p/{name}"]) >= 0.5]
        assert row["predicted"] == "|".join(found)
        assert row["correct"] == str(int(row["predicted"] == row["truth"]))
    right = np.mean([row["correct"] == "1" for row in rows])
    assert evaluation.metrics["subset_accuracy"].value == pytest.approx(right)


def test_the_bundle_says_what_it_is(project: Any) -> None:
    *_, folder = project
    manifest, card = read_json(folder / "bundle.json"), (folder / "card.md").read_text(encoding="utf-8")
    assert manifest["spec"]["multi_label"] is True
    assert manifest["parity"]["metric"] == "label_accuracy"
    assert "which of 2 findings an image has: none, one or several" in card
    assert "auc/square" in card


def test_what_is_predicted_is_what_was_evaluated(project: Any, tmp_path: Path) -> None:
    made, run, _, folder = project
    rows = {row["id"]: row for row in rows_of(run.evaluation / "cases.csv")}
    cases = [case for case in made.cases if case.id in rows]
    predictor = load_bundle(folder, 1, "onnxruntime")
    answers = predict_files(predictor, find_inputs([case.paths[0] for case in cases]), tmp_path, overlays=False)
    for case, answer, told in zip(cases, answers, rows_of(tmp_path / "predictions.csv"), strict=True):
        evaluated = {name: float(rows[case.id][f"p/{name}"]) for name in SHAPES}
        assert answer.prediction is not None
        assert dict(answer.prediction.probabilities) == pytest.approx(evaluated, abs=2e-6)
        assert told["findings"] == rows[case.id]["predicted"]


def test_the_evidence_shown_is_that_of_the_most_probable_label(project: Any) -> None:
    made, *_, folder = project
    predictor = load_bundle(folder, threads=1)
    case = next(case for case in made.cases if case.target == "square")
    prediction = predictor(read(case.paths[0], "", made.config.read_options), evidence=True)
    assert prediction.evidence is not None
    assert prediction.evidence.class_name == max(
        prediction.probabilities, key=lambda name: prediction.probabilities[name]
    )
    assert prediction.evidence.method == EXACT_OF_LABEL


@pytest.mark.slow
@pytest.mark.parametrize("form", ["names", "columns"])
def test_what_init_writes_runs_as_it_is(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = write_shapes(tmp_path / "data")
    if form == "columns":
        rows = rows_of(table)
        lines = [
            f"{r['path']},{r['patient']},{int('disc' in r['labels'])},{int('square' in r['labels'])}" for r in rows
        ]
        table.write_text("\n".join(["path,patient,disc,square", *lines]) + "\n", encoding="utf-8")
    sets = ("train.epochs=2", "train.track=false", "train.threads=1", "evaluate.resamples=200")
    quick = [word for entry in sets for word in ("--set", entry)]

    def ask(*words: str) -> dict[str, Any]:
        code = main([*words, "--json"])
        assert code == 0, capsys.readouterr().err
        return dict(json.loads(capsys.readouterr().out))

    planned = ask("init", "project", "--data", "data")
    assert any("with several (data.multi_label" in sentence for sentence in planned["inferred"])
    checked = ask("check", "project")
    assert checked["labels"]["none"] > 0
    assert checked["labels"]["together"] == [{"labels": ["disc", "square"], "cases": 14}]
    made = ask("run", "project", *quick)
    assert "auc/disc" in made["stages"]["evaluate"]["metrics"]
    bundle = find_bundle(tmp_path / "project")
    assert load_bundle(bundle, threads=1)(read(tmp_path / "data" / "s000.png")).findings is not None
