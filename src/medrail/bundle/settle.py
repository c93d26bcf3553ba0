"""settle: which engine runs a bundle here. It is the one its judge chose, or the quickest that proves its answers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medrail.bundle.backend import Engine
from medrail.bundle.engines import AUTO, CPU, CUDA, ENGINE_NAMES, ENGINES, FP32, INT8, Choice, open_engine
from medrail.bundle.reference import TOLERANCES, Reference
from medrail.errors import BundleError, InputError, MedrailError

MEASURED_S = 0.4
"""Of all candidates together."""
CLEARLY = 1.2
"""How many times as quick as ONNX Runtime, which the network was evaluated with, another engine must be."""
_MOST_PASSES = 50


@dataclass(frozen=True)
class Taken:
    """The engine that runs a network, what it was asked to do, and why it is this one."""

    engine: Engine
    choice: Choice
    why: str

    def __str__(self) -> str:
        return f"{self.choice}: {self.why}"


@dataclass(frozen=True)
class Network:
    """What is to be run.

    content:
        The ONNX file.
    judged:
        What a judge chose for it; None: nobody has chosen.
    reference:
        What an engine must answer; None: there is nothing to prove answers by.
    tolerance:
        Precision -> the largest gap to it.
    """

    content: bytes
    judged: Choice | None = None
    reference: Reference | None = None
    tolerance: Mapping[str, float] = field(default_factory=lambda: TOLERANCES)

    @property
    def precision(self) -> str:
        """Of the file: fp32 or int8."""
        return INT8 if self.judged and self.judged.precision == INT8 else FP32

    def opened(self, choice: Choice, threads: int) -> Engine:
        """An engine that has proved its answers, where they can be.

        Raises
        ------
        BundleError
            If it cannot be opened, or answers otherwise.
        """
        engine = open_engine(self.content, choice, threads)
        if self.reference is None:
            return engine
        try:
            gap = self.reference.gap(engine, choice.precision)
        except InputError as error:
            raise BundleError(f"{choice} does not take the reference inputs ({error.found})") from None
        limit = self.tolerance.get(choice.precision, TOLERANCES[choice.precision])
        if not gap <= limit:
            raise BundleError(
                f"{choice} answers otherwise than the network that was exported, by {gap:.2g} of its logits",
                needed=f"at most {limit:g}",
                remedy="Choose another engine, as serve.engine; report this if there is none.",
            )
        return engine


def settle(network: Network, asked: str = AUTO, threads: int = 0) -> Taken:
    """Open a network.

    Parameters
    ----------
    asked:
        "auto": what the judge chose, if this machine can do it and it proves its answers; else the quickest of the
        installed ones, measured for a moment, at the file's own precision. Without a reference that would prove their
        answers, ONNX Runtime. A name: that engine, or an error.

    Raises
    ------
    BundleError
        If no engine, or not the named one, is possible here and answers as the reference.
    """
    if asked != AUTO:
        choice = named(asked, network)
        return Taken(network.opened(choice, threads), choice, "as asked for")
    refused = []
    if network.judged:
        try:
            return Taken(network.opened(network.judged, threads), network.judged, "as its judge chose")
        except BundleError as error:
            refused.append(error.found)
    candidates = list(_possible(network.precision))
    if network.reference is None:
        candidates = candidates[:1]
    return _quickest(network, candidates, threads, refused)


def of_run(network: Network, asked: str = AUTO, threads: int = 0) -> Taken:
    """As ``settle``, of a run that is evaluated: nothing is measured, so the same run gives the same numbers.

    "auto" is what is written beside the network, else ONNX Runtime.
    """
    choice = (network.judged or Choice()) if asked == AUTO else named(asked, network)
    why = "as asked for" if asked != AUTO else "as its judge chose" if network.judged else "as every run"
    return Taken(open_engine(network.content, choice, threads), choice, why)


def named(asked: str, network: Network) -> Choice:
    """What a name of ``serve.engine`` other than "auto" means for a network.

    Raises
    ------
    BundleError
        If there is no such name.
    """
    if asked not in ENGINE_NAMES:
        raise BundleError(f"engine {asked[:40]!r}", needed=f"one of {', '.join(ENGINE_NAMES)}")
    engine, _, device = asked.partition("-")
    judged = network.judged
    if judged and (judged.engine, judged.device) == (engine, device or CPU) and not judged.problem:
        return judged
    return Choice(engine, network.precision, device or CPU)


def _possible(precision: str) -> Iterator[Choice]:
    """ONNX Runtime first; nobody has judged another precision than the file's."""
    for name in ENGINES:
        for device in (CPU, CUDA):
            if device in ENGINES[name].devices and not (choice := Choice(name, precision, device)).problem:
                yield choice


def _quickest(network: Network, candidates: Sequence[Choice], threads: int, refused: list[str]) -> Taken:
    opened: list[tuple[float, Choice, Engine]] = []
    for choice in candidates:
        try:
            engine = network.opened(choice, threads)
        except MedrailError as error:
            refused.append(str(getattr(error, "found", error)))
            continue
        taken_s = _pass_s(engine, network.reference, MEASURED_S / len(candidates)) if len(candidates) > 1 else 0.0
        opened.append((taken_s, choice, engine))
    if not opened:
        raise BundleError(
            "no engine on this machine runs it: " + "; ".join(refused or ["none is installed"]),
            needed=" or ".join(entry.missing for entry in ENGINES.values()),
        )
    usual_s = opened[0][0]
    best = min(opened[1:], key=lambda one: one[0], default=opened[0])
    chosen = best if best[0] * CLEARLY < usual_s else opened[0]
    timed = ", ".join(f"{choice} {1000 * taken_s:.3g} ms" for taken_s, choice, _ in opened)
    why = f"measured: {timed}" if len(opened) > 1 else "the one that is possible here"
    return Taken(chosen[2], chosen[1], "; ".join([why, *refused]))


def _pass_s(engine: Engine, reference: Reference | None, budget_s: float) -> float:
    """Median time of one answer; it has answered before."""
    assert reference is not None  # noqa: S101 - without one there is a single candidate
    passes: list[float] = []
    began = time.perf_counter()
    while not passes or (len(passes) < _MOST_PASSES and time.perf_counter() - began < budget_s):
        start = time.perf_counter()
        engine(reference.inputs[:1])
        passes.append(time.perf_counter() - start)
    return statistics.median(passes)


def choice_of(values: Mapping[str, Any]) -> Choice | None:
    """The optional entry ``engine`` of network.json or bundle.json."""
    return Choice.from_dict(values["engine"]) if values.get("engine") is not None else None
