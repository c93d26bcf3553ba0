"""Structure: how wide each layer of a network is, as plain data.

A pruned network is not the one that ``build_model`` makes: its layers have fewer channels. Saving the whole module
would need pickle, which runs code when it is opened. So what is saved is the width of each layer by its name;
rebuilding is ``build_model``, then ``apply_structure``, then ``load_state_dict``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Structure = Mapping[str, Mapping[str, int]]
"""Name of a module -> its sizes by attribute, as {"blocks.0": {"in_channels": 1, "out_channels": 8, "groups": 1}}."""
_SIZES: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (_ConvNd, ("in_channels", "out_channels", "groups")),
    (nn.Linear, ("in_features", "out_features")),
    (_NormBase, ("num_features",)),
    (nn.GroupNorm, ("num_groups", "num_channels")),
    (nn.PReLU, ("num_parameters",)),
)


def structure_of(network: nn.Module) -> dict[str, dict[str, int]]:
    """The sizes of every layer that has channels; JSON values."""
    found = {}
    for name, module in network.named_modules():
        if sizes := _sizes_of(type(module)):
            found[name] = {size: int(getattr(module, size)) for size in sizes}
    return found


def apply_structure(network: nn.Module, structure: Structure) -> None:
    """Give each layer the sizes that ``structure_of`` read from another network of the same kind.

    Layers of another size get weights of 0, to be loaded. Nothing may become wider than it is, so a file cannot make
    the memory run out.

    Parameters
    ----------
    network:
        As ``build_model`` made it; changed in place.

    Raises
    ------
    ValueError
        If the structure is of another kind of network, or has sizes that no such layer can have.
    """
    now = structure_of(network)
    if now.keys() != structure.keys():
        other = sorted(now.keys() ^ structure.keys())
        raise ValueError(f"layers of another network ({', '.join(other[:3])})")
    for name, sizes in structure.items():
        wanted = dict(sizes)
        if wanted != now[name]:
            _check(name, wanted, now[name])
            _resize(network.get_submodule(name), wanted)


def _sizes_of(kind: type[nn.Module]) -> tuple[str, ...]:
    return next((sizes for base, sizes in _SIZES if issubclass(kind, base)), ())


def _check(name: str, wanted: Mapping[str, Any], now: Mapping[str, int]) -> None:
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in wanted.values())
    if wanted.keys() != now.keys() or not whole:
        raise ValueError(f"{name}: not the sizes of such a layer")
    if not all(0 < wanted[size] <= now[size] for size in now):
        raise ValueError(f"{name}: {dict(wanted)} does not fit into {dict(now)}")
    groups = wanted.get("groups") or wanted.get("num_groups") or 1
    if any(wanted[size] % groups for size in ("in_channels", "out_channels", "num_channels") if size in wanted):
        raise ValueError(f"{name}: {dict(wanted)} are no whole groups")


def _resize(module: nn.Module, sizes: Mapping[str, int]) -> None:
    for size, value in sizes.items():
        setattr(module, size, value)
    for name, parameter in [*module.named_parameters(recurse=False)]:
        shape = _shape(module, name, parameter)
        setattr(module, name, nn.Parameter(parameter.new_zeros(shape), requires_grad=parameter.requires_grad))
    for name, buffer in [*module.named_buffers(recurse=False)]:
        if buffer.ndim:  # a count of batches has no channels
            setattr(module, name, buffer.new_zeros(_shape(module, name, buffer)))


def _shape(module: nn.Module, name: str, tensor: torch.Tensor) -> tuple[int, ...]:
    """Of a weight, bias or running statistic in a layer whose sizes are set."""
    if isinstance(module, _ConvNd):
        if name == "bias":
            return (module.out_channels,)
        first, second = module.out_channels, module.in_channels // module.groups
        if isinstance(module, _ConvTransposeNd):
            first, second = module.in_channels, module.out_channels // module.groups
        return (first, second, *tensor.shape[2:])
    if isinstance(module, nn.Linear):
        return (module.out_features,) if name == "bias" else (module.out_features, module.in_features)
    if isinstance(module, nn.GroupNorm):
        return (module.num_channels,)
    return (int(getattr(module, _sizes_of(type(module))[0])),)
