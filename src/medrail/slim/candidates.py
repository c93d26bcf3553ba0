"""Candidates: how much is pruned x the numbers that are computed in x the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medrail.bundle.engines import CPU, ENGINES, INT8, Choice
from medrail.config import SlimConfig


@dataclass(frozen=True)
class Candidate:
    """One way to make a run smaller or faster.

    ratio:
        Share that is pruned (``slim.by`` says of what); 0: nothing.
    choice:
        Engine and precision.
    unstructured:
        Single weights are set to zero instead of whole channels taken out: never accepted, only shown.
    """

    ratio: float
    choice: Choice
    unstructured: bool = False

    @property
    def name(self) -> str:
        """As its folder is called.

        >>> Candidate(0.5, Choice("openvino", "int8")).name
        'pruned-50-openvino-int8'
        """
        return f"{source_name(self.ratio, unstructured=self.unstructured)}-{self.choice.engine}-{self.choice.precision}"

    @property
    def told(self) -> str:
        """As a person is told.

        >>> Candidate(0.0, Choice("openvino", "bf16")).told
        'not pruned, openvino bf16'
        """
        if self.unstructured:
            return f"{self.ratio:.0%} of the weights zero, {self.choice}"
        return f"{f'{self.ratio:.0%} pruned' if self.ratio else 'not pruned'}, {self.choice}"


def source_name(ratio: float, *, unstructured: bool = False) -> str:
    """What the network is called before an engine and a precision are chosen for it.

    >>> source_name(0), source_name(0.125)
    ('whole', 'pruned-12.5')
    """
    if unstructured:
        return f"zeros-{100 * ratio:g}"
    return f"pruned-{100 * ratio:g}" if ratio else "whole"


def candidates_of(config: SlimConfig, base: Choice) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """Every candidate that this machine can run, the base left out, and what is left out for which reason.

    Parameters
    ----------
    base:
        How the unslimmed run is served.

    Returns
    -------
    Candidates, those that are pruned least first; sentences.
    """
    choices, notes = _choices(config)
    ratios = sorted(dict.fromkeys(config.ratios))
    found = [Candidate(ratio, choice) for ratio in ratios for choice in choices if ratio or choice != base]
    return tuple(found), notes


def _choices(config: SlimConfig) -> tuple[Sequence[Choice], tuple[str, ...]]:
    choices, notes = [], []
    for name, entry in ENGINES.items():
        if config.engines and name not in config.engines:
            continue
        if not entry.installed():
            notes.append(f"{name} is not among the candidates, as it is not installed: {entry.missing}")
            continue
        for precision in entry.precisions:
            if config.precisions and precision not in config.precisions:
                continue
            choice = Choice(name, precision, CPU)
            if choice.problem:
                notes.append(f"{choice} is not among the candidates: {choice.problem}")
            else:
                choices.append(choice)
    return choices, tuple(notes)


def needs_quantising(choices: Sequence[Choice]) -> bool:
    """Whether any of them computes with whole numbers of 8 bits, for which the network is written anew."""
    return any(choice.precision == INT8 for choice in choices)
