"""Trained runs for what exports them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trained_runs import KINDS, Trained, trained


@pytest.fixture(params=KINDS)
def any_run(request: pytest.FixtureRequest, tmp_path: Path) -> Trained:
    return trained(tmp_path / "project", request.param)


@pytest.fixture
def picture_run(tmp_path: Path) -> Trained:
    return trained(tmp_path / "project", "pictures")


@pytest.fixture
def slice_run(tmp_path: Path) -> Trained:
    return trained(tmp_path / "project", "slices")
