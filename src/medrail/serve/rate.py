"""How much one caller may ask for: a token bucket for requests a second, and places for what is in work at a time.

In memory, of this process: several worker processes have a bucket each.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from medrail.serve.problems import Refusal

_MOST_CALLERS = 10_000
_LONGEST_RETRY_S = 3600


class Buckets:
    """A token bucket a caller: ``burst`` at once, refilled with ``rate_per_s``; a rate of 0 lets everything pass."""

    def __init__(self, rate_per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """One token.

        Raises
        ------
        Refusal
            "too-many-requests", with the seconds until there is one again.
        """
        if not self._rate:
            return
        now = self._clock()
        level, then = self._levels.pop(caller, (float(self._burst), now))
        level = min(self._burst, level + (now - then) * self._rate)
        self._levels[caller] = (max(level - 1, 0.0) if level >= 1 else level, now)
        if len(self._levels) > _MOST_CALLERS:
            self._levels.popitem(last=False)  # who has not asked for the longest; its bucket is full by now, or nearly
        if level < 1:
            wait_s = min(_LONGEST_RETRY_S, max(1, math.ceil((1 - level) / self._rate)))
            raise Refusal("too-many-requests", f"At most {self._rate:g} requests a second.", retry_after_s=wait_s)


class Places:
    """At most ``most`` at a time for each caller; 0: no bound."""

    def __init__(self, most: int, kind: str) -> None:
        self._most = most
        self._kind = kind
        self._held: Counter[str] = Counter()

    def take(self, caller: str) -> Callable[[], None]:
        """A place; what is returned gives it back, once, however often it is called.

        Raises
        ------
        Refusal
            Of the kind that was given, if the caller holds all of its places.
        """
        if self._most and self._held[caller] >= self._most:
            raise Refusal(self._kind, f"At most {self._most} at a time.", retry_after_s=1)
        self._held[caller] += 1
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._held[caller] -= 1
                if self._held[caller] <= 0:
                    del self._held[caller]

        return give_back


def neighbourhood(address: str) -> str:
    """What counts as one sender: an IPv4 address, or the /64 network that an IPv6 host chooses its addresses from."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    if address == "localhost":
        return True
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback
