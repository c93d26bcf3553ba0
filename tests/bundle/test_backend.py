"""The engine: logits alone, or all that a network can say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medrail.bundle import onnx_backend
from medrail.bundle.backend import EVIDENCE, FEATURES, LOGITS, fetch, outputs_of
from medrail.errors import BundleError


def network(*outputs: str) -> bytes:
    """A classifier of one channel into two: map -> pooled -> logits."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.array([[1.0], [-2.0]], np.float32)
    made = {
        LOGITS: [helper.make_node("Gemm", ["pooled", "weight", "bias"], [LOGITS], transB=1)],
        FEATURES: [helper.make_node("Identity", ["pooled"], [FEATURES])],
        EVIDENCE: [helper.make_node("Mul", ["image", "by_class"], [EVIDENCE])],
        "other": [helper.make_node("Identity", ["pooled"], ["other"])],
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["pooled"]),
        *(node for name in outputs for node in made[name]),
    ]
    weights = {
        "weight": weight,
        "bias": np.array([0.25, 0.5], np.float32),
        "by_class": weight.reshape(1, 2, 1, 1),
    }
    graph = helper.make_graph(
        nodes,
        "several",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.fixture
def batch() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 1, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("order", [(LOGITS, FEATURES, EVIDENCE), (EVIDENCE, LOGITS, FEATURES)])
def test_all_outputs_by_name_whatever_their_order_in_the_file(order: Any, batch: np.ndarray) -> None:
    engine = onnx_backend(network(*order), threads=1)
    assert engine.outputs == (LOGITS, FEATURES, EVIDENCE)
    found = engine.fetch(batch, (EVIDENCE, LOGITS))
    assert list(found) == [EVIDENCE, LOGITS]
    np.testing.assert_array_equal(engine(batch), found[LOGITS])
    bias = np.array([0.25, 0.5], np.float32)
    np.testing.assert_allclose(found[EVIDENCE].mean(axis=(2, 3)) + bias, found[LOGITS], atol=1e-6)


def test_one_output_of_any_name_is_the_logits_as_in_bundles_of_old(batch: np.ndarray) -> None:
    engine = onnx_backend(network("other"), threads=1)
    assert engine.outputs == (LOGITS,)
    np.testing.assert_allclose(engine(batch)[:, 0], batch.mean(axis=(1, 2, 3)), atol=1e-6)
    assert list(fetch(engine, batch, (LOGITS, FEATURES, EVIDENCE))) == [LOGITS]


@pytest.mark.parametrize("outputs", [(FEATURES, EVIDENCE), (LOGITS, "other")])
def test_other_outputs_are_refused_by_name(outputs: Any) -> None:
    with pytest.raises(BundleError, match=outputs[1]):
        onnx_backend(network(*outputs), threads=1)


def test_a_plain_function_is_a_backend_with_logits_only(batch: np.ndarray) -> None:
    def double(images: np.ndarray) -> np.ndarray:
        return images.mean(axis=(2, 3)) * 2

    assert outputs_of(double) == (LOGITS,)
    assert fetch(double, batch, (FEATURES,)) == {}
    np.testing.assert_array_equal(fetch(double, batch, (LOGITS, FEATURES))[LOGITS], double(batch))
