"""The loss of each task, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from monai.losses.dice import DiceCELoss
from torch import nn

from medrail.config import Task, TrainConfig
from medrail.errors import ConfigError

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits (N, K, ...), int64 targets (N, ...), or of several labels float32 (N, K)) -> scalar."""

WARM_UP_SHARE = 0.05
LARGEST_WEIGHT = 20.0
"""Of an image that has a rare label. One in a thousand would count a thousand times, and every step be about it."""


def amount(loss_of: Loss, targets: torch.Tensor) -> torch.Tensor:
    """What the mean of a loss is taken over: samples or, where classes have weights, the sum of theirs."""
    weights = loss_of.weight if isinstance(loss_of, nn.CrossEntropyLoss) else None
    if weights is None:
        return torch.tensor(float(len(targets)), device=targets.device)
    total: torch.Tensor = weights[targets].sum()
    return total


def make_loss(
    config: TrainConfig,
    task: Task,
    class_counts: Sequence[int],
    device: torch.device,
    *,
    several_of: int | None = None,
) -> Loss:
    """Cross entropy for classification (of several labels: binary, of each by itself), Dice + cross entropy for
    segmentation, unless configured otherwise.

    Dice (Milletari et al., 3DV 2016) is taken over the whole batch, so that slices without foreground do not count as
    samples of their own, and without the background.

    Parameters
    ----------
    class_counts:
        Samples of each class, for weights of inverse frequency (classification); of several labels: that have it.
    several_of:
        Where a sample may have several labels: how many samples there are; else None.

    Raises
    ------
    ConfigError
        If the loss is not for the task.
    """
    name = (
        config.loss if config.loss != "auto" else {"classification": "cross_entropy", "segmentation": "dice_ce"}[task]
    )
    if name == "dice_ce":
        if task == "classification":
            raise ConfigError(
                "dice_ce compares masks, and the task is classification",
                where="train.loss",
                needed="auto or cross_entropy",
            )
        dice_ce = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
        return lambda logits, targets: dice_ce(logits, targets[:, None])
    if several_of is not None:
        if config.class_weights == "none":
            return nn.BCEWithLogitsLoss()
        positive = torch.tensor(positive_weights(class_counts, several_of), dtype=torch.float32, device=device)
        return nn.BCEWithLogitsLoss(pos_weight=positive)
    weights = None
    if task == "classification" and config.class_weights == "auto":
        weights = torch.tensor(inverse_frequency(class_counts), dtype=torch.float32, device=device)
    return nn.CrossEntropyLoss(weight=weights)


def inverse_frequency(class_counts: Sequence[int]) -> tuple[float, ...]:
    """Weights that give every class that occurs the same total; 1 on average over the samples.

    >>> inverse_frequency([30, 10])
    (0.6666666666666666, 2.0)
    """
    present = sum(count > 0 for count in class_counts)
    total = sum(class_counts)
    return tuple(total / (present * count) if count else 1.0 for count in class_counts)


def positive_weights(positives: Sequence[int], samples: int) -> tuple[float, ...]:
    """For each label what a sample that has it counts beside one that has not, so that both sides count the same.

    At most 20 times as much, or as little; of a label that none or all have: 1.

    >>> positive_weights([25, 1, 80, 0], 100)
    (3.0, 20.0, 0.25, 1.0)
    """
    ratios = ((samples - count) / count if 0 < count < samples else 1.0 for count in positives)
    return tuple(min(LARGEST_WEIGHT, max(1 / LARGEST_WEIGHT, ratio)) for ratio in ratios)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Of one step: linear warm-up over the first 5 %, then half a cosine to 0 (Loshchilov and Hutter, ICLR 2017)."""
    warm_up = max(1, round(steps * WARM_UP_SHARE))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
