"""batches: one epoch of augmented batches, the same ones whenever they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from medrail.config import TrainConfig
from medrail.data.augment import augment
from medrail.data.draws import draw
from medrail.data.order import epoch_batches, generator
from medrail.data.samples import Samples
from medrail.data.threads import one_thread


def batches(
    samples: Samples, settings: TrainConfig, epoch: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of one epoch, which depend only on the samples, the settings and the epoch's number.

    Each has ``settings.step_size`` samples, or one less, for one step. It is made when it is asked for, by one thread:
    about a hundredth of a ResNet-18's step on the same CPU. Threads that make batches ahead were tried, and training
    gained nothing that could be measured.

    Returns
    -------
    float32 images (N, C, [D,] H, W), the channels last in memory, and int64 targets, (N,) or
    (N, [D,] H, W), or of several labels float32 (N, K), on ``device``.
    """
    order = generator(settings.seed, "order", epoch)
    chosen = epoch_batches(samples.count, settings.step_size, settings.samples_per_epoch, order)
    for step, indices in enumerate(chosen):
        with one_thread():
            batch = _batch(samples, settings, indices, (epoch, step), device)
        yield batch


def _batch(
    samples: Samples, settings: TrainConfig, indices: torch.Tensor, place: tuple[int, int], device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch; ``place``: epoch and step."""
    taken, targets = samples.take(indices, generator(settings.seed, "patches", *place))
    taken, targets = taken.to(device), targets.to(device)
    source = generator(settings.seed, "augment", *place)
    draws = draw(settings.augment, len(indices), len(samples.size), source, samples.spacing_mm)
    images, masks = augment(taken, targets if targets.ndim > 2 else None, draws, samples.spacing_mm)
    return images, targets if masks is None else masks.long()
