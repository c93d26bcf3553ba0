"""contenders: a run's network in every format, engine and precision that this machine has, opened and ready."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medrail.bundle.backend import Backend
from medrail.bundle.engines import CPU, ENGINES, FP32, INT8, Choice, open_engine
from medrail.errors import MedrailError
from medrail.export.benchmark import Contender
from medrail.export.formats import FORMATS, TORCHSCRIPT_FILE, Subject
from medrail.export.quantise import quantise_within
from medrail.train import torch_backend

_QUANTISED_FILE = "quantised.onnx"
_HELD_OUT = 8
"""Inputs that tell whether layers must stay in float; by the others the ranges are found."""


@dataclass(frozen=True)
class Entered:
    """The contenders, the first one first, and why others are not among them."""

    contenders: tuple[Contender, ...]
    absent: tuple[str, ...]


def enter(
    subject: Subject, weights: Path, inputs: Sequence[npt.NDArray[np.float32]], folder: Path, *, quantised: bool
) -> Entered:
    """Open them all. The first one is torch as it was trained; of a quantised run ONNX Runtime with its file.

    Parameters
    ----------
    weights:
        The file of the trained weights.
    inputs:
        Of the network, (C, [D,] H, W) each, from training cases: it is quantised by them.
    folder:
        For files that are needed as long as the contenders are used.
    quantised:
        Whether the run's own network is a quantised one: it is then timed in INT8 alone.
    """
    made: list[Contender] = []
    absent: list[str] = []
    if not quantised:
        made.append(_of(subject, "torch", "eager", FP32, weights, torch_backend(subject.trained())))
        script, file = FORMATS["torchscript"], folder / TORCHSCRIPT_FILE
        script.write(subject, folder)
        made.append(_of(subject, script.name, "torch", FP32, file, script.open(subject, folder)))
    int8 = subject.network if quantised else _quantised(subject, inputs, folder / _QUANTISED_FILE, absent)
    for choice in _choices():
        network = int8 if choice.precision == INT8 else None if quantised else subject.network
        if network is None:
            continue
        if choice.problem:
            where = f" on {choice.device}" if choice.device != CPU else f" {choice.precision}"
            absent.append(f"{choice.engine}{where}: {choice.problem}")
            continue
        try:
            engine = open_engine(network.read_bytes(), choice, subject.threads)
        except MedrailError as error:
            absent.append(f"{choice}: {error}")
            continue
        where = choice.engine if choice.device == CPU else f"{choice.engine} {choice.device}"
        made.append(_of(subject, "onnx", where, choice.precision, network, engine))
    return Entered(tuple(made), tuple(dict.fromkeys(absent)))


def _choices() -> Iterator[Choice]:
    for entry in ENGINES.values():
        for device in entry.devices:
            for precision in entry.precisions:
                yield Choice(entry.name, precision, device)


def _of(subject: Subject, name: str, engine: str, precision: str, file: Path, backend: Backend) -> Contender:
    predictor = subject.evaluated.behind(lambda _: backend)
    return Contender(name, engine, precision, file.stat().st_size / 1e6, predictor)


def _quantised(
    subject: Subject, inputs: Sequence[npt.NDArray[np.float32]], path: Path, absent: list[str]
) -> Path | None:
    batches = [one[np.newaxis] for one in inputs]
    calibrating, held_out = batches[:-_HELD_OUT] or batches, batches[-_HELD_OUT:]
    try:
        quantise_within(subject.network, path, calibrating, held_out)
    except MedrailError as error:
        absent.append(f"int8: {error}")
        return None
    return path
