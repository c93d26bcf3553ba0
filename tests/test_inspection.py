"""`medrail inspect` and `medrail convert`: a verdict on everything, no traceback, no identifier."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from medrail.cli import main
from medrail.read import read

_SPEC = importlib.util.spec_from_file_location("medrail_read_writers", Path(__file__).parent / "read" / "conftest.py")
assert _SPEC is not None
assert _SPEC.loader is not None
writers = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = writers
_SPEC.loader.exec_module(writers)


@pytest.fixture
def slices(anisotropic_image):
    return writers.dicom_slices(anisotropic_image)


@pytest.fixture
def folder(slices, tmp_path):
    return writers.save_dicom(slices, tmp_path / "data" / "series")


def inspected(capsys, *arguments) -> tuple[int, dict]:
    code = main(["inspect", "--json", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("how", [[], ["--headers-only"]])
def test_a_good_series_is_described_as_it_is_read(how, folder, capsys):
    code, found = inspected(capsys, folder, *how)
    image = read(folder)
    (series,) = found["series"]
    assert code == 0
    assert series["shape"] == [1, 5, 7, 11]
    assert series["unit"] == "HU"
    assert (series["modality"], series["files"], series["verdict"], series["defects"]) == ("CT", 5, "ok", [])
    np.testing.assert_allclose(series["spacing_mm"], image.geometry.spacing_mm)
    np.testing.assert_allclose(series["affine_ras_mm"], image.geometry.affine_ras_mm)
    assert (found["refused"], found["others"]) == ([], [])


def test_a_missing_slice_is_named_and_the_exit_code_says_so(slices, tmp_path, capsys):
    del slices[2]
    folder = writers.save_dicom(slices, tmp_path / "series")
    code, found = inspected(capsys, folder)
    (series,) = found["series"]
    assert code == 1
    assert series["verdict"] == "refused"
    assert series["spacing_mm"] is None
    (defect,) = series["defects"]
    assert (defect["name"], defect["action"]) == ("missing_slices", "refused")
    code, found = inspected(capsys, folder, "--on-defect", "resample")
    assert code == 0
    assert found["series"][0]["verdict"] == "accepted"
    assert found["series"][0]["shape"] == [1, 5, 7, 11]


def test_pixels_that_cannot_be_decoded_are_found_unless_told_not_to(tmp_path, capsys):
    content = bytearray(Path(str(get_testdata_file("JPEG2000.dcm"))).read_bytes())
    at = content.index(b"\xff\x4f\xff\x51")
    content[at + 4 : at + 60] = bytes(56)
    path = tmp_path / "broken"
    path.write_bytes(bytes(content))
    code, found = inspected(capsys, path)
    assert code == 1
    assert found["series"][0]["defects"][-1]["name"] == "undecodable_pixel_data"
    assert inspected(capsys, path, "--headers-only")[0] == 0


def test_a_folder_of_everything(folder, anisotropic_image, tmp_path, capsys):
    data = folder.parent
    writers.WRITERS["nifti"](anisotropic_image, data)
    (data / "notes.txt").write_text("text")
    (data / "broken.nii.gz").write_text("no image")
    (data / "sub").mkdir()
    (data / "sub" / "pretender.dcm").write_text("no image")
    plan = pydicom.dcmread(str(get_testdata_file("rtplan.dcm")))
    plan.save_as(data / "sub" / "plan")
    code, found = inspected(capsys, data)
    assert code == 1
    assert sorted(one["kind"] for one in found["series"]) == ["CT Image Storage", "nifti"]
    assert [Path(one["path"]).name for one in found["refused"]] == ["pretender.dcm", "broken.nii.gz"]
    assert all("looks like a text file" in one["reason"] for one in found["refused"])
    assert found["others"] == [
        {"kind": "a text file", "files": 1},
        {"kind": "holds no picture (RT Plan Storage)", "files": 1},
    ]


def test_a_zip_is_shown_by_its_own_name(folder, tmp_path, capsys):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"inner/{file.name}")
        archive.writestr("inner.zip", b"PK\x03\x04 and so on")
    code, found = inspected(capsys, path)
    assert code == 1
    assert [one["path"] for one in found["refused"]] == [str(path / "inner.zip")]
    assert found["series"][0]["path"] == str(path / "inner")
    assert found["series"][0]["verdict"] == "ok"


@pytest.mark.parametrize("arguments", [["inspect", "nowhere"], ["convert", "nowhere", "-o", "x.nii.gz"]])
def test_a_missing_path_is_wrong_usage(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_a_text_file_given_directly_is_refused(tmp_path, capsys):
    path = tmp_path / "notes.txt"
    path.write_text("text")
    code, found = inspected(capsys, path)
    assert code == 1
    assert "looks like a text file" in found["refused"][0]["reason"]


def identifiers(dataset: pydicom.Dataset) -> set[str]:
    """Every text of a header that could tell who it is, of four letters or more."""
    known = ("Manufacturer", "ManufacturerModelName", "Modality", "SOPClassUID", "PhotometricInterpretation")
    texts = set()
    for element in dataset.iterall():
        if element.VR in ("PN", "LO", "SH", "LT", "ST", "UT", "UI", "DA", "TM") and element.keyword not in known:
            texts |= {text for text in str(element.value).replace("^", "\\").split("\\") if len(text) >= 4}
    return texts


@pytest.mark.parametrize("how", [[], ["--json"], ["--headers-only"], ["--on-defect", "accept"]])
def test_nothing_that_identifies_is_printed(how, slices, tmp_path, capfd):
    del slices[1].PixelData
    slices[2].Rows = "x"[:0] or 9
    slices[3].PatientBirthDate, slices[3].StudyDescription = "19510203", "Secret study"
    slices[3].ImagePositionPatient = slices[4].ImagePositionPatient
    slices[4].RescaleSlope = 0
    folder = writers.save_dicom(slices, tmp_path / "data")
    for name in ("CT_small.dcm", "MR_truncated.dcm", "rtplan.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm"):
        (folder / f"other-{name}").write_bytes(Path(str(get_testdata_file(name))).read_bytes())
    datasets = [pydicom.dcmread(file) for file in folder.iterdir()]
    scanners = " ".join(f"{data.get('Manufacturer')} {data.get('ManufacturerModelName')}" for data in datasets)
    secrets = {text for data in datasets for text in identifiers(data) if text not in scanners}
    assert {"Secretive", "PID-4711", "19510203"} <= secrets
    main(["inspect", *how, str(folder)])
    output = capfd.readouterr()
    assert [text for text in secrets if text in output.out + output.err] == []


def test_terminal_codes_in_a_header_do_not_reach_the_terminal(slices, tmp_path, capsys):
    for dataset in slices:
        dataset.Manufacturer = "bad\x1b[31mmaker"
    main(["inspect", str(writers.save_dicom(slices, tmp_path / "data"))])
    out = capsys.readouterr().out
    assert "maker" in out
    assert "\x1b[31m" not in out


def test_many_files_of_one_kind_share_a_row(tmp_path, capsys):
    from PIL import Image as Pillow

    for number in range(60):
        Pillow.new("L", (9, 7), number).save(tmp_path / f"{number}.png")
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "60 files" in out
    assert len(out.splitlines()) < 10
    assert len(inspected(capsys, tmp_path)[1]["series"]) == 60


def test_convert_writes_what_read_gives(folder, tmp_path, capsys):
    out = tmp_path / "out" / "ct.nii.gz"
    assert main(["convert", str(folder), "-o", str(out), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["shape"] == [1, 5, 7, 11]
    image, back = read(folder), read(out)
    np.testing.assert_array_equal(back.voxels, image.voxels)
    assert back.geometry.is_close(image.geometry)


def test_convert_says_when_there_is_no_physical_space(tmp_path, capsys):
    from PIL import Image as Pillow

    Pillow.new("L", (9, 7), 3).save(tmp_path / "a.png")
    assert main(["convert", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.nii.gz")]) == 0
    assert "no physical space, written as 1 mm" in capsys.readouterr().out


def test_convert_never_overwrites_its_input(folder, anisotropic_image, tmp_path, capsys):
    file, _ = writers.WRITERS["nifti"](anisotropic_image, tmp_path)
    before = file.read_bytes()
    assert main(["convert", str(file), "-o", str(file)]) == 2
    assert main(["convert", str(tmp_path), "-o", str(file)]) == 2
    assert file.read_bytes() == before
    assert main(["convert", str(folder), "-o", str(tmp_path / "ct.mha")]) == 2
    capsys.readouterr()


def test_convert_lists_the_series_when_there_are_several(slices, tmp_path, capsys):
    writers.save_dicom(slices, tmp_path / "data" / "a")
    for dataset in slices:
        dataset.SeriesInstanceUID = dataset.StudyInstanceUID
    writers.save_dicom(slices, tmp_path / "data" / "b")
    _, found = inspected(capsys, tmp_path / "data")
    first, second = (one["id"] for one in found["series"])
    out = tmp_path / "ct.nii.gz"
    assert main(["convert", str(tmp_path / "data"), "-o", str(out)]) == 1
    error = capsys.readouterr().err
    assert first in error
    assert second in error
    assert main(["convert", str(tmp_path / "data"), "-o", str(out), "--series", second]) == 0
