"""`init`: every layout, task and dimension gives a project whose cases can be listed, read and prepared as written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medrail.cases import build_cases, read_target_mask
from medrail.config import Config, load
from medrail.errors import CaseError, ConfigError
from medrail.models import MODELS
from medrail.plan import init, next_command, plan
from medrail.prepare import Pipeline, check_steps
from medrail.read import read
from medrail.workspace import Workspace

Maker = Callable[..., Path]


class Data:
    """Makes one data set in each combination."""

    def __init__(self, root: Path, picture: Maker, picture_mask: Maker, volume: Maker, volume_mask: Maker) -> None:
        self.root = root
        self.picture, self.picture_mask = picture, picture_mask
        self.volume, self.volume_mask = volume, volume_mask

    def image(self, name: str, flat: bool, seed: int) -> str:
        file = f"{name}.png" if flat else f"{name}.nii.gz"
        (self.picture if flat else self.volume)(self.root / file, seed=seed)
        return file

    def mask(self, name: str, flat: bool) -> str:
        file = f"{name}.png" if flat else f"{name}.nii.gz"
        if flat:
            self.picture_mask(self.root / file, values=(128, 255))
        else:
            self.volume_mask(self.root / file, values=(1, 2))
        return file

    def table(self, name: str, *rows: str) -> None:
        (self.root / name).write_text("\n".join(rows) + "\n", encoding="utf-8")


def class_folders(data: Data, flat: bool) -> None:
    for number in range(8):
        data.image(f"{'ill' if number % 2 else 'well'}/{number}", flat, number)


def csv_labels(data: Data, flat: bool) -> None:
    files = [data.image(f"files/{number}", flat, number) for number in range(8)]
    data.table("t.csv", "path,label", *(f"{file},{'ill' if n % 2 else 'well'}" for n, file in enumerate(files)))


def csv_masks(data: Data, flat: bool) -> None:
    rows = [f"{data.image(f'a/{n}', flat, n)},{data.mask(f'b/{n}', flat)},p{n // 2}" for n in range(8)]
    data.table("t.csv", "path,mask,patient", *rows)


def pairs(data: Data, flat: bool) -> None:
    for number in range(8):
        data.image(f"images/{number}", flat, number)
        data.mask(f"masks/{number}", flat)


def unruly_pairs(data: Data, flat: bool) -> None:
    for number in range(8):
        data.image(f"p{number}/the_image", flat, number)
        data.mask(f"p{number}/the_label", flat)


def medmnist(data: Data, flat: bool) -> None:
    source = np.random.default_rng(0)
    shape = (28, 28) if flat else (28, 28, 28)
    images = {
        f"{name}_images": source.integers(0, 255, (6, *shape), dtype=np.uint8) for name in ("train", "val", "test")
    }
    labels = {f"{name}_labels": np.arange(6).reshape(6, 1) % 2 for name in ("train", "val", "test")}
    np.savez(data.root / "toy.npz", **images, **labels)


MADE = {
    "class_folders": (class_folders, "classification"),
    "csv labels": (csv_labels, "classification"),
    "csv masks": (csv_masks, "segmentation"),
    "pairs": (pairs, "segmentation"),
    "pairs as a table": (unruly_pairs, "segmentation"),
    "medmnist": (medmnist, "classification"),
}


def check_runs(config: Config, workspace: Workspace) -> None:
    """What the stages will do with the written file, up to the network's input."""
    cases = build_cases(config, workspace)
    assert {case.split for case in cases} >= {"train", "test"}
    pipeline = Pipeline.from_dict(config.prepare.steps)
    for case in cases[:3]:
        raw = read(case.paths[0], case.item)
        image = pipeline(raw)
        assert image.channels == config.model.channels
        assert np.isfinite(image.voxels).all()
        size = image.grid[-config.model.dims :]
        factor = MODELS[config.model.name].size_factor
        assert config.model.patch or all(length % factor == 0 and length >= 16 for length in size)
        if config.task == "segmentation":
            mask = read_target_mask(case, raw, config.data)
            assert set(np.unique(mask.voxels)) == set(range(len(config.data.classes)))
            prepared = pipeline.replay(mask, image.history)
            assert prepared.grid == image.grid
            assert pipeline.invert(prepared, image.history, labels=True).grid == raw.grid


@pytest.mark.parametrize("flat", [True, False], ids=["2-D", "3-D"])
@pytest.mark.parametrize("layout", MADE)
def test_every_layout_task_and_dimension_runs_as_written(
    tmp_path: Path,
    picture: Maker,
    picture_mask: Maker,
    volume: Maker,
    volume_mask: Maker,
    layout: str,
    flat: bool,
) -> None:
    (tmp_path / "data").mkdir()
    make, task = MADE[layout]
    make(Data(tmp_path / "data", picture, picture_mask, volume, volume_mask), flat)
    made, file = init(tmp_path / "project", tmp_path / "data")
    config = load(file, step_check=check_steps)
    assert config.task == task
    assert config.model.dims == 2 if flat or task == "segmentation" else config.model.dims == 3
    assert config.data.path == "images.csv" or config.data.path.startswith("../data")
    assert dict(made.facts)["Task"].startswith(task)
    check_runs(config, Workspace.of_config(file))


def test_dicom_folders_with_labels_run_as_written(tmp_path: Path, series: Maker) -> None:
    for number in range(6):
        series(tmp_path / "data" / f"p{number}", slices=9, seed=number)
    rows = [f"p{number},{'ill' if number % 2 else 'well'}" for number in range(6)]
    (tmp_path / "data" / "labels.csv").write_text("\n".join(["patient,label", *rows]), encoding="utf-8")
    made, file = init(tmp_path / "project", tmp_path / "data")
    config = load(file)
    assert (config.model.dims, dict(made.facts)["Kind"].split(",")[0]) == (3, "CT")
    check_runs(config, Workspace.of_config(file))


def test_dicom_folders_of_single_pictures_run_as_written(tmp_path: Path, series: Maker) -> None:
    for number in range(6):
        series(tmp_path / "data" / f"p{number}", slices=1, seed=number)
    rows = [f"p{number},{'ill' if number % 2 else 'well'}" for number in range(6)]
    (tmp_path / "data" / "labels.csv").write_text("\n".join(["patient,label", *rows]), encoding="utf-8")
    _, file = init(tmp_path / "project", tmp_path / "data")
    config = load(file)
    assert config.model.dims == 2
    check_runs(config, Workspace.of_config(file))


def test_dicom_folders_with_masks_run_as_written(tmp_path: Path, series: Maker) -> None:
    from dataclasses import replace

    from medrail.read import write_nifti

    for number in range(4):
        scan = read(series(tmp_path / "data" / f"p{number}" / "scan", slices=9, seed=number))
        voxels = np.zeros(scan.voxels.shape, np.uint8)
        voxels[0, 2:6, 30:60, 40:90] = 7
        write_nifti(replace(scan, voxels=voxels, unit="label"), tmp_path / "data" / f"p{number}" / "lesion.nii.gz")
    _, file = init(tmp_path / "project", tmp_path / "data")
    config = load(file)
    assert (config.data.kind, config.data.labels, config.data.mask_values) == ("dicom_folders", "labels.csv", (0, 7))
    check_runs(config, Workspace.of_config(file))


def test_dicom_folders_without_labels_run_once_the_table_is_filled(tmp_path: Path, series: Maker) -> None:
    for number in range(4):
        series(tmp_path / "data" / f"p{number}", slices=9, seed=number)
    made, file = init(tmp_path / "project", tmp_path / "data")
    table = file.parent / "labels.csv"
    assert table.read_text(encoding="utf-8") == "patient,label\np0,\np1,\np2,\np3,\n"
    assert any("labels.csv" in note for note in made.unsure)
    assert (
        next_command(file.parent, made) == f"medrail check {file.parent}  # first fill in the column label of {table}"
    )
    config = load(file)
    with pytest.raises(CaseError, match="label"):
        build_cases(config, Workspace.of_config(file))
    table.write_text("patient,label\np0,a\np1,b\np2,a\np3,b\n", encoding="utf-8")
    check_runs(config, Workspace.of_config(file))


@pytest.fixture
def few_pictures(tmp_path: Path, picture: Maker) -> Path:
    for number in range(6):
        picture(tmp_path / "data" / ("ill" if number % 2 else "well") / f"{number}.png", seed=number)
    return tmp_path / "data"


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path, few_pictures: Path) -> None:
    (tmp_path / "medrail.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="--force"):
        init(tmp_path, few_pictures)
    assert (tmp_path / "medrail.yaml").read_text(encoding="utf-8") == "mine"
    init(tmp_path, few_pictures, force=True)
    assert load(tmp_path).task == "classification"


def test_an_existing_table_is_kept_unless_forced(
    tmp_path: Path, picture: Maker, picture_mask: Maker, volume: Maker, volume_mask: Maker
) -> None:
    data = Data(tmp_path / "data", picture, picture_mask, volume, volume_mask)
    unruly_pairs(data, flat=True)
    (tmp_path / "images.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"images\.csv"):
        init(tmp_path, tmp_path / "data")
    assert not (tmp_path / "medrail.yaml").exists()


def test_nothing_is_written_beside_the_data(tmp_path: Path, few_pictures: Path) -> None:
    before = sorted(few_pictures.rglob("*"))
    init(tmp_path / "project", few_pictures)
    assert sorted(few_pictures.rglob("*")) == before
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["medrail.yaml"]


def test_a_project_moves_together_with_its_data(tmp_path: Path, few_pictures: Path) -> None:
    _, file = init(tmp_path / "project", few_pictures)
    (tmp_path / "elsewhere").mkdir()
    few_pictures.rename(tmp_path / "elsewhere" / "data")
    file.parent.rename(tmp_path / "elsewhere" / "project")
    moved = tmp_path / "elsewhere" / "project"
    assert len(build_cases(load(moved), Workspace.of_config(moved))) == 6


def test_a_far_path_is_absolute(tmp_path: Path, few_pictures: Path) -> None:
    _, file = init(tmp_path / "a" / "b" / "c" / "project", few_pictures)
    assert load(file).data.path == few_pictures.as_posix()


@pytest.mark.parametrize("name", ["my data: #1", "肺部 CT", "it's", 'a "b"', "- x", "100%", "a\\b"])
def test_odd_folder_names(tmp_path: Path, picture: Maker, name: str) -> None:
    for number in range(6):
        picture(tmp_path / name / ("ill: 1" if number % 2 else "[well]") / f"{number}.png", seed=number)
    made, file = init(tmp_path / f"project {name}", tmp_path / name)
    config = load(file)
    assert config.data.classes == ("[well]", "ill: 1")
    assert len(build_cases(config, Workspace.of_config(file))) == 6
    assert next_command(file.parent, made).startswith("medrail check '")


def test_shares_are_written_even_where_the_data_give_the_splits(tmp_path: Path, picture: Maker) -> None:
    for number in range(12):
        split = "test" if number > 7 else "train"
        picture(tmp_path / "data" / split / ("ill" if number % 2 else "well") / f"{number}.png", seed=number)
    _, file = init(tmp_path / "project", tmp_path / "data")
    text = file.read_text(encoding="utf-8")
    assert "by: given" in text
    assert len(re.findall(r"^  (val|test|seed): .* # counts with by: patient only$", text, re.MULTILINE)) == 3
    file.write_text(text.replace("by: given", "by: patient"), encoding="utf-8")
    cases = build_cases(load(file), Workspace.of_config(file))
    assert {case.split for case in cases} == {"train", "val", "test"}


def test_given_splits_with_a_leaking_patient_are_drawn_anew(tmp_path: Path, picture: Maker) -> None:
    for number in range(12):
        split = ("train", "train", "test")[number % 3]
        label = "ill" if number < 6 else "well"
        picture(tmp_path / "data" / split / label / f"person{number // 2}_{number}.png", seed=number)
    made, file = init(tmp_path / "project", tmp_path / "data")
    config = load(file)
    assert config.split.by == "patient"
    assert any("more than one of the data's own splits" in note for note in made.unsure)
    cases = build_cases(config, Workspace.of_config(file))
    assert len({case.patient for case in cases}) == 6


def test_progress_counts_the_images_read_and_there_are_few(tmp_path: Path, picture: Maker) -> None:
    for number in range(40):
        picture(tmp_path / ("ill" if number % 2 else "well") / f"{number}.png", size=(8, 8), seed=number)
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int, note: str = "") -> None:
        calls.append((done, total))

    plan(tmp_path, progress=progress)
    assert calls == [(n, 24) for n in range(1, 25)]


def test_unreadable_images_are_told_and_do_not_stop_the_plan(tmp_path: Path, few_pictures: Path) -> None:
    (few_pictures / "ill" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    made = plan(few_pictures)
    assert any("ill/broken.png cannot be read" in note for note in made.unsure)


def test_when_nothing_can_be_read_the_error_names_a_file(tmp_path: Path) -> None:
    for label in ("ill", "well"):
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.png").write_bytes(b"no picture at all")
    with pytest.raises(CaseError, match=r"none of 6 sampled images can be read, as ill/0\.png"):
        plan(tmp_path)


@pytest.mark.parametrize("way", ["link", "dots"])
def test_data_behind_a_link_or_dots_is_read_as_it_is(way: str, tmp_path: Path) -> None:
    """The same folder by another name: the layout must not change, as it did when paths were compared as written."""
    real = tmp_path / "real"
    for number in range(6):
        for folder, light in (("images", number), ("masks", 255)):
            (real / folder).mkdir(parents=True, exist_ok=True)
            pixels = np.zeros((32, 40), np.uint8)
            pixels[8:20, 8 + number : 20] = light
            Picture.fromarray(pixels).save(real / folder / f"{number}.png")
    if way == "link":
        path = tmp_path / "link"
        path.symlink_to(real, target_is_directory=True)
    else:
        path = tmp_path / "real" / ".." / "real"
    direct, other = plan(real).config, plan(path).config
    assert direct.data.kind == "pairs"
    assert other.data.model_dump() == direct.data.model_dump()


def test_a_time_budget_is_planned_for_and_kept(tmp_path: Path, few_pictures: Path) -> None:
    made, file = init(tmp_path / "project", few_pictures, minutes=2)
    assert load(file).train.minutes == 2
    assert any("held to 2 minutes" in note for note in made.inferred)
    _, usual = init(tmp_path / "usual", few_pictures)
    assert load(usual).train.minutes == 0
