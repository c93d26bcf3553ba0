"""ONNX networks as others make them: any layout, type and ending, with answers that are easy to know."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZE = (6, 8)
RNG = np.random.default_rng(3)
WEIGHT = RNG.normal(size=(3, 3)).astype(np.float32)


def network(
    ending: str,
    layout: str = "NHWC",
    *,
    classes: int = 3,
    channels: int = 3,
    kind: str = "float32",
    batch: Any = "n",
    size: tuple[Any, ...] = SIZE,
    opset: int = 17,
    maps: bool = False,
    as_inputs: bool = False,
) -> bytes:
    """Mean of each colour (``maps``: each pixel), a linear layer, and an ending.

    ``ending``: logits, softmax, log_softmax, sigmoid, identity (a softmax and an Identity), own (a softmax out of
    exponentials), squashed (a sigmoid out of a tanh). The input is called "input", and is taken as it is.
    """
    from onnx import TensorProto, helper, numpy_helper

    weight = np.resize(WEIGHT, (classes, channels)) * 3
    last = layout.endswith("C")
    nodes: list[Any] = [helper.make_node("Cast", ["input"], ["real"], to=TensorProto.FLOAT)]
    rank = len(layout)
    if last:
        nodes.append(helper.make_node("Transpose", ["real"], ["first"], perm=[0, rank - 1, *range(1, rank - 1)]))
    else:
        nodes.append(helper.make_node("Identity", ["real"], ["first"]))
    weights = {"kernel": weight.reshape(classes, channels, *[1] * (rank - 2))}
    nodes.append(helper.make_node("Conv", ["first", "kernel"], ["map"]))
    if maps:
        nodes.append(
            helper.make_node("Transpose", ["map"], ["z"], perm=[0, *range(2, rank), 1])
            if last
            else helper.make_node("Identity", ["map"], ["z"])
        )
    else:
        nodes += [
            helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["z"], axis=1),
        ]
    axis = (rank - 1 if last else 1) if maps else 1
    nodes += _ending(ending, axis, weights)
    sizes = {"C": channels, **dict(zip("DHW"[5 - rank :], size, strict=True))}
    shape = [batch, *(sizes[letter] for letter in layout[1:])]
    sizes["C"] = classes
    answered = ["n", *(sizes[letter] for letter in layout[1:])] if maps else ["n", classes]
    elem = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    inputs = [helper.make_tensor_value_info("input", elem, shape)]
    if as_inputs:
        inputs += [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in weights.items()
        ]
    graph = helper.make_graph(
        nodes,
        "strangers",
        inputs,
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, answered)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
        doc_string="made in /home/somebody/secret.py",
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if as_inputs else 8, producer_name="strange"
    )
    model.metadata_props.add(key="where", value="/home/somebody")
    return bytes(model.SerializeToString())


def _ending(ending: str, axis: int, weights: dict[str, np.ndarray]) -> list[Any]:
    from onnx import helper

    single = {"logits": "Identity", "softmax": "Softmax", "log_softmax": "LogSoftmax", "sigmoid": "Sigmoid"}
    if ending in single:
        attributes = {"axis": axis} if "softmax" in ending else {}
        return [helper.make_node(single[ending], ["z"], ["answer"], **attributes)]
    if ending == "identity":
        return [
            helper.make_node("Softmax", ["z"], ["p"], axis=axis),
            helper.make_node("Identity", ["p"], ["answer"]),
        ]
    if ending == "own":
        weights["axes"] = np.array([axis], dtype=np.int64)
        return [
            helper.make_node("Exp", ["z"], ["e"]),
            helper.make_node("ReduceSum", ["e", "axes"], ["sum"], keepdims=1),
            helper.make_node("Div", ["e", "sum"], ["answer"]),
        ]
    weights["half"] = np.array(0.5, dtype=np.float32)
    return [
        helper.make_node("Mul", ["z", "half"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("Mul", ["t", "half"], ["th"]),
        helper.make_node("Add", ["th", "half"], ["answer"]),
    ]


def answer(content: bytes, batch: np.ndarray) -> np.ndarray:
    """Of plain ONNX Runtime, to a batch as the network wants it."""
    import onnxruntime as ort

    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["answer"], {"input": batch})[0])
