"""The raw data of the demos, laid out as a user's would be: NIfTI volumes and masks, or PNG slices, and a CSV."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import PIL.Image

from medrail.prepare import Pipeline
from medrail.read import read
from medrail.types import Image, Voxels
from medrail.workspace import write_text

TRAINED_ON, TESTED_ON = "colin27", "mni152"
SPLIT_OF_HEAD = {TRAINED_ON: "train", TESTED_ON: "test"}
# The array axis (of D, H, W) across each plane, once the volume lies as D = S, H = P, W = L.
PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}
_SMALLEST_HEAD_SHARE = 0.10  # of a slice; less is an edge where nobody could tell the plane

_EXAMPLE_SLICE = 60  # of the test head's 109 coronal ones


@dataclass(frozen=True)
class Example:
    """What was laid out, in a sentence, and one image of the test head to predict."""

    summary: str
    image: Path


def lay_out_segmentation(raw: Path) -> Example:
    """Write ``images/HEAD.nii.gz``, ``masks/HEAD.nii.gz`` and ``table.csv`` (path, mask, patient, split)."""
    rows = []
    for head, split in SPLIT_OF_HEAD.items():
        _copy(f"{head}_t1.nii.gz", raw / "images" / f"{head}.nii.gz")
        _copy(f"{head}_brain.nii.gz", raw / "masks" / f"{head}.nii.gz")
        rows.append([f"images/{head}.nii.gz", f"masks/{head}.nii.gz", head, split])
    _write_table(raw / "table.csv", ["path", "mask", "patient", "split"], rows)
    summary = f"T1 MRI and brain masks of two heads: {TRAINED_ON} to train on, {TESTED_ON} to test on"
    return Example(summary, raw / "images" / f"{TESTED_ON}.nii.gz")


def lay_out_slices(raw: Path) -> Example:
    """Write ``PLANE/HEAD_NNN.png`` for each slice that shows some head and ``table.csv`` (path, label, patient, split).

    The labels come from the volume's geometry: after reorientation the slices across D are axial, across H coronal, and
    across W sagittal.
    """
    rows = []
    for head, split in SPLIT_OF_HEAD.items():
        for plane, number, pixels in _slices(_head(head)):
            path = raw / plane / f"{head}_{number:03d}.png"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                PIL.Image.fromarray(pixels).save(path.with_suffix(".part"), format="png")
                path.with_suffix(".part").replace(path)
            rows.append([f"{plane}/{path.name}", plane, head, split])
    _write_table(raw / "table.csv", ["path", "label", "patient", "split"], rows)
    counts = ", ".join(f"{sum(row[2] == head for row in rows)} of {head}" for head in SPLIT_OF_HEAD)
    summary = f"PNG slices of two heads in three planes: {counts}"
    return Example(summary, raw / "coronal" / f"{TESTED_ON}_{_EXAMPLE_SLICE:03d}.png")


def _head(head: str) -> Image:
    with as_file(files(__package__).joinpath("heads", f"{head}_t1.nii.gz")) as path:
        image = read(path)
    return Pipeline.from_dict([{"kind": "orient"}])(image)


def _slices(image: Image) -> Iterator[tuple[str, int, Voxels]]:
    """Plane, number and 8-bit pixels of each slice, superior or anterior at the top."""
    low, high = np.percentile(image.voxels, (0.5, 99.5))
    scaled = np.clip((image.voxels[0].astype(np.float32) - low) / (high - low), 0, 1)
    head = scaled > 0.1
    pixels = np.round(scaled * 255).astype(np.uint8)
    for plane, axis in PLANES.items():
        for number in range(pixels.shape[axis]):
            if np.take(head, number, axis).mean() >= _SMALLEST_HEAD_SHARE:
                one = np.take(pixels, number, axis)
                yield plane, number, np.ascontiguousarray(one if plane == "axial" else one[::-1])


def _copy(name: str, path: Path) -> None:
    with as_file(files(__package__).joinpath("heads", name)) as source:
        if not path.is_file() or path.stat().st_size != source.stat().st_size:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)


def _write_table(path: Path, header: list[str], rows: list[list[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    if not path.is_file() or path.read_text(encoding="utf-8") != text.getvalue():
        write_text(path, text.getvalue())
