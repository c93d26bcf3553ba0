"""What `medrail init` writes runs as it is, for every layout that it knows: from raw files to a bundle that answers."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image as Picture
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from medrail.bundle import load_bundle
from medrail.cli import main
from medrail.read import read
from medrail.workspace import find_bundle

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(5)
PATIENTS = 8
SETS = ("train.epochs=1", "train.track=false", "train.threads=1", "evaluate.resamples=200")
QUICK = [word for entry in SETS for word in ("--set", entry)]


def picture(light: bool) -> np.ndarray:
    return RNG.integers(0, 90, (40, 48), dtype=np.uint8) + np.uint8(150 * light)


def ball() -> tuple[np.ndarray, np.ndarray]:
    """(k, j, i) voxels and mask of a bright ball."""
    shape = (20, 24, 28)
    distance = np.linalg.norm(np.indices(shape).transpose(1, 2, 3, 0) - np.array(shape) / 2, axis=-1)
    mask = (distance < RNG.uniform(5, 8)).astype(np.uint8)
    return (RNG.normal(100, 10, shape) + 200 * mask).astype(np.int16), mask


def class_folders(data: Path) -> Path:
    for number in range(2 * PATIENTS):
        path = data / ("dark", "light")[number % 2] / f"p{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(picture(bool(number % 2))).save(path)
    return data


def table_of_pictures(data: Path) -> Path:
    data.mkdir()
    with (data / "table.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "patient", "split"])
        for number in range(2 * PATIENTS):
            Picture.fromarray(picture(bool(number % 2))).save(data / f"{number}.jpg")
            split = ("train", "train", "val", "test")[number // 2 % 4]
            rows.writerow([f"{number}.jpg", ("dark", "light")[number % 2], f"p{number // 2}", split])
    return data / "table.csv"


def nifti_pairs(data: Path) -> Path:
    for number in range(PATIENTS):
        voxels, mask = ball()
        for folder, array in (("images", voxels), ("masks", mask)):
            (data / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array.T, np.diag([2.0, 2, 2, 1])), data / folder / f"p{number}.nii.gz")
    return data


def mhd_pairs(data: Path) -> Path:
    """Header and voxels in two files."""
    for number in range(PATIENTS):
        for folder, array in zip(("images", "masks"), ball(), strict=True):
            image = SimpleITK.GetImageFromArray(array)
            image.SetSpacing((2.0, 2.0, 2.0))
            (data / folder).mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(image, str(data / folder / f"p{number}.mhd"))
    return data


def picture_pairs(data: Path) -> Path:
    data.mkdir()
    for number in range(PATIENTS):
        mask = np.zeros((48, 64), np.uint8)
        top, left = RNG.integers(4, 20, 2)
        mask[top : top + 20, left : left + 24] = 1
        pixels = (RNG.integers(0, 60, (48, 64, 3)) + 150 * mask[..., None]).astype(np.uint8)
        Picture.fromarray(pixels).save(data / f"p{number}.png")
        Picture.fromarray(mask * 255).save(data / f"p{number}_mask.png")
    return data


def dicom_folders(data: Path) -> Path:
    """One series of 6 slices a patient, labelled in labels.csv."""
    template = dcmread(get_testdata_file("CT_small.dcm"))
    for number in range(2 * PATIENTS):
        template.StudyInstanceUID = generate_uid()
        series, folder = generate_uid(), data / f"p{number:02d}" / "series"
        folder.mkdir(parents=True)
        for position in range(6):
            template.SeriesInstanceUID, template.SOPInstanceUID = series, generate_uid()
            template.file_meta.MediaStorageSOPInstanceUID = template.SOPInstanceUID
            template.ImagePositionPatient = [0, 0, 2.5 * position]
            template.PatientID = f"patient {number}"
            pixels = RNG.integers(900, 1100, (128, 128)) + 300 * (number % 2)
            template.PixelData = pixels.astype(np.int16).tobytes()
            template.save_as(folder / f"{5 - position}.dcm")
    rows = [f"p{number:02d},{('low', 'high')[number % 2]}" for number in range(2 * PATIENTS)]
    (data / "labels.csv").write_text("\n".join(["patient,label", *rows]), encoding="utf-8")
    return data


def medmnist(data: Path) -> Path:
    data.mkdir()
    arrays = {}
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        labels = np.arange(count) % 2
        noise = RNG.integers(0, 90, (count, 28, 28)) + 150 * labels[:, None, None]
        arrays |= {f"{split}_images": noise.astype(np.uint8), f"{split}_labels": labels[:, None].astype(np.uint8)}
    np.savez(data / "shade.npz", **arrays)
    return data / "shade.npz"


LAYOUTS = {
    maker.__name__: maker
    for maker in (class_folders, table_of_pictures, nifti_pairs, mhd_pairs, picture_pairs, dicom_folders, medmnist)
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_init_writes_runs_as_it_is(layout, tmp_path, capsys):
    data = LAYOUTS[layout](tmp_path / "data")
    project = tmp_path / "project"
    assert main(["init", str(project), "--data", str(data)]) == 0
    code = main(["run", str(project), *QUICK])
    told = capsys.readouterr()
    assert code == 0, told.out + told.err
    predictor = load_bundle(find_bundle(project))
    with (project / "cases.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    prediction = predictor(read((project / row["image"]).resolve(), row["item"]))
    assert prediction.class_name in (*predictor.spec.classes, None)
    assert (prediction.mask is None) == (predictor.spec.task == "classification")


@pytest.mark.parametrize("layout", ["nifti_pairs", "dicom_folders"])
def test_volumes_also_go_through_a_3d_network(layout, tmp_path, capsys):
    data = LAYOUTS[layout](tmp_path / "data")
    project = tmp_path / "project"
    assert main(["init", str(project), "--data", str(data)]) == 0
    task = "segmentation" if layout == "nifti_pairs" else "classification"
    steps = [
        "prepare.steps=[{kind: orient}, {kind: resample, spacing_mm: 2}, {kind: normalise, method: zscore}"
        + ("]" if task == "segmentation" else ", {kind: resize, size: [16, 32, 32]}]"),
        "model.dims=3",
        "model.width=8",
        "model.patch=[16, 16, 16]" if task == "segmentation" else "model.patch=[]",
        f"model.name={'unet' if task == 'segmentation' else 'tiny_cnn'}",
    ]
    sets = [word for step in steps for word in ("--set", step)]
    code = main(["run", str(project), *QUICK, *sets])
    told = capsys.readouterr()
    assert code == 0, told.out + told.err
    assert load_bundle(find_bundle(project)).spec.dims == 3
    shutil.rmtree(project)
