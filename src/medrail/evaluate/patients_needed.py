"""How many more patients an interval of half the width would take."""

from __future__ import annotations

import math

from medrail.evaluate.bootstrap import Measured

FEW = 10
"""With fewer patients the width itself is hardly known."""
_LOPSIDED = 1.5


def more_patients(patients: int, factor: float = 2.0) -> int:
    """Patients to add to ``patients`` so that the interval gets ``factor`` times narrower.

    The half-width falls with the square root of the number of patients, if the new ones are like those at hand, so
    ``factor`` squared times as many are needed in all.

    >>> more_patients(90)
    270
    """
    return max(0, math.ceil(patients * (factor**2 - 1) - 1e-9))


def halving_sentence(measured: Measured, patients: int) -> str:
    """ "To halve this interval you need about N more patients", with what must be said beside it.

    Parameters
    ----------
    measured:
        The number with its interval.
    patients:
        How many patients it is made of: of the sensitivity of a class, those who have cases of that class.

    Returns
    -------
    One or two sentences. Where there is no interval, that nothing can be said. About new cases of the *same* patients
    nothing is said: they make the interval narrower by less.
    """
    if patients == 1:
        return "One patient says nothing of others, so it cannot be said how many patients a narrower interval takes."
    width = measured.high - measured.low
    if not math.isfinite(width) or patients < 1:
        return "There is no interval, so it cannot be said how many patients a narrower one takes."
    if width <= 0:
        return "The interval has no width, so it cannot be said how many patients a narrower one takes."
    number = _rounded(more_patients(patients))
    said = f"To halve this interval (now {width:.2g} wide) you need about {number} more patients like these {patients}."
    doubts = []
    if patients < FEW:
        doubts.append("of so few patients the width itself is a guess")
    below, above = measured.value - measured.low, measured.high - measured.value
    if max(below, above) > _LOPSIDED * max(min(below, above), 0.0):
        doubts.append("it is lopsided, and the longer side shrinks faster at first")
    return said + (f" Take this as rough: {'; '.join(doubts)}." if doubts else "")


def _rounded(number: int) -> int:
    """Two leading digits are all that can be meant.

    >>> _rounded(1872), _rounded(33)
    (1900, 33)
    """
    step = int(10 ** max(0, len(str(number)) - 2))
    return round(number / step) * step
