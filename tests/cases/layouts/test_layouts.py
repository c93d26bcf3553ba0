"""Each layout gives the cases it should, and says everything that is wrong at once."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from medrail.cases import LAYOUTS, build_cases, check_cases
from medrail.cases.index import index_cases
from medrail.config import Config
from medrail.errors import CaseError, ConfigError, CorruptFile, LeakError, MedrailError
from medrail.read import read
from medrail.types import Case
from medrail.workspace import Workspace

Configure = Callable[..., Config]
Write = Callable[..., Path]

SEGMENTATION = {"classes": ["background", "cell"], "foreground_nonzero": True}


def slices(folder: Path, count: int, series: str = "1.2.3", patient: str = "") -> None:
    """A small CT series; without ``patient`` of the one that pydicom's file names."""
    folder.mkdir(parents=True, exist_ok=True)
    series = f"{series}.{zlib.crc32(bytes(folder))}"
    for n in range(count):
        dataset = get_testdata_file("CT_small.dcm", read=True)
        dataset.StudyInstanceUID = f"{series}.99"
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = series, f"{series}.{n}"
        dataset.ImagePositionPatient = [0, 0, 5.0 * n]
        dataset.PatientID = patient or dataset.PatientID
        dataset.save_as(folder / f"{n}.dcm")


def by_id(cases: tuple[Case, ...]) -> dict[str, Case]:
    return {case.id: case for case in cases}


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_missing_place_is_one_error_with_its_path(
    kind: str, task: str, tmp_path: Path, configure: Configure, workspace: Workspace
) -> None:
    data = {"kind": kind, "path": str(tmp_path / "nowhere"), "mask_path": "m", "labels": "l.csv"}
    config = configure(task, data | (SEGMENTATION if task == "segmentation" else {}))
    with pytest.raises(MedrailError) as caught:
        build_cases(config, workspace)
    text = str(caught.value)
    assert "nowhere" in text or "needed: task" in text


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
def test_a_missing_place_is_shown_as_it_stands_in_the_configuration(
    kind: str, configure: Configure, workspace: Workspace
) -> None:
    task = "segmentation" if kind == "pairs" else "classification"
    data = {"kind": kind, "path": "../somewhere/else", "mask_path": "m", "labels": "l.csv"}
    with pytest.raises(MedrailError, match=r"stands as '\.\./somewhere/else', relative to the folder of medrail\.yaml"):
        build_cases(configure(task, data | (SEGMENTATION if task == "segmentation" else {})), workspace)


def test_one_empty_cell_for_a_patient_with_several_series_is_one_finding(
    tmp_path: Path, configure: Configure, workspace: Workspace
) -> None:
    for number in range(3):
        slices(tmp_path / "p1" / f"s{number}", 2, series=f"1.2.{number}")
    (tmp_path / "labels.csv").write_text("patient,label\np1,\n")
    config = configure("classification", {"kind": "dicom_folders", "path": str(tmp_path), "labels": "labels.csv"})
    assert [finding.defect for finding in index_cases(config, workspace).findings] == ["unlabelled"]


def test_ids_of_images_far_from_their_table_begin_below_the_images_folder(
    tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
) -> None:
    paths = [picture(tmp_path / "data" / name / "1.png", n) for n, name in enumerate(("a", "b", "c"))]
    table = tmp_path / "project" / "images.csv"
    table.parent.mkdir()
    table.write_text("\n".join(["path,label", *(f"{path},A" for path in paths)]))
    config = configure("classification", {"kind": "csv", "path": str(table)})
    assert [case.id for case in index_cases(config, workspace).cases] == ["a-1", "b-1", "c-1"]
    near = picture(table.parent / "a" / "1.png", 9)  # now all of them lie below tmp_path only
    with table.open("a") as file:
        file.write(f"\n{near.relative_to(table.parent)},A\n")
    ids = [case.id for case in index_cases(config, workspace).cases]
    assert ids == ["data-a-1", "data-b-1", "data-c-1", "project-a-1"]


class TestClassFolders:
    def test_classes_are_folders(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for name in ("A", "B"):
            for n in range(6):
                picture(tmp_path / name / "deep" / f"{n}.png", n)
        (tmp_path / "A" / "notes.txt").write_text("no image")
        (tmp_path / "A" / ".DS_Store").write_bytes(b"\0")
        cases = build_cases(configure("classification", {"kind": "class_folders", "path": str(tmp_path)}), workspace)
        assert Counter(case.target for case in cases) == {"A": 6, "B": 6}
        assert {case.split for case in cases} == {"train", "val", "test"}
        assert cases[0].id == "A-deep-0"
        assert cases[0].patient == cases[0].id
        assert cases[0].paths == (str(tmp_path / "A" / "deep" / "0.png"),)

    @pytest.mark.parametrize(
        ("folders", "split_first"),
        [(("train", "val", "test"), True), (("Training", "VALID", "testing"), True), (("train", "dev", "test"), False)],
    )
    def test_split_folders_are_given_splits(
        self,
        folders: tuple[str, str, str],
        split_first: bool,
        tmp_path: Path,
        picture: Write,
        configure: Configure,
        workspace: Workspace,
    ) -> None:
        for n, folder in enumerate(folders):
            for name in ("A", "B"):
                top = tmp_path / folder / name if split_first else tmp_path / name / folder
                picture(top / "1.png", n)
        data = {"kind": "class_folders", "path": str(tmp_path)}
        cases = build_cases(configure("classification", data, split={"by": "given"}), workspace)
        assert Counter((case.split, case.target) for case in cases) == {
            (split, name): 1 for split in ("train", "val", "test") for name in ("A", "B")
        }

    def test_a_class_may_be_called_test(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for n, name in enumerate(("test", "control") * 4):
            picture(tmp_path / name / f"eye{n}" / "1.png", n)
        cases = build_cases(configure("classification", {"kind": "class_folders", "path": str(tmp_path)}), workspace)
        assert {case.target for case in cases} == {"test", "control"}

    def test_images_outside_and_unknown_classes_are_all_named(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        stray = picture(tmp_path / "stray.png")
        for n in range(3):
            picture(tmp_path / "PNEUMONIA" / f"{n}.png", n)
            picture(tmp_path / "Normal" / f"{n}.png", n + 10)
        data = {"kind": "class_folders", "path": str(tmp_path), "classes": ["NORMAL", "PNEUMONIA"]}
        with pytest.raises(CaseError) as caught:
            build_cases(configure("classification", data), workspace)
        text = str(caught.value)
        assert "2 things are wrong" in text
        assert f"{stray}: the image lies in no class folder" in text
        assert f"{tmp_path / 'Normal'}: the class is called 'Normal' here, and 'NORMAL' in data.classes" in text
        assert "Write 'Normal' into data.classes, or rename it." in text

    def test_segmentation_is_refused(self, tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
        config = configure("segmentation", {"kind": "class_folders", "path": str(tmp_path), **SEGMENTATION})
        with pytest.raises(ConfigError, match="pairs or csv"):
            build_cases(config, workspace)

    def test_a_file_of_no_format_is_said_and_left_out(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for n in range(3):
            picture(tmp_path / "A" / f"{n}.png", n)
        (tmp_path / "A" / "what").write_bytes(b"neither this nor that" * 20)
        index = index_cases(configure("classification", {"kind": "class_folders", "path": str(tmp_path)}), workspace)
        assert len(index.cases) == 3
        assert [(finding.defect, Path(finding.where).name) for finding in index.findings] == [("ignored_file", "what")]

    def test_slices_in_a_folder_are_one_case(self, tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
        for n, patient in enumerate(("p1", "p2", "p3")):
            slices(tmp_path / "A" / patient / "scan", 3, patient=patient)
            slices(tmp_path / "B" / f"q{n}", 1, patient=f"q{n}")
        data = {"kind": "class_folders", "path": str(tmp_path)}
        cases = build_cases(configure("classification", data), workspace)
        assert [(case.id, case.paths[0]) for case in cases] == [
            *((f"A-p{n}-scan", str(tmp_path / "A" / f"p{n}" / "scan")) for n in (1, 2, 3)),
            *((f"B-q{n}-0", str(tmp_path / "B" / f"q{n}" / "0.dcm")) for n in (0, 1, 2)),
        ]
        assert [read(case.paths[0], case.item).grid[0] for case in cases] == [3, 3, 3, 1, 1, 1]


class TestPatients:
    def test_the_pattern_groups(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for n in range(12):
            picture(tmp_path / "A" / f"person{n % 4}_{n}.png", n)
        data = {"kind": "class_folders", "path": str(tmp_path), "patient_pattern": r"(person\d+)_"}
        cases = build_cases(configure("classification", data), workspace)
        assert {case.patient for case in cases} == {f"person{n}" for n in range(4)}

    def test_one_patient_in_two_given_splits_is_refused(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for split, n in (("train", 1), ("test", 1), ("train", 2), ("val", 3), ("test", 4)):
            picture(tmp_path / split / "A" / f"person{n}_{split}.png", n)
        data = {"kind": "class_folders", "path": str(tmp_path), "patient_pattern": r"(person\d+)_"}
        with pytest.raises(LeakError, match=r"person1_test\.png") as caught:
            build_cases(configure("classification", data, split={"by": "given"}), workspace)
        assert "person2" not in str(caught.value)
        regrouped = build_cases(configure("classification", data), workspace)
        assert len({case.split for case in regrouped if case.patient == "person1"}) == 1

    @pytest.mark.parametrize(("pattern", "message"), [("person(", "not a regular"), (r"person\d+", "has no group")])
    def test_a_wrong_pattern_is_a_config_error(
        self, pattern: str, message: str, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        picture(tmp_path / "A" / "1.png")
        data = {"kind": "class_folders", "path": str(tmp_path), "patient_pattern": pattern}
        with pytest.raises(ConfigError, match=message):
            build_cases(configure("classification", data), workspace)

    def test_a_pattern_that_fits_nothing_is_refused(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        picture(tmp_path / "A" / "1.png")
        data = {"kind": "class_folders", "path": str(tmp_path), "patient_pattern": "(person)"}
        with pytest.raises(CaseError, match="fits none of 1 name"):
            build_cases(configure("classification", data), workspace)


class TestCsv:
    def test_columns_have_many_names(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for n in range(3):
            picture(tmp_path / "images" / f"bild, {n} é.png", n)
        lines = ["Image Name;Class Label;Subject ID;Set"]
        lines += [f'"images/bild, {n} é.png";good;s{n};{split}' for n, split in enumerate(("Train", "VAL", "test"))]
        table = tmp_path / "list.csv"
        table.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
        data = {"kind": "csv", "path": str(table)}
        cases = build_cases(configure("classification", data, split={"by": "given"}), workspace)
        assert [(case.patient, case.split, case.target) for case in cases] == [
            ("s0", "train", "good"),
            ("s1", "val", "good"),
            ("s2", "test", "good"),
        ]
        assert cases[0].id == "images-bild-0-é"

    def test_every_bad_row_is_named_with_its_line(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for n in range(6):
            picture(tmp_path / "images" / f"scan{n}.png", n)
        table = tmp_path / "list.csv"
        table.write_text(
            "path,label,split,id\n"
            "images/scan0.png,A,train,one\n"
            "images/scam1.png,A,train,\n"
            "images/scan2.png,,train,\n"
            "images/scan3.png,B,tain,\n"
            "images/scan0.png,A,train,\n"
            "scan4.png,A,val,\n"
            ",A,val,\n"
            "images/scan5.png,Bb,test,one\n"
            '"images/scan5.png",A,test,a/b\n'
        )
        data = {"kind": "csv", "path": str(table), "classes": ["A", "B"]}
        with pytest.raises(CaseError) as caught:
            build_cases(configure("classification", data), workspace)
        text = str(caught.value)
        for line, message in {
            3: "there is no file 'images/scam1.png'. Did you mean 'images/scan1.png'?",
            4: "no label. Fill the column 'label' or delete the row",
            5: "'tain' in the column 'split' is no split. Did you mean 'train'?",
            6: "this image stands in line 2 already",
            7: "there is no file 'scan4.png'. Is 'images/scan4.png' meant?",
            8: "the column 'path' is empty",
            9: "this id stands in line 2 already",
            10: "'a/b' is no safe file name. Write 'a-b', for example",
        }.items():
            assert f"{table}, line {line}: {message}" in text
        assert "line 2:" not in text

    def test_an_unknown_class_has_its_line(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        table = tmp_path / "list.csv"
        table.write_text(
            "path,label\n" + "".join(f"{picture(tmp_path / f'{n}.png', n)},{('A_B', 'a b')[n]}\n" for n in range(2))
        )
        data = {"kind": "csv", "path": str(table), "classes": ["A_B", "C"]}
        with pytest.raises(CaseError, match=r"list\.csv, line 3: the class 'a b' is not .* Did you mean 'A_B'\?"):
            build_cases(configure("classification", data), workspace)

    def test_images_are_found_by_name_and_number(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for n in range(1, 4):
            picture(tmp_path / "images" / f"00{n}.png", n)
            picture(tmp_path / "masks" / f"00{n}.png", n)
        table = tmp_path / "labels.csv"
        table.write_text("image ID,class\n1,x\n2,y\n003,x\n")
        with pytest.raises(CaseError, match=r"Is 'images/001\.png' meant\? data\.pattern: images/\*"):
            build_cases(configure("classification", {"kind": "csv", "path": str(table)}), workspace)
        config = configure("classification", {"kind": "csv", "path": str(table), "pattern": "images/*"})
        cases = build_cases(config, workspace)
        assert [Path(case.paths[0]).relative_to(tmp_path).as_posix() for case in cases] == [
            f"images/00{n}.png" for n in (1, 2, 3)
        ]

    def test_masks_and_regions(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for name in ("i", "m", "r"):
            picture(tmp_path / f"{name}.png")
        table = tmp_path / "list.csv"
        table.write_text("image,label,roi,split\ni.png,m.png,r.png,train\n")
        data = {"kind": "csv", "path": str(table), **SEGMENTATION}
        (case,) = index_cases(configure("segmentation", data), workspace).cases
        assert (case.target, case.roi) == (str(tmp_path / "m.png"), str(tmp_path / "r.png"))

    def test_a_missing_mask_is_named(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        picture(tmp_path / "i.png")
        (tmp_path / "list.csv").write_text("image,mask\ni.png,m.png\n")
        data = {"kind": "csv", "path": str(tmp_path / "list.csv"), **SEGMENTATION}
        with pytest.raises(CaseError, match=r"line 2: there is no mask file 'm\.png'"):
            build_cases(configure("segmentation", data), workspace)

    def test_a_missing_column_names_what_is_there(
        self, tmp_path: Path, configure: Configure, workspace: Workspace
    ) -> None:
        (tmp_path / "list.csv").write_text("pth,label\nx,A\n")
        data = {"kind": "csv", "path": str(tmp_path / "list.csv")}
        with pytest.raises(
            CaseError, match=r"no column for the path; the columns are 'pth', 'label'.*Did you mean 'path'"
        ):
            build_cases(configure("classification", data), workspace)

    def test_our_own_case_table_is_such_a_csv(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        from medrail.cases import write_table

        for n in range(6):
            picture(tmp_path / "A" / f"{n}.png", n)
        cases = build_cases(configure("classification", {"kind": "class_folders", "path": str(tmp_path)}), workspace)
        write_table(cases, tmp_path / "cases.csv", tmp_path)
        data = {"kind": "csv", "path": str(tmp_path / "cases.csv")}
        assert build_cases(configure("classification", data, split={"by": "given"}), workspace) == cases


class TestPairs:
    @pytest.mark.parametrize(
        ("image", "mask", "rules"),
        [
            ("images/{}.png", "masks/{}.png", {"mask_path": "masks"}),
            ("images/{}.png", "masks/{}_seg.png", {"mask_path": "masks", "mask_suffix": "_seg"}),
            ("{}.png", "{}_mask.png", {"mask_suffix": "_mask"}),
            ("a/{}/scan.png", "a/{}/scan_mask.png", {"mask_suffix": "_mask.png"}),
            ("train/images/{}.png", "train/masks/{}.png", {"mask_path": "masks"}),
            ("images/train/{}.png", "masks/train/{}.png", {"mask_path": "masks"}),
            ("images/a/{}.png", "masks/{}.tif", {"mask_path": "masks"}),
            ("images/{}.png", "../labels/{}.png", {"mask_path": "../labels"}),
            ("imagesTr/{}_0000.png", "labelsTr/{}.png", {"mask_path": "labelsTr"}),
        ],
    )
    def test_masks_are_found(
        self,
        image: str,
        mask: str,
        rules: dict[str, str],
        tmp_path: Path,
        picture: Write,
        configure: Configure,
        workspace: Workspace,
    ) -> None:
        root = tmp_path / "data"
        root.mkdir()
        for n in range(5):
            picture(root / image.format(n), n)
            picture(root / mask.format(n), n + 50)
        config = configure("segmentation", {"kind": "pairs", "path": str(root), **rules, **SEGMENTATION})
        index = index_cases(config, workspace)
        assert not index.findings
        assert {(case.paths[0], case.target) for case in index.cases} == {
            (str(root / image.format(n)), str((root / mask.format(n)).resolve())) for n in range(5)
        }
        assert {case.split for case in index.cases} == ({"train"} if "train" in image else {None})

    def test_what_lacks_its_partner_is_named(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for n in range(4):
            picture(tmp_path / "images" / f"{n}.png", n)
        for n in range(1, 5):
            picture(tmp_path / "masks" / f"{n}.png", n)
        config = configure(
            "segmentation", {"kind": "pairs", "path": str(tmp_path), "mask_path": "masks", **SEGMENTATION}
        )
        index = index_cases(config, workspace)
        assert {(finding.defect, Path(finding.where).name, finding.severity) for finding in index.findings} == {
            ("image_without_mask", "0.png", "stop"),
            ("mask_without_image", "4.png", "warn"),
        }
        with pytest.raises(CaseError, match=r"images/0\.png: no mask 0\.\* in masks/"):
            build_cases(config, workspace)

    def test_a_wrong_mask_folder_is_one_error(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for n in range(3):
            picture(tmp_path / "images" / f"{n}.png", n)
            picture(tmp_path / "annotations" / f"{n}.png", n)
        data = {"kind": "pairs", "path": str(tmp_path), "pattern": "images/*", "mask_path": "mask", **SEGMENTATION}
        with pytest.raises(CaseError, match=r"none of 3 images has a mask.*folders here are: annotations, images"):
            build_cases(configure("segmentation", data), workspace)

    @pytest.mark.parametrize("pattern", ["/images/*", "**png"])
    def test_a_wrong_pattern_is_a_config_error(
        self, pattern: str, tmp_path: Path, configure: Configure, workspace: Workspace
    ) -> None:
        data = {"kind": "pairs", "path": str(tmp_path), "pattern": pattern, "mask_path": "masks", **SEGMENTATION}
        with pytest.raises(ConfigError, match=r"data\.pattern: .* is no glob"):
            build_cases(configure("segmentation", data), workspace)

    def test_two_masks_are_not_guessed(
        self, tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for n in range(2):
            picture(tmp_path / "images" / f"{n}.png", n)
            picture(tmp_path / "masks" / f"{n}.png", n)
        picture(tmp_path / "masks" / "1.bmp")
        data = {"kind": "pairs", "path": str(tmp_path), "mask_path": "masks", **SEGMENTATION}
        with pytest.raises(CaseError, match=r"2 masks could be this image's: 1\.bmp, 1\.png"):
            build_cases(configure("segmentation", data), workspace)


class TestMedmnist:
    @staticmethod
    def archive(path: Path, label: object = None) -> Path:
        images = np.random.default_rng(0).integers(0, 256, (4, 7, 11), dtype=np.uint8)
        labels = np.array([[0], [1], [1], [0]], dtype=np.uint8) if label is None else label
        arrays = {f"{split}_{what}": images for split in ("train", "val", "test") for what in ("images",)}
        arrays |= {f"{split}_labels": labels for split in ("train", "val", "test")}
        np.savez_compressed(path, **arrays)
        return path

    def test_cases(self, tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
        path = self.archive(tmp_path / "set.npz")
        data = {"kind": "medmnist", "path": str(path), "classes": ["no", "yes"]}
        cases = build_cases(configure("classification", data, split={"by": "given"}), workspace)
        assert Counter(case.split for case in cases) == {"train": 4, "val": 4, "test": 4}
        assert [case.target for case in cases[:4]] == ["no", "yes", "yes", "no"]
        assert cases[5].item == "val_images/1"
        assert len(by_id(cases)) == 12

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (np.zeros((4, 14), np.uint8), "14 labels an image"),
            (np.array([[0], [1], [2], [0]]), "label 2, but data.classes has 2 names"),
            (np.zeros((4, 1), np.float32), "float32"),
        ],
    )
    def test_other_labels_are_refused(
        self, labels: object, message: str, tmp_path: Path, configure: Configure, workspace: Workspace
    ) -> None:
        path = self.archive(tmp_path / "set.npz", labels)
        data = {"kind": "medmnist", "path": str(path), "classes": ["no", "yes"]}
        with pytest.raises(CaseError, match=message):
            build_cases(configure("classification", data), workspace)

    def test_a_truncated_file_is_corrupt(self, tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
        path = self.archive(tmp_path / "set.npz")
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(CorruptFile, match=r"set\.npz"):
            build_cases(configure("classification", {"kind": "medmnist", "path": str(path)}), workspace)


class TestDicomFolders:
    @pytest.fixture
    def patients(self, tmp_path: Path) -> Path:
        """One slice each, which differ in a pixel: equal files would count as one patient."""
        content = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
        pixels = content.index(b"\xe0\x7f\x10\x00") + 12
        for n in range(3):
            folder = tmp_path / "data" / f"p{n}" / "study"
            folder.mkdir(parents=True)
            own = content[:pixels] + bytes([n]) + content[pixels + 1 :]
            # Of a study, series and patient of its own.
            (folder / "one").write_bytes(
                own.replace(b".2004011907273", b".200401190727%d" % n).replace(b"1CT1", b"%dCT1" % n)
            )
        return tmp_path / "data"

    def test_labels_come_from_a_table(self, patients: Path, configure: Configure, workspace: Workspace) -> None:
        (patients / "labels.csv").write_text("Patient ID,Label,Split\np0,A,train\np1,B,val\np2,A,test\n")
        data = {"kind": "dicom_folders", "path": str(patients), "labels": "labels.csv"}
        cases = build_cases(configure("classification", data, split={"by": "given"}), workspace)
        assert [(case.patient, case.target, case.split) for case in cases] == [
            ("p0", "A", "train"),
            ("p1", "B", "val"),
            ("p2", "A", "test"),
        ]
        assert cases[0].id == "p0-study-one"
        assert cases[0].paths == (str(patients / "p0" / "study" / "one"),)

    def test_patients_and_rows_without_each_other(
        self, patients: Path, configure: Configure, workspace: Workspace
    ) -> None:
        (patients / "labels.csv").write_text("patient,label\np0,A\np1,\np9,A\n")
        (patients / "empty").mkdir()
        data = {"kind": "dicom_folders", "path": str(patients), "labels": "labels.csv"}
        config = configure("classification", data)
        found = {
            (finding.defect, Path(finding.where).name): finding.severity
            for finding in index_cases(config, workspace).findings
        }
        assert found == {
            ("no_image", "empty"): "warn",
            ("unlabelled", "labels.csv, line 3"): "stop",
            ("unlabelled", "one"): "stop",
            ("label_without_image", "labels.csv, line 4"): "warn",
        }

    def test_several_series_of_a_patient(self, tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
        """Apart by folder, or together in one; for a mask the table must say which is meant."""
        slices(tmp_path / "d" / "apart" / "one", 3, "1.1")
        slices(tmp_path / "d" / "apart" / "two", 2, "1.2")
        slices(tmp_path / "d" / "mixed", 4, "1.3")
        for n in range(2):
            slices(tmp_path / "d" / "mixed" / "more", n + 1, "1.4")
        (tmp_path / "labels.csv").write_text("patient,label\napart,A\nmixed,B\n")
        data = {"kind": "dicom_folders", "path": str(tmp_path / "d"), "labels": str(tmp_path / "labels.csv")}
        cases = index_cases(configure("classification", data), workspace).cases
        assert [case.id.split("-series")[0] for case in cases] == ["apart-one", "apart-two", "mixed", "mixed-more"]
        assert [bool(case.item) for case in cases] == [False, False, True, False]
        assert [read(case.paths[0], case.item).grid[0] for case in cases] == [3, 2, 4, 2]

        (tmp_path / "m.nii.gz").touch()
        rows = ["apart,m.nii.gz,one", "apart,m.nii.gz,two", "mixed,m.nii.gz,"]
        (tmp_path / "labels.csv").write_text("\n".join(["patient,mask,series", *rows]))
        index = index_cases(configure("segmentation", {**data, **SEGMENTATION}), workspace)
        assert [case.id for case in index.cases] == ["apart-one", "apart-two"]
        assert {finding.defect for finding in index.findings} == {"several_series"}
        assert all(cases[2].item in finding.what for finding in index.findings)

    def test_a_broken_slice_does_not_stop_the_others(
        self, patients: Path, configure: Configure, workspace: Workspace
    ) -> None:
        (patients / "p1" / "study" / "two.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"broken")
        (patients / "labels.csv").write_text("patient,label\np0,A\np1,B\np2,A\n")
        data = {"kind": "dicom_folders", "path": str(patients), "labels": "labels.csv"}
        config = configure("classification", data)
        cases = build_cases(config, workspace)
        assert [case.patient for case in cases] == ["p0", "p1", "p2"]
        report = check_cases(cases, config, workspace)
        assert report.defects["unreadable_header"] == 1
        assert any("p1" in where and "cannot be read" in what for where, what, _ in report.problems)

    def test_masks_come_from_a_folder(
        self, patients: Path, picture: Write, configure: Configure, workspace: Workspace
    ) -> None:
        for n in range(3):
            (patients / "masks").mkdir(exist_ok=True)
            (patients / "masks" / f"p{n}.nii.gz").touch()
        data = {"kind": "dicom_folders", "path": str(patients), "mask_path": "masks", **SEGMENTATION}
        cases = build_cases(configure("segmentation", data), workspace)
        assert [case.target for case in cases] == [str(patients / "masks" / f"p{n}.nii.gz") for n in range(3)]

    def test_without_labels_it_says_what_is_needed(
        self, patients: Path, configure: Configure, workspace: Workspace
    ) -> None:
        with pytest.raises(ConfigError, match=r"data\.labels: a CSV with the columns patient and label"):
            build_cases(configure("classification", {"kind": "dicom_folders", "path": str(patients)}), workspace)


def test_too_few_patients_for_the_splits_are_said(
    tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
) -> None:
    for n in range(2):
        picture(tmp_path / "A" / f"{n}.png", n)
    config = configure("classification", {"kind": "class_folders", "path": str(tmp_path)})
    with pytest.raises(CaseError, match="split val: 2 patients are too few"):
        build_cases(config, workspace)


def test_the_evaluated_split_must_have_a_case(
    tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
) -> None:
    for n in range(4):
        picture(tmp_path / "train" / "A" / f"{n}.png", n)
    data = {"kind": "class_folders", "path": str(tmp_path)}
    with pytest.raises(CaseError, match="split test: the data give no case this split"):
        build_cases(configure("classification", data, split={"by": "given"}), workspace)
    with pytest.raises(CaseError, match=r"split test: evaluate\.split has no case"):
        build_cases(configure("classification", data, split={"test": 0.0}), workspace)
    config = configure("classification", data, split={"test": 0.0}, evaluate={"split": "val"})
    assert {case.split for case in build_cases(config, workspace)} == {"train", "val"}


def test_names_that_are_no_text_are_refused(
    tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace
) -> None:
    picture(tmp_path / "A" / "1.png")
    try:
        (tmp_path / "A" / "1.png").rename(tmp_path / "A" / "b\udcff.png")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system holds text only")
    with pytest.raises(CaseError, match=r"is not UTF-8 text\. Rename it"):
        build_cases(configure("classification", {"kind": "class_folders", "path": str(tmp_path)}), workspace)
