"""A whole slide in: every tile predicted once, put together at the right place, in bounded memory."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from medrail import predict_slide as module
from medrail.bundle import InputKind, NetworkSpec, Predictor, load_bundle
from medrail.config import SlideConfig
from medrail.errors import BundleError
from medrail.predict import find_inputs, predict_files
from medrail.predict_slide import class_colour, predict_slide
from medrail.read import open_label_picture, read, sniff
from medrail.types import Prediction
from slides import PINK, tissue_slide, write_slide
from small_bundles import classifier_network, evidence_network, segmenter_network, write_bundle
from small_calibrations import small_calibration

SETTINGS = SlideConfig(um_per_px=1, tile_px=64, min_tissue=0.25)


def classifier(root: Path, settings: SlideConfig | None = SETTINGS) -> Predictor:
    spec = NetworkSpec(
        "classification",
        ("a", "b"),
        2,
        3,
        ({"kind": "resize", "size": [32, 32]}, {"kind": "normalise", "method": "imagenet"}),
        InputKind(True, 3, "uint8"),
        slide=settings,
    )
    return load_bundle(write_bundle(root / "bundles", "ab", classifier_network(2), spec))


def segmenter(root: Path, settings: SlideConfig) -> Predictor:
    """Class 1 where the grey value is above 150: glass and pink, class 0 where purple; a pixel by itself."""
    spec = NetworkSpec(
        "segmentation", ("dark", "light"), 2, 1, ({"kind": "rgb_to_grey"},), InputKind(True, 3, "uint8"), slide=settings
    )
    return load_bundle(write_bundle(root / "bundles", "seg", segmenter_network(2, (150.0,)), spec))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.5 um; at 1 um 300 x 400 pixels, pink in columns 20 to 200, purple in columns 200 to 380."""
    rgb = tissue_slide(600, 800, ((40, 40, 560, 400), "pink"), ((40, 400, 560, 760), "purple"))
    return write_slide(tmp_path_factory.mktemp("slide") / "s one.tif", rgb, 0.5)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tiles_are_classified_and_put_together(tmp_path: Path, slide: Path) -> None:
    predictor = classifier(tmp_path)
    answer = predict_slide(predictor, slide, tmp_path, "out")
    rows = table(tmp_path / "out_tiles.csv")
    for row in rows[::5]:
        alone = predictor(read(slide, f"x={row['x']},y={row['y']},px=64,um=1")).probabilities
        assert [float(row["p_a"]), float(row["p_b"])] == pytest.approx([alone["a"], alone["b"]], abs=1e-6)
    weights = np.array([float(row["tissue"]) for row in rows])
    summary = json.loads((tmp_path / "out_slide.json").read_text())
    for name in "ab":
        mean = (weights * [float(row[f"p_{name}"]) for row in rows]).sum() / weights.sum()
        share = weights[[row["class_name"] == name for row in rows]].sum() / weights.sum()
        assert summary["mean_probability"][name] == pytest.approx(mean, abs=1e-4)
        assert summary["share_of_tissue"][name] == pytest.approx(share, abs=1e-4)
    assert summary["tissue_mm2"] == pytest.approx(0.26 * 0.36, rel=0.05)
    assert (summary["width_px"], summary["height_px"], summary["tiles"]) == (400, 300, len(rows))
    assert answer.prediction.probabilities == summary["mean_probability"]
    assert sum(answer.prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_a_calibrated_bundle_says_how_like_the_training_data_the_tissue_is(tmp_path: Path, slide: Path) -> None:
    spec = replace(classifier(tmp_path).spec, classes=("no", "yes"))
    bundle = write_bundle(tmp_path, "known", evidence_network(2, 3), spec, calibration=small_calibration(3))
    answer = predict_slide(load_bundle(bundle), slide, tmp_path, "out")
    rows = table(tmp_path / "out_tiles.csv")
    weights = np.array([float(row["tissue"]) for row in rows])
    scores = np.array([float(row["ood_score"]) for row in rows])
    mean = (weights * scores).sum() / weights.sum()
    summary = json.loads((tmp_path / "out_slide.json").read_text())
    assert summary["ood_score"] == pytest.approx(mean, abs=1e-3)
    assert summary["share_unlike_training"] == pytest.approx(weights[scores > 3].sum() / weights.sum(), abs=1e-3)
    assert answer.prediction.ood_score == summary["ood_score"]
    assert answer.prediction.unlike_training is (summary["ood_score"] > 3)
    assert answer.prediction.conformal_set is None
    assert answer.prediction.class_name == ("yes" if summary["mean_probability"]["yes"] >= 0.8 else "no")
    (told,) = predict_files(load_bundle(bundle), find_inputs([slide]), tmp_path / "files", overlays=False)
    (row,) = table(tmp_path / "files" / "predictions.csv")
    assert float(row["ood_score"]) == pytest.approx(summary["ood_score"], abs=1e-5)
    assert row["unlike_training"] == str(int(told.unlike_training))
    assert "conformal_set" not in row


def test_the_heat_map_shows_each_tile_at_its_place(tmp_path: Path, slide: Path) -> None:
    """A network that answers by where the colour is: pink is a, the rest b."""
    predictor = classifier(tmp_path)

    class Known:
        spec, bundle_id = predictor.spec, predictor.bundle_id

        calibration = None

        def __call__(self, image: Any) -> Any:
            pink = bool((np.abs(image.voxels[:, 0].reshape(3, -1).T - np.array(PINK)).max(axis=1) < 10).mean() > 0.3)
            found = {"a": 0.9 * pink + 0.05, "b": 0.95 - 0.9 * pink}
            return Prediction("classification", ("a", "b"), "known", found)

    predict_slide(Known(), slide, tmp_path, "out")  # type: ignore[arg-type]
    picture = np.asarray(Picture.open(tmp_path / "out.png")).astype(float)
    by_place = {}
    for name, column in (("pink", 0.28), ("purple", 0.75)):
        around = picture[140:160, int(column * 800) : int(column * 800) + 20].mean(axis=(0, 1))
        by_place[name] = [np.abs(around - class_colour(index)).sum() for index in (0, 1)]
    assert picture.shape[1] == 800
    assert by_place["pink"][0] < by_place["pink"][1]
    assert by_place["purple"][1] < by_place["purple"][0]
    assert picture[2:30, 2:30].mean() > picture[140:160, 224:244].mean() + 40, "glass is tinted less than tissue"


@pytest.mark.parametrize(
    ("tile", "overlap"),
    [(64, 0), (64, 20), (64, 47), (100, 0), (100, 20), (100, 63)],  # steps of 17 px divide neither side
)
def test_a_stitched_mask_is_what_one_answer_for_all_would_be(
    tmp_path: Path, slide: Path, tile: int, overlap: int
) -> None:
    """The network looks at single pixels, so neither tiles nor overlaps may change anything."""
    predictor = segmenter(tmp_path, SlideConfig(um_per_px=1, tile_px=tile, overlap_px=overlap, min_tissue=0))
    answer = predict_slide(predictor, slide, tmp_path, "out")
    whole = predictor(read(slide, "x=0,y=0,px=400x300,um=1")).mask
    assert whole is not None
    found = tifffile.imread(tmp_path / "out_mask.tif")
    assert np.array_equal(found, whole.voxels[0, 0])
    assert 0.2 < found.mean() < 0.9
    assert answer.areas_mm2 == {"light": pytest.approx(found.sum() * 1e-6)}
    with tifffile.TiffFile(tmp_path / "out_mask.tif") as file:
        page = file.pages[0]
        assert page.is_tiled
        numerator, denominator = page.tags["XResolution"].value
        assert (numerator / denominator, int(page.tags["ResolutionUnit"].value)) == (pytest.approx(1e4), 3)


def test_glass_is_background_and_no_tile_there_is_predicted(tmp_path: Path, slide: Path) -> None:
    predictor = segmenter(tmp_path, SlideConfig(um_per_px=1, tile_px=32, min_tissue=0.9))
    predict_slide(predictor, slide, tmp_path, "out", overlays=False)
    found = tifffile.imread(tmp_path / "out_mask.tif")
    assert not found[:20].any()
    assert not found[:, :20].any()
    assert found[100:200, 64:180].all(), "pink is light"
    assert not (tmp_path / "out.png").exists()


def test_a_stitched_mask_can_be_an_annotation_again(tmp_path: Path, slide: Path) -> None:
    predictor = segmenter(tmp_path, SlideConfig(um_per_px=1, tile_px=64, min_tissue=0))
    predict_slide(predictor, slide, tmp_path, "out")
    picture = open_label_picture(tmp_path / "out_mask.tif")
    everything = picture.values(np.arange(300), np.arange(400))
    assert np.array_equal(everything, tifffile.imread(tmp_path / "out_mask.tif"))
    assert sniff(tmp_path / "out_mask.tif") == "tiff"


def test_slides_among_other_inputs(tmp_path: Path, slide: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.tif").write_bytes(slide.read_bytes())
    (folder / "cut.svs").write_bytes(slide.read_bytes()[:3000])
    write_slide(folder / "glass.tif", tissue_slide(300, 400), 0.5)
    write_slide(folder / "silent.tif", tissue_slide(300, 400), None)
    answers = predict_files(classifier(tmp_path), find_inputs([folder]), tmp_path / "out")
    by_name = {row["name"]: row for row in table(tmp_path / "out" / "predictions.csv")}
    assert set(by_name) == {"a", "cut", "glass", "silent"}
    assert by_name["a"]["reason"] == ""
    assert float(by_name["a"]["p_a"]) + float(by_name["a"]["p_b"]) == pytest.approx(1, abs=1e-5)
    assert "no tissue" in by_name["glass"]["reason"]
    assert "how large its pixels are" in by_name["silent"]["reason"]
    assert by_name["cut"]["reason"]
    (done,) = [answer for answer in answers if not answer.reason]
    assert {file.name for file in done.files} == {"a_slide.json", "a_tiles.csv", "a.png"}


def test_areas_stand_in_the_table(tmp_path: Path, slide: Path) -> None:
    predictor = segmenter(tmp_path, SlideConfig(um_per_px=1, tile_px=64))
    (answer,) = predict_files(predictor, find_inputs([slide]), tmp_path / "out")
    (row,) = table(tmp_path / "out" / "predictions.csv")
    assert float(row["light_mm2"]) == pytest.approx(answer.areas_mm2["light"], abs=1e-6)
    assert answer.summary.startswith("light 0.")


def test_a_network_of_something_else_is_refused(tmp_path: Path, slide: Path) -> None:
    predictor = classifier(tmp_path, None)
    with pytest.raises(BundleError, match=r"data\.kind: slides"):
        predict_slide(predictor, slide, tmp_path, "out")


def test_a_kill_leaves_no_half_mask(tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = segmenter(tmp_path, SlideConfig(um_per_px=1, tile_px=64))

    def fail(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "read", fail)
    with pytest.raises(KeyboardInterrupt):
        predict_slide(predictor, slide, tmp_path, "out")
    assert not list(tmp_path.glob("out*"))


def test_how_slides_were_cut_travels_in_the_bundle(tmp_path: Path) -> None:
    spec = classifier(tmp_path, SlideConfig(um_per_px=0.25, tile_px=128, overlap_px=16)).spec
    assert spec.slide == SlideConfig(um_per_px=0.25, tile_px=128, overlap_px=16)
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    older = {key: value for key, value in spec.to_dict().items() if key != "slide"}
    assert NetworkSpec.from_dict(older).slide is None
    with pytest.raises(BundleError):
        NetworkSpec.from_dict(spec.to_dict() | {"slide": {"tile_px": "wide"}})
