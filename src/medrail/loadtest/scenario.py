"""SCENARIOS: what is sent, in which mixture, and by how many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IMAGE, VOLUME, LIST, HOSTILE = "image", "volume", "list", "bad"


@dataclass(frozen=True)
class Scenario:
    """One kind of test.

    mixture:
        Kind of request -> its weight.
    users:
        How many users each step has; () where they are doubled until the service is full.
    about:
        One line for `--help` and the page.
    """

    mixture: Mapping[str, float]
    users: tuple[int, ...]
    about: str

    @property
    def to_saturation(self) -> bool:
        return not self.users


SCENARIOS: Mapping[str, Scenario] = {
    "images": Scenario({IMAGE: 1}, (1, 2, 4, 8), "single images, 1 to 8 users"),
    "volumes": Scenario({VOLUME: 1}, (1, 2), "volumes, which may be jobs: until the result is there"),
    "mixed": Scenario(
        {IMAGE: 8, VOLUME: 1, LIST: 2, HOSTILE: 1},
        (1, 2, 4, 8),
        "images, some volumes, looks at /v1/models, and files that must be refused",
    ),
    "bad": Scenario({HOSTILE: 1}, (1, 4), "only what must be refused: broken, disguised, empty, too large"),
    "ramp": Scenario({IMAGE: 1}, (), "images by 1, 2, 4, ... users until it is full, then Poisson arrivals below that"),
}
