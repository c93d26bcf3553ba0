"""What stands in an ONNX file besides the network: where it was made, and data that it wants from other files.

Works on any protobuf message, so that no part is forgotten: model, graph, subgraph, value, node, attribute, tensor,
function.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TOLD_OF_ORIGIN = ("doc_string", "metadata_props")
_EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL


def parts(message: Any) -> Iterator[Any]:
    """A message and all messages within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from parts(part)


def forget_origin(message: Any) -> None:
    """Clear what tells where a network was made, in place: doc strings and metadata of the model and all its parts.

    The exporter writes the Python stack of every operator, with absolute paths, into its metadata (ONNX: the fields
    ``metadata_props`` and ``doc_string`` of model, graph, node, value, tensor, function and attribute).

    Parameters
    ----------
    message:
        An ``onnx.ModelProto``, or any message within one.
    """
    for part in parts(message):
        for field in part.DESCRIPTOR.fields:
            if field.name in _TOLD_OF_ORIGIN:
                part.ClearField(field.name)


def external_tensors(message: Any) -> list[str]:
    """The names of the tensors whose numbers are to be read from another file."""
    return [
        part.name
        for part in parts(message)
        if part.DESCRIPTOR.name == "TensorProto" and (part.data_location == _EXTERNAL or len(part.external_data))
    ]
