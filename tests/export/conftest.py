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


@pytest.fixture(scope="module", params=("pictures", "patches"))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A classifier and a segmenter of patches, once for all tests of a file that only add to them."""
    return trained(tmp_path_factory.mktemp(request.param) / "project", request.param)


@pytest.fixture(scope="module", name="pictures")
def shared_pictures(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("pictures") / "project", "pictures")
