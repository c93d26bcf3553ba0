"""A mask in JSON: its classes with voxels and volumes, as a file, and as run lengths that need no library."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.bundle.overlay import COLOURS
from medrail.serve.forms import MaskParts
from medrail.serve.schemas import MaskAnswer, MaskClass, RunLengths
from medrail.types import Image

MOST_RUNS = 1_000_000
"""Of a mask with more of them, run lengths stand in JSON only where nothing else was asked for."""


def encode_runs(labels: npt.NDArray[Any]) -> RunLengths:
    """Run lengths of a mask (D, H, W) in C order: each run's value and its length; the inverse of ``decode_runs``.

    >>> encode_runs(np.array([[[0, 0, 2], [2, 0, 0]]])).model_dump()["lengths"]
    [2, 2, 2]
    """
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    d, h, w = labels.shape
    return RunLengths(shape=(d, h, w), values=flat[starts].tolist(), lengths=lengths.tolist())


def decode_runs(runs: RunLengths) -> npt.NDArray[np.uint8]:
    """The mask (D, H, W) of run lengths."""
    return np.repeat(np.array(runs.values, np.uint8), runs.lengths).reshape(runs.shape)


def count_runs(labels: npt.NDArray[Any]) -> int:
    """How many runs a mask has."""
    flat = labels.ravel()
    return 1 + int(np.count_nonzero(flat[1:] != flat[:-1]))


def mask_answer(mask: Image, classes: tuple[str, ...], file: Path | None, parts: MaskParts = "both") -> MaskAnswer:
    """What JSON says of a mask.

    file:
        The mask as PNG or NIfTI; None where ``parts`` leaves it out.
    """
    labels = mask.voxels[0]
    wanted = parts == "rle" or (parts == "both" and count_runs(labels) <= MOST_RUNS)
    data = None if file is None or parts in ("rle", "none") else base64.b64encode(file.read_bytes()).decode("ascii")
    encoding = "png;base64" if file is not None and file.suffix == ".png" else "nifti.gz;base64"
    return MaskAnswer(
        shape=mask.grid,
        spacing_mm=None if mask.geometry is None else mask.geometry.spacing_mm,
        classes=_classes(mask, classes),
        encoding=None if data is None else encoding,
        data=data,
        rle=encode_runs(labels) if wanted else None,
    )


def voxel_ml(mask: Image) -> float | None:
    """Volume of one voxel; None without physical space."""
    geometry = mask.geometry
    return None if geometry is None else abs(float(np.linalg.det(geometry.affine_ras_mm[:3, :3]))) / 1000


def _classes(mask: Image, classes: tuple[str, ...]) -> list[MaskClass]:
    counts = np.bincount(mask.voxels.ravel(), minlength=len(classes))
    each_ml = voxel_ml(mask)
    return [
        MaskClass(
            index=index,
            name=name,
            colour=_colour(index),
            voxels=int(counts[index]),
            volume_ml=None if each_ml is None else round(int(counts[index]) * each_ml, 6),
        )
        for index, name in enumerate(classes)
    ]


def _colour(index: int) -> str | None:
    """The colour in which ``overlay_png`` draws a class."""
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[(index - 1) % len(COLOURS)]) if index else None
