"""What a network's output is: which one, of which classes, and whether it gives logits or probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medrail.adopt.given import Given
from medrail.adopt.original import Original, classes_second
from medrail.adopt.rewrite import Answer, Ending, ending_of
from medrail.adopt.trial import Looked
from medrail.bundle.backend import Batch
from medrail.errors import BundleError, ConfigError, did_you_mean

_SUMS_TO_ONE = 1e-3
_SAY = "Say what its last layer gives: --answers logits or --answers probabilities."


def answer_of(looked: Looked, given: Given, size: tuple[int, ...]) -> Answer:
    """Which output is meant, and where its classes are.

    Parameters
    ----------
    size:
        ([D,] H, W) of the input.

    Raises
    ------
    ConfigError
        If it is not clear which output is meant, or there is none of that name.
    BundleError
        If it is neither a number a class nor a map of the image's size, or tells of another number of classes.
    """
    output = given.output or _only(looked)
    if output not in looked.answers:
        names = ", ".join(looked.answers)
        raise ConfigError(
            f"--output {output!r}", needed=f"one of {names}", remedy=did_you_mean(output, [*looked.answers])
        )
    shape = looked.answers[output]
    rank, spatial = len(shape), False
    if rank == 2 + given.dims and shape[1 if not given.channels_last else -1] and _map_of(shape, given) == size:
        spatial, axis = True, rank - 1 if given.channels_last else 1
    elif rank >= 2 and shape[0] == 1 and sum(length != 1 for length in shape[1:]) <= 1:
        axis = max(range(1, rank), key=lambda place: shape[place])
    else:
        raise BundleError(
            f"the output {output} has the shape {' x '.join(map(str, shape))} for one image",
            needed="1 x classes, or a map of the image's size",
        )
    count = shape[axis]
    if count != len(given.classes) and not (count == 1 and len(given.classes) == 2 and not given.multi_label):
        raise BundleError(
            f"{len(given.classes)} classes were named, and the output {output} tells of {count}",
            needed=f"{count if count > 1 else 'two'} names, in the order of the outputs",
        )
    return Answer(output, rank, axis, count, spatial)


def ending_by(model: Any, answer: Answer, given: Given, original: Original, probes: Sequence[Batch]) -> Ending:
    """Whether that output gives logits or probabilities: by its last layer, else by the numbers.

    Raises
    ------
    ConfigError
        If it cannot be told, or what was said is not so.
    """
    told = ending_of(model, answer)
    if told and told.last == "sigmoid" and answer.count > 1 and not given.multi_label:
        raise ConfigError(
            "the network ends in a sigmoid of each class",
            needed="classes that exclude each other",
            remedy="Where an image may have several of them, say --multi-label.",
        )
    if told and told.last == "softmax" and given.multi_label:
        raise ConfigError("--multi-label, and the network ends in a softmax", needed="classes of which one is true")
    if told and (told.last or given.answers != "probabilities"):
        if told.last and given.answers == "logits":
            raise ConfigError(f"--answers logits, and it ends in a {told.last}", needed="probabilities, or auto")
        return told
    if given.answers == "logits":
        return Ending(answer.output, "logits")
    found = [classes_second(original(probe, answer.output), answer) for probe in probes]
    within = all((one >= -_SUMS_TO_ONE).all() and (one <= 1 + _SUMS_TO_ONE).all() for one in found)
    whole = all(np.abs(one.sum(axis=1) - 1).max() <= _SUMS_TO_ONE for one in found)
    exclusive = answer.count > 1 and not given.multi_label
    if within and (whole or not exclusive) and (exclusive or given.answers == "probabilities"):
        return Ending(answer.output, "probabilities")
    if given.answers == "probabilities":
        raise ConfigError(
            "--answers probabilities, and the answers are none",
            needed=f"numbers from 0 to 1{', of which those of an image sum to 1' if exclusive else ''}",
        )
    if not within:
        return Ending(answer.output, "logits")
    raise ConfigError(
        "all answers lie between 0 and 1, and the file does not say what they are", needed="certainty", remedy=_SAY
    )


def _map_of(shape: tuple[int, ...], given: Given) -> tuple[int, ...]:
    return shape[1:-1] if given.channels_last else shape[2:]


def _only(looked: Looked) -> str:
    if len(looked.answers) == 1:
        return next(iter(looked.answers))
    raise ConfigError(
        f"the network has {len(looked.answers)} outputs", needed=f"--output with one of {', '.join(looked.answers)}"
    )
