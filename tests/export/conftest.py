"""Trained runs for what exports them: made once for the tests of a file, and put back before each of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medrail.evaluate import evaluate
from medrail.export import export_bundle, export_network
from trained_runs import KINDS, Trained, trained

Made = Callable[[str, bool], Trained]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """(kind, whether it is exported, evaluated and bundled as well) -> the project, as it was when it was made."""
    known: dict[str, Trained] = {}
    copies: dict[tuple[str, bool], Path] = {}

    def keep(kind: str, shipped: bool) -> None:
        copies[kind, shipped] = tmp_path_factory.mktemp("kept") / "project"
        shutil.copytree(known[kind].workspace.root, copies[kind, shipped])

    def put_back(kind: str, shipped: bool) -> Trained:
        root = known[kind].workspace.root
        shutil.rmtree(root)
        shutil.copytree(copies[kind, shipped], root)
        return known[kind]

    def make(kind: str, shipped: bool) -> Trained:
        if kind not in known:
            known[kind] = trained(tmp_path_factory.mktemp(kind) / "project", kind)
            keep(kind, False)
        if (kind, shipped) not in copies:
            one = put_back(kind, False)
            export_network(one.run, one.config, one.workspace, one.cases)
            evaluate(one.run, one.config, one.cases)
            export_bundle(one.run, one.config, one.workspace, one.cases)
            keep(kind, shipped)
        return put_back(kind, shipped)

    return make


@pytest.fixture
def picture_run(made: Made) -> Trained:
    return made("pictures", False)


@pytest.fixture(params=KINDS)
def any_shipped(request: pytest.FixtureRequest, made: Made) -> Trained:
    return made(request.param, True)


@pytest.fixture
def shipped_pictures(made: Made) -> Trained:
    return made("pictures", True)


@pytest.fixture
def shipped_slices(made: Made) -> Trained:
    return made("slices", True)


@pytest.fixture(scope="module", params=("pictures", "patches"))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A classifier and a segmenter of patches, once for all tests of a file that only add to them."""
    return trained(tmp_path_factory.mktemp(request.param) / "project", request.param)


@pytest.fixture(scope="module", name="pictures")
def shared_pictures(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("pictures") / "project", "pictures")
