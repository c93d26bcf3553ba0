"""Fixtures of small projects, and what makes small trainings quick."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_projects import PROJECTS, SmallProject, classification_project, segmentation_project


@pytest.fixture
def pictures(tmp_path: Path) -> SmallProject:
    return classification_project(tmp_path / "project")


@pytest.fixture
def pictures_without_validation(tmp_path: Path) -> SmallProject:
    return classification_project(tmp_path / "project", val=False)


@pytest.fixture
def volumes(tmp_path: Path) -> SmallProject:
    return segmentation_project(tmp_path / "project")


@pytest.fixture(params=PROJECTS)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> SmallProject:
    return PROJECTS[request.param](tmp_path / "project")


@pytest.fixture(autouse=True)
def saved_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is at that moment."""
    from medrail.train import state

    monkeypatch.setattr(state, "SHARE_FOR_SAVING", 1e9)


@pytest.fixture(autouse=True)
def no_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drawing takes longer than a small training; tests of curves ask for them."""
    if "curves" not in request.node.name:
        from medrail.train import curves

        monkeypatch.setattr(curves, "draw_panels", lambda path, panels: path)
