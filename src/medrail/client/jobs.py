"""Jobs: work that the service goes on with after its first answer, waited for here."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from medrail.client.connection import Connection, error_of
from medrail.errors import ServiceError, ServiceUnreachable

Progress = Callable[[float, str], None]
"""Called with the part that is done (0 to 1) and "queued", "running" or "done"."""
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.1, 2.0
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ACCEPTED = 202


def finished(
    connection: Connection,
    response: httpx.Response,
    headers: Mapping[str, str],
    on_progress: Progress | None,
    wait_s: float | None,
) -> httpx.Response:
    """``response`` itself, or, where it is a job's, the job's result once it is there.

    Whatever ends the waiting before, Ctrl-C, too, cancels the job: nobody would fetch it. A result that was fetched is
    dropped, so that an image's answer does not lie in the service longer than it must.

    Raises
    ------
    ServiceError
        If the job failed or was cancelled.
    ServiceUnreachable
        If it is not done within ``wait_s``.
    """
    if response.status_code != _ACCEPTED:
        if on_progress:
            on_progress(1.0, "done")
        return response
    path = _path(_object(response))
    try:
        _wait(connection, path, _object(response), on_progress, wait_s)
        return connection.send("GET", f"{path}/result", headers=headers)
    finally:
        connection.drop(path)


def _wait(
    connection: Connection, path: str, job: Mapping[str, Any], on_progress: Progress | None, wait_s: float | None
) -> None:
    begin, look_s = time.monotonic(), _FIRST_LOOK_S
    while True:
        status = str(job.get("status", ""))
        if status == "failed":
            problem = job.get("problem")
            known = problem.get("status") if isinstance(problem, Mapping) else None
            raise error_of(problem, known if isinstance(known, int) else 500, path)
        if status not in ("queued", "running", "done"):
            raise ServiceError("the job was cancelled", where=path, remedy="Send it again.", kind="job-cancelled")
        if on_progress:
            progress = job.get("progress")
            on_progress(float(progress) if isinstance(progress, int | float) else 0.0, status)
        if status == "done":
            return
        if wait_s is not None and time.monotonic() - begin + look_s > wait_s:
            raise ServiceUnreachable(
                f"the job was not done within {wait_s:g} s", where=path, remedy="Give it a longer wait_s."
            )
        time.sleep(look_s)
        look_s = min(1.5 * look_s, _LONGEST_LOOK_S)
        job = _object(connection.send("GET", path))


def _path(job: Mapping[str, Any]) -> str:
    """By the id alone: a link could lead to another host, and the key would go with it."""
    identity = job.get("job_id")
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        raise ServiceError("the service began a job and gave no id", remedy="Is the address that of medrail's service?")
    return f"/v1/jobs/{identity}"


def _object(response: httpx.Response) -> Mapping[str, Any]:
    try:
        values = response.json()
    except ValueError:
        values = None
    return values if isinstance(values, Mapping) else {}
