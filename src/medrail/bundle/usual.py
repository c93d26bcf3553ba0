"""Usual: what answers and prepared images were like on the validation cases, so that a service can tell drift.

It is small (shares of classes, and of ten bins for each number), names no case, and travels in calibration.json.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import BundleError

BINS = 10
NO_FINDING = "(none)"
"""The bin of an image without any finding, where it may have several."""
NUMBERS = ("ood_score", "input_mean", "input_sd")
_LOOKED_AT = 4096


@dataclass(frozen=True)
class Shares:
    """How often each bin occurred: of names, or of numbers between ``edges`` (one fewer than there are bins)."""

    counts: tuple[int, ...]
    names: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        bins = len(self.names) if self.names else len(self.edges) + 1
        counted = all(type(count) is int and count >= 0 for count in self.counts)
        finite = all(isinstance(edge, int | float) and math.isfinite(edge) for edge in self.edges)
        if len(self.counts) != bins or bins < 2 or not counted or not sum(self.counts) or not finite:
            raise _wrong("counts that do not fit their bins")
        if not all(isinstance(name, str) for name in self.names) or list(self.edges) != sorted(set(self.edges)):
            raise _wrong("bins whose names or edges are not usable")

    @staticmethod
    def of_numbers(values: Sequence[float]) -> Shares | None:
        """Ten bins with about as many values each; None where they hardly vary: nothing to bin."""
        numbers = np.asarray(values, dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return None
        edges = sorted({float(f"{edge:.6g}") for edge in np.quantile(numbers, np.arange(1, BINS) / BINS)})
        counts = [0] * (len(edges) + 1)
        for value in numbers:
            counts[bisect_right(edges, float(value))] += 1
        return Shares(tuple(counts), edges=tuple(edges)) if sum(map(bool, counts)) > 1 else None

    @property
    def labels(self) -> tuple[str, ...]:
        """A short name of each bin."""
        if self.names:
            return self.names
        shown = [f"{edge:g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(shown)]
        return (f"below {shown[0]}", *between, f"from {shown[-1]}")

    def bins_of(self, value: Any) -> tuple[int, ...]:
        """The bins of one answer's value: a name, several names, or a number; () for what is in none."""
        if self.names:
            names = (value,) if isinstance(value, str) else tuple(value)
            return tuple(self.names.index(name) for name in names if name in self.names)
        number = float(value)
        return (bisect_right(self.edges, number),) if math.isfinite(number) else ()

    def to_dict(self) -> dict[str, Any]:
        bins = {"names": list(self.names)} if self.names else {"edges": list(self.edges)}
        return {**bins, "counts": list(self.counts)}


@dataclass(frozen=True)
class Usual:
    """``cases``: how many it was counted on. ``shares``: "classes", and of ``NUMBERS`` what the network gives."""

    cases: int
    shares: Mapping[str, Shares]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``Usual.from_dict(u.to_dict()) == u``, also after a trip through JSON text."""
        return {"cases": self.cases, "shares": {name: shares.to_dict() for name, shares in self.shares.items()}}

    @staticmethod
    def from_dict(values: Any) -> Usual:
        """Raises BundleError where it is not what ``to_dict`` makes."""
        try:
            return Usual(
                values["cases"],
                {
                    name: Shares(
                        tuple(entry["counts"]), tuple(entry.get("names", ())), tuple(map(float, entry.get("edges", ())))
                    )
                    for name, entry in values["shares"].items()
                    if name in ("classes", *NUMBERS)
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _wrong("not readable") from None


def input_statistics(voxels: npt.NDArray[Any]) -> dict[str, float]:
    """``input_mean`` and ``input_sd`` of a prepared image, of at most about 4,096 of its values, evenly taken.

    All of them would take as long as a small network. The stride has no factor in common with a row's length, so that
    it does not run down a column.
    """
    flat = voxels.reshape(-1)
    if not len(flat):
        return {}
    stride = max(1, len(flat) // _LOOKED_AT)
    while math.gcd(stride, voxels.shape[-1]) > 1:
        stride += 1
    taken = flat[::stride].astype(np.float64)
    return {"input_mean": float(taken.mean()), "input_sd": float(taken.std())}


def _wrong(found: str) -> BundleError:
    return BundleError(
        f"the calibration is wrong: usual: {found}",
        needed="counts for each name, or for each bin between rising edges",
        remedy="`medrail evaluate` fits it anew.",
    )
