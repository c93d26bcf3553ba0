"""What is planned for real data, with the traps that each set holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medrail.cases import build_cases, check_data, read_target_mask
from medrail.config import Config, load
from medrail.errors import CaseError
from medrail.plan import Plan, init, look, plan
from medrail.prepare import Pipeline
from medrail.read import read
from medrail.workspace import Workspace

pytestmark = pytest.mark.shared


def project(folder: Path, data: Path) -> tuple[Plan, Config, Workspace]:
    made, file = init(folder / "project", data)
    return made, load(file), Workspace.of_config(file)


def said(notes: list[str], *words: str) -> bool:
    return any(all(word in note for word in words) for note in notes)


def prepared_size(config: Config, workspace: Workspace) -> tuple[int, ...]:
    """Of the first case, which must have what the network needs."""
    case = build_cases(config, workspace)[0]
    raw = read(case.paths[0], case.item)
    image = Pipeline.from_dict(config.prepare.steps)(raw)
    assert image.channels == config.model.channels
    if config.task == "segmentation":
        read_target_mask(case, raw, config.data)
    return image.grid


def test_chest_xray_patients_leak_between_the_given_splits(tmp_path: Path, shared_data: Path) -> None:
    made, config, workspace = project(tmp_path, shared_data / "chestxray")
    assert (config.task, config.data.kind, config.data.classes) == (
        "classification",
        "class_folders",
        ("NORMAL", "PNEUMONIA"),
    )
    assert said(made.unsure, "into", "patients")
    assert said(made.unsure, "more than one of the data's own splits")
    assert config.split.by == "patient"
    assert (config.model.channels, config.train.augment.flip) == (1, ())
    cases = build_cases(config, workspace)
    assert len(cases) == 360
    persons = [case.patient for case in cases if Path(case.paths[0]).name.startswith("person347_")]
    assert persons == ["person347"] * 3
    assert dict(made.facts)["Classes"] == "NORMAL 180, PNEUMONIA 180"
    prepared_size(config, workspace)


def test_pneumonia28(tmp_path: Path, shared_data: Path) -> None:
    made, config, workspace = project(tmp_path, shared_data / "pneumonia28")
    assert (config.data.kind, config.split.by, config.data.classes) == ("medmnist", "given", ("0", "1"))
    assert said(made.unsure, "what do they mean")
    assert prepared_size(config, workspace) == (1, 28, 28)
    assert [step["kind"] for step in config.prepare.steps] == ["rgb_to_grey", "resize", "normalise"]


def test_nuclei_masks_are_instances_and_the_index_is_no_case_table(tmp_path: Path, shared_data: Path) -> None:
    made, config, workspace = project(tmp_path, shared_data / "nuclei")
    assert (config.task, config.data.kind, config.data.mask_path) == ("segmentation", "pairs", "masks")
    assert config.data.foreground_nonzero
    assert said(made.unsure, "number their objects")
    assert config.train.augment.flip == ("H", "W")
    assert len(build_cases(config, workspace)) == 220
    prepared_size(config, workspace)
    with pytest.raises(CaseError, match="its columns are 'id', 'width', 'height', 'nuclei'"):
        look(shared_data / "nuclei" / "index.csv")


def test_stray_values_in_masks_of_white_blood_cells_are_no_classes(tmp_path: Path, shared_data: Path) -> None:
    made, config, workspace = project(tmp_path, shared_data / "wbc" / "dataset2")
    assert config.data.mask_values == (0, 128, 255)
    assert said(made.unsure, "an error?")
    report = check_data(config, workspace)
    assert report.defects == {"mask_values": 5, "patient_unknown": 1, "unusable_cases": 1}


def test_white_blood_cells_can_be_segmented_or_classified(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "wbc" / "dataset1"
    made, config, workspace = project(tmp_path, folder)
    assert (config.task, config.data.mask_values) == ("segmentation", (0, 128, 255))
    assert said(made.unsure, "classification is possible too", f"--data {folder / 'labels.csv'}")
    prepared_size(config, workspace)
    other = plan(folder / "labels.csv")
    assert (other.config.task, other.config.data.pattern) == ("classification", "images/*")
    assert said(other.unsure, "class 5", "fewer than three")


def test_colin27s_brain_is_an_image_and_not_a_mask(tmp_path: Path, shared_data: Path) -> None:
    made, config, _ = project(tmp_path, shared_data / "brain" / "colin27")
    assert (config.data.pattern, config.data.mask_suffix) == ("ch2.nii.gz", "bet")
    assert config.data.foreground_nonzero
    assert said(made.unsure, "grey values", "Are these masks?")
    assert said(made.unsure, "guessed", "ch2bet.nii.gz")
    assert said(made.unsure, "one patient only")
    assert [step["kind"] for step in config.prepare.steps][-2:] == ["slices", "round"]


def test_a_single_pair_with_a_true_mask(tmp_path: Path, shared_data: Path) -> None:
    made, config, _ = project(tmp_path, shared_data / "brain" / "mni152")
    assert config.data.mask_suffix == "_brain_mask"
    assert config.data.classes == ("background", "foreground")
    assert not said(made.unsure, "guessed")


def test_dicom_series_without_labels(tmp_path: Path, shared_data: Path) -> None:
    made, config, workspace = project(tmp_path, shared_data / "dicom")
    assert (config.data.kind, config.data.labels) == ("dicom_folders", "labels.csv")
    assert said(made.unsure, "neither labels nor masks")
    table = (workspace.root / "labels.csv").read_text(encoding="utf-8")
    assert table.splitlines()[:3] == ["patient,label", "ct_ge_17,", "ct_j2k_siemens_20,"]
    assert said(made.unsure, "CT, MR and X-ray mixed")
    assert not said(made.unsure, "do not say what kind")


def test_one_dicom_series_alone_is_no_data_set(shared_data: Path) -> None:
    with pytest.raises(CaseError, match="17 DICOM files"):
        look(shared_data / "dicom" / "ct_ge_17")


@pytest.mark.parametrize(
    ("folder", "facts"),
    [
        ("ct", {"Masks": "0, 5 in 1 mask; 10.5% of an image is foreground", "Spacing": "3 x 3 x 3 mm"}),
        ("nrrd", {"Masks": "0, 1 in 1 mask", "Spacing": "6.5 x 0.78 x 0.78 mm"}),
    ],
)
def test_pairs_of_other_names(tmp_path: Path, shared_data: Path, folder: str, facts: dict[str, Any]) -> None:
    made, config, workspace = project(tmp_path, shared_data / folder)
    assert (config.data.kind, config.data.path) == ("csv", "images.csv")
    for name, beginning in facts.items():
        assert dict(made.facts)[name].startswith(beginning)
    assert len((workspace.root / "images.csv").read_text(encoding="utf-8").splitlines()) == 2
    assert [step["kind"] for step in config.prepare.steps][-2:] == ["slices", "round"]


def test_a_slide_alone_is_told_to_be_unknown(shared_data: Path) -> None:
    with pytest.raises(CaseError, match="no layout that medrail knows"):
        look(shared_data / "slides")
