"""Shadows: another version answers the same image after the request was answered; only the difference is logged.

They run in one thread of their own, behind the same gate; when more images wait for it than a few, the next ones are
passed over and counted, so that a slow shadow costs the requests no more than its share of the engine. So they are when
all that wait would hold more voxels than one image may have.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from medrail.errors import MedrailError
from medrail.serve.difference import classes_difference, share_differing
from medrail.serve.gate import Gate
from medrail.serve.log import ServiceLog
from medrail.serve.metrics import Telemetry
from medrail.serve.problems import Refusal
from medrail.serve.registry import ServedModel
from medrail.serve.screen import screen_growth
from medrail.types import Image, Prediction

MOST_WAITING = 4


class Shadows:
    """What runs the shadows of a service.

    Parameters
    ----------
    max_values:
        The most values of one image, and of all images together that wait for a shadow or are in its work.
    """

    def __init__(self, gate: Gate, log: ServiceLog, telemetry: Telemetry, max_values: int) -> None:
        self._gate = gate
        self._log = log
        self._telemetry = telemetry
        self._max_values = max_values
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="medrail-shadow")
        self._lock = threading.Lock()
        self._waiting = 0
        self._values = 0
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
        values = _values(image) + (_values(roi) if roi else 0)
        for shadow in shadows:
            with self._lock:
                if self._waiting >= MOST_WAITING or self._values + values > self._max_values:
                    self._passed_over += 1
                    continue
                self._waiting += 1
                self._values += values
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
            found = self._found(shadow, answered_by, image, roi, prediction)
        except Refusal as refusal:
            found = {"failed": refusal.kind}
        except MedrailError as error:
            found = {"failed": type(error).__name__}
        except Exception as error:  # noqa: BLE001 - a shadow may fail as it likes, the service goes on
            self._log.unexpected(error, request_id)
            found = {"failed": type(error).__name__}
        with self._lock:
            self._waiting -= 1
            self._values -= _values(image) + (_values(roi) if roi else 0)
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

    def _found(
        self, shadow: ServedModel, answered_by: ServedModel, image: Image, roi: Image | None, prediction: Prediction
    ) -> dict[str, Any]:
        spec = shadow.predictor.spec
        screen_growth(image, spec.pipeline, self._max_values)
        with self._telemetry.memory.working():
            found = difference(prediction, shadow.predictor(image, roi))
        # The file is gone; asked for itself, the shadow might have made another image of it.
        reads_alike = spec.read_options == answered_by.predictor.spec.read_options
        return found if reads_alike else {**found, "reads_otherwise": True}


def difference(answered: Prediction, shadow: Prediction) -> dict[str, Any]:
    """How two answers to one image differ, in numbers that identify nobody.

    Returns
    -------
    Segmentation: ``voxels_differ``, the share of voxels with another class, and ``same``. Classification:
    ``max_difference`` of the probabilities, of the classes that both know, and ``same``: whether the decisions are.
    Classes are matched by their names, as wherever answers are compared.

    Raises
    ------
    Refusal
        "not-comparable".
    """
    if answered.task == shadow.task and answered.mask is not None and shadow.mask is not None:
        share = share_differing(answered.mask, answered.classes, shadow.mask, shadow.classes)
        return {"voxels_differ": round(share, 6), "same": share == 0}
    found = classes_difference(answered, shadow)
    return {"max_difference": round(found.largest, 6), "same": found.same_decision}


def _values(image: Image) -> int:
    return int(image.voxels.size)
