"""The drop: how much better or worse a network does on other data than on its own."""

from __future__ import annotations

import math
from collections.abc import Mapping

from medrail.evaluate.bootstrap import LEVEL, Measured

_METHOD = (
    f"difference of two evaluations of other patients; {LEVEL:.0%} interval from their intervals (MOVER: Zou and "
    "Donner, Statistics in Medicine 27, 2008)"
)


def differences(here: Mapping[str, Measured], own: Mapping[str, Measured]) -> dict[str, Measured]:
    """Of each metric that both have: value here minus own value, with its interval.

    The patients are others, so the two are independent: the variance of the difference at either end is recovered from
    the distance of each value to the bound on that side.
    """
    return {name: _difference(measured, own[name]) for name, measured in here.items() if name in own}


def _difference(here: Measured, own: Measured) -> Measured:
    gap = here.value - own.value
    low = gap - math.hypot(here.value - here.low, own.high - own.value)
    high = gap + math.hypot(here.high - here.value, own.value - own.low)
    known = math.isfinite(low) and math.isfinite(high)
    method = _METHOD if known else "no interval: one of the two has none"
    return Measured(gap, low if known else math.nan, high if known else math.nan, here.n, method)
