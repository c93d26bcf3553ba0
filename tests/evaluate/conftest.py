"""A workspace with raw files, cases and a run whose network can be told by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medrail.bundle import InputKind, NetworkSpec, write_network
from medrail.config import Config, parse
from medrail.read import write_nifti
from medrail.types import Case, Geometry, Image
from medrail.workspace import Run, Workspace

onnx = pytest.importorskip("onnx")


def save_network(path: Path, nodes: list[Any], weights: dict[str, np.ndarray], dims: int = 2) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, *["d", "h", "w"][3 - dims :]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@dataclass
class Project:
    run: Run
    config: Config
    cases: list[Case]


def config_of(task: str, classes: list[str], root: Path) -> Config:
    kind = "pairs" if task == "segmentation" else "class_folders"
    return parse(
        {
            "task": task,
            "data": {"kind": kind, "path": str(root), "classes": classes},
            "model": {"name": "tiny_cnn" if task == "classification" else "unet", "dims": 2},
            "evaluate": {"resamples": 200},
            "serve": {"threads": 1},
        }
    )


@pytest.fixture
def segmentation(tmp_path: Path) -> Project:
    """Four volumes of three patients; the network finds every voxel above 0.5, the reference is shifted a little."""
    from onnx import helper

    raw = tmp_path / "raw"
    raw.mkdir()
    affine = np.array([[0, 0, -0.9, 40], [0, -0.7, 0, 30], [5.0, 0, 0, -20], [0, 0, 0, 1]])
    cases = []
    for index, patient in enumerate(("p1", "p1", "p2", "p3")):
        voxels = np.zeros((1, 5, 7, 11), np.float32)
        voxels[0, 1:4, 2:6, 3:9] = 1
        labels = np.roll((voxels > 0.5).astype(np.uint8), index, axis=3)
        write_nifti(Image(voxels, Geometry(affine)), raw / f"c{index}.nii.gz")
        write_nifti(Image(labels, Geometry(affine), unit="label"), raw / f"c{index}_mask.nii.gz")
        cases.append(
            Case(
                f"c{index}",
                patient,
                (str(raw / f"c{index}.nii.gz"),),
                target=str(raw / f"c{index}_mask.nii.gz"),
                split="test",
            )
        )
    run = Workspace(tmp_path).run("tiny-001")
    run.folder.mkdir(parents=True)
    weights = {"w": np.array([0, 20], np.float32).reshape(2, 1, 1, 1), "b": np.array([0, -10], np.float32)}
    save_network(run.network, [helper.make_node("Conv", ["image", "w", "b"], ["logits"])], weights)
    spec = NetworkSpec(
        "segmentation", ("background", "organ"), 2, 1, ({"kind": "orient"},), InputKind(False, 1, "arbitrary")
    )
    write_network(run.folder, spec, {"cases": 1})
    return Project(run, config_of("segmentation", ["background", "organ"], raw), cases)


@pytest.fixture
def classification(tmp_path: Path) -> Project:
    """Twelve grey pictures of six patients; the network says "bright" above 100, and one dark picture is bright."""
    from onnx import helper

    raw = tmp_path / "raw"
    cases = []
    for index in range(12):
        label = ("dark", "bright")[index % 2]
        value = 180 if index % 2 or index == 4 else 20
        path = raw / label / f"image{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).integers(-10, 10, (7, 11))
        Picture.fromarray((value + noise).astype(np.uint8)).save(path)
        cases.append(Case(f"image{index}", f"p{index // 2}", (str(path),), target=label, split="test"))
    run = Workspace(tmp_path).run("tiny-001")
    run.folder.mkdir(parents=True)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
    ]
    save_network(run.network, nodes, {"w": np.array([[0, 0.05]], np.float32), "b": np.array([0, -5], np.float32)})
    spec = NetworkSpec("classification", ("dark", "bright"), 2, 1, (), InputKind(True, 1, "uint8"))
    write_network(run.folder, spec, {"cases": 1})
    return Project(run, config_of("classification", ["dark", "bright"], raw), cases)


@pytest.fixture(params=["segmentation", "classification"])
def project(request: pytest.FixtureRequest) -> Project:
    """Either task."""
    found: Project = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def break_file() -> Callable[[Case], None]:
    """Make a case's image unreadable."""

    def break_it(case: Case) -> None:
        Path(case.paths[0]).write_bytes(b"no image at all")

    return break_it
