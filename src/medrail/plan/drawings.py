"""DRAWINGS: each data layout as a person would draw it; shown when a folder fits none, and in the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medrail.config import DataKind


@dataclass(frozen=True)
class Drawing:
    """One layout: what it is called, which tasks it serves, and its picture in letters."""

    title: str
    tasks: str
    text: str


DRAWINGS: Mapping[DataKind, Drawing] = {
    "class_folders": Drawing(
        "one folder a class",
        "classification",
        """\
scans/
    normal/        a.png  b.png  ...
    pneumonia/     c.png  d.png  ...
or with the splits above: scans/train/normal/a.png, scans/test/normal/b.png, ...""",
    ),
    "csv": Drawing(
        "a table, one row an image",
        "classification and segmentation",
        """\
scans/
    table.csv      path,label,patient,split        or  path,mask,patient,split
                   images/a.png,normal,p01,train       images/a.png,masks/a.png,p01,train
    images/        a.png  b.png  ...
several labels an image: Effusion|Mass in the column label, or a column of 0 and 1 for each label""",
    ),
    "pairs": Drawing(
        "an image and its mask",
        "segmentation",
        """\
scans/
    images/        a.png  b.png  ...     or  imagesTr/ case_01.nii.gz
    masks/         a.png  b.png  ...         labelsTr/ case_01.nii.gz
or beside each other: scans/a.nii.gz, scans/a_mask.nii.gz, ...""",
    ),
    "dicom_folders": Drawing(
        "one folder of DICOM files a patient",
        "classification and segmentation",
        """\
scans/
    labels.csv     patient,label     or  patient,mask
    p01/           IM0001.dcm  IM0002.dcm  ...  (one series, or one folder a series)
    p02/           IM0001.dcm  IM0002.dcm  ...""",
    ),
    "medmnist": Drawing(
        "a MedMNIST file",
        "classification",
        """\
pneumoniamnist.npz     train_images  train_labels  val_images  val_labels  test_images  test_labels""",
    ),
    "slides": Drawing(
        "whole slides, cut into tiles",
        "classification and segmentation",
        """\
slides/
    labels.csv     slide,label,patient    or  slide,annotation,patient    (or one folder a class)
    a.svs          a.geojson              (what was drawn on it, where something was)
    b.svs          ...""",
    ),
}


def all_drawings() -> str:
    """Every layout with its name and drawing, as an error message shows them."""
    blocks = []
    for drawing in DRAWINGS.values():
        indented = "\n".join(f"    {line}" for line in drawing.text.splitlines())
        blocks.append(f"  * {drawing.title} ({drawing.tasks})\n{indented}")
    return "\n".join(blocks)
