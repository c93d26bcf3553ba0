"""capacity: from the steps of a load test to the sentence a thesis needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medrail.loadtest.measure import Measured
from medrail.loadtest.outcome import OPEN, Capacity, StepResult

_NOTHING = Measured(None, None, None, 0)


@dataclass(frozen=True)
class Wanted:
    """When a step counts as served: p95 under ``limit_ms`` with its whole interval, errors at most ``error_share``."""

    limit_ms: float
    error_share: float = 0.01

    def served(self, step: StepResult) -> bool | None:
        """True: shown; False: shown not to be; None: the requests were too few to tell."""
        p95 = step.p95
        if not step.n or p95.value is None or (step.error_share.value or 0.0) > self.error_share:
            return False if step.n else None
        if p95.high is not None and p95.high < self.limit_ms:
            return True
        if p95.low is not None and p95.low >= self.limit_ms:
            return False
        return None


def capacity(steps: Sequence[StepResult], wanted: Wanted, where: str) -> Capacity | None:
    """The largest step that was shown to be served, below the first one that was not; None without steps.

    Parameters
    ----------
    steps:
        Of one mode.
    where:
        The end of the sentence: on which machine.
    """
    ordered = sorted(steps, key=lambda step: (step.users, step.planned_rps or 0.0))
    if not ordered:
        return None
    verdicts = [wanted.served(step) for step in ordered]
    failed_at = next((place for place, served in enumerate(verdicts) if served is False), len(ordered))
    # A smaller step that had too few requests to tell is no doubt once a larger one was shown to be served.
    shown = [place for place in range(failed_at) if verdicts[place]]
    best = ordered[shown[-1]] if shown else None
    larger = ordered[shown[-1] + 1] if shown and shown[-1] + 1 < len(ordered) else None
    undecided = larger if larger is not None and wanted.served(larger) is None else None
    at_least = best is not None and failed_at == len(ordered)
    sentence = _sentence(best, larger, wanted, at_least=at_least) if best else _none(ordered[0], wanted)
    return Capacity(
        users=best.users if best else 0,
        at_least=at_least,
        undecided=undecided.users if undecided else 0,
        limit_ms=wanted.limit_ms,
        p95=best.p95 if best else _NOTHING,
        sentence=f"{sentence} {where}".strip(),
    )


def _none(first: StepResult, wanted: Wanted) -> str:
    what = "was not decided by so few requests" if wanted.served(first) is None else "was not reached"
    return f"p95 < {_limit(wanted)} {what} with {_who(first)} ({_told(first)})."


def _sentence(best: StepResult, larger: StepResult | None, wanted: Wanted, *, at_least: bool) -> str:
    told = f"{'at least ' if at_least else ''}{_who(best)} at p95 < {_limit(wanted)}: {_told(best)}."
    if larger is not None:
        verdict = "not decided" if wanted.served(larger) is None else "no more"
        told += f" With {_who(larger)} it was {verdict}: {_told(larger)}."
    return told[0].upper() + told[1:]


def _limit(wanted: Wanted) -> str:
    return f"{wanted.limit_ms / 1e3:g} s"


def _who(step: StepResult) -> str:
    """The load in words."""
    plural = "" if step.users == 1 else "s"
    if step.mode == OPEN:
        each = f" ({step.users} user{plural} who send independently)" if step.users else ""
        return f"{step.planned_rps:.3g} requests/s in Poisson arrivals{each}"
    return f"{step.users} user{plural} at a time"


def _told(step: StepResult) -> str:
    p95 = step.p95
    if p95.value is None:
        return f"{step.errors} of {step.n} requests went wrong"
    high = "unknown" if p95.high is None else f"{p95.high:.0f}"
    low = "unknown" if p95.low is None else f"{p95.low:.0f}"
    wrong = f"{step.errors} error{'' if step.errors == 1 else 's'}"
    return (
        f"p95 {p95.value:.0f} ms [95 % interval {low} to {high}], n = {p95.n}, {step.rps.value:.3g} requests/s, {wrong}"
    )
