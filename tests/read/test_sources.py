"""Each slice of an image knows the stored frame that it was read from: its pixels are that frame's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from pydicom.data import get_testdata_file

from dicom_objects import enhanced
from faults import good_series, voxels_of, write_files
from faults.series import copied
from medrail.errors import GeometryError, ReadError
from medrail.read import is_dicom, read, series_in, sources_of
from medrail.types import ReadOptions


def stored(folder: Path) -> dict[str, np.ndarray]:
    """Hounsfield units of each file by its SOP Instance UID."""
    found = {}
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        found[dataset.SOPInstanceUID] = voxels_of([dataset])[0]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_every_slice_is_the_frame_it_names(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder = write_files(good_series(rng), tmp_path / "series", rng)
    image, sources = read(folder), sources_of(folder)
    assert sources is not None
    assert sources.geometry.is_close(image.geometry)
    assert len(sources.frames) == image.grid[0] == len(sources.datasets)
    planes = stored(folder)
    for d, (number, frame) in enumerate(sources.frames):
        dataset = sources.datasets[number]
        assert frame == 0
        assert "PixelData" not in dataset
        np.testing.assert_array_equal(image.voxels[0, d], planes[dataset.SOPInstanceUID])
        lps = np.diag([-1, -1, 1, 1]) @ image.geometry.affine_ras_mm @ [d, 0, 0, 1]
        np.testing.assert_allclose(lps[:3], dataset.ImagePositionPatient, atol=0.02)


def test_of_copies_one_is_named_and_of_several_series_the_one_that_is_meant(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    one, other = good_series(rng), good_series(rng)
    copy = copied(one[2:3])
    copy[0].SOPInstanceUID = copy[0].file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    folder = write_files([*one, *copy], tmp_path / "both" / "one", rng).parent
    write_files(other, folder / "other", rng)
    options = ReadOptions(on_defect="accept")
    planes = stored(folder)
    with pytest.raises(ReadError):
        sources_of(folder, options=options)
    for series in series_in(folder, options):
        image, sources = read(folder, series.item, options), sources_of(folder, series.item, options)
        assert len(sources.frames) == image.grid[0]
        for d, (number, _) in enumerate(sources.frames):
            np.testing.assert_array_equal(image.voxels[0, d], planes[sources.datasets[number].SOPInstanceUID])


def test_slices_that_were_resampled_have_no_source(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    slices = good_series(rng)
    del slices[3]
    folder = write_files(slices, tmp_path / "series", rng)
    with pytest.raises(GeometryError, match="missing"):
        sources_of(folder)
    with pytest.raises(GeometryError, match="were resampled when they were read"):
        sources_of(folder, options=ReadOptions(on_defect="resample"))
    accepted = sources_of(folder, options=ReadOptions(on_defect="accept"))
    assert len(accepted.frames) == len(slices)


@pytest.mark.parametrize("stacks", [1, 2])
def test_frames_of_one_file_are_named_by_their_number(tmp_path: Path, stacks: int) -> None:
    rng = np.random.default_rng(7)
    slices = good_series(rng)
    order = rng.permutation(len(slices)).tolist()
    multi = enhanced(slices, order, stacks)
    multi.save_as(tmp_path / "multi.dcm", enforce_file_format=True)
    frames = voxels_of(slices)[order * stacks]
    seen = []
    for series in series_in(tmp_path):
        item = series.item if stacks > 1 else ""
        image, sources = read(tmp_path / "multi.dcm", item), sources_of(tmp_path / "multi.dcm", item)
        assert len(sources.datasets) == 1
        for d, (_, frame) in enumerate(sources.frames):
            np.testing.assert_array_equal(image.voxels[0, d], frames[frame])
            seen.append(frame)
    assert sorted(seen) == list(range(len(frames)))


def test_a_zip_is_a_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    folder = write_files(good_series(rng), tmp_path / "series", rng)
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    packed, plain = sources_of(tmp_path / "packed.zip"), sources_of(folder)
    uids = [[one.datasets[number].SOPInstanceUID for number, _ in one.frames] for one in (packed, plain)]
    assert uids[0] == uids[1]


def test_what_is_no_dicom_has_none(tmp_path: Path) -> None:
    Picture.new("L", (8, 8)).save(tmp_path / "a.png")
    shutil.make_archive(str(tmp_path.parent / "pictures"), "zip", tmp_path)
    for path in (tmp_path / "a.png", tmp_path, tmp_path.parent / "pictures.zip"):
        assert not is_dicom(path)
        assert sources_of(path) is None
    assert sources_of(tmp_path, "a.png") is None
    assert is_dicom(Path(get_testdata_file("CT_small.dcm")))
