"""An end to work in this very process that takes too long, where the system can interrupt it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TooLate(KeyboardInterrupt):
    """Time is up. A kind of KeyboardInterrupt, since that is what nobody who reads files takes for a broken file."""


@contextmanager
def within(timeout_s: float) -> Iterator[None]:
    """Raise ``TooLate`` in the ``with`` after so many seconds (0: never).

    It interrupts Python code and waiting for files, not a library that computes. On Windows, and outside of the main
    thread, there is no such signal, and nothing is interrupted.
    """
    if not timeout_s or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ring(number: int, frame: FrameType | None) -> None:
    raise TooLate
