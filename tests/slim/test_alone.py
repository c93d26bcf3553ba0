"""One process slims a run at a time, and the candidates' own trainings are not kept out by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from medrail.config import parse
from medrail.errors import RunError
from medrail.stages.slimming import _alone
from medrail.train.runs import claim
from medrail.workspace import Run, Workspace


def test_a_candidate_is_trained_while_its_run_is_being_slimmed(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "some-001")
    run.folder.mkdir(parents=True)
    data = {"kind": "csv", "path": "table.csv", "classes": ["a", "b"]}
    config = parse({"task": "classification", "data": data, "model": {"name": "tiny_cnn", "dims": 2}})
    inside = Workspace(tmp_path, f"runs/{run.name}/{run.slim.name}")
    with _alone(run), claim(config, inside, "fingerprint", ".slim-pruned-50.1") as place:
        assert place.run.folder.parent == run.slim


def test_a_second_process_is_told_who_slims(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with _alone(run), pytest.raises(RunError, match="is slimming it"), _alone(run):
        pass
