"""Formats for other programs: the same answers or no file, and beside each what must be known to use it."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medrail import stages
from medrail.bundle.backend import Engine
from medrail.bundle.manifest import FileEntry
from medrail.cli import main
from medrail.errors import ConfigError, ExportError
from medrail.export import formats as formats_room
from medrail.export.formats import FORMATS, Format, asked_formats
from medrail.export.other_formats import export_format
from medrail.export.triton import version_number
from medrail.prepare import Pipeline
from medrail.read import read
from medrail.stages.exporting_formats import subject_of
from medrail.workspace import read_json
from triton_config import parsed


def project_of(made: Any, **changes: Any) -> stages.Project:
    return stages.Project(made.with_export(**changes), made.workspace)


def exported(made: Any, name: str, **changes: Any) -> Any:
    project = project_of(made, **changes)
    subject = subject_of(project, made.run)
    return export_format(made.run, FORMATS[name], subject, project.config, made.workspace, made.cases)


def told_paths(root: Path) -> list[bytes]:
    places = [root, sys.prefix, Path.home(), Path(torch.__file__).parent]
    return [str(place).encode() for place in places if len(str(place)) > 3]


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_answers_as_what_was_evaluated(finished: Any, name: str) -> None:
    one = exported(finished, name)
    subject = subject_of(project_of(finished), finished.run)
    opened = subject.evaluated.behind(lambda _: FORMATS[name].open(subject, one.folder))
    for case in finished.cases:
        image = read(case.paths[0], case.item)
        prepared = subject.evaluated.prepare(image)
        ours, theirs = opened.answers(prepared), subject.evaluated.answers(prepared)
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=2e-4)
        assert ours.features is not None
        np.testing.assert_allclose(ours.features, theirs.features, atol=2e-4)
        assert (ours.evidence is None) == (theirs.evidence is None)
    assert one.facts["parity"]["max_abs_difference"] <= 1e-3
    assert 0 < one.facts["parity"]["cases"] <= 4


@pytest.mark.parametrize("name", FORMATS)
def test_beside_each_stands_what_another_program_must_know(finished: Any, name: str) -> None:
    one = exported(finished, name)
    facts = read_json(one.folder / "facts.json")
    assert facts == json.loads(json.dumps(one.facts))
    assert sorted(path.name for path in one.folder.iterdir()) == sorted([*FORMATS[name].files, "facts.json"])
    for file, entry in facts["files"].items():
        assert entry == vars(FileEntry.of(one.folder / file))
        content = (one.folder / file).read_bytes()
        told = [word for word in (b"site-packages", *told_paths(finished.workspace.root)) if word in content]
        assert not told, file
        assert not re.findall(rb"[\w/]{3,}\.py\b", content.replace(b"code/__torch__", b""))[:1] or file == "model.pt"
    subject = subject_of(project_of(finished), finished.run)
    assert facts["input"]["shape"] == ["batch", *subject.input_shape]
    assert facts["opset"] == 20
    assert facts["answer"]["classes"] == list(finished.config.data.classes)
    assert facts["evaluated_network_sha256"] == FileEntry.of(finished.run.network).sha256
    # Whoever follows it gets the same answer: pipeline, network, softmax.
    image = read(finished.cases[0].paths[0])
    prepared = Pipeline.from_dict(facts["preprocessing"])(image)
    expected = subject.evaluated.prepare(image)
    np.testing.assert_array_equal(prepared.voxels, expected.voxels)
    engine = FORMATS[name].open(subject, one.folder)
    answer = engine.fetch(np.zeros((2, *subject.input_shape), np.float32), engine.outputs)
    for output in facts["outputs"]:
        assert answer[output["name"]].shape == (2, *output["shape"][1:])


class Off:
    """A format whose engine answers otherwise."""

    def __init__(self, by: float = 0.0, *, batches: float = 0.0) -> None:
        self.by, self.batches = by, batches

    def of(self, entry: Format) -> Format:
        def opened(subject: Any, folder: Path) -> Engine:
            engine = entry.open(subject, folder)

            def fetch(batch: Any, names: tuple[str, ...]) -> Any:
                found = {name: array.copy() for name, array in engine.fetch(batch, names).items()}
                found["logits"][:, 0] += self.by + self.batches * (len(batch) - 1)
                return found

            return Engine(engine.outputs, fetch)

        return replace(entry, open=opened)


@pytest.mark.parametrize("name", FORMATS)
def test_without_parity_there_is_no_file_and_no_older_one_either(pictures: Any, name: str) -> None:
    folder = exported(pictures, name).folder
    project = project_of(pictures)
    subject = subject_of(project, pictures.run)
    for off in (Off(0.05), Off(float("nan")), Off(batches=1.0)):
        with pytest.raises(ExportError, match=r"needed: at most 0\.001"):
            export_format(
                pictures.run, off.of(FORMATS[name]), subject, project.config, pictures.workspace, pictures.cases
            )
        assert not folder.exists()
        assert not list(folder.parent.glob(".*"))
    exported(pictures, name)


def test_torchscript_runs_without_medrail(pictures: Any) -> None:
    one = exported(pictures, "torchscript")
    script = f"import sys, torch; m = torch.jit.load({str(one.folder / 'model.pt')!r}); " + (
        "print(m(torch.zeros(5, 3, 16, 24))[0].shape); assert 'medrail' not in sys.modules"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert done.stdout.strip() == "torch.Size([5, 2])"


def test_openvino_keeps_float32_unless_told(pictures: Any) -> None:
    full = (exported(pictures, "openvino").folder / "model.bin").stat().st_size
    one = exported(pictures, "openvino", openvino_fp16=True, parity_tolerance=0.01)
    assert (one.folder / "model.bin").stat().st_size < 0.6 * full
    assert "fp16" in one.facts["precision"]


def test_the_same_again_replaces_it_whole(pictures: Any) -> None:
    folder = exported(pictures, "onnx").folder
    (folder / "stray").write_text("x")
    before = (folder / "facts.json").read_text()
    assert exported(pictures, "onnx").folder == folder == pictures.workspace.exports / "small" / "1" / "onnx"
    assert not (folder / "stray").exists()
    assert (folder / "facts.json").read_text() == before


# --- Triton


def test_tritons_configuration_is_what_triton_reads(finished: Any) -> None:
    one = exported(finished, "triton")
    model = one.folder.parent
    assert model == finished.workspace.triton / "small"
    config = parsed((model / "config.pbtxt").read_text())
    assert config.name == "small"
    assert config.backend == "onnxruntime"
    assert config.max_batch_size > 1
    assert list(config.input[0].dims) == one.facts["input"]["shape"][1:]
    assert [(entry.name, list(entry.dims)) for entry in config.output] == [
        (entry["name"], entry["shape"][1:]) for entry in one.facts["outputs"]
    ]
    assert config.HasField("dynamic_batching")
    assert config.instance_group[0].count == 1
    assert config.version_policy.HasField("all")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(one.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].name == config.input[0].name
    assert [output.name for output in session.get_outputs()] == [entry.name for entry in config.output]
    labels = model / config.output[0].label_filename
    if finished.config.task == "classification":
        assert labels.read_text().splitlines() == list(finished.config.data.classes)
    assert "tritonserver" in (model.parent / "README.md").read_text()


def test_versions_stand_side_by_side_with_numbers(pictures: Any) -> None:
    numbers = {}
    for version in ("1", "2.0-rc1", "7", "2.0-rc1"):
        numbers[version] = exported(pictures, "triton", version=version).folder.name
    assert numbers == {"1": "1", "2.0-rc1": "2", "7": "7"}
    model = pictures.workspace.triton / "small"
    assert version_number(model, "2") == 8, "2 is taken by 2.0-rc1"
    facts = read_json(model / "7" / "facts.json")
    changed = facts | {"answer": facts["answer"] | {"classes": ["a", "b"]}, "version": "0"}
    (model / "7" / "facts.json").write_text(json.dumps(changed))
    with pytest.raises(ExportError, match=r"version 0 \(folder 7\) differs in answer\.classes"):
        exported(pictures, "triton", version="1")
    assert (model / "1" / "model.onnx").is_file(), "it is no failure of parity: the older one stays"


# --- the command


def test_unknown_and_missing_formats_are_named_before_anything_is_written(
    pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'openvino'"):
        asked_formats(["onnx,opnvino"])
    assert [entry.name for entry in asked_formats(["onnx, triton", "onnx"])] == ["onnx", "triton"]
    absent = replace(FORMATS["openvino"], module="not_there")
    monkeypatch.setattr(formats_room, "FORMATS", {**FORMATS, "openvino": absent})
    with pytest.raises(ConfigError, match=r"openvino: what writes it is not installed\. pip install openvino"):
        asked_formats(["openvino"])


def test_the_command_tells_where_and_how_closely(pictures: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(pictures.run.folder), "--to", "onnx,torchscript", "--to", "openvino", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert list(values["formats"]) == ["onnx", "torchscript", "openvino"]
    for one in values["formats"].values():
        assert all(Path(file).is_file() for file in one["files"])
        assert one["parity"]["max_abs_difference"] <= 1e-3
    assert not (pictures.workspace.bundles).exists()
    assert main(["export", str(pictures.run.folder), "--to", "pickle"]) == 2
    assert "needed: of onnx, torchscript, openvino, triton" in capsys.readouterr().err
