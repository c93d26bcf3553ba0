"""Gradients of the loss on some training cases, for the importance that is called taylor."""

from __future__ import annotations

import torch
from torch import nn

from medrail.config import AugmentConfig
from medrail.data import batches, load_samples
from medrail.train.loss import make_loss
from medrail.train.material import Material

MOST_CASES = 64


def give_gradients(network: nn.Module, material: Material) -> None:
    """Leave in each weight the gradient of the loss, summed over at most 64 training cases, taken evenly, as they are.

    Molchanov et al., Importance estimation for neural network pruning, CVPR 2019: weight times gradient is to first
    order what the loss changes by when the weight is gone.
    """
    config = material.config
    settings = config.train.model_copy(update={"augment": AugmentConfig(), "accumulate": 1, "samples_per_epoch": 0})
    step = -(-len(material.training) // MOST_CASES)
    samples = load_samples(material.store, material.training[::step], material.needs)
    several_of = samples.count if config.data.multi_label else None
    cpu = torch.device("cpu")
    loss_of = make_loss(settings, config.task, samples.class_counts, cpu, several_of=several_of)
    network.eval().requires_grad_().zero_grad()
    for images, targets in batches(samples, settings, 0):
        torch.autograd.backward(loss_of(network(images), targets))
