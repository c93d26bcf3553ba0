"""What is drawn when: generators that depend only on their place, and the order of the samples."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, *place: int | str) -> torch.Generator:
    """A generator for one place of a training run, as ``generator(seed, "augment", epoch, step)``.

    It depends on nothing that happened before, so a resumed run draws what an undisturbed one would have drawn.
    """
    text = "/".join(str(part) for part in (seed, *place))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(number)


def epoch_batches(count: int, batch_size: int, wanted: int, source: torch.Generator) -> list[torch.Tensor]:
    """The samples of one epoch as batches of indices.

    Parameters
    ----------
    count:
        Number of samples there are.
    batch_size:
        The largest batch; all batches have this size or one less, so that no tiny batch is left at the end.
    wanted:
        Samples in this epoch; 0: every one once. More than ``count``: each is taken again once all were.
    source:
        What the order is drawn from.
    """
    wanted = wanted or count
    rounds = -(-wanted // count)
    order = torch.cat([torch.randperm(count, generator=source) for _ in range(rounds)])[:wanted]
    batches = -(-wanted // batch_size)
    return list(torch.tensor_split(order, batches))


def batches_per_epoch(count: int, batch_size: int, wanted: int) -> int:
    """How many batches ``epoch_batches`` gives."""
    return -(-(wanted or count) // batch_size)
