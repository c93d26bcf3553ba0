"""prune: take whole channels out of a trained network, everywhere they are used.

Which layers hang together (a convolution, its normalisation, what is added to or concatenated with its answer, and all
that reads it) is found by Torch-Pruning's dependency graph (Fang et al., DepGraph, CVPR 2023); which of their channels
go is decided over all layers together by their importance.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from medrail.bundle.cost import answer_cost
from medrail.config import ModelName, SlimConfig, Task
from medrail.errors import ConfigError
from medrail.export.onnx_file import write_onnx
from medrail.models import MODELS
from medrail.slim.size import size_of

REFUSED: dict[ModelName, str] = {
    "vit": "the tokens of its patches run through every block, so its width can only be cut everywhere at once",
}
"""Networks that cannot be pruned -> why."""
ANY_NUMBER: frozenset[ModelName] = frozenset({"segresnet"})
"""Networks whose group normalisation rounds the channels already; to round them again would undo the pruning."""
LARGEST_RATIO = 0.95
VANISHING = 1e-20
"""Weights nearer to zero become zero. Products of two such are denormal, which a CPU computes up to a hundred times as
slowly, and nothing that they are added to would change."""
_SEARCHES = 7
_LONGEST = {2: 64, 3: 32}
"""Pixels a side of the image that the graph is found with: its size does not matter to the channels."""
_LEAST_LEFT = 0.25
"""Of its share of the channels a layer keeps at least so much, however unimportant it seems."""


def resolved(config: SlimConfig, task: Task) -> SlimConfig:
    """With the importance that ``auto`` is for a task: see docs/explanation/pruning.md."""
    if config.importance != "auto":
        return config
    return config.model_copy(update={"importance": {"classification": "taylor", "segmentation": "lamp"}[task]})


def check_prunable(name: ModelName) -> None:
    """Refuse a network that cannot be pruned, by name.

    Raises
    ------
    ConfigError
        With the reason, or if Torch-Pruning is not installed.
    """
    if name in REFUSED:
        task = MODELS[name].task
        others = [other for other, entry in MODELS.items() if entry.task == task and other not in REFUSED]
        raise ConfigError(
            f"{name} cannot be pruned: {REFUSED[name]}",
            needed=f"one of {', '.join(others)}",
            where="model.name",
            remedy="Train one of these, or leave the ratios out and lower the precision only.",
        )
    _torch_pruning()


def prune(network: nn.Module, name: ModelName, shape: Sequence[int], ratio: float, config: SlimConfig) -> nn.Module:
    """A copy without the least important ``ratio`` of its channels; see ``config.by`` for what it is a share of.

    The outputs of the last layer, one a class, are not touched, so a network that ends in pooling and a linear layer
    still does, and its evidence is exact.

    Parameters
    ----------
    network:
        Of the kind ``name``; for the importance ``taylor`` with the gradients of the loss in its weights.
    shape:
        (C, [D,] H, W) of an image.

    Raises
    ------
    ConfigError
        If such a network cannot be pruned, or not so far.
    """
    check_prunable(name)
    if not 0 < ratio < 1:
        raise ConfigError(f"a pruning ratio of {ratio:g}", needed="more than 0 and less than 1")
    config = resolved(config, MODELS[name].task)
    if config.by == "channels":
        return _without_channels(network, name, shape, ratio, config)
    cost = _macs if config.by == "macs" else _latency_ms
    wanted = (1 - ratio) * cost(network, shape)
    low, high, found = 0.0, LARGEST_RATIO, None
    for _ in range(_SEARCHES):
        share = (low + high) / 2
        tried = _without_channels(network, name, shape, share, config)
        if cost(tried, shape) <= wanted:
            high, found = share, tried
        else:
            low = share
    if found is None:
        raise ConfigError(
            f"taking {LARGEST_RATIO:.0%} of the channels of {name} does not save {ratio:.0%} (slim.by: {config.by})",
            remedy="Ask for less, or for less rounding (slim.round_to).",
        )
    return found


def flush_vanishing(network: nn.Module) -> int:
    """Set weights of less than ``VANISHING`` to zero, in place, and say how many there were (pytorch issue 46180)."""
    count = 0
    with torch.no_grad():
        for parameter in network.parameters():
            vanishing = (parameter != 0) & (parameter.abs() < VANISHING)
            count += int(vanishing.sum())
            parameter[vanishing] = 0
    return count


def _without_channels(
    network: nn.Module, name: ModelName, shape: Sequence[int], ratio: float, config: SlimConfig
) -> nn.Module:
    tp = _torch_pruning()
    pruned = _copy(network)
    example = torch.zeros(2, shape[0], *(min(size, _LONGEST[len(shape) - 1]) for size in shape[1:]))
    generator_state = torch.get_rng_state()
    torch.manual_seed(0)  # for random importance
    try:
        with _traceable(pruned), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruner = _pruner(tp)(
                pruned,
                example,
                importance=_IMPORTANCE[config.importance](tp),
                global_pruning=True,
                pruning_ratio=ratio,
                max_pruning_ratio=1 - _LEAST_LEFT * (1 - ratio),
                ignored_layers=[_last_layer(pruned, example)],
                round_to=None if name in ANY_NUMBER or config.round_to == 1 else config.round_to,
            )
            pruner.step()
    finally:
        torch.set_rng_state(generator_state)
    for parameter in pruned.parameters():
        parameter.grad = None
    return pruned


def _pruner(tp: Any) -> Any:
    """Torch-Pruning's, which rounds the channels that stay down to a multiple, so that narrow layers keep none."""

    class Pruner(tp.pruner.BasePruner):  # type: ignore[misc]
        def _round_to(self, n_pruned: int, current_channels: int, round_to: int) -> int:
            kept = rounded(current_channels - n_pruned, current_channels, round_to)
            return max(0, current_channels - kept)

    return Pruner


def rounded(kept: int, channels: int, to: int) -> int:
    """The nearest multiple, but at least one; of layers narrower than two of it, of half their channels.

    >>> rounded(13, 64, 8), rounded(3, 64, 8), rounded(3, 8, 8)
    (16, 8, 4)
    """
    to = max(1, min(to, channels // 2))
    return max(to, (kept + to // 2) // to * to)


_IMPORTANCE: dict[str, Callable[[Any], Any]] = {
    "l1": lambda tp: tp.importance.GroupMagnitudeImportance(p=1),
    "l2": lambda tp: tp.importance.GroupMagnitudeImportance(p=2),
    "taylor": lambda tp: tp.importance.GroupTaylorImportance(),
    "lamp": lambda tp: tp.importance.LAMPImportance(p=2),
    "random": lambda tp: tp.importance.RandomImportance(),
}


def _copy(network: nn.Module) -> nn.Module:
    """With its gradients, which ``deepcopy`` leaves behind."""
    copied = copy.deepcopy(network).cpu().eval().requires_grad_()
    for mine, other in zip(copied.parameters(), network.parameters(), strict=True):
        mine.grad = None if other.grad is None else other.grad.detach().cpu().clone()
    return copied


class _AddedApart(TorchFunctionMode):
    """``x += y`` makes a tensor of its own. Into a view, as normalisation by instance gives it, the sum would otherwise
    be written, and the graph would lose its way there.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (torch.add if func in _ADDED_IN_PLACE else func)(*args, **(kwargs or {}))


_ADDED_IN_PLACE = (torch.Tensor.__iadd__, torch.Tensor.add_)


@contextmanager
def _traceable(network: nn.Module) -> Iterator[None]:
    """While the graph is found nothing works in place: what is overwritten is no node of the graph."""
    inplace = [module for module in network.modules() if getattr(module, "inplace", False) is True]
    for module in inplace:
        module.inplace = False  # type: ignore[assignment]
    try:
        with _AddedApart():
            yield
    finally:
        for module in inplace:
            module.inplace = True  # type: ignore[assignment]


def _last_layer(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """The layer that gives the logits."""
    finished: list[nn.Module] = []
    layers = [module for module in network.modules() if isinstance(module, _ConvNd | nn.Linear)]
    handles = [layer.register_forward_hook(lambda module, *_: finished.append(module)) for layer in layers]
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    return finished[-1]


def _macs(network: nn.Module, shape: Sequence[int]) -> float:
    return size_of(network, shape).macs


def _latency_ms(network: nn.Module, shape: Sequence[int]) -> float:
    """Of one answer in the engine that serves, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="medrail-") as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network, tuple(shape), path)
        return answer_cost(path, shape).latency_ms


def _torch_pruning() -> Any:
    try:
        import torch_pruning
    except ModuleNotFoundError:
        raise ConfigError(
            "the package torch-pruning is not installed",
            where="slim",
            remedy="pip install 'medrail[slim]' brings it.",
        ) from None
    return torch_pruning
