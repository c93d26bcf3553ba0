"""Triton's model configuration, strictly: unknown fields, wrong types and unknown words are errors.

By Triton's own protobuf where the package tritonclient is installed; else by the part of it that medrail writes, with
the field names, numbers and types of Triton's model_config.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_TYPES = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
}
_ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_BOOL": 1, "TYPE_UINT8": 2, "TYPE_FP16": 10, "TYPE_FP32": 11, "TYPE_FP64": 12},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}
# Message -> field -> (number, type, repeated).
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "ModelInput": {"name": (1, "string", False), "data_type": (2, "DataType", False), "dims": (4, "int64", True)},
    "ModelOutput": {
        "name": (1, "string", False),
        "data_type": (2, "DataType", False),
        "dims": (3, "int64", True),
        "label_filename": (4, "string", False),
    },
    "All": {},
    "ModelVersionPolicy": {"all": (2, "All", False)},
    "ModelInstanceGroup": {"name": (1, "string", False), "count": (2, "int32", False), "kind": (4, "Kind", False)},
    "ModelDynamicBatching": {
        "preferred_batch_size": (1, "int32", True),
        "max_queue_delay_microseconds": (2, "uint64", False),
    },
    "ModelConfig": {
        "name": (1, "string", False),
        "platform": (2, "string", False),
        "version_policy": (3, "ModelVersionPolicy", False),
        "max_batch_size": (4, "int32", False),
        "input": (5, "ModelInput", True),
        "output": (6, "ModelOutput", True),
        "instance_group": (7, "ModelInstanceGroup", True),
        "default_model_filename": (8, "string", False),
        "dynamic_batching": (11, "ModelDynamicBatching", False),
        "backend": (17, "string", False),
    },
}


def parsed(text: str) -> Any:
    """The ModelConfig message; raises ``text_format.ParseError``."""
    return text_format.Parse(text, _model_config()())


def _model_config() -> Any:
    try:
        from tritonclient.grpc.model_config_pb2 import ModelConfig
    except (ImportError, RuntimeError):  # the latter of tritonclient[http], which has no gRPC
        return _own()
    return ModelConfig


def _own() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="triton_part.proto", package="triton_part", syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for word, number in values.items():
            enum.value.add(name=word, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = descriptor_pb2.FieldDescriptorProto
            added = message.field.add(name=field, number=number)
            added.label = label.LABEL_REPEATED if repeated else label.LABEL_OPTIONAL
            if kind in _TYPES:
                added.type = _TYPES[kind]
            else:
                added.type = label.TYPE_ENUM if kind in _ENUMS else label.TYPE_MESSAGE
                added.type_name = f".triton_part.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("triton_part.ModelConfig"))
