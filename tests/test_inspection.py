"""`medrail inspect` and `medrail convert`: a verdict on everything, no traceback, no identifier."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
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
    shown = re.sub(r"-?\d+\.\d+", "", output.out + output.err)  # positions and spacings in mm may hold any digits
    assert [text for text in secrets if text in shown] == []


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


def test_the_table_and_the_json_say_where_each_series_lies(slices, tmp_path, capsys):
    deep = tmp_path / "data" / "a folder with a long name" / "below another with a long name" / "ct"
    writers.save_dicom(slices[:3], deep)
    for dataset in slices:
        dataset.SeriesInstanceUID = dataset.StudyInstanceUID
    writers.save_dicom(slices, tmp_path / "data" / "b")
    assert main(["inspect", str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    header, *rows = out.splitlines()[:3]
    at = header.index("where")
    assert [row[at:].split("  ")[0] for row in rows] == ["a folder with a lo...with a long name/ct", "b"]
    _, found = inspected(capsys, tmp_path / "data")
    first, second = found["series"]
    assert first["where"] == deep.relative_to(tmp_path / "data").as_posix()
    assert first["files"] == len(first["paths"]) == 3
    assert set(second["paths"]) == {f"b/{path.name}" for path in (tmp_path / "data" / "b").iterdir()}


def test_evidence_names_the_file_that_was_cut_off(folder, capsys):
    cut = sorted(folder.iterdir())[2]
    cut.write_bytes(cut.read_bytes()[:-20])
    _, found = inspected(capsys, folder.parent)
    (defect,) = found["series"][0]["defects"]
    assert defect["name"] == "truncated_pixel_data"
    assert cut.name in defect["evidence"]


def test_evidence_names_the_file_that_no_decoder_reads(slices, tmp_path, capsys):
    for dataset in slices:
        dataset.compress(pydicom.uid.RLELossless)
    folder = writers.save_dicom(slices, tmp_path / "series")
    broken = sorted(folder.iterdir())[1]
    content = broken.read_bytes()
    at = content.rindex(b"\xe0\x7f\x10\x00") + 12 + 8 + 8  # behind the empty offset table, in the RLE header
    broken.write_bytes(content[:at] + b"\xff" * 8 + content[at + 8 :])
    _, found = inspected(capsys, folder)
    assert found["series"][0]["verdict"] == "refused"
    assert broken.name in found["series"][0]["defects"][-1]["evidence"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open everything")
def test_a_folder_that_may_not_be_opened_is_refused_by_name(folder, capsys):
    closed = folder.parent / "closed"
    closed.mkdir(mode=0)
    try:
        code, found = inspected(capsys, folder.parent)
    finally:
        closed.chmod(0o700)
    assert code == 1
    (refused,) = found["refused"]
    assert refused["path"] == str(closed)
    assert "permissions" in refused["reason"]
    assert found["series"][0]["verdict"] == "ok"


def test_a_folder_that_may_not_be_opened_is_not_passed_over(folder, monkeypatch, capsys):
    """As above for whoever is root, whom no permission stops."""
    closed = folder.parent / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, found = inspected(capsys, folder.parent)
    assert code == 1
    assert [one["path"] for one in found["refused"]] == [str(closed)]
    assert "Change its permissions" in found["refused"][0]["reason"]
    assert found["series"][0]["verdict"] == "ok"


@pytest.mark.parametrize("content", [None, "text"])
def test_a_folder_without_an_image_says_what_is_read(content, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    if content:
        (tmp_path / "empty" / "notes.txt").write_text(content)
    assert main(["inspect", str(tmp_path / "empty")]) == 1
    out = capsys.readouterr().out
    assert "No image here. Needed: DICOM, NIfTI" in out
    assert not out.startswith("\n")


def test_an_npz_is_named_with_what_it_holds_and_what_reads_it(tmp_path, capsys):
    np.savez(tmp_path / "m.npz", train_images=np.zeros((5, 8, 9), np.uint8), train_labels=np.zeros((5, 1)))
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "train_images 5 x 8 x 9" in out
    assert "medrail check" in out
    assert "No images" not in out


def test_pictures_that_were_only_counted_are_not_called_no_images(tmp_path, capsys):
    from PIL import Image as Pillow

    Pillow.new("L", (9, 7)).save(tmp_path / "a.png")
    assert main(["inspect", str(tmp_path), "--headers-only"]) == 0
    out = capsys.readouterr().out
    assert "Not looked into:\n  - 1 file: png" in out
    assert "No images" not in out


def test_many_pictures_of_many_sizes_share_a_row_for_each_folder(tmp_path, capsys):
    from PIL import Image as Pillow

    for number in range(60):
        place = tmp_path / ("a" if number % 3 else "b")
        place.mkdir(exist_ok=True)
        Pillow.new("L", (9 + number, 7)).save(place / f"{number}.png")
    assert main(["inspect", str(tmp_path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:3]]
    assert [row[:4] for row in rows] == [["40", "files", "ok", "a"], ["20", "files", "ok", "b"]]
    assert [row[-3] for row in rows] == ["10-68", "9-66"]


@pytest.mark.parametrize("word", ["None", "UNKNOWN", "", "n/a", "<unknown>", "NULL"])
def test_a_scanner_that_is_not_known_is_not_named_so(word, slices, tmp_path, capsys):
    for dataset in slices:
        dataset.Manufacturer, dataset.ManufacturerModelName = "GE Medical Systems", word
    _, found = inspected(capsys, writers.save_dicom(slices, tmp_path / "a"))
    assert found["series"][0]["scanner"] == "GE Medical Systems"
    for dataset in slices:
        dataset.Manufacturer, dataset.ManufacturerModelName = word, "Optima"
    _, found = inspected(capsys, writers.save_dicom(slices, tmp_path / "b"))
    assert found["series"][0]["scanner"] == "Optima"


def test_several_orientations_are_told_once_for_all_their_series(slices, tmp_path, capsys):
    turned = [copy.deepcopy(dataset) for dataset in slices]
    for number, dataset in enumerate(turned):
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:40]}9.{number}"
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [10.0 * number, 0, 0]
    folder = writers.save_dicom([*slices, *turned], tmp_path / "data")
    main(["inspect", str(folder)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "mixed_orientation" in line]
    (line,) = lines
    assert "and 1 more" in line
    assert "5 slices 7 x 11 sagittal" in line
    assert "[" not in line, "axes only where the names of the directions do not tell them apart"


def test_pictures_are_not_refused_for_a_broken_file_beside_them(tmp_path, capsys):
    (tmp_path / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    (tmp_path / "picture.dcm").write_bytes(Path(str(get_testdata_file("examples_rgb_color.dcm"))).read_bytes())
    code, found = inspected(capsys, tmp_path)
    assert code == 1
    assert [one["verdict"] for one in found["series"]] == ["ok"]
    assert len(found["refused"]) == 1


def test_a_jpeg_that_was_cut_off_is_called_truncated(tmp_path, capsys):
    from PIL import Image as Pillow

    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "a.jpeg")
    content = (tmp_path / "a.jpeg").read_bytes()
    (tmp_path / "a.jpeg").write_bytes(content[: len(content) // 2])
    _, found = inspected(capsys, tmp_path)
    assert found["refused"][0]["reason"].startswith("is truncated")


def test_convert_speaks_of_its_own_options(slices, tmp_path, capsys):
    out = str(tmp_path / "x.nii.gz")
    writers.save_dicom(slices[:2] + slices[3:], tmp_path / "gap")
    assert main(["convert", str(tmp_path / "gap"), "-o", out]) == 1
    gap = capsys.readouterr().err
    assert "use --on-defect resample (or accept)" in gap
    writers.save_dicom(slices, tmp_path / "data" / "a")
    for dataset in slices:
        dataset.SeriesInstanceUID = dataset.StudyInstanceUID
    writers.save_dicom(slices, tmp_path / "data" / "b")
    assert main(["convert", str(tmp_path / "data"), "-o", out]) == 1
    several = capsys.readouterr().err
    assert "Name one of them with --series; `medrail inspect` says where" in several
    assert "data." not in gap + several
    assert "the item" not in gap + several


def test_convert_takes_a_file_of_a_folder_by_the_name_that_inspect_gives(anisotropic_image, tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / "in" / name).mkdir(parents=True)
        writers.WRITERS["nifti"](anisotropic_image, tmp_path / "in" / name)
    _, found = inspected(capsys, tmp_path / "in")
    chosen = found["series"][1]["id"]
    assert chosen.startswith("two/")
    assert main(["convert", str(tmp_path / "in"), "-o", str(tmp_path / "x.nii"), "--series", chosen]) == 0
    np.testing.assert_array_equal(read(tmp_path / "x.nii").voxels, anisotropic_image.voxels)
    assert main(["convert", str(tmp_path / "in"), "-o", str(tmp_path / "y.nii"), "--series", "../x.nii"]) == 1


def test_convert_overwrites_nothing_unless_forced(folder, tmp_path, capsys):
    out = tmp_path / "ct.nii.gz"
    out.write_text("mine")
    assert main(["convert", str(folder), "-o", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["convert", str(folder), "-o", str(out), "--force"]) == 0
    assert read(out).channels == 1


def test_convert_writes_the_size_of_pixels_that_a_header_says(slices, tmp_path, capsys):
    import nibabel

    (dataset, *_) = slices
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
        delattr(dataset, keyword)
    dataset.PixelSpacing = [0.25, 0.5]
    folder = writers.save_dicom([dataset], tmp_path / "in")
    out = tmp_path / "x.nii.gz"
    assert main(["convert", str(folder), "-o", str(out), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["pixel_mm"] == [0.25, 0.5]
    assert values["spacing_mm"] is None
    written = nibabel.load(out)
    assert written.header.get_zooms()[:2] == (0.5, 0.25), "W, then H"
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (0, 0)


def test_convert_writes_the_micrometres_of_a_slide(tmp_path, capsys):
    import nibabel

    from slides import noise, write_slide

    pytest.importorskip("openslide")
    path = write_slide(tmp_path / "s.tif", noise(512, 512))
    out = tmp_path / "x.nii.gz"
    assert main(["convert", str(path), "-o", str(out)]) == 0
    assert "0.0005 x 0.0005 mm" in capsys.readouterr().out
    np.testing.assert_allclose(nibabel.load(out).header.get_zooms()[:2], 0.0005, rtol=1e-5)


@pytest.mark.parametrize("arguments", [["init", "new", "--data", "nowhere"], ["deidentify", "nowhere", "-o", "x"]])
def test_a_missing_path_is_wrong_usage_for_the_other_verbs_too(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert "no such file or folder" in capsys.readouterr().err
