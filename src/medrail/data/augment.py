"""Augmentation of a whole batch: parameters are drawn first and recorded, then applied by a pure function.

All movements (mirror, rotation, scale, shift) are one affine sampling, linear for images and nearest for masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional

from medrail.config import AugmentConfig
from medrail.errors import ConfigError

THICK_SLICES = 3.0
"""Volumes whose voxels are longer than wide by more than this are turned only within their slices (as nnU-Net,
Isensee et al., Nature Methods 18, 2021): any other rotation would mix slices that are far apart."""

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
    return Draws(
        flip=tuple(zip(*flips, strict=True)),
        rotate_deg=tuple(zip(*rotations, strict=True)),
        scale=tuple(math.exp(value) for value in log_scale),
        shift=tuple(zip(*shifts, strict=True)),
        contrast=tuple(1 + value for value in numbers(config.intensity)),
        brightness=numbers(config.intensity),
        log_gamma=numbers(config.gamma),
        noise_sd=share(config.noise),
        noise_seed=int(torch.randint(2**62, (), generator=source)),
        blur_px=share(config.blur),
    )


def augment(
    images: torch.Tensor, masks: torch.Tensor | None, draws: Draws, spacing: Sequence[float] = ()
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Apply what was drawn; pure: the same arguments give the same bits.

    Parameters
    ----------
    images:
        (N, C, [D,] H, W) float32.
    masks:
        (N, [D,] H, W) int64 class indices, or None. They move as the images do, nearest neighbour.
    spacing:
        Of ([D,] H, W), so that a rotation is one in space also where voxels are oblong; () for equal ones.
    """
    images, masks = _move(images, masks, draws, spacing)
    device, ones = images.device, (1,) * (images.ndim - 1)

    def column(values: Numbers) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device).view(-1, *ones)

    if any(value != 1 for value in draws.contrast) or any(draws.brightness):
        mean, sd = _moments(images)
        images = (images - mean) * column(draws.contrast) + (mean + sd * column(draws.brightness))
    if any(draws.log_gamma):
        images = _gamma(images, column(draws.log_gamma).exp())
    if any(draws.blur_px):
        images = _blur(images, draws.blur_px)
    if any(draws.noise_sd):
        source = torch.Generator().manual_seed(draws.noise_seed)
        noise = torch.randn(images.shape, generator=source).to(device)
        images = images + noise * (column(draws.noise_sd) * _moments(images)[1])
    return images, masks


def affine(draws: Draws, size: Sequence[int], spacing: Sequence[float] = ()) -> torch.Tensor:
    """(N, dims, dims + 1) for ``torch.nn.functional.affine_grid``: from output to input positions, axes reversed.

    Positions are shares of half the size, so the rotation is wrapped in a change to space and back.
    """
    dims = len(size)
    mirrored = 1 - 2 * torch.tensor(draws.flip, dtype=torch.float64)
    zoomed = mirrored / torch.tensor(draws.scale, dtype=torch.float64)[:, None]
    half_mm = torch.tensor([n * mm for n, mm in zip(size, spacing or (1.0,) * dims, strict=True)], dtype=torch.float64)
    turned = _rotations(torch.deg2rad(torch.tensor(draws.rotate_deg, dtype=torch.float64)), dims)
    linear = (turned * half_mm[None, None, :] / half_mm[None, :, None]) * zoomed[:, None, :]
    offset = 2 * torch.tensor(draws.shift, dtype=torch.float64)
    matrix = torch.cat([linear, offset[:, :, None]], dim=2)
    reverse = list(range(dims))[::-1]  # affine_grid counts x (W) first
    return matrix[:, reverse][:, :, [*reverse, dims]]


def _move(
    images: torch.Tensor, masks: torch.Tensor | None, draws: Draws, spacing: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    moved = any(value != 1 for value in draws.scale) or any(map(any, (*draws.rotate_deg, *draws.shift)))
    if not moved:
        return _mirror(images, masks, draws)
    matrix = affine(draws, images.shape[2:], spacing).to(images.device, torch.float32)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if masks is not None:
        sampled = functional.grid_sample(
            masks[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False
        )
        masks = sampled[:, 0].to(masks.dtype)
    return images, masks


def _mirror(images: torch.Tensor, masks: torch.Tensor | None, draws: Draws) -> tuple[torch.Tensor, torch.Tensor | None]:
    flips = torch.tensor(draws.flip, device=images.device)
    for axis in range(flips.shape[1]):
        chosen = flips[:, axis].nonzero()[:, 0]
        if len(chosen):
            images = images.index_copy(0, chosen, images[chosen].flip(2 + axis))
            if masks is not None:
                masks = masks.index_copy(0, chosen, masks[chosen].flip(1 + axis))
    return images, masks


def _rotations(angles: torch.Tensor, dims: int) -> torch.Tensor:
    """(N, dims, dims) in the axis order ([D,] H, W) from the angles (N, 1 or 3) in radians, about D first."""
    result = torch.eye(dims, dtype=angles.dtype).repeat(len(angles), 1, 1)
    planes = [(0, 1)] if dims == 2 else [(1, 2), (0, 2), (0, 1)]
    for column, (first, second) in enumerate(planes):
        turn = torch.eye(dims, dtype=angles.dtype).repeat(len(angles), 1, 1)
        cosine, sine = angles[:, column].cos(), angles[:, column].sin()
        turn[:, first, first], turn[:, second, second] = cosine, cosine
        turn[:, first, second], turn[:, second, first] = -sine, sine
        result = turn @ result
    return result


def _moments(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    axes = tuple(range(1, images.ndim))
    return images.mean(axes, keepdim=True), images.std(axes, keepdim=True, correction=0)


def _gamma(images: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    axes = tuple(range(1, images.ndim))
    low = images.amin(axes, keepdim=True)
    width = (images.amax(axes, keepdim=True) - low).clamp_min(1e-6)
    return ((images - low) / width).pow(exponent) * width + low


def _blur(images: torch.Tensor, sd_px: Numbers) -> torch.Tensor:
    """Separable Gaussian with its own width for each sample; borders replicated."""
    count, channels, *size = images.shape
    radius = max(1, math.ceil(3 * max(sd_px)))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32, device=images.device)
    widths = torch.tensor(sd_px, dtype=torch.float32, device=images.device).clamp_min(1e-3)
    kernels = torch.softmax(-0.5 * (offsets / widths[:, None]) ** 2, dim=1).repeat_interleave(channels, dim=0)
    convolve = functional.conv2d if len(size) == 2 else functional.conv3d
    flat = images.reshape(1, count * channels, *size)
    for axis in range(len(size)):
        shape = [1] * len(size)
        shape[axis] = -1
        padding = [0] * (2 * len(size))
        padding[2 * (len(size) - 1 - axis)] = padding[2 * (len(size) - 1 - axis) + 1] = radius
        padded = functional.pad(flat, padding, mode="replicate")
        flat = convolve(padded, kernels.reshape(count * channels, 1, *shape), groups=count * channels)
    return flat.reshape(images.shape)
