"""ENGINES: what can run a network, in which precision and on which device; one call opens any of them.

An engine is never chosen here: see ``medrail.bundle.settle``. What a bundle says of an engine comes from strangers, so
a ``Choice`` takes known words only, and opening refuses what this machine cannot do instead of doing something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, get_args

from medrail.bundle.backend import Engine, cuda_problem, onnx_backend, onnx_runtime
from medrail.bundle.openvino_backend import openvino_backend, openvino_problem, openvino_runtime
from medrail.config import EngineName
from medrail.errors import BundleError

FP32, BF16, INT8 = "fp32", "bf16", "int8"
PRECISIONS = (FP32, BF16, INT8)
CPU, CUDA = "cpu", "cuda"
AUTO = "auto"
ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)
"""What ``serve.engine`` may say: "auto", a name of ``ENGINES``, or "onnxruntime-cuda"."""


@dataclass(frozen=True)
class Choice:
    """One way to run a network.

    engine:
        A name of ``ENGINES``.
    precision:
        "fp32"; "bf16": the engine rounds to bfloat16 as it computes; "int8": the file is a quantised network, and the
        layers that are not quantised are computed in fp32.
    device:
        "cpu" or "cuda".

    Raises
    ------
    BundleError
        If there is no such engine, or it has no such precision or device.
    """

    engine: str = "onnxruntime"
    precision: str = FP32
    device: str = CPU

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, str):
                raise BundleError(f"engine: {name} is a {type(value).__name__}", needed="text")
        entry = ENGINES.get(self.engine)
        if entry is None:
            raise BundleError(f"engine {self.engine[:40]!r}", needed=f"one of {', '.join(ENGINES)}")
        for name, value, known in (
            ("precision", self.precision, entry.precisions),
            ("device", self.device, entry.devices),
        ):
            if value not in known:
                raise BundleError(f"{name} {value[:40]!r} of {self.engine}", needed=f"one of {', '.join(known)}")

    def __str__(self) -> str:
        """As a person is told.

        >>> str(Choice("onnxruntime", "int8"))
        'onnxruntime int8'
        """
        return f"{self.engine} {self.precision}" + (f" on {self.device}" if self.device != CPU else "")

    @property
    def problem(self) -> str:
        """Why it cannot be opened on this machine, and what to do about it; "" if it can."""
        return ENGINES[self.engine].problem(self)

    def to_dict(self) -> dict[str, str]:
        """JSON values; ``Choice.from_dict(choice.to_dict()) == choice``."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Any) -> Choice:
        """The inverse of ``to_dict``; "device" may be missing.

        Raises
        ------
        BundleError
            If it is anything else than known words at known keys.
        """
        if not isinstance(values, Mapping) or not {"engine", "precision"} <= values.keys() <= _KEYS:
            raise BundleError("the entry of the engine", needed="an object with engine, precision and device")
        return Choice(**values)


_KEYS = {"engine", "precision", "device"}


@dataclass(frozen=True)
class EngineEntry:
    """One engine.

    what:
        One line: what it is and when it is the better one.
    module, imported:
        The Python module that it is, and what imports it so that it sends nothing to anyone.
    missing:
        What to install where it is not.
    cannot:
        (precision, device) -> why this machine cannot do it, "" if it can; called only where it is installed.
    open:
        (ONNX bytes, choice, threads, at_once) as ``open_engine`` -> an engine that threads may share.
    """

    name: str
    what: str
    module: str
    imported: Callable[[], Any]
    missing: str
    precisions: tuple[str, ...]
    devices: tuple[str, ...]
    cannot: Callable[[str, str], str]
    open: Callable[[bytes, Choice, int, int], Engine]

    def installed(self) -> bool:
        """Whether the module is there; nothing is imported."""
        return find_spec(self.module) is not None

    def problem(self, choice: Choice) -> str:
        """As ``Choice.problem``."""
        if not self.installed():
            return f"{self.name} is not installed: {self.missing}"
        return self.cannot(choice.precision, choice.device)


ENGINES: Mapping[str, EngineEntry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            EngineEntry(
                "onnxruntime",
                "ONNX Runtime: what a run is evaluated with; CPUs of any kind, and NVIDIA GPUs",
                "onnxruntime",
                onnx_runtime,
                "pip install 'medrail[serve]'",
                (FP32, INT8),
                (CPU, CUDA),
                lambda precision, device: cuda_problem() if device == CUDA else "",
                lambda content, choice, threads, at_once: onnx_backend(content, threads, choice.device),
            ),
            EngineEntry(
                "openvino",
                "OpenVINO: x86 and Arm CPUs; mostly the quicker one for volumes, for bf16 and for int8",
                "openvino",
                openvino_runtime,
                "pip install 'medrail[openvino]'",
                PRECISIONS,
                (CPU,),
                lambda precision, device: openvino_problem(precision),
                lambda content, choice, threads, at_once: openvino_backend(content, choice.precision, threads, at_once),
            ),
        )
    }
)


def open_engine(content: bytes, choice: Choice, threads: int = 0, at_once: int = 0) -> Engine:
    """A network's bytes, opened.

    Parameters
    ----------
    content:
        The ONNX file; for int8 a quantised one.
    threads:
        Of one inference; 0: the CPUs this process may use.
    at_once:
        Inferences that may run at a time, others wait; 0: as many as the CPUs carry. (ONNX Runtime keeps no memory for
        each and takes any number.)

    Raises
    ------
    BundleError
        If this machine cannot do it, or the engine does not take the network.
    """
    if choice.problem:
        raise BundleError(f"{choice} is not possible here: {choice.problem}")
    return ENGINES[choice.engine].open(content, choice, threads, at_once)
