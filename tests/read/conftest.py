"""Writers of every format, by other libraries than the ones under test, and a DICOM series to be broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image as Pillow
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from medrail.types import Image
from slides import noise, write_slide

Save = Callable[[str, Image, Path], tuple[Path, str]]


def to_itk(image: Image) -> SimpleITK.Image:
    """RAS+ (D, H, W) -> ITK's LPS (x, y, z)."""
    itk = SimpleITK.GetImageFromArray(image.voxels[0])
    if image.geometry is not None:
        lps = np.diag([-1.0, -1, 1, 1]) @ image.geometry.affine_ras_mm
        columns = lps[:3, [2, 1, 0]]
        spacing = np.linalg.norm(columns, axis=0)
        itk.SetSpacing(spacing.tolist())
        itk.SetDirection((columns / spacing).ravel().tolist())
        itk.SetOrigin(lps[:3, 3].tolist())
    return itk


def dicom_slices(image: Image, *, slope: float = 1, intercept: float = -1024) -> list[Dataset]:
    """One CT data set a slice, in order along D; the stored values are such that the real ones are ``image``'s."""
    assert image.geometry is not None
    lps = np.diag([-1.0, -1, 1, 1]) @ image.geometry.affine_ras_mm
    _, h_mm, w_mm = image.geometry.spacing_mm
    series, frame, study = generate_uid(), generate_uid(), generate_uid()
    slices = []
    for d, plane in enumerate(image.voxels[0]):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.PatientName, dataset.PatientID = "Secretive^Sally", "PID-4711"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber = len(image.voxels[0]) - d  # runs the wrong way, as it may
        dataset.ImagePositionPatient = [round(float(x), 6) for x in (lps @ [d, 0, 0, 1])[:3]]
        directions = (lps[:3, 2] / w_mm, lps[:3, 1] / h_mm)
        dataset.ImageOrientationPatient = [round(float(x), 8) for direction in directions for x in direction]
        dataset.PixelSpacing, dataset.SliceThickness = [round(h_mm, 8), round(w_mm, 8)], 1.5
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        stored = np.round((plane.astype(np.float64) - intercept) / slope).astype("<i2")
        dataset.PixelData = stored.tobytes()
        slices.append(dataset)
    return slices


def save_dicom(slices: list[Dataset], folder: Path, *, seed: int = 0) -> Path:
    """Write data sets under names that say nothing about their order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(seed).permutation(len(slices))
    for dataset, name in zip(slices, names, strict=True):
        dataset.save_as(folder / f"IM{name:04d}", enforce_file_format=True)
    return folder


def enhanced(slices: list[Dataset]) -> Dataset:
    """The same series as one enhanced multi-frame object, its frames in reverse order."""
    multi = pydicom.Dataset(slices[0])
    multi.file_meta = FileMetaDataset(slices[0].file_meta)
    multi.SOPClassUID = multi.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    multi.NumberOfFrames = len(slices)
    multi.PixelData = b"".join(dataset.PixelData for dataset in reversed(slices))
    groups = []
    for dataset in reversed(slices):
        position, orientation, measures, mapping, group = (Dataset() for _ in range(5))
        position.ImagePositionPatient = dataset.ImagePositionPatient
        orientation.ImageOrientationPatient = dataset.ImageOrientationPatient
        measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, dataset.SliceThickness
        mapping.RescaleSlope, mapping.RescaleIntercept = dataset.RescaleSlope, dataset.RescaleIntercept
        mapping.RescaleType = "HU"
        group.PlanePositionSequence, group.PlaneOrientationSequence = [position], [orientation]
        group.PixelMeasuresSequence, group.PixelValueTransformationSequence = [measures], [mapping]
        groups.append(group)
    shared = Dataset()
    shared.PixelMeasuresSequence = groups[0].PixelMeasuresSequence
    for group in groups:
        del group.PixelMeasuresSequence
    multi.SharedFunctionalGroupsSequence, multi.PerFrameFunctionalGroupsSequence = [shared], groups
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(multi, keyword)
    return multi


def _save_dicom(image: Image, folder: Path) -> tuple[Path, str]:
    return save_dicom(dicom_slices(image), folder / "series"), ""


def _save_itk(ending: str) -> Callable[[Image, Path], tuple[Path, str]]:
    def save(image: Image, folder: Path) -> tuple[Path, str]:
        path = folder / f"image{ending}"
        SimpleITK.WriteImage(to_itk(image), str(path), ending != ".mha")
        return path, ""

    return save


def _save_picture(ending: str) -> Callable[[Image, Path], tuple[Path, str]]:
    def save(image: Image, folder: Path) -> tuple[Path, str]:
        path = folder / f"image{ending}"
        Pillow.fromarray(image.voxels[0, 0]).save(path, **({"quality": 100} if ending == ".jpg" else {}))
        return path, ""

    return save


def _save_slide(image: Image, folder: Path) -> tuple[Path, str]:
    """Two levels of noise: a slide has no voxels of a volume to keep."""
    return write_slide(folder / "image.tif", noise(150, 200), 0.5, levels=(2,)), "um=1"


def _save_npz(image: Image, folder: Path) -> tuple[Path, str]:
    path = folder / "image.npz"
    others = np.zeros_like(image.voxels[0])
    np.savez_compressed(path, train_images=np.stack([others, others, image.voxels[0]]), train_labels=np.zeros((3, 1)))
    return path, "train_images/2"


WRITERS = {
    "dicom": _save_dicom,
    "nifti": _save_itk(".nii.gz"),
    "metaimage": _save_itk(".mha"),
    "nrrd": _save_itk(".nrrd"),
    "png": _save_picture(".png"),
    "jpeg": _save_picture(".jpg"),
    "tiff": _save_picture(".tif"),
    "bmp": _save_picture(".bmp"),
    "npz": _save_npz,
    "slide": _save_slide,
}


@pytest.fixture(scope="session")
def writers() -> dict[str, Callable[[Image, Path], tuple[Path, str]]]:
    """Format name -> function(image, folder) -> (path, item)."""
    return WRITERS


@pytest.fixture
def slices(anisotropic_image: Image) -> list[Dataset]:
    """The anisotropic image as five CT slices, in order."""
    return dicom_slices(anisotropic_image)


@pytest.fixture
def save_slices(tmp_path: Path) -> Callable[..., Path]:
    """Function(data sets, name="series") -> folder."""

    def save(datasets: list[Dataset], name: str = "series", seed: int = 0) -> Path:
        return save_dicom(datasets, tmp_path / name, seed=seed)

    return save


@pytest.fixture
def make_slices() -> Callable[..., list[Dataset]]:
    return dicom_slices


@pytest.fixture
def make_enhanced() -> Callable[[list[Dataset]], Dataset]:
    return enhanced


@pytest.fixture
def make_itk() -> Callable[[Image], SimpleITK.Image]:
    return to_itk
