"""A second call looks at each file and opens none; what changed is made again, and nothing else."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from medrail.cases import fingerprint
from medrail.prepare import Store, store_of
from medrail.prepare.keeper import Keeper
from medrail.stages import StageResult, open_project, prepare_cases

PROJECT = """medrail: 1
task: classification
data: {{kind: class_folders, path: ../data}}
split: {{by: {split}}}
prepare:
  store: {store}
  workers: 1
  steps: [{{kind: resize, size: [6, 7]}}, {{kind: normalise}}]
model: {{name: tiny_cnn, dims: 2}}
"""
_opened: list[str] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


sys.addaudithook(_note)  # tells of every way to open a file; it cannot be taken away again


@contextmanager
def noting_what_is_opened() -> Iterator[list[str]]:
    global _opened
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Pictures in class folders, old enough to be believed, and a project that uses them."""
    now = time.time()
    monkeypatch.setattr(fingerprint.time, "time", lambda: now + 60)

    def made(count: int, store: str = "compact", split: str = "given") -> Path:
        for number in range(count):
            write(picture_of(tmp_path, number), number)
        project = tmp_path / "project"
        project.mkdir()
        (project / "medrail.yaml").write_text(PROJECT.format(store=store, split=split))
        return project

    return made


def picture_of(root: Path, number: int) -> Path:
    split = ("train", "train", "val", "test")[number // 2 % 4]
    return root / "data" / split / "ab"[number % 2] / f"p{number:05}.png"


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.random.default_rng(seed).integers(0, 255, (9, 8), np.uint8)).save(path)


def prepared(project: Path) -> StageResult:
    return prepare_cases(open_project(project))


def store_in(project: Path) -> Store:
    opened = open_project(project)
    return store_of(opened.config, opened.workspace)


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {path: path.stat() for path in folder.rglob("*")}
    return {str(path): (one.st_size, one.st_mtime_ns, one.st_ino) for path, one in found.items()}


@pytest.mark.parametrize("split", ["given", "patient"])
@pytest.mark.parametrize("store", ["compact", "npy"])
@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_second_call_opens_no_picture_and_writes_nothing(make, tmp_path, count, store, split):
    project = make(count, store, split)
    first = prepared(project)
    assert first.values["succeeded"] == count
    before = state(project)
    with noting_what_is_opened() as opened:
        again = prepared(project)
    assert opened
    assert [name for name in opened if name.endswith((".png", ".npy"))] == []
    assert again.up_to_date
    assert again.values["skipped"] == count
    assert state(project) == before


def change(picture: Path, stored: Path) -> None:
    write(picture, 99)


def lose_stored(picture: Path, stored: Path) -> None:
    stored.unlink()


def cut_stored(picture: Path, stored: Path) -> None:
    stored.write_bytes(stored.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [change, lose_stored, cut_stored], ids=lambda one: one.__name__)
def test_one_case_that_changed_is_made_again_alone(make, tmp_path, damage):
    project = make(24, "npy")
    prepared(project)
    store = store_in(project)
    before = state(store.cases)
    damage(picture_of(tmp_path, 5), store.cases / "val-b-p00005.image.npy")
    again = prepared(project)
    assert (again.values["succeeded"], again.values["skipped"]) == (1, 23)
    after = state(store.cases)
    assert {Path(name).name for name in after if after[name] != before[name]} == {"val-b-p00005.image.npy"}
    assert prepared(project).up_to_date


def test_a_changed_row_is_made_again_alone(make, tmp_path):
    project = make(24)
    prepared(project)
    store = store_in(project)
    before = {case: store.load(case)[0].voxels for case in store.ids()}
    write(picture_of(tmp_path, 5), 99)
    again = prepared(project)
    assert (again.values["succeeded"], again.values["skipped"]) == (1, 23)
    changed = {case for case in before if not np.array_equal(store_in(project).load(case)[0].voxels, before[case])}
    assert changed == {"val-b-p00005"}


def test_what_is_added_is_made_and_what_is_removed_leaves_the_table(make, tmp_path):
    project = make(24)
    prepared(project)
    write(tmp_path / "data" / "train" / "a" / "new.png", 100)
    added = prepared(project)
    assert (added.values["succeeded"], added.values["skipped"]) == (1, 24)
    assert "train-a-new" in (project / "cases.csv").read_text()
    (tmp_path / "data" / "train" / "a" / "new.png").unlink()
    removed = prepared(project)
    assert (removed.values["succeeded"], removed.values["skipped"]) == (0, 24)
    assert "train-a-new" not in (project / "cases.csv").read_text()


@pytest.mark.parametrize("store", ["compact", "npy"])
def test_a_lost_folder_of_arrays_is_noticed(make, store):
    project = make(24, store)
    prepared(project)
    lost = store_in(project)
    shutil.rmtree(lost.cases)
    (lost.folder / "pictures.npy").unlink(missing_ok=True)
    assert not lost.sources()
    assert prepared(project).values["succeeded"] == 24
    assert prepared(project).up_to_date


def test_rows_that_were_cut_off_do_not_come_back_as_zeros(make):
    """A kill right after the room for them was made again leaves no line that counts them as there."""
    project = make(24)
    prepared(project)
    store = store_in(project)
    path = store.folder / "pictures.npy"
    path.write_bytes(path.read_bytes()[: -5 * 42])
    assert len(store.sources()) == 19
    with Keeper(store, 24) as keeper:
        keeper.place("another")
        assert len(store.sources()) == 19
    report = prepared(project)
    assert (report.values["succeeded"], report.values["skipped"]) == (5, 19)
    for case in store.ids():
        store.load(case)
