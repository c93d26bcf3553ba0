"""Batching: what waits for the engine is computed together, and nothing ever waits to be computed together.

There is no timer and no thread of its own. Whoever gets a place at the gate is the leader: it takes what waits there
for the same network in the same shape, oldest first, up to the largest batch, computes all of it, and hands out the
answers. Whoever finds its answer there when it wakes has nothing left to do.

A batch may answer otherwise in the last bits than its inputs would alone, because engines add in another order. So it
is used only where it is clearly quicker, which it is not for float32 on a CPU: there every input is computed alone,
and an answer is to the bit the one of the evaluation.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medrail.bundle import Backend, Choice, Engine
from medrail.bundle.backend import Batch, fetch, outputs_of
from medrail.bundle.engines import CPU, FP32
from medrail.bundle.reference import gap_between
from medrail.errors import MedrailError
from medrail.serve.gate import RETRY_AFTER_S, Gate, Ticket
from medrail.serve.problems import Refusal

Told = Callable[[int, int], None]
"""(inputs in the batch, inputs that still wait): called for each batch."""

MEASURED_S = 0.2
PAYS_FROM = 1.1
"""How many times as quick, per input, a batch must be."""
QUICKEST_S = 1e-3
"""A network that is quicker than this is not what a request waits for."""
LARGEST_BATCH_BYTES = 64 * 2**20
ROUNDING = 1e-2
"""The largest gap (``gap_between``) between a batch's answers and those of its inputs alone, where a batch is used."""


class _Waiting:
    """An input on its way, and its answer or error when it has one."""

    def __init__(self, batch: Batch, names: tuple[str, ...], ticket: Ticket) -> None:
        self.batch = batch
        self.names = names
        self.ticket = ticket
        self.answers: Mapping[str, Batch] | None = None
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.answers is not None or self.error is not None

    def answered(self) -> Mapping[str, Batch]:
        if self.error is not None:
            raise self.error
        assert self.answers is not None  # noqa: S101 - it is asked only when it is done
        return self.answers


class Batcher:
    """One network behind the gate, whose waiting inputs are computed together.

    Parameters
    ----------
    gate:
        What all networks of the process share.
    backend:
        Takes batches of any size.
    largest:
        Images of a batch; what is larger by itself is computed alone, whole.
    most_waiting:
        Inputs that may wait; the next one is refused as "busy".
    each:
        As ``Gate.around``.
    """

    def __init__(
        self,
        gate: Gate,
        backend: Backend,
        largest: int,
        most_waiting: int,
        each: int = 0,
        tell: Told = lambda size, waiting: None,
    ) -> None:
        self._gate = gate
        self._backend = backend
        self._largest = largest
        self._most_waiting = most_waiting
        self._each = each
        self._tell = tell
        self._waiting: list[_Waiting] = []
        self._lock = threading.Lock()

    def engine(self) -> Engine:
        """What a Predictor calls."""
        return Engine(outputs_of(self._backend), self._fetch)

    def _fetch(self, batch: Batch, names: tuple[str, ...]) -> Mapping[str, Batch]:
        mine = _Waiting(batch, names, self._gate.ticket)
        with self._lock:
            if len(self._waiting) >= self._most_waiting:
                count = f"{len(self._waiting)} inputs wait for the network."
                raise Refusal("busy", count, retry_after_s=RETRY_AFTER_S)
            self._waiting.append(mine)
        begin = time.perf_counter()
        led_s = 0.0
        try:
            while not mine.done:
                with self._gate.entered(self._each, lambda: mine.done or mine.ticket.wrong is not None) as leads:
                    if leads:
                        led_s = self._lead(mine)
                    elif not mine.done:
                        mine.error = mine.ticket.wrong
        finally:
            with self._lock:  # it is still there where it was turned away
                self._waiting = [other for other in self._waiting if other is not mine]
        self._gate.add_waited_ms((time.perf_counter() - begin - led_s) * 1e3)
        return mine.answered()

    def _lead(self, mine: _Waiting) -> float:
        """Compute what waits; the seconds that the leader's own input took, 0 if it was not among it."""
        together = self._take()
        begin = time.perf_counter()
        if together:
            self._compute(together)
        return time.perf_counter() - begin if mine in together else 0.0

    def _take(self) -> list[_Waiting]:
        """The oldest that still wants an answer, and those behind it that may go with it."""
        with self._lock:
            for other in self._waiting:
                other.error = other.ticket.wrong
            waiting = [other for other in self._waiting if not other.done]
            together: list[_Waiting] = []
            images = 0
            for other in waiting:
                fits = not together or (
                    other.batch.shape[1:] == together[0].batch.shape[1:] and images + len(other.batch) <= self._largest
                )
                if fits:
                    together.append(other)
                    images += len(other.batch)
            self._waiting = [other for other in waiting if other not in together]
            left = len(self._waiting)
        for other in together:
            other.ticket.begin()
        if together:
            self._tell(len(together), left)
        return together

    def _compute(self, together: Sequence[_Waiting]) -> None:
        try:
            _answer(self._backend, together)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the error of an input, not of its neighbours
            if len(together) == 1:
                together[0].error = error
                return
            for one in together:
                self._compute([one])


def _answer(backend: Backend, together: Sequence[_Waiting]) -> None:
    if len(together) == 1:
        together[0].answers = fetch(backend, together[0].batch, together[0].names)
        return
    names = tuple(name for name in outputs_of(backend) if any(name in one.names for one in together))
    sizes = [len(one.batch) for one in together]
    found = fetch(backend, np.concatenate([one.batch for one in together]), names)
    if any(len(values) != sum(sizes) for values in found.values()):
        raise ValueError("the network does not answer each image of a batch")
    ends = np.cumsum(sizes)
    for one, size, end in zip(together, sizes, ends, strict=True):
        one.answers = {name: found[name][end - size : end] for name in one.names if name in found}


def largest_batch(engine: Backend, choice: Choice | None, inputs: Batch | None, asked: str, largest: int) -> int:
    """How many waiting inputs are computed together: ``largest``, or 1 where that does not pay or does not work.

    Parameters
    ----------
    choice:
        What the engine is; None: nobody knows.
    inputs:
        One or several that it takes; None: there are none to measure with.
    asked:
        "auto": where it is measured to be quicker, and never for float32 on a CPU. "on": wherever it works. "off".
    """
    if asked == "off" or largest < 2 or inputs is None:
        return 1
    if asked == "auto" and (choice is None or (choice.precision, choice.device) == (FP32, CPU)):
        return 1
    one = np.ascontiguousarray(inputs[:1], np.float32)
    if one.nbytes * largest > LARGEST_BATCH_BYTES:
        return 1
    several = np.repeat(one, largest, axis=0)
    try:
        alone, together = engine(one), engine(several)
    except MedrailError:
        return 1
    if len(together) != largest or not gap_between(np.repeat(alone, largest, axis=0), together) <= ROUNDING:
        return 1
    if asked == "on":
        return largest
    alone_s, together_s = _seconds(engine, one), _seconds(engine, several) / largest
    return largest if alone_s >= QUICKEST_S and alone_s >= PAYS_FROM * together_s else 1


def _seconds(engine: Backend, batch: Batch) -> float:
    """Median time of an answer."""
    passes: list[float] = []
    began = time.perf_counter()
    while not passes or time.perf_counter() - began < MEASURED_S / 2:
        start = time.perf_counter()
        engine(batch)
        passes.append(time.perf_counter() - start)
    return statistics.median(passes)
