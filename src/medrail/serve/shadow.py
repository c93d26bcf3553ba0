"""Shadows: another version answers the same image after the request was answered; only the difference is logged.

They run in one thread of their own, behind the same gate; when more images wait for it than a few, the next ones are
passed over and counted, so that a slow shadow costs the requests no more than its share of the engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from medrail.errors import MedrailError
from medrail.serve.gate import Gate
from medrail.serve.log import ServiceLog
from medrail.serve.metrics import Telemetry
from medrail.serve.problems import Refusal
from medrail.serve.registry import ServedModel
from medrail.types import Image, Prediction

MOST_WAITING = 4


class Shadows:
    """What runs the shadows of a service."""

    def __init__(self, gate: Gate, log: ServiceLog, telemetry: Telemetry) -> None:
        self._gate = gate
        self._log = log
        self._telemetry = telemetry
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="medrail-shadow")
        self._lock = threading.Lock()
        self._waiting = 0
        self._passed_over = 0

    def after(
        self,
        shadows: Sequence[ServedModel],
        answered_by: ServedModel,
        image: Image,
        roi: Image | None,
        prediction: Prediction,
        request_id: str,
    ) -> None:
        """Let each shadow answer, too, some time; returns at once and raises nothing."""
        for shadow in shadows:
            with self._lock:
                if self._waiting >= MOST_WAITING:
                    self._passed_over += 1
                    continue
                self._waiting += 1
            try:
                self._pool.submit(self._run, shadow, answered_by, image, roi, prediction, request_id)
            except RuntimeError:  # the service ends
                return

    def close(self) -> None:
        """Finish what runs, forget what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(
        self,
        shadow: ServedModel,
        answered_by: ServedModel,
        image: Image,
        roi: Image | None,
        prediction: Prediction,
        request_id: str,
    ) -> None:
        begin = time.perf_counter()
        try:
            with self._telemetry.memory.working():
                found = difference(prediction, shadow.predictor(image, roi))
        except (MedrailError, Refusal) as error:
            found = {"failed": type(error).__name__}
        except Exception as error:  # noqa: BLE001 - a shadow may fail as it likes, the service goes on
            self._log.unexpected(error, request_id)
            found = {"failed": type(error).__name__}
        with self._lock:
            self._waiting -= 1
            passed_over, self._passed_over = self._passed_over, 0
        self._log.event(
            "shadow",
            request_id=request_id,
            model=answered_by.name,
            version=answered_by.version,
            shadow=shadow.version,
            ms=round((time.perf_counter() - begin) * 1e3, 3),
            passed_over=passed_over,
            **found,
        )


def difference(answered: Prediction, shadow: Prediction) -> dict[str, Any]:
    """How two answers to one image differ, in numbers that identify nobody.

    Returns
    -------
    Segmentation: ``voxels_differ``, the share of voxels with another class, and ``same``. Classification:
    ``max_difference`` of the probabilities, of the classes that both know, and ``same``: whether the decisions are.
    """
    if answered.mask is not None and shadow.mask is not None:
        one, other = answered.mask.voxels, shadow.mask.voxels
        if one.shape != other.shape:
            return {"same": False}
        share = float(np.mean(one != other))
        return {"voxels_differ": round(share, 6), "same": share == 0}
    both = answered.probabilities.keys() & shadow.probabilities.keys()
    gaps = [abs(answered.probabilities[name] - shadow.probabilities[name]) for name in both]
    decided = (answered.class_name, answered.findings) == (shadow.class_name, shadow.findings)
    return {"max_difference": round(max(gaps), 6) if gaps else None, "same": decided}
