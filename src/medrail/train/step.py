"""Step: one batch -> one change of the weights, in as many parts as memory asks for, by all processes together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from lightning_fabric import Fabric

from medrail.errors import RunError
from medrail.train.loss import Loss, amount
from medrail.train.start import Guide
from medrail.train.supervision import supervised_loss

log = logging.getLogger("medrail.train")


class Step:
    """Forward, backward, and the optimizer's step.

    However a batch is divided, among parts and processes, each sample counts as much as in one piece: the loss of a
    part is weighed by its share of what the mean is taken over. So the gradient is the same but for rounding, except
    where a network or loss looks at the batch as a whole: batch normalisation, and Dice.

    Where the memory of a GPU does not suffice, the batch is divided into twice as many parts from then on.

    Parameters
    ----------
    network, optimizer:
        The module and the optimizer that ``fabric.setup`` gave.
    parts:
        To begin with.
    guide:
        What the network is to follow besides the targets; None: nothing.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Any,
        optimizer: torch.optim.Optimizer,
        loss_of: Loss,
        parts: int,
        guide: Guide | None = None,
    ) -> None:
        self.fabric, self.network, self.optimizer, self.loss_of = fabric, network, optimizer, loss_of
        self.parts, self.guide = parts, guide
        self._notes: dict[str, str] = {}

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(N, C, [D,] H, W), N targets -> this process's share of the batch's loss, without waiting for it."""
        while True:
            try:
                loss = self._gradient(images, targets)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_lack_of_memory(error):
                    raise
                self._divide(len(images), error)
            else:
                self.optimizer.step()
                return loss

    def new_notes(self) -> dict[str, str]:
        """What was to be said since the last time: topic -> sentence, of each topic the last one."""
        notes, self._notes = self._notes, {}
        return notes

    def _gradient(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        own_images, own_targets, counts = self._own(images, targets)
        parts = min(self.parts, len(own_images))
        if parts == self.fabric.world_size == 1:
            loss = self._loss(own_images, own_targets)
            self.fabric.backward(loss)
            return loss.detach()
        everything, total = amount(self.loss_of, targets), torch.zeros((), device=images.device)
        pieces = zip(own_images.tensor_split(parts), own_targets.tensor_split(parts), strict=True)
        for number, (some, wanted) in enumerate(pieces, 1):
            with self.fabric.no_backward_sync(self.network, enabled=number < parts):
                loss = self._loss(some, wanted)
                loss = loss * (counts * amount(self.loss_of, wanted) / everything)
                self.fabric.backward(loss * self.fabric.world_size)  # the processes' gradients are averaged
            total = total + loss.detach()
        return total

    def _loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        answers = self.network(images)
        loss = supervised_loss(self.loss_of, answers, targets)
        if self.guide is None:
            return loss
        with self.fabric.autocast():
            return self.guide(images, answers if isinstance(answers, torch.Tensor) else answers[0], loss)

    def _own(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
        """This process's samples, and how they count: one that is left without any computes along, for nothing."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        if world == 1:
            return images, targets, 1.0
        own = images.tensor_split(world)[rank], targets.tensor_split(world)[rank]
        return (*own, 1.0) if len(own[0]) else (images[:1], targets[:1], 0.0)

    def _divide(self, samples: int, error: BaseException) -> None:
        """Twice as many parts.

        Raises
        ------
        RunError
            If a part is a single sample already, or other processes would not know of it.
        """
        self.optimizer.zero_grad()
        if self.fabric.world_size > 1 or self.parts >= samples:
            raise RunError(
                f"not enough memory for {max(1, samples // self.parts // self.fabric.world_size)} samples at once",
                remedy="Raise train.accumulate and lower train.batch_size by as much, or take a smaller size or patch.",
            ) from error
        self.parts = min(2 * self.parts, samples)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        together = -(-samples // self.parts)
        self._notes["memory"] = f"memory did not suffice for more: each step computes {together} samples at a time"
        log.warning("%s", self._notes["memory"])


def _is_lack_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def mean_of(losses: Sequence[torch.Tensor], fabric: Fabric) -> float:
    """The mean loss of an epoch's steps, over all processes; here the device is waited for."""
    own: Any = torch.stack(list(losses)).mean()
    if fabric.world_size > 1:
        own = fabric.all_reduce(own, reduce_op="sum")
    return float(own)
