"""What a table names by its path (a file, a folder, a zip) is known by its DICOM headers all the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from medrail.cases import build_cases, check_data
from medrail.cases.check.fix import correct, fixed_config, write_correction
from medrail.cases.index import index_cases
from medrail.config import Config
from medrail.errors import LeakError
from medrail.read import series_in
from medrail.workspace import Workspace

Configure = Callable[..., Config]


def series(folder: Path, patient: str, seed: int = 0, scanner: str = "A maker") -> Path:
    """Four slices of noise, of a study and series of their own."""
    folder.mkdir(parents=True)
    study, one, frame = (generate_uid(entropy_srcs=[str(folder), kind]) for kind in ("study", "series", "frame"))
    random = np.random.default_rng(seed)
    for number in range(4):
        dataset = dcmread(get_testdata_file("CT_small.dcm"))
        dataset.PatientID, dataset.Manufacturer, dataset.ManufacturerModelName = patient, scanner, ""
        dataset.PatientName = patient
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, one, frame
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.ImagePositionPatient = [0, 0, 5.0 * number]
        dataset.PixelData = random.integers(0, 900, (128, 128), dtype=np.int16).tobytes()
        dataset.save_as(folder / f"{number}.dcm")
    return folder


@pytest.fixture(params=["folder", "zip"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Four rows, a patient each by the column; by the headers the first and the last are one."""
    rows = []
    for name, header, split in (("a", "K1", "train"), ("b", "K2", "val"), ("c", "K3", "test"), ("d", "K1", "test")):
        folder = series(tmp_path / "data" / name, header, seed=ord(name))
        path = name
        if request.param == "zip":
            path = Path(shutil.make_archive(str(folder), "zip", folder)).name
        rows.append(f"{path},{'ill' if name in 'ad' else 'well'},{name},{split}")
    (tmp_path / "data" / "t.csv").write_text("\n".join(["path,label,patient,split", *rows]), encoding="utf-8")
    return tmp_path / "data" / "t.csv"


@pytest.fixture
def config(table: Path, configure: Configure) -> Config:
    return configure("classification", {"kind": "csv", "path": str(table)}, split={"by": "given"})


def test_one_patient_in_two_splits_stops_whatever_the_column_says(config: Config, workspace: Workspace) -> None:
    index = index_cases(config, workspace)
    assert [case.patient for case in index.cases] == ["a", "b", "c", "a"]
    assert {entry.modality for entry in index.entries.values()} == {"CT"}
    assert {entry.scanner for entry in index.entries.values()} == {"A maker"}
    report = check_data(config, workspace)
    assert report.verdict == "stop"
    assert [leak.kind for leak in report.leaks] == ["patient"]
    assert report.summary.scanners == {"A maker": 4}
    with pytest.raises(LeakError):
        build_cases(config, workspace)


def test_the_corrected_table_keeps_them_together_and_knows_its_scanners(
    config: Config, workspace: Workspace, tmp_path: Path
) -> None:
    for name, header in (("e", "K4"), ("f", "K5"), ("g", "K6")):
        series(tmp_path / "data" / name, header, seed=ord(name))
        with (tmp_path / "data" / "t.csv").open("a", encoding="utf-8") as file:
            file.write(f"\n{name},{'ill' if name == 'e' else 'well'},{name},{'test' if name == 'f' else 'train'}")
    correction = correct(check_data(config, workspace), config)
    fixed, *_ = write_correction(correction, workspace.root, config, workspace)
    report = check_data(fixed_config(config, fixed), workspace)
    assert report.leaks == ()
    assert report.summary.scanners == {"A maker": 7}
    # Divided again by hand: it is found in the corrected table, too.
    text = fixed.read_text(encoding="utf-8").splitlines()
    splits = {"train", "val", "test"}
    split = {line[0]: (splits & set(line.split(","))).pop() for line in text[1:]}
    assert split["a"] == split["d"]
    other = "train" if split["d"] == "test" else "test"
    lines = [line.replace(split["d"], other).replace(",a,", ",zz,") if line[0] == "d" else line for line in text]
    fixed.write_text("\n".join(lines), encoding="utf-8")
    assert [leak.kind for leak in check_data(fixed_config(config, fixed), workspace).leaks] == ["patient"]


def test_a_row_with_an_item_is_known_by_its_series(configure: Configure, workspace: Workspace, tmp_path: Path) -> None:
    for name in ("a", "b"):
        series(tmp_path / "data" / "both" / name, f"K{name}", seed=ord(name), scanner=f"Maker {name}")
    one, two = series_in(tmp_path / "data" / "both")
    rows = [f"both,{one.item},A,train", f"both,{two.item},B,test"]
    (tmp_path / "data" / "t.csv").write_text("\n".join(["path,item,label,split", *rows]), encoding="utf-8")
    config = configure("classification", {"kind": "csv", "path": str(tmp_path / "data" / "t.csv")})
    index = index_cases(config, workspace)
    assert {entry.scanner for entry in index.entries.values()} == {"Maker a", "Maker b"}
    assert len({case.patient for case in index.cases}) == 2
    assert index.patients_known


def test_a_defect_of_a_named_folder_is_in_the_table_and_what_is_no_dicom_stays(
    configure: Configure, workspace: Workspace, tmp_path: Path, picture: Callable[..., Path]
) -> None:
    (series(tmp_path / "data" / "a", "K1") / "1.dcm").unlink()
    picture(tmp_path / "data" / "b.png")
    (tmp_path / "data" / "t.csv").write_text("path,label\na,A\nb.png,B\n", encoding="utf-8")
    config = configure("classification", {"kind": "csv", "path": str(tmp_path / "data" / "t.csv")})
    cases = {case.id: case for case in index_cases(config, workspace).cases}
    assert cases["a"].defects == ("missing_slices",)
    assert cases["b"].defects == ()
