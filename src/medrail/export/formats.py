"""FORMATS: what a network is exported to for programs that are not medrail; one call writes any of them.

Each is compared on real cases with the network that was evaluated, and has beside it ``facts.json``: what another
program must know to feed it and to read its answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from torch import nn

from medrail.bundle import NetworkSpec, Predictor, onnx_backend
from medrail.bundle.backend import Engine
from medrail.errors import ConfigError, did_you_mean
from medrail.export.openvino_ir import WEIGHTS, XML, openvino_backend, write_openvino
from medrail.export.torchscript import torchscript_backend, write_torchscript

ONNX_FILE, TORCHSCRIPT_FILE = "model.onnx", "model.pt"


@dataclass(frozen=True)
class Subject:
    """The network that is exported.

    network:
        Its ONNX file, as it was evaluated.
    evaluated:
        Answers by that file, with the calibration that it was evaluated with.
    outputs:
        What it answers, in order.
    trained:
        Makes the trained network, which answers with the same outputs.
    threads:
        Of an engine; 0: all cores.
    half:
        Whether OpenVINO stores weights as float16.
    """

    network: Path
    evaluated: Predictor
    outputs: tuple[str, ...]
    trained: Callable[[], nn.Module]
    threads: int = 0
    half: bool = False

    @property
    def spec(self) -> NetworkSpec:
        """How to feed it."""
        return self.evaluated.spec

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, [D,] H, W)."""
        return (self.spec.channels, *(self.spec.patch or self.spec.grid))


@dataclass(frozen=True)
class Format:
    """One format.

    what:
        One line: what it is and for whom.
    module, missing:
        The Python module that writes it, and what to install where it is not there.
    files:
        What is written, the one to open first.
    write:
        Fills a folder with them.
    open:
        The folder -> an engine.
    """

    name: str
    what: str
    module: str
    missing: str
    files: tuple[str, ...]
    write: Callable[[Subject, Path], None]
    open: Callable[[Subject, Path], Engine]

    def installed(self) -> bool:
        """Whether the module is there; nothing is imported."""
        return find_spec(self.module) is not None


def _copy(subject: Subject, folder: Path) -> None:
    shutil.copyfile(subject.network, folder / ONNX_FILE)


def _open_onnx(subject: Subject, folder: Path) -> Engine:
    return onnx_backend(folder / ONNX_FILE, subject.threads)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Format(
                "onnx",
                "ONNX: the very file that was evaluated; ONNX Runtime and most other engines read it",
                "onnxruntime",
                "pip install 'medrail[serve]'",
                (ONNX_FILE,),
                _copy,
                _open_onnx,
            ),
            Format(
                "torchscript",
                "TorchScript: traced and frozen, for programs with torch (libtorch in C++) and without medrail",
                "torch",
                "pip install 'medrail[train]'",
                (TORCHSCRIPT_FILE,),
                lambda subject, folder: write_torchscript(
                    subject.trained(), subject.input_shape, folder / TORCHSCRIPT_FILE
                ),
                lambda subject, folder: torchscript_backend(folder / TORCHSCRIPT_FILE, subject.outputs),
            ),
            Format(
                "openvino",
                "OpenVINO IR: for OpenVINO and its Model Server, on CPUs",
                "openvino",
                "pip install openvino",
                (XML, WEIGHTS),
                lambda subject, folder: write_openvino(subject.network, folder, half=subject.half),
                lambda subject, folder: openvino_backend(folder, subject.threads),
            ),
            Format(
                "triton",
                "a model repository of Triton Inference Server, with dynamic batching and every version side by side",
                "onnxruntime",
                "pip install 'medrail[serve]'",
                (ONNX_FILE,),
                _copy,
                _open_onnx,
            ),
        )
    }
)


def asked_formats(words: Sequence[str]) -> tuple[Format, ...]:
    """The formats that ``--to`` names: each word one, or several with commas between; in that order, each once.

    Raises
    ------
    ConfigError
        If there is no such format, or what writes it is not installed.
    """
    names = list(dict.fromkeys(name.strip() for word in words for name in word.split(",")))
    for name in names:
        if name not in FORMATS:
            raise ConfigError(
                f"--to {name!r}", needed=f"of {', '.join(FORMATS)}", remedy=did_you_mean(name, list(FORMATS))
            )
    absent = [FORMATS[name] for name in names if not FORMATS[name].installed()]
    if absent:
        raise ConfigError(
            f"{', '.join(entry.name for entry in absent)}: what writes it is not installed",
            remedy="; ".join(dict.fromkeys(entry.missing for entry in absent)),
        )
    return tuple(FORMATS[name] for name in names)
