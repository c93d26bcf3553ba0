"""TorchScript: a traced and frozen network in one file, for programs in C++ or Python that have torch and no medrail.

torch says that TorchScript is deprecated: it still reads and writes it, and its warnings about that are silenced here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medrail.bundle.backend import Batch, Engine
from medrail.errors import ExportError
from medrail.export.quiet import quiet

_TOLD_OF_ORIGIN = ".debug_pkl"
_jit: Any = torch.jit  # parts of it have no types


def write_torchscript(network: nn.Module, input_shape: tuple[int, ...], path: Path) -> None:
    """Trace ``network`` with any batch size, freeze it and write it; nothing in the file tells where it was made.

    Parameters
    ----------
    network:
        In evaluation mode, on the CPU.
    input_shape:
        (C, [D,] H, W).

    Raises
    ------
    ExportError
        If the network cannot be traced.
    """
    example = torch.zeros(2, *input_shape)  # a batch of 1 could be taken for a constant
    try:
        with quiet("torch.jit", logging.ERROR), torch.no_grad():
            traced: Any = _jit.trace(network, (example,), check_trace=False)
            _jit.save(_jit.freeze(traced), str(path))
    except Exception as error:  # torch's own exceptions share no base but Exception
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise ExportError(
            f"the network cannot be traced ({type(error).__name__}: {reason})",
            remedy="Export it as ONNX instead: --to onnx.",
        ) from error
    _forget_origin(path)


def torchscript_backend(path: Path, outputs: tuple[str, ...]) -> Engine:
    """A TorchScript file on the CPU, with as many threads as torch has.

    Parameters
    ----------
    outputs:
        The names of what it answers, in order.
    """
    with quiet("torch.jit", logging.ERROR):
        module: Any = _jit.load(str(path), map_location="cpu").eval()

    def answer(batch: Batch, names: tuple[str, ...]) -> Mapping[str, Batch]:
        with torch.inference_mode(), quiet("torch.jit", logging.ERROR):
            found = module(torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32)))
        by_name = dict(zip(outputs, found if isinstance(found, tuple) else (found,), strict=True))
        return {name: by_name[name].float().numpy() for name in names}

    return Engine(outputs, answer)


def _forget_origin(path: Path) -> None:
    """Leave out the records with the source lines, and their paths, of every operator."""
    reader = torch._C.PyTorchFileReader(str(path))
    records = {name: reader.get_record(name) for name in reader.get_all_records()}
    del reader
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in records.items():
        if not name.endswith(_TOLD_OF_ORIGIN) and name not in _WRITTEN_BY_TORCH:
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()


_WRITTEN_BY_TORCH = ("version", "byteorder", ".data/serialization_id")
