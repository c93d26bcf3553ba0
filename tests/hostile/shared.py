"""The table of makers, the good files that bad ones are made of, and what is done to every kind alike."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture

Make = Callable[[], bytes]
REFUSED = frozenset({400, 413, 415, 422})
ANY = REFUSED | {200}
PICTURE, VOLUME = "chest", "brain"


@dataclass(frozen=True)
class Hostile:
    """One file: what makes it, the statuses that are right, and the model that it is sent to."""

    make: Make
    statuses: frozenset[int]
    model: str


CORPUS: dict[str, Hostile] = {}


def add(name: str, make: Make, statuses: Iterable[int] = REFUSED, model: str = PICTURE) -> None:
    assert name not in CORPUS, name
    CORPUS[name] = Hostile(make, frozenset(statuses), model)


def maker(*statuses: int, model: str = PICTURE) -> Callable[[Make], Make]:
    """As a decorator; the function's name is the file's."""

    def register(make: Make) -> Make:
        add(make.__name__, make, statuses or REFUSED, model)
        return make

    return register


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def picture(form: str, shape: tuple[int, ...] = (48, 64, 3), **options: object) -> bytes:
    """A picture of a slope with a little noise."""
    slope = np.indices(shape[:2]).sum(axis=0) * 2
    values = (slope + np.random.default_rng(0).integers(0, 9, shape[:2])).astype(np.uint8)
    values = np.repeat(values[..., None], shape[2], axis=2) if len(shape) == 3 else values
    buffer = io.BytesIO()
    Picture.fromarray(values).save(buffer, form, **options)
    return buffer.getvalue()


def add_cuts(name: str, make: Make, offsets: Iterable[float], statuses: Iterable[int] = REFUSED, **more: str) -> None:
    """The file cut off at these places: numbers of bytes, or shares of it."""
    for offset in offsets:

        def cut(offset: float = offset) -> bytes:
            content = make()
            return content[: int(offset if offset >= 1 else len(content) * offset)]

        add(f"{name}_cut_at_{offset:g}", cut, statuses, **more)


def add_flips(name: str, make: Make, count: int, reach: int, **more: str) -> None:
    """Copies in which a few bits among the first ``reach`` bytes are other ones; some may still be good."""
    for seed in range(count):

        def flipped(seed: int = seed) -> bytes:
            content = bytearray(make())
            draw = random.Random(f"{name} {seed}")
            for _ in range(1 + seed % 4):
                content[draw.randrange(min(reach, len(content)))] ^= 1 << draw.randrange(8)
            return bytes(content)

        add(f"{name}_flip_{seed}", flipped, ANY, **more)
