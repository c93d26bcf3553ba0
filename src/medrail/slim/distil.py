"""Distillation: a pruned network learns from the answers of the unpruned one as well as from the targets."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from medrail.train.fresh import channels_last

Kind = Literal["classification", "multi_label", "segmentation"]
_SMALLEST = 1e-6


class Distillation:
    """A guide of ``medrail.train``: ``(1 - share) * loss + share * distance`` between both networks' answers.

    The distance is the Kullback-Leibler divergence of the student's probabilities from the teacher's, both softened by
    ``temperature`` and multiplied by its square, so that its gradient keeps its size (Hinton, Vinyals and Dean,
    arXiv 1503.02531, section 2). Of several labels it is the mean over the labels, each with the probabilities of yes
    and no. In segmentation it is the mean over the voxels, and 1 - the soft Dice of the foreground between both answers
    comes to it: most voxels are background, on which both agree.

    Parameters
    ----------
    teacher:
        The unpruned network; it is put into evaluation mode and goes to the images' device.
    dims:
        2 or 3.
    share:
        0: the targets alone count; 1: the teacher alone.
    """

    def __init__(self, teacher: nn.Module, dims: int, kind: Kind, share: float, temperature: float) -> None:
        self.teacher = teacher.eval().requires_grad_(requires_grad=False)
        channels_last(self.teacher, dims)
        self.kind, self.share, self.temperature = kind, share, temperature

    def __call__(self, images: torch.Tensor, logits: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        """(N, C, [D,] H, W), the student's logits, its loss against the targets -> what is minimised."""
        with torch.no_grad():
            wanted = self.teacher.to(images.device)(images)
        return (1 - self.share) * loss + self.share * self.distance(logits.float(), wanted.float())

    def distance(self, logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Between two networks' logits, (N, K[, [D,] H, W]); 0 where their probabilities are the same."""
        soft, target = logits / self.temperature, wanted / self.temperature
        apart_at = _two_sided if self.kind == "multi_label" else _divergence
        apart = apart_at(soft, target).mean() * self.temperature**2
        if self.kind == "segmentation":
            apart = apart + 1 - _soft_dice(logits.softmax(1), wanted.softmax(1))
        return apart


def _divergence(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """KL(wanted || logits) over the classes, (N, ...)."""
    mine, theirs = functional.log_softmax(logits, dim=1), functional.log_softmax(wanted, dim=1)
    return functional.kl_div(mine, theirs, reduction="none", log_target=True).sum(dim=1)


def _two_sided(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The same of yes and no, of each label by itself, (N, K)."""
    mine = torch.stack([functional.logsigmoid(logits), functional.logsigmoid(-logits)])
    theirs = torch.stack([functional.logsigmoid(wanted), functional.logsigmoid(-wanted)])
    return functional.kl_div(mine, theirs, reduction="none", log_target=True).sum(dim=0)


def _soft_dice(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean over the foreground classes, over the whole batch, of 2 * sum(a b) / (sum(a^2) + sum(b^2)) (Milletari et
    al., 3DV 2016, equation 2), which is 1 where both are the same, also where they are no masks.
    """
    axes = (0, *range(2, found.ndim))
    hit = (found * wanted).sum(axes)[1:]
    total = (found.square() + wanted.square()).sum(axes)[1:]
    return ((2 * hit + _SMALLEST) / (total + _SMALLEST)).mean()
