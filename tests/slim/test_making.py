"""What a candidate leaves behind that could not be made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medrail.bundle import Choice
from medrail.cases import write_table
from medrail.errors import MedrailError
from medrail.slim.making import with_engine
from medrail.types import Case
from medrail.workspace import Run, Workspace


def test_an_engine_that_does_not_take_the_network_leaves_no_half_made_run(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    source, place = workspace.run("source"), workspace.run("source-openvino")
    source.checkpoints.mkdir(parents=True)
    source.best.write_bytes(b"weights")
    source.network.write_bytes(b"no network")
    source.passport.write_text("{}", encoding="utf-8")
    source.network.with_name("network.json").write_text(json.dumps({"sha256": ""}), encoding="utf-8")
    write_table([Case("one", "one", ("one.png",), split="val")], source.case_table, workspace.root)
    with pytest.raises(MedrailError):
        with_engine(source, Choice("onnxruntime", "int8"), place, workspace)
    assert [folder.name for folder in workspace.runs.iterdir()] == [Run(source.folder).name]
