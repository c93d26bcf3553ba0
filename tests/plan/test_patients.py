"""Patients told from file names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrail.plan.patients import KNOWN, propose


def test_person_numbers_group_the_files_of_a_person() -> None:
    names = [f"train/SICK/person{n}_virus_{k}.jpeg" for n, k in [(1, 7), (1, 8), (2, 9), (10, 3)]]
    names += [f"train/WELL/NORMAL2-IM-{n:04d}-000{k}.jpeg" for n, k in [(5, 1), (5, 2), (6, 1)]]
    found = propose(names)
    assert found is not None
    assert found.certain
    assert found.groups == 5
    assert found.matched == 7
    assert found.patient(names[0]) == found.patient(names[1]) == "person1"
    assert found.patient(names[3]) == "person10"
    assert found.patient(names[4]) == found.patient(names[5]) == "IM-0005"
    assert "IM-0005: NORMAL2-IM-0005-0001.jpeg, NORMAL2-IM-0005-0002.jpeg" in found.describe()


@pytest.mark.parametrize(
    ("first", "second", "patient"),
    [
        ("TCGA-02-0001-01.png", "TCGA-02-0001-02.png", "TCGA-02-0001"),
        ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz", "sub-01"),
        ("patient_012_slice3.png", "patient_012_slice4.png", "patient_012"),
        ("slice_3_subject-7.png", "slice_4_subject-7.png", "subject-7"),
        ("case12/a.png", "case12/b.png", "case12"),
        ("LIDC-IDRI-0001-1.png", "LIDC-IDRI-0001-2.png", "LIDC-IDRI-0001"),
    ],
)
def test_names_that_say_patient_are_believed(first: str, second: str, patient: str) -> None:
    other = first.replace("1", "9").replace("7", "9")
    found = propose([first, second, other])
    assert found is not None
    assert (found.patient(first), found.patient(second)) == (patient, patient)
    assert found.patient(other) != patient


def test_a_leading_number_is_taken_when_it_clearly_groups() -> None:
    names = [f"{patient:04d}_{eye}.png" for patient in range(30) for eye in ("left", "right")]
    found = propose(names)
    assert found is not None
    assert not found.certain
    assert (found.groups, found.largest) == (30, 2)
    assert found.patient("0007_left.png") == "0007"


@pytest.mark.parametrize(
    "names",
    [
        [f"{n:03d}.png" for n in range(50)],
        [f"img_{n:03d}.png" for n in range(50)],
        [f"slice_{n}_a.png" for n in range(50)],
        [f"ISIC_{n:07d}.jpg" for n in range(50)],
        [f"scan1_{n}.png" for n in range(50)],
        [f"train-{n:06d}" for n in range(50)],
        ["853a4c67900c.png", "8aa1a883f61f.png", "7773ac91af61.png", "0121d6759c5a.png"],
        [f"patient{n}.png" for n in range(50)],
        [],
    ],
)
def test_names_that_tell_nothing_give_no_pattern(names: list[str]) -> None:
    assert propose(names) is None


@given(st.lists(st.text(alphabet="abIM01_-./ pP", min_size=1, max_size=20), max_size=40, unique=True))
def test_a_proposal_is_a_pattern_with_one_group_that_fits_what_it_says(names: list[str]) -> None:
    found = propose(names)
    if found is None:
        return
    pattern = re.compile(found.pattern)
    assert pattern.groups == 1
    fitting = [match for name in names if (match := pattern.search(name))]
    assert len(fitting) == found.matched
    assert len({match.group(1) for match in fitting}) == found.groups
    assert all(match.group(1) for match in fitting)
    assert found.groups < found.matched <= found.total == len(names)


@pytest.mark.parametrize("body", KNOWN.values())
def test_known_bodies_have_no_groups_of_their_own(body: str) -> None:
    assert re.compile(body).groups == 0


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(1, 30)), min_size=3, max_size=30, unique=True)
)
def test_a_proposal_never_divides_a_patient(files: list[tuple[int, int, int]]) -> None:
    """However the patient is spelt, and whatever else in the name counts examinations or cases."""
    spelt = ("patient{}", "Patient_{}", "patient-{:03d}", "patient {}")
    names = {
        f"case{picture}/{spelt[way].format(patient)}/IM-{picture:04d}-{way}.png": patient
        for patient, way, picture in files
    }
    found = propose(list(names))
    if found is None:
        return
    groups: dict[int, set[str]] = {}
    for name, patient in names.items():
        groups.setdefault(patient, set()).add(found.patient(name))
    assert all(len(group) == 1 for group in groups.values()), found.pattern


def test_cases_of_a_patient_are_not_taken_for_patients() -> None:
    names = [f"case{exam}/patient7_{exam}.png" for exam in range(3)] + [
        f"case{exam}/patient8.png" for exam in range(3, 9)
    ]
    found = propose(names)
    assert found is not None
    assert found.groups == 2
    assert {found.patient(name) for name in names} == {"patient7", "patient8"}


def test_one_patient_spelt_in_two_ways_is_one() -> None:
    names = ["person1_a.png", "Person_01_b.png", "person2_a.png", "person-2_b.png", "person3_a.png"]
    found = propose(names)
    assert found is not None
    assert [found.patient(name) for name in names] == ["1", "1", "2", "2", "3"]
    leading = [f"{'pP'[n % 2]}{n // 2:0{1 + n % 2}d}_{n}.png" for n in range(40)]
    found = propose(leading)
    assert found is not None
    assert found.groups == 20
    assert found.patient("p7_1.png") == found.patient("P07_2.png") == "7"


def test_a_proposal_is_described_with_counts_and_examples() -> None:
    found = propose([f"person{n}_{k}.png" for n in range(5) for k in range(3)] + ["odd.png"])
    assert found is not None
    assert found.describe() == (
        "file names group 15 of 16 files into 5 patients (person0: person0_0.png, person0_1.png and 1 more; "
        "person1: person1_0.png, person1_1.png and 1 more; person2: person2_0.png, person2_1.png and 1 more); "
        "1 other file counts as a patient by itself"
    )
