"""Draws: the parameters of a batch's augmentation, drawn before anything is changed, as numbers that can be kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from medrail.config import AugmentConfig
from medrail.errors import ConfigError

THICK_SLICES = 3.0
"""Volumes whose voxels are longer than wide by more than this are turned and bent only within their slices (as nnU-Net,
Isensee et al., Nature Methods 18, 2021): any other movement would mix slices that are far apart."""

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Draws:
    """What was drawn for the samples of one batch, as plain numbers: one entry a sample.

    flip:
        Axes to mirror, as (False, True) for ([D,] H, W).
    rotate_deg:
        2-D: one angle in the (H, W) plane. 3-D: the angles about D, H and W.
    scale, shift:
        Zoom factor; shift along ([D,] H, W) as a share of the size.
    contrast, brightness:
        Factor around the sample's mean; offset in its standard deviations.
    log_gamma:
        Exponent of the values scaled to the sample's own 0..1.
    noise_sd, noise_seed:
        Standard deviation of added noise, in the sample's own; the seed of the whole batch's noise.
    blur_px:
        Standard deviation of the smoothing in pixels.
    elastic, elastic_seed:
        Largest displacement along ([D,] H, W) as a share of the size; the seed of the whole batch's control points.
    """

    flip: tuple[tuple[bool, ...], ...]
    rotate_deg: tuple[Numbers, ...]
    scale: Numbers
    shift: tuple[Numbers, ...]
    contrast: Numbers
    brightness: Numbers
    log_gamma: Numbers
    noise_sd: Numbers
    noise_seed: int
    blur_px: Numbers
    elastic: tuple[Numbers, ...]
    elastic_seed: int

    @property
    def bends(self) -> bool:
        """Whether any sample is deformed."""
        return any(map(any, self.elastic))

    @property
    def moves(self) -> bool:
        """Whether any sample must be interpolated; mirroring alone needs none."""
        turned = any(value != 1 for value in self.scale) or any(map(any, (*self.rotate_deg, *self.shift)))
        return turned or self.bends

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def check_augment(config: AugmentConfig, dims: int) -> None:
    """Refuse what makes no sense for the network's dimensions.

    Raises
    ------
    ConfigError
        If D is to be mirrored for a 2-D network, to which D is the batch.
    """
    if dims == 2 and "D" in config.flip:
        raise ConfigError(
            "D is to be mirrored, and a 2-D network has no axis D",
            where="train.augment.flip",
            needed="H, W, or both",
            remedy="Take D out.",
        )


def draw(config: AugmentConfig, count: int, dims: int, source: torch.Generator, spacing: Sequence[float] = ()) -> Draws:
    """Draw the parameters for ``count`` samples.

    Parameters
    ----------
    dims:
        2 or 3.
    source:
        Every number comes from it, in a fixed order, whatever is switched off.
    spacing:
        Of ([D,] H, W), to tell thick slices; () for equal ones.
    """
    angles = 1 if dims == 2 else 3
    uniform = torch.rand(count, 2 * dims + angles + 6, generator=source, dtype=torch.float64)
    columns = iter((2 * uniform - 1).T.tolist())

    def numbers(largest: float) -> Numbers:
        return tuple(largest * value for value in next(columns))

    def share(largest: float) -> Numbers:
        return tuple(largest * (value + 1) / 2 for value in next(columns))

    mirrored = [axis in config.flip for axis in ("D", "H", "W")[-dims:]]
    flips = [tuple(on and value < 0 for value in next(columns)) for on in mirrored]
    in_plane_only = dims == 3 and bool(spacing) and spacing[0] > THICK_SLICES * min(spacing)
    largest_deg = [config.rotate_deg, *[0.0 if in_plane_only else config.rotate_deg] * (angles - 1)]
    rotations = [numbers(largest) for largest in largest_deg]
    log_scale = numbers(math.log1p(config.scale))
    shifts = [numbers(config.shift) for _ in range(dims)]
    contrast = tuple(1 + value for value in numbers(config.intensity))
    brightness, log_gamma = numbers(config.intensity), numbers(config.gamma)
    noise_sd, blur_px = share(config.noise), share(config.blur)
    noise_seed = int(torch.randint(2**62, (), generator=source))
    strengths = torch.rand(count, generator=source, dtype=torch.float64).tolist()
    bent = [0.0 if in_plane_only and axis == 0 else config.elastic for axis in range(dims)]
    return Draws(
        flip=tuple(zip(*flips, strict=True)),
        rotate_deg=tuple(zip(*rotations, strict=True)),
        scale=tuple(math.exp(value) for value in log_scale),
        shift=tuple(zip(*shifts, strict=True)),
        contrast=contrast,
        brightness=brightness,
        log_gamma=log_gamma,
        noise_sd=noise_sd,
        noise_seed=noise_seed,
        blur_px=blur_px,
        elastic=tuple(tuple(largest * strength for largest in bent) for strength in strengths),
        elastic_seed=int(torch.randint(2**62, (), generator=source)),
    )
