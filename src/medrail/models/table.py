"""MODELS: every network by name, the task it is for, and when to choose it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from medrail.config import ModelConfig, ModelName, Task
from medrail.models.classifiers import densenet121, efficientnet_b0, resnet18, resnet50, tiny_cnn
from medrail.models.evidence import Ending
from medrail.models.segmenters import FACTOR, dynunet, segresnet, unet

Builder = Callable[[ModelConfig, int, Sequence[int]], nn.Module]
"""(configuration, number of classes, size of the training images or ()) -> network with random weights."""


@dataclass(frozen=True)
class Architecture:
    """One network.

    when:
        One line: when to choose it.
    build:
        Makes it, with random weights.
    size_factor:
        Every spatial size of the input must be a multiple of this.
    smallest:
        Spatial sizes below this leave nothing to look at.
    pooled:
        It ends in global average pooling and one linear layer, so its maps of evidence are exact.
    """

    task: Task
    when: str
    build: Builder
    size_factor: int = 1
    smallest: int = 8
    pooled: bool = False

    @property
    def ending(self) -> Ending:
        """How it ends, in the words of ``medrail.models.evidence``."""
        if self.task == "segmentation":
            return "dense"
        return "pooled_linear" if self.pooled else "linear"


MODELS: dict[ModelName, Architecture] = {
    "tiny_cnn": Architecture(
        "classification", "first trial, easy tasks, a few hundred images; minutes on a CPU", tiny_cnn, pooled=True
    ),
    "resnet18": Architecture(
        "classification", "the default: some thousand images, quick to train and to serve", resnet18, pooled=True
    ),
    "resnet50": Architecture(
        "classification", "many thousand images and a GPU, where resnet18 is not enough", resnet50, pooled=True
    ),
    "densenet121": Architecture(
        "classification",
        "the usual choice for chest X-ray; few weights, slow on a CPU",
        densenet121,
        smallest=32,
        pooled=True,
    ),
    "efficientnet_b0": Architecture(
        "classification",
        "the smallest bundle of good accuracy; wants longer training",
        efficientnet_b0,
        smallest=32,
        pooled=True,
    ),
    "unet": Architecture("segmentation", "the default: quick on a CPU, good with few cases", unet, FACTOR),
    "segresnet": Architecture(
        "segmentation", "volumes with fine detail and a GPU; width must be a multiple of 8", segresnet, FACTOR
    ),
    "dynunet": Architecture("segmentation", "as nnU-Net's: thin structures, slower than unet", dynunet, FACTOR),
}
