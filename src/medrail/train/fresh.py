"""fresh: a network before its first step, with all that trains it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format, convert_conv3d_weight_memory_format

from medrail.config import TrainConfig
from medrail.data import Samples
from medrail.models import MODELS, build_model
from medrail.models.structure import structure_of
from medrail.train.average import Average
from medrail.train.loss import make_loss
from medrail.train.material import Material
from medrail.train.optimizer import AdamW
from medrail.train.start import Guide, Start
from medrail.train.state import State
from medrail.train.step import Step
from medrail.train.supervision import Supervised
from medrail.train.weights import start_from

log = logging.getLogger("medrail.train")


def fresh(material: Material, samples: Samples, start: Start | None = None) -> State:
    """A network with the seed's random weights, those of the configured file, or the given ones; its average and its
    optimizer.
    """
    config = material.config
    settings, classes = config.train, len(material.classes)
    torch.manual_seed(settings.seed)
    network = start.network() if start else build_model(config.model, config.task, classes, samples.size)
    channels_last(network, config.model.dims)
    notes = {}
    if material.weights:
        notes["start"] = f"started from {start_from(network, material.weights)} ({config.model.weights})"
        log.info("%s", notes["start"])
    average = Average(network, settings.ema) if settings.ema else None
    trained, maps = network, MODELS[config.model.name].maps
    if maps and settings.deep_supervision:
        trained = Supervised(network, maps, classes, (config.model.channels, *samples.size))
    optimizer = AdamW(trained.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    about = {
        "task": config.task,
        "classes": list(material.classes),
        "model": config.model.model_dump(mode="json"),
        "grid": list(samples.size),
    }
    if start:
        about["structure"] = structure_of(network)
    return State(network, trained, optimizer, about, average, parts=settings.accumulate, notes=notes)


def channels_last(network: nn.Module, dims: int) -> None:
    """In memory, in place; on a CPU 3-D networks of both tasks took a fifth less time with it (2-D ones more)."""
    if dims == 2:
        convert_conv2d_weight_memory_format(network, torch.channels_last)
    else:
        convert_conv3d_weight_memory_format(network, torch.channels_last_3d)


def step_of(
    material: Material,
    samples: Samples,
    settings: TrainConfig,
    state: State,
    fabric: Fabric,
    guide: Guide | None = None,
) -> Step:
    """What changes the state's weights, on the device of ``fabric``."""
    synchronised = fabric.world_size > 1 and fabric.device.type == "cuda"
    whole_batch: Any = torch.nn.SyncBatchNorm.convert_sync_batchnorm
    trained = whole_batch(state.trained) if synchronised else state.trained
    network, optimizer = fabric.setup(trained, state.optimizer)
    if state.average:
        state.average.network.to(fabric.device)
    several_of = samples.count if material.config.data.multi_label else None
    loss_of = make_loss(settings, material.config.task, samples.class_counts, fabric.device, several_of=several_of)
    return Step(fabric, network, optimizer, loss_of, state.parts, guide)
