"""Whole slides: the right pixels at the asked resolution, or a named refusal; ordinary TIFFs stay pictures."""

from __future__ import annotations

import builtins
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.errors import CorruptFile, ReadError, UnsupportedFormat
from medrail.read import Place, files_of, is_slide, read, slide_facts, sniff
from medrail.read import slide as slide_module
from medrail.read.averaging import area_average
from slides import noise, write_slide


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """300 x 500 pixels of 0.5 x 0.4 um, three levels."""
    rgb = noise(300, 500)
    return write_slide(tmp_path_factory.mktemp("slide") / "a.tif", rgb, (0.5, 0.4)), rgb


def pixels(path: Path, item: str) -> np.ndarray:
    image = read(path, item)
    assert (image.unit, image.geometry, image.grid[0]) == ("uint8", None, 1)
    return np.moveaxis(image.voxels[:, 0], 0, -1)


# Places -------------------------------------------------------------------------------------------------------------

numbers = st.integers(1, 10**9).map(lambda value: value / 10**6)


@given(
    um=numbers,
    corner=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    size=st.none() | st.tuples(st.integers(1, 16384), st.integers(1, 16384)),
    scan=st.none() | numbers,
)
def test_a_place_survives_its_text(um: float, corner: tuple[int, int], size: Any, scan: Any) -> None:
    place = Place(um, *(corner if size else (0, 0)), size, scan)
    assert Place.parse(str(place)) == place


def test_the_text_of_a_place_does_not_change() -> None:
    assert str(Place(0.5, 1024, 2048, (256, 256))) == "x=1024,y=2048,px=256,um=0.5"
    assert str(Place(8)) == "um=8"
    assert str(Place(0.25, 1, 2, (256, 128), 0.2525)) == "x=1,y=2,px=256x128,um=0.25,scan=0.2525"


@pytest.mark.parametrize(
    "text",
    [
        *("", "um", "um=", "um=0", "um=-1", "um=1e3", "um=nan", "um=0x1", "um=1 ", "um=٣", "um=8\n", "um=8,um=8"),
        *("x=1,y=2,um=1", "x=1,y=2,px=0,um=1", "x=-1,y=2,px=9,um=1", "x=1.5,y=2,px=9,um=1", "y=2,x=1,px=9,um=1"),
        *("x=1,y=2,px=16385,um=1", "x=1,y=2,px=9x0,um=1", "um=8,scan=0", "x=1,y=2,px=9,um=1,scan", "train_images/3"),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ReadError):
        Place.parse(text)


# Pixels -------------------------------------------------------------------------------------------------------------


def test_what_a_slide_says_of_itself(made: tuple[Path, np.ndarray]) -> None:
    facts = slide_facts(made[0])
    assert (facts.width, facts.height, facts.vendor) == (500, 300, "generic-tiff")
    assert facts.um_per_px == pytest.approx((0.5, 0.4))
    assert [(level.width, level.height, level.downsample) for level in facts.levels] == [
        (500, 300, (1, 1)),
        (250, 150, (2, 2)),
        (125, 75, (4, 4)),
    ]
    assert facts.size_at(1.0) == (250, 120)


def test_a_small_slide_is_read_whole_as_it_is_stored(made: tuple[Path, np.ndarray]) -> None:
    path, rgb = made
    assert sniff(path) == "slide"
    assert np.array_equal(pixels(path, ""), rgb)


def test_a_large_slide_is_refused_without_an_item(
    made: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slide_module, "MAX_WHOLE_PIXELS", 1000)
    with pytest.raises(ReadError, match=r"500 x 300 pixels.*um=8.*tiles"):
        read(made[0])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_pixels_are_means_over_their_area(made: tuple[Path, np.ndarray], data: st.DataObject) -> None:
    """Against a plain sum over the finest level; both axes have another size of pixels."""
    path, rgb = made
    x, y = data.draw(st.integers(0, 450)), data.draw(st.integers(0, 250))
    um = data.draw(st.sampled_from([0.5, 0.6, 0.75, 0.9]))  # all from the finest level
    found = pixels(path, f"x={x},y={y},px=9x7,um={um}").astype(float)
    fine = np.full((400, 600, 3), 255.0)
    fine[:300, :500] = rgb
    columns, rows = x + np.arange(10) * um / 0.5, y + np.arange(8) * um / 0.4
    wide = np.clip(
        np.minimum(columns[1:, None], np.arange(1, 601)) - np.maximum(columns[:-1, None], np.arange(600)), 0, 1
    )
    high = np.clip(np.minimum(rows[1:, None], np.arange(1, 401)) - np.maximum(rows[:-1, None], np.arange(400)), 0, 1)
    expected = np.einsum("ij,jkc,lk->ilc", high, fine, wide) / (um / 0.5 * um / 0.4)
    assert np.abs(found - expected).max() <= 0.51


def test_the_nearest_finer_level_is_used(tmp_path: Path) -> None:
    """Levels that do not belong together show which one was read."""
    path = tmp_path / "levels.tif"
    with tifffile.TiffWriter(path) as file:
        for factor, value in ((1, 10), (2, 20), (4, 40)):
            resolution = (1e4 / 0.5 / factor,) * 2
            file.write(
                np.full((512 // factor, 512 // factor, 3), value, np.uint8),
                tile=(128, 128),
                photometric="rgb",
                metadata=None,
                resolution=resolution,
                resolutionunit="CENTIMETER",
                subfiletype=int(factor > 1),
            )
    by_um = {um: int(pixels(path, f"x=0,y=0,px=32,um={um}")[5, 5, 0]) for um in (0.5, 0.99, 1, 1.5, 2, 3)}
    assert by_um == {0.5: 10, 0.99: 20, 1: 20, 1.5: 20, 2: 40, 3: 40}, "1 % finer than a level is that level"


def test_coarse_levels_lie_where_the_finest_lies(made: tuple[Path, np.ndarray]) -> None:
    path, rgb = made
    mean = rgb[40:200, 80:400].reshape(40, 4, 80, 4, 3).mean(axis=(1, 3))
    across = pixels(write_slide(path.with_name("square.tif"), rgb, 0.5), "x=80,y=40,px=80x40,um=2")
    assert np.abs(across.astype(float) - mean).max() <= 1


def test_outside_of_the_slide_is_white(made: tuple[Path, np.ndarray]) -> None:
    found = pixels(write_slide(made[0].with_name("edge.tif"), made[1], 0.5), "x=490,y=295,px=32,um=0.5")
    assert np.array_equal(found[:5, :10], made[1][295:, 490:])
    assert (found[5:] == 255).all()
    assert (found[:, 10:] == 255).all()


def test_an_overview_has_the_mean_of_the_slide(made: tuple[Path, np.ndarray]) -> None:
    found = pixels(write_slide(made[0].with_name("mean.tif"), made[1], 0.5), "um=5")
    assert found.shape == (30, 50, 3)
    assert found.mean() == pytest.approx(made[1].mean(), abs=0.6)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.3, 5), st.floats(0, 0.99))
def test_area_means_keep_a_constant_and_whole_sums(height: int, width: int, step: float, start: float) -> None:
    values = np.full((height, width, 1), 77.0)
    cells = max(1, int((height - start) / step))
    rows = np.clip(start + step * np.arange(cells + 1), 0, height)
    columns = np.array([0.0, width])
    if (np.diff(rows) > 0).all():
        assert np.allclose(area_average(values, rows, columns), 77)
    random = np.random.default_rng(height * 41 + width).random((height, width, 2))
    assert np.allclose(area_average(random, np.arange(height + 1.0), np.arange(width + 1.0)), random)


# Refusals -----------------------------------------------------------------------------------------------------------


def test_a_resolution_finer_than_the_scan_is_refused(made: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(ReadError, match=r"scanned at 0\.5 x 0\.4 um.*um_per_px to 0\.5"):
        read(made[0], "um=0.25")


@pytest.mark.parametrize("um", [None, 25400 / 72, 0.001])
def test_a_slide_that_does_not_say_its_resolution_needs_it_said(tmp_path: Path, um: float | None) -> None:
    """72 dots an inch is what programs write that do not know."""
    rgb = noise(260, 260)
    path = write_slide(tmp_path / "a.tif", rgb, um)
    with pytest.raises(ReadError, match=r"how large its pixels are.*scan_um_per_px.*column um_per_px"):
        read(path, "x=0,y=0,px=64,um=0.5")
    assert np.array_equal(pixels(path, "x=3,y=5,px=64,um=0.5,scan=0.5"), rgb[5:69, 3:67])
    assert np.array_equal(pixels(path, ""), rgb)


def test_a_place_outside_is_refused(made: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(ReadError, match="no pixel in column 500"):
        read(made[0], "x=500,y=0,px=32,um=0.5")


def test_a_slide_without_coarse_levels_does_not_keep_a_machine_busy(
    made: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slide_module, "MAX_DECODED_PIXELS", 1000)
    with pytest.raises(ReadError, match="pyramid"):
        read(made[0], "um=0.5")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.6, 0.95])
def test_a_truncated_slide_is_refused_by_name(shared_data: Path, tmp_path: Path, kept: float) -> None:
    whole = (shared_data / "slides" / "cmu_small_region.svs").read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ReadError, match=r"cut off|0 bytes|a broken one") as caught:
        read(path, "um=8")
    assert str(path) in str(caught.value)


def test_a_slide_whose_tiles_lie_behind_its_end_is_refused(made: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    with tifffile.TiffFile(made[0]) as file:
        first = file.pages[0].dataoffsets[0]
        directory = file.pages[0].offset
    if first < directory:
        pytest.skip("this writer puts the directory behind")
    path = tmp_path / "cut.tif"
    path.write_bytes(made[0].read_bytes()[: first + 1000])
    with pytest.raises(ReadError):
        read(path, "um=8")


def test_a_broken_tile_is_named_and_the_handle_is_not_used_again(made: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path = write_slide(tmp_path / "jpeg.tif", made[1], 0.5, compression="jpeg")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, count = page.dataoffsets[4], page.databytecounts[4]
    content[offset : offset + count] = bytes(count)
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(CorruptFile, match="cannot be decoded"):
            read(path, "x=0,y=0,px=500x300,um=0.5")
        assert read(path, "x=0,y=0,px=64,um=0.5").voxels.shape == (3, 1, 64, 64), "the other tiles go on"


def test_without_openslide_the_error_says_how_to_install_it(
    made: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "openslide":
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert sniff(made[0]) == "slide"
    with pytest.raises(ReadError, match=r"pip install 'medrail\[slides\]'"):
        read(made[0], "um=8")


# What is a slide ----------------------------------------------------------------------------------------------------


def _tiff(path: Path, *arrays: np.ndarray, **options: Any) -> Path:
    with tifffile.TiffWriter(path) as file:
        for array in arrays:
            file.write(array, photometric="rgb", metadata=None, **options)
    return path


def test_ordinary_tiffs_stay_pictures(tmp_path: Path) -> None:
    rgb = noise(200, 300)
    for path in (_tiff(tmp_path / "strips.tif", rgb), _tiff(tmp_path / "tiles.tif", rgb, tile=(64, 64))):
        assert sniff(path) == "tiff"
        assert not is_slide(path)
        assert np.array_equal(pixels(path, ""), rgb)


def test_a_stack_of_tiled_pictures_is_no_slide(tmp_path: Path) -> None:
    path = _tiff(tmp_path / "stack.tif", noise(200, 300), noise(200, 300, 1), tile=(64, 64))
    assert sniff(path) == "tiff"
    with pytest.raises(UnsupportedFormat, match="2 pictures of one size"):
        read(path, "um=8,scan=0.5")


def test_a_single_tiled_page_can_be_read_by_place(tmp_path: Path) -> None:
    rgb = noise(200, 300)
    path = _tiff(tmp_path / "tiles.tif", rgb, tile=(64, 64))
    assert np.array_equal(pixels(path, "x=10,y=20,px=32,um=0.5,scan=0.5"), rgb[20:52, 10:42])


def test_sixteen_bit_pyramids_are_not_squeezed_to_eight(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    with tifffile.TiffWriter(path) as file:
        for factor in (1, 2):
            values = np.full((256 // factor, 256 // factor), 3000, np.uint16)
            file.write(values, tile=(64, 64), metadata=None, subfiletype=int(factor > 1))
    assert sniff(path) == "tiff"


def test_a_mirax_slide_is_all_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("Slidedat.ini", "Data0000.dat", "Index.dat"):
        (tmp_path / "a" / name).write_bytes(b"x")
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff\xe0" + bytes(200))
    assert sniff(tmp_path / "a.mrxs") == "slide"
    assert [path.name for path in files_of(tmp_path / "a.mrxs")] == [
        "a.mrxs",
        "Data0000.dat",
        "Index.dat",
        "Slidedat.ini",
    ]
    with pytest.raises(ReadError):
        read(tmp_path / "a.mrxs", "um=8")


# Handles ------------------------------------------------------------------------------------------------------------


def test_no_more_than_a_few_slides_stay_open(tmp_path: Path) -> None:
    for number in range(12):
        path = write_slide(tmp_path / f"{number}.tif", noise(130, 130, number), 0.5)
        read(path, "um=2")
    assert len(slide_module._open) <= slide_module._OPEN_SLIDES


def test_a_slide_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", np.full((200, 200, 3), 50, np.uint8))
    assert pixels(path, "um=2").max() == 50
    write_slide(path, np.full((200, 260, 3), 90, np.uint8))
    assert pixels(path, "um=2").max() == 90


def test_threads_share_a_slide(made: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", made[1], 0.5)
    barrier = threading.Barrier(4)

    def tile(number: int) -> bool:
        if number < 4:
            barrier.wait()
        x, y = 13 * number % 400, 7 * number % 200
        return np.array_equal(pixels(path, f"x={x},y={y},px=64,um=0.5"), made[1][y : y + 64, x : x + 64])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(tile, range(80)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_opens_its_own(made: tuple[Path, np.ndarray]) -> None:
    read(made[0], "um=2")
    child = os.fork()
    if child == 0:
        os._exit(0 if not slide_module._open and read(made[0], "um=2").voxels.size else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# The real one -------------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_a_real_slide_is_what_openslide_gives(shared_data: Path) -> None:
    path = shared_data / "slides" / "cmu_small_region.svs"
    facts = slide_facts(path)
    assert (facts.width, facts.height, facts.vendor, facts.objective) == (2220, 2967, "aperio", "20")
    assert facts.um_per_px == pytest.approx((0.499, 0.499))
    with openslide.OpenSlide(path) as slide:
        whole = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    assert np.array_equal(pixels(path, "x=700,y=900,px=256,um=0.499"), whole[900:1156, 700:956])
    half = pixels(path, "x=700,y=900,px=128,um=0.998").astype(float)
    assert np.abs(half - whole[900:1156, 700:956].reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))).max() <= 0.51
    assert np.array_equal(pixels(path, ""), whole)
