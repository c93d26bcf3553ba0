"""What is installed where: locks are complete, nothing from CUDA comes in, and each extra is enough for its verbs."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from conftest import anisotropic_geometry
from medrail.bundle import InputKind, NetworkSpec
from medrail.read import write_nifti
from medrail.types import Image
from only_extra import BLOCK, hidden_modules, locked, normalised, run_with_only
from small_bundles import segmenter_network, write_bundle

REPOSITORY = Path(__file__).resolve().parents[1]
EXTRAS = {
    "serve": ("serve",),
    "openvino": ("serve", "openvino"),
    "train": ("serve", "train"),
    "slim": ("serve", "train", "slim"),
    "dev": ("serve", "train", "slim", "dev"),
}
UNWANTED = re.compile(r"nvidia|torchvision|torchaudio|cuda|triton$")


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_declared_dependency_is_in_its_lock(extra):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = list(project["dependencies"])
    for part in EXTRAS[extra]:
        declared += project["optional-dependencies"][part]
    names = {normalised(re.match(r"[A-Za-z0-9._-]+", line)[0]) for line in declared}
    assert names <= set(locked(extra))
    assert not [version for version in locked(extra).values() if not version or "+" in version], "pinned, and not local"


@pytest.mark.parametrize("extra", EXTRAS)
def test_no_lock_brings_cuda_in(extra):
    assert not [name for name in locked(extra) if UNWANTED.match(name)]
    assert ("torch" in locked(extra)) == (extra not in ("serve", "openvino"))


def test_nothing_from_cuda_is_installed():
    installed = {normalised(one.metadata["Name"]) for one in importlib.metadata.distributions()}
    assert not [name for name in installed if UNWANTED.match(name)]


def test_every_dependency_is_justified():
    page = (REPOSITORY / "docs" / "explanation" / "dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    for name in {re.match(r"[A-Za-z0-9._-]+", line)[0] for line in declared}:
        assert re.search(rf"^\|.*\b{re.escape(name)}\b.*\|", page, re.MULTILINE), name


@pytest.fixture
def scan_and_bundle(tmp_path):
    write_nifti(Image(np.full((1, 5, 7, 11), 9, np.float32), anisotropic_geometry()), tmp_path / "scan.nii.gz")
    kind = InputKind(picture=False, channels=1, unit="arbitrary")
    spec = NetworkSpec("segmentation", ("background", "organ"), 3, 1, ({"kind": "orient"},), kind)
    return tmp_path / "scan.nii.gz", write_bundle(tmp_path, "organ", segmenter_network(3, (2.0,)), spec)


def test_predict_needs_no_more_than_the_serve_extra(scan_and_bundle, tmp_path):
    scan, bundle = scan_and_bundle
    assert {"torch", "scipy", "pytest", "httpx"} <= hidden_modules("serve")
    done = run_with_only("serve", ["predict", str(bundle), str(scan), "-o", str(tmp_path / "out")], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 predicted" in done.stdout


def test_without_the_train_extra_training_says_what_to_install(tmp_path):
    done = run_with_only("serve", ["demo", "--no-serve", "--workspace", str(tmp_path / "demo")], tmp_path)
    assert done.returncode != 0
    environment = {name: value for name, value in os.environ.items() if name != "MEDRAIL_DEBUG"}
    code = BLOCK.format(
        hidden=sorted(hidden_modules("serve")),
        arguments=["demo", "--no-serve", "--workspace", str(tmp_path / "demo")],
    )
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert told.returncode == 1
    assert "pip install 'medrail[train,serve]'" in told.stderr
