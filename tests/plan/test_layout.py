"""What is seen in folders and files of each layout, and what is said when nothing is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from medrail.errors import CaseError, ConfigError, DataError
from medrail.plan import DRAWINGS, LOOKERS, Layout, look, plan
from medrail.plan.layout import list_entries
from medrail.read.dicom.walk import find_files

Maker = Callable[..., Path]


def seen(layout: Layout) -> dict[str, Any]:
    """The data settings that are not defaults, without the path."""
    values = layout.data.model_dump(exclude_defaults=True)
    values.pop("path")
    return values


def test_every_data_kind_has_a_looker_and_a_drawing() -> None:
    assert list(LOOKERS) == ["csv", "pairs", "dicom_folders", "class_folders", "medmnist", "slides"]
    assert set(DRAWINGS) == set(LOOKERS)


def test_class_folders(tmp_path: Path, picture: Maker) -> None:
    for number in range(4):
        picture(tmp_path / ("ill" if number % 2 else "well") / f"{number}.png", seed=number)
    layout = look(tmp_path)
    assert (layout.task, seen(layout)) == ("classification", {"kind": "class_folders"})
    assert layout.targets == {"ill": 2, "well": 2}
    assert "ill, well" in layout.why


def test_class_folders_below_splits(tmp_path: Path, picture: Maker) -> None:
    for number, split in enumerate(["train", "train", "val", "test"]):
        for label in ("ill", "well"):
            picture(tmp_path / split / label / f"{number}.png", seed=number)
    layout = look(tmp_path)
    assert seen(layout) == {"kind": "class_folders"}
    assert {entry.split for entry in layout.entries} == {"train", "val", "test"}
    assert layout.targets == {"ill": 4, "well": 4}


def test_the_only_folder_of_an_unpacked_archive_is_entered(tmp_path: Path, picture: Maker) -> None:
    for number in range(4):
        picture(tmp_path / "archive" / ("ill" if number % 2 else "well") / f"{number}.png", seed=number)
    assert look(tmp_path).data.path == str(tmp_path / "archive")


def test_a_table_of_labels(tmp_path: Path, picture: Maker) -> None:
    rows = ["path,label,patient,split"]
    for number in range(4):
        picture(tmp_path / "files" / f"{number}.png", seed=number)
        rows.append(f"files/{number}.png,{'ill' if number % 2 else 'well'},p{number},train")
    (tmp_path / "all.csv").write_text("\n".join(rows), encoding="utf-8")
    layout = look(tmp_path)
    assert (layout.task, seen(layout)) == ("classification", {"kind": "csv"})
    assert layout.data.path == str(tmp_path / "all.csv")
    assert layout.entries[0].patient == "p0"
    assert look(tmp_path / "all.csv").data == layout.data


def test_a_table_that_names_images_by_number(tmp_path: Path, picture: Maker) -> None:
    rows = ["image ID;class label"]
    for number in (1, 2, 3, 4):
        picture(tmp_path / "files" / f"{number:03d}.png", seed=number)
        rows.append(f"{number};{number % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    assert seen(look(tmp_path)) == {"kind": "csv", "pattern": "files/*"}


def test_a_table_of_masks(tmp_path: Path, picture: Maker, picture_mask: Maker) -> None:
    rows = ["image,mask"]
    for number in range(3):
        picture(tmp_path / f"x{number}.png", seed=number)
        picture_mask(tmp_path / "outlines" / f"y{number}.png")
        rows.append(f"x{number}.png,outlines/y{number}.png")
    (tmp_path / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    layout = look(tmp_path)
    assert (layout.task, seen(layout)) == ("segmentation", {"kind": "csv"})
    assert len(layout.entries) == 3


@pytest.mark.parametrize(
    ("image", "mask", "wanted"),
    [
        ("images/{}.png", "masks/{}.png", {"mask_path": "masks"}),
        ("images/{}.png", "masks/{}_mask.png", {"mask_path": "masks", "mask_suffix": "_mask"}),
        ("{}.png", "{}_mask.png", {"mask_suffix": "_mask"}),
        ("{}.png", "GT/{}.png", {"mask_path": "GT"}),
        ("train/images/{}.png", "train/masks/{}.png", {"mask_path": "train/masks"}),
        ("p{0}/p{0}.png", "p{0}/p{0}_seg.png", {"mask_suffix": "_seg"}),
    ],
)
def test_pairs_by_folder_or_suffix(
    tmp_path: Path, picture: Maker, picture_mask: Maker, image: str, mask: str, wanted: dict[str, str]
) -> None:
    for number in range(3):
        picture(tmp_path / image.format(number), seed=number)
        picture_mask(tmp_path / mask.format(number))
    layout = look(tmp_path)
    assert (layout.task, seen(layout)) == ("segmentation", {"kind": "pairs", **wanted})
    assert layout.table is None
    assert len(layout.entries) == 3


def test_nnunets_folders(tmp_path: Path, volume: Maker, volume_mask: Maker) -> None:
    for number in range(2):
        volume(tmp_path / "imagesTr" / f"c_{number}_0000.nii.gz")
        volume(tmp_path / "imagesTs" / f"c_{number + 5}_0000.nii.gz")
        volume_mask(tmp_path / "labelsTr" / f"c_{number}.nii.gz")
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background", "1": "atrium"}}', encoding="utf-8")
    layout = look(tmp_path)
    assert seen(layout) == {"kind": "pairs", "mask_path": "labelsTr", "pattern": "imagesTr/*"}
    assert layout.label_names == ((0, "background"), (1, "atrium"))


def test_splits_above_images_and_masks(tmp_path: Path, picture: Maker, picture_mask: Maker) -> None:
    for split in ("train", "val", "test"):
        picture(tmp_path / split / "images" / "a.png", seed=len(split))
        picture_mask(tmp_path / split / "masks" / "a.png")
    layout = look(tmp_path)
    assert seen(layout) == {"kind": "pairs", "mask_path": "masks"}
    assert sorted(str(entry.split) for entry in layout.entries) == ["test", "train", "val"]


def test_pairs_that_no_rule_describes_become_a_table(tmp_path: Path, volume: Maker, volume_mask: Maker) -> None:
    for patient in ("ann", "bob"):
        volume(tmp_path / patient / "t1_image.nii.gz")
        volume_mask(tmp_path / patient / "lesion_label.nii.gz")
    layout = look(tmp_path)
    assert (layout.data.kind, layout.data.path) == ("csv", "images.csv")
    assert layout.table is not None
    assert layout.table.header == ("path", "mask", "patient")
    assert [row[2] for row in layout.table.rows] == ["ann", "bob"]
    assert any("images.csv" in note for note in layout.unsure)


def test_images_without_mask_are_left_out_and_told(tmp_path: Path, picture: Maker, picture_mask: Maker) -> None:
    for number in range(3):
        picture(tmp_path / "images" / f"{number}.png", seed=number)
    picture_mask(tmp_path / "masks" / "0.png")
    picture_mask(tmp_path / "masks" / "1.png")
    layout = look(tmp_path)
    assert len(layout.entries) == 2
    assert any(note.startswith("1 image has no mask and is left out (images/2.png)") for note in layout.unsure)


def test_dicom_folders_with_labels(tmp_path: Path, series: Maker) -> None:
    for number, patient in enumerate(["a1", "a2", "a3"]):
        series(tmp_path / patient, slices=3, seed=number)
    (tmp_path / "findings.csv").write_text("patient,label\na1,ill\na2,well\na3,ill\n", encoding="utf-8")
    layout = look(tmp_path)
    assert (layout.task, seen(layout)) == ("classification", {"kind": "dicom_folders", "labels": "findings.csv"})
    assert layout.targets == {"ill": 2, "well": 1}


def test_dicom_folders_with_a_folder_of_masks(tmp_path: Path, series: Maker, volume_mask: Maker) -> None:
    for number, patient in enumerate(["a1", "a2"]):
        series(tmp_path / patient, slices=3, seed=number)
        volume_mask(tmp_path / "masks" / f"{patient}.nii.gz")
    layout = look(tmp_path)
    assert (layout.task, seen(layout)) == ("segmentation", {"kind": "dicom_folders", "mask_path": "masks"})


def test_dicom_folders_with_a_mask_inside(tmp_path: Path, series: Maker, volume_mask: Maker) -> None:
    for number, patient in enumerate(["a1", "a2"]):
        series(tmp_path / patient / "scan", slices=3, seed=number)
        volume_mask(tmp_path / patient / "liver.nii.gz")
    layout = look(tmp_path)
    assert (layout.task, seen(layout)) == ("segmentation", {"kind": "dicom_folders", "labels": "labels.csv"})
    assert layout.table is not None
    assert [row[0] for row in layout.table.rows] == ["a1", "a2"]


def test_dicom_folders_without_labels_ask_for_them(tmp_path: Path, series: Maker) -> None:
    for number, patient in enumerate(["a1", "a2"]):
        series(tmp_path / patient, slices=3, seed=number)
    layout = look(tmp_path)
    assert layout.data.kind == "dicom_folders"
    assert layout.table is not None
    assert layout.table.needs_filling
    assert layout.table.rows == (("a1", ""), ("a2", ""))
    assert "fill in" in layout.unsure[0]


def test_single_dicom_pictures_in_folders_are_classes(tmp_path: Path, series: Maker) -> None:
    for number in range(4):
        one = series(tmp_path / "made" / str(number), slices=1, seed=number)
        folder = tmp_path / "data" / ("ill" if number % 2 else "well")
        folder.mkdir(parents=True, exist_ok=True)
        next(one.iterdir()).rename(folder / f"{number}.dcm")
    assert seen(look(tmp_path / "data")) == {"kind": "class_folders"}


def test_folders_of_patients_below_classes(tmp_path: Path, series: Maker) -> None:
    for number in range(10):
        series(tmp_path / ("ill" if number % 2 else "well") / f"p{number}", slices=2, seed=number)
    layout = look(tmp_path)
    assert seen(layout) == {"kind": "class_folders"}
    assert layout.targets == {"ill": 5, "well": 5}


def test_medmnist(tmp_path: Path) -> None:
    path = tmp_path / "toy.npz"
    arrays = {f"{split}_images": np.zeros((3, 28, 28), np.uint8) for split in ("train", "val", "test")}
    labels = {f"{split}_labels": np.array([[0], [1], [1]], np.uint8) for split in ("train", "val", "test")}
    np.savez(path, **arrays, **labels)
    for place in (tmp_path, path):
        layout = look(place)
        assert seen(layout) == {"kind": "medmnist"}
        assert layout.data.path == str(path)
        assert layout.targets == {"0": 3, "1": 6}


def test_masks_and_labels_both_there_masks_are_taken_and_the_other_is_told(
    tmp_path: Path, picture: Maker, picture_mask: Maker
) -> None:
    rows = ["image,label"]
    for number in range(4):
        picture(tmp_path / "images" / f"{number}.png", seed=number)
        picture_mask(tmp_path / "masks" / f"{number}.png")
        rows.append(f"{number},{number % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    layout = look(tmp_path)
    assert layout.task == "segmentation"
    assert len(layout.alternatives) == 1
    assert f"medrail init DIR --data {tmp_path / 'labels.csv'}" in layout.alternatives[0]
    assert look(tmp_path, "classification").data.kind == "csv"


def test_names_with_glob_letters(tmp_path: Path, picture: Maker, picture_mask: Maker) -> None:
    picture(tmp_path / "a [1]" / "images" / "x.png")
    picture_mask(tmp_path / "a [1]" / "masks" / "x.png")
    picture(tmp_path / "a [1]" / "other" / "y.png")
    layout = look(tmp_path / "a [1]")
    assert seen(layout) == {"kind": "pairs", "mask_path": "masks", "pattern": "images/*"}


def _nothing(folder: Path) -> str:
    return "found no file"


def _flat_pictures(folder: Path) -> str:
    from PIL import Image as Pillow

    Pillow.new("L", (8, 8)).save(folder / "a.png")
    Pillow.new("L", (8, 8)).save(folder / "b.png")
    return "Neither labels nor masks could be told for 2 images"


def _archive(folder: Path) -> str:
    (folder / "scans.zip").write_bytes(b"PK")
    return "Unpack scans.zip first"


def _other_table(folder: Path) -> str:
    (folder / "ages.csv").write_text("id,age\n1,70\n", encoding="utf-8")
    return "ages.csv does not name images together with labels or masks"


@pytest.mark.parametrize("fill", [_nothing, _archive, _other_table])
def test_a_folder_without_images_is_told_in_a_line(tmp_path: Path, fill: Callable[[Path], str]) -> None:
    wanted = fill(tmp_path)
    with pytest.raises(CaseError) as caught:
        look(tmp_path)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_image_is_no_data_set_and_told_in_a_line(tmp_path: Path, picture: Maker, volume: Maker) -> None:
    with pytest.raises(CaseError, match=r"found 1 picture, only a\.png;[^\n]*$"):
        look(picture(tmp_path / "alone" / "a.png").parent)
    with pytest.raises(CaseError, match=r"v\.nii\.gz: one image only \(nifti\);[^\n]*Give the folder[^\n]*$"):
        look(volume(tmp_path / "v.nii.gz"))
    (tmp_path / "scans.zip").write_bytes(b"PK")
    with pytest.raises(CaseError, match=r"Unpack scans\.zip first\.$"):
        look(tmp_path / "scans.zip")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(CaseError, match=r"neither an image, nor a CSV of images, nor a MedMNIST npz;[^\n]*$"):
        look(tmp_path / "notes.txt")


def test_a_folder_of_images_in_no_known_layout_draws_the_layouts(tmp_path: Path) -> None:
    wanted = _flat_pictures(tmp_path)
    with pytest.raises(CaseError) as caught:
        look(tmp_path)
    text = str(caught.value)
    assert wanted in text
    for drawing in DRAWINGS.values():
        assert drawing.title in text
        assert drawing.text.splitlines()[0].strip() in text


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("id,age\n1,70\n", "without a column for the images' paths; its columns are 'id', 'age'"),
        ("path,age\nx.png,70\n", "without a column for labels or masks"),
        ("path,label\n", "without rows"),
        ("path,label\nx.png,ill\n", "there is no 'x.png'"),
        ("", "empty"),
    ],
)
def test_a_table_that_is_none_of_images(tmp_path: Path, content: str, wanted: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=wanted):
        look(path)


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        look(tmp_path / "absent")


def test_a_task_that_the_data_cannot_serve(tmp_path: Path, picture: Maker, picture_mask: Maker) -> None:
    picture(tmp_path / "images" / "a.png")
    picture_mask(tmp_path / "masks" / "a.png")
    with pytest.raises(CaseError, match=r"no classification in this folder, but segmentation"):
        look(tmp_path, "classification")


def test_measurements_in_the_label_column_are_questioned(tmp_path: Path, picture: Maker) -> None:
    rows = ["path,label"]
    for number in range(12):
        picture(tmp_path / f"{number}.png", size=(8, 8), seed=number)
        rows.append(f"{number}.png,{number * 1.5}")
    (tmp_path / "ages.csv").write_text("\n".join(rows), encoding="utf-8")
    assert any("are they classes?" in note for note in look(tmp_path).unsure)


@pytest.mark.parametrize("with_roi", [0, 3, 4])
def test_regions_of_interest_in_a_table_are_pointed_out(tmp_path: Path, picture: Maker, with_roi: int) -> None:
    rows = ["path,label,roi"]
    for number in range(4):
        picture(tmp_path / f"{number}.png", seed=number)
        picture(tmp_path / "rois" / f"{number}.png", seed=9)
        rows.append(f"{number}.png,{'ab'[number % 2]},{f'rois/{number}.png' if number < with_roi else ''}")
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    notes = [note for note in plan(tmp_path / "t.csv").inferred if "roi" in note]
    share = " (3 of 4 rows have one)" if with_roi == 3 else ""
    assert notes == ([f"column roi{share}: add the step crop_roi to prepare.steps to crop to it"] if with_roi else [])


def rename(folder: Path, patient: str, study: str = "") -> None:
    """Another patient and study in all headers of a folder."""
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.PatientName = patient, patient
        dataset.StudyInstanceUID = study or generate_uid(entropy_srcs=[patient, "study"])
        dataset.save_as(path)


def test_a_class_of_few_patients_is_a_class_by_their_headers(tmp_path: Path, series: Maker) -> None:
    for number in range(6):
        folder = series(tmp_path / ("ill" if number % 2 else "well") / f"p{number}", slices=2, seed=number)
        rename(folder, f"K{number}")
    layout = look(tmp_path)
    assert seen(layout) == {"kind": "class_folders"}
    assert layout.targets == {"ill": 3, "well": 3}
    assert not any("taken for" in note for note in layout.unsure)


@pytest.mark.parametrize("told_by", ["patient", "study"])
def test_series_of_patients_are_no_classes_by_their_headers(tmp_path: Path, series: Maker, told_by: str) -> None:
    for number in range(12):
        folder = series(tmp_path / f"p{number // 6}" / f"scan{number}", slices=2, seed=number)
        by_patient = told_by == "patient"
        study = generate_uid(entropy_srcs=[str(number if by_patient else number // 6)])
        rename(folder, f"K{number // 6}" if by_patient else "ANONYMOUS", study)
    layout = look(tmp_path)
    assert layout.data.kind == "dicom_folders"
    assert layout.table is not None
    assert [row[0] for row in layout.table.rows] == ["p0", "p1"]


def test_headers_that_say_nothing_leave_a_doubt(tmp_path: Path, series: Maker) -> None:
    for number in range(4):
        series(tmp_path / "two" / ("ill" if number % 2 else "well") / f"p{number}", slices=2, seed=number)
        series(tmp_path / "three" / ("ill" if number % 2 else "well") / f"p{number}" / "one", slices=2, seed=number)
    layout = look(tmp_path / "two")
    assert seen(layout) == {"kind": "class_folders"}
    assert any("is taken for CLASS/PATIENT/" in note for note in layout.unsure)
    layout = look(tmp_path / "three")
    assert layout.data.kind == "dicom_folders"
    assert any("taken for patients" in note for note in layout.unsure)


def test_a_table_that_is_yet_to_be_written_is_called_as_it_will_be(
    tmp_path: Path, series: Maker, volume_mask: Maker
) -> None:
    for number, patient in enumerate(["a1", "a2", "a3"]):
        series(tmp_path / patient, slices=3, seed=number)
    for patient in ("a1", "a2"):
        volume_mask(tmp_path / patient / "liver.nii.gz")
    layout = look(tmp_path)
    assert any("Add a row to labels.csv" in note for note in layout.unsure)
    said = " ".join([*layout.unsure, *(entry.where for entry in layout.entries)])
    assert "labels.csv, line 2" in said
    assert "/labels.csv" not in said


def test_links_are_followed_once_and_alike_everywhere(tmp_path: Path, series: Maker) -> None:
    root = tmp_path / "data"
    series(tmp_path / "elsewhere", slices=3, seed=1)
    series(root / "p1", slices=3, seed=2)
    (root / "a-link").symlink_to(root / "p1")
    (root / "p2").symlink_to(tmp_path / "elsewhere")
    (root / "p1" / "loop").symlink_to(root)
    layout = look(root)
    assert layout.table is not None
    assert [row[0] for row in layout.table.rows] == ["p1", "p2"]
    table = tmp_path / "labels.csv"
    table.write_text("patient,label\np1,ill\np2,well\n", encoding="utf-8")
    found = list_entries("classification", layout.data.model_copy(update={"labels": str(table)}))
    assert found is not None
    assert [entry.patient for entry in found.entries] == ["p1", "p2"]
    assert [(one.defect, Path(one.where).name, one.severity) for one in found.findings] == [
        ("ignored_file", "a-link", "warn")
    ]
    assert {path.parent.name for path in find_files(root)} == {"p1", "p2"}
