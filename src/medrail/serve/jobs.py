"""Jobs: work that goes on after the answer 202, known by an id, kept with its result for a while, and then gone.

A job is a folder: how it stands lies in ``job.json``, what was sent in ``in``, what came out in ``result``. So several
processes that share the folder know of each other's jobs, and nothing of a job outlives its folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medrail.serve.answers import Answer
from medrail.serve.audit import job_line
from medrail.serve.gate import share_of
from medrail.serve.job import CANCEL, ENDED, RESULT, Job, Outcome, Problem, State, problem_of, read_state
from medrail.serve.log import ServiceLog
from medrail.serve.metrics import Telemetry
from medrail.serve.problems import NO_SPACE, Refusal
from medrail.serve.settings import Settings
from medrail.serve.wanted import Unwanted, Watch

Task = Callable[[Watch], Answer]
_ID = re.compile(r"[0-9a-f]{32}")
_LOOK_EVERY_S = 1.0
_STOPPED: Problem = ("not-ready", "The service was stopped before the job was done.", "", 0)


class Jobs:
    """The jobs of a service. Methods that touch the disk do little of it; all of them may be called from any thread.

    Parameters
    ----------
    settings:
        How many, how long.
    folder:
        Where their folders lie; nothing else does.
    log, telemetry:
        Hear of a job that has ended, since the request that made it was told of long before.
    """

    def __init__(self, settings: Settings, folder: Path, log: ServiceLog, telemetry: Telemetry) -> None:
        self.folder = folder
        self._settings = settings
        self._log = log
        self._telemetry = telemetry
        self._mine: dict[str, Job] = {}
        self._lock = threading.Lock()
        workers = settings.job_workers or max(1, share_of(settings) // 2)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="medrail-job")
        self._closing = threading.Event()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweeper = threading.Thread(target=self._sweep, name="medrail-jobs", daemon=True)
        self._sweeper.start()

    def open(self, owner: str, request_id: str, model: str, version: str, caller: str = "") -> Job:
        """A new job with an empty folder for its upload; it holds a place until ``start``'s work ends or ``forget``.

        Parameters
        ----------
        owner:
            Who may see it.
        caller:
            What its caller's jobs are counted by (``access.counted_by``); "": they are not.

        Raises
        ------
        Refusal
            "too-many-jobs", in all or of this caller.
        """
        with self._lock:
            going = [state for state in self._states() if state.ended_s is None]
            mine = sum(state.caller == caller for state in going) if caller else 0
            most = self._settings.max_jobs_per_key if caller else 0
            if len(going) >= self._settings.jobs or 0 < most <= mine:
                raise Refusal("too-many-jobs", f"{mine} of your jobs have not ended.", retry_after_s=5)
            job_id = secrets.token_hex(16)
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            state = State(job_id, owner, request_id, model, version, now, os.getpid(), caller=caller)
            job = Job(state, self.folder / job_id)
            job.upload.mkdir(parents=True)
            job.write()
            self._mine[job_id] = job
            return job

    def start(self, job: Job, task: Task, record: Mapping[str, Any]) -> Future[Outcome]:
        """Let ``task`` be done as soon as a thread is free; the future never raises."""
        job.write(record={**record, "job_id": job.state.job_id})
        job.future = self._pool.submit(self._run, job, task)
        return job.future

    def accept(self, job: Job) -> State:
        """It is answered with 202: from now on its end has a line of its own in the log."""
        with self._lock:
            job.accepted = True
            ended = job.state.ended_s is not None
            if not ended:  # until now its request counted as the one in work
                job.call = self._telemetry.memory.begin()
        if ended:
            self._log_end(job.state)
        return job.now

    def find(self, job_id: str, owner: str) -> State:
        """How a job stands.

        Raises
        ------
        Refusal
            "unknown-job", also where it is another owner's.
        """
        job = self._mine.get(job_id)
        state = job.now if job else read_state(self.folder / job_id) if _ID.fullmatch(job_id) else None
        if state is None or state.owner != owner:
            raise Refusal("unknown-job")
        return state

    def result(self, job_id: str, owner: str) -> tuple[State, Path]:
        """A done job and the file of its result.

        Raises
        ------
        Refusal
            "job-not-done", "job-cancelled", "unknown-job", or what the job failed of.
        """
        state = self.find(job_id, owner)
        if state.status == "cancelled":
            raise Refusal("job-cancelled")
        if state.status == "failed":
            raise state.refusal or Refusal("internal")
        if state.status != "done":
            raise Refusal("job-not-done", f"The job is {state.status}.", retry_after_s=1)
        return state, self.folder / job_id / RESULT

    def cancel(self, job_id: str, owner: str) -> State | None:
        """End a job that goes on, wherever it runs; drop one that has ended: then None. Errors as ``find``."""
        state = self.find(job_id, owner)
        if state.ended_s is not None:
            self._drop(job_id)
            return None
        job = self._mine.get(job_id)
        try:
            (self.folder / job_id / CANCEL).touch()
        except FileNotFoundError:
            if job is None:  # it has just gone
                raise Refusal("unknown-job") from None
        if job is not None:
            job.watch.stop()
            if job.future is not None and job.future.cancel():
                self._end(job, status="cancelled")
        return self.find(job_id, owner)

    def forget(self, job: Job) -> None:
        """End it if it goes on, and remove its folder as soon as nothing works there."""
        job.watch.stop()
        if job.future is None or job.future.cancel():
            self._drop(job.state.job_id)
        else:
            with self._lock:
                if job.state.ended_s is None and job.call is None:  # it works on, and its request does not
                    job.call = self._telemetry.memory.begin()
            job.future.add_done_callback(lambda _: self._drop(job.state.job_id))

    def close(self, drain_s: float) -> None:
        """Drop what waits, let what runs finish within ``drain_s``, end the rest. Blocks."""
        self._closing.set()
        with self._lock:
            jobs = list(self._mine.values())
        running = [job.future for job in jobs if job.future is not None and not job.future.cancel()]
        unfinished = wait(running, timeout=drain_s).not_done
        for job in jobs:
            if job.future in unfinished or job.future is None or job.future.cancelled():
                job.watch.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for job in jobs:
            if job.state.status not in ENDED:
                self._end(job, status="failed", problem=_STOPPED)
        self._sweeper.join()

    def _run(self, job: Job, task: Task) -> Outcome:
        try:
            job.watch.at(0.0)
            job.write(status="running")
            answer = task(job.watch)
            (job.folder / RESULT).write_bytes(answer.body)
        except Unwanted:
            if self._closing.is_set() and not (job.folder / CANCEL).exists():
                return Outcome(self._end(job, status="failed", problem=_STOPPED))
            return Outcome(self._end(job, status="cancelled"))
        except Refusal as refusal:
            return Outcome(self._end(job, status="failed", problem=problem_of(refusal)))
        except Exception as error:  # noqa: BLE001 - a job's failure is its own, and its text may hold a name
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                return Outcome(self._end(job, status="failed", problem=problem_of(Refusal("no-space"))))
            self._log.unexpected(error, job.state.request_id)
            return Outcome(self._end(job, status="failed", problem=problem_of(Refusal("internal"))))
        timings_ms, result = answer.timings.model_dump(), dict(answer.result)
        record = {**job.state.record, "timings_ms": timings_ms, "result": result}
        made = {"media_type": answer.media_type, "file_name": answer.file_name, "record": record}
        return Outcome(self._end(job, status="done", progress=1.0, **made), answer)

    def _end(self, job: Job, **changes: Any) -> State:
        if (job.folder / CANCEL).exists():
            changes = {"status": "cancelled"}
            (job.folder / RESULT).unlink(missing_ok=True)
        shutil.rmtree(job.upload, ignore_errors=True)
        with self._lock:
            state = job.write(ended_s=time.monotonic(), **changes)
            if job.is_written:  # else only this process knows how it ended
                self._mine.pop(state.job_id, None)
            accepted, call, job.call = job.accepted, job.call, None
        if call is not None:
            self._telemetry.memory.end(call)
        if accepted:
            self._log_end(state)
        return state

    def _log_end(self, state: State) -> None:
        record = {**state.record, **({"problem": state.problem[0]} if state.problem else {})}
        self._log.job(job_line(state.request_id, state.status, record))
        self._telemetry.observe_job(state.status, record)

    def _drop(self, job_id: str) -> None:
        with self._lock:
            self._mine.pop(job_id, None)
        shutil.rmtree(self.folder / job_id, ignore_errors=True)

    def _states(self) -> Iterator[State]:
        try:
            folders = list(self.folder.iterdir())
        except OSError:
            return
        for folder in folders:
            state = read_state(folder)
            if state is not None:
                yield state

    def _sweep(self) -> None:
        """Remove what was kept long enough, and of what is left the oldest above the number that is kept."""
        while not self._closing.wait(min(_LOOK_EVERY_S, self._settings.job_keep_s)):
            try:
                self.remove_old()
            except Exception as error:  # noqa: BLE001 - whatever lies there, the other jobs must go in their time
                self._log.unexpected(error, "")

    def remove_old(self) -> None:
        """What the sweeper does, once."""
        states = [*self._states(), *(job.state for job in list(self._mine.values()))]
        ended = [(state.ended_s, state) for state in states if state.ended_s is not None]
        ended.sort(key=lambda entry: entry[0], reverse=True)
        oldest_s = time.monotonic() - self._settings.job_keep_s
        for number, (ended_s, state) in enumerate(ended):
            if ended_s < oldest_s or number >= self._settings.jobs_kept:
                self._drop(state.job_id)
        self._remove_unreadable({state.job_id for state in states})

    def _remove_unreadable(self, known: set[str]) -> None:
        """Folders that say of no job how it stands, as a crash may leave them, go after the same time."""
        oldest_s = time.time() - self._settings.job_keep_s
        for folder in list(self.folder.iterdir()):
            with suppress(OSError):
                if _ID.fullmatch(folder.name) and folder.name not in known and folder.stat().st_mtime < oldest_s:
                    shutil.rmtree(folder, ignore_errors=True)
