"""What may be said of a test: never more than it shows."""

from __future__ import annotations

import math

from medrail.evaluate.paired import PairedTest

ALPHA = 0.05
_LOWER = ("hd95", "volume_error", "brier", "log_loss", "ece", "expected_calibration", "assd")
_UNITS = ("_mm", "_px", "_ml", "log_loss")


def lower_is_better(metric: str) -> bool:
    """Whether less of it is better, as of a distance or an error."""
    return metric.startswith(_LOWER)


def has_unit(metric: str) -> bool:
    """Whether it does not lie between 0 and 1 (or -1 and 1), so that it needs an axis of its own."""
    return metric.partition("/")[0].endswith(_UNITS)


def verdict(test: PairedTest, corrected: float, *, same: bool = False) -> str:
    """A few words: "better", "worse", or why no difference is claimed.

    "no difference shown" is not "equal": the interval says how large a difference may still be there.

    Parameters
    ----------
    corrected:
        p after Holm's correction.
    same:
        Whether both answered the same on every case.
    """
    if same:
        return "the same answers on every case"
    if not math.isfinite(corrected):
        return "no test"
    if corrected <= ALPHA:
        return "worse" if (test.difference < 0) != lower_is_better(test.metric) else "better"
    if test.smallest_p > ALPHA:
        return "too few to show a difference"
    if test.p <= ALPHA:
        return "no difference shown after correction"
    return "no difference shown"
