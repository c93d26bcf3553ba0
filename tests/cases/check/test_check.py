"""The check finds what is planted, by kind, and finds nothing in clean data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medrail.cases import build_cases, check_cases, check_data
from medrail.cases.check import judge
from medrail.cases.check.summary import spread
from medrail.cases.listing import Entry, Finding
from medrail.cases.look.examine import Facts, pixel_hash
from medrail.config import Config
from medrail.errors import CaseError
from medrail.types import Case, Geometry
from medrail.workspace import Workspace

Configure = Callable[..., Config]
Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, picture: Write) -> Path:
    """Two classes in three splits, every picture another, two pictures a patient."""
    seed = 0
    for split, patients in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 8))):
        for name in ("A", "B"):
            for patient in patients:
                for n in range(2):
                    seed += 1
                    picture(tmp_path / "data" / split / name / f"{name}p{patient}_{n}.png", seed)
    return tmp_path / "data"


@pytest.fixture
def config(folder: Path, configure: Configure) -> Config:
    data = {"kind": "class_folders", "path": str(folder), "patient_pattern": r"/(\wp\d+)_"}
    return configure("classification", data, split={"by": "given"})


def test_clean_data_are_ok_and_the_keys_are_the_interface(config: Config, workspace: Workspace) -> None:
    report = check_cases(build_cases(config, workspace), config, workspace)
    assert report.problems == ()
    values = report.to_json()
    size = {"min": 7, "median": 7, "max": 7, "outliers": []}
    assert values["sizes"]["height"] == size
    assert values["sizes"]["width"] == {"min": 11, "median": 11, "max": 11, "outliers": []}
    assert values["spacings"] == {"unknown": 32}
    assert values["intensities"]["uint8"]["cases"] == 32
    assert values["images_per_patient"] == {"min": 2, "median": 2, "max": 2, "outliers": []}
    assert values["by_split"]["val"] == {"cases": 8, "usable": 8, "patients": 4, "classes": {"A": 4, "B": 4}}
    for name in ("sizes", "spacings", "intensities", "images_per_patient", "by_split"):
        del values[name]
    assert values == {
        "cases": 32,
        "patients": 16,
        "splits": {"train": 16, "val": 8, "test": 8},
        "classes": {"A": 16, "B": 16},
        "defects": {},
        "leaks": {"exact": [], "near": [], "patient": []},
        "unusable": {"train": 0, "val": 0, "test": 0},
        "verdict": "ok",
        "scanners": {},
        "centres": {},
        "modalities": {},
        "tiles": [],
        "patient_pattern": None,
        "findings": [],
    }
    json.dumps(report.to_json())
    assert report.table == (
        ("split", "cases", "usable", "patients", "A", "B"),
        ("train", "16", "16", "8", "8", "8"),
        ("val", "8", "8", "4", "4", "4"),
        ("test", "8", "8", "4", "4", "4"),
    )


def test_a_copy_in_another_format_across_splits_is_a_leak(folder: Path, config: Config, workspace: Workspace) -> None:
    original, copy = folder / "train" / "A" / "Ap0_0.png", folder / "test" / "A" / "Ap99_0.bmp"
    Picture.open(original).save(copy)
    report = check_data(config, workspace)
    assert report.verdict == "stop"
    assert report.to_json()["leaks"]["exact"] == [
        {"group": [str(copy), str(original)], "splits": ["train", "test"]},
    ]
    (problem,) = report.problems
    assert "the same pixels are in train and test" in problem[1]


def test_a_copy_in_train_and_val_is_said_but_the_test_stands(
    folder: Path, config: Config, workspace: Workspace
) -> None:
    shutil.copy(folder / "train" / "A" / "Ap0_0.png", folder / "val" / "A" / "Ap99_0.png")
    report = check_data(config, workspace)
    assert [leak.splits for leak in report.leaks] == [("train", "val")]
    assert report.verdict == "warn"


def test_a_copy_within_a_split_is_said(folder: Path, config: Config, workspace: Workspace) -> None:
    shutil.copy(folder / "train" / "A" / "Ap0_0.png", folder / "train" / "B" / "Bp0_9.png")
    report = check_data(config, workspace)
    assert report.defects == {"contradicting_labels": 1, "duplicate": 1}
    assert report.verdict == "warn"


def test_a_patient_in_two_splits_is_a_leak(folder: Path, config: Config, workspace: Workspace, picture: Write) -> None:
    picture(folder / "test" / "A" / "Ap0_7.png", 777)
    report = check_data(config, workspace)
    (leak,) = report.to_json()["leaks"]["patient"]
    assert leak["splits"] == ["train", "test"]
    assert len(leak["group"]) == 3
    assert report.verdict == "stop"


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0 and then nothing"])
def test_a_broken_file_is_named_and_the_rest_goes_on(
    content: bytes, folder: Path, config: Config, workspace: Workspace
) -> None:
    broken = folder / "train" / "A" / "Ap0_5.png"
    broken.write_bytes(content)
    report = check_data(config, workspace)
    assert report.defects == {"unreadable": 1, "unusable_cases": 1}
    assert report.problems[0][1] == "1 of 33 cases cannot be used; train loses 1 of 17"
    assert report.problems[1][0] == str(broken)
    assert report.to_json()["unusable"] == {"train": 1, "val": 0, "test": 0}
    assert report.verdict == "warn"
    assert [line.partition(":")[0] for line in report.lines("warn")] == ["unusable_cases", "unreadable"]


@pytest.mark.parametrize("lost", [1, 2])
def test_more_than_a_twentieth_of_the_cases_lost_stops(
    lost: int, folder: Path, config: Config, workspace: Workspace
) -> None:
    for path in sorted((folder / "test").rglob("*.png"))[:lost]:
        path.write_bytes(b"")
    report = check_data(config, workspace)
    assert report.findings[0].what == f"{lost} of 32 cases cannot be used; test loses {lost} of 8"
    assert report.verdict == ("warn" if lost == 1 else "stop")


def test_a_class_of_which_all_is_lost_stops(folder: Path, config: Config, workspace: Workspace, picture: Write) -> None:
    picture(folder / "train" / "C" / "Cp0_0.png", 1234).write_bytes(b"")
    report = check_data(config, workspace)
    assert ("unusable_cases", "stop") in {(one.defect, one.severity) for one in report.findings}


def test_a_split_of_broken_files_is_empty(folder: Path, config: Config, workspace: Workspace) -> None:
    for path in (folder / "test").rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    report = check_data(config, workspace)
    assert report.defects == {"empty_split": 1, "unreadable": 8, "unusable_cases": 1}
    assert report.problems[0][:2] == ("data", "8 of 32 cases cannot be used; test loses 8 of 8")
    assert report.problems[1][:2] == ("split test", "none of its 8 cases can be used")
    assert report.verdict == "stop"


def test_a_file_lost_after_indexing_is_named(folder: Path, config: Config, workspace: Workspace) -> None:
    cases = build_cases(config, workspace)
    (folder / "train" / "A" / "Ap0_0.png").unlink()
    report = check_cases(cases, config, workspace)
    assert report.defects == {"missing_file": 1, "unusable_cases": 1}


def test_blank_images_are_said_and_are_no_duplicates(
    folder: Path, config: Config, workspace: Workspace, picture: Write
) -> None:
    for split in ("train", "test"):
        picture(folder / split / "A" / f"Ap{split == 'train':d}0_8.png", array=np.full((7, 11), 9, np.uint8))
    report = check_data(config, workspace)
    assert report.defects == {"blank": 2}


def test_a_class_that_train_lacks_is_said(folder: Path, config: Config, workspace: Workspace) -> None:
    shutil.rmtree(folder / "train" / "B")
    report = check_data(config, workspace)
    assert report.defects == {"class_missing": 1}
    assert "it cannot be learnt" in report.problems[0][1]


def test_a_class_without_any_case_is_one_line(folder: Path, configure: Configure, workspace: Workspace) -> None:
    data = {"kind": "class_folders", "path": str(folder), "patient_pattern": r"/(\wp\d+)_", "classes": ["A", "B", "C"]}
    report = check_data(configure("classification", data, split={"by": "given"}), workspace)
    assert [problem[:2] for problem in report.problems] == [
        ("splits train, val, test", "no case of 'C': it cannot be learnt")
    ]


def test_unknown_patients_are_said(folder: Path, configure: Configure, workspace: Workspace) -> None:
    config = configure("classification", {"kind": "class_folders", "path": str(folder)})
    report = check_data(config, workspace)
    assert report.defects == {"patient_unknown": 1}
    assert report.verdict == "warn"


def labelled_table(folder: Path, picture: Write, rows: list[str], header: str) -> Path:
    """A CSV whose rows are what stands behind the path of a picture each."""
    lines = [f"{picture(folder / f'{n}.png', n)},{row}" for n, row in enumerate(rows)]
    (folder / "list.csv").write_text("\n".join([f"path,{header}", *lines]))
    return folder / "list.csv"


def test_patients_that_the_data_name_are_known_even_with_one_image_each(
    tmp_path: Path, picture: Write, configure: Configure
) -> None:
    table = labelled_table(tmp_path, picture, [f"{'AB'[n % 2]},{n}" for n in range(24)], "label,patient")
    report = check_data(configure("classification", {"kind": "csv", "path": str(table)}), Workspace(tmp_path))
    assert (report.patients, report.defects, report.verdict) == (24, {}, "ok")


def test_a_row_without_a_patient_is_said_where_others_have_one(
    tmp_path: Path, picture: Write, configure: Configure
) -> None:
    rows = [f"{'AB'[n % 2]},{'' if n in (5, 9) else f'p{n // 2}'}" for n in range(24)]
    table = labelled_table(tmp_path, picture, rows, "label,patient")
    report = check_data(configure("classification", {"kind": "csv", "path": str(table)}), Workspace(tmp_path))
    assert report.defects == {"patient_unknown": 2}
    assert [where for where, *_ in report.problems] == [f"{table}, line 7", f"{table}, line 11"]
    assert report.verdict == "warn"


@pytest.mark.parametrize(("by", "wanted"), [("given", "Give some cases the split val"), ("patient", "Set split.val")])
def test_the_advice_for_an_empty_val_split_is_for_the_way_of_splitting(
    by: str, wanted: str, tmp_path: Path, picture: Write, configure: Configure
) -> None:
    rows = [f"{'AB'[n % 2]},p{n},{'test' if n > 15 else 'train'}" for n in range(24)]
    data = {"kind": "csv", "path": str(labelled_table(tmp_path, picture, rows, "label,patient,split"))}
    report = check_data(configure("classification", data, split={"by": by, "val": 0.0}), Workspace(tmp_path))
    ((where, _, remedy),) = report.problems
    assert (where, remedy.startswith(wanted)) == ("split val", True)
    assert ("split.val" in remedy) == (by == "patient")


def test_a_class_spelt_otherwise_in_the_configuration_is_said_once(
    folder: Path, configure: Configure, workspace: Workspace
) -> None:
    data = {"kind": "class_folders", "path": str(folder), "patient_pattern": r"/(\wp\d+)_", "classes": ["A", "b"]}
    report = check_data(configure("classification", data, split={"by": "given"}), workspace)
    ((where, what, remedy),) = report.problems
    assert where.endswith("B")
    assert "'B' here (and in 2 other places), and 'b' in data.classes" in what
    assert "'B' into data.classes" in remedy
    assert report.verdict == "stop"


def test_when_no_class_is_spelt_as_configured_nothing_else_is_said(
    folder: Path, configure: Configure, workspace: Workspace
) -> None:
    data = {"kind": "class_folders", "path": str(folder), "patient_pattern": r"/(\wp\d+)_", "classes": ["a", "b"]}
    report = check_data(configure("classification", data), workspace)
    assert report.defects == {"unknown_class": 2}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_make_a_case_unusable(
    bad: float, tmp_path: Path, nifti: Write, configure: Configure, workspace: Workspace
) -> None:
    geometry = Geometry.from_spacing((5.0, 0.7, 0.9))
    for n in range(6):
        array = np.random.default_rng(n).normal(size=(5, 7, 11)).astype(np.float32)
        if n == 3:
            array[1, 2, 3:5] = bad
        nifti(tmp_path / "data" / "AB"[n % 2] / f"p{n}.nii.gz", array, geometry)
    data = {"kind": "class_folders", "path": str(tmp_path / "data"), "patient_pattern": r"/(p\d)"}
    config = configure("classification", data, split={"val": 0.0, "test": 0.2})
    for _ in range(2):  # the second time it must not be recalled as right
        report = check_data(config, workspace)
        found = [problem for problem in report.problems if "2 voxels" in problem[1]]
        assert [Path(where).name for where, *_ in found] == ["p3.nii.gz"]
        assert report.defects["not_finite"] == 1
        assert sum(int(row[1]) for row in report.table[1:]) == 6
        assert sum(int(row[2]) for row in report.table[1:]) == 5


def test_a_given_split_that_is_missing_is_said(tmp_path: Path, picture: Write, configure: Configure) -> None:
    rows = [f"{picture(tmp_path / f'{n}.png', n)},A,{split}" for n, split in enumerate(("train", "test", ""))]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    data = {"kind": "csv", "path": str(tmp_path / "list.csv"), "patient_pattern": "([0-9])"}
    report = check_data(configure("classification", data, split={"by": "given"}), Workspace(tmp_path))
    assert report.defects == {"empty_split": 1, "no_split": 1}
    assert report.table[-1] == ("none", "1", "1", "1", "1")
    assert report.verdict == "stop"


def test_splits_that_cannot_be_drawn_are_said_once(folder: Path, configure: Configure, workspace: Workspace) -> None:
    """Without centres nothing is divided; that the splits are empty then is no other thing to mend."""
    data = {"kind": "class_folders", "path": str(folder / "train"), "patient_pattern": r"/(\wp\d+)_"}
    report = check_data(configure("classification", data, split={"by": "centre", "centre": "x"}), workspace)
    assert report.defects == {"no_split": 1}
    assert "the data give no centres" in report.findings[0].what


def test_rows_without_label_are_judged_and_said_in_one_finding(
    tmp_path: Path, picture: Write, configure: Configure
) -> None:
    rows = [f"{picture(tmp_path / f'{n}.png', n)},{'AB'[n % 2]},p{n}" for n in range(24)]
    rows += [f"{picture(tmp_path / f'x{n}.png', 100 + n)},,q{n}" for n in range(5)]
    (tmp_path / "x4.png").write_bytes((tmp_path / "3.png").read_bytes())
    (tmp_path / "list.csv").write_text("\n".join(["path,label,patient", *rows]))
    config = configure("classification", {"kind": "csv", "path": str(tmp_path / "list.csv")})
    report = check_data(config, Workspace(tmp_path))
    assert report.defects == {"duplicate": 1, "unlabelled": 1}
    assert report.cases == 29
    assert report.splits == {
        split: sum(case.split == split for case in report.examined.cases) for split in report.splits
    }
    assert sum(report.splits.values()) == 24
    stop = report.findings[0]
    assert (stop.defect, stop.severity, len(stop.others)) == ("unlabelled", "stop", 4)
    assert "5 images have no label or mask, of 29" in stop.what
    with pytest.raises(CaseError, match="no label"):
        build_cases(config, Workspace(tmp_path))


def test_images_without_mask_are_looked_at_without_one(tmp_path: Path, picture: Write, configure: Configure) -> None:
    rows = [f"{picture(tmp_path / f'{n}.png', n)}," for n in range(3)]
    (tmp_path / "list.csv").write_text("\n".join(["path,mask", *rows]))
    data = {"kind": "csv", "path": str(tmp_path / "list.csv"), "classes": ["background", "cell"]}
    report = check_data(configure("segmentation", data), Workspace(tmp_path), without_labels="warn")
    assert report.defects == {"patient_unknown": 1, "unlabelled": 1}
    assert report.verdict == "warn"
    assert report.table[-1][:3] == ("none", "3", "3")


def test_numbers_that_are_rounded_otherwise_are_no_outliers() -> None:
    spacings = [("a", 2.0)] * 19
    assert spread([*spacings, ("b", 2.0000001)]).outliers == ()
    assert spread([*spacings, ("b", 2.1)]).outliers == (("b", 2.1),)
    assert spread([("a", 0.0)] * 19 + [("b", 1e-6)]).outliers == (("b", 1e-6),)


def test_a_bad_table_is_reported_where_building_raises(tmp_path: Path, picture: Write, configure: Configure) -> None:
    rows = [f"{picture(tmp_path / f'{n}.png', n)},{'AB'[n % 2]},p{n}" for n in range(24)]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["path,label,patient", *rows, "gone.png,A,p", f"{tmp_path / '0.png'},,p"]))
    report = check_data(configure("classification", {"kind": "csv", "path": str(table)}), Workspace(tmp_path))
    assert report.cases == 24
    assert report.defects == {"missing_file": 1, "repeated_row": 1, "unlabelled": 1}
    assert report.verdict == "stop"


def test_masks_are_checked(tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace) -> None:
    good = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)
    masks: list[Any] = [good, good, good, good, good.T, good * 7, good * 0]
    for n, mask in enumerate(masks):
        noise = np.random.default_rng(n).integers(0, 256, (2, 3), dtype=np.uint8)
        picture(tmp_path / "images" / f"{n}.png", array=noise)
        picture(tmp_path / "masks" / f"{n}.png", array=mask)
    (tmp_path / "masks" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    data = {"kind": "pairs", "path": str(tmp_path), "mask_path": "masks", "classes": ["background", "cell"]}
    config = configure("segmentation", data, split={"val": 0.0, "test": 0.0}, evaluate={"split": "val"})
    report = check_data(config, workspace)
    found = {(Path(where).name, what.split(":")[0]) for where, what, _ in report.problems}
    assert ("4.png", "the mask is 2 x 3 and its image 3 x 2. Width and height are exchanged; needed") in found
    assert ("5.png", "the mask has values that mean no class") in found
    assert ("6.png", "the mask has no foreground") in found
    assert {name: count for name, count in report.defects.items() if "mask" in name} == {
        "empty_mask": 1,
        "mask_grid": 1,
        "mask_values": 1,
        "unreadable_mask": 1,
    }
    assert report.classes == {"background": 4, "cell": 3}


def test_a_second_check_reads_no_image(config: Config, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from medrail.cases import fingerprint
    from medrail.cases.look import examine

    now = fingerprint.time.time()
    monkeypatch.setattr(fingerprint.time, "time", lambda: now + 60)
    first = check_data(config, workspace)
    monkeypatch.setattr(examine, "look", lambda case, config: pytest.fail(f"read {case.id} again"))
    assert check_data(config, workspace) == first


def test_progress_is_told(config: Config, workspace: Workspace) -> None:
    calls: list[tuple[int, int]] = []
    check_data(config, workspace, lambda done, total, note="": calls.append((done, total)))
    assert calls == [(n, 32) for n in range(1, 33)]


def test_the_report_names_no_patient(folder: Path, configure: Configure, workspace: Workspace) -> None:
    table = folder / "list.csv"
    paths = sorted(folder.rglob("*.png"))
    rows = [f"{path},A,SECRET{n // 8},{('train', 'test')[n % 2]}" for n, path in enumerate(paths)]
    table.write_text("\n".join(["path,label,patient,split", *rows]))
    report = check_data(
        configure("classification", {"kind": "csv", "path": str(table)}, split={"by": "given"}), workspace
    )
    assert len(report.to_json()["leaks"]["patient"]) == 4
    assert "SECRET" not in json.dumps(report.to_json()) + str(report.problems)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_the_pixel_hash_is_of_values(dtype: Any) -> None:
    grey = np.arange(5 * 7 * 11, dtype=np.uint8).reshape(1, 5, 7, 11) // 2
    assert pixel_hash(grey.astype(dtype)) == pixel_hash(grey)
    assert pixel_hash(np.repeat(grey, 3, axis=0)) == pixel_hash(grey)
    assert pixel_hash(grey.transpose(0, 2, 1, 3)) != pixel_hash(grey)
    other = grey.copy()
    other[0, 4, 6, 10] += 1
    assert pixel_hash(other) != pixel_hash(grey)


def test_target_index() -> None:
    from medrail.cases import target_index
    from medrail.errors import CaseError

    assert target_index(Case("a", "p", ("/x.png",), "B"), ["A", "B"]) == 1
    with pytest.raises(CaseError, match=r"/x\.png: the class 'pnemonia' is not known.*Did you mean 'PNEUMONIA'"):
        target_index(Case("a", "p", ("/x.png",), "pnemonia"), ["NORMAL", "PNEUMONIA"])
    with pytest.raises(CaseError, match=r"/x\.png: no label"):
        target_index(Case("a", "p", ("/x.png",)), ["A"])


def test_a_crop_to_a_region_that_no_case_has_stops(tmp_path: Path, picture: Write, configure: Configure) -> None:
    """Otherwise prepare would fail case by case."""
    rows = ["path,label,split,roi"]
    for number, split in enumerate(["train", "train", "val", "test"]):
        picture(tmp_path / f"{number}.png", seed=number)
        picture(tmp_path / f"roi{number}.png", array=np.ones((7, 11), np.uint8))
        rows.append(f"{number}.png,A,{split},{f'roi{number}.png' if number else ''}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    data = {"kind": "csv", "path": str(tmp_path / "t.csv")}
    steps = {"steps": [{"kind": "grey_to_rgb"}, {"kind": "crop_roi"}]}
    config = configure("classification", data, split={"by": "given"}, prepare=steps)
    report = check_data(config, Workspace(tmp_path / "project"))
    assert report.verdict == "stop"
    assert report.defects["missing_roi"] == 1
    (where, what, remedy) = report.problems[0]
    assert where == str(tmp_path / "0.png")
    assert "crop_roi" in what
    assert "column roi" in remedy
    without = configure("classification", data, split={"by": "given"})
    assert "missing_roi" not in check_data(without, Workspace(tmp_path / "project")).defects


def test_a_refused_case_is_called_by_the_defect_that_its_error_speaks_of() -> None:
    unreadable = Finding(
        "unreadable", "p2", "mixed patients: 11 slices, and 1 of another; missing slices too", "", "warn"
    )
    entry = Entry(Path("p2"), "p2", defects=("missing_slices", "mixed_patients"))
    case = Case(id="p2", patient="p2", paths=("p2",))
    assert judge.named(case, Facts(findings=(unreadable,)), entry).findings[0].defect == "mixed_patients"
