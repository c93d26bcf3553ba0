"""Movements: mirror, rotation, zoom, shift and elastic deformation as one grid of positions, sampled once.

The deformation is that of Simard et al. (ICDAR 2003) with the coarse grid of random displacements of Ronneberger et al.
(U-Net, MICCAI 2015), made smooth by cubic B-splines. These are linear in their control points, so a whole grid, affine
part included, is one matrix product.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from medrail.data.draws import Draws

CELLS = 4
"""Cells of the control grid along each axis. Displacements up to 1 / (2 CELLS dims) of the size, 6 % in 2-D and 4 % in
3-D, cannot fold an image: a spline's slope is at most the largest difference of neighbouring control points a cell."""
_CONTROLS = CELLS + 3


@dataclass(frozen=True)
class Grid:
    """Where each output voxel comes from, for each of N samples, as a product that is made when it is needed.

    A row of positions along W is a sum of fixed curves (one, x, and the splines where something bends). ``weights``
    (N, [D *] H, K) are those of each row, ``curves`` (K, W * dims) the curves; float32. Positions are shares of half
    the size, x (W) first, as ``torch.nn.functional.grid_sample`` takes them.
    """

    weights: torch.Tensor
    curves: torch.Tensor
    size: tuple[int, ...]

    @staticmethod
    def of(draws: Draws, size: Sequence[int], spacing: Sequence[float] = ()) -> Grid:
        """As drawn; ``size`` and ``spacing``: of ([D,] H, W), () for equal ones."""
        dims = len(size)
        matrix = affine(draws, size, spacing)
        centres = [_centres(length) for length in size]
        rows = matrix[:, None, :, dims]
        for axis, along in enumerate(centres[:-1]):
            steps = along[:, None] * matrix[:, None, :, dims - 1 - axis]
            rows = (rows[:, :, None] + steps[:, None]).flatten(1, 2)
        weights = [rows, matrix[:, None, :, 0].expand_as(rows)]
        curves = [torch.ones_like(centres[-1]), centres[-1]]
        if draws.bends:
            weights += _bends(draws, size).unbind(2)
            curves += _splines(size[-1]).T.unbind(0)
        each_axis = torch.kron(torch.stack(curves), torch.eye(dims, dtype=torch.float64))
        return Grid(torch.stack(weights, dim=2).flatten(2).float(), each_axis.float(), tuple(size))

    def to(self, device: torch.device) -> Grid:
        return Grid(self.weights.to(device), self.curves.to(device), self.size)

    def positions(self, part: slice) -> torch.Tensor:
        """(n, [D,] H, W, dims) float32 for some of the samples."""
        weights = self.weights[part]
        rows = torch.bmm(weights, self.curves.expand(len(weights), *self.curves.shape))
        return rows.view(len(weights), *self.size, len(self.size))


def moved(images: torch.Tensor, positions: torch.Tensor, *, labels: bool = False) -> torch.Tensor:
    """(N, C, [D,] H, W) float32 sampled: linear, or the nearest for labels; borders are continued."""
    mode = "nearest" if labels else "bilinear"
    return functional.grid_sample(images, positions, mode=mode, padding_mode="border", align_corners=False)


def affine(draws: Draws, size: Sequence[int], spacing: Sequence[float] = ()) -> torch.Tensor:
    """(N, dims, dims + 1) float64 for ``torch.nn.functional.affine_grid``: from output to input positions, x first.

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


def mirrored(images: torch.Tensor, flip: Sequence[Sequence[bool]]) -> torch.Tensor:
    """(N, ..., [D,] H, W) of any type with the axes of each sample mirrored that ``flip`` names for it."""
    chosen = torch.tensor(flip, device=images.device)
    if not chosen.any():
        return images
    result = images.clone()
    for axis in range(chosen.shape[1]):
        samples = chosen[:, axis].nonzero()[:, 0]
        if len(samples):
            turned = result.index_select(0, samples).flip(axis - chosen.shape[1])
            result.index_copy_(0, samples, turned)
    return result


def _bends(draws: Draws, size: Sequence[int]) -> torch.Tensor:
    """Weights of the splines along W for each row: (N, [D *] H, controls, dims), x first."""
    dims, count = len(size), len(draws.scale)
    source = torch.Generator().manual_seed(draws.elastic_seed)
    uniform = torch.rand(count, dims, *[_CONTROLS] * dims, generator=source, dtype=torch.float64)
    largest = 2 * torch.tensor(draws.elastic, dtype=torch.float64).flip(1)
    controls = (2 * uniform - 1) * largest.view(count, dims, *[1] * dims)
    if dims == 2:
        return torch.einsum("hq,ncqw->nhwc", _splines(size[0]), controls)
    return torch.einsum("dp,hq,ncpqw->ndhwc", _splines(size[0]), _splines(size[1]), controls).flatten(1, 2)


@functools.lru_cache(maxsize=16)
def _splines(length: int) -> torch.Tensor:
    """(length, controls): the uniform cubic B-splines over ``CELLS`` cells at the voxels' centres; rows sum to 1."""
    place = (_centres(length) + 1) / 2 * CELLS
    distance = (place[:, None] - torch.arange(-1, CELLS + 2, dtype=torch.float64)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp_min(0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def _centres(length: int) -> torch.Tensor:
    """Of voxels, between -1 and 1, which are the outer edges."""
    return (2 * torch.arange(length, dtype=torch.float64) + 1) / length - 1


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
