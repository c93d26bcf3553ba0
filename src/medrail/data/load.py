"""load_samples: a store and the cases of one split -> Samples; every case is read once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from medrail.cases import target_index, targets_of
from medrail.data.compact import Levels
from medrail.data.fit import Needs, check_case, check_same_size, check_size, spacing_of
from medrail.data.memory import Array, Collected, as_tensor, fits, kept
from medrail.data.rows import Apart, Together
from medrail.data.samples import ForegroundVoxels, Patches, Samples, Wholes
from medrail.data.stored import Stored, stored
from medrail.prepare import Store
from medrail.types import Case

MOST_VOXELS_KEPT = 20_000


def load_samples(store: Store, cases: Sequence[Case], needs: Needs, *, budget_bytes: int | None = None) -> Samples:
    """Load prepared cases into memory.

    2-D: every slice (index of D) of every case is a sample. 3-D: every volume is one. With ``needs.patch``
    (segmentation): random patches.

    Parameters
    ----------
    budget_bytes:
        What is larger lies in a temporary file in the store's folder; None: half of the free memory.

    Raises
    ------
    PrepareError
        If a case's size, channels or values do not suit the network, or the cases differ in size; it names the case and
        the step that mends it.
    CaseError
        If a case has no label or mask.
    RunError
        If a case is not prepared.
    """
    if needs.patch and needs.task == "segmentation":
        return _load_patches(store, cases, needs, budget_bytes)
    return _load_wholes(store, cases, needs, budget_bytes)


def _load_wholes(store: Store, cases: Sequence[Case], needs: Needs, budget_bytes: int | None) -> Wholes:
    """One pass: every case is read once, checked, and copied to its place; or left in its file, if that is to be."""
    first = stored(store, cases[0].id)
    size, depth = first.image.shape[-needs.dims :], first.image.shape[1] if needs.dims == 2 else 1
    masked, expected = needs.task == "segmentation", depth * len(cases)
    in_place = isinstance(first.image, np.memmap) and not fits(first.image.nbytes * len(cases), budget_bytes)
    images, targets = (Collected(expected, store.folder, budget_bytes) for _ in range(2))
    pieces, subtracts, multiplies, spacings, counts = [], [], [], [], []
    for case in cases:
        found = first if case is cases[0] else stored(store, case.id)
        check_case(case, found.image, found.mask, needs)
        found_size = found.image.shape[-needs.dims :]
        check_size(case, found_size, needs)
        check_same_size(cases[0], size, case, found_size, needs)
        rows, labels = _rows(case, found, needs)
        if in_place:
            pieces.append(kept(rows, store.folder, 0))
        else:
            images.add(rows)
        targets.add(labels)
        spacings.append(spacing_of(found.geometry, needs.dims))
        subtracts += [found.subtract] * len(rows)
        multiplies += [found.multiply] * len(rows)
        counts.append(len(rows))
    target = targets.array()
    of_class = () if masked else _class_counts(target, needs)
    together = _apart(pieces, counts) if in_place else Together(as_tensor(images.array()))
    return Wholes(together, Levels.of(subtracts, multiplies), as_tensor(target), _middle(spacings), of_class)


def _class_counts(target: Array, needs: Needs) -> tuple[int, ...]:
    if needs.multi_label:
        return tuple(int(count) for count in np.asarray(target, dtype=np.int64).sum(axis=0))
    return tuple(np.bincount(target, minlength=len(needs.classes)).tolist())


def _rows(case: Case, found: Stored, needs: Needs) -> tuple[Array, Array]:
    """The samples of a case: images (n, C, [D,] H, W) and targets (n,), (n, K) or (n, [D,] H, W)."""
    images = np.moveaxis(found.image, 1, 0) if needs.dims == 2 else found.image[np.newaxis]
    if needs.task == "segmentation" and found.mask is not None:
        return images, found.mask[0] if needs.dims == 2 else found.mask
    if needs.multi_label:
        return images, np.tile(targets_of(case, needs.classes).astype(np.float32), (len(images), 1))
    return images, np.full(len(images), target_index(case, needs.classes), np.int64)


def _apart(pieces: Sequence[Array], counts: Sequence[int]) -> Apart:
    tensors = tuple(map(as_tensor, pieces))
    of_piece = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    row = torch.cat([torch.arange(count) for count in counts])
    return Apart(tensors, of_piece, row, _kind(tensors))


def _kind(tensors: Sequence[torch.Tensor]) -> torch.dtype:
    """The type that holds all of them without loss: numpy's rule, as torch's makes float16 of int16 and float16."""
    common = np.result_type(*{torch.empty(0, dtype=tensor.dtype).numpy().dtype for tensor in tensors})
    return torch.from_numpy(np.empty(0, common)).dtype


def _load_patches(store: Store, cases: Sequence[Case], needs: Needs, budget_bytes: int | None) -> Patches:
    depth, height, width = (1, *needs.patch) if needs.dims == 2 else needs.patch
    patch = (depth, height, width)
    check_size(None, needs.patch, needs)
    volumes, masks, foreground, spacings, case_of, subtracts, multiplies = [], [], [], [], [], [], []
    for number, case in enumerate(cases):
        found = stored(store, case.id)
        check_case(case, found.image, found.mask, needs)
        grid, found = found.image.shape[1:], _padded(found, patch)
        assert found.mask is not None  # noqa: S101 - check_case refuses such cases
        labels = found.mask[0]
        volumes.append(as_tensor(kept(found.image, store.folder, budget_bytes)))
        masks.append(as_tensor(kept(labels, store.folder, budget_bytes)))
        foreground.append(_foreground(labels, len(needs.classes)))
        spacings.append(spacing_of(found.geometry, needs.dims))
        subtracts.append(found.subtract)
        multiplies.append(found.multiply)
        case_of += [number] * math.ceil(math.prod(grid) / math.prod(patch))
    return Patches(
        tuple(volumes),
        _kind(volumes),
        Levels.of(subtracts, multiplies),
        tuple(masks),
        tuple(foreground),
        patch,
        torch.tensor(case_of),
        needs.dims == 2,
        _middle(spacings),
    )


def _padded(found: Stored, patch: Sequence[int]) -> Stored:
    """Zeros on both sides where a volume is smaller than the patch: what the sliding window does in service.

    They are zeros of the network's input, which the compact type may not have: such volumes become float32.
    """
    gaps = [max(0, want - have) for want, have in zip(patch, found.image.shape[1:], strict=True)]
    if not any(gaps) or found.mask is None:
        return found
    around = [(0, 0), *((gap // 2, gap - gap // 2) for gap in gaps)]
    image, mask = found.image, np.pad(found.mask, around)
    if (found.subtract != 0).any() or (found.multiply != 1).any():
        subtract, multiply = (part.reshape(-1, 1, 1, 1) for part in (found.subtract, found.multiply))
        image = (image.astype(np.float32) - subtract) * multiply
    ones = np.ones_like(found.multiply)
    return Stored(np.pad(image, around), np.zeros_like(ones), ones, mask, found.geometry)


def _foreground(labels: Array, n_classes: int) -> tuple[ForegroundVoxels, ...]:
    """For each foreground class that occurs, the flat indices of at most 20,000 of its voxels, evenly taken."""
    found = (np.flatnonzero(labels == label) for label in range(1, n_classes))
    return tuple(voxels[:: -(-len(voxels) // MOST_VOXELS_KEPT)] for voxels in found if len(voxels))


def _middle(spacings: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.median(np.array(spacings), axis=0))
