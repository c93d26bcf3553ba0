"""Augmentation of a whole batch: what was drawn (``Draws``) is applied by a pure function.

Images stay in their compact type as long as they are only mirrored, and are interpolated once, whatever moves them.
On a CPU a batch goes through in portions, so that every step's memory is the one that the portion before left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from medrail.data.compact import Compact
from medrail.data.draws import Draws
from medrail.data.movement import Grid, mirrored, moved
from medrail.data.variation import Variation

PORTION = 2**16
"""Values that go through the steps together on a CPU. Larger ones make the C library fetch memory from the system, page
by page, and give it back, for every step of every batch: at 64 px that took longer than all arithmetic."""


def augment(
    images: Compact, masks: torch.Tensor | None, draws: Draws, spacing: Sequence[float] = ()
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Apply what was drawn; pure: the same arguments give the same bits, and stay as they are.

    Parameters
    ----------
    images:
        (N, C, [D,] H, W).
    masks:
        (N, [D,] H, W) class indices of any integer type, or None. They move as the images do, nearest neighbour.
    spacing:
        Of ([D,] H, W), so that a rotation is one in space also where voxels are oblong; () for equal ones.

    Returns
    -------
    float32 images in memory of their own, with the channels last, and the masks in their type.
    """
    grid = None
    if draws.moves:
        grid = Grid.of(draws, images.values.shape[2:], spacing).to(images.values.device)
    else:
        images = Compact(mirrored(images.values, draws.flip), images.levels)
        masks = None if masks is None else mirrored(masks, draws.flip)
    shape, device = images.values.shape, images.values.device
    variation = Variation.of(draws, shape, device)
    result = torch.empty(shape, dtype=torch.float32, device=device, memory_format=_format(shape))
    labels = masks if masks is None or grid is None else torch.empty_like(masks)
    for part in _portions(shape, device):
        portion = images.part(part).floats()
        if grid is not None:
            positions = grid.positions(part)
            portion = moved(portion, positions)
            if masks is not None and labels is not None:
                labels[part] = moved(masks[part, None].float(), positions, labels=True)[:, 0]
        result[part] = variation.of_some(portion, part)
    return result, labels


def _format(shape: Sequence[int]) -> torch.memory_format:
    return torch.channels_last if len(shape) == 4 else torch.channels_last_3d


def _portions(shape: Sequence[int], device: torch.device) -> list[slice]:
    together = max(1, PORTION // math.prod(shape[1:])) if device.type == "cpu" else shape[0]
    return [slice(start, start + together) for start in range(0, shape[0], together)]
