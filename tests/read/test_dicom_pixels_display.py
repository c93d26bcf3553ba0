"""Pictures as they are meant to be seen: padding, tables, windows, MONOCHROME1; quantities as they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from medrail.errors import CorruptFile
from medrail.read.dicom.display import is_windowed
from medrail.read.dicom.header import header_of
from medrail.types import ReadOptions
from read.pictures import decoded, picture

APPLY = ReadOptions(voi_lut="apply")


def radiograph(values, *, bits=12, **elements):
    return picture(np.asarray(values)[None], ExplicitVRLittleEndian, modality="DX", bits=bits, **elements)


def table(first, entries, bits=16, vr="OW", order="<"):
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65_536, first, bits])
    data = np.asarray(entries)
    item.add_new("LUTData", vr, data.astype(f"{order}u2").tobytes() if vr == "OW" else data.tolist())
    return item


RAMP = np.arange(0, 4096, 39, dtype=np.uint16)[:105].reshape(7, 15)


@pytest.mark.parametrize("modality", ["DX", "CT"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("padding", [0, 39, 4056])
def test_padding_is_black_in_pictures_and_kept_in_quantities(modality, photometric, padding):
    dataset = radiograph(RAMP, PixelPaddingValue=padding, PhotometricInterpretation=photometric)
    dataset.Modality = modality
    found = decoded(dataset)[0, 0]
    if modality == "CT":
        np.testing.assert_array_equal(found, RAMP)
    else:
        expected = np.where(padding == RAMP, 0, 4095 - RAMP if photometric == "MONOCHROME1" else RAMP)
        np.testing.assert_array_equal(found, expected)


def test_padding_has_a_range_and_the_pixels_sign():
    values = np.arange(-20, 22, dtype=np.int16).reshape(6, 7)
    dataset = radiograph(values, bits=16)
    dataset.add_new("PixelPaddingValue", "US", 65_536 - 15)  # the bits of -15
    dataset.add_new("PixelPaddingRangeLimit", "SS", -20)
    np.testing.assert_array_equal(decoded(dataset)[0, 0], np.maximum(values, -14))


@pytest.mark.parametrize(
    ("vr", "order", "syntax"),
    [("OW", "<", ExplicitVRLittleEndian), ("US", "<", ExplicitVRLittleEndian), ("OW", ">", ExplicitVRBigEndian)],
)
def test_a_modality_table_with_a_negative_first_value(vr, order, syntax):
    values = np.arange(-30, 33, dtype=np.int16).reshape(7, 9)
    dataset = radiograph(values, bits=16)
    entries = (np.arange(40) * 7 + 3).astype(np.uint16)
    dataset.ModalityLUTSequence = [table(65_536 - 20, entries, vr=vr, order=order)]
    if syntax == ExplicitVRBigEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = values.astype(">i2").tobytes()
    np.testing.assert_array_equal(decoded(dataset)[0, 0], entries[np.clip(values + 20, 0, 39)])


def test_a_modality_table_is_pydicoms_and_broken_ones_are_refused():
    dataset = radiograph(RAMP)
    dataset.ModalityLUTSequence = [table(100, np.arange(3000) * 3, bits=16)]
    dataset.ModalityLUTSequence[0].ModalityLUTType = "US"
    np.testing.assert_array_equal(decoded(dataset)[0, 0], apply_modality_lut(RAMP, dataset))
    for descriptor in ([3001, 0, 16], [10, 0], [10, 0, 40]):
        dataset.ModalityLUTSequence[0].add_new("LUTDescriptor", "US", descriptor)
        with pytest.raises(CorruptFile, match="lookup table"):
            decoded(dataset)


@pytest.mark.parametrize("function", ["", "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -300)])
@pytest.mark.parametrize("window", [(2000, 1500), (100, 1), (2000.5, 20.25)])
@pytest.mark.filterwarnings("ignore:overflow")  # pydicom's own, in its sigmoid
def test_windows_are_those_of_pydicom(function, slope, intercept, window):
    dataset = radiograph(RAMP, WindowCenter=window[0], WindowWidth=window[1])
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    if function:
        dataset.VOILUTFunction = function
    found = decoded(dataset, APPLY)[0, 0]
    expected = apply_windowing(RAMP * float(slope) + intercept, dataset)
    low, high = expected_range(slope, intercept)
    np.testing.assert_allclose(found / 4095, (expected - low) / (high - low), atol=2 / 4095)
    assert found.dtype == np.uint16
    assert is_windowed(dataset, header_of(dataset, Path("a")), APPLY)
    np.testing.assert_array_equal(decoded(dataset)[0, 0], RAMP)  # not asked for


def expected_range(slope, intercept):
    """pydicom's output spans the rescaled range of the stored bits."""
    return intercept, 4095 * slope + intercept


def test_a_table_goes_before_a_window_and_before_monochrome1():
    dataset = radiograph(RAMP, WindowCenter=5, WindowWidth=5)
    entries = (np.arange(4096)[::-1] // 16).astype(np.uint16)
    dataset.VOILUTSequence = [table(0, entries, bits=8)]
    found = decoded(dataset, APPLY)[0, 0]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, entries[RAMP])
    dataset.PhotometricInterpretation, dataset.PixelPaddingValue = "MONOCHROME1", 0
    np.testing.assert_array_equal(decoded(dataset, APPLY)[0, 0], np.where(RAMP == 0, 0, 255 - entries[RAMP]))


def test_windows_are_never_for_quantities_and_absent_ones_change_nothing():
    dataset = radiograph(RAMP)
    np.testing.assert_array_equal(decoded(dataset, APPLY)[0, 0], RAMP)
    dataset.WindowCenter, dataset.WindowWidth = 100, 50
    for modality in ("CT", "MR", "PT", "NM"):
        dataset.Modality = modality
        np.testing.assert_array_equal(decoded(dataset, APPLY)[0, 0], RAMP)
    dataset.Modality, dataset.WindowWidth = "DX", 0
    with pytest.raises(CorruptFile, match="no width"):
        decoded(dataset, APPLY)
    dataset.WindowWidth, dataset.VOILUTFunction = 10, "CUBIC"
    with pytest.raises(CorruptFile, match="function"):
        decoded(dataset, APPLY)


def test_the_first_of_several_windows_and_a_frames_own():
    dataset = radiograph(RAMP, WindowCenter=[2000, 3], WindowWidth=[1500, 7])
    first = decoded(dataset, APPLY)
    dataset.WindowCenter, dataset.WindowWidth = 1, 1
    group, own = pydicom.Dataset(), pydicom.Dataset()
    own.WindowCenter, own.WindowWidth = 2000, 1500
    group.FrameVOILUTSequence = [own]
    dataset.SharedFunctionalGroupsSequence = [group]
    np.testing.assert_array_equal(decoded(dataset, APPLY), first)


@pytest.mark.parametrize("modality", ["DX", "CT"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE", ""])
def test_the_presentation_shape_turns_a_picture_once(modality, photometric, shape):
    dataset = radiograph(RAMP, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    dataset.Modality = modality
    turned = modality == "DX" and (photometric == "MONOCHROME1" or shape == "INVERSE")
    np.testing.assert_array_equal(decoded(dataset)[0, 0], 4095 - RAMP if turned else RAMP)
