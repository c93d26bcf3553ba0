"""Given: what the maker of a network knows and its file does not say, and the preprocessing that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from medrail.errors import ConfigError, did_you_mean
from medrail.prepare import Pipeline
from medrail.types import Unit

Answers = Literal["auto", "logits", "probabilities"]
Color = Literal["rgb", "bgr", "grey"]
LAYOUTS = ("NCHW", "NHWC", "NCDHW", "NDHWC")
"""N images, C channels, D slices, H rows, W columns: PyTorch has the channels second, Keras and TensorFlow last."""


def _custom(mean: Sequence[float], std: Sequence[float]) -> tuple[dict[str, Any], ...]:
    return ({"kind": "normalise", "method": "custom", "mean": list(mean), "std": list(std)},)


SCALES: Mapping[str, tuple[dict[str, Any], ...]] = MappingProxyType(
    {
        "0..255": (),
        "0..1": _custom([0.0], [255.0]),
        "-1..1": _custom([127.5], [127.5]),
        "imagenet": ({"kind": "normalise", "method": "imagenet"},),
        # What Keras calls mode "caffe" (VGG, ResNet): the means of ImageNet's channels, of which blue comes first.
        "caffe": _custom([123.68, 116.779, 103.939], [1.0]),
        "zscore": ({"kind": "normalise", "method": "zscore"},),
    }
)
"""What the network was trained on -> the steps that make it of an 8-bit picture."""
_BLUE_FIRST = "caffe"
_OF_ANY_UNIT, _OF_PICTURES = ("zscore",), ("zscore", "imagenet")


@dataclass(frozen=True)
class Given:
    """What is said of a network.

    classes:
        Their names in the order of the outputs. A network with a single output tells how probable the second one is.
    layout:
        One of ``LAYOUTS``.
    scale:
        One of ``SCALES``; "" with ``steps``.
    steps:
        The whole preprocessing, as in ``prepare.steps``; () to make it from size, colour and scale.
    size:
        ([D,] H, W) where the file leaves it free; () else.
    channels:
        Where the file leaves them free; 0 else.
    color:
        None: grey with one channel, else red first.
    keep_aspect:
        Pad to the network's size instead of stretching.
    answers:
        What the network's last layer gives.
    output:
        Its name, where there are several.
    unit:
        Of the raw images.

    Raises
    ------
    ConfigError
        If these contradict each other.
    """

    classes: tuple[str, ...]
    layout: str
    scale: str = ""
    steps: tuple[dict[str, Any], ...] = ()
    size: tuple[int, ...] = ()
    channels: int = 0
    color: Color | None = None
    keep_aspect: bool = False
    multi_label: bool = False
    answers: Answers = "auto"
    output: str = ""
    unit: Unit = "uint8"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(f"--layout {self.layout!r}", needed=f"one of {', '.join(LAYOUTS)}")
        if bool(self.scale) == bool(self.steps):
            raise ConfigError(
                "both --scale and --steps" if self.scale else "neither --scale nor --steps",
                needed="one of them: on what numbers the network was trained",
                remedy=f"--scale takes {', '.join(SCALES)}; --steps a file with the whole preprocessing.",
            )
        if self.scale and self.scale not in SCALES:
            raise ConfigError(
                f"--scale {self.scale!r}",
                needed=f"one of {', '.join(SCALES)}",
                remedy=did_you_mean(self.scale, list(SCALES), or_else=False),
            )
        fitting = {"uint8": tuple(SCALES), "uint16": _OF_PICTURES}.get(self.unit, _OF_ANY_UNIT)
        if self.scale and self.scale not in fitting:
            raise ConfigError(
                f"--scale {self.scale} with --unit {self.unit}",
                needed=f"{' or '.join(fitting)}, or the whole preprocessing by --steps",
            )
        few = len(self.classes) < (1 if self.multi_label else 2)
        if few or len(set(self.classes)) != len(self.classes) or not all(self.classes):
            raise ConfigError(
                f"--classes {','.join(self.classes)}",
                needed=f"at least {'one' if self.multi_label else 'two'}, all different, none empty",
            )
        if self.size and len(self.size) != self.dims:
            raise ConfigError(
                f"--size {','.join(map(str, self.size))}",
                needed=f"{self.dims} numbers, as --layout {self.layout} has {self.layout[-self.dims :]}",
            )

    @property
    def dims(self) -> Literal[2, 3]:
        return 3 if "D" in self.layout else 2

    @property
    def channels_last(self) -> bool:
        return self.layout.endswith("C")

    @property
    def blue_first(self) -> bool:
        """Whether the network wants blue, green, red."""
        return self.color == "bgr" or (self.color is None and self.scale == _BLUE_FIRST)

    def pipeline(self, channels: int, size: tuple[int, ...]) -> Pipeline:
        """The preprocessing for a network that takes so many channels of this size, ([D,] H, W).

        Raises
        ------
        ConfigError
            If the steps are wrong, or cannot be made for so many channels.
        """
        if self.steps:
            return Pipeline.from_dict(self.steps)
        if channels not in (1, 3):
            raise ConfigError(
                f"the network takes {channels} channels in the layout {self.layout}",
                needed="1 (grey) or 3 (colours), or the whole preprocessing",
                remedy="Look whether --layout is right; else give --steps.",
            )
        if channels == 1 and self.color not in (None, "grey"):
            raise ConfigError(f"--color {self.color}", needed="grey: the network takes one channel")
        if channels == 3 and self.color == "grey":
            raise ConfigError("--color grey", needed="rgb or bgr: the network takes three channels")
        steps: list[dict[str, Any]] = [{"kind": "rgb_to_grey" if channels == 1 else "grey_to_rgb"}]
        if size:
            steps.append({"kind": "resize", "size": list(size), "keep_aspect": self.keep_aspect})
        return Pipeline.from_dict([*steps, *SCALES[self.scale]])
