"""What those who give the work and those who do it agree on: jobs, results, losses, and the crew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Why = Literal["killed", "timeout", "memory"]


class Job(Protocol):
    """A piece of work; it is pickled on its way to another process."""

    @property
    def needs_bytes(self) -> int:
        """The memory that the work on it takes beside the interpreter with its libraries; a guess is enough.

        What finished jobs took corrects the later ones' guesses, so they need only be right in proportion.
        """
        ...


class Result(Protocol):
    """What the work makes of a job."""

    @property
    def out_of_memory(self) -> bool:
        """The job met MemoryError: it deserves a second try alone, and this result is not handed on."""
        ...


@dataclass(frozen=True)
class Loss:
    """Why a job has no result.

    Attributes
    ----------
    why:
        "killed": the system, or somebody, ended its process. "timeout": it took longer than the crew allows. "memory":
        it asked for more memory than it got.
    alone:
        It ran alone, so no other job can have taken its memory.
    seen_bytes:
        The most memory that its process was seen to hold; None where the system does not say, and on a cluster.
    signal:
        What ended its process, where that is known: "SIGKILL" is most often the system, for lack of memory; "SIGSEGV"
        is a defect of a library.
    """

    why: Why
    alone: bool
    seen_bytes: int | None = None
    signal: str = ""


@dataclass(frozen=True)
class Crew:
    """Who does the work.

    Attributes
    ----------
    workers:
        Processes at most; 0: as many as there are processors. Fewer run while the jobs need more memory than there is.
    timeout_s:
        How long one job may take; 0: for ever. Counted from when its process begins with it.
    budget_bytes:
        Memory that all processes together may take; None: what the machine and the container have free.
    scheduler:
        Address of a Dask scheduler, as tcp://10.0.0.5:8786: its workers do the work, and ``workers`` and
        ``budget_bytes`` do not count.
    here:
        Do the work in this process, one job after the other. Nothing is started, so it is the quickest for little
        work; but a job that is killed takes this process with it, and ``timeout_s`` ends only what the system can
        interrupt (``alarm``).
    """

    workers: int = 0
    timeout_s: float = 0.0
    budget_bytes: int | None = None
    scheduler: str = ""
    here: bool = False
