"""Effort: how long training takes on this machine, roughly, and how large images may be so that it ends today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medrail.plan.machine import Machine

FACTOR = 16
"""Sizes are multiples of this: enough for every network (they halve their input at most four times). Thumbnails, which
are classified as they are, need not be."""

# Millions of pixels (voxels) trained a second on one core of a server CPU of 2023, forward and backward, measured.
_MEGAPIXELS_PER_SECOND = {
    ("tiny_cnn", 2): 13.0,
    ("resnet18", 2): 0.6,
    ("unet", 2): 1.5,
    ("tiny_cnn", 3): 25.0,
    ("resnet18", 3): 1.2,
    ("unet", 3): 1.5,
}
SMALL = 64
"""Below so many pixels ResNet keeps its first stride at 1."""
_SMALL_RESNET = 0.16
# What a network keeps of each pixel (voxel) for the way back, measured; with a stride of 1, four times as much.
_BYTES_A_PIXEL = {
    ("tiny_cnn", 2): 65,
    ("resnet18", 2): 444,
    ("unet", 2): 417,
    ("tiny_cnn", 3): 25,
    ("resnet18", 3): 120,
    ("unet", 3): 168,
}
_SMALL_RESNET_BYTES = 4
_OVERHEAD = 1.4  # loading, augmentation, validation
_GPU_SPEED_UP = 60.0


@dataclass(frozen=True)
class Work:
    """What an epoch is: samples of so many pixels or voxels."""

    network: str
    dims: int
    samples: int
    size: tuple[int, ...]
    width: int = 16

    @property
    def bytes_a_sample(self) -> float:
        """Memory that one sample needs in training, with its gradients, roughly."""
        per_pixel = _BYTES_A_PIXEL[self.network, self.dims] * (self.width / 16 if self.network == "unet" else 1)
        small = self.network == "resnet18" and max(self.size) < SMALL
        return 2 * per_pixel * (_SMALL_RESNET_BYTES if small else 1) * self.pixels

    @property
    def pixels(self) -> int:
        total = 1
        for length in self.size:
            total *= length
        return total


def epoch_seconds(work: Work, machine: Machine) -> float:
    """A rough estimate, good to a factor of two or three."""
    speed = _MEGAPIXELS_PER_SECOND[work.network, work.dims]
    if work.network == "resnet18" and max(work.size) < SMALL:
        speed = _SMALL_RESNET
    if work.network == "unet":
        speed *= (16 / work.width) ** 1.4
    speed *= _GPU_SPEED_UP if machine.gpu else machine.cores**0.8
    return _OVERHEAD * work.samples * work.pixels / 1e6 / speed


def epochs_for(seconds_an_epoch: float, wanted: int, fewest: int, minutes: float) -> int:
    """As many epochs as the minutes allow, between ``fewest`` and ``wanted``."""
    fitting = int(minutes * 60 / max(seconds_an_epoch, 1e-9))
    return max(fewest, min(wanted, fitting))


def rounded(length: float, factor: int = FACTOR) -> int:
    """The nearest multiple of the factor, at least one."""
    return max(factor, factor * round(length / factor))


def rounded_up(length: float, factor: int = FACTOR) -> int:
    """The next multiple of the factor, at least one."""
    return max(factor, factor * -int(-length // factor))


def ladder(longest: float, most: int, least: int) -> Sequence[int]:
    """Sizes to try for the longest side, largest first: what the image has (at most ``most``), then coarser ones."""
    steps = [32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512]
    own = next((step for step in steps if step >= min(longest, most)), most)
    smaller = [step for step in reversed(steps) if least <= step < own]
    return [own, *smaller]
