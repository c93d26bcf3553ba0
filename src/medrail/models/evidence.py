"""What a network can say besides its logits: features of the whole image and, where they are exact, maps of evidence.

A network that ends in global average pooling and one linear layer adds up, for each class, what every place of its last
map says: ``logit_k = bias_k + mean over places of (weight_k . map)``. The term under the mean is that place's evidence
for the class, so the map is the answer itself taken apart, not an estimate of what mattered (class activation mapping:
Zhou et al., CVPR 2016, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from medrail.bundle.backend import EVIDENCE, FEATURES, LOGITS

Ending = Literal["pooled_linear", "linear", "dense"]
"""How a network ends. ``pooled_linear``: global average pooling (nn.AdaptiveAvgPool) and one nn.Linear, with nothing
between them but flattening and dropout. ``linear``: an nn.Linear after anything else. ``dense``: a map of logits.
"""
_POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_PROBE_BATCH = 2
_Taken = Callable[[nn.Module, Any, Any], torch.Tensor]


class WithEvidence(nn.Module):
    """A network that answers ``(logits, features)`` or ``(logits, features, evidence)``; ``outputs`` has their names.

    features:
        (N, F). Classification: the input of the last linear layer, which for ``pooled_linear`` are the pooled features.
        Segmentation: the mean over the places of the deepest map, the one with the fewest places (of several the one
        with the most channels, of these the last, so that residual sums and joined skips are in it).
    evidence:
        (N, K, [D,] h, w), ``pooled_linear`` only: its mean over the places plus the linear layer's bias is the logit.

    Which modules these are is found once, by letting the network answer to noise.

    Parameters
    ----------
    network:
        It is not copied or changed, and keeps its mode.
    input_shape:
        (C, [D,] H, W).
    """

    def __init__(self, network: nn.Module, ending: Ending, input_shape: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.ending = ending
        finished = _finished(network, input_shape)
        self._source = (_deepest if ending == "dense" else _last_linear)(network, finished)
        self._pool = _last_pool(network, finished, self._source) if ending == "pooled_linear" else ""
        self.train(network.training)  # a new module is in training mode, and would put the network into it

    @property
    def outputs(self) -> tuple[str, ...]:
        return (LOGITS, FEATURES, EVIDENCE) if self._pool else (LOGITS, FEATURES)

    @property
    def bias(self) -> torch.Tensor:
        """(K,): what is added to the mean of the evidence; ``pooled_linear`` only."""
        linear = self.network.get_submodule(self._source)
        weight, bias = linear.get_parameter("weight"), getattr(linear, "bias", None)
        return weight.new_zeros(len(weight)) if bias is None else bias

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        wanted: dict[str, _Taken] = {self._source: _output if self.ending == "dense" else _input}
        if self._pool:
            wanted[self._pool] = _input
        with _watching(self.network, wanted) as seen:
            logits: torch.Tensor = self.network(image)
        features = seen[self._source]
        if self.ending == "dense":
            features = features.flatten(2).mean(2)
        elif features.ndim > 2:  # tokens (N, T, F)
            features = features.flatten(1, -2).mean(1)
        if not self._pool:
            return logits, features
        places = seen[self._pool]
        weight = self.network.get_submodule(self._source).get_parameter("weight")
        evidence = torch.matmul(weight, places.flatten(2))
        return logits, features, evidence.reshape(-1, len(weight), *places.shape[2:])


@contextmanager
def _watching(network: nn.Module, wanted: Mapping[str, _Taken]) -> Iterator[dict[str, torch.Tensor]]:
    """What was taken at the named modules, of their last call."""
    seen: dict[str, torch.Tensor] = {}

    def watch(name: str, take: _Taken) -> Any:
        def hook(module: nn.Module, given: Any, answered: Any) -> None:
            seen[name] = take(module, given, answered)

        return network.get_submodule(name).register_forward_hook(hook)

    handles = [watch(name, take) for name, take in wanted.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _input(module: nn.Module, given: Any, answered: Any) -> torch.Tensor:
    taken: torch.Tensor = given[0]
    return taken


def _output(module: nn.Module, given: Any, answered: Any) -> torch.Tensor:
    taken: torch.Tensor = answered
    return taken


def _finished(network: nn.Module, input_shape: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
    """The network's modules in the order in which they finish, each with the shape of its answer (() for several)."""
    finished: list[tuple[str, tuple[int, ...]]] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(module: nn.Module, given: Any, answered: Any) -> None:
            finished.append((name, tuple(answered.shape) if isinstance(answered, torch.Tensor) else ()))

        return module.register_forward_hook(hook)

    handles = [watch(name, module) for name, module in network.named_modules() if name]
    training = network.training
    device = next(network.parameters()).device
    noise = torch.randn(_PROBE_BATCH, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    try:
        with torch.inference_mode():
            network.eval()(noise)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return finished


def _last_linear(network: nn.Module, finished: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    linear = [name for name, _ in finished if isinstance(network.get_submodule(name), nn.Linear)]
    if not linear:
        raise ValueError(f"{type(network).__name__} has no linear layer")
    return linear[-1]


def _last_pool(network: nn.Module, finished: Sequence[tuple[str, tuple[int, ...]]], linear: str) -> str:
    names = [name for name, _ in finished]
    pools = [name for name in names[: names.index(linear)] if isinstance(network.get_submodule(name), _POOLS)]
    if not pools:
        raise ValueError(f"{type(network).__name__} has no nn.AdaptiveAvgPool before its last linear layer")
    return pools[-1]


def _deepest(network: nn.Module, finished: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    maps = [(name, shape) for name, shape in finished if len(shape) in (4, 5) and shape[0] == _PROBE_BATCH]
    if not maps:
        raise ValueError(f"{type(network).__name__} has no map")
    fewest = min(_places(shape) for _, shape in maps)
    deepest = [(name, shape[1]) for name, shape in maps if _places(shape) == fewest]
    widest = max(channels for _, channels in deepest)
    return [name for name, channels in deepest if channels == widest][-1]


def _places(shape: Sequence[int]) -> int:
    count = 1
    for length in shape[2:]:
        count *= length
    return count
