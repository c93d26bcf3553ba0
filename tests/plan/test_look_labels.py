"""`init` on data in which an image may have several labels: seen, told, and read back as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from medrail.cases import build_cases, class_names
from medrail.config import Config, load
from medrail.plan import Machine, Plan, init, plan
from medrail.workspace import Workspace

Maker = Callable[..., Path]


def made(root: Path, picture: Maker, header: str, cells: list[str]) -> Path:
    rows = [header]
    for number, cell in enumerate(cells):
        picture(root / "images" / f"{number:03d}.png", seed=number)
        rows.append(f"{number:03d}.png,p{number // 2},{cell}")
    (root / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def project(root: Path) -> tuple[Plan, Config, dict[str, str | None]]:
    proposal, path = init(root.parent / "project", root)
    config = load(path)
    cases = build_cases(config, Workspace.of_config(path))
    assert config.data.classes == class_names(config, cases)
    return proposal, config, {case.id: case.target for case in cases}


def test_a_column_that_names_several_labels(tmp_path: Path, picture: Maker) -> None:
    cells = ["Mass|Effusion", "No Finding", "Effusion", "Mass", "No Finding"] * 6
    root = made(tmp_path / "data", picture, "Image Index,Patient ID,Finding Labels", cells)
    proposal, config, targets = project(root)
    assert config.data.multi_label
    assert config.data.classes == ("Effusion", "Mass")
    assert set(targets.values()) == {"Effusion|Mass", "", "Effusion", "Mass"}
    said = " ".join(proposal.inferred)
    assert "'Finding Labels' names several labels an image" in said
    assert "30 images, 12 with none of the labels and 6 with several" in said
    assert ("Labels", "Effusion 12, Mass 12") in proposal.facts


def test_what_stands_for_none_is_recognised(tmp_path: Path, picture: Maker, laptop: Machine) -> None:
    root = made(tmp_path / "data", picture, "path,patient,labels", ["a;b", "normal", "a", "b"] * 6)
    data = plan(root, machine=laptop).config.data
    assert (data.none_label, data.classes) == ("normal", ("a", "b"))


def test_columns_of_zero_and_one(tmp_path: Path, picture: Maker) -> None:
    cells = ["1,0,,-1,60", "0,1,1,,61", "0,0,1,0,62", "0,1,,0,63", "0,1,1,1,64"] * 6
    root = made(tmp_path / "data", picture, "Path,patient,No Finding,Mass,Edema,Fracture,Age", cells)
    proposal, config, targets = project(root)
    assert config.data.label_columns == ("No Finding", "Mass", "Edema", "Fracture")
    assert config.data.classes == ("Mass", "Edema", "Fracture")
    assert (config.data.uncertain, config.data.blank) == ("leave_out", "negative")
    assert len(targets) == 24, "the uncertain ones are left out"
    said = " ".join(proposal.unsure)
    assert "data.uncertain: leave_out" in said
    assert "data.blank: negative" in said
    assert "columns of 0 and 1 were taken for labels (No Finding, Mass, Edema, Fracture)" in said


def test_one_label_an_image_in_columns_is_doubted(tmp_path: Path, picture: Maker, laptop: Machine) -> None:
    root = made(tmp_path / "data", picture, "image,patient,MEL,NV", ["1,0", "0,1"] * 12)
    assert any("exactly one label" in sentence for sentence in plan(root, machine=laptop).unsure)


def test_a_column_of_nothing_that_contradicts_is_left_out(tmp_path: Path, picture: Maker, laptop: Machine) -> None:
    cells = ["1,1,0", "0,1,1", "0,0,1", "1,0,0"] * 6
    root = made(tmp_path / "data", picture, "path,patient,No Finding,Devices,Edema", cells)
    assert plan(root, machine=laptop).config.data.label_columns == ("Devices", "Edema")


def test_a_semicolon_in_a_sentence_makes_no_labels(tmp_path: Path, picture: Maker, laptop: Machine) -> None:
    cells = [f"seen on {n}; no change since {n + 1}" for n in range(24)]
    root = made(tmp_path / "data", picture, "path,patient,label", cells)
    assert not plan(root, machine=laptop).config.data.multi_label


def test_medmnist_with_a_column_a_label(tmp_path: Path, laptop: Machine) -> None:
    rng = np.random.default_rng(0)
    sizes = {"train": 40, "val": 10, "test": 10}
    arrays = {f"{split}_images": rng.integers(0, 255, (n, 28, 28), dtype=np.uint8) for split, n in sizes.items()}
    arrays |= {f"{split}_labels": (rng.random((n, 5)) < 0.3).astype(np.uint8) for split, n in sizes.items()}
    np.savez(tmp_path / "toy.npz", **arrays)
    proposal = plan(tmp_path / "toy.npz", machine=laptop)
    assert proposal.config.data.multi_label
    assert proposal.config.data.classes == tuple("01234")
    assert any("a column a label" in sentence for sentence in proposal.inferred)
    assert any("Write their names into data.classes" in sentence for sentence in proposal.unsure)


def test_columns_of_zero_and_one_beside_class_folders_are_no_labels(
    tmp_path: Path, picture: Maker, laptop: Machine
) -> None:
    rows = ["image,smoker,diabetic"]
    for number in range(24):
        name = f"{('ill', 'well')[number % 2]}/{number:02d}.png"
        picture(tmp_path / "data" / name, seed=number)
        rows.append(f"{name},{number % 3 % 2},{number % 5 % 2}")
    (tmp_path / "data" / "persons.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    made_plan = plan(tmp_path / "data", machine=laptop)
    assert made_plan.config.data.kind == "class_folders"
    assert made_plan.config.data.classes == ("ill", "well")
    assert any("2 columns hold 0 and 1" in sentence for sentence in made_plan.alternatives)


def test_paths_that_begin_with_the_tables_own_folder(tmp_path: Path, picture: Maker, laptop: Machine) -> None:
    """As in CheXpert: one view in each study has the same name, so that the path alone says which is meant."""
    root, rows = tmp_path / "small", ["Path,No Finding,Edema,Mass"]
    for number in range(24):
        name = f"train/patient{number // 2:05d}/study{number % 2}/view1_frontal.jpg"
        picture(root / name, seed=number)
        rows.append(f"small/{name},{int(number % 4 == 0)},{number % 2},{int(number % 4 == 2)}")
    (root / "train.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = plan(root / "train.csv", machine=laptop)
    assert found.cases == 24
    assert found.config.data.classes == ("Edema", "Mass")
