"""A made-up hospital: pictures whose brightness tells the class, patients with sex, age and scanner, and a network of
which all is known. Its features are brightness and three kinds of texture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from medrail.bundle import InputKind, NetworkSpec, write_network
from medrail.config import Config, parse
from medrail.types import Case
from medrail.workspace import Run, Workspace

SIZE = 12


@dataclass
class Hospital:
    run: Run
    config: Config
    workspace: Workspace
    cases: list[Case]


def picture(generator: np.random.Generator, level: float, *, texture: float = 0.0) -> np.ndarray:
    """Grey, of one brightness with noise; ``texture`` is the height of a chequerboard on it."""
    board = np.indices((SIZE, SIZE)).sum(axis=0) % 2 * 2 - 1
    pixels = level + texture * board + generator.normal(0, 6, (SIZE, SIZE))
    return pixels.clip(0, 255).round().astype(np.uint8)


def network_bytes(classes: int, sharpness: float) -> bytes:
    """Four filters, ReLU, global average pooling, one linear layer: logits, features and exact evidence."""
    from onnx import TensorProto, helper, numpy_helper

    filters = np.zeros((4, 1, 3, 3), np.float32)
    filters[0, 0, 1, 1] = 1
    filters[1, 0, 1], filters[2, 0, :, 1] = (-1, 2, -1), (-1, 2, -1)
    filters[3, 0] = [[1, -2, 1], [-2, 4, -2], [1, -2, 1]]
    centres = np.linspace(70, 180, classes)
    slope, weights = sharpness, np.zeros((4, classes), np.float32)
    weights[0] = slope * centres
    bias = (-slope * centres**2 / 2).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "filters"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["seen"]),
        helper.make_node("GlobalAveragePool", ["seen"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
        helper.make_node("Conv", ["seen", "by_place"], ["evidence"]),
    ]
    values = {"filters": filters, "weights": weights, "bias": bias}
    values["by_place"] = np.ascontiguousarray(weights.T).reshape(classes, 4, 1, 1)
    graph = helper.make_graph(
        nodes,
        "hospital",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("logits", "features", "evidence")],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def hospital(
    root: Path,
    *,
    classes: tuple[str, ...] = ("healthy", "ill"),
    patients: dict[str, int] | None = None,
    sharpness: float = 0.01,
    spread: float = 25,
    **evaluate: Any,
) -> Hospital:
    """Patients with one or two pictures each; ``sharpness`` makes the network too sure, ``spread`` the task hard."""
    generator = np.random.default_rng(7)
    raw = root / "raw"
    raw.mkdir(parents=True)
    centres = np.linspace(70, 180, len(classes))
    cases = []
    for split, count in (patients or {"train": 60, "val": 60, "test": 60}).items():
        for number in range(count):
            truth = int(generator.integers(len(classes)))
            groups = (
                ("sex", ("female", "male")[number % 2]),
                ("age", ("30-39", "60-69", "90+")[0 if number % 7 else 2] if number % 3 else "60-69"),
                ("scanner", "Acme <One>" if number % 20 else "Old & rare"),
            )
            for shot in range(1 + number % 2):
                name = f"{split}{number:03d}-{shot}"
                path = raw / f"{name}.png"
                level = centres[truth] + generator.normal(0, spread)
                Picture.fromarray(picture(generator, level)).save(path)
                cases.append(
                    Case(
                        name,
                        f"{split}-p{number}",
                        (str(path),),
                        classes[truth],
                        split,  # type: ignore[arg-type]
                        centre=("north", "south")[number % 5 == 0],
                        groups=groups,
                    )
                )
    workspace = Workspace(root)
    run = workspace.run("hospital-001")
    run.folder.mkdir(parents=True)
    run.network.write_bytes(network_bytes(len(classes), sharpness))
    spec = NetworkSpec("classification", classes, 2, 1, (), InputKind(True, 1, "uint8"), grid=(SIZE, SIZE))
    write_network(run.folder, spec, {"cases": 1})
    config = parse(
        {
            "task": "classification",
            "data": {"kind": "class_folders", "path": str(raw), "classes": list(classes)},
            "model": {"name": "tiny_cnn", "dims": 2},
            "evaluate": {"resamples": 200, **evaluate},
            "serve": {"threads": 1},
        }
    )
    return Hospital(run, config, workspace, cases)
