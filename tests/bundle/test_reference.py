"""Reference answers: the same bytes every time, no pickle, nothing tampered with, and they tell engines apart."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrail.bundle import (
    Choice,
    InputKind,
    Manifest,
    NetworkSpec,
    Reference,
    choose_engine,
    load_bundle,
    load_network,
    onnx_backend,
    verify_bundle,
    write_network,
)
from medrail.bundle.reference import MOST_PLACES, REFERENCE_FILE, TOLERANCES
from medrail.errors import BundleError
from small_bundles import classifier_network, segmenter_network

KIND = InputKind(picture=True, channels=1, unit="arbitrary")
SPEC = NetworkSpec("classification", ("a", "b", "c"), 2, 1, (), KIND, grid=(6, 7))
CONTENT = classifier_network(3, 1)
INPUTS = np.random.default_rng(0).normal(size=(2, 1, 6, 7)).astype(np.float32)


def reference_of(content: bytes = CONTENT, inputs: np.ndarray = INPUTS) -> Reference:
    backend = onnx_backend(content, threads=1)
    return Reference.of(inputs, backend, backend)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles" / "tiny" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(CONTENT)
    (folder / "card.md").write_text("# tiny\n", encoding="utf-8")
    (folder / REFERENCE_FILE).write_bytes(reference_of().to_bytes())
    written(folder)
    return folder


def written(folder: Path, **changes: Any) -> None:
    """As whoever makes a bundle writes its manifest: with the sums of what lies there."""
    manifest = Manifest("tiny", "1", SPEC, tolerance=TOLERANCES)
    replace(manifest, **changes).write(folder, ["model.onnx", "card.md", REFERENCE_FILE])


def test_the_file_holds_what_was_asked_and_answered_and_is_the_same_every_time() -> None:
    reference = reference_of()
    content = reference.to_bytes()
    assert content == reference_of().to_bytes()
    read = Reference.from_bytes(content, SPEC)
    for name in ("inputs", "exact", "chosen"):
        np.testing.assert_array_equal(getattr(read, name), getattr(reference, name))
    np.testing.assert_allclose(read.inputs, INPUTS, atol=2e-3)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        assert sorted(arrays) == ["chosen", "exact", "inputs"]


def test_numbers_beyond_half_precision_are_kept_in_full() -> None:
    reference = Reference.from_bytes(reference_of(inputs=INPUTS * 1e6).to_bytes(), SPEC)
    np.testing.assert_array_equal(reference.inputs, INPUTS * np.float32(1e6))


def test_of_a_segmentation_some_voxels_are_kept() -> None:
    spec = replace(SPEC, task="segmentation", classes=("background", "organ"), dims=3, grid=(9, 30, 31))
    content = segmenter_network(3, (0.1,))
    reference = reference_of(content, np.random.default_rng(0).normal(size=(1, 1, 9, 30, 31)).astype(np.float32))
    assert reference.exact.shape == (1, 2, MOST_PLACES)
    assert Reference.from_bytes(reference.to_bytes(), spec).gap(onnx_backend(content, 1), "fp32") == 0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_gap_is_the_difference_in_units_of_the_logits(precision: str) -> None:
    backend = onnx_backend(CONTENT, threads=1)
    reference = reference_of(inputs=INPUTS * 1000)
    assert reference.gap(backend, precision) == 0
    scale = np.sqrt(np.mean(np.square(reference.exact)))
    assert scale > 1
    assert reference.gap(lambda batch: backend(batch) + 0.5, precision) == pytest.approx(0.5 / scale, rel=1e-4)
    assert reference.gap(lambda batch: backend(batch)[:, :2], precision) == float("inf")
    assert reference.gap(lambda batch: backend(batch) * np.nan, precision) == float("inf")


def test_a_quantised_network_is_compared_with_itself_and_others_with_the_exact_one() -> None:
    exact = onnx_backend(CONTENT, threads=1)
    reference = Reference.of(INPUTS, exact, lambda batch: exact(batch) + 0.25)
    assert reference.gap(exact, "fp32") == 0
    assert reference.gap(exact, "int8") == pytest.approx(0.25)


def packed(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def stored(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


ANSWERS = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x05\x06" + bytes(18),
        packed(inputs=INPUTS, exact=ANSWERS, chosen=ANSWERS),
        stored(inputs=INPUTS, exact=ANSWERS),
        stored(inputs=INPUTS, exact=ANSWERS, chosen=ANSWERS, more=ANSWERS),
        stored(inputs=INPUTS, exact=ANSWERS, chosen=ANSWERS[:1]),
        stored(inputs=INPUTS, exact=ANSWERS[:, :2], chosen=ANSWERS[:, :2]),
        stored(inputs=INPUTS[:, :, :5], exact=ANSWERS, chosen=ANSWERS),
        stored(inputs=INPUTS[:0], exact=ANSWERS[:0], chosen=ANSWERS[:0]),
        stored(inputs=np.repeat(INPUTS, 9, 0), exact=np.repeat(ANSWERS, 9, 0), chosen=np.repeat(ANSWERS, 9, 0)),
        stored(inputs=INPUTS * np.nan, exact=ANSWERS, chosen=ANSWERS),
        stored(inputs=INPUTS, exact=ANSWERS, chosen=ANSWERS.astype(np.int64)),
        stored(inputs=INPUTS, exact=ANSWERS, chosen=np.full((2, 3), None, object)),
    ],
)
def test_what_is_no_reference_of_such_a_network_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="reference answers"):
        Reference.from_bytes(content, SPEC)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_refused_or_read_as_numbers(data: st.DataObject) -> None:
    content = bytearray(reference_of().to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = Reference.from_bytes(bytes(content), SPEC)
    except BundleError:
        return
    assert np.isfinite(read.exact).all()


def test_a_member_that_says_it_is_larger_than_the_file_is_refused() -> None:
    content = bytearray(reference_of().to_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")
    with pytest.raises(BundleError, match="reference answers"):
        Reference.from_bytes(bytes(content), SPEC)


def test_a_bundle_proves_its_answers_when_it_is_loaded(bundle: Path) -> None:
    predictor = load_bundle(bundle, threads=1)
    assert predictor.taken is not None
    assert predictor.taken.choice.precision == "fp32"
    assert predictor.behind(lambda backend: backend).taken is predictor.taken
    assert Manifest.read(bundle).tolerance == TOLERANCES


def test_a_reference_whose_sum_is_wrong_is_refused(bundle: Path) -> None:
    content = bytearray((bundle / REFERENCE_FILE).read_bytes())
    content[-200] ^= 1
    (bundle / REFERENCE_FILE).write_bytes(content)
    for look in (verify_bundle, load_bundle):
        with pytest.raises(BundleError, match="SHA-256"):
            look(bundle)


def test_a_reference_of_another_network_is_refused_although_its_sum_is_right(bundle: Path) -> None:
    other = reference_of(classifier_network(3, 1))
    wrong = Reference(other.inputs, other.exact + 1, other.chosen + 1)
    (bundle / REFERENCE_FILE).write_bytes(wrong.to_bytes())
    written(bundle)
    for engine in ("auto", "onnxruntime"):
        with pytest.raises(BundleError, match="answers otherwise than the network that was exported"):
            load_bundle(bundle, 1, engine)


def test_a_reference_that_is_no_reference_is_refused(bundle: Path) -> None:
    (bundle / REFERENCE_FILE).write_bytes(stored(inputs=INPUTS, exact=ANSWERS))
    written(bundle)
    for look in (verify_bundle, load_bundle):
        with pytest.raises(BundleError, match=r"reference\.npz: the reference answers"):
            look(bundle)


@pytest.mark.parametrize("tolerance", [{"fp32": 0}, {"fp32": 1e9}, {"fp32": "1"}, {"fp32": True}, {"fp64": 0.1}, []])
def test_a_tolerance_that_is_none_is_refused(bundle: Path, tolerance: Any) -> None:
    path = bundle / "bundle.json"
    text = path.read_text(encoding="utf-8")
    values = json.loads(text) | {"tolerance": tolerance}
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(BundleError, match="tolerance"):
        load_bundle(bundle)


def test_an_engine_in_a_bundle_is_known_words_only(bundle: Path) -> None:
    path = bundle / "bundle.json"
    values = json.loads(path.read_text(encoding="utf-8")) | {"engine": {"engine": "subprocess", "precision": "fp32"}}
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(BundleError, match="engine 'subprocess'"):
        load_bundle(bundle)
    path.write_text(json.dumps(values | {"format": 2}), encoding="utf-8")
    assert Manifest.read(bundle).engine is None, "a bundle of format 2 has no engine, whatever it says"


def test_a_run_keeps_what_was_chosen_for_it_and_its_answers(tmp_path: Path) -> None:
    run = tmp_path / "tiny-001"
    run.mkdir()
    (run / "network.onnx").write_bytes(CONTENT)
    (run / REFERENCE_FILE).write_bytes(reference_of().to_bytes())
    write_network(run, SPEC, {"cases": 1})
    assert load_network(run, 1).taken.choice == Choice()
    with pytest.raises(BundleError, match="int8 for a network of fp32"):
        choose_engine(run, Choice("onnxruntime", "int8"))
    bf16 = Choice("openvino", "bf16")
    if bf16.problem:
        pytest.skip(bf16.problem)
    assert choose_engine(run, bf16).taken.choice == bf16
    predictor = load_network(run, 1)
    assert (predictor.taken.choice, predictor.taken.why) == (bf16, "as its judge chose")
    kept = Reference.from_bytes((run / REFERENCE_FILE).read_bytes(), SPEC)
    np.testing.assert_allclose(kept.chosen, predictor.backend(kept.inputs), atol=1e-6)
    np.testing.assert_array_equal(kept.exact, reference_of().exact)
    (run / REFERENCE_FILE).write_bytes(reference_of().to_bytes()[:-1])
    with pytest.raises(BundleError, match="SHA-256"):
        load_network(run, 1)


def test_the_archive_is_read_by_any_unzip(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(reference_of().to_bytes())) as archive:
        assert archive.testzip() is None
