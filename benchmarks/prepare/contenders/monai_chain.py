"""MONAI's dictionary transforms, one after another, as its tutorials have them; numpy stores float32.

The reader is PydicomReader with the metadata pruned, the one that a plain installation of MONAI and pydicom has for a
DICOM folder (ITKReader needs the package itk, a second copy of ITK, which medrail's lock does not have).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import PydicomReader
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    Resized,
    ScaleIntensityRanged,
    Spacingd,
)

PROCESSES = 2


@contextmanager
def serial(options: Mapping[str, Any]) -> Iterator[Any]:
    """One process, with the threads that torch itself uses."""
    chain = _chain(options)

    def work(paths: Sequence[Path], out: Path) -> None:
        for path in paths:
            _one(chain, out, path)

    yield work


@contextmanager
def processes(options: Mapping[str, Any]) -> Iterator[Any]:
    """Two processes with one thread each; results are stored where they are made."""
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), partial(_start, options)) as pool:

        def work(paths: Sequence[Path], out: Path) -> None:
            for _ in pool.map(partial(_in_process, out), paths):
                pass

        yield work


_ready: list[Compose] = []


def _start(options: Mapping[str, Any]) -> None:
    torch.set_num_threads(1)
    _ready.append(_chain(options))


def _in_process(out: Path, path: Path) -> None:
    _one(_ready[0], out, path)


def _chain(options: Mapping[str, Any]) -> Compose:
    if "size" in options:
        grid: Any = Resized("image", options["size"], mode="trilinear", align_corners=False)
    else:
        grid = Spacingd("image", [options["spacing_mm"]] * 3, mode="bilinear", padding_mode="border")
    low, high = options["window"]
    return Compose(
        [
            LoadImaged("image", reader=PydicomReader(prune_metadata=True)),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="LPS"),
            ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True),
            grid,
        ]
    )


def _one(chain: Compose, out: Path, path: Path) -> None:
    image = chain({"image": str(path)})["image"]
    np.save(out / f"{path.name.partition('.')[0]}.npy", image.numpy()[0])
