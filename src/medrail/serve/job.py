"""One job: how it stands, and the folder in which it does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from medrail.serve.answers import Answer
from medrail.serve.memory import Call
from medrail.serve.problems import Refusal
from medrail.serve.wanted import Watch

Problem = tuple[str, str, str, int]
Status = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = frozenset({"done", "failed", "cancelled"})
STATE, UPLOAD, RESULT, CANCEL = "job.json", "in", "result", "cancel"
"""What may lie in a job's folder: how it stands; what was sent; what came out; a mark that it shall end."""
_TELL_EVERY_S = 0.2


@dataclass(frozen=True)
class State:
    """How a job stands.

    owner:
        The id of the API key that it was made with; "" without keys. Nobody else learns that it is there.
    caller:
        What the jobs of one caller are counted by: its key, or its address; "" where they are not bounded.
    created, ended_s:
        When it was accepted (UTC, ISO 8601); when it ended (seconds of ``time.monotonic``, which no new time moves).
    process:
        The id of the process that works on it.
    media_type, file_name:
        Of the result.
    problem:
        Of a failed one: kind, detail, remedy, seconds until another try, of its ``Refusal``.
    record:
        What the audit keeps of it.
    """

    job_id: str
    owner: str
    request_id: str
    model: str
    version: str
    created: str
    process: int
    status: Status = "queued"
    progress: float = 0.0
    ended_s: float | None = None
    media_type: str = ""
    file_name: str = ""
    problem: Problem | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    caller: str = ""

    @property
    def refusal(self) -> Refusal | None:
        """Why it failed."""
        return Refusal(*self.problem) if self.problem else None


@dataclass(frozen=True)
class Outcome:
    """What a job came to: how it stands, and the answer where there is one."""

    state: State
    answer: Answer | None = None


class Job:
    """A job of this process, from before its upload until it has ended."""

    def __init__(self, state: State, folder: Path) -> None:
        self.state = state
        self.folder = folder
        self.upload = folder / UPLOAD
        self.watch = Watch(self._tell, (folder / CANCEL).exists)
        self.future: Future[Outcome] | None = None
        self.accepted = False
        self.is_written = False
        self.call: Call | None = None  # while it works on after its request was answered
        self._told_s = 0.0

    @property
    def now(self) -> State:
        """How it stands; one that was told to end counts as cancelled before it has."""
        state = self.state
        return replace(state, status="cancelled") if state.status not in ENDED and self.watch.stopped else state

    def write(self, **changes: Any) -> State:
        """Change how it stands, in memory and, where that can be written, in its folder."""
        self.state = replace(self.state, **changes)
        temporary = self.folder / f".{STATE}"
        try:
            temporary.write_text(json.dumps(asdict(self.state)), encoding="utf-8")
            temporary.replace(self.folder / STATE)
            self.is_written = True
        except OSError:  # its folder is gone or the disk is full: this process knows it all the same
            self.is_written = False
        return self.state

    def _tell(self, share: float) -> None:
        if time.monotonic() - self._told_s > _TELL_EVERY_S:
            self._told_s = time.monotonic()
            self.write(progress=round(share, 3))


_STATES = TypeAdapter(State)


def problem_of(refusal: Refusal) -> Problem:
    """As a job's state keeps it."""
    return refusal.kind, refusal.detail, refusal.remedy, refusal.retry_after_s


def read_state(folder: Path) -> State | None:
    """How the job of a folder stands; None where it is gone or cannot be read. Whose process has died, has failed."""
    try:
        state = _STATES.validate_json((folder / STATE).read_bytes())
        age_s = max(time.time() - (folder / STATE).stat().st_mtime, 0.0)
    except (OSError, ValueError):
        return None
    if state.ended_s is None and not _lives(state.process):
        problem = ("not-ready", "The process that did the job ended before the job did.", "Send the image again.", 0)
        return replace(state, status="failed", problem=problem, ended_s=time.monotonic() - age_s)
    if state.status not in ENDED and (folder / CANCEL).exists():
        return replace(state, status="cancelled")
    return state


def _lives(process: int) -> bool:
    """Whether there is such a process; where the system cannot be asked without harm, True."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
