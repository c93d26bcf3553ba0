"""Who is one patient: the data's word, the pattern, and what DICOM headers share; never an identifier."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from medrail.cases import build_cases, check_data, write_table
from medrail.cases.check.fix import correct
from medrail.cases.index import index_cases, split_cases
from medrail.cases.listing import Entry
from medrail.cases.splits.patients import centres_of, patients_of
from medrail.cases.splits.split import assign_splits
from medrail.config import DataConfig, SplitConfig
from medrail.errors import ConfigError, LeakError
from medrail.plan.patients import propose
from medrail.types import Case

KEY = "5ec7e7"
DATA = DataConfig(kind="class_folders", path=".")


def entry(name: str, patient: str = "", key: str = "", centre: str = "") -> Entry:
    return Entry(Path("/data") / name, name, patient=patient, patient_key=key, centre=centre)


def ids(entries: list[Entry]) -> list[str]:
    return [one.name for one in entries]


ENTRIES = st.lists(
    st.tuples(st.sampled_from(["", "", "A", "B", "C"]), st.sampled_from(["", "", "k1", "k2", "k3"])), max_size=12
).map(lambda rows: [entry(f"{number:02d}.dcm", *row) for number, row in enumerate(rows)])


@given(ENTRIES)
def test_what_shares_a_name_or_a_header_is_one_patient_and_nothing_else(entries: list[Entry]) -> None:
    patients, findings = patients_of(entries, ids(entries), DATA)
    assume("one_patient_in_headers" not in {one.defect for one in findings})
    # Judge: merge groups that touch until nothing changes.
    groups = [
        {one.name} | {f"name {one.patient}" for _ in one.patient} | {f"key {one.patient_key}" for _ in one.patient_key}
        for one in entries
    ]
    merged: list[set[str]] = []
    for group in groups:
        touching = [other for other in merged if other & group]
        merged = [other for other in merged if not other & group] + [group.union(*touching)]
    by_patient = defaultdict(set)
    for one, patient in zip(entries, patients, strict=True):
        by_patient[patient].add(one.name)
    expected = {frozenset(part for part in group if part.endswith(".dcm")) for group in merged}
    assert {frozenset(found) for found in by_patient.values()} == expected


@given(ENTRIES, st.randoms(use_true_random=False))
def test_the_order_of_the_files_does_not_matter(entries: list[Entry], shuffler: random.Random) -> None:
    shuffled = list(entries)
    shuffler.shuffle(shuffled)
    first = dict(zip(ids(entries), patients_of(entries, ids(entries), DATA)[0], strict=True))
    assert dict(zip(ids(shuffled), patients_of(shuffled, ids(shuffled), DATA)[0], strict=True)) == first


@given(ENTRIES)
def test_no_key_is_ever_written(entries: list[Entry]) -> None:
    patients, findings = patients_of(entries, ids(entries), DATA)
    told = " ".join([*patients, *map(str, findings), *map(repr, entries)])
    assert not any(key in told for key in ("k1", "k2", "k3"))
    secret = replace(entry("x"), issuer_key="k1", study_key="k2", series_key="k3", person_key="k4")
    assert not any(f"k{number}" in repr(secret) for number in range(1, 5))


def test_a_patient_that_only_the_header_knows_is_called_after_its_first_case() -> None:
    entries = [entry("b.dcm", key=KEY), entry("a.dcm", key=KEY), entry("c.dcm", key="other")]
    patients, findings = patients_of(entries, ids(entries), DATA)
    assert patients == ["a.dcm", "a.dcm", "c.dcm"]
    assert findings == []


def test_a_folder_with_two_patients_and_a_patient_in_two_folders_are_said() -> None:
    entries = [entry("x/1", "x", KEY), entry("x/2", "x", "other"), entry("y/1", "y", KEY), entry("z/1", "z", "third")]
    patients, findings = patients_of(entries, ids(entries), DATA)
    assert patients == ["x", "x", "x", "z"]
    assert [(one.defect, one.where, one.severity) for one in findings] == [
        ("several_patients", "/data/x/2", "warn"),
        ("patient_joined", "/data/y/1", "warn"),
    ]
    assert "/data/x/1" in findings[0].what
    assert "/data/x/1" in findings[1].what


def test_headers_that_all_name_the_same_are_not_believed_against_three_folders() -> None:
    entries = [entry(f"{name}/{number}", name, KEY) for name in "xyz" for number in range(2)]
    patients, findings = patients_of(entries, ids(entries), DATA)
    assert patients == list("xxyyzz")
    assert [(one.defect, one.severity) for one in findings] == [("one_patient_in_headers", "warn")]
    assert patients_of(entries[:4], ids(entries[:4]), DATA)[0] == list("xxxx"), "of two it may well be true"
    unnamed = [entry("a", key=KEY), entry("b", key=KEY), entry("c", key=KEY)]
    assert patients_of(unnamed, ids(unnamed), DATA)[0] == list("aaa"), "nothing speaks against it"


def test_the_pattern_gives_way_to_the_data_and_joins_with_the_header() -> None:
    data = DATA.model_copy(update={"patient_pattern": r"(p\d+)_"})
    entries = [entry("p1_a"), entry("p1_b", key=KEY), entry("p2_a", key=KEY), entry("p3_a"), entry("odd")]
    patients, findings = patients_of(entries, ids(entries), data)
    assert patients == ["p1", "p1", "p1", "p3", "odd"]
    assert {one.defect for one in findings} == {"patient_unknown", "patient_joined"}


def test_centres_come_from_the_column_or_the_pattern() -> None:
    data = DATA.model_copy(update={"centre_pattern": "^([^/]+)/"})
    entries = [entry("north/1"), entry("south/2", centre="Column"), entry("3")]
    centres, findings = centres_of(entries, data)
    assert centres == ["north", "Column", ""]
    assert [one.defect for one in findings] == ["centre_unknown"]
    assert centres_of(entries[:2], data)[1] == []
    with pytest.raises(ConfigError, match=r"data\.centre_pattern.*no group.*Put the centre in brackets"):
        centres_of(entries, DATA.model_copy(update={"centre_pattern": "north"}))


def test_centres_and_folds_of_a_table_and_of_folders_divide_the_data(tmp_path, picture, configure, workspace):
    rows = ["path,label,patient,Site,fold"]
    for number in range(12):
        folder = ("north", "south")[number % 2]
        picture(tmp_path / folder / f"{number}.png", seed=number)
        rows.append(f"{folder}/{number}.png,{'ab'[number // 6]},p{number},S{number % 3},{number % 4}.0")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    table = {"kind": "csv", "path": str(tmp_path / "t.csv")}

    def cases_of(data, **split):
        config = configure("classification", data, split=split)
        index = index_cases(config, workspace)
        assert [one for one in index.findings if one.severity == "stop"] == []
        return list(split_cases(index.cases, config, workspace))

    out = cases_of(table, by="centre", centre="S1")
    assert all((case.split == "test") == (case.centre == "S1") == (int(case.patient[1:]) % 3 == 1) for case in out)
    out = cases_of(table, by="folds", fold=3)
    assert all((case.split == "test") == (case.fold == 3) == (int(case.patient[1:]) % 4 == 3) for case in out)
    folders = {"kind": "csv", "path": str(tmp_path / "t2.csv"), "centre_pattern": "^(north|south)/"}
    (tmp_path / "t2.csv").write_text("\n".join(row.rsplit(",", 2)[0] for row in rows))
    out = cases_of(folders, by="centre", centre="south")
    assert all((case.split == "test") == ("south/" in case.paths[0]) for case in out)


def test_a_fold_that_is_no_number_stops_only_where_it_is_used(tmp_path, picture, configure, workspace):
    for number in range(6):
        picture(tmp_path / f"{number}.png", seed=number)
    (tmp_path / "t.csv").write_text("path,label,fold\n" + "\n".join(f"{n}.png,a,{'x' if n else 0}" for n in range(6)))
    table = {"kind": "csv", "path": str(tmp_path / "t.csv")}
    assert index_cases(configure("classification", table), workspace).findings == ()
    findings = index_cases(configure("classification", table, split={"by": "folds"}), workspace).findings
    assert [one.defect for one in findings] == ["bad_fold"] * 5


def dicom(path: Path, patient: str, seed: int) -> None:
    """A small secondary capture of a patient, as one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = dcmread(get_testdata_file("CT_small.dcm"))
    dataset.PatientID = patient
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PixelData = np.random.default_rng(seed).integers(0, 2000, (128, 128), dtype=np.int16).tobytes()
    dataset.save_as(path)


def test_one_patient_id_with_and_without_issuer_is_one_patient_and_of_two_issuers_two() -> None:
    one, other = entry("a.dcm", key=KEY), replace(entry("b.dcm", key=KEY), issuer_key="hospital")
    assert patients_of([one, other], ["a", "b"], DATA) == (["a", "a"], [])
    third = replace(entry("c.dcm", key=KEY), issuer_key="clinic")
    patients, findings = patients_of([other, third], ["b", "c"], DATA)
    assert patients == ["b", "c"]
    assert [(found.defect, found.where, found.severity) for found in findings] == [
        ("several_issuers", "/data/c.dcm", "warn")
    ]
    assert "/data/b.dcm" in findings[0].what
    assert "two patients" in findings[0].what
    assert patients_of([other, third, one], list("bca"), DATA)[0] == list("aaa"), "no issuer may be either"


def test_a_name_with_birth_date_joins_unless_patient_ids_contradict() -> None:
    person = [replace(entry(f"{name}.dcm"), person_key="eva") for name in "ab"]
    assert patients_of(person, ["a", "b"], DATA) == (["a", "a"], [])
    two = [replace(person[0], patient_key="1"), replace(person[1], patient_key="2")]
    patients, findings = patients_of(two, ["a", "b"], DATA)
    assert patients == ["a", "b"]
    assert [(found.defect, found.severity) for found in findings] == [("perhaps_one_patient", "warn")]
    assert patients_of([two[0], person[1]], ["a", "b"], DATA) == (["a", "a"], [])


def test_a_study_is_of_one_patient_whatever_its_patient_ids_say() -> None:
    both = [replace(entry(f"{name}.dcm", key=name), study_key="study") for name in "ab"]
    patients, findings = patients_of(both, ["a", "b"], DATA)
    assert patients == ["a", "a"]
    assert [found.defect for found in findings] == ["several_patients"]


LINKED = st.lists(
    st.builds(
        lambda patient, issuer, study, series, person, said, split: replace(
            entry("", said, patient),
            issuer_key=issuer,
            study_key=study,
            series_key=series,
            person_key=person,
            split=split,
        ),
        *(st.sampled_from(["", "", "1", "2", "3"]) for _ in range(6)),
        st.sampled_from(["train", "val", "test"]),
    ),
    max_size=10,
).map(lambda rows: [replace(one, path=Path(f"/d/{n}"), name=f"case-{n}") for n, one in enumerate(rows)])


def linked(a: Entry, b: Entry) -> bool:
    """Whether two entries alone are of one person by the rules."""
    ids = a.patient_key, b.patient_key
    same_id = ids[0] == ids[1] != "" and (a.issuer_key == b.issuer_key or "" in (a.issuer_key, b.issuer_key))
    person = a.person_key == b.person_key != "" and ("" in ids or ids[0] == ids[1])
    of_one = any(getattr(a, key) == getattr(b, key) != "" for key in ("patient", "study_key", "series_key"))
    return same_id or person or of_one


def chains(entries: list[Entry]) -> list[set[str]]:
    """The judge: merge what is linked until nothing changes."""
    groups = [{one.name} for one in entries]
    for a in entries:
        for b in entries:
            if linked(a, b):
                touching = [group for group in groups if {a.name, b.name} & group]
                groups = [group for group in groups if group not in touching] + [set().union(*touching)]
    return groups


@settings(max_examples=300)
@given(LINKED)
def test_what_any_chain_of_equal_keys_links_never_stands_in_two_splits(entries: list[Entry]) -> None:
    names = ids(entries)
    patients, findings = patients_of(entries, names, DATA)
    assume("one_patient_in_headers" not in {one.defect for one in findings})
    cases = [
        Case(one.name, patient, (str(one.path),), "A", one.split)
        for one, patient in zip(entries, patients, strict=True)
    ]
    given_splits = {one.name: one.split for one in entries}
    groups = chains(entries)
    # Whoever may be one of two that are kept apart keeps both together: more is joined than pairs say, never less.
    for group in groups:
        assert len({patient for name, patient in zip(names, patients, strict=True) if name in group}) == 1
    for case in assign_splits(cases, SplitConfig(by="patient", val=0.3, test=0.3)) if cases else ():
        given_splits[case.id] = case.split
    assert all(len({given_splits[name] for name in group}) == 1 for group in groups)
    divided = any(len({one.split for one in entries if one.name in group}) > 1 for group in groups)
    if divided:
        with pytest.raises(LeakError):
            assign_splits(cases, SplitConfig(by="given"))


@pytest.mark.parametrize("flat", [True, False])
def test_patients_of_dicom_headers_stay_together_whatever_the_files_are_called(tmp_path, configure, workspace, flat):
    secret = [f"SECRET{number // 2}" for number in range(16)]
    for number, patient in enumerate(secret):
        name = f"{number}.dcm" if flat else f"exam{number}/slice.dcm"
        dicom(tmp_path / "data" / "ab"[number // 8] / name, patient, number)
    config = configure("classification", {"kind": "class_folders", "path": str(tmp_path / "data")})
    index = index_cases(config, workspace)
    assert index.patients_known
    assert len({case.patient for case in index.cases}) == 8
    assert {case.patient for case in index.cases} <= {case.id for case in index.cases}
    write_table(split_cases(index.cases, config, workspace), workspace.case_table, workspace.root)
    written = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert not any(b"SECRET" in path.read_bytes() for path in written)
    if flat:  # given splits that divide a patient are found without any name that tells it
        for number in range(16):
            folder = tmp_path / "given" / ("train" if number % 2 else "test") / "ab"[number // 8]
            folder.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / "ab"[number // 8] / f"{number}.dcm").rename(folder / f"{number}.dcm")
        given = configure(
            "classification", {"kind": "class_folders", "path": str(tmp_path / "given")}, split={"by": "given"}
        )
        with pytest.raises(LeakError, match="8 patients stand in more than one split") as caught:
            build_cases(given, workspace)
        assert "SECRET" not in str(caught.value)
        assert check_data(given, workspace).verdict == "stop"


def test_one_patient_in_two_folders_of_patients_is_joined_and_said(tmp_path, configure, workspace):
    rows = ["patient,label,site,fold"]
    for number in range(8):
        dicom(tmp_path / "data" / f"p{number}" / "1.dcm", f"SECRET{min(number, 6)}", number)
        rows.append(f"p{number},{'ab'[number % 2]},S{number % 2},{number % 4}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(rows))
    config = configure(
        "classification",
        {"kind": "dicom_folders", "path": str(tmp_path / "data"), "labels": "labels.csv"},
        split={"by": "folds", "folds": 4},
    )
    index = index_cases(config, workspace)
    assert {case.patient for case in index.cases} == {f"p{number}" for number in range(7)}
    assert {case.centre for case in index.cases} == {"S0", "S1"}
    assert [(one.defect, one.severity) for one in index.findings] == [("patient_joined", "warn")]
    with pytest.raises(LeakError, match="more than one fold"):
        split_cases(index.cases, config, workspace)


def test_folders_of_series_that_headers_join_are_said_once() -> None:
    entries = [entry(name, key=key) for name, key in (("ill/a", "1"), ("ill/b", "2"), ("well/c", "1"), ("well/d", "2"))]
    patients, findings = patients_of(entries, ids(entries), DATA)
    assert patients == ["ill/a", "ill/b", "ill/a", "ill/b"]
    assert [(one.defect, one.where, one.severity) for one in findings] == [("patient_joined", "/data/well/c", "warn")]
    assert "/data/ill/a" in findings[0].what
    assert "of 1 other patient" in findings[0].what
    assert patients_of([entry("ill/a"), entry("well/c")], ["x", "y"], DATA)[1] == []


@pytest.mark.parametrize("joins", ["study", "series", "person", "issuer"])
def test_given_splits_that_divide_a_person_without_patient_id_stop(tmp_path, configure, workspace, joins):
    """As de-identification leaves them: no Patient ID, and what they share is a study, a series or a person."""
    uid = generate_uid()
    for number in range(12):
        split, path = ("train", "val", "test")[number % 3], f"{'ab'[number // 6]}/{number}.dcm"
        dicom(tmp_path / "data" / split / path, "ANONYMOUS", number)
        dataset = dcmread(tmp_path / "data" / split / path)
        dataset.PatientName, dataset.PatientBirthDate = f"Muster^{number}", "19560317"
        if joins == "study":
            dataset.StudyInstanceUID = uid
        elif joins == "series":
            dataset.SeriesInstanceUID = uid
        elif joins == "person":
            dataset.PatientName = ("Muster^Eva", "MUSTER^Eva^^")[number % 2]
        else:
            dataset.PatientID, dataset.PatientName = f"77441{number // 3}", ""
            if number % 2:
                dataset.IssuerOfPatientID = "HOSP"
        dataset.save_as(tmp_path / "data" / split / path)
    data = {"kind": "class_folders", "path": str(tmp_path / "data")}
    report = check_data(configure("classification", data, split={"by": "given"}), workspace)
    assert report.verdict == "stop"
    assert "patient_leak" in report.defects
    assert report.patients == (4 if joins == "issuer" else 1)
    assert "Muster" not in str(report.to_json())
    assert "77441" not in str(report.to_json())


def test_one_patient_id_among_many_pictures_does_not_make_the_patients_known(tmp_path, picture, configure, workspace):
    for number in range(40):
        picture(tmp_path / "data" / "ab"[number % 2] / f"person{number // 4}_{number}.png", seed=number)
    dicom(tmp_path / "data" / "a" / "1.dcm", "SECRET", 1)
    config = configure("classification", {"kind": "class_folders", "path": str(tmp_path / "data")})
    assert not index_cases(config, workspace).patients_known
    report = check_data(config, workspace, propose=propose)
    assert report.pattern is not None
    assert report.pattern.patients == 10
    (found,) = (one for one in report.findings if one.defect == "patient_unknown")
    assert found.what.startswith("of 40 of 41 images it is not known")
    fixed = correct(report, config).cases
    assert len({case.patient for case in fixed}) == 11
