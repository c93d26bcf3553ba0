"""Holm's correction: several comparisons, one promise about all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values corrected for their number, so that the chance of any false alarm among them stays below the level.

    The smallest is multiplied by their number, the next by one less, and so on; none falls below one before it
    (Holm, Scand J Stat 6:65, 1979). It asks nothing of how the tests depend on each other. NaN stays NaN and is not
    counted.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[place] = largest
    return tuple(corrected)
