"""What lies at bundles/NAME/VERSION: a bundle of another run is not replaced unless that is said."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medrail.bundle import InputKind, Manifest, NetworkSpec
from medrail.config import Config, parse
from medrail.errors import RunError
from medrail.stages import Project, keeping_both
from medrail.stages.exporting import bundle_there, replaced
from medrail.workspace import Workspace
from small_bundles import classifier_network, write_bundle

CONFIG = {
    "name": "shade",
    "task": "classification",
    "data": {"kind": "class_folders", "path": "data"},
    "model": {"name": "tiny_cnn", "dims": 2},
}
SPEC = NetworkSpec("classification", ("dark", "light"), 2, 3, (), InputKind(True, 3, "uint8"))


def project(root: Path, **export: Any) -> Project:
    return Project(config(**export), Workspace(root))


def config(**export: Any) -> Config:
    return parse({**CONFIG, "export": export})


def lay(root: Path, version: str = "1", **provenance: Any) -> Path:
    """A bundle as a run's export leaves it."""
    folder = write_bundle(root / "bundles", "shade", classifier_network(2), SPEC, version)
    laid = Manifest.read(folder)
    replace(laid, provenance=provenance).write(folder, tuple(laid.files))
    return folder


@pytest.mark.parametrize(
    ("provenance", "of"),
    [
        ({"run": "shade-001"}, "the run shade-001"),
        ({"run": "shade-folds-001", "ensemble": {}}, "the group shade-folds-001"),
        ({}, "a network that was imported"),
    ],
)
def test_a_bundle_of_another_run_is_named_and_both_ways_out_work(
    tmp_path: Path, provenance: dict[str, Any], of: str
) -> None:
    there, wanted = lay(tmp_path, **provenance), tmp_path / "runs" / "shade 002"
    with pytest.raises(RunError, match=f"is of {of}, and this is shade 002") as caught:
        bundle_there(config(), Workspace(tmp_path), wanted, replace=False)
    assert caught.value.where == str(there)
    keeping, replacing = (shlex.split(part) for part in caught.value.remedy.split("`")[1::2])
    assert keeping == ["medrail", "export", str(wanted), "--set", "export.version=2"]
    assert replacing == ["medrail", "export", str(wanted), "--replace"]
    assert bundle_there(config(version="2"), Workspace(tmp_path), wanted, replace=False) is None
    found = bundle_there(config(), Workspace(tmp_path), wanted, replace=True)
    assert found
    assert of in replaced(found, Manifest.read(lay(tmp_path, "9", run="shade 002")))[0]
    assert keeping_both(project(tmp_path), wanted) == ("export.version=2",)


def test_a_bundle_of_the_same_run_gives_way(tmp_path: Path) -> None:
    lay(tmp_path, run="shade-001")
    run = tmp_path / "runs" / "shade-001"
    assert bundle_there(config(), Workspace(tmp_path), run, replace=False)
    assert keeping_both(project(tmp_path), run) == ()


def test_a_version_that_is_taken_is_not_proposed(tmp_path: Path) -> None:
    for version in ("1", "2", "3", "1-slim"):
        lay(tmp_path, version, run="shade-001")
    other = tmp_path / "runs" / "shade-002"
    assert keeping_both(project(tmp_path), other) == ("export.version=4",)
    assert keeping_both(project(tmp_path, version="1-slim"), other) == ("export.version=1-slim-2",)


def test_a_version_that_is_a_whole_number_needs_no_quotes() -> None:
    assert config(version=2).export.version == "2"
