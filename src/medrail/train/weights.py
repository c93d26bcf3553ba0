"""Weights from files: a run's best ones, and those that a training starts from."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medrail.config import ModelConfig
from medrail.errors import ConfigError, RunError
from medrail.models import build_model
from medrail.models.structure import apply_structure
from medrail.train.checkpoint import load
from medrail.workspace import Run

LEAST_SHARE = 0.5
"""Of the network's weight tensors that a file must fit; less is taken for a file of another network."""
_WRAPPERS = ("weights", "state_dict", "model_state_dict", "model", "network", "net")


def load_model(run: Run) -> nn.Module:
    """The best network of a run, on the CPU and in evaluation mode; a slimmed one as narrow as it was made.

    Raises
    ------
    RunError
        If there are no trained weights or they cannot be used.
    """
    return network_in(run.best)


def network_in(path: Path) -> nn.Module:
    """The network of a checkpoint that is its own description, as ``load_model``."""
    content = load(path)
    try:
        model = ModelConfig.model_validate(content["model"])
        network = build_model(model, content["task"], len(content["classes"]), content["grid"])
        if content.get("structure"):  # it is narrower than a fresh one
            apply_structure(network, content["structure"])
        network.load_state_dict(content["weights"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RunError(
            f"the weights are not those of the network ({type(error).__name__})",
            where=str(path),
            remedy="Train again with this medrail.",
        ) from None
    return network.eval()


def weights_sha256(run: Run) -> str:
    """SHA-256 (hex) of the run's best weights, whatever else its file holds: see ``tensors_sha256``."""
    return tensors_sha256(load(run.best)["weights"])


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and numbers, in the order of the names; memory layout does not count."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def start_from(network: nn.Module, path: Path) -> str:
    """Copy the weights of a file into a network, wherever name and shape agree.

    The last layer may differ, for another number of classes; it then keeps its random weights.

    Parameters
    ----------
    path:
        A best.pt of medrail, or what ``torch.save(network.state_dict(), path)`` wrote.

    Returns
    -------
    A sentence that says how many were taken and which were not.

    Raises
    ------
    ConfigError
        If the file is missing, not readable without running code from it, or of another network.
    """
    found = {_plain(name): value for name, value in _read(path).items() if isinstance(value, torch.Tensor)}
    wanted = network.state_dict()
    fitting = {name: found[name] for name in wanted if name in found and found[name].shape == wanted[name].shape}
    left = [name for name in wanted if name not in fitting]
    if len(fitting) < LEAST_SHARE * len(wanted):
        raise ConfigError(
            f"{len(fitting)} of the network's {len(wanted)} weight tensors are in the file with the same name and shape"
            f" (not, for one: {left[0]})",
            needed=f"at least {LEAST_SHARE:.0%}",
            where=f"model.weights: {path}",
            remedy="Use weights of the same network with the same model.dims, channels and width.",
        )
    network.load_state_dict(fitting, strict=False)
    rest = f"; random: {', '.join(left[:4])}{' ...' if len(left) > 4 else ''}" if left else ""
    return f"{len(fitting)} of {len(wanted)} weight tensors from {path.name}{rest}"


def check_weights(path: Path) -> None:
    """Say before anything is loaded that a file of weights is missing.

    Raises
    ------
    ConfigError
        If it is.
    """
    if not path.is_file():
        raise ConfigError(
            "there is no such file",
            where=f"model.weights: {path}",
            remedy="Give a path relative to medrail.yaml, or an absolute one.",
        )


def _read(path: Path) -> Mapping[str, Any]:
    where = f"model.weights: {path}"
    check_weights(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ConfigError(
            "holds more than tensors and plain values, and reading it could run code from it",
            where=where,
            remedy="Save only the weights: torch.save(network.state_dict(), path).",
        ) from None
    except Exception as error:  # noqa: BLE001 - torch's reader meets rubbish with whatever exception comes
        raise ConfigError(
            f"not readable as weights ({type(error).__name__})", where=where, needed="a file that torch.save wrote"
        ) from None
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise ConfigError(f"holds a {type(content).__name__}", needed="names and tensors", where=where)
    return content


def _plain(name: str) -> str:
    """Without what wrappers (data parallel, compiled) put before a name."""
    for prefix in ("module.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name
