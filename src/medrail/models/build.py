"""build_model: a network of the configured kind, with random weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from medrail.config import ModelConfig, ModelName, Task
from medrail.errors import ConfigError
from medrail.models.table import MODELS

CHOOSES_NORM: tuple[ModelName, ...] = ("unet", "dynunet")


def build_model(model: ModelConfig, task: Task, n_classes: int, grid: Sequence[int] = ()) -> nn.Module:
    """A network with random weights, drawn from torch's global generator.

    Parameters
    ----------
    grid:
        Size ([D,] H, W) of the training images, which decides whether a ResNet halves it in its first layer;
        () for 64 or more along each axis.

    Returns
    -------
    A module from float32 (N, C, [D,] H, W) to logits: (N, K) for classification, (N, K, [D,] H, W) for segmentation.

    Raises
    ------
    ConfigError
        If the network is for the other task its width is impossible, or it cannot be normalised so.
    """
    check_model(model, task)
    return MODELS[model.name].build(model, n_classes, tuple(grid))


def check_model(model: ModelConfig, task: Task) -> None:
    """Refuse a network that is for the other task, or of an impossible width, before anything is loaded."""
    if MODELS[model.name].task != task:
        fitting = [name for name, entry in MODELS.items() if entry.task == task]
        raise ConfigError(
            f"{model.name} is for {MODELS[model.name].task}, and the task is {task}",
            needed=f"one of {', '.join(fitting)}",
            where="model.name",
        )
    if model.norm == "batch" and model.name not in CHOOSES_NORM:
        raise ConfigError(
            f"norm batch for {model.name}",
            needed=f"one of {', '.join(CHOOSES_NORM)}; {model.name} has a normalisation of its own",
            where="model.norm",
            remedy="Leave model.norm out.",
        )
    if model.name == "segresnet" and model.width % 8:
        nearest = max(8, round(model.width / 8) * 8)
        raise ConfigError(
            f"width {model.width} for segresnet",
            needed="a multiple of 8, for its group normalisation",
            where="model.width",
            remedy=f"Set it to {nearest}.",
        )
