"""A vision transformer of modest size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.vit import ViT
from torch import nn

from medrail.config import ModelConfig
from medrail.errors import ConfigError

HIDDEN, LAYERS, HEADS = 192, 8, 6
_USUAL = {2: 224, 3: 96}
_LARGEST_PATCH = 16
_LEAST_TOKENS = {2: 7, 3: 4}
"""Along each axis."""
_MOST_TOKENS = 1024


class MeanViT(nn.Module):
    """Dosovitskiy et al., ICLR 2021; the mean of the tokens goes into one linear layer instead of a token of its own,
    which learns as well (Beyer et al., arXiv 2205.01580) and tells how much each patch adds to the answer.

    Takes (N, C, [D,] H, W) of just ``grid`` and answers (N, K).
    """

    def __init__(self, model: ModelConfig, n_classes: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.encoder = ViT(
            in_channels=model.channels,
            img_size=tuple(grid),
            patch_size=patch_of(grid),
            hidden_size=HIDDEN,
            mlp_dim=4 * HIDDEN,
            num_layers=LAYERS,
            num_heads=HEADS,
            spatial_dims=model.dims,
            qkv_bias=True,
        )
        for block in self.encoder.blocks:
            block.norm_cross_attn = nn.Identity()  # of an attention that this network does not have
        self.head = nn.Linear(HIDDEN, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens, _ = self.encoder(x)
        logits: torch.Tensor = self.head(tokens.mean(1))
        return logits


def vit(model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    return MeanViT(model, n_classes, grid or [_USUAL[model.dims]] * model.dims)


def patch_of(grid: Sequence[int]) -> tuple[int, ...]:
    """Along each axis the largest divisor up to 16 that leaves at least 7 tokens (3-D: 4).

    >>> patch_of([224, 224]), patch_of([28, 28]), patch_of([64, 64, 32])
    ((16, 16), (4, 4), (16, 16, 8))

    Raises
    ------
    ConfigError
        If that makes too many tokens.
    """
    least = _LEAST_TOKENS[len(grid)]
    patch, tokens = [], 1
    for size in grid:
        fitting = [side for side in range(1, _LARGEST_PATCH + 1) if size % side == 0 and size // side >= least]
        patch.append(max(fitting, default=1))
        tokens *= size // patch[-1]
    if tokens > _MOST_TOKENS:
        shown = " x ".join(map(str, grid))
        raise ConfigError(
            f"{shown} makes {tokens:,} patches for vit",
            needed=f"at most {_MOST_TOKENS:,}",
            where="model.name",
            remedy="Resize to multiples of 16, or to less.",
        )
    return tuple(patch)
