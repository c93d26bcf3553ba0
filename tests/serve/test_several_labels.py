"""Several labels an image: what is served is what was evaluated, case by case, of a network that was trained for it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from medrail.evaluate import evaluate
from medrail.export import export_bundle, export_network
from medrail.train import train
from shapes import SHAPES, shapes_project


def test_served_findings_are_the_evaluated_ones(start, tmp_path: Path) -> None:
    made = shapes_project(tmp_path, epochs=3)
    run = train(made.config, made.workspace, made.cases)
    export_network(run, made.config, made.workspace, made.cases)
    assert evaluate(run, made.config, made.cases).failed == ()
    service = start(export_bundle(run, made.config, made.workspace, made.cases))
    with (run.evaluation / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    different = set()
    for case in [case for case in made.cases if case.id in rows]:
        response = service.predict(Path(case.paths[0]).read_bytes())
        assert response.status_code == 200, response.text
        answer = response.json()
        evaluated = {name: float(rows[case.id][f"p/{name}"]) for name in SHAPES}
        assert answer["probabilities"] == pytest.approx(evaluated, abs=2e-6)
        assert "|".join(answer["findings"]) == rows[case.id]["predicted"]
        assert answer["class_name"] is None
        different.add(rows[case.id]["p/disc"])
    assert len(different) == len(rows) > 0, "every case has its own answer"
