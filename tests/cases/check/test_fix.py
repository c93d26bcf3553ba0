"""The corrected table: what is wrong is out with its reason, patients are together, and its check does not stop."""

from __future__ import annotations

import csv
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from medrail.cases import check_data, read_table
from medrail.cases.check.fix import Correction, correct, fixed_config, write_correction
from medrail.cases.check.report import CheckReport
from medrail.config import Config
from medrail.errors import CaseError, ConfigError
from medrail.plan.patients import propose
from medrail.types import Case
from medrail.workspace import Workspace

Configure = Callable[..., Config]
Write = Callable[..., Path]


def blobs(seed: int) -> np.ndarray[Any, Any]:
    """A picture with structure, another one for each seed."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :96]
    picture = np.zeros((96, 96))
    for _ in range(12):
        row, column, size = *random.uniform(5, 90, 2), random.uniform(4, 18)
        picture += random.uniform(40, 200) * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / size**2)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, picture: Write) -> Path:
    """Twenty patients with two pictures each, in given splits that are right."""
    for patient in range(20):
        split = "test" if patient % 5 == 0 else "val" if patient % 5 == 1 else "train"
        name = "AB"[patient // 5 % 2]
        for n in range(2):
            array = blobs(2 * patient + n)
            picture(tmp_path / "data" / split / name / f"patient{patient:02d}_{n}.png", array=array)
    return tmp_path / "data"


@pytest.fixture
def config(folder: Path, configure: Configure) -> Config:
    data = {"kind": "class_folders", "path": str(folder), "patient_pattern": r"/(patient\d+)_"}
    return configure("classification", data, split={"by": "given"})


def fixed(config: Config, workspace: Workspace) -> tuple[Correction, CheckReport, tuple[Path, ...]]:
    correction = correct(check_data(config, workspace, propose=propose), config)
    files = write_correction(correction, workspace.root, config, workspace)
    return correction, check_data(fixed_config(config, files[0]), workspace, propose=propose), files


def sound(cases: tuple[Case, ...]) -> None:
    splits = defaultdict(set)
    for case in cases:
        splits[case.patient].add(case.split)
    assert all(len(of_one) == 1 and None not in of_one for of_one in splits.values())


def test_right_data_stay_as_they_are(config: Config, workspace: Workspace) -> None:
    correction, then, files = fixed(config, workspace)
    assert (correction.left_out, correction.joined, correction.moved) == ((), (), 0)
    assert then.verdict == "ok", then.problems
    assert read_table(files[0]) == correction.cases


def test_everything_that_is_wrong_is_mended_or_out(folder: Path, config: Config, workspace: Workspace) -> None:
    train, test = folder / "train", folder / "test"
    Picture.open(train / "A" / "patient02_0.png").save(test / "A" / "patient70_0.bmp")  # the same pixels
    shutil.copy(train / "A" / "patient03_0.png", train / "B" / "patient71_0.png")  # the same with another label
    Picture.open(train / "A" / "patient04_0.png").save(test / "A" / "patient72_0.jpg", quality=80)  # nearly the same
    shutil.move(train / "B" / "patient07_0.png", folder / "val" / "B" / "patient07_0.png")  # a patient divided
    (train / "A" / "patient12_0.png").write_bytes(b"\x89PNG\r\n\x1a\n")  # broken
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert check_data(config, workspace).verdict == "stop"
    correction, then, files = fixed(config, workspace)
    assert then.verdict != "stop", then.problems
    assert then.leaks == ()
    sound(correction.cases)
    names = {Path(case.paths[0]).name: case for case in correction.cases}
    assert {"patient03_0.png", "patient71_0.png", "patient12_0.png"}.isdisjoint(names)
    assert ("patient02_0.png" in names) != ("patient70_0.bmp" in names)
    assert names["patient04_0.png"].patient == names["patient72_0.jpg"].patient
    assert len(correction.cases) == 43 - 4
    with files[1].open(encoding="utf-8", newline="") as file:
        reasons = {Path(row["where"]).name: row["reason"] for row in csv.DictReader(file)}
    assert len(reasons) == 4
    assert "different labels (A, B)" in reasons["patient71_0.png"]
    assert "no valid header" in reasons["patient12_0.png"]
    text = files[2].read_text(encoding="utf-8")
    assert "kind: csv" in text
    assert "by: given" in text
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_splits_that_are_right_are_kept(folder: Path, config: Config, workspace: Workspace) -> None:
    shutil.move(folder / "train" / "B" / "patient07_0.png", folder / "val" / "B" / "patient07_0.png")
    correction, _, _ = fixed(config, workspace)
    assert correction.moved == 1
    assert {case.split for case in correction.cases if case.patient == "patient07"} == {"train"}


def test_a_split_by_image_is_drawn_anew(tmp_path: Path, picture: Write, configure: Configure) -> None:
    """Every patient in every split: nothing can be kept."""
    for patient in range(12):
        for n, split in enumerate(("train", "train", "train", "val", "test")):
            array = blobs(5 * patient + n)
            picture(tmp_path / "data" / split / "AB"[patient % 2] / f"patient{patient}_{n}.png", array=array)
    data = {"kind": "class_folders", "path": str(tmp_path / "data")}
    config = configure("classification", data, split={"by": "given"})
    workspace = Workspace(tmp_path / "project")
    report = check_data(config, workspace, propose=propose)
    assert report.pattern is not None
    assert (report.pattern.patients, report.pattern.divided) == (12, 12)
    assert report.verdict == "stop", "names say that all patients are divided"
    correction, then, files = fixed(config, workspace)
    sound(correction.cases)
    assert len({case.patient for case in correction.cases}) == 12
    assert all(count > 0 for count in then.splits.values())
    assert then.verdict != "stop"
    assert "Please confirm" in files[2].read_text(encoding="utf-8")


def test_rows_that_are_no_case_are_listed(tmp_path: Path, picture: Write, configure: Configure) -> None:
    rows = [f"{picture(tmp_path / f'{n}.png', array=blobs(n))},{'AB'[n % 2]},p{n}" for n in range(24)]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["path,label,patient", *rows, "gone.png,A,p", f"{tmp_path / '5.png'},,p"]))
    config = configure("classification", {"kind": "csv", "path": str(table)})
    correction, then, _ = fixed(config, Workspace(tmp_path / "project"))
    assert len(correction.cases) == 24
    assert [one.where for one in correction.left_out] == [f"{table}, line 26", f"{table}, line 27", f"{table}, line 27"]
    assert then.verdict != "stop"


def test_masks_stay_with_their_images(tmp_path: Path, picture: Write, configure: Configure) -> None:
    for n in range(10):
        picture(tmp_path / "data" / "images" / f"{n}.png", array=blobs(n))
        picture(
            tmp_path / "data" / "masks" / f"{n}.png", array=(blobs(n) > 100).astype(np.uint8) * (2 if n == 4 else 1)
        )
    data = {"kind": "pairs", "path": str(tmp_path / "data"), "mask_path": "masks", "classes": ["background", "cell"]}
    config = configure("segmentation", data)
    correction, then, files = fixed(config, Workspace(tmp_path / "project"))
    assert [Path(one.where).name for one in correction.left_out] == ["4.png"]
    assert "values that mean no class" in correction.left_out[0].reason
    assert then.verdict != "stop", then.problems
    assert read_table(files[0]) == correction.cases


def test_nothing_is_written_into_the_folder_of_the_data(folder: Path, config: Config) -> None:
    report = check_data(config, Workspace(folder.parent / "project"))
    with pytest.raises(ConfigError, match="-o FOLDER"):
        write_correction(correct(report, config), folder / "fixed", config, Workspace(folder.parent / "project"))
    assert not (folder / "fixed").exists()


def test_nothing_left_is_an_error(folder: Path, config: Config, workspace: Workspace) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(CaseError, match="no case is left"):
        correct(check_data(config, workspace), config)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19), st.sampled_from(["copy", "move", "break"])), max_size=8)
)
def test_whatever_is_planted_the_corrected_table_does_not_stop(
    tmp_path_factory: pytest.TempPathFactory, configure: Configure, plants: list[tuple[int, int, str]]
) -> None:
    root = tmp_path_factory.mktemp("planted")
    paths = []
    for patient in range(20):
        split = "test" if patient % 5 == 0 else "val" if patient % 5 == 1 else "train"
        path = root / "data" / split / "AB"[patient // 5 % 2] / f"patient{patient:02d}_0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(blobs(patient)).save(path)
        paths.append(path)
    for n, (source, target, how) in enumerate(plants):
        if not paths[source].exists():
            continue
        goal = paths[target].parent / f"{paths[source if how == 'move' else target].stem}x{n}.png"
        if how == "copy":
            shutil.copy(paths[source], goal)
        elif how == "move":
            shutil.move(paths[source], goal)
        else:
            paths[source].write_bytes(paths[source].read_bytes()[:30])
    data = {"kind": "class_folders", "path": str(root / "data"), "patient_pattern": r"/(patient\d+)_"}
    config = configure("classification", data, split={"by": "given"})
    correction, then, _ = fixed(config, Workspace(root / "project"))
    sound(correction.cases)
    assert then.leaks == ()
    assert then.verdict != "stop", then.problems
