"""rewrite: an ONNX network of any layout and ending -> one that takes (N, C, [D,] H, W) float32 and gives logits.

Nothing within the network is touched. Before it stand a reversal of colours, a transposition, a change of type, where
they are needed; behind it what makes logits of what it gives:

* its last softmax or sigmoid is left out, since its input are the logits;
* probabilities that come from elsewhere get a logarithm: ``softmax(log p) = p``;
* a single number z for two classes becomes (-z / 2, z / 2), whose softmax is ``sigmoid(z)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medrail.adopt.given import Given
from medrail.adopt.trial import Looked
from medrail.bundle.onnx_parts import forget_origin, parts

INPUT, OUTPUT = "image", "logits"
_SMALLEST = float(np.finfo(np.float32).tiny)
_LAST_LAYERS = {"Softmax": "softmax", "LogSoftmax": "logits", "Sigmoid": "sigmoid"}
_SINCE_ONE_AXIS = 13  # opset; before it a softmax was over all axes from its own on


@dataclass(frozen=True)
class Answer:
    """Which output is the answer, and how it is read.

    rank, axis:
        Its number of axes, and the one of the classes.
    count:
        How many classes it tells of.
    spatial:
        Whether it is a map of the image's size.
    """

    output: str
    rank: int
    axis: int
    count: int
    spatial: bool


@dataclass(frozen=True)
class Ending:
    """Where the answer is taken.

    tensor:
        The input of the last softmax or sigmoid, else the output.
    gives:
        What that holds.
    last:
        "softmax" or "sigmoid" where it is left out, else "".
    """

    tensor: str
    gives: Literal["logits", "probabilities"]
    last: str = ""


def ending_of(model: Any, answer: Answer) -> Ending | None:
    """What the file says of its last layer; None where it says nothing, and only numbers can tell."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    node = made_by.get(answer.output)
    while node is not None and node.op_type == "Identity" and not node.domain:
        node = made_by.get(node.input[0])
    if node is None or node.domain or node.op_type not in _LAST_LAYERS:
        return None
    last = _LAST_LAYERS[node.op_type]
    if last != "sigmoid" and not _is_over_classes(node, model, answer):
        return None
    return Ending(answer.output, "logits") if last == "logits" else Ending(node.input[0], "logits", last)


def _is_over_classes(node: Any, model: Any, answer: Answer) -> bool:
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    default = -1 if opset >= _SINCE_ONE_AXIS else 1
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), default) % answer.rank
    return bool(axis == answer.axis and (opset >= _SINCE_ONE_AXIS or axis == answer.rank - 1))


@dataclass
class Rewriting:
    """A network with another beginning and end; ``changes`` has in words what was done. The message itself is changed.

    free_batch:
        Whether the number of images is left free; else it is 1.
    """

    model: Any
    given: Given
    free_batch: bool
    changes: list[str] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        forget_origin(self.model)
        self.model.producer_name = self.model.producer_version = ""
        for part in parts(self.model.graph):
            if part.DESCRIPTOR.name == "NodeProto":
                self._taken.update([*part.input, *part.output])
            elif part.DESCRIPTOR.name in ("ValueInfoProto", "TensorProto"):
                self._taken.add(part.name)

    def begin(self, looked: Looked, shape: tuple[int, ...]) -> None:
        """The new input, and what leads from it to the old one; ``shape`` is (C, [D,] H, W)."""
        from onnx import TensorProto, helper

        graph, old = self.model.graph, looked.input
        front: list[Any] = []
        name = current = self._fresh(INPUT)
        if self.given.blue_first:
            order = self._constant(front, np.array([2, 1, 0], dtype=np.int64))
            current = self._add(front, "Gather", [current, order], axis=1)
            self.changes.append("colours are reversed: it wants blue, green, red")
        if self.given.channels_last:
            current = self._add(front, "Transpose", [current], perm=[0, *range(2, 2 + self.given.dims), 1])
            self.changes.append(f"the image is transposed: it wants {self.given.layout}")
        if old.type != "float32":
            wanted = helper.np_dtype_to_tensor_dtype(np.dtype(old.type))
            current = self._add(front, "Cast", [current], to=wanted)
            self.changes.append(f"the image is made {old.type}: it wants that")
        front.append(helper.make_node("Identity", [current], [old.name]))
        kept = [one for one in graph.input if one.name != old.name]
        batch = "batch" if self.free_batch else 1
        nodes = list(graph.node)
        del graph.input[:], graph.node[:], graph.value_info[:]
        graph.input.extend([helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape]), *kept])
        graph.node.extend([*front, *nodes])

    def finish(self, answer: Answer, ending: Ending) -> None:
        """What leads from the answer to logits (N, K, [D,] H, W) or (N, K)."""
        from onnx import TensorProto, helper

        back: list[Any] = []
        current = self._add(back, "Cast", [ending.tensor], to=TensorProto.FLOAT)
        if ending.last:
            self.changes.append(f"its last layer, a {ending.last}, is left out: medrail applies it")
        if answer.spatial and answer.axis != 1:
            last = answer.rank - 1
            current = self._add(back, "Transpose", [current], perm=[0, last, *range(1, last)])
        elif not answer.spatial and answer.rank != 2:
            current = self._add(back, "Flatten", [current], axis=1)
        single = answer.count == 1 and not self.given.multi_label
        if ending.gives == "probabilities":
            current = self._logarithms(back, current, single=single)
            self.changes.append("a logarithm is taken of its probabilities, of which medrail makes the same again")
        elif single:
            ones = [1] * (answer.rank - 2 if answer.spatial else 0)
            halves = self._constant(back, np.array([-0.5, 0.5], dtype=np.float32).reshape(1, 2, *ones))
            current = self._add(back, "Mul", [current, halves])
        if single:
            self.changes.append(f"its single output is taken for how probable {self.given.classes[1]} is")
        name = self._fresh(OUTPUT)
        back.append(helper.make_node("Identity", [current], [name]))
        graph = self.model.graph
        sizes = ["batch" if self.free_batch else 1, len(self.given.classes)]
        more = [f"size{number}" for number in range(answer.rank - 2)] if answer.spatial else []
        del graph.output[:]
        graph.node.extend(back)
        graph.output.extend([helper.make_tensor_value_info(name, TensorProto.FLOAT, [*sizes, *more])])

    def _logarithms(self, back: list[Any], current: str, *, single: bool) -> str:
        """Of probabilities; of one alone, or of several labels, also of what is left to 1."""
        if not single and not self.given.multi_label:
            return self._logarithm(back, current)
        one = self._constant(back, np.array(1, dtype=np.float32))
        rest = self._add(back, "Sub", [one, current])
        if single:
            return self._logarithm(back, self._add(back, "Concat", [rest, current], axis=1))
        return self._add(back, "Sub", [self._logarithm(back, current), self._logarithm(back, rest)])

    def _logarithm(self, back: list[Any], current: str) -> str:
        smallest = self._constant(back, np.array(_SMALLEST, dtype=np.float32))
        return self._add(back, "Log", [self._add(back, "Max", [current, smallest])])

    def _add(self, nodes: list[Any], kind: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        name = self._fresh(f"medrail_{kind.lower()}")
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _constant(self, nodes: list[Any], value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        return self._add(nodes, "Constant", [], value=numpy_helper.from_array(value))

    def _fresh(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name
