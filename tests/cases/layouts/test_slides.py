"""Slides -> tiles: each with its own target, all of a slide with one patient; a bad slide stops nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from medrail.cases import FileHashes, build_cases, check_data, read_target_mask
from medrail.cases.index import index_cases
from medrail.cases.layouts import tiles as tiles_module
from medrail.cases.layouts.annotation import NOTHING, Grid, class_indices
from medrail.cases.layouts.tiles import tiles_of
from medrail.config import Config, DataConfig, SlideConfig
from medrail.errors import CaseError, ConfigError, GeometryError, ReadError
from medrail.read import Place, read, slide_facts
from medrail.workspace import Workspace
from slides import tissue_slide, write_slide

Configure = Callable[..., Config]
SLIDE = {"um_per_px": 0.5, "tile_px": 64, "min_tissue": 0.5}
PIECE = ((64, 128, 448, 512), "pink")  # rows 64 to 448, columns 128 to 512: 6 x 6 tiles
EXPECTED = (("benign", (0, 64, 128, 192, 256)), ("tumour", (320, 384)))
TWO = (((0, 0, 384, 256), "pink"), ((0, 256, 384, 512), "purple"))


def slide(path: Path, *pieces: Any, seed: int = 0, **options: Any) -> Path:
    return write_slide(path, tissue_slide(512, 640, *(pieces or (PIECE,)), seed=seed), **options)


def outlines(path: Path, *areas: tuple[str, list[list[list[float]]]]) -> Path:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": rings},
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [1, 2, 3]}},
        }
        for name, rings in areas
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def settings(root: Path, **data: Any) -> dict[str, Any]:
    return {"kind": "slides", "path": str(root), "slide": SLIDE} | data


# Tiles --------------------------------------------------------------------------------------------------------------


def test_tiles_lie_where_the_tissue_is(tmp_path: Path) -> None:
    path = slide(tmp_path / "a.tif")
    tiles = tiles_of(path, SlideConfig(**SLIDE))
    places = {(tiles.place(index).x, tiles.place(index).y) for index in range(len(tiles))}
    assert places == {(x, y) for x in range(128, 512, 64) for y in range(64, 448, 64)}
    assert (tiles.tissue > 0.95).all()
    everything = tiles_of(path, SlideConfig(**SLIDE | {"min_tissue": 0}))
    assert len(everything) == 10 * 8


@pytest.mark.parametrize("um", [0.25, (0.25, 0.5), 1.0])
def test_tiles_are_of_one_physical_size_whatever_the_scanner(tmp_path: Path, um: Any) -> None:
    """A tile at 1 um shows the same part of the tissue on slides of any resolution."""
    across, down = um if isinstance(um, tuple) else (um, um)
    rgb = tissue_slide(round(512 / down), round(640 / across), ((0, 0, round(256 / down), round(640 / across)), "pink"))
    tiles = tiles_of(write_slide(tmp_path / "a.tif", rgb, um), SlideConfig(um_per_px=1, tile_px=64, min_tissue=0.5))
    assert (tiles.grid.width, tiles.grid.height, len(tiles)) == (640, 512, 40)
    last = tiles.place(39)
    assert (last.x * across, last.y * down) == (576, 192)
    assert read(tmp_path / "a.tif", str(last)).grid == (1, 64, 64)


def test_overlapping_tiles_go_on_by_the_rest(tmp_path: Path) -> None:
    tiles = tiles_of(slide(tmp_path / "a.tif"), SlideConfig(**SLIDE | {"overlap_px": 48, "min_tissue": 0}))
    assert np.diff(tiles.grid.lefts).tolist() == [16] * 36
    with pytest.raises(ValueError, match="overlap_px 64 leaves nothing"):
        SlideConfig(tile_px=64, overlap_px=64)


def test_unchanged_slides_are_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, workspace = slide(tmp_path / "a.tif"), Workspace(tmp_path / "project")
    found = []
    for _ in range(2):
        with FileHashes.of(workspace) as hashes:
            found.append(tiles_of(path, SlideConfig(**SLIDE), hashes=hashes))
        monkeypatch.setattr(tiles_module, "find_tissue", lambda *_: pytest.fail("looked at again"))
    assert np.array_equal(found[0].mask.mask, found[1].mask.mask)
    assert np.array_equal(found[0].tissue, found[1].tissue)


# Layout: folders ----------------------------------------------------------------------------------------------------


def test_slides_in_class_folders(tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
    root = tmp_path / "data"
    for number in range(4):
        slide(root / "benign" / f"b{number}.tif", seed=number)
        slide(root / "tumour" / f"t{number}.tif", seed=10 + number)
    config = configure("classification", settings(root), split={"val": 0.25, "test": 0.25})
    cases = build_cases(config, workspace)
    assert len(cases) == 8 * 36
    assert {case.target for case in cases} == {"benign", "tumour"}
    by_slide = {(case.paths[0], case.patient, case.split) for case in cases}
    assert len(by_slide) == 8, "all tiles of a slide have one patient and one split"
    assert len({case.id for case in cases}) == len(cases)
    image = read(cases[0].paths[0], cases[0].item)
    assert image.voxels.shape == (3, 1, 64, 64)
    assert Place.parse(cases[0].item).size_px == (64, 64)


def test_a_pattern_groups_the_slides_of_a_patient(tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
    for name in ("p1_a", "p1_b", "p2_a"):
        slide(tmp_path / "data" / "c" / f"{name}.tif")
    index = index_cases(configure("classification", settings(tmp_path / "data", patient_pattern="(p\\d+)_")), workspace)
    assert {case.patient for case in index.cases} == {"p1", "p2"}
    assert "patient_unknown" not in {finding.defect for finding in index.findings}
    index = index_cases(configure("classification", settings(tmp_path / "data")), workspace)
    assert len({case.patient for case in index.cases}) == 3
    assert "patient_unknown" in {finding.defect for finding in index.findings}


def test_a_slide_that_cannot_be_read_is_named_and_the_others_go_on(
    tmp_path: Path, configure: Configure, workspace: Workspace
) -> None:
    root = tmp_path / "data"
    good = slide(root / "c" / "good.tif")
    (root / "c" / "cut.svs").write_bytes(good.read_bytes()[:500])
    (root / "c" / "empty.ndpi").touch()
    slide(root / "c" / "silent.tif", um=None)
    Picture.new("RGB", (40, 30)).save(root / "c" / "photo.tif")
    write_slide(root / "c" / "glass.tif", tissue_slide(512, 640))
    (root / "c" / "notes.txt").write_text("nothing")
    index = index_cases(configure("classification", settings(root)), workspace)
    assert {Path(case.paths[0]).name for case in index.cases} == {"good.tif"}
    found = {Path(finding.where).name: finding for finding in index.findings if finding.where != "data"}
    assert {name: finding.defect for name, finding in found.items()} == {
        "cut.svs": "unreadable_slide",
        "empty.ndpi": "unreadable_slide",
        "silent.tif": "unreadable_slide",
        "photo.tif": "ignored_file",
        "glass.tif": "no_tissue",
    }
    assert all(finding.severity == "warn" and finding.remedy for finding in found.values())
    assert "scan_um_per_px" in found["silent.tif"].remedy
    said = index_cases(configure("classification", settings(root, slide=SLIDE | {"scan_um_per_px": 0.5})), workspace)
    assert {Path(case.paths[0]).name for case in said.cases} == {"good.tif", "silent.tif"}


def test_nothing_at_all_is_an_error(tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(CaseError, match="no slide found"):
        build_cases(configure("classification", settings(tmp_path / "data")), workspace)
    with pytest.raises(ConfigError, match="no such folder"):
        build_cases(configure("classification", settings(tmp_path / "elsewhere")), workspace)


# Layout: a table ----------------------------------------------------------------------------------------------------


def test_a_table_says_all(tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
    root = tmp_path / "data"
    slide(root / "one.tif")
    slide(root / "deep" / "two.tif", um=None)
    slide(root / "left.tif")
    labels = table(
        tmp_path / "labels.csv",
        "slide,label,patient,split,centre,um_per_px",
        "one.tif,benign,p1,train,A,",
        "two,tumour,p2,test,B,0.5",
    )
    config = configure("classification", settings(root, labels=str(labels)), split={"by": "given"})
    index = index_cases(config, workspace)
    told = {(Path(c.paths[0]).name, c.target, c.patient, c.split, c.centre) for c in index.cases}
    assert told == {("one.tif", "benign", "p1", "train", "A"), ("two.tif", "tumour", "p2", "test", "B")}
    assert all("scan=0.5" in case.item for case in index.cases if "two" in case.id)
    (finding,) = index.findings
    assert "no row names this slide" in finding.what
    assert finding.where.endswith("left.tif")


def test_what_is_wrong_with_rows_is_said_by_line(tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
    root = tmp_path / "data"
    slide(root / "one.tif")
    labels = table(
        tmp_path / "labels.csv",
        *("slide,label,split,um_per_px", "one.tif,a,train,", "one.tif,b,train,", "onne.tif,a,,", ",a,,"),
        *("one.tif,,,", "one.tif,a,sometimes,", "one.tif,a,,wide", "one.tif,a,,250"),
    )
    index = index_cases(configure("classification", settings(root, labels=str(labels))), workspace)
    by_line = {
        int(finding.where.rpartition(" ")[2]): finding.defect for finding in index.findings if "line" in finding.where
    }
    assert by_line.keys() >= {3, 4, 5, 6, 7, 8, 9}
    assert by_line[4] == by_line[5] == "missing_file"
    with pytest.raises(CaseError, match=r"things are wrong"):
        build_cases(configure("classification", settings(root, labels=str(labels))), workspace)


# What was drawn -----------------------------------------------------------------------------------------------------


def test_a_tile_has_the_class_over_most_of_its_tissue(
    tmp_path: Path, configure: Configure, workspace: Workspace
) -> None:
    """Drawn: columns 0 to 300 benign, 300 to 448 tumour; the tile at 256 is benign in 44 of its 64 columns."""
    root = tmp_path / "data"
    slide(root / "a.tif", *TWO)
    outlines(root / "a.geojson", ("benign", [box(0, 0, 300, 512)]), ("tumour", [box(300, 0, 448, 512)]))
    index = index_cases(configure("classification", settings(root)), workspace)
    by_column: dict[int, set[str | None]] = {}
    for case in index.cases:
        by_column.setdefault(Place.parse(case.item).x, set()).add(case.target)
    benign, tumour = ({column: {name} for column in columns} for name, columns in EXPECTED)
    assert by_column == benign | tumour, "448 to 512 is tissue on which nothing was drawn"


def test_unknown_classes_of_outlines_are_named(tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
    root = tmp_path / "data"
    slide(root / "a.tif")
    outlines(root / "a.geojson", ("tumor", [box(0, 0, 640, 512)]))
    index = index_cases(configure("classification", settings(root, classes=["benign", "tumour"])), workspace)
    assert not index.cases
    assert "Did you mean 'tumour'?" in index.findings[0].remedy


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[1]", '{"features": [{"geometry": null}]}', "[" * 100000])
def test_what_is_no_annotation_is_refused(tmp_path: Path, content: str) -> None:
    slide(tmp_path / "a.tif")
    (tmp_path / "a.geojson").write_text(content)
    data = DataConfig(kind="slides", path=".", classes=("a", "b"))
    with pytest.raises((CaseError, ReadError)):
        class_indices(tmp_path / "a.geojson", slide_facts(tmp_path / "a.tif"), Grid(0, 0, (1, 1), 8, 8), data)


def _mask_file(folder: Path, labels: np.ndarray, kind: str) -> Path:
    """The labels as a palette PNG, a grey PNG, a tiled TIFF of full size, or a picture of a quarter of the size."""
    if kind == "tiled":
        tifffile.imwrite(folder / "m.tif", labels, tile=(64, 64), compression="zlib", metadata=None)
        return folder / "m.tif"
    picture = Picture.fromarray(labels[::4, ::4] if kind == "small" else labels)
    if kind == "palette":
        picture.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
    picture.save(folder / "m.png")
    return folder / "m.png"


@pytest.mark.parametrize("kind", ["grey", "palette", "tiled", "small"])
def test_a_mask_picture_of_any_size_gives_each_tile_its_part(
    tmp_path: Path, configure: Configure, workspace: Workspace, kind: str
) -> None:
    root = tmp_path / "data"
    slide(root / "a.tif")
    labels = np.zeros((512, 640), np.uint8)
    labels[100:300, 160:400] = 1
    labels[200:260, 300:480] = 2
    mask = _mask_file(tmp_path, labels, kind)
    csv = table(tmp_path / "labels.csv", "slide,mask", f"a.tif,{mask.name}")
    config = configure("segmentation", settings(root, labels=str(csv), classes=["background", "a", "b"]))
    index = index_cases(config, workspace)
    assert len(index.cases) == 36
    for case in index.cases:
        place = Place.parse(case.item)
        found = read_target_mask(case, read(case.paths[0], case.item), config.data).voxels[0, 0]
        assert np.array_equal(found, labels[place.y : place.y + 64, place.x : place.x + 64])


def test_outlines_give_each_tile_its_part(tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
    """Holes are left out; the later of two outlines counts."""
    root = tmp_path / "data"
    slide(root / "a.tif")
    areas = [("a", [box(160, 100, 400, 300), box(200, 140, 260, 180)]), ("b", [box(300, 200, 480, 260)])]
    outlines(root / "a.geojson", *areas)
    labels = np.zeros((512, 640), np.uint8)
    labels[100:300, 160:400] = 1
    labels[140:180, 200:260] = 0
    labels[200:260, 300:480] = 2
    config = configure("segmentation", settings(root, classes=["background", "a", "b"]))
    wrong = pixels = 0
    for case in index_cases(config, workspace).cases:
        place = Place.parse(case.item)
        found = read_target_mask(case, read(case.paths[0], case.item), config.data).voxels[0, 0]
        part = labels[place.y : place.y + 64, place.x : place.x + 64]
        wrong, pixels = wrong + int((found != part).sum()), pixels + part.size
        inner = np.pad(part, 1, mode="edge")
        edge = sum(inner[1 + dy : 65 + dy, 1 + dx : 65 + dx] != part for dy in (-1, 0, 1) for dx in (-1, 0, 1)) > 0
        assert (found == part)[~edge].all(), "at most the pixels at an outline"
    assert wrong / pixels < 0.02


@pytest.mark.parametrize("size", [(128, 160), (64, 80), (97, 121)])
def test_a_mask_is_stretched_over_the_slide(tmp_path: Path, size: tuple[int, int]) -> None:
    path = slide(tmp_path / "a.tif")
    labels = np.zeros(size, np.uint8)
    labels[size[0] // 2 :, size[1] // 2 :] = 1
    Picture.fromarray(labels).save(tmp_path / "m.png")
    data = DataConfig(kind="slides", path=".", classes=("a", "b"))
    found = class_indices(tmp_path / "m.png", slide_facts(path), Grid(0, 0, (1, 1), 700, 600), data)
    assert (found[512:] == NOTHING).all()
    assert (found[:, 640:] == NOTHING).all()
    assert found[:512, :640].mean() == pytest.approx(0.25, abs=0.02)
    assert (found[270:512, 340:640] == 1).all()


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = slide(tmp_path / "a.tif")
    facts, grid = slide_facts(path), Grid(0, 0, (4, 4), 160, 128)
    Picture.fromarray(np.zeros((160, 128), np.uint8)).save(tmp_path / "turned.png")
    Picture.fromarray(np.full((128, 160), 255, np.uint8)).save(tmp_path / "white.png")
    data = DataConfig(kind="slides", path=".", classes=("a", "b"))
    with pytest.raises(GeometryError, match="128 x 160 and its slide 640 x 512"):
        class_indices(tmp_path / "turned.png", facts, grid, data)
    with pytest.raises(CaseError, match="mean no class: 255"):
        class_indices(tmp_path / "white.png", facts, grid, data)
    valued = data.model_copy(update={"mask_values": (1, 2)})
    assert (class_indices(tmp_path / "white.png", facts, grid, valued) == NOTHING).all()
    nonzero = data.model_copy(update={"foreground_nonzero": True})
    assert (class_indices(tmp_path / "white.png", facts, grid, nonzero) == 1).all()


@pytest.mark.shared
def test_a_real_slide(shared_data: Path, configure: Configure, workspace: Workspace, tmp_path: Path) -> None:
    csv = table(tmp_path / "labels.csv", "slide,label,patient", "cmu_small_region.svs,skin,p1")
    data = settings(shared_data / "slides", labels=str(csv), slide={"um_per_px": 0.5, "tile_px": 256})
    index = index_cases(configure("classification", data), workspace)
    assert not index.findings
    assert 35 <= len(index.cases) <= 60, "of 108 tiles, those with a quarter of tissue"
    whole = read(index.cases[0].paths[0], "um=8").voxels
    kept = np.mean([read(case.paths[0], case.item).voxels.mean() for case in index.cases])
    assert kept < whole.mean() - 15, "tissue is darker than glass"


def test_tiles_without_foreground_are_counted_and_only_a_bare_slide_is_a_finding(
    tmp_path: Path, configure: Configure, workspace: Workspace
) -> None:
    root = tmp_path / "data"
    for name, area in (("a", (150.0, 80.0, 180.0, 100.0)), ("b", (0.0, 0.0, 20.0, 20.0))):
        slide(root / f"{name}.tif", seed=ord(name))
        outlines(root / f"{name}.geojson", ("gland", [box(*area)]))
    config = configure("segmentation", settings(root, classes=["background", "gland"]), split={"val": 0, "test": 0.5})
    report = check_data(config, workspace)
    assert report.to_json()["tiles"] == [
        {"slide": str(root / "a.tif"), "tiles": 36, "with_foreground": 1},
        {"slide": str(root / "b.tif"), "tiles": 36, "with_foreground": 0},
    ]
    assert ("tiles", "a.tif: 1 of 36 tiles have foreground") in report.summary.lines()
    bare = [finding for finding in report.findings if finding.defect == "empty_mask"]
    assert [Path(finding.where).name for finding in bare] == ["b.geojson"]
