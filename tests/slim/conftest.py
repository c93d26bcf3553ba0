"""Trained runs to be slimmed, and what makes small trainings quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medrail.config import Config, parse
from medrail.slim import prune_run
from medrail.train import train
from medrail.workspace import Run
from small_projects import PROJECTS, SmallProject

QUICK = {"epochs": 2, "round_to": 1, "by": "channels", "importance": "l2"}


@dataclass(frozen=True)
class Trained:
    project: SmallProject
    run: Run

    def slimming(self, **slim: Any) -> Config:
        values = self.project.config.to_dict()
        values["slim"] |= QUICK | slim
        return parse(values)

    def pruned(self, ratio: float = 0.5, name: str | None = None, progress: Any = None, **slim: Any) -> Run:
        project = self.project
        config = self.slimming(**slim)
        return prune_run(self.run, config, project.workspace, project.cases, ratio, run_name=name, progress=progress)


def trained(root: Path, kind: str, **settings: Any) -> Trained:
    project = PROJECTS[kind](root).with_settings(epochs=3, **settings)
    return Trained(project, train(project.config, project.workspace, project.cases))


@pytest.fixture
def pictures(tmp_path: Path) -> Trained:
    return trained(tmp_path / "project", "classification")


@pytest.fixture(params=PROJECTS)
def any_run(request: pytest.FixtureRequest, tmp_path: Path) -> Trained:
    return trained(tmp_path / "project", request.param)


@pytest.fixture(autouse=True)
def saved_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is at that moment."""
    from medrail.train import state

    monkeypatch.setattr(state, "SHARE_FOR_SAVING", 1e9)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    from medrail.train import curves

    monkeypatch.setattr(curves, "draw_panels", lambda path, panels: path)
