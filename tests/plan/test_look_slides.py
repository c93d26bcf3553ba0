"""`init` on a folder of slides: tiles of a sensible size, and a project that lists its cases as written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medrail.cases import build_cases
from medrail.config import load
from medrail.plan import Machine, init, plan
from medrail.plan import look_slides as module
from medrail.workspace import Workspace
from slides import tissue_slide, write_slide

BOX = [[[100, 100], [600, 100], [600, 500], [100, 500], [100, 100]]]


def make(root: Path, names: list[str], um: float | None = 0.5) -> Path:
    for seed, name in enumerate(names):
        write_slide(root / name, tissue_slide(640, 768, ((64, 64, 600, 700), "pink"), seed=seed), um)
    return root


@pytest.mark.parametrize("how", ["folders", "table", "outlines"])
def test_slides_are_seen_and_their_project_runs_as_it_is(tmp_path: Path, how: str) -> None:
    names = [f"{kind}/{kind}{number}.tif" for kind in ("ill", "well") for number in range(4)]
    root = make(tmp_path / "data", names)
    if how == "table":
        rows = [f"{name},{name.split('/')[0]},p{number}" for number, name in enumerate(names)]
        (root / "labels.csv").write_text("\n".join(["slide,label,patient", *rows]))
    if how == "outlines":
        for name in names:
            feature = {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": BOX},
                "properties": {"classification": {"name": "tumour"}},
            }
            (root / name).with_suffix(".geojson").write_text(json.dumps([feature]))
    before = sorted(root.rglob("*"))
    made, path = init(tmp_path / "project", root)
    assert sorted(root.rglob("*")) == before, "nothing is written beside the data"
    config = load(path)
    assert config.data.kind == "slides"
    assert config.task == ("segmentation" if how == "outlines" else "classification")
    assert config.data.classes == (("background", "tumour") if how == "outlines" else ("ill", "well"))
    assert (config.data.slide.um_per_px, config.data.slide.tile_px) == (0.5, 256)
    assert "\n  slide:\n    um_per_px: 0.5" in path.read_text(encoding="utf-8")
    assert any("cut into" in sentence for sentence in made.unsure)
    cases = build_cases(config, Workspace.of_config(path))
    assert len({case.patient for case in cases}) == 8


def test_coarse_slides_are_read_at_their_own_resolution(tmp_path: Path, laptop: Machine) -> None:
    root = make(tmp_path / "data", ["a/1.tif", "b/1.tif"], um=1.01)
    assert plan(root, machine=laptop).config.data.slide.um_per_px == 1.01


def test_many_tiles_are_made_fewer(tmp_path: Path, laptop: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_TILES", 5)
    root = make(tmp_path / "data", ["a/1.tif", "b/1.tif"])
    assert plan(root, machine=laptop).config.data.slide.um_per_px == 1.0


def test_outlines_are_masks_that_say_what_they_are_of(tmp_path: Path, laptop: Machine) -> None:
    root = make(tmp_path / "data", ["1.tif", "2.tif"])
    feature = {"geometry": {"type": "Polygon", "coordinates": BOX}, "properties": {"classification": {"name": "gland"}}}
    for name in ("1", "2"):
        (root / f"{name}.geojson").write_text(json.dumps([feature | {"type": "Feature"}]))
    assert dict(plan(root, machine=laptop, task="segmentation").facts)["Masks"] == "outlines (GeoJSON) of gland"
