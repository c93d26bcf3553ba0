"""SUV: the factor by hand, laws, and a named reason wherever the header does not allow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrail.read import read, series_in
from medrail.read.dicom.header import header_of
from medrail.read.dicom.values import activity_of, activity_of_series, needs_private

HALF_LIFE_S = 6586.2  # fluorine-18


def suv_factor(dataset):
    """As one file says it: the factor, or None and the reason."""
    activity = activity_of(dataset)
    return (activity.factor, "") if activity.unit == "SUV" else (None, activity.reason)


def pet(**elements):
    """70 kg, 350 MBq injected an hour before the scan."""
    dataset = pydicom.Dataset()
    dataset.Units, dataset.DecayCorrection, dataset.CorrectedImage = "BQML", "START", ["DECY", "ATTN", "DECAY", "SCAT"]
    dataset.PatientWeight = 70
    dataset.SeriesDate = dataset.AcquisitionDate = "20200102"
    dataset.SeriesTime, dataset.AcquisitionTime = "110000.5", "110512"
    isotope = pydicom.Dataset()
    isotope.RadionuclideHalfLife, isotope.RadionuclideTotalDose = HALF_LIFE_S, 3.5e8
    isotope.RadiopharmaceuticalStartTime = "100000.500000"
    dataset.RadiopharmaceuticalInformationSequence = [isotope]
    for keyword, value in elements.items():
        place = isotope if keyword.startswith("Radio") else dataset
        if value is None:
            delattr(place, keyword)
        else:
            setattr(place, keyword, value)
    return dataset


EXPECTED = 70_000 / (3.5e8 * 2 ** (-3600 / HALF_LIFE_S))


def test_by_hand():
    assert suv_factor(pet()) == (pytest.approx(EXPECTED, rel=1e-12), "")
    assert activity_of(pet()).unit == "SUV"
    assert suv_factor(pet(DecayCorrection="ADMIN"))[0] == pytest.approx(70_000 / 3.5e8)
    assert activity_of(pet(Units="GML")).factor == 1
    assert activity_of(pet(Units="GML", SUVType="BW")).unit == "SUV"


@given(kg=st.floats(0.02, 300), dose=st.floats(1e5, 1e10), share=st.floats(0.1, 10), elapsed=st.integers(0, 3600 * 5))
def test_linear_in_weight_inverse_in_dose_and_decaying(kg, dose, share, elapsed):
    start = 16 * 3600 - elapsed
    time = f"{start // 3600:02d}{start // 60 % 60:02d}{start % 60:02d}"
    common = {"SeriesTime": "160000", "AcquisitionTime": "160000", "RadiopharmaceuticalStartTime": "160000"}
    base = suv_factor(pet(PatientWeight=kg, RadionuclideTotalDose=dose, **common))
    common["RadiopharmaceuticalStartTime"] = time
    other = suv_factor(pet(PatientWeight=kg * share, RadionuclideTotalDose=dose * share, **common))
    if dose * share < 1e4 or kg * share > 500:
        assert other[0] is None
    else:
        assert other[0] == pytest.approx(base[0] * 2 ** (elapsed / HALF_LIFE_S), rel=1e-6)


@pytest.mark.parametrize(
    "elements",
    [
        # the date of the injection is told or follows from midnight
        {"RadiopharmaceuticalStartDateTime": "20200102100000.5"},
        {"RadiopharmaceuticalStartDateTime": "20200102100000.500000+0100", "TimezoneOffsetFromUTC": "+0100"},
        # one instant, written in another zone than the header's
        {"RadiopharmaceuticalStartDateTime": "20200102010000.5-0800", "TimezoneOffsetFromUTC": "+0100"},
        {"RadiopharmaceuticalStartDateTime": "20200102143000.5+0530", "TimezoneOffsetFromUTC": "+0100"},
        {
            "RadiopharmaceuticalStartDateTime": "20200101221500.5-1100",
            "TimezoneOffsetFromUTC": "+0100",
            "SeriesTime": "111500.5",
            "AcquisitionTime": "111500.5",
            "RadiopharmaceuticalStartTime": "101500.5",
        },
        {"TimezoneOffsetFromUTC": "-0330"},
        {"TimezoneOffsetFromUTC": "+0100", "DecayCorrectionDateTime": "20200102050000.5-0500", "SeriesTime": "120000"},
        {"SeriesTime": "001500.5", "AcquisitionTime": "001800", "RadiopharmaceuticalStartTime": "231500.5"},
        {"DecayCorrectionDateTime": "20200102110000.5", "SeriesTime": "120000"},
    ],
)
def test_times_are_read_in_every_form(elements):
    assert suv_factor(pet(**elements))[0] == pytest.approx(EXPECTED, rel=1e-9)


@pytest.mark.parametrize(
    ("elements", "unit", "reason"),
    [
        ({"PatientWeight": None}, "Bq/ml", "PatientWeight"),
        ({"PatientWeight": 0}, "Bq/ml", "PatientWeight"),
        ({"PatientWeight": 70_000}, "Bq/ml", "kg"),
        ({"RadionuclideTotalDose": None}, "Bq/ml", "RadionuclideTotalDose"),
        ({"RadionuclideTotalDose": 350}, "Bq/ml", "not in Bq"),
        ({"RadionuclideHalfLife": None}, "Bq/ml", "RadionuclideHalfLife"),
        ({"RadiopharmaceuticalStartTime": None}, "Bq/ml", "time of injection is missing"),
        (
            {"RadiopharmaceuticalStartDateTime": "20200102120000", "RadiopharmaceuticalStartTime": None},
            "Bq/ml",
            "does not fit",
        ),
        ({"RadiopharmaceuticalStartDateTime": "20190102100000.5"}, "Bq/ml", "does not fit"),
        # a day early: 13 half-lives
        ({"RadiopharmaceuticalStartDateTime": "20200101100000.5"}, "Bq/ml", "does not fit"),
        ({"RadiopharmaceuticalStartDateTime": "20200102093000.5"}, "Bq/ml", "contradict"),
        ({"RadiopharmaceuticalStartDateTime": "20200102100000.5+0100"}, "Bq/ml", "only some"),
        ({"DecayCorrectionDateTime": "20200102110000.5+0100"}, "Bq/ml", "only some"),
        ({"TimezoneOffsetFromUTC": "local"}, "Bq/ml", "offset from UTC cannot be read"),
        ({"TimezoneOffsetFromUTC": "+2500"}, "Bq/ml", "offset from UTC cannot be read"),
        # zirconium-89, of which a day is no part: which day was it?
        ({"RadionuclideHalfLife": 282_276}, "Bq/ml", "day of injection"),
        ({"SeriesTime": "120000"}, "Bq/ml", "later than its acquisition"),
        ({"SeriesTime": None}, "Bq/ml", "is missing"),
        ({"CorrectedImage": ["DECY"]}, "Bq/ml", "ATTN"),
        ({"DecayCorrection": "NONE"}, "Bq/ml", "START"),
        ({"Units": "CNTS"}, "arbitrary", "counts"),
        ({"Units": "PROPCPS"}, "arbitrary", "BQML"),
        ({"Units": None}, "arbitrary", "BQML"),
        ({"Units": "GML", "SUVType": "LBM"}, "arbitrary", "body weight"),
    ],
)
def test_what_lacks_is_named(elements, unit, reason):
    found = activity_of(pet(**elements))
    assert (found.unit, found.factor) == (unit, 1)
    assert reason in found.reason
    assert suv_factor(pet(**elements)) == (None, found.reason)


def test_philips_counts_have_their_own_factors():
    dataset = pet(Units="CNTS")
    assert needs_private(dataset)
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x09, "DS", "1.5")
    assert suv_factor(dataset)[0] == pytest.approx(1.5 * EXPECTED)
    del dataset.PatientWeight
    assert (activity_of(dataset).unit, activity_of(dataset).factor) == ("Bq/ml", 1.5)
    block.add_new(0x00, "DS", "0.00025")
    assert suv_factor(dataset) == (0.00025, "")


def test_a_series_made_later_has_the_scanners_own_time():
    dataset = pet(SeriesTime="180000")
    block = dataset.private_block(0x0009, "GEMS_PETD_01", create=True)
    block.add_new(0x0D, "DT", "20200102110000.5")
    assert suv_factor(dataset)[0] == pytest.approx(EXPECTED, rel=1e-9)


def test_reasons_hold_no_value_of_the_header():
    for keyword in ("PatientWeight", "SeriesTime", "RadionuclideTotalDose"):
        dataset = pet(**{keyword: None})
        assert not any(character.isdigit() for character in activity_of(dataset).reason)


def test_a_tracer_that_lives_for_days_may_have_been_injected_days_ago():
    days = {"RadionuclideHalfLife": 282_276, "RadiopharmaceuticalStartDateTime": "20191230100000.5"}
    expected = 70_000 / (3.5e8 * 2 ** (-(3 * 86_400 + 3600) / 282_276))
    assert suv_factor(pet(**days))[0] == pytest.approx(expected, rel=1e-9)


@given(shifts=st.lists(st.integers(-3600, 7200), min_size=1, max_size=6))
def test_a_series_has_one_meaning_that_of_its_earliest_acquisition(shifts):
    def at(seconds):
        clock = 11 * 3600 + seconds
        return activity_of(pet(AcquisitionTime=f"{clock // 3600:02d}{clock // 60 % 60:02d}{clock % 60:02d}"))

    files = [at(shift) for shift in shifts]
    one = activity_of_series(files)
    # the series is of 11:00:00.5; whole seconds may be what a scanner has cut
    assert one.unit == ("SUV" if min(shifts) >= 0 else "Bq/ml")
    assert one == activity_of_series(files[::-1]) == activity_of_series([one])
    if one.unit == "SUV":
        assert one.factor == pytest.approx(EXPECTED, rel=1e-9)
    else:
        assert (one.factor, "later than its acquisition" in one.reason) == (1, True)


@pytest.mark.parametrize(
    "other",
    [{"PatientWeight": 71}, {"RadionuclideTotalDose": 3e8}, {"RadiopharmaceuticalStartTime": "100100.5"},
     {"SeriesTime": "105900"}, {"AcquisitionTime": None}, {"CorrectedImage": ["DECAY"]},
     {"TimezoneOffsetFromUTC": "+0100"}],
)  # fmt: skip
def test_files_that_contradict_each_other_have_no_suv(other):
    for files in ([pet(), pet(**other)], [pet(**other), pet(), pet()]):
        one = activity_of_series([activity_of(file) for file in files])
        assert (one.unit, one.factor, one.declared) == ("Bq/ml", 1, "BQML")
        assert one.reason
    assert activity_of_series([activity_of(pet(Units="GML")), activity_of(pet(Units="GML"))]).unit == "SUV"
    assert activity_of_series([activity_of(pet(Units="GML")), activity_of(pet(Units="GML", SUVType="LBM"))]).factor == 1


def test_a_series_made_later_asks_for_private_elements():
    assert needs_private(pet(SeriesTime="180000"))
    assert not needs_private(pet())


def test_broken_elements_are_reasons():
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    for keyword in ("Units", "SeriesDate", "AcquisitionTime", "TimezoneOffsetFromUTC", "PatientWeight"):
        dataset = pet()
        tag = Tag(keyword)
        dataset[tag] = RawDataElement(tag, "FD", 3, b"abc", 0, False, True)
        assert activity_of(dataset).unit != "SUV" or keyword == "TimezoneOffsetFromUTC"
        assert isinstance(needs_private(dataset), bool)


@pytest.fixture
def bed_slices(slices):
    """Five slices of PET, of two beds."""
    for index, dataset in enumerate(slices):
        dataset.Modality, dataset.SOPClassUID = "PT", pydicom.uid.PositronEmissionTomographyImageStorage
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.RescaleIntercept = 0
        dataset.update(pet(AcquisitionTime="105900" if index < 2 else "110500"))
    return slices


@pytest.mark.parametrize(("series", "unit"), [("105900.5", "SUV"), ("110000.5", "Bq/ml"), ("105800", "SUV")])
def test_a_series_is_not_torn_by_what_its_beds_say(bed_slices, save_slices, series, unit):
    for dataset in bed_slices:
        dataset.SeriesTime = series
    folder = save_slices(bed_slices)
    (found,) = series_in(folder)
    assert (found.unit, found.verdict, found.shape) == (unit, "ok", (1, 5, 7, 11))
    whole = read(folder)
    alone = np.concatenate([read(path).voxels for path in sorted(folder.iterdir())[-3:]])
    assert whole.unit == unit
    assert alone.max() > 0


def test_counts_and_activities_never_share_an_image(bed_slices, save_slices):
    """Both are SUV, but by other factors."""
    for dataset in bed_slices[1::2]:
        dataset.Units = "GML"
    for dataset in bed_slices:
        dataset.SeriesTime = "105900"
    found = series_in(save_slices(bed_slices))
    assert len(found) > 1 or found[0].verdict == "refused"


@pytest.mark.parametrize("what", ["colour", "localiser"])
def test_only_slices_of_ct_are_in_hounsfield_units(slices, what):
    dataset = slices[0]
    if what == "colour":
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    else:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    assert not header_of(dataset, Path("a.dcm")).hounsfield
    assert header_of(slices[1], Path("a.dcm")).hounsfield
