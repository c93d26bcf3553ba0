"""curves.png: how a training went, for whoever opens the run's folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from medrail.charts import Panel, draw_panels
from medrail.train.state import State
from medrail.workspace import Run

log = logging.getLogger("medrail.train")

REDRAW_S = 60.0
"""While training goes on, not more often; a drawing takes about a third of a second."""
_NO_SCORE = ("val_loss",)


class Curves:
    """Draws a run's history now and then, and never stops a training: the first failure is said, then nothing more."""

    def __init__(self, run: Run | None) -> None:
        self._run, self._drawn = run, time.perf_counter()

    def epoch(self, history: Sequence[Mapping[str, Any]], best_epoch: int) -> None:
        """After an epoch; draws if the last drawing is old."""
        if time.perf_counter() - self._drawn > REDRAW_S:
            self.draw(history, best_epoch)

    def draw(self, history: Sequence[Mapping[str, Any]], best_epoch: int) -> None:
        """Draw now."""
        if self._run is None or not history:
            return
        try:
            draw_panels(self._run.curves, panels(history, best_epoch))
        except Exception as error:  # noqa: BLE001 - a picture is not worth a training
            self._run = None
            log.warning("no curves (%s: %s); metrics.jsonl has the numbers", type(error).__name__, error)
        self._drawn = time.perf_counter()


@contextmanager
def drawn(run: Run | None, state: State) -> Iterator[Curves]:
    """Draws a last time however the training ends; run None: nothing."""
    curves = Curves(run)
    try:
        yield curves
    finally:
        curves.draw(state.history, state.best_epoch)


def panels(history: Sequence[Mapping[str, Any]], best_epoch: int) -> list[Panel]:
    """Loss, what validation measured, learning rate, images a second: each against the epoch."""
    best = [(float(best_epoch), "best")] if best_epoch else []
    losses = {"training": _curve(history, "train_loss"), "validation": _curve(history, "val_loss")}
    scores = {
        key.removeprefix("val_").replace("_", " "): _curve(history, key)
        for key in history[-1]
        if key.startswith("val_") and key not in _NO_SCORE
    }
    found = [("Loss", "loss", losses), ("Validation", "score", scores)]
    found += [("Learning rate", "lr", {"lr": _curve(history, "lr")})]
    found += [("Throughput", "images/s", {"images/s": _curve(history, "images_per_s")})]
    kept = [(title, y, {name: points for name, points in curves.items() if points}) for title, y, curves in found]
    return [Panel(title, "epoch", y, curves, marked=best) for title, y, curves in kept if curves]


def _curve(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(line["epoch"]), float(line[key])) for line in history if key in line]
