"""Shapes: 2-D or 3-D, and the spatial steps, so that training fits this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.cases.listing import counted
from medrail.config import ModelName, Task
from medrail.plan.effort import SMALL, Work, epoch_seconds, epochs_for, ladder, rounded, rounded_up
from medrail.plan.fingerprint import Fingerprint, Spacing
from medrail.plan.machine import Machine
from medrail.plan.notes import Notes

Step = dict[str, Any]

_ANISOTROPIC = 2.5  # slices this much thicker than wide are looked at one plane only
_THIN = 8  # with fewer slices there is no depth to convolve over
_FEW_VOLUMES = 10
_LEAST_EPOCHS, _MOST_EPOCHS = 12, 60
_SIZES_DIFFER = 1.2  # the longest sides; with less, a resize changes the scale no more than augmentation does
_MOST_NATIVE = 1024
_LEAST_SIDE = 16  # of a thumbnail that is not made larger
_LEAST_PATCH, _LARGEST_PATCH = 128, 320
_PLANES = ("axial", "coronal", "sagittal")  # the plane whose normal is S-I, A-P, R-L
_PREPARED_BYTES_A_VOXEL = 20  # a float copy, its resampled copy, the mask, and what the network needs


@dataclass(frozen=True)
class Shape:
    """What was decided.

    before, after:
        Spatial steps before and after those on grey values.
    work:
        What an epoch costs; ``epochs`` and ``samples_per_epoch`` (0: all) follow from it.
    """

    before: tuple[Step, ...]
    after: tuple[Step, ...]
    work: Work
    epochs: int
    samples_per_epoch: int = 0
    patch: tuple[int, ...] = ()

    @property
    def network(self) -> ModelName:
        name: ModelName = "unet"
        if self.work.network == "tiny_cnn":
            name = "tiny_cnn"
        elif self.work.network == "resnet18":
            name = "resnet18"
        return name


def choose_shape(found: Fingerprint, task: Task, train_cases: int, machine: Machine, notes: Notes) -> Shape:
    """Pictures stay pictures; volumes become slices or stay volumes, by task, depth, number and machine."""
    if not found.is_volume:
        return _picture(found, task, train_cases, machine, notes)
    if task == "classification":
        return _volume_class(found, train_cases, machine, notes)
    spacing_mm = found.median_spacing_mm
    if spacing_mm is None:
        notes.inferred.append("volumes without physical space: each slice is a picture for a 2-D network")
        return _picture(found, task, train_cases, machine, notes)
    return _volume_mask(found, spacing_mm, train_cases, machine, notes)


def _picture(found: Fingerprint, task: Task, train_cases: int, machine: Machine, notes: Notes) -> Shape:
    grids = np.array(found.grids)
    slices = int(np.median(grids[:, 0]))
    height, width = float(np.median(grids[:, 1])), float(np.median(grids[:, 2]))
    network = "unet" if task == "segmentation" else _classifier(train_cases, machine)
    most = 512 if task == "segmentation" else 320 if machine.gpu else 224
    least = 128 if task == "segmentation" else 96
    aspects = grids[:, 2] / grids[:, 1]
    samples = max(1, train_cases * slices)
    wanted = _wanted_epochs(samples)
    if task == "segmentation":
        native = _native_patches(grids, train_cases, wanted, machine, notes)
        if native is not None:
            return native
    sizes = []
    for longest in ladder(max(height, width), most, least):
        factor = longest / max(height, width)
        sizes.append((rounded(height * factor), rounded(width * factor)))
    if task == "classification" and min(height, width) >= _LEAST_SIDE and max(height, width) < SMALL:
        sizes = [(round(height), round(width))]  # thumbnails stay as they are: nothing is gained by stretching them
    works = [Work(network, 2, samples, size) for size in sizes]
    shape = _affordable(works, machine, wanted)
    varied = float(aspects.max() / aspects.min()) > 1.1
    resize: Step = {"kind": "resize", "size": list(shape.work.size)}
    if varied:
        resize |= {"keep_aspect": True, "pad_value": "min"}
    if max(shape.work.size) < max(height, width) / 4 and task == "segmentation":
        notes.unsure.append(
            f"pictures of {width:.0f} x {height:.0f} are trained at {shape.work.size[1]} x {shape.work.size[0]}: "
            "small structures may vanish; a larger resize, or model.patch, costs time"
        )
    return Shape((resize,), (), shape.work, shape.epochs, shape.samples_per_epoch)


def _native_patches(
    grids: npt.NDArray[np.int_], train_cases: int, wanted: int, machine: Machine, notes: Notes
) -> Shape | None:
    """Patches at the pictures' own resolution where their sizes differ so much that resizing would change the scale of
    what is seen, if the machine can; else None. ``grids``: (n, 3), D, H, W.
    """
    longest = grids[:, 1:].max(axis=1)
    if longest.max() < _SIZES_DIFFER * longest.min() or longest.max() > _MOST_NATIVE:
        return None
    height, width = (
        min(_LARGEST_PATCH, max(_LEAST_PATCH, rounded(float(np.median(grids[:, axis]))))) for axis in (1, 2)
    )
    pieces = np.prod(np.ceil(grids[:, 1:] / [height, width]), axis=1) * grids[:, 0]
    work = Work("unet", 2, max(1, math.ceil(float(pieces.mean()) * train_cases)), (height, width))
    fewest = max(10, wanted // 3)
    epochs = epochs_for(epoch_seconds(work, machine), wanted, 1, machine.minutes)
    if epochs < max(fewest, wanted // 2):
        return None
    notes.inferred.append(
        f"pictures of {longest.min()} to {longest.max()} pixels: trained on patches of {width} x {height} at their own "
        "resolution, which a resize would make unequal; a window slides over larger ones"
    )
    return Shape((), (), work, epochs, patch=(height, width))


def _volume_class(found: Fingerprint, train_cases: int, machine: Machine, notes: Notes) -> Shape:
    orient: tuple[Step, ...] = ({"kind": "orient", "axes": "LPS"},) if found.has_geometry else ()
    depth, height, width = found.median_grid
    if depth < _THIN:
        notes.inferred.append(f"{depth} slices a volume: a 2-D network looks at each, and their mean is the answer")
        flat = _picture(found, "classification", train_cases, machine, notes)
        return Shape((*orient, *flat.before), (), flat.work, flat.epochs, flat.samples_per_epoch)
    spacing = found.median_spacing_mm or (1.0, 1.0, 1.0)
    extents = [n * mm for n, mm in zip((depth, height, width), spacing, strict=True)]
    network = _classifier(train_cases, machine)
    works = []
    for longest in ladder(max(extents) / min(spacing), 160 if machine.gpu else 96, 32):
        size = tuple(
            min(rounded(longest * extent / max(extents)), rounded_up(n))
            for extent, n in zip(extents, (depth, height, width), strict=True)
        )
        works.append(Work(network, 3, max(1, train_cases), size))
    shape = _affordable(works, machine, _wanted_epochs(train_cases))
    notes.inferred.append(f"volumes of {depth} slices: a 3-D network at {' x '.join(map(str, shape.work.size))}")
    resize: Step = {"kind": "resize", "size": list(shape.work.size)}
    return Shape((*orient, resize), (), shape.work, shape.epochs, shape.samples_per_epoch)


def _volume_mask(found: Fingerprint, spacing_mm: Spacing, train_cases: int, machine: Machine, notes: Notes) -> Shape:
    """3-D patches where the machine can, else slices; coarser than the median spacing where that takes too long."""
    slices_wanted = train_cases < _FEW_VOLUMES or found.median_grid[0] < 2 * _THIN
    if not slices_wanted:
        three = _patches(found, spacing_mm, train_cases, machine, notes)
        if three is not None:
            return three
    planes = _planes(spacing_mm)
    tried = [
        (target, work)
        for target in _coarser(found, spacing_mm, machine)
        for work in [_slices_work(found, target, planes, train_cases)]
    ]
    works = [work for _, work in tried]
    wanted = max(12, min(_MOST_EPOCHS, 12_000 // max(1, works[0].samples)))
    shape = _affordable(works, machine, wanted)
    target = tried[works.index(shape.work)][0]
    why = "few volumes" if slices_wanted else f"3-D patches would take too long on {counted(machine.cores, 'core')}"
    notes.inferred.append(f"a 2-D network on {', '.join(planes)} slices ({why}); their answers are put together in 3-D")
    steps: tuple[Step, ...] = ({"kind": "orient", "axes": "LPS"}, _resample(target, spacing_mm, notes))
    cut: Step = {"kind": "slices", "planes": list(planes), "size": list(shape.work.size), "pad_value": "min"}
    return Shape(steps, (cut,), shape.work, shape.epochs, shape.samples_per_epoch)


def _patches(found: Fingerprint, spacing_mm: Spacing, train_cases: int, machine: Machine, notes: Notes) -> Shape | None:
    """3-D patches at a spacing at which an epoch takes a reasonable time, or None."""
    coarsest = 2.0 if machine.gpu else 1.6
    for target in _coarser(found, spacing_mm, machine):
        if max(new / old for new, old in zip(target, spacing_mm, strict=True)) > coarsest:
            return None
        grid = np.median([_grid_at(extent, target) for extent in found.extents_mm], axis=0)
        patch = tuple(min(rounded_up(float(n)), 96 if machine.gpu else 64) for n in grid)
        patches = math.ceil(float(np.prod(grid)) / math.prod(patch)) * train_cases
        work = Work("unet", 3, patches, patch)
        if epochs_for(epoch_seconds(work, machine), 30, 1, machine.minutes) < 20:
            continue
        epochs = epochs_for(epoch_seconds(work, machine), _MOST_EPOCHS, 20, machine.minutes)
        notes.inferred.append(f"a 3-D network on patches of {' x '.join(map(str, patch))} voxels")
        steps: tuple[Step, ...] = ({"kind": "orient", "axes": "LPS"}, _resample(target, spacing_mm, notes))
        return Shape(steps, (), work, epochs, patch=patch)
    return None


def _coarser(found: Fingerprint, spacing_mm: Spacing, machine: Machine) -> list[Spacing]:
    """The median spacing and coarser ones at which one case fits into a quarter of the memory.

    Thin directions are coarsened first: a voxel becomes rounder, never longer.
    """
    targets: list[Spacing] = []
    for factor in (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0):
        floor = min(spacing_mm) * factor
        target = tuple(round(max(mm, floor), 2) for mm in spacing_mm)
        largest = max(math.prod(_grid_at(extent, target)) for extent in found.extents_mm)
        if largest * found.channels[-1] * _PREPARED_BYTES_A_VOXEL <= machine.memory_gb / 4 * 2**30:
            targets.append((target[0], target[1], target[2]))
    return targets or [(target[0], target[1], target[2])]


def _grid_at(extent_mm: Spacing, target_mm: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(max(1, round(mm / new)) for mm, new in zip(extent_mm, target_mm, strict=True))


def _planes(spacing_mm: Spacing) -> tuple[str, ...]:
    """All three planes of nearly cubic voxels, else the one in which pixels are small."""
    if max(spacing_mm) <= _ANISOTROPIC * min(spacing_mm):
        return _PLANES
    return (_PLANES[int(np.argmax(spacing_mm))],)


def _slices_work(found: Fingerprint, target: Spacing, planes: tuple[str, ...], train_cases: int) -> Work:
    """The slices of all volumes, each put into a picture that holds the largest of the sampled ones."""
    grids = np.array([_grid_at(extent, target) for extent in found.extents_mm])
    normals = [_PLANES.index(plane) for plane in planes]
    in_plane = {0: (1, 2), 1: (0, 2), 2: (0, 1)}
    height = max(int(grids[:, in_plane[normal][0]].max()) for normal in normals)
    width = max(int(grids[:, in_plane[normal][1]].max()) for normal in normals)
    count = int(np.median(grids[:, normals].sum(axis=1)))
    return Work("unet", 2, max(1, train_cases * count), (rounded_up(height), rounded_up(width)))


def _resample(target: Spacing, spacing_mm: Spacing, notes: Notes) -> Step:
    shown = " x ".join(f"{mm:g}" for mm in target)
    own = " x ".join(f"{mm:g}" for mm in spacing_mm)
    coarser = f", coarser than the median {own} so that training fits this machine" if target != spacing_mm else ""
    notes.inferred.append(f"volumes are brought to {shown} mm{coarser}")
    return {"kind": "resample", "spacing_mm": list(target)}


def _affordable(works: list[Work], machine: Machine, wanted: int) -> Shape:
    """The first (finest) work that allows half of the wanted epochs, else the last, with an epoch cut short."""
    fewest = max(10, wanted // 3)
    for work in works:
        if epochs_for(epoch_seconds(work, machine), wanted, 1, machine.minutes) >= max(fewest, wanted // 2):
            return Shape((), (), work, epochs_for(epoch_seconds(work, machine), wanted, fewest, machine.minutes))
    work = works[-1]
    seconds = epoch_seconds(work, machine)
    epochs = epochs_for(seconds, wanted, 1, machine.minutes)
    if epochs >= fewest:
        return Shape((), (), work, epochs)
    samples = max(256, int(work.samples * machine.minutes * 60 / (seconds * fewest)))
    return Shape((), (), work, fewest, samples if samples < work.samples else 0)


def _wanted_epochs(samples: int) -> int:
    """About 20,000 samples seen, between 12 and 60 epochs."""
    return max(_LEAST_EPOCHS, min(_MOST_EPOCHS, 20_000 // max(1, samples)))


def _classifier(train_cases: int, machine: Machine) -> str:
    return "resnet18" if train_cases >= 400 or machine.gpu else "tiny_cnn"
