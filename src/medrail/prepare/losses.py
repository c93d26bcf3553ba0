"""What is said of a case that came to nothing: killed, too large, too slow, or without room on the disk."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from medrail.crew import Loss
from medrail.errors import PrepareError
from medrail.machine import free_memory_bytes
from medrail.prepare.store import Store

FULL = (errno.ENOSPC, errno.EDQUOT)
_LARGE_SHARE = 0.25  # of the memory


def why(loss: Loss) -> str:
    """As "needs 9.1 GB or more"."""
    if loss.why == "timeout":
        return "it did not end in time"
    if loss.signal == "SIGSEGV":
        return "a library crashed on it"
    if loss.why == "killed" and loss.signal not in ("", "SIGKILL"):
        return f"its process was ended by {loss.signal}"
    free = free_memory_bytes()
    # What held little beside what is free was ended by somebody, not for its memory.
    if loss.seen_bytes and (free is None or loss.seen_bytes > _LARGE_SHARE * (free + loss.seen_bytes)):
        return f"needs {loss.seen_bytes / 1e9:.1f} GB or more"
    return "the system ended its worker process" if loss.why == "killed" else "needs more memory than there is"


def reason(loss: Loss) -> str:
    """Why a case failed, and what to do."""
    alone = ", also when it ran alone" if loss.alone and loss.why != "timeout" else ""
    return f"{why(loss)}{alone}. {_remedy(loss)}"


def _remedy(loss: Loss) -> str:
    if loss.why == "timeout":
        return "Look at its files; `prepare.timeout_s` sets how long a case may take."
    if loss.signal == "SIGSEGV":
        return "Its files are probably damaged; leave the case out, and please report it."
    free = free_memory_bytes()
    there = f" ({free / 1e9:.1f} GB are free)" if free else ""
    return f"Free memory{there}, or begin the steps with a crop, and repeat."


def full_disk(store: Store, done: int, cases: int) -> PrepareError:
    """What stops a run."""
    return PrepareError(
        "no room is left on the disk",
        where=str(store.folder),
        needed=f"room for {cases - done} more of {cases} cases",
        remedy=f"Free some and repeat: what is done is kept ({done} of {cases}).",
    )


@contextmanager
def naming_a_full_disk(store: Store, cases: int) -> Iterator[None]:
    """A disk on which nothing at all can be written is said in the same words."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise full_disk(store, len(store.entries), cases) from None
