"""Networks that answer (N, K, [D,] H, W) logits on their input's grid."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.segresnet_ds import SegResNetDS
from monai.networks.nets.unet import UNet
from torch import nn

from medrail.config import ModelConfig

LEVELS = 4
FACTOR = 2 ** (LEVELS - 1)
"""Every axis is halved three times, so its length must be a multiple of this."""
RESENC_FACTOR = 16
"""Four times in the deeper one."""


def unet(model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    """Residual U-Net (Kerfoot et al., STACOM 2018): halves the grid in its first layer, so it is quick on a CPU.

    Instance normalisation, not batch normalisation: on another scanner's images the running statistics of the training
    set can be far off (a trained brain extraction fell from Dice 0.96 to 0 between two epochs). ``norm: batch`` is for
    those who know their images: it costs nothing when the network answers.
    """
    network: nn.Module = UNet(
        spatial_dims=model.dims,
        in_channels=model.channels,
        out_channels=n_classes,
        channels=[model.width * 2**level for level in range(LEVELS)],
        strides=[2] * (LEVELS - 1),
        num_res_units=2,
        norm=model.norm,
        act=("leakyrelu", {"negative_slope": 0.01, "inplace": False}),
    )
    return network


def segresnet(model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    """Myronenko, BrainLes 2018, without the autoencoder branch."""
    network: nn.Module = SegResNet(
        spatial_dims=model.dims,
        init_filters=model.width,
        in_channels=model.channels,
        out_channels=n_classes,
        act=("relu", {"inplace": False}),
        norm=("group", {"num_groups": 8}),
    )
    return network


def decoder_maps(network: nn.Module) -> Sequence[nn.Module]:
    """Those whose outputs are held against the mask, too, in deep supervision: at half the grid and at a quarter."""
    if isinstance(network, DynUNet):
        return [*network.upsamples][-2:-4:-1]
    assert isinstance(network, SegResNetDS)  # noqa: S101 - the only other one with this function
    return [layer["blocks"] for layer in [*network.up_layers][-2:-4:-1]]


def resenc_unet(model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    """Residual encoder of 20 blocks on five levels, light decoder, as nnU-Net's ResEnc presets (Isensee et al., MICCAI
    2024) have it; MONAI's SegResNetDS is that network when its normalisation is by instance. ``dynunet`` has one
    residual block a level.
    """
    network: nn.Module = SegResNetDS(
        spatial_dims=model.dims,
        init_filters=model.width,
        in_channels=model.channels,
        out_channels=n_classes,
        act=("leakyrelu", {"negative_slope": 0.01, "inplace": False}),
        norm="instance",
        blocks_down=(1, 3, 4, 6, 6),
        dsdepth=1,
    )
    return network


def dynunet(model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    """The plain U-Net of nnU-Net (Isensee et al., Nature Methods 18, 2021) with residual blocks."""
    network: nn.Module = DynUNet(
        spatial_dims=model.dims,
        in_channels=model.channels,
        out_channels=n_classes,
        kernel_size=[3] * LEVELS,
        strides=[1] + [2] * (LEVELS - 1),
        upsample_kernel_size=[2] * (LEVELS - 1),
        filters=[model.width * 2**level for level in range(LEVELS)],
        norm_name=model.norm,
        act_name=("leakyrelu", {"negative_slope": 0.01, "inplace": False}),
        res_block=True,
    )
    return network
