"""write_onnx: a torch network -> an ONNX file, without a word on the screen."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from medrail.bundle.backend import LOGITS
from medrail.bundle.onnx_parts import forget_origin
from medrail.errors import ExportError

OPSET = 20
INPUT = "image"
_TALKERS = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch._dynamo")


def write_onnx(
    network: nn.Module, input_shape: tuple[int, ...], path: Path, outputs: Sequence[str] = (LOGITS,)
) -> None:
    """Write ``network`` with a free batch size; the other sizes are fixed.

    Images of other sizes are served by sliding a window of the trained size, so nothing is lost by fixing it, and the
    engine can plan its memory. Nothing in the file tells where it was made, and the same network gives the same bytes.

    Parameters
    ----------
    network:
        In evaluation mode, on the CPU.
    input_shape:
        (C, [D,] H, W).
    outputs:
        Names of what it answers, in order; ``WithEvidence.outputs`` for one that answers with more than logits.

    Raises
    ------
    ExportError
        If the network cannot be expressed in ONNX.
    """
    example = torch.zeros(2, *input_shape)  # a batch of 1 would be taken for a constant
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(outputs),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
            if program is None:
                raise ExportError("the exporter returned nothing")
            model = program.model_proto
        forget_origin(model)
        path.write_bytes(model.SerializeToString(deterministic=True))
    except ExportError:
        raise
    except Exception as error:  # the exporter's own exceptions share no base but Exception
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise ExportError(
            f"the network cannot be written as ONNX ({type(error).__name__}: {reason})",
            remedy="Choose another model.name; every one that medrail lists is tested to export.",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress and logs what optional packages it does without."""
    loggers = [logging.getLogger(name) for name in _TALKERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
