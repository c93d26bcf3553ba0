"""Every engine gives the same answers for every kind of network, also to several threads, or says why it cannot."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from medrail import arguments
from medrail.bundle import ENGINES, Choice, onnx_backend, openvino_backend
from medrail.bundle import engines as room
from medrail.bundle.backend import EVIDENCE, FEATURES, LOGITS
from medrail.bundle.engines import ENGINE_NAMES, open_engine
from medrail.config import EngineName
from medrail.errors import BundleError, InputError
from small_bundles import classifier_network, evidence_network, segmenter_network

CHOICES = [
    Choice(name, precision, device)
    for name, entry in ENGINES.items()
    for precision in entry.precisions
    for device in entry.devices
]
NETWORKS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "classifier": (classifier_network(3, 3, 2), (3, 12, 20)),
    "volumes": (classifier_network(2, 1, 3), (1, 5, 7, 11)),
    "evidence": (evidence_network(3, 2, 2), (2, 9, 13)),
    "evidence of volumes": (evidence_network(2, 1, 3), (1, 4, 6, 8)),
    "segmenter": (segmenter_network(2, (0.2, 0.6), 1), (1, 17, 23)),
    "segmenter of volumes": (segmenter_network(3, (0.3,), 1), (1, 6, 8, 10)),
}
RTOL = {"fp32": 1e-5, "int8": 1e-5, "bf16": 0.01}
"""None of these networks is quantised, so "int8" computes in float."""


def possible(choice: Choice) -> Choice:
    if choice.problem:
        pytest.skip(choice.problem)
    return choice


def batch_of(shape: tuple[int, ...], count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_engine_answers_as_onnx_runtime_in_float(choice: Choice, kind: str) -> None:
    content, shape = NETWORKS[kind]
    engine, usual = open_engine(content, possible(choice), threads=1), onnx_backend(content, threads=1)
    assert engine.outputs == usual.outputs
    for count in (1, 3, 1):
        batch = batch_of(shape, count)
        found, wanted = engine.fetch(batch, engine.outputs), usual.fetch(batch, usual.outputs)
        assert list(found) == list(wanted)
        for name in wanted:
            assert found[name].dtype == np.float32
            atol = RTOL[choice.precision] * max(1.0, float(np.abs(wanted[name]).max()))
            np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_only_what_is_wanted_is_given_in_the_order_of_the_question(choice: Choice) -> None:
    content, shape = NETWORKS["evidence"]
    engine = open_engine(content, possible(choice), threads=1)
    batch = batch_of(shape)
    assert list(engine.fetch(batch, (EVIDENCE, LOGITS))) == [EVIDENCE, LOGITS]
    assert list(engine.fetch(batch, (FEATURES,))) == [FEATURES]
    np.testing.assert_array_equal(engine(batch), engine.fetch(batch, (LOGITS,))[LOGITS])


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_several_threads_at_once_get_their_own_answers(choice: Choice) -> None:
    content, shape = NETWORKS["evidence of volumes"]
    engine = open_engine(content, possible(choice), threads=1)
    batches = [batch_of(shape, 1 + seed % 3, seed) for seed in range(48)]
    alone = [engine.fetch(batch, engine.outputs) for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda batch: engine.fetch(batch, engine.outputs), batches))
    for mine, others in zip(alone, together, strict=True):
        for name in mine:
            np.testing.assert_array_equal(mine[name], others[name])


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_what_was_answered_does_not_change_with_the_next_question(choice: Choice) -> None:
    content, shape = NETWORKS["segmenter"]
    engine = open_engine(content, possible(choice), threads=1)
    first = engine(batch_of(shape, seed=1))
    kept = first.copy()
    engine(batch_of(shape, seed=2))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0  # and it may be written to


@pytest.mark.parametrize("shape", [(1, 2, 5, 7), (1, 1, 5), (1, 1, 5, 7, 3), (0, 1, 5, 7)])
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_wrong_shape_is_an_input_error_and_the_next_one_is_answered(choice: Choice, shape: tuple[int, ...]) -> None:
    content, right = NETWORKS["segmenter"]
    engine = open_engine(content, possible(choice), threads=1)
    if shape == (0, 1, 5, 7) and choice.engine == "onnxruntime":
        pytest.skip("ONNX Runtime answers nothing to nothing")
    with pytest.raises(InputError, match="shape"):
        engine(np.zeros(shape, np.float32))
    assert engine(batch_of(right)).shape == (2, 3, *right[1:])


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("content", [b"", b"not a network", NETWORKS["classifier"][0][:-200]])
def test_what_is_no_network_is_refused(choice: Choice, content: bytes) -> None:
    with pytest.raises(BundleError, match="not a network"):
        open_engine(content, possible(choice))


@pytest.mark.parametrize("overlong", [False, True])
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_network_that_names_another_file_reads_nothing(
    choice: Choice, overlong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both engines would take weights from a file in the working folder."""
    import onnx

    model = onnx.load_from_string(NETWORKS["classifier"][0])
    weight = model.graph.initializer[0]
    (tmp_path / "secret").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="secret")
    content = model.SerializeToString()
    if overlong:  # another spelling of the same number, which a reader of protocol buffers takes as well
        content = content.replace(b"\x0a\x08location", b"\x0a\x88\x00location")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="another file" if not overlong else "another file|not a network"):
        open_engine(content, possible(choice), 1)


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_that_is_not_installed_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "find_spec", lambda module: None)
    choice = Choice(name)
    assert "pip install 'medrail[" in choice.problem
    with pytest.raises(BundleError, match=rf"{name} is not installed: pip install"):
        open_engine(NETWORKS["classifier"][0], choice)


def test_bf16_is_refused_where_the_cpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    possible(Choice("openvino"))
    openvino = room.openvino_runtime()
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    openvino_backend._cpu_problem.cache_clear()
    try:
        assert "bfloat16" in Choice("openvino", "bf16").problem
        assert "writes past its memory" in Choice("openvino", "int8").problem
        monkeypatch.setenv(openvino_backend.INT8_ALLOWED, "1")
        assert not Choice("openvino", "int8").problem
    finally:
        openvino_backend._cpu_problem.cache_clear()


def test_openvino_computes_in_float_unless_told_otherwise() -> None:
    possible(Choice("openvino"))
    content, shape = NETWORKS["segmenter"]
    batch = batch_of(shape) * 1000
    exact = onnx_backend(content, threads=1)(batch)
    found = open_engine(content, Choice("openvino", "fp32"), 1)(batch)
    assert np.abs(found - exact).max() <= 1e-5 * np.abs(exact).max()


def test_openvino_is_imported_without_its_telemetry(tmp_path: Path) -> None:
    """By itself it makes a folder in the user's home and sends an event, when it is imported."""
    possible(Choice("openvino"))
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('it calls out')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from medrail.bundle.engines import Choice, open_engine\n"
        "open_engine(open(sys.argv[1], 'rb').read(), Choice('openvino'), 1)\n"
        "assert 'openvino' in sys.modules and sys.modules['openvino_telemetry'] is None"
    )
    (tmp_path / "network.onnx").write_bytes(NETWORKS["classifier"][0])
    (home := tmp_path / "home").mkdir()
    away = ("CI", "TF_BUILD", "JENKINS_URL")
    environment = {name: value for name, value in os.environ.items() if name not in away} | {"HOME": str(home)}
    command = [sys.executable, "-c", code, str(tmp_path / "network.onnx")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert not list(home.iterdir())


def test_openvino_is_imported_in_one_place() -> None:
    source = Path(room.__file__).parents[1]
    importing = [
        path.name for path in source.rglob("*.py") if re.search(r"^\s*(import|from) openvino", path.read_text(), re.M)
    ]
    assert importing == ["openvino_backend.py"]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_choice_survives_json(choice: Choice) -> None:
    assert Choice.from_dict(json.loads(json.dumps(choice.to_dict()))) == choice


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        "onnxruntime",
        {},
        {"engine": "onnxruntime"},
        {"engine": "onnxruntime", "precision": "fp32", "device": "cpu", "path": "/etc/passwd"},
        {"engine": "os", "precision": "fp32"},
        {"engine": "onnxruntime", "precision": "bf16"},
        {"engine": "openvino", "precision": "fp32", "device": "GPU"},
        {"engine": "openvino", "precision": "fp16"},
        {"engine": ["openvino"], "precision": "fp32"},
        {"engine": "openvino", "precision": {"fp32": 1}},
        {"engine": "openvino", "precision": "fp32", "device": None},
        {"engine": "x" * 10**6, "precision": "fp32"},
    ],
)
def test_anything_but_known_words_is_refused(values: Any) -> None:
    with pytest.raises(BundleError) as caught:
        Choice.from_dict(values)
    assert len(str(caught.value)) < 300


def test_the_command_line_the_configuration_and_the_table_know_the_same_engines() -> None:
    assert arguments.ENGINES == get_args(EngineName) == ENGINE_NAMES
    named = {name.partition("-")[0] for name in ENGINE_NAMES} - {"auto"}
    assert named == set(ENGINES)
