"""Predictor: refuses the wrong kind, answers on the raw grid, and always with the same numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.bundle import InputKind, Predictor, onnx_backend
from medrail.bundle.calibration import Calibration, Conformal
from medrail.bundle.probability import softmax
from medrail.errors import BundleError, GeometryError, InputError
from medrail.types import Image

Make = Callable[..., Predictor]
VOLUME = InputKind(picture=False, channels=1, unit="HU")


def test_classification_is_the_softmax_of_the_logits(make_predictor: Make) -> None:
    prediction = make_predictor(classes=("a", "b", "c"))(Image(np.full((1, 1, 4, 6), 1.5, np.float32)))
    expected = np.exp([0, 1.5, 3]) / np.exp([0, 1.5, 3]).sum()
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, rtol=1e-6)
    assert prediction.class_name == "c"
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert set(prediction.timings_ms) == {"prepare", "model", "post"}
    assert all(value >= 0 for value in prediction.timings_ms.values())


def test_several_slices_give_their_mean_probability(make_predictor: Make) -> None:
    values = np.array([-3.0, 0.0, 1.0, 4.0, 0.5], np.float32)
    voxels = np.broadcast_to(values[None, :, None, None], (1, 5, 7, 11)).copy()
    prediction = make_predictor(input_kind=VOLUME)(Image(voxels, unit="HU"))
    expected = np.mean(1 / (1 + np.exp(-values)))
    assert prediction.probabilities["yes"] == pytest.approx(expected, abs=1e-6)


def test_three_dimensional_classification_sees_the_volume(make_predictor: Make) -> None:
    voxels = np.arange(5 * 7 * 11, dtype=np.float32).reshape(1, 5, 7, 11) / 200
    prediction = make_predictor(dims=3, input_kind=VOLUME)(Image(voxels, unit="HU"))
    assert prediction.probabilities["yes"] == pytest.approx(1 / (1 + np.exp(-voxels.mean())), abs=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("patch", [False, True])
def test_the_mask_is_exact_without_resampling(
    make_predictor: Make, anisotropic_image: Image, dims: int, patch: bool
) -> None:
    voxels = np.random.default_rng(0).random((1, 5, 7, 11)).astype(np.float32)
    image = anisotropic_image.with_voxels(voxels)
    predictor = make_predictor(
        "segmentation",
        dims=dims,
        input_kind=VOLUME,
        patch=((4, 4, 6)[-dims:] if patch else ()),
        pipeline=({"kind": "orient"},),
    )
    mask = predictor(image).mask
    assert mask is not None
    assert (mask.unit, mask.voxels.dtype, mask.grid) == ("label", np.uint8, image.grid)
    assert mask.geometry is image.geometry
    np.testing.assert_array_equal(mask.voxels, voxels > 0.5)


def test_the_mask_lands_on_the_raw_grid_through_resampling_and_slices(
    make_predictor: Make, anisotropic_image: Image
) -> None:
    voxels = np.zeros((1, 5, 7, 11), np.float32)
    voxels[0, 1:4, 2:6, 3:9] = 1
    image = anisotropic_image.with_voxels(voxels)
    for pipeline in (
        ({"kind": "orient"}, {"kind": "resample", "spacing_mm": [0.6, 0.6, 0.6]}),
        ({"kind": "slices", "planes": ["axial", "coronal", "sagittal"], "size": [16, 16]},),
    ):
        mask = make_predictor("segmentation", input_kind=VOLUME, pipeline=pipeline)(image).mask
        assert mask is not None
        assert mask.grid == image.grid
        wrong = np.abs(mask.voxels.astype(int) - (voxels > 0.5)).sum()
        assert wrong <= 0.1 * voxels.sum(), pipeline


def test_the_same_numbers_twice_and_in_every_thread(make_predictor: Make) -> None:
    predictor = make_predictor(input_kind=VOLUME, pipeline=({"kind": "resize", "size": [16, 16]},))
    generator = np.random.default_rng(0)
    images = [Image(generator.normal(size=(1, 37, 9, 13)).astype(np.float32), unit="HU") for _ in range(8)]
    alone = [predictor(image).probabilities for image in images]
    assert alone == [predictor(image).probabilities for image in images]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(lambda image: predictor(image).probabilities, images)) == alone


@settings(deadline=None, max_examples=20)
@given(depth=st.integers(2, 50))
def test_slices_go_in_chunks_of_at_most_sixteen(depth: int) -> None:
    from medrail.bundle import NetworkSpec

    sizes = []

    def backend(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return batch.mean(axis=(2, 3)) * np.array([[0, 1]], np.float32)

    spec = NetworkSpec("classification", ("no", "yes"), 2, 1, (), VOLUME)
    Predictor(spec, backend)(Image(np.ones((1, depth, 4, 5), np.float32), unit="HU"))
    assert sizes == [16] * (depth // 16) + ([depth % 16] if depth % 16 else [])


@pytest.mark.parametrize("patch", [(), (5, 6)])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_an_answer_does_not_depend_on_the_batches(
    make_predictor: Make, monkeypatch: pytest.MonkeyPatch, task: str, patch: tuple[int, ...]
) -> None:
    """A slice gets the same numbers alone, among sixteen and in a smaller last batch."""
    from medrail.bundle import predictor as predictor_room
    from medrail.bundle import sliding

    voxels = np.random.default_rng(0).random((1, 37, 9, 13)).astype(np.float32)
    predictor = make_predictor(task, input_kind=VOLUME, patch=patch if task == "segmentation" else ())
    whole = predictor.probabilities(Image(voxels, unit="HU"))
    by_slice = [predictor.probabilities(Image(voxels[:, d : d + 1], unit="HU")) for d in range(37)]
    joined = np.mean(by_slice, axis=0) if task == "classification" else np.concatenate(by_slice, axis=1)
    np.testing.assert_allclose(whole, joined, atol=1e-6)
    for size in (1, 5, 64):
        monkeypatch.setattr(predictor_room, "SLICES_A_BATCH", size)
        monkeypatch.setattr(sliding, "SLICES_A_BATCH", size)
        np.testing.assert_allclose(predictor.probabilities(Image(voxels, unit="HU")), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "image", "says"),
    [
        (VOLUME, Image(np.ones((1, 1, 7, 11), np.uint8), unit="uint8"), "whole volume"),
        (InputKind(True, 1, "uint8"), Image(np.ones((1, 5, 7, 11), np.uint8), unit="uint8"), "single picture "),
        (VOLUME, Image(np.ones((1, 5, 7, 11), np.uint8), unit="uint8"), "Hounsfield"),
        (VOLUME, Image(np.ones((1, 5, 7, 11), np.uint8), unit="label"), "Hounsfield"),
        (InputKind(True, 1, "uint8"), Image(np.ones((1, 1, 7, 11), np.uint16), unit="uint16"), "8-bit"),
        (replace(VOLUME, unit="arbitrary"), Image(np.ones((1, 5, 7, 11), np.float32), unit="HU"), "CT and PET"),
        (InputKind(True, 1, "uint8"), Image(np.ones((3, 1, 7, 11), np.uint8), unit="uint8"), "3 channels"),
        (InputKind(True, 1, "arbitrary"), Image(np.full((1, 1, 7, 11), np.nan, np.float32)), "NaN|finite"),
    ],
)
def test_the_wrong_kind_is_refused_by_name(make_predictor: Make, kind: InputKind, image: Image, says: str) -> None:
    from medrail.errors import PrepareError

    with pytest.raises((InputError, PrepareError), match=says):
        make_predictor(input_kind=kind)(replace(image, source="upload"))


def test_the_refusal_says_what_was_trained_on_and_what_arrived(make_predictor: Make) -> None:
    with pytest.raises(InputError) as caught:
        make_predictor(input_kind=VOLUME)(Image(np.ones((1, 1, 7, 11), np.uint8), unit="uint8", source="upload"))
    assert "trained on volumes (D > 1) with 1 channel, unit HU" in str(caught.value)
    assert "a picture of 1 x 7 x 11" in str(caught.value)


def test_units_that_mean_the_same_pass(make_predictor: Make) -> None:
    ones = np.ones((1, 5, 7, 11), np.float32)
    assert make_predictor(input_kind=VOLUME)(Image(ones, unit="arbitrary"))
    assert make_predictor(input_kind=replace(VOLUME, unit=""))(Image(ones, unit="SUV"))
    window = ({"kind": "window", "preset": "lung"},)
    assert make_predictor(input_kind=replace(VOLUME, unit="arbitrary"), pipeline=window)(Image(ones, unit="HU"))
    noise = np.random.default_rng(0).integers(0, 4000, (1, 1, 7, 11)).astype(np.uint16)
    scaled = make_predictor(
        input_kind=InputKind(True, 1, "uint8"), pipeline=({"kind": "normalise", "method": "minmax"},)
    )
    assert scaled(Image(noise, unit="uint16"))


def test_the_pipeline_may_change_the_channels(make_predictor: Make) -> None:
    kind = InputKind(True, 1, "uint8")
    colour = Image(np.ones((3, 1, 7, 11), np.uint8), unit="uint8")
    assert make_predictor(input_kind=kind, pipeline=({"kind": "rgb_to_grey"},))(colour)
    with pytest.raises(InputError, match="trained on pictures"):
        make_predictor(input_kind=kind, pipeline=({"kind": "rgb_to_grey"},))(
            Image(np.ones((4, 1, 7, 11), np.uint8), unit="uint8")
        )


def test_a_region_of_interest_is_asked_for(make_predictor: Make, anisotropic_image: Image) -> None:
    predictor = make_predictor("segmentation", input_kind=VOLUME, pipeline=({"kind": "crop_roi"},))
    with pytest.raises(InputError, match="region of interest"):
        predictor(anisotropic_image)
    with pytest.raises(GeometryError, match="region of interest"):
        predictor(anisotropic_image, Image(np.ones((1, 5, 7, 10), np.uint8), unit="label"))
    roi = np.zeros((1, 5, 7, 11), np.uint8)
    roi[0, 1:4, 2:6, 3:9] = 1
    mask = predictor(anisotropic_image, anisotropic_image.with_voxels(roi)).mask
    assert mask is not None
    assert mask.voxels[roi > 0].all()
    assert not mask.voxels[roi == 0].any()


def test_another_size_than_trained_with_is_refused(make_predictor: Make) -> None:
    with pytest.raises(InputError, match="7 x 11"):
        make_predictor(grid=(8, 8))(Image(np.ones((1, 1, 7, 11), np.float32)))


def test_a_network_of_another_spec_is_refused(make_predictor: Make) -> None:
    two, three = make_predictor(classes=("a", "b")), make_predictor(classes=("a", "b", "c"))
    with pytest.raises(BundleError, match="3 classes"):
        Predictor(three.spec, two.backend)(Image(np.ones((1, 1, 4, 5), np.float32)))


def test_a_wrong_batch_is_an_input_error_of_the_backend(run_folder) -> None:  # type: ignore[no-untyped-def]
    backend = onnx_backend(run_folder / "network.onnx", threads=1)
    with pytest.raises(InputError, match="does not take"):
        backend(np.ones((1, 2, 4, 5), np.float32))
    with pytest.raises(BundleError, match="no such file"):
        onnx_backend(run_folder / "absent.onnx")


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=6))
def test_softmax_sums_to_one(values: list[float]) -> None:
    found = softmax(np.array(values, np.float32))
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert np.argmax(found) == np.argmax(np.array(values, np.float32)) or found.max() == found[np.argmax(values)]


def test_the_engine_reports_nothing_to_anyone() -> None:
    """ONNX Runtime 1.32 sends usage data unless told otherwise before it is imported."""
    code = (
        "import os, sys\n"
        "from medrail.bundle import onnx_backend\n"
        "try:\n    onnx_backend(b'no network')\nexcept Exception:\n    pass\n"
        "assert 'onnxruntime' in sys.modules\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "1"


def test_several_labels_have_thresholds_of_their_own(make_predictor: Callable[..., Predictor], picture: Image) -> None:
    plain = make_predictor(classes=("a", "b", "c"), multi_label=True)
    answer = plain(picture)  # logits 0, 2, 4
    assert list(answer.probabilities.values()) == pytest.approx([0.5, 0.880797, 0.982014], abs=1e-5)
    assert answer.findings == ("a", "b", "c")
    assert (answer.class_name, answer.confidence, answer.abstain) == (None, None, False)
    fitted = Calibration("0" * 64, temperature=2.0, thresholds={"b": 0.8, "c": 0.85}, threshold_rule="youden")
    chosen = Predictor(plain.spec, plain.backend, "tiny", fitted)(picture)
    assert list(chosen.probabilities.values()) == pytest.approx([0.5, 0.731059, 0.880797], abs=1e-5)
    assert chosen.findings == ("a", "c")
    assert chosen.thresholds == {"a": 0.5, "b": 0.8, "c": 0.85}
    two = make_predictor(multi_label=True).spec
    Calibration("0" * 64, thresholds={"no": 0.3, "yes": 0.4}, threshold_rule="youden").check(two)
    with pytest.raises(BundleError, match="conformal"):
        Calibration("0" * 64, conformal=Conformal(0.1, 0.9)).check(two)
