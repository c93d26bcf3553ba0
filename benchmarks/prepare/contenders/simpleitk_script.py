"""The usual script: SimpleITK reads, windows and resamples each case, numpy stores it in float32.

In its own best form: all filters are SimpleITK's own, which use every core, and the result is written from SimpleITK's
memory without a copy. Errors come out (in many such scripts the threads swallow them, as nobody takes the results).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  as in its documentation

THREADS, PROCESSES = 4, 2


@contextmanager
def serial(options: Mapping[str, Any]) -> Iterator[Any]:
    """One case after the other, in one process, with the threads that SimpleITK itself uses."""

    def work(paths: Sequence[Path], out: Path) -> None:
        for path in paths:
            one(options, out, path)

    yield work


@contextmanager
def single(options: Mapping[str, Any]) -> Iterator[Any]:
    """The same on one thread: what one core does."""
    one_thread()
    with serial(options) as work:
        yield work


@contextmanager
def threads(options: Mapping[str, Any]) -> Iterator[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        yield partial(mapped, pool, options)


@contextmanager
def processes(options: Mapping[str, Any]) -> Iterator[Any]:
    """Two processes with one thread each."""
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), one_thread) as pool:
        yield partial(mapped, pool, options)


def mapped(pool: Executor, options: Mapping[str, Any], paths: Sequence[Path], out: Path) -> None:
    for _ in pool.map(partial(one, options, out), paths):
        pass


def one_thread() -> None:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def one(options: Mapping[str, Any], out: Path, path: Path) -> None:
    image = sitk.DICOMOrient(_read(path), "LPS")
    low, high = options["window"]
    image = sitk.IntensityWindowing(sitk.Cast(image, sitk.sitkFloat32), low, high, 0.0, 1.0)
    image = _resampled(image, options)
    np.save(out / f"{path.name.partition('.')[0]}.npy", sitk.GetArrayViewFromImage(image))


def _read(path: Path) -> sitk.Image:
    if not path.is_dir():
        return sitk.ReadImage(str(path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    return reader.Execute()


def _resampled(image: sitk.Image, options: Mapping[str, Any]) -> sitk.Image:
    """Onto ``size`` (x, y, z), the borders in place, or onto ``spacing_mm``, the first voxel in place."""
    old, origin = image.GetSpacing(), image.GetOrigin()
    if "size" in options:
        size = options["size"]
        spacing = [n * s / m for n, s, m in zip(image.GetSize(), old, size, strict=True)]
        origin = image.TransformContinuousIndexToPhysicalPoint(
            [(new / was - 1) / 2 for new, was in zip(spacing, old, strict=True)]
        )
    else:
        spacing = [options["spacing_mm"]] * 3
        size = [round(n * s / new) for n, s, new in zip(image.GetSize(), old, spacing, strict=True)]
    return sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, origin, spacing, image.GetDirection(), 0.0, sitk.sitkFloat32
    )
