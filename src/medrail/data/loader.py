"""batches: one epoch of augmented batches, the same ones whenever they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from medrail.config import TrainConfig
from medrail.data.augment import augment
from medrail.data.draws import draw
from medrail.data.order import epoch_batches, generator
from medrail.data.samples import Samples


def batches(
    samples: Samples, settings: TrainConfig, epoch: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of one epoch, which depend only on the samples, the settings and the epoch's number.

    Returns
    -------
    float32 images (N, C, [D,] H, W), 2-D ones with the channels last in memory, and int64 targets, (N,) or
    (N, [D,] H, W), on ``device``.
    """
    seed, dims = settings.seed, len(samples.size)
    order = generator(seed, "order", epoch)
    for step, indices in enumerate(
        epoch_batches(samples.count, settings.batch_size, settings.samples_per_epoch, order)
    ):
        taken, targets = samples.take(indices, generator(seed, "patches", epoch, step))
        taken, targets = taken.to(device), targets.to(device)
        draws = draw(settings.augment, len(indices), dims, generator(seed, "augment", epoch, step), samples.spacing_mm)
        masks = targets if targets.ndim > 1 else None
        images, masks = augment(taken, masks, draws, samples.spacing_mm)
        yield images, (targets if masks is None else masks).long()
