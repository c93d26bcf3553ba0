"""Pace: how many images a second, and how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

LOOK_EVERY_S = 1.0
"""So often the loss of the running epoch is asked for: on a GPU that means waiting for it."""


class Pace:
    """Counts the images of an epoch, and the time of all epochs of this session with their validation.

    Parameters
    ----------
    epochs:
        Of the whole training; ``done``: those of earlier sessions.
    """

    def __init__(self, epochs: int, done: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._epochs, self._done, self._clock = epochs, done, clock
        self._begin = self._epoch_begin = clock()
        self._images, self._fraction = 0, 0.0
        self._looked, self._loss = -LOOK_EVERY_S, ""

    def begin_epoch(self) -> None:
        self._epoch_begin, self._images, self._fraction = self._clock(), 0, 0.0
        self._looked = self._epoch_begin - LOOK_EVERY_S

    def batch(self, images: int, fraction: float, loss: torch.Tensor) -> None:
        """After a batch; ``fraction``: of the epoch that is done."""
        self._images += images
        self._fraction = fraction
        now = self._clock()
        if now - self._looked >= LOOK_EVERY_S:
            self._looked, self._loss = now, f"loss {float(loss):.4f}"

    @property
    def images_per_s(self) -> float:
        """Of the running epoch so far, without validation."""
        return self._images / max(self._clock() - self._epoch_begin, 1e-9)

    def note(self, epochs_done: int) -> str:
        """The loss of the last batches, images a second, minutes left: "loss 0.1234, 240 images/s, 3 min left"."""
        progressed = epochs_done - self._done + self._fraction
        left = ""
        if progressed > 0:
            seconds = (self._clock() - self._begin) * (self._epochs - epochs_done - self._fraction) / progressed
            left = f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{max(0, seconds):.0f} s left"
        speed = f"{self.images_per_s:.3g} images/s" if self._images else ""
        return ", ".join(part for part in (self._loss, speed, left) if part)

    @property
    def epoch_s(self) -> float:
        """Since the running epoch began, with validation."""
        return round(self._clock() - self._epoch_begin, 3)
