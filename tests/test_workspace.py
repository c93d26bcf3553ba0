"""Files are written whole or not at all, and a project's newest things are found."""

from __future__ import annotations

import os

import pytest

from medrail.errors import BundleError, RunError
from medrail.workspace import Run, Workspace, find_bundle, read_json, write_json, write_text


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_broken_json_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"a\.json"):
        read_json(path)
    with pytest.raises(RunError, match="no such file"):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize("project", ["x", "tune", "runs"])
def test_a_run_and_a_trial_know_their_project(tmp_path, project):
    workspace = Workspace(tmp_path / project)
    assert workspace.run("m-001").workspace == workspace
    trial = Workspace(workspace.root, "tune/study").run("trial-0001")
    assert trial.folder == workspace.study("study") / "trial-0001"
    assert trial.workspace.root == workspace.root
    assert trial.workspace.run("trial-0001") == trial


def test_the_newest_run_and_bundle_are_found(tmp_path):
    workspace = Workspace(tmp_path)
    with pytest.raises(RunError, match="medrail train"):
        workspace.newest_run()
    with pytest.raises(BundleError, match="medrail export"):
        find_bundle(tmp_path)
    for age, name in enumerate(["m-002", "m-001"]):
        for file in (workspace.runs / name / "passport.json", workspace.bundles / name / "1" / "bundle.json"):
            write_text(file, "{}")
            os.utime(file, (1000 + age, 1000 + age))
        write_text(workspace.runs / name / "config.yaml", "")
    assert workspace.newest_run().name == "m-001"
    assert workspace.newest_run().workspace.root == tmp_path.resolve()
    newest = workspace.bundles / "m-001" / "1"
    for hidden in (workspace.bundles / "m-001" / ".1.filling", workspace.bundles / ".m-003" / "1"):
        write_text(hidden / "bundle.json", "{}")
    for path in (tmp_path, workspace.bundles, workspace.bundles / "m-001", newest):
        assert find_bundle(path) == newest


def test_a_candidate_of_slimming_knows_its_project(tmp_path):
    run = Workspace(tmp_path).run("model-001")
    candidate = Run(run.slim / "pruned-50")
    assert candidate.workspace == Workspace(tmp_path.resolve(), "runs/model-001/slim")
    assert candidate.workspace.run("pruned-50") == Run(tmp_path.resolve() / "runs/model-001/slim/pruned-50")
    trial = Run(tmp_path / "tune" / "slim" / "trial-0001")
    assert trial.workspace == Workspace(tmp_path.resolve(), "tune/slim")
    assert Run(trial.slim / "whole-int8").workspace.runs_in == "tune/slim/trial-0001/slim"
