"""SUV: the factor by hand, laws, and a named reason wherever the header does not allow it."""

from __future__ import annotations

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrail.read.dicom.values import activity_of, needs_private, suv_factor

HALF_LIFE_S = 6586.2  # fluorine-18


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
        {"RadiopharmaceuticalStartDateTime": "20200102100000.500000+0100"},
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
        ({"RadiopharmaceuticalStartDateTime": "20200102120000"}, "Bq/ml", "does not fit"),
        ({"RadiopharmaceuticalStartDateTime": "20190102120000"}, "Bq/ml", "does not fit"),
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
