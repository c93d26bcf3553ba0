"""Which version of a model answers: the newest, a pinned one, a share of a canary; and what is run in its shadow.

Pure functions of frozen values: the registry holds them, ``state.py`` writes them down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

MOST_REMEMBERED = 16
_TOKEN = re.compile(r"\d+|[^\d]+")
_VERSION = re.compile(r"[\w.+-]{1,128}")
_LETTERS_AFTER_DASH, _END, _OTHER, _NUMBER = range(4)


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """By which versions are ordered: numbers as numbers, and "1.0-rc1" before "1.0".

    >>> sorted(["10", "9", "1.10", "1.9", "1.0", "1.0-rc1"], key=version_key)
    ['1.0-rc1', '1.0', '1.9', '1.10', '9', '10']
    """
    key = []
    for token in _TOKEN.findall(version):
        if token.isdigit():
            key.append((_NUMBER, int(token), ""))
        elif token.strip("._+-"):
            key.append((_LETTERS_AFTER_DASH if token.startswith("-") else _OTHER, 0, token.strip("._+-")))
    return (*key, (_END, 0, version))


@dataclass(frozen=True)
class Traffic:
    """How a model's requests are divided; versions that are not loaded have no effect.

    pinned:
        The version that answers; "": the newest loaded one.
    canary, share:
        Another version, and the share of requests, 0..1, that it answers instead.
    shadow:
        A version that answers every request, too, of which only the difference is logged.
    active, before:
        The version that answered last, and those that did before it, newest last: what a rollback goes back to.
    """

    pinned: str = ""
    canary: str = ""
    share: float = 0.0
    shadow: str = ""
    active: str = ""
    before: tuple[str, ...] = ()

    def answering(self, loaded: Sequence[str]) -> str:
        """The version that answers, out of the loaded ones, oldest first."""
        return self.pinned if self.pinned in loaded else loaded[-1]

    def to_canary(self, count: int) -> bool:
        """Whether the request with this number, from 0, goes to the canary: of n requests floor(n x share) do, for
        every n, as evenly as can be.

        >>> [Traffic(canary="2", share=0.4).to_canary(n) for n in range(5)]
        [False, False, True, False, True]
        """
        return int((count + 1) * self.share + _HALF_AN_ULP) > int(count * self.share + _HALF_AN_ULP)

    def asked(self) -> set[str]:
        """Versions that somebody named for requests to go to."""
        return {self.pinned, self.canary, self.shadow} - {""}

    def needed(self) -> set[str]:
        """Those, and what a rollback goes back to: they stay loaded."""
        return self.asked() | {self.active, *self.before[-1:]} - {""}

    def took_over(self, version: str) -> Traffic:
        """The same after ``version`` began to answer."""
        if version == self.active:
            return self
        before = (*self.before, self.active)[-MOST_REMEMBERED:] if self.active else self.before
        return replace(self, active=version, before=before)

    def rolled_back(self, to: str) -> Traffic:
        """Pinned to a version that answered before; the canary and the shadow end, and the way back is shorter."""
        known = to in self.before
        last = len(self.before) - 1 - self.before[::-1].index(to) if known else 0
        return Traffic(pinned=to, active=to, before=self.before[:last])

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``Traffic.from_dict(traffic.to_dict()) == traffic``."""
        return asdict(self) | {"before": list(self.before)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Traffic:
        """The inverse of ``to_dict``.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        names = {name: values.get(name, "") for name in ("pinned", "canary", "shadow", "active")}
        before, share = values.get("before", []), values.get("share", 0.0)
        if not isinstance(before, list) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError("no traffic")
        if not all(isinstance(name, str) and (not name or _VERSION.fullmatch(name)) for name in names.values()):
            raise ValueError("no version")
        remembered = tuple(str(name) for name in before if _VERSION.fullmatch(str(name)))
        return Traffic(share=float(share), before=remembered[-MOST_REMEMBERED:], **names)


_HALF_AN_ULP = 1e-9  # 0.1 x 10 requests are one, whatever the machine's fractions make of it
