"""The same file under two names is never on both sides of a split."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from medrail.cases import assign_splits, build_cases, check_data
from medrail.cases.fingerprint import FileHashes
from medrail.cases.splits.copies import patients_with_copies
from medrail.types import Case


def test_copied_files_stay_in_one_split_whatever_the_seed(tmp_path, picture, configure, workspace):
    for number in range(12):
        picture(tmp_path / "data" / "ab"[number % 2] / f"{number}.png", seed=number)
    for number in (3, 5):
        shutil.copy(tmp_path / "data" / "b" / f"{number}.png", tmp_path / "data" / "b" / f"copy{number}.png")
    shutil.copy(tmp_path / "data" / "b" / "copy3.png", tmp_path / "data" / "b" / "third.png")
    for seed in range(20):
        split = {"val": 0.3, "test": 0.3, "seed": seed}
        config = configure("classification", {"kind": "class_folders", "path": str(tmp_path / "data")}, split=split)
        by_name = {case.paths[0].rsplit("/", 1)[1]: case for case in build_cases(config, workspace)}
        assert by_name["3.png"].split == by_name["copy3.png"].split == by_name["third.png"].split
        assert by_name["5.png"].split == by_name["copy5.png"].split
        assert len({case.split for case in by_name.values()}) == 3
    report = check_data(config, workspace)
    assert report.verdict == "warn"
    assert report.defects["duplicate"] == 2


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_patients_are_joined_through_any_chain_of_copies(tmp_path, picture, order):
    first, second = picture(tmp_path / "1.png", seed=1), picture(tmp_path / "2.png", seed=2)
    copy, other = tmp_path / "3.png", tmp_path / "4.png"
    shutil.copy(first, copy)
    shutil.copy(second, other)
    # b has both a's picture and c's, so a, b and c belong together.
    rows = [("a", first), ("b", copy), ("b", other), ("c", second)]
    cases = [Case(f"case{n}", rows[n][0], (str(rows[n][1]),), "x") for n in order]
    with FileHashes(tmp_path / "hashes.db") as hashes:
        assert patients_with_copies(cases, hashes) == {"b": "a", "c": "a"}


def test_joined_patients_are_split_as_one(configure):
    config = configure("classification", {"kind": "csv", "path": "t"}, split={"val": 0.25, "test": 0.25})
    cases = [Case(str(n), f"p{n}", (f"{n}.png",), "x") for n in range(8)]
    for seed in range(10):
        split = config.split.model_copy(update={"seed": seed})
        assigned = {case.patient: case.split for case in assign_splits(cases, split, {"p5": "p2", "p7": "p2"})}
        assert assigned["p5"] == assigned["p7"] == assigned["p2"]


def write_mhd(folder, seed, name="ct"):
    """A header of its own, and the voxels beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    header = folder / f"{name}.mhd"
    header.write_text(f"NDims = 3\nDimSize = 4 3 2\nElementType = MET_UCHAR\nElementDataFile = {name}.raw\n")
    voxels = np.random.default_rng(seed).integers(0, 256, 24, dtype=np.uint8)
    (folder / f"{name}.raw").write_bytes(voxels.tobytes())
    return header


def test_equal_headers_of_different_voxels_are_no_copies(tmp_path, configure, workspace):
    rows = ["path,label,patient"]
    for number in range(16):
        write_mhd(tmp_path / f"p{number}", seed=number)
        rows.append(f"p{number}/ct.mhd,{'ab'[number % 2]},p{number}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    config = configure("classification", {"kind": "csv", "path": str(tmp_path / "t.csv")})
    with FileHashes(tmp_path / "hashes.db") as hashes:
        assert patients_with_copies(build_cases(config, workspace), hashes) == {}
    report = check_data(config, workspace)
    assert report.defects == {}
    assert {name for name, count in report.splits.items() if count} == {"train", "val", "test"}


@pytest.mark.parametrize("name", ["ct", "another name"])
def test_copies_of_a_header_with_its_voxels_are_found_whatever_they_are_called(tmp_path, name):
    headers = [write_mhd(tmp_path / "a", 1), write_mhd(tmp_path / "b", 1, name), write_mhd(tmp_path / "c", 2)]
    cases = [Case(str(n), f"p{n}", (str(header),), "x") for n, header in enumerate(headers)]
    with FileHashes(tmp_path / "hashes.db") as hashes:
        assert patients_with_copies(cases, hashes) == {"p1": "p0"}


def test_parts_of_one_data_file_are_no_copies(tmp_path):
    headers = [write_mhd(tmp_path, 1, name) for name in "ab"]
    for number, header in enumerate(headers):
        text = header.read_text().replace("DimSize = 4 3 2", f"HeaderSize = {12 * number}\nDimSize = 4 3 1")
        header.write_text(text.replace("b.raw", "a.raw"))
    cases = [Case(str(n), f"p{n}", (str(header),), "x") for n, header in enumerate(headers)]
    with FileHashes(tmp_path / "hashes.db") as hashes:
        assert patients_with_copies(cases, hashes) == {}


def test_a_folder_of_slices_under_another_name_is_a_copy(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "c"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.dcm").write_bytes(rng.bytes(50))
    (tmp_path / "b" / "deeper").mkdir(parents=True)
    for number in range(3):
        shutil.copy(tmp_path / "a" / f"{number}.dcm", tmp_path / "b" / "deeper" / f"IM{2 - number}")
    cases = [Case(name, f"p-{name}", (str(tmp_path / name),), "x") for name in "cba"]
    with FileHashes(tmp_path / "hashes.db") as hashes:
        assert patients_with_copies(cases, hashes) == {"p-b": "p-a"}
        items = [
            Case(f"{case.id}{item}", case.id + item, case.paths, "x", item=item) for case in cases for item in "12"
        ]
        assert patients_with_copies(items, hashes) == {"b1": "a1", "b2": "a2"}


def test_the_series_of_one_folder_are_no_copies_of_each_other(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.dcm").write_bytes(b"1")
    cases = [Case(item, item, (str(tmp_path / "a"),), "x", item=item) for item in ("first", "second")]
    with FileHashes(tmp_path / "hashes.db") as hashes:
        assert patients_with_copies(cases, hashes) == {}
