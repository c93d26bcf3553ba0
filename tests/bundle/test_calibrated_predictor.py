"""What a Predictor makes of a calibration, of features and of evidence; on the raw grid, and from files only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.bundle import InputKind, NetworkSpec, Predictor, load_bundle, load_network, onnx_backend, write_network
from medrail.bundle.calibration import Calibration
from medrail.bundle.evidence import contrast, on_grid
from medrail.bundle.manifest import sealed
from medrail.errors import BundleError
from medrail.types import Image
from small_bundles import EVIDENCE_BIAS, evidence_network, write_bundle
from small_calibrations import NETWORK, small_calibration

VOLUME = InputKind(picture=False, channels=1, unit="HU")
RNG = np.random.default_rng(0)


def spec_of(**changes: Any) -> NetworkSpec:
    spec = NetworkSpec("classification", ("no", "yes"), 2, 1, (), InputKind(None, 1, "arbitrary"))
    return replace(spec, **changes)


def predictor_of(calibration: Calibration | None = None, **changes: Any) -> Predictor:
    spec = spec_of(**changes)
    network = evidence_network(len(spec.classes), spec.channels, spec.dims)
    return Predictor(spec, onnx_backend(network, threads=1), "tiny", calibration)


def picture(value: float, grid: tuple[int, int, int] = (1, 6, 8)) -> Image:
    return Image(np.full((1, *grid), value, np.float32))


def test_without_a_calibration_nothing_is_added() -> None:
    prediction = predictor_of()(picture(1.0))
    assert prediction.class_name == "yes"
    assert prediction.confidence == max(prediction.probabilities.values())
    assert (prediction.decision, prediction.conformal_set, prediction.ood_score) == ("", None, None)
    assert (prediction.unlike_training, prediction.evidence, prediction.abstain) == (None, None, False)


def test_the_temperature_divides_the_logits_and_the_threshold_decides() -> None:
    """The logits differ by the image's mean, so the log-odds at temperature 2 are half of it."""
    predictor = predictor_of(small_calibration(1))
    for value in (-3.0, 0.5, 2.0, 2.9):
        prediction = predictor(picture(value))
        p = 1 / (1 + np.exp(-value / 2))
        assert prediction.probabilities["yes"] == pytest.approx(p, abs=1e-6)
        assert prediction.class_name == ("yes" if p >= 0.8 else "no")
        assert prediction.confidence == prediction.probabilities[prediction.class_name]
        assert prediction.conformal_set == tuple(
            name for name, value in (("no", 1 - p), ("yes", p)) if value >= 0.4 - 1e-7
        )
        assert prediction.abstain == (prediction.conformal_set != (prediction.class_name,))
        assert prediction.ood_score == pytest.approx(abs(value), rel=1e-5)
        assert prediction.unlike_training is False


def test_an_image_that_is_too_far_away_is_said_to_be_unlike_the_training_data() -> None:
    predictor = predictor_of(small_calibration(1))
    near, far = predictor(picture(2.99)), predictor(picture(3.01))
    assert (near.unlike_training, far.unlike_training) == (False, True)
    assert far.abstain
    assert far.probabilities["yes"] > near.probabilities["yes"], "the network itself is only surer"


def test_slices_are_joined_by_their_mean_probability_and_their_mean_features() -> None:
    values = np.array([-3.0, 0.0, 1.0, 4.0, 0.5], np.float32)
    image = Image(np.broadcast_to(values[None, :, None, None], (1, 5, 6, 8)).copy())
    answers = predictor_of().answers(image)
    mean = np.mean(1 / (1 + np.exp(-values)))
    np.testing.assert_allclose(np.diff(answers.logits), np.log(mean / (1 - mean)), atol=1e-5)
    assert answers.features is not None
    np.testing.assert_allclose(answers.features, [values.mean()], atol=1e-6)
    assert answers.evidence is not None
    assert answers.evidence.shape == (2, 5, 6, 8)
    np.testing.assert_allclose(answers.evidence[1].mean(axis=(1, 2)), values / 2, atol=1e-6)
    calibrated = predictor_of(small_calibration(1))(image)
    odds = (mean / (1 - mean)) ** 0.5
    assert calibrated.probabilities["yes"] == pytest.approx(odds / (1 + odds), abs=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_mean_of_the_evidence_is_the_log_odds_but_for_a_constant(dims: int) -> None:
    grid = (1, 6, 8) if dims == 2 else (5, 6, 8)
    image = Image(RNG.normal(size=(1, *grid)).astype(np.float32))
    predictor = predictor_of(dims=dims)
    assert predictor.has_evidence
    answers = predictor.answers(image)
    assert answers.evidence is not None
    np.testing.assert_allclose(
        answers.evidence.mean(axis=(1, 2, 3)) + EVIDENCE_BIAS, answers.logits, atol=1e-5
    )  # fmt: skip
    prediction = predictor(image, evidence=True)
    assert prediction.evidence is not None
    assert prediction.evidence.class_name == prediction.class_name
    assert prediction.evidence.exact
    yes = 1 if prediction.class_name == "yes" else -1
    np.testing.assert_allclose(prediction.evidence.values.voxels, yes * image.voxels, atol=1e-6)
    assert predictor(image).evidence is None


def test_evidence_comes_back_to_the_raw_grid(anisotropic_image: Image) -> None:
    """Through turning, resampling and cropping: the brightest block of the raw volume has the highest evidence."""
    voxels = np.zeros((1, 5, 7, 11), np.float32)
    voxels[0, 3, 4:6, 7:10] = 5
    image = anisotropic_image.with_voxels(voxels)
    for pipeline in (
        ({"kind": "orient"}, {"kind": "resample", "spacing_mm": [1.0, 0.6, 0.6]}),
        ({"kind": "slices", "planes": ["axial"], "size": [20, 20]},),
        ({"kind": "resize", "size": [16, 24], "keep_aspect": True},),
    ):
        evidence = predictor_of(pipeline=pipeline, input_kind=VOLUME)(image, evidence=True).evidence
        assert evidence is not None
        assert evidence.values.grid == image.grid
        assert evidence.values.geometry is image.geometry
        sign = 1 if evidence.class_name == "yes" else -1
        peak = np.unravel_index(np.argmax(sign * evidence.values.voxels[0]), image.grid)
        assert voxels[0][peak] == 5, pipeline


def test_evidence_for_one_class_is_against_the_mean_of_the_others() -> None:
    evidence = RNG.normal(size=(4, 3, 5)).astype(np.float32)
    shown = contrast(evidence, 2)
    np.testing.assert_allclose(shown, evidence[2] - evidence[[0, 1, 3]].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(contrast(evidence + 7, 2), shown, atol=1e-5)


@pytest.mark.parametrize(("cells", "grid"), [((3, 4), (12, 20)), ((2, 5), (9, 5)), ((4,), (4,)), ((6, 2), (6, 10))])
def test_between_the_cells_a_map_is_that_of_torch(cells: tuple[int, ...], grid: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    values = RNG.normal(size=cells).astype(np.float32)
    mode = {1: "linear", 2: "bilinear"}[len(cells)]
    wanted = torch.nn.functional.interpolate(torch.from_numpy(values)[None, None], grid, mode=mode)[0, 0].numpy()
    ratios = [want // have for want, have in zip(grid, cells, strict=True)]
    inner = tuple(slice(ratio // 2, want - ratio // 2) for ratio, want in zip(ratios, grid, strict=True))
    np.testing.assert_allclose(on_grid(values, grid)[inner], wanted[inner], atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 100))
def test_a_cell_far_from_the_border_is_drawn_as_large_as_any_other(count: int, ratio: int, seed: int) -> None:
    """So that what is drawn sums to what the cells sum to: with empty cells around, to the last digit."""
    cells = np.zeros(count + 2, np.float32)
    cells[1:-1] = np.random.default_rng(seed).normal(size=count)
    found = on_grid(cells, (ratio * (count + 2),))
    assert found.sum() == pytest.approx(ratio * cells.sum(), abs=1e-4)


def test_cells_lie_where_their_places_say() -> None:
    """Two cells with centres at the voxels 1 and 5: between them it is linear, outside it falls off."""
    found = on_grid(np.array([[1.0, 4.0]], np.float32), (1, 8), ((4.0, 1.0),))
    np.testing.assert_allclose(found, [[0.75, 1, 1.75, 2.5, 3.25, 4, 3, 2]])


def test_features_of_a_segmentation_are_the_mean_over_the_windows() -> None:
    from medrail.bundle.backend import Engine

    def fetch(batch: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        logits = np.concatenate([0 * batch, batch], axis=1)
        found = {"logits": logits, "features": batch.mean(axis=(2, 3))}
        return {name: found[name] for name in names}

    spec = spec_of(task="segmentation", classes=("background", "organ"), patch=(4, 4))
    image = Image(np.arange(4 * 8, dtype=np.float32).reshape(1, 1, 4, 8))
    ood_only = replace(small_calibration(1), temperature=1.0, thresholds={}, threshold_rule="", conformal=None)
    predictor = Predictor(spec, Engine(("logits", "features"), fetch), "tiny", ood_only)
    windows = [image.voxels[0, 0, :, start : start + 4].mean() for start in (0, 2, 4)]
    prediction = predictor(image)
    assert prediction.mask is not None
    assert prediction.ood_score == pytest.approx(np.mean(windows), rel=1e-6)
    assert prediction.unlike_training is True


def test_a_calibration_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BundleError, match="maybe"):
        predictor_of(replace(small_calibration(1), thresholds={"maybe": 0.5}))
    with pytest.raises(BundleError, match="two classes"):
        predictor_of(replace(small_calibration(1), thresholds={"yes": 0.5, "no": 0.4}))
    with pytest.raises(BundleError, match="segmentation"):
        predictor_of(small_calibration(1), task="segmentation")
    with pytest.raises(BundleError, match="gives none"):
        Predictor(
            spec_of(), lambda batch: batch.mean(axis=(2, 3)) * np.ones((1, 2), np.float32), "", small_calibration(1)
        )
    with pytest.raises(BundleError, match="features"):
        predictor_of(small_calibration(3))(picture(1.0))


def test_a_bundle_ships_it_and_no_byte_of_it_can_be_changed(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, "tiny", evidence_network(), spec_of(), calibration=small_calibration(1))
    assert load_bundle(folder)(picture(2.0)).probabilities["yes"] == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-6)
    path = folder / "calibration.json"
    path.write_text(path.read_text().replace('"temperature": 2.0', '"temperature": 3.0'))
    with pytest.raises(BundleError, match="SHA-256"):
        load_bundle(folder)
    path.unlink()
    with pytest.raises(BundleError, match="missing"):
        load_bundle(folder)


def test_bundle_json_says_what_it_decides_by(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, "tiny", evidence_network(), spec_of(), calibration=small_calibration(1))
    path = folder / "bundle.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    told = values["calibration"]
    assert (told["temperature"], told["thresholds"]) == (2.0, {"yes": 0.8})
    assert told["ood"] == {"threshold": 3.0, "quantile": 0.99, "features": 1, "components": 1}
    assert told["conformal"] == {"alpha": 0.1, "quantile": 0.6}
    told["thresholds"]["yes"] = 0.9
    path.write_text(json.dumps(values | {"sha256": sealed(values)}), encoding="utf-8")
    with pytest.raises(BundleError, match=r"the calibration in bundle\.json is not that of calibration\.json"):
        load_bundle(folder)


def test_one_of_another_network_is_refused_in_bundle_and_run(tmp_path: Path) -> None:
    from medrail.bundle import Manifest

    folder = write_bundle(tmp_path, "tiny", evidence_network(), spec_of(), calibration=small_calibration(1))
    small_calibration(1, NETWORK).write(folder / "calibration.json")
    Manifest.read(folder).write(folder, ["model.onnx", "card.md", "calibration.json"])
    with pytest.raises(BundleError, match="of network abab"):
        load_bundle(folder)
    run = tmp_path / "runs" / "tiny-001"
    run.mkdir(parents=True)
    (run / "network.onnx").write_bytes(evidence_network())
    write_network(run, spec_of(), {}, checkpoint="ab" * 32)
    sha256 = json.loads((run / "network.json").read_text())["sha256"]
    small_calibration(1, sha256).write(run / "calibration.json")
    assert load_network(run).calibration == small_calibration(1, sha256)
    assert load_network(run, calibrated=False).calibration is None
    small_calibration(1, NETWORK).write(run / "calibration.json")
    with pytest.raises(BundleError, match="of network abab"):
        load_network(run)


def test_evidence_of_a_turned_volume_keeps_its_sign_and_zero_where_nothing_was_seen(anisotropic_image: Image) -> None:
    voxels = np.full((1, 5, 7, 11), 2.0, np.float32)
    predictor = predictor_of(pipeline=({"kind": "crop_pad", "size": [3, 5, 5]},), input_kind=VOLUME)
    evidence = predictor(anisotropic_image.with_voxels(voxels), evidence=True).evidence
    assert evidence is not None
    inside = evidence.values.voxels != 0
    assert inside.sum() == 3 * 5 * 5
    assert (evidence.values.voxels[inside] == pytest.approx(2.0)) is True
