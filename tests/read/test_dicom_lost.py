"""A file that cannot be read spoils the series that may have lost a slice with it, and no other."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import generate_uid

from faults import good_series, voxels_of, write_files
from faults.series import copied
from medrail.errors import MedrailError
from medrail.read import read, series_in
from medrail.read.dicom.cache import HeaderCache
from medrail.read.dicom.series import refused_in


def two_series(folder, count=2):
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        slices = good_series(rng)
        write_files(slices, folder, rng, ending=f".{number}")
        found.append(slices)
    return found


def broken_copy(dataset, path):
    """A slice whose header contradicts itself, its series still told."""
    (one,) = copied([dataset])
    one.SOPInstanceUID, one.ImageOrientationPatient = generate_uid(), [1, 0, 0, 1, 0, 0]
    one.save_as(path, enforce_file_format=True)
    return path


def verdicts(folder, cache=None):
    return {one.shape[1]: one.verdict for one in series_in(folder, cache=cache)}


def test_a_broken_slice_spoils_its_own_series_wherever_it_lies(tmp_path):
    folder = tmp_path / "a"
    first, second = two_series(folder)
    assert len(first) != len(second)
    (tmp_path / "a" / "b").mkdir()
    path = broken_copy(first[0], folder / "b" / "broken.dcm")
    for _ in range(2):
        with HeaderCache(tmp_path / "headers.db") as cache:
            assert verdicts(folder, cache) == {len(first): "refused", len(second): "ok"}
    assert [file.path for file in refused_in(folder)] == [path]
    (item,) = (one.item for one in series_in(folder) if one.verdict == "ok")
    np.testing.assert_array_equal(read(folder, item).voxels[0], voxels_of(second))


def test_a_broken_file_of_another_series_spoils_nothing(tmp_path):
    folder = tmp_path / "a"
    (first,) = two_series(folder, 1)
    (stranger,) = copied(first[:1])
    stranger.SeriesInstanceUID = generate_uid()
    broken_copy(stranger, folder / "broken.dcm")
    assert verdicts(folder) == {len(first): "ok"}
    np.testing.assert_array_equal(read(folder).voxels[0], voxels_of(first))
    assert [file.defect.name for file in refused_in(folder)] == ["unreadable_header"]


@pytest.mark.parametrize("content", [b"", bytes(4000), b"lost"])
def test_a_file_that_says_nothing_spoils_the_only_series_beside_it(content, tmp_path):
    alone, both = tmp_path / "alone", tmp_path / "both"
    (first,) = two_series(alone, 1)
    slices = two_series(both)
    for folder in (alone, both):
        (folder / "lost.dcm").write_bytes(content)
    assert verdicts(alone) == {len(first): "refused"}
    assert verdicts(both) == {len(one): "ok" for one in slices}
    assert [file.path.name for file in refused_in(both)] == ["lost.dcm"]


def test_a_slice_cut_off_anywhere_spoils_its_series_and_no_other(tmp_path):
    """Unless so little is left that nobody can know which one it was."""
    folder = tmp_path / "a"
    first, second = two_series(folder)
    path = folder / "cut.dcm"
    first[-1].save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    told = content.index(first[0].SeriesInstanceUID.encode()) + 64
    for end in range(0, len(content), 11):
        path.write_bytes(content[:end])
        found = verdicts(folder)
        assert found[len(second)] == "ok", end
        assert end < told + 30 or set(found.values()) == {"ok", "refused"}, end
    # A UID that is cut in its middle is not that of another series.
    (folder / "rest").mkdir()
    for other in folder.glob("*.1"):
        other.rename(folder / "rest" / other.name)
    for end in range(0, told + 30, 7):
        path.write_bytes(content[:end])
        assert verdicts(folder)[len(first)] == "refused", end


def radiographs(count):
    """Projections without position whose pixel spacing is 0 and 0."""
    found = copied(good_series(np.random.default_rng(0))[:count])
    for dataset in found:
        dataset.Modality, dataset.PixelSpacing = "CR", [0, 0]
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.FrameOfReferenceUID
    return found


def test_a_pixel_spacing_of_zero_is_none_for_pictures(tmp_path):
    pictures = radiographs(3)
    folder = write_files(pictures, tmp_path / "a", np.random.default_rng(0))
    series = series_in(folder)
    assert [(one.verdict, one.spacing_mm, one.shape[1]) for one in series] == [("ok", None, 1)] * 3
    assert all(read(folder, one.item).geometry is None for one in series)


@pytest.mark.parametrize("spacing", [[0, 0.5], [-1, -1]])
def test_a_pixel_spacing_that_is_none_of_both_stays_refused(spacing, tmp_path):
    (picture,) = radiographs(1)
    picture.PixelSpacing = spacing
    with pytest.raises(MedrailError, match="PixelSpacing"):
        read(write_files([picture], tmp_path / "a", np.random.default_rng(0)))


def test_slices_without_pixel_spacing_stay_refused(tmp_path):
    """Also where the file before has neither spacing nor position."""
    slices = copied(good_series(np.random.default_rng(0)))
    for dataset in slices:
        dataset.PixelSpacing = [0, 0]
    slices[0].ImagePositionPatient = None
    for number, dataset in enumerate(slices):
        dataset.save_as(tmp_path / f"{number:02d}.dcm", enforce_file_format=True)
    assert [file.path.name for file in refused_in(tmp_path)] == [
        f"{number:02d}.dcm" for number in range(1, len(slices))
    ]


def test_a_broken_file_does_not_spoil_pictures(tmp_path):
    folder = write_files(radiographs(2), tmp_path / "a", np.random.default_rng(0))
    (folder / "lost.dcm").touch()
    broken_copy(radiographs(1)[0], folder / "broken.dcm")
    assert [one.verdict for one in series_in(folder)] == ["ok", "ok"]
    assert {file.path.name for file in refused_in(folder)} >= {"lost.dcm"}


@pytest.mark.parametrize("bits", [8, 16])
def test_the_unit_of_a_palette_is_that_of_its_colours(bits, tmp_path):
    (picture,) = radiographs(1)
    picture.Modality, picture.PhotometricInterpretation = "OT", "PALETTE COLOR"
    picture.BitsAllocated, picture.BitsStored, picture.HighBit, picture.PixelRepresentation = 8, 8, 7, 0
    count = picture.Rows * picture.Columns
    picture.PixelData = bytes(index % 4 for index in range(count + count % 2))
    for colour in ("Red", "Green", "Blue"):
        picture.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [4, 0, bits])
        table = np.arange(1, 5, dtype="<u1" if bits == 8 else "<u2") * (1 if bits == 8 else 5000)
        picture.add_new(f"{colour}PaletteColorLookupTableData", "OW", table.tobytes())
    folder = write_files([picture], tmp_path / "a", np.random.default_rng(0))
    (series,) = series_in(folder)
    assert read(folder).unit == series.unit == f"uint{bits}"
