"""trial: a few steps and a validation that are thrown away, to see how many epochs a time budget holds."""

from __future__ import annotations

import itertools
import logging
import statistics
import time

from lightning_fabric import Fabric

from medrail.data import Samples, batches
from medrail.train.fresh import fresh, step_of
from medrail.train.material import Material
from medrail.train.outcome import score_of
from medrail.train.schedule import Schedule, fitting, measured

log = logging.getLogger("medrail.train")


def schedule_by_trial(material: Material, samples: Samples, fabric: Fabric, began_s: float) -> Schedule:
    """What fits into ``train.minutes`` since ``began_s`` (of ``time.perf_counter``); all processes get rank 0's answer.

    The steps are those of a network of its own: the training that follows begins as if there had been none.

    Raises
    ------
    ConfigError
        If not even a few steps fit.
    """
    settings = material.config.train
    state = fresh(material, samples)
    step = step_of(material, samples, settings, state, fabric)
    source = itertools.chain.from_iterable(
        batches(samples, settings, epoch, fabric.device) for epoch in itertools.count()
    )
    step.network.train()

    def seconds() -> float:
        began = time.perf_counter()
        float(step(*next(source)))
        if state.average:
            state.average.follow(state.network, 0)
        found: float = fabric.broadcast(time.perf_counter() - began)
        return found

    seconds()  # the first one makes ready what the others use
    steps = measured(seconds)
    began = time.perf_counter()
    if fabric.is_global_zero:
        score_of(material, samples, state, fabric)
    now = time.perf_counter()
    schedule: Schedule = fabric.broadcast(
        fitting(settings, samples.count, now - began_s, statistics.median(steps), now - began)
    )
    log.info("%g minutes are enough for %d epochs", settings.minutes, schedule.epochs)
    return schedule
