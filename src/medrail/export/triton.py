"""A model repository of Triton Inference Server: triton/NAME/config.pbtxt and a numbered folder for every version.

Field names and rules: Triton's model_config.proto, and "Model Repository" and "Model Configuration" of its user guide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrail.errors import ExportError
from medrail.export.facts import FACTS_FILE
from medrail.workspace import keep_text, read_json

CONFIG_FILE, LABELS_FILE, README_FILE = "config.pbtxt", "labels.txt", "README.md"
MAX_BATCH = {2: 16, 3: 2}
"""Dimensions -> images that Triton puts together at most."""
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")  # Triton passes over other names of folders
_SHARED = ("input", "outputs", "answer.classes")


def version_number(model: Path, version: str) -> int:
    """The number of a version's folder in ``triton/NAME``: its own where it is one and free, else the next one.

    A version keeps the number that it has.
    """
    taken = {number: str(values.get("version")) for number, values in _versions(model).items()}
    kept = [number for number, name in taken.items() if name == version]
    if kept:
        return kept[0]
    if _NUMBER.fullmatch(version) and int(version) not in taken:
        return int(version)
    return max(taken, default=0) + 1


def check_versions(model: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a network that the one config.pbtxt of all versions could not describe.

    Raises
    ------
    ExportError
        If another version there has another input, other outputs or other classes.
    """
    for number, values in _versions(model).items():
        if values.get("version") == facts["version"]:
            continue
        differing = [name for name in _SHARED if _at(values, name) != _at(facts, name)]
        if differing:
            raise ExportError(
                f"version {values.get('version')} (folder {number}) differs in {', '.join(differing)}",
                needed="the same of all versions of a model: Triton has one config.pbtxt for them",
                where=str(model),
                remedy="Give this network another `name` in medrail.yaml, or remove the old versions.",
            )


def write_beside(model: Path, facts: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write what stands beside the versions: config.pbtxt, the class names, and how to start the server."""
    classification = facts["answer"]["task"] == "classification"
    keep_text(model / CONFIG_FILE, config_text(model.name, facts, labelled=classification))
    if classification:
        keep_text(model / LABELS_FILE, "".join(f"{name}\n" for name in facts["answer"]["classes"]))
    keep_text(model.parent / README_FILE, _README)
    return (model / CONFIG_FILE, model.parent / README_FILE)


def config_text(name: str, facts: Mapping[str, Any], *, labelled: bool) -> str:
    """config.pbtxt. Shapes in it are without the batch, which Triton puts together."""
    spatial = len(facts["input"]["shape"]) - 2
    outputs = [
        _tensor(
            "output",
            output["name"],
            output["shape"][1:],
            f"\n    label_filename: {_quoted(LABELS_FILE)}" if labelled and output["name"] == "logits" else "",
        )
        for output in facts["outputs"]
    ]
    return "\n".join(
        [
            f"name: {_quoted(name)}",
            'backend: "onnxruntime"',
            f"max_batch_size: {MAX_BATCH[spatial]}",
            _tensor("input", facts["input"]["name"], facts["input"]["shape"][1:]),
            *outputs,
            "version_policy { all { } }",
            "instance_group [\n  {\n    count: 1\n    kind: KIND_CPU\n  }\n]",
            # No delay: a request never waits for others that may come.
            "dynamic_batching {\n  max_queue_delay_microseconds: 0\n}",
            "",
        ]
    )


def _tensor(kind: str, name: str, shape: Sequence[int], more: str = "") -> str:
    dims = ", ".join(map(str, shape))
    return f"{kind} [\n  {{\n    name: {_quoted(name)}\n    data_type: TYPE_FP32\n    dims: [ {dims} ]{more}\n  }}\n]"


def _quoted(text: str) -> str:
    return json.dumps(text)  # the escapes of JSON are ones of protobuf's text format, for printable ASCII


def _versions(model: Path) -> dict[int, Mapping[str, Any]]:
    """Folder number -> its facts, {} where they are missing."""
    folders = [folder for folder in model.glob("[1-9]*") if folder.is_dir() and _NUMBER.fullmatch(folder.name)]
    return {
        int(folder.name): read_json(folder / FACTS_FILE) if (folder / FACTS_FILE).is_file() else {}
        for folder in folders
    }


def _at(values: Mapping[str, Any], path: str) -> Any:
    found: Any = values
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


_README = """\
# Model repository for Triton Inference Server

Not a medical device: for research and teaching only.

Each folder here is a model, each numbered folder in it a version: `model.onnx` and `facts.json`. Start the server where
there is a Docker:

    docker run --rm -p 8000:8000 -p 8001:8001 -v "$PWD":/models nvcr.io/nvidia/tritonserver:VERSION-py3 \\
        tritonserver --model-repository=/models

VERSION is a release whose ONNX backend knows the opset that `facts.json` names (opset 20 needs ONNX Runtime 1.17 or
later). Whether it runs: `curl localhost:8000/v2/health/ready`; what it takes: `curl localhost:8000/v2/models/NAME`.

**Triton runs the network, and nothing else.** A client must do what `preprocessing` in `facts.json` says, step by step
and in that order, and read the answer as `answer` says there. In Python medrail does both:

    import json
    import medrail

    facts = json.load(open("NAME/1/facts.json"))
    prepared = medrail.Pipeline.from_dict(facts["preprocessing"])(medrail.read("image.png"))

`prepared.voxels` is (C, D, H, W); a 2-D network takes each of its D slices as (C, H, W), so a picture is
`prepared.voxels[:, 0]`. Requests of several clients are put together (dynamic batching), without waiting for any.

All versions are loaded (`version_policy`); a request that names none is answered by the highest number. On a GPU write
`kind: KIND_GPU` in `config.pbtxt`; the answers were compared on a CPU only.
"""
