"""What a network is fed: inputs of its size from prepared cases, to calibrate it by; and mixtures of them, to ship."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medrail.bundle import NetworkSpec
from medrail.errors import ExportError
from medrail.prepare import Store
from medrail.types import Case, Image

FloatArray = npt.NDArray[np.float32]

MIXED = 8
"""Inputs that one mixture is made of."""
MOST_MIXTURES = 4
LARGEST_MIXTURES_BYTES = 4 * 2**20


def network_inputs(
    spec: NetworkSpec, store: Store, cases: Sequence[Case], count: int, seed: int = 0
) -> tuple[FloatArray, ...]:
    """Inputs of the network's size, (C, [D,] H, W) each, from cases evenly over the list.

    A 2-D network gets slices, a network with a patch size windows; every second one is taken around a labelled voxel,
    where the case has a mask.

    Raises
    ------
    ExportError
        If there is no case.
    RunError
        If a case is not prepared.
    """
    if not cases:
        raise ExportError("no prepared case to take inputs from", remedy="Run `medrail prepare` first.")
    in_order = sorted(cases, key=lambda case: case.id)
    looked_at = min(count, len(in_order))
    chosen = [in_order[index * len(in_order) // looked_at] for index in range(looked_at)]
    source = np.random.default_rng(seed)
    taken: list[FloatArray] = []
    for index, case in enumerate(chosen):
        image, mask = store.load(case.id)
        several = count // looked_at + (index < count % looked_at)
        whole = spec.dims == 3 and image.grid == (spec.patch or spec.grid)
        for number in range(1 if whole or image.grid[0] == 1 else several):
            labelled = mask is not None and number % 2 == 0
            taken.append(_input(spec, image, mask if labelled else None, source))
    return tuple(taken)


def mixtures(inputs: Sequence[FloatArray], seed: int = 0) -> FloatArray:
    """Inputs like these that are no patient's: (N, C, [D,] H, W), at most 4 of them and 4 MiB, and at least one.

    Each is the mean of eight, each of them mirrored along axes by chance, brought back to the contrast of one. They
    travel in bundles, where an image of a patient must not.
    """
    source = np.random.default_rng(seed)
    alike = [one for one in inputs if one.shape == inputs[0].shape]
    kept_bytes = alike[0].size * np.dtype(np.float16).itemsize
    count = int(np.clip(LARGEST_MIXTURES_BYTES // kept_bytes, 1, MOST_MIXTURES))
    return np.stack([_mixture(alike, source) for _ in range(count)])


def _mixture(inputs: Sequence[FloatArray], source: np.random.Generator) -> FloatArray:
    order = np.concatenate([source.permutation(len(inputs)) for _ in range(-(-MIXED // len(inputs)))])[:MIXED]
    spatial = range(1, inputs[0].ndim)
    parts = [np.flip(inputs[index], tuple(axis for axis in spatial if source.integers(2))) for index in order]
    mean = np.mean(parts, axis=0, dtype=np.float64)
    axes = tuple(spatial)
    middle = mean.mean(axis=axes, keepdims=True)
    contrast = np.mean([part.std(axis=axes, keepdims=True) for part in parts], axis=0)
    left = mean.std(axis=axes, keepdims=True)
    return np.asarray(middle + (mean - middle) * contrast / np.where(left > 0, left, 1), dtype=np.float32)


def _input(spec: NetworkSpec, image: Image, mask: Image | None, source: np.random.Generator) -> FloatArray:
    grid, wanted = image.grid, spec.patch or spec.grid
    size = (1, *(wanted or grid[1:])) if spec.dims == 2 else (wanted or grid)
    centre = _labelled_voxel(mask, source) if mask is not None else None
    corner = []
    for axis, (have, want) in enumerate(zip(grid, size, strict=True)):
        room = max(0, have - want)
        corner.append(
            int(source.integers(room + 1)) if centre is None else int(np.clip(centre[axis] - want // 2, 0, room))
        )
    box = tuple(slice(start, start + want) for start, want in zip(corner, size, strict=True))
    window = np.asarray(image.voxels[(slice(None), *box)], dtype=np.float32)
    missing = [want - have for have, want in zip(window.shape[1:], size, strict=True)]
    padded = np.pad(window, [(0, 0), *((gap // 2, gap - gap // 2) for gap in missing)])
    return np.ascontiguousarray(padded[:, 0] if spec.dims == 2 else padded)


def _labelled_voxel(mask: Image, source: np.random.Generator) -> tuple[int, ...] | None:
    found = np.flatnonzero(mask.voxels[0])
    if not len(found):
        return None
    return tuple(int(index) for index in np.unravel_index(found[source.integers(len(found))], mask.grid))
