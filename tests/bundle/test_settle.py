"""Which engine a bundle gets: the judged one, else the quickest that proves its answers, and it says which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medrail.bundle import Choice, Reference, onnx_backend
from medrail.bundle import engines as engine_room
from medrail.bundle import settle as room
from medrail.bundle.backend import Engine
from medrail.bundle.settle import Network, of_run, settle
from medrail.errors import BundleError
from small_bundles import classifier_network

CONTENT = classifier_network(2, 1)
INPUTS = np.random.default_rng(0).normal(size=(3, 1, 6, 7)).astype(np.float32)
USUAL = onnx_backend(CONTENT, threads=1)
REFERENCE = Reference.of(INPUTS, USUAL, USUAL)
ORT, OPENVINO, BF16 = Choice(), Choice("openvino"), Choice("openvino", "bf16")


class Engines:
    """Engines that answer as told: name -> (what their logits are off by, seconds an answer takes)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **behaviour: tuple[float, float]) -> None:
        self.now, self.opened, self.behaviour = 0.0, list[Choice](), behaviour
        monkeypatch.setattr(engine_room, "find_spec", lambda module: module if module in behaviour else None)
        monkeypatch.setattr(engine_room, "cuda_problem", lambda: "no GPU here")
        monkeypatch.setattr(engine_room, "openvino_problem", lambda precision: "")
        monkeypatch.setattr(room, "open_engine", self.open)
        monkeypatch.setattr(room.time, "perf_counter", lambda: self.now)

    def open(self, content: bytes, choice: Choice, threads: int) -> Engine:
        if choice.problem:
            raise BundleError(f"{choice} is not possible here: {choice.problem}")
        self.opened.append(choice)
        off, seconds = self.behaviour[choice.engine]

        def fetch(batch: Any, names: Any) -> Any:
            self.now += seconds
            return {name: found + np.float32(off) for name, found in USUAL.fetch(batch, names).items()}

        return Engine(USUAL.outputs, fetch)


def test_what_the_judge_chose_is_taken_and_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines(monkeypatch, onnxruntime=(0, 0.1), openvino=(0, 9.0))
    taken = settle(Network(CONTENT, BF16, REFERENCE))
    assert (taken.choice, engines.opened) == (BF16, [BF16])
    assert str(taken) == "openvino bf16: as its judge chose"


def test_what_is_not_installed_falls_back_at_the_precision_of_the_file_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Engines(monkeypatch, onnxruntime=(0, 0.1))
    taken = settle(Network(CONTENT, BF16, REFERENCE))
    assert taken.choice == ORT
    assert "openvino is not installed: pip install 'medrail[openvino]'" in str(taken)
    taken = settle(Network(CONTENT, Choice("openvino", "int8"), REFERENCE))
    assert taken.choice == Choice("onnxruntime", "int8")


def test_a_judged_engine_that_answers_otherwise_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    Engines(monkeypatch, onnxruntime=(0, 0.1), openvino=(0.5, 0.001))
    taken = settle(Network(CONTENT, OPENVINO, REFERENCE))
    assert taken.choice == ORT
    assert "openvino fp32 answers otherwise than the network that was exported" in taken.why


@pytest.mark.parametrize(("openvino_s", "wanted"), [(0.02, OPENVINO), (0.095, ORT), (0.5, ORT)])
def test_without_a_judge_the_clearly_quicker_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, openvino_s: float, wanted: Choice
) -> None:
    engines = Engines(monkeypatch, onnxruntime=(0, 0.1), openvino=(0, openvino_s))
    taken = settle(Network(CONTENT, None, REFERENCE))
    assert (taken.choice, engines.opened) == (wanted, [ORT, OPENVINO])
    assert taken.why == f"measured: onnxruntime fp32 100 ms, openvino fp32 {1000 * openvino_s:.3g} ms"
    proving_s = len(INPUTS) * (0.1 + openvino_s)
    assert engines.now - proving_s < room.MEASURED_S + 0.1 + openvino_s, "a second, and the last passes to their end"


def test_a_quick_engine_with_other_answers_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    Engines(monkeypatch, onnxruntime=(0, 0.1), openvino=(float("nan"), 0.001))
    assert settle(Network(CONTENT, None, REFERENCE)).choice == ORT


def test_without_a_reference_nothing_but_onnx_runtime_is_taken_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines(monkeypatch, onnxruntime=(0, 0.1), openvino=(0, 0.001))
    assert settle(Network(CONTENT)).choice == ORT
    assert engines.opened == [ORT]
    assert settle(Network(CONTENT), "openvino").choice == OPENVINO


def test_where_nobody_answers_as_the_reference_there_is_an_error_with_all_reasons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Engines(monkeypatch, onnxruntime=(0.5, 0.1), openvino=(0.25, 0.1))
    with pytest.raises(BundleError, match=r"openvino bf16 answers.*onnxruntime fp32 answers.*openvino fp32 answers"):
        settle(Network(CONTENT, BF16, REFERENCE))


@pytest.mark.parametrize("asked", ["openvino", "onnxruntime-cuda"])
def test_one_that_is_asked_for_is_that_one_or_an_error(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    Engines(monkeypatch, onnxruntime=(0, 0.1))
    with pytest.raises(BundleError, match=r"pip install|no GPU here"):
        settle(Network(CONTENT, None, REFERENCE), asked)
    with pytest.raises(BundleError, match="engine 'tensorrt'"):
        settle(Network(CONTENT), "tensorrt")


def test_asking_for_the_judged_engine_keeps_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    Engines(monkeypatch, onnxruntime=(0, 0.1), openvino=(0, 0.1))
    assert settle(Network(CONTENT, BF16, REFERENCE), "openvino").choice == BF16
    assert settle(Network(CONTENT, BF16, REFERENCE), "onnxruntime").choice == ORT


def test_one_that_is_asked_for_must_prove_itself_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Engines(monkeypatch, onnxruntime=(0, 0.1), openvino=(0.5, 0.1))
    with pytest.raises(BundleError, match=r"by 0\.5 of its logits; needed: at most 0\.001"):
        settle(Network(CONTENT, None, REFERENCE), "openvino")


def test_a_run_is_never_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines(monkeypatch, onnxruntime=(0, 0.1), openvino=(0, 0.001))
    assert of_run(Network(CONTENT, None, REFERENCE)).choice == ORT
    assert of_run(Network(CONTENT, BF16, REFERENCE)).choice == BF16
    assert of_run(Network(CONTENT, None, REFERENCE), "openvino").choice == OPENVINO
    assert engines.now == 0


def test_a_run_judged_for_what_is_not_here_does_not_answer_by_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    Engines(monkeypatch, onnxruntime=(0, 0.1))
    with pytest.raises(BundleError, match="openvino is not installed"):
        of_run(Network(CONTENT, BF16))
