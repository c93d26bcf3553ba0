"""Files made to break whoever opens them: refused with a reason, by a process that alone may die of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from medrail.adopt import Given, Label, adopt
from medrail.adopt import trial as trial_room
from medrail.errors import BundleError
from strangers_networks import network

GIVEN = Given(("a", "b", "c"), "NHWC", "0..1")


def refused(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=match):
        adopt(path, GIVEN, tmp_path / "bundles", Label("theirs"))
    assert not (tmp_path / "bundles").exists()


def changed(change: Any) -> bytes:
    model = onnx.load_model_from_string(network("softmax"))
    change(model)
    return bytes(model.SerializeToString())


def external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_within(model: Any) -> None:
    """In a branch of an If, where a checker of the top level's weights does not look."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../secret")
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [3])
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "branch", [], [out], [tensor])
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    model.graph.initializer.append(yes)
    model.graph.node.append(helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch))


def two_inputs(model: Any) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def unknown_operator(model: Any) -> None:
    model.graph.node.append(helper.make_node("Steal", ["input"], ["loot"], domain="evil"))
    model.opset_import.append(helper.make_opsetid("evil", 1))


def old(model: Any) -> None:
    model.opset_import[0].version = 7


def text_input(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def endless(model: Any) -> None:
    """A loop that does not end."""
    yes = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [yes("i", TensorProto.INT64, []), yes("go", TensorProto.BOOL, []), yes("x", TensorProto.FLOAT, ["n", 3])],
        [yes("on", TensorProto.BOOL, []), yes("y", TensorProto.FLOAT, ["n", 3])],
    )
    model.graph.initializer.append(helper.make_tensor("true", TensorProto.BOOL, [], [True]))
    last = model.graph.node[-1]
    kept = last.output[0]
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("Loop", ["", "true", "before"], [kept], body=body))


def bomb(model: Any) -> None:
    """A layer that asks for four terabytes, half of a byte of file for each gigabyte."""
    model.graph.initializer.append(helper.make_tensor("huge", TensorProto.INT64, [2], [2**20, 2**20]))
    last = model.graph.node[-1]
    kept = last.output[0]
    last.output[0] = "before"
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["huge"], ["filled"]),
            helper.make_node("ReduceMax", ["filled"], ["largest"], keepdims=0),
            helper.make_node("Add", ["before", "largest"], [kept]),
        ]
    )


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a valid|not an ONNX|opset"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an ONNX file"),
        (network("softmax")[:-40], "not an ONNX file"),
        (changed(external), "weights of 1 tensors, as 'kernel', are in other files"),
        (changed(external_within), "are in other files"),
        (changed(two_inputs), "2 inputs"),
        (changed(unknown_operator), "ONNX Runtime cannot run|not a valid"),
        (changed(old), "opset 7"),
        (changed(text_input), "ONNX type 8|not a valid"),
    ],
    ids=["empty", "png", "torn", "external", "external_within", "two", "unknown", "old", "text"],
)
def test_a_file_that_is_no_network_for_us_is_refused(
    tmp_path: Path, content: bytes, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here without the process, so that it is quick; the process itself is below."""
    import sys

    monkeypatch.setattr(
        sys.modules["medrail.adopt.adopt"],
        "look_at",
        lambda content, free, layout, where: trial_room._looked(content, free, layout),
    )
    refused(tmp_path, content, match)


def test_a_layer_that_asks_for_terabytes_ends_the_trial_alone(tmp_path: Path) -> None:
    refused(tmp_path, changed(bomb), "cannot run the network|broke off")


def test_a_network_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_room, "LIMIT_S", 4)
    refused(tmp_path, changed(endless), "did not answer within 4 s")


def test_a_trial_that_crashes_is_an_error_with_its_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_room.sys, "executable", "/bin/false")
    refused(tmp_path, network("softmax"), r"broke off \(exit code 1\)")


def test_the_trial_tells_what_the_file_says() -> None:
    looked = trial_room.look_at(network("softmax"), {}, "NHWC")
    assert looked.input.shape == (None, 6, 8, 3)
    assert looked.answers == {"answer": (1, 3)}
    assert (looked.opset, looked.producer) == (17, "strange")
    with pytest.raises(BundleError, match="not an ONNX file"):
        trial_room.look_at(bytes(np.random.default_rng(0).integers(0, 256, 999, dtype=np.uint8)), {}, "NHWC")
