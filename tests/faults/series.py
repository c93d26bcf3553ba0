"""Good series to break: small 16-bit CT of anisotropic sizes in any orientation, every voxel of another value."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

_AXES = {
    "axial": [1, 0, 0, 0, 1, 0],
    "feet first": [-1, 0, 0, 0, 1, 0],
    "sagittal": [0, 1, 0, 0, 0, -1],
    "coronal": [1, 0, 0, 0, 0, -1],
}


def good_series(rng: np.random.Generator) -> list[Dataset]:
    """8 to 14 slices in order along row direction x column direction; positions are rounded as scanners do."""
    count, rows, columns = int(rng.integers(8, 15)), int(rng.integers(5, 9)), int(rng.integers(9, 13))
    spacing_mm = float(rng.choice([0.625, 1.0, 1.25, 2.5, 3.0, 5.0]))
    axes = _axes(rng)
    normal = np.cross(axes[:3], axes[3:])
    origin = rng.uniform(-300, 300, 3)
    decimals = int(rng.integers(2, 6))
    pixel_mm = [round(float(size), 4) for size in rng.uniform(0.4, 1.2, 2)]
    series, frame, study = generate_uid(), generate_uid(), generate_uid()
    values = np.arange(count * rows * columns, dtype=np.int16).reshape(count, rows, columns)
    slices = []
    for index in range(count):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.PatientName, dataset.PatientID = "Secretive^Sally", "PID-4711"
        dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber, dataset.AcquisitionNumber = index + 1, 1
        dataset.ContentTime = f"1200{index:02d}.5"
        position = origin + index * spacing_mm * normal
        dataset.ImagePositionPatient = [round(float(x), decimals) for x in position]
        dataset.ImageOrientationPatient = [round(float(x), 6) for x in axes]
        dataset.PixelSpacing, dataset.SliceThickness = pixel_mm, spacing_mm
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.PixelData = values[index].astype("<i2").tobytes()
        slices.append(dataset)
    return slices


def _axes(rng: np.random.Generator) -> np.ndarray:
    name = str(rng.choice([*_AXES, "oblique"]))
    if name != "oblique":
        return np.array(_AXES[name], dtype=float)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.concatenate([rotation[:, 0], rotation[:, 1]])


def voxels_of(slices: Sequence[Dataset]) -> np.ndarray:
    """(D, H, W) in Hounsfield units, in the order given."""
    planes = [np.frombuffer(one.PixelData, "<i2").reshape(one.Rows, one.Columns) for one in slices]
    return np.stack(planes) * int(slices[0].RescaleSlope) + int(slices[0].RescaleIntercept)


def copied(slices: Sequence[Dataset]) -> list[Dataset]:
    return [copy.deepcopy(one) for one in slices]


def write_files(
    slices: Sequence[Dataset],
    folder: Path,
    rng: np.random.Generator,
    *,
    ending: str = ".dcm",
    kept: dict[int, float] | None = None,
) -> Path:
    """Write under names in random order; of those in ``kept`` only that share of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (dataset, name) in enumerate(zip(slices, rng.permutation(len(slices)), strict=True)):
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        content = buffer.getvalue()
        if kept and index in kept:
            content = content[: len(content) - max(1, round(len(dataset.PixelData) * (1 - kept[index])))]
        (folder / f"IM{name:04d}{ending}").write_bytes(content)
    return folder
