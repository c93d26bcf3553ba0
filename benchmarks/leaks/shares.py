"""Shares with their intervals, as measures."""

from __future__ import annotations

import record


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, share = 1.959964, hits / max(n, 1)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def share(name: str, hits: int, n: int, baseline: str) -> record.Measure:
    low, high = wilson(hits, n)
    return record.Measure(name, round(hits / n, 4), round(low, 4), round(high, 4), "share", n, baseline)
