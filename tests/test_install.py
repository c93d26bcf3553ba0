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
from small_bundles import segmenter_network, write_bundle

REPOSITORY = Path(__file__).resolve().parents[1]
EXTRAS = {
    "serve": ("serve",),
    "openvino": ("serve", "openvino"),
    "train": ("serve", "train"),
    "slim": ("serve", "train", "slim"),
    "dev": ("serve", "train", "slim", "dev"),
}
UNWANTED = ("nvidia", "torchvision", "torchaudio", "triton", "cuda")

# Runs before anything else in the child: what is not in the lock cannot be imported there.
BLOCK = """\
import sys
hidden = set({hidden!r})
class Finder:
    def __init__(self, behind):
        self.behind = behind
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.behind.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.behind, name)
sys.meta_path[:] = [Finder(behind) for behind in sys.meta_path]
from medrail.cli import main
sys.exit(main({arguments!r}))
"""


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(extra: str) -> dict[str, str]:
    text = (REPOSITORY / "requirements" / f"{extra}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {normalised(name): version for name, _, version in (line.partition("==") for line in lines)}


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
    assert not [name for name in locked(extra) if name.startswith(UNWANTED)]
    assert ("torch" in locked(extra)) == (extra not in ("serve", "openvino"))


def test_nothing_from_cuda_is_installed():
    installed = {normalised(one.metadata["Name"]) for one in importlib.metadata.distributions()}
    assert not [name for name in installed if name.startswith(UNWANTED)]


def test_every_dependency_is_justified():
    page = (REPOSITORY / "docs" / "explanation" / "dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    for name in {re.match(r"[A-Za-z0-9._-]+", line)[0] for line in declared}:
        assert re.search(rf"^\|.*\b{re.escape(name)}\b.*\|", page, re.MULTILINE), name


def hidden_modules(extra: str) -> set[str]:
    """The importable names of installed packages that are not in the lock."""
    packages = importlib.metadata.packages_distributions()
    allowed = {*locked(extra), "medrail", "pip", "setuptools"}
    return {module for module, owners in packages.items() if not {normalised(owner) for owner in owners} & allowed}


@pytest.fixture
def scan_and_bundle(tmp_path):
    write_nifti(Image(np.full((1, 5, 7, 11), 9, np.float32), anisotropic_geometry()), tmp_path / "scan.nii.gz")
    kind = InputKind(picture=False, channels=1, unit="arbitrary")
    spec = NetworkSpec("segmentation", ("background", "organ"), 3, 1, ({"kind": "orient"},), kind)
    return tmp_path / "scan.nii.gz", write_bundle(tmp_path, "organ", segmenter_network(3, (2.0,)), spec)


def run_with_only(extra: str, arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    code = BLOCK.format(hidden=sorted(hidden_modules(extra)), arguments=arguments)
    environment = {**os.environ, "MEDRAIL_DEBUG": "1"}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)


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


@pytest.mark.slow
def test_the_demo_needs_no_more_than_the_train_extra(tmp_path):
    assert {"pytest", "SimpleITK", "sklearn"} <= hidden_modules("train")
    arguments = ["demo", "--task", "classify", "--no-serve", "--json", "--workspace", str(tmp_path / "demo")]
    done = run_with_only("train", arguments, tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"accuracy"' in done.stdout
