"""What waits is computed together, and every input gets its own answer or its own error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.bundle import Choice, Engine, onnx_backend
from medrail.errors import InputError
from medrail.serve.batching import ROUNDING, Batcher, largest_batch
from medrail.serve.gate import Forgotten, Gate, Ticket
from medrail.serve.problems import Refusal
from small_bundles import classifier_network

POISON = -1.0


class Held:
    """An engine that holds the first inference until it is let go, and writes down the size of each."""

    def __init__(self) -> None:
        self.inside, self.leave = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def engine(self, outputs: tuple[str, ...] = ("logits", "features")) -> Engine:
        def fetch(batch: Any, names: tuple[str, ...]) -> Mapping[str, Any]:
            first = not self.inside.is_set()
            self.inside.set()
            if first:
                assert self.leave.wait(10)
            self.sizes.append(len(batch))
            if (batch == POISON).any():
                raise InputError("poison")
            values = batch.reshape(len(batch), -1)
            found = {"logits": values.sum(1, keepdims=True), "features": values.max(1, keepdims=True)}
            return {name: found[name] for name in names}

        return Engine(outputs, fetch)


def together(batcher: Batcher, held: Held, calls: list[Callable[[Engine], Any]]) -> list[Future[Any]]:
    """Make the calls while an inference holds the engine, so that all of them wait; then let it go."""
    engine = batcher.engine()
    with ThreadPoolExecutor(len(calls) + 1) as pool:
        first = pool.submit(engine, np.zeros((1, 7), np.float32))
        assert held.inside.wait(10)
        futures = []
        for count, call in enumerate(calls):
            futures.append(pool.submit(call, engine))
            until = time.monotonic() + 5
            while len(batcher._waiting) + sum(each.done() for each in futures) <= count and time.monotonic() < until:
                time.sleep(0.0005)
        held.leave.set()
        assert first.result().tolist() == [[0.0]]
        return futures


inputs = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from([2, 3]), st.booleans(), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=25, deadline=None)
@given(inputs=inputs, largest=st.integers(1, 8))
def test_every_input_gets_its_own_answer(inputs: list[tuple[int, int, bool, bool]], largest: int) -> None:
    """Whatever arrives together: sizes, shapes, outputs asked for, and some that the network cannot take."""
    held = Held()
    sizes: list[int] = []
    batcher = Batcher(Gate(1), held.engine(), largest, 100, tell=lambda size, waiting: sizes.append(size))
    batches = [
        np.full((images, width), POISON if poison else 10 * number + width, np.float32)
        for number, (images, width, _, poison) in enumerate(inputs)
    ]
    wanted = [("logits", "features") if more else ("logits",) for _, _, more, _ in inputs]

    def call(number: int) -> Callable[[Engine], Any]:
        return lambda engine: engine.fetch(batches[number], wanted[number])

    answers = together(batcher, held, [call(number) for number in range(len(inputs))])
    for batch, names, (*_, poison), answer in zip(batches, wanted, inputs, answers, strict=True):
        if poison:
            with pytest.raises(InputError, match="poison"):
                answer.result()
            continue
        found = answer.result()
        assert tuple(found) == names
        np.testing.assert_array_equal(found["logits"], batch.sum(1, keepdims=True))
        if "features" in names:
            np.testing.assert_array_equal(found["features"], batch.max(1, keepdims=True))
    assert sum(sizes) == len(inputs) + 1
    assert all(size <= max(largest, max(len(batch) for batch in batches)) for size in held.sizes)


def test_what_waits_is_computed_together_oldest_first_up_to_the_largest_batch() -> None:
    held = Held()
    batcher = Batcher(Gate(1), held.engine(), 4, 100)
    calls = [lambda engine, n=n: engine(np.full((1, 7), n, np.float32)) for n in range(10)]
    answers = together(batcher, held, calls)
    assert [answer.result().item() for answer in answers] == [7.0 * n for n in range(10)]
    assert held.sizes == [1, 4, 4, 2]


def test_without_batching_each_input_is_computed_alone() -> None:
    held = Held()
    calls = [lambda engine, n=n: engine(np.full((1, 7), n, np.float32)) for n in range(5)]
    together(Batcher(Gate(1), held.engine(), 1, 100), held, calls)
    assert held.sizes == [1] * 6


def test_the_queue_is_bounded() -> None:
    held = Held()
    calls = [lambda engine: engine(np.zeros((1, 7), np.float32)) for _ in range(5)]
    answers = together(Batcher(Gate(1), held.engine(), 4, 3), held, calls)
    refused = [answer.exception() for answer in answers if answer.exception()]
    assert len(refused) == 2
    assert all(isinstance(each, Refusal) and each.kind == "busy" and each.retry_after_s >= 1 for each in refused)


def test_nothing_is_computed_for_who_has_gone_or_waited_too_long() -> None:
    held = Held()
    gate = Gate(1)
    batcher = Batcher(gate, held.engine(), 8, 100)
    gone, late, good = Ticket(), Ticket(wait_s=0), Ticket(wait_s=60)

    def call(ticket: Ticket) -> Callable[[Engine], Any]:
        def ask(engine: Engine) -> Any:
            with gate.working_for(ticket):
                return engine(np.zeros((1, 7), np.float32))

        return ask

    gone.cancel()
    answers = together(batcher, held, [call(gone), call(late), call(good)])
    with pytest.raises(Forgotten):
        answers[0].result()
    with pytest.raises(Refusal) as refused:
        answers[1].result()
    assert refused.value.kind == "too-late"
    assert answers[2].result().shape == (1, 1)
    assert held.sizes == [1, 1]


def test_who_goes_while_waiting_is_let_go_before_the_engine_is_free() -> None:
    held = Held()
    gate = Gate(1)
    engine = Batcher(gate, held.engine(), 8, 100).engine()
    ticket = Ticket()

    def ask() -> Any:
        with gate.working_for(ticket):
            return engine(np.zeros((1, 7), np.float32))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(engine, np.zeros((1, 7), np.float32))
        assert held.inside.wait(10)
        second = pool.submit(ask)
        ticket.cancel()
        with pytest.raises(Forgotten):
            second.result(10)
        assert not first.done()
        held.leave.set()
        first.result(10)


def test_a_work_that_has_begun_is_not_too_late() -> None:
    ticket = Ticket(wait_s=0.001)
    ticket.begin()
    time.sleep(0.002)
    assert ticket.wrong is None


def test_a_wide_inference_is_not_passed_by_narrow_ones_for_ever() -> None:
    """Places are given in the order of asking."""
    gate = Gate(2)
    order: list[str] = []
    leave = threading.Event()

    def enter(name: str, each: int) -> None:
        with gate.entered(each, lambda: False):
            order.append(name)
            if name == "first":
                leave.wait(10)

    def start(name: str, each: int) -> threading.Thread:
        thread = threading.Thread(target=enter, args=(name, each))
        thread.start()
        until = time.monotonic() + 5
        while len(gate._line) + len(order) < len(threads) + 1 and time.monotonic() < until:
            time.sleep(0.0005)
        return thread

    threads: list[threading.Thread] = []
    for name, each in (("first", 1), ("wide", 2), ("narrow", 1)):
        threads.append(start(name, each))
    assert order == ["first"]
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "wide", "narrow"]


def test_where_a_batch_does_not_pay_or_work_there_is_none() -> None:
    engine = onnx_backend(classifier_network(3), threads=1)
    one = np.zeros((1, 3, 8, 8), np.float32)
    fp32, int8 = Choice(), Choice("onnxruntime", "int8")
    assert largest_batch(engine, fp32, one, "auto", 16) == 1
    assert largest_batch(engine, None, one, "auto", 16) == 1
    assert largest_batch(engine, int8, one, "auto", 16) == 1  # it is quicker than anyone would wait for
    assert largest_batch(engine, fp32, one, "on", 16) == 16
    assert largest_batch(engine, fp32, one, "off", 16) == 1
    assert largest_batch(engine, fp32, None, "on", 16) == 1

    def of_one(batch: Any) -> Any:
        if len(batch) > 1:
            raise InputError("one image at a time")
        return batch.sum((2, 3))

    assert largest_batch(of_one, int8, one, "on", 16) == 1
    assert largest_batch(lambda batch: batch.sum((2, 3))[:1], int8, one, "on", 16) == 1
    assert largest_batch(lambda batch: batch.sum((2, 3)) + len(batch), int8, one, "on", 16) == 1

    def costly(batch: Any) -> Any:
        time.sleep(0.004)  # a batch takes as long as one
        return batch.sum((2, 3))

    assert largest_batch(costly, int8, one, "auto", 16) == 16


def test_batched_answers_of_a_real_engine_are_those_of_single_inputs_up_to_rounding() -> None:
    engine = onnx_backend(classifier_network(3), threads=1)
    images = np.random.default_rng(1).normal(size=(8, 3, 16, 16)).astype(np.float32)
    batcher = Batcher(Gate(1), engine, 4, 100).engine()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: batcher(image[np.newaxis]), images))
    np.testing.assert_allclose(np.concatenate(found), engine(images), atol=ROUNDING)
