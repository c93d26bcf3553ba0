"""Laws of the protocol's wire form: what is sent is what is read, and no bytes whatever get anything but a refusal."""

from __future__ import annotations

import hashlib
import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medrail.serve import Settings
from medrail.serve.problems import PROBLEMS, Refusal
from medrail.serve.v2_run import _file, _mapped
from medrail.serve.v2_signature import ANY, TensorKind
from medrail.serve.v2_wire import Output, Wanted, parse, reply

tritonclient = pytest.importorskip("tritonclient.http")

SETTINGS = Settings(log_to_stderr=False, max_json_mb=0.5, max_megavoxels=0.01)
IMAGE = TensorKind("image", "FP32", (ANY, ANY, ANY), also=("FP16",))
MASK = TensorKind("mask", "FP32", (ANY, 2))
FILE, ROI = TensorKind("file", "BYTES", (1,)), TensorKind("roi", "BYTES", (1,))
OUTPUTS = (TensorKind("logits", "FP32", (ANY, 3)), TensorKind("features", "FP32", (ANY, ANY)))

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SHAPES = arrays.array_shapes(min_dims=3, max_dims=3, max_side=4)
TENSORS = arrays.arrays(np.float32, SHAPES, elements=FLOATS)
SECONDS = arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.just(2)), elements=FLOATS)


def entry(name: str, array: np.ndarray, *, binary: bool, nested: bool = False) -> tuple[dict[str, Any], bytes]:
    described: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(array.shape)}
    if binary:
        return described | {"parameters": {"binary_data_size": array.nbytes}}, array.tobytes()
    return described | {"data": array.tolist() if nested else array.ravel().tolist()}, b""


@given(TENSORS, SECONDS, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_tensors_arrive_as_they_were_sent(first, second, first_binary, second_binary, nested, turned) -> None:
    sent = [entry("image", first, binary=first_binary, nested=nested), entry("mask", second, binary=second_binary)]
    if turned:
        sent.reverse()
    head = json.dumps({"id": "é", "inputs": [described for described, _ in sent]}).encode()
    body = head + b"".join(data for _, data in sent)
    asked = parse(memoryview(body), len(head), (IMAGE, MASK), OUTPUTS, SETTINGS)
    np.testing.assert_array_equal(asked.tensors["image"], first)
    np.testing.assert_array_equal(asked.tensors["mask"], second)
    assert asked.id == "é"
    assert [wanted.name for wanted in asked.wanted] == ["logits", "features"]


@given(TENSORS, st.data())
def test_binary_data_that_does_not_add_up_is_refused(array, data) -> None:
    described, content = entry("image", array, binary=True)
    size = data.draw(st.integers(-5, len(content) + 5))
    there = data.draw(st.integers(0, len(content) + 5))
    described["parameters"]["binary_data_size"] = size
    head = json.dumps({"inputs": [described]}).encode()
    body = head + content.ljust(there, b"\0")[:there]
    if size == there == len(content):
        parse(memoryview(body), len(head), (IMAGE,), OUTPUTS, SETTINGS)
        return
    with pytest.raises(Refusal) as refused:
        parse(memoryview(body), len(head), (IMAGE,), OUTPUTS, SETTINGS)
    assert refused.value.kind == "bad-inference-request"


@pytest.mark.parametrize("with_header", [True, False])
def test_a_file_is_never_held_in_memory(tmp_path, with_header: bool) -> None:
    size = 8 * 2**20
    head, length = b"", struct.pack("<I", size)
    if with_header:
        described = {"name": "file", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size + 4}}
        head = json.dumps({"inputs": [described]}).encode()
    path = tmp_path / "body"
    path.write_bytes(head + (length if with_header else b"") + b"x" * size)
    (tmp_path / "files").mkdir()
    tracemalloc.start()
    try:
        body = _mapped(path)
        asked = parse(body, len(head), (FILE,), OUTPUTS, SETTINGS)
        received = _file(asked, "file", tmp_path / "files")
        assert tracemalloc.get_traced_memory()[1] < size // 8
    finally:
        tracemalloc.stop()
    assert (received.bytes, received.path.stat().st_size) == (size, size)
    assert received.sha256 == hashlib.sha256(b"x" * size).hexdigest()


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_files_arrive_as_they_were_sent(first: bytes, second: bytes) -> None:
    inputs = [
        tritonclient.InferInput(name, [1], "BYTES").set_data_from_numpy(np.array([content], dtype=np.object_))
        for name, content in (("file", first), ("roi", second))
    ]
    body, length = tritonclient.InferenceServerClient.generate_request_body(inputs)
    asked = parse(memoryview(body), length, (FILE, ROI), OUTPUTS, SETTINGS)
    assert dict(asked.tensors) == {"file": first, "roi": second}
    assert all(wanted.binary for wanted in asked.wanted)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["image", "mask", "logits", "FP32", "BYTES"]) | JSON
PARAMETERS = JSON | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("binary_data_size", "binary_data", "classification", "shared_memory_region"), JSON)
)
ENTRY = JSON | st.fixed_dictionaries(
    {"name": NAMES, "datatype": NAMES, "shape": JSON | st.lists(st.integers(-1, 5), max_size=3)},
    optional={"parameters": PARAMETERS, "data": JSON | st.lists(FLOATS, max_size=6)},
)
DOCUMENT = JSON | st.fixed_dictionaries(
    {"inputs": JSON | st.lists(ENTRY, max_size=2)},
    optional={"id": JSON, "outputs": JSON | st.lists(ENTRY, max_size=2), "parameters": PARAMETERS},
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(DOCUMENT, st.binary(max_size=30), st.none() | st.integers(0, 500))
def test_nothing_else_than_a_refusal(document: Any, behind: bytes, length: int | None) -> None:
    body = json.dumps(document).encode() + behind
    for inputs in ((IMAGE,), (IMAGE, MASK), (FILE,), (FILE, ROI)):
        try:
            asked = parse(memoryview(body), length, inputs, OUTPUTS, SETTINGS)
        except Refusal as refused:
            assert PROBLEMS[refused.kind].status < 500  # noqa: PT017 - not always raised
        else:
            assert set(asked.tensors) == {kind.name for kind in inputs}


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(3)), elements=FLOATS),
    st.lists(st.text(max_size=6), max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_tritonclient_reads_what_was_answered(array, texts, array_binary, texts_binary) -> None:
    names = [text.encode() for text in texts]
    outputs = [
        (Wanted("logits", array_binary), Output("logits", "FP32", array.shape, array)),
        (Wanted("findings", texts_binary), Output("findings", "BYTES", (len(texts),), names)),
        (Wanted("abstain", array_binary), Output("abstain", "BOOL", (2,), np.array([True, False]))),
    ]
    answer = reply("7", ("chest", "1"), outputs, SETTINGS)
    read = tritonclient.InferenceServerClient.parse_response_body(answer.body, header_length=answer.json_bytes)
    np.testing.assert_array_equal(read.as_numpy("logits"), array)
    found = [text if isinstance(text, str) else text.decode() for text in read.as_numpy("findings").tolist()]
    assert found == texts
    assert read.as_numpy("abstain").tolist() == [True, False]
    assert read.get_response()["id"] == "7"
