"""Comes in: a function and many jobs. Goes out: the result of each job, whatever happens to the processes at work.

``work_through`` is the one function. ``lanes`` has the processes of this machine, ``cluster`` those of a Dask cluster;
``admission`` says what fits into memory, ``worker`` is a process's own side. Nothing in here knows of images.
"""

from __future__ import annotations

from medrail.crew.terms import Crew, Job, Loss, Result, Why
from medrail.crew.through import work_through

__all__ = ["Crew", "Job", "Loss", "Result", "Why", "work_through"]
