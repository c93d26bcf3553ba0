"""What DICOM objects say, read by pydicom alone: where each segment lies in the patient, what a report holds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, generate_uid

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def seg_voxels(path: Path, nifti: Path, off_mm: float = 0.02) -> np.ndarray:
    """What the segments say of each voxel of the NIfTI's grid; none lies farther than ``off_mm`` from one."""
    dataset = pydicom.dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    rows_mm, columns_mm = (float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing)
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    image = nibabel.load(nifti)
    to_index = np.linalg.inv(image.affine)
    found = np.zeros(image.shape, np.uint8)
    for frame, group in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        identity = group if "SegmentIdentificationSequence" in group else shared
        number = int(identity.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        origin = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        down, across = np.nonzero(frame)
        lps = origin + np.outer(down * rows_mm, axes[3:]) + np.outer(across * columns_mm, axes[:3])
        index = (lps * LPS_TO_RAS) @ to_index[:3, :3].T + to_index[:3, 3]
        nearest = np.rint(index).astype(int)
        away = (index - nearest) @ image.affine[:3, :3].T
        assert np.linalg.norm(away, axis=1).max(initial=0) < off_mm, "between two voxels"
        assert not found[tuple(nearest.T)].any(), "segments overlap"
        found[tuple(nearest.T)] = number
    return found


def nifti_voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def sources_of_frames(path: Path) -> list[tuple[str, int | None, tuple[float, ...]]]:
    """Of each frame the source's SOP Instance UID and frame number, and where the frame says that it lies."""
    found = []
    for group in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        position = tuple(float(x) for x in group.PlanePositionSequence[0].ImagePositionPatient)
        number = source.get("ReferencedFrameNumber")
        found.append((str(source.ReferencedSOPInstanceUID), None if number is None else int(number), position))
    return found


def check_values(dataset: Dataset) -> None:
    """Every value is one that its type allows (PS3.5, table 6.2-1), to every depth."""
    before = pydicom.config.settings.reading_validation_mode
    pydicom.config.settings.reading_validation_mode = pydicom.config.RAISE
    try:
        strict = pydicom.Dataset()
        for element in dataset.iterall():
            if element.VR != "SQ":
                strict.add_new(element.tag, element.VR, element.value)
    finally:
        pydicom.config.settings.reading_validation_mode = before


def said(path: Path) -> dict[str, list[Any]]:
    """Meaning of each concept -> what the report says of it, in its order."""
    found: dict[str, list[Any]] = {}

    def walk(items: Sequence[Dataset]) -> None:
        for item in items:
            name = item.ConceptNameCodeSequence[0].CodeMeaning if item.get("ConceptNameCodeSequence") else ""
            if item.ValueType == "NUM":
                value = item.MeasuredValueSequence[0]
                found.setdefault(name, []).append(float(value.NumericValue))
            elif item.ValueType == "CODE":
                found.setdefault(name, []).append(item.ConceptCodeSequence[0].CodeMeaning)
            elif item.ValueType == "IMAGE":
                reference = item.ReferencedSOPSequence[0]
                found.setdefault(name, []).append(str(reference.ReferencedSOPInstanceUID))
            elif item.ValueType in ("TEXT", "UIDREF"):
                found.setdefault(name, []).append(item.get("TextValue") or item.get("UID"))
            walk(item.get("ContentSequence") or ())

    walk(pydicom.dcmread(path).ContentSequence)
    return found


def enhanced(slices: Sequence[Dataset], order: Sequence[int], stacks: int = 1) -> Dataset:
    """A series as one enhanced multi-frame object, its frames in another order; further stacks are the same."""
    multi = copy.deepcopy(slices[0])
    multi.file_meta = FileMetaDataset()
    multi.file_meta.TransferSyntaxUID = slices[0].file_meta.TransferSyntaxUID
    multi.SOPClassUID = multi.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    multi.SOPInstanceUID = multi.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    frames = [(stack, slices[index]) for stack in range(stacks) for index in order]
    multi.NumberOfFrames = len(frames)
    multi.PixelData = b"".join(one.PixelData for _, one in frames)
    groups = []
    for stack, one in frames:
        position, orientation, measures, mapping, content, group = (Dataset() for _ in range(6))
        position.ImagePositionPatient = one.ImagePositionPatient
        orientation.ImageOrientationPatient = one.ImageOrientationPatient
        measures.PixelSpacing, measures.SliceThickness = one.PixelSpacing, one.SliceThickness
        mapping.RescaleSlope, mapping.RescaleIntercept, mapping.RescaleType = 1, one.RescaleIntercept, "HU"
        content.StackID = str(stack + 1)
        group.PlanePositionSequence, group.PlaneOrientationSequence = [position], [orientation]
        group.PixelMeasuresSequence, group.PixelValueTransformationSequence = [measures], [mapping]
        group.FrameContentSequence = [content]
        groups.append(group)
    multi.SharedFunctionalGroupsSequence, multi.PerFrameFunctionalGroupsSequence = [Dataset()], groups
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(multi, keyword)
    for keyword in ("RescaleSlope", "RescaleIntercept", "SliceThickness"):
        delattr(multi, keyword)
    return multi
