"""Gaussian noise at the speed of memory: windows of a field that is drawn once.

Drawing a normal number costs more than all other variations of a pixel together. So a field of four million of them is
drawn once a process, always the same one, and each image gets a window of it at a place of its own. Within an image no
number comes twice.
"""

from __future__ import annotations

import functools

import torch

FIELD = 2**22
"""Numbers in the field: 16 MB."""
_FIELD_SEED = 20_110_913


def noise(size: int, places: torch.Tensor, seed: int) -> torch.Tensor:
    """(n, size) standard normal float32, on the device of ``places``: one of ``windows`` for each sample.

    Images of more than half the field's size are drawn number by number.
    """
    if size > FIELD // 2:
        drawn = (torch.randn(size, generator=torch.Generator().manual_seed(seed + place)) for place in places.tolist())
        return torch.stack([*drawn]).to(places.device)
    return _field(places.device).as_strided((FIELD - size + 1, size), (1, 1)).index_select(0, places)


def windows(count: int, size: int, seed: int) -> torch.Tensor:
    """(count,) places in the field for images of ``size`` numbers; the same for the same seed."""
    last = max(FIELD - size, FIELD // 2)
    return torch.randint(last + 1, (count,), generator=torch.Generator().manual_seed(seed))


@functools.cache
def _field(device: torch.device) -> torch.Tensor:
    return torch.randn(FIELD, generator=torch.Generator().manual_seed(_FIELD_SEED)).to(device)
