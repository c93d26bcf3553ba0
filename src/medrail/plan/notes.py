"""Notes: what the plan tells a person, collected while it is made."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Notes:
    """``inferred``: what was concluded and from what. ``unsure``: what a person should look at, and what to change."""

    inferred: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
