"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from medrail.types import Geometry, Image

# One thread a process: barriers between threads stall for seconds beside a busy neighbour, and CI has two cores.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# A shell that starts us in the background has Ctrl-C ignored, here and in every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test judges how long something took: on a busy machine that fails by chance.
hypothesis.settings.register_profile("medrail", deadline=None)
hypothesis.settings.load_profile("medrail")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; the test skips where there is none."""
    folder = Path(os.environ.get("MEDRAIL_SHARED_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip("no shared data beside the checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no process that a test starts, touches the user's cache of headers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDRAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def anisotropic_geometry(spacing_mm: tuple[float, float, float] = (5.0, 0.7, 0.9)) -> Geometry:
    """An oblique grid with three different spacings: no axis can be mistaken for another."""
    near_axial = np.array([[0.05, 0.1, -0.99], [0.15, -0.98, -0.1], [0.98, 0.1, 0.1]])  # D to S, H to P, W to L
    left, _, right = np.linalg.svd(near_axial)
    affine = np.eye(4)
    affine[:3, :3] = (left @ right) * np.array(spacing_mm)
    affine[:3, 3] = (-12.5, 30.25, 7.0)
    return Geometry(affine)


@pytest.fixture
def anisotropic_image() -> Image:
    """Voxels (1, 5, 7, 11) of 5.0 x 0.7 x 0.9 mm, every voxel of another value."""
    voxels = np.arange(5 * 7 * 11, dtype=np.float32).reshape(1, 5, 7, 11)
    return Image(voxels, anisotropic_geometry(), unit="HU", source="made by a test")
