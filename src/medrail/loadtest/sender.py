"""Sends the requests: a script with a process of its own, since locust patches Python's sockets when it is imported.

It is run as a file, not as a module of medrail, so that nothing is imported before the patching. On standard input
come JSON lines: first where to and what (``_Job``), then one line a step; each is answered by one line: what became of
every request. It ends when standard input does.

Closed loop: each user is a locust user that sends, waits for the answer and sends again; the latency counts from the
sending. Open loop: one locust user plans arrivals as a Poisson process and sends each in a greenlet of its own, whether
earlier ones are answered or not; the latency counts from the *planned* time, so what a slow service or a late sender
delays is counted (Schroeder et al., NSDI 2006; Tene's "coordinated omission").
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

# isort: off
from locust import FastHttpUser, constant, task  # the first import: it patches
from locust.env import Environment
from locust.exception import StopUser

import gevent
import gevent.ssl
from gevent.pool import Group
# isort: on

_MOST_OUTSTANDING = 1_000
_REST_S = 0.2
"""After an error a user rests for so long, or as long as Retry-After says; without it a dead server is hammered."""
_LONGEST_REST_S = 5.0
_POLL_S = (0.02, 0.5)
_SOME_PER_S = 100
_LOOK_S = 0.25
clock = time.perf_counter


class _Job:
    """Where to send what, and what became of it in this step."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.host: str = told["host"]
        self.headers: dict[str, str] = told["headers"]
        self.timeout_s: float = told["timeout_s"]
        self.requests: list[dict[str, Any]] = told["requests"]
        for request in self.requests:
            request["body"] = Path(request["body"]).read_bytes() if request["body"] else None
        self.weights = [request["weight"] for request in self.requests]
        self.verify: bool = told["verify"]
        self.ca_file: str | None = told["ca_file"]
        self.rows: list[tuple[float, float, float, int, str, int, str]] = []
        self.step: dict[str, Any] = {}
        self.begin = 0.0
        self.ended_s = 0.0
        self.outstanding = 0
        self.random = random.Random()  # noqa: S311 - arrivals, no secrets
        self.choice = random.Random()  # noqa: S311 - its own, so that arrivals are the same whoever is quicker

    def context(self) -> Any:
        context = gevent.ssl.create_default_context(cafile=self.ca_file)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = gevent.ssl.CERT_NONE
        return context

    def over(self) -> bool:
        """Whether a closed loop has gone on for long enough: its seconds, and, up to a limit, for enough requests."""
        passed_s = clock() - self.begin
        done = passed_s >= self.step["seconds"] and len(self.rows) >= self.step["least"]
        if not self.ended_s and (done or passed_s >= self.step["most_seconds"]):
            self.ended_s = passed_s
        return bool(self.ended_s)

    def draw(self) -> int:
        return self.choice.choices(range(len(self.requests)), self.weights)[0]


JOB: _Job


class _User(FastHttpUser):
    """What both kinds of users share: how one request is sent and judged."""

    abstract = True
    wait_time = constant(0)

    def __init__(self, environment: Environment) -> None:
        self.network_timeout = self.connection_timeout = JOB.timeout_s
        self.insecure = not JOB.verify
        self.ssl_context_factory = JOB.context
        self.default_headers = JOB.headers
        super().__init__(environment)
        # A redirect is an answer, and not the wanted one; as a class's variable it would be every user's of locust.
        self.client.client.redirect_response_codes = frozenset()  # type: ignore[misc]

    def send(self, planned: float | None = None) -> float:
        """One request until its last byte, or, of a job, until its result; returns how long to rest, in seconds."""
        number = JOB.draw()
        request = JOB.requests[number]
        JOB.outstanding += 1
        begin = clock()
        context = {"number": number, "planned": begin if planned is None else planned, "begin": begin}
        try:
            with self.client.request(
                request["method"],
                request["path"],
                name=request["kind"],
                data=request["body"],
                headers=request["headers"],
                catch_response=True,
                context=context,
            ) as response:
                context["status"] = status = response.status_code
                wrong = self._wrong(request, response)
                if status == 202 and not wrong:
                    wrong = self._until_done(response)
                response.request_meta["response_time"] = (clock() - context["planned"]) * 1e3
                if wrong:
                    response.failure(wrong)
                else:
                    response.success()
            return _rest_s(response) if wrong else 0.0
        finally:
            JOB.outstanding -= 1

    def _wrong(self, request: dict[str, Any], response: Any) -> str:
        """ "" if the answer is the expected one; else a short name of what is wrong, without any of its text."""
        status = response.status_code
        if not status:
            return _called(getattr(response, "error", None))
        low, high = request["expected"]
        if status == 429 or not low <= status <= high:
            return "accepted what must be refused" if status < 300 and low >= 400 else f"{status} {_problem(response)}"
        if not response.content and status != 204:
            return "empty answer"
        return ""

    def _until_done(self, response: Any) -> str:
        """Ask for a job's state until it is done and fetch its result."""
        try:
            told = json.loads(response.content)
            links = told.get("links") or {}
            place = response.headers.get("location") or links.get("self") or links.get("status")
            deadline, pause = clock() + JOB.timeout_s, _POLL_S[0]
            while told.get("status") not in ("done", "failed", "cancelled"):
                if clock() > deadline:
                    return "job not done in time"
                gevent.sleep(pause)
                pause = min(pause * 1.5, _POLL_S[1])
                told = json.loads(self.client.client.urlopen(self.client._build_url(_path(place))).content)
                links = told.get("links") or links
            if told["status"] != "done":
                return f"job {told['status']}"
            if links.get("result"):
                self.client.client.urlopen(self.client._build_url(_path(links["result"]))).content  # noqa: B018 - read
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's error
            return f"job: {_called(error)}"
        return ""


def _path(link: Any) -> str:
    """A link as a path of this host: a job must not send the key elsewhere."""
    text = str(link.get("href") if isinstance(link, dict) else link)
    return "/" + text.partition("://")[2].partition("/")[2] if "://" in text else text


def _problem(response: Any) -> str:
    """The kind that a problem+json names (``urn:...:KIND``)."""
    try:
        return str(json.loads(response.content)["type"]).rpartition(":")[2].rpartition("/")[2][:40]
    except Exception:  # noqa: BLE001 - not a problem document
        return ""


def _called(error: BaseException | None) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, TimeoutError | gevent.Timeout):
            return "no answer in time"
        if isinstance(cause, gevent.ssl.SSLError):
            return "TLS failed"
        if isinstance(cause, ConnectionResetError | BrokenPipeError):
            return "connection closed"
        cause = cause.__cause__ or cause.__context__
    name = type(error).__name__
    return "connection closed" if name in ("HTTPConnectionClosed", "HTTPParseError") else name


def _rest_s(response: Any) -> float:
    try:
        asked = float(response.headers.get("retry-after"))
    except (AttributeError, TypeError, ValueError):
        return _REST_S
    return min(max(asked, _REST_S), _LONGEST_REST_S)


class Waiting(_User):
    """Closed loop: sends, waits for the answer, thinks, sends again."""

    @task
    def one(self) -> None:
        rest_s = self.send()
        think_s = JOB.step["think_s"]
        rest_s += JOB.random.expovariate(1 / think_s) if think_s else 0.0
        until = clock() + rest_s
        while not JOB.over():
            left_s = until - clock()
            if left_s <= 0:
                return
            gevent.sleep(min(left_s, _LOOK_S))
        raise StopUser


class Arriving(_User):
    """Open loop: one locust user that stands for everybody."""

    concurrency = _MOST_OUTSTANDING

    @task
    def everybody(self) -> None:
        sent = Group()
        planned, end = JOB.begin, JOB.begin + JOB.step["seconds"]
        while True:
            planned += JOB.random.expovariate(JOB.step["rate"])
            if planned >= end:
                break
            gevent.sleep(max(0.0, planned - clock()))
            if JOB.outstanding >= _MOST_OUTSTANDING:
                JOB.rows.append((planned - JOB.begin, 0.0, 0.0, 0, "not sent: too many outstanding", JOB.draw(), ""))
                continue
            sent.spawn(self.send, planned)
        sent.join()
        raise StopUser


def _record(response_time: float, context: dict[str, Any], exception: BaseException | None, **_: Any) -> None:
    """locust's event of one request -> a row."""
    planned = context["planned"] - JOB.begin
    wrong = str(exception) if exception else ""
    kind = JOB.requests[context["number"]]["kind"]
    sent_late_ms = (context["begin"] - context["planned"]) * 1e3
    JOB.rows.append((planned, response_time, sent_late_ms, context.get("status", 0), wrong, context["number"], kind))


def _run(environment: Environment, step: dict[str, Any]) -> dict[str, Any]:
    """One step; its rows as columns."""
    runner = environment.runner
    assert runner is not None  # noqa: S101 - for mypy: `main` made it
    JOB.step, JOB.rows, JOB.ended_s = step, [], 0.0
    JOB.random.seed(step["seed"])
    JOB.choice.seed(step["seed"])
    is_open = step["rate"] is not None
    used = time.process_time()
    JOB.begin, begin_unix = clock(), time.time()
    users = 1 if is_open else step["users"]
    runner.start(users, min(users, _SOME_PER_S), user_classes=[Arriving if is_open else Waiting])
    gevent.sleep(step["seconds"])
    longer_s = step["most_seconds"] - step["seconds"] + 2 * JOB.timeout_s + 5
    runner.user_greenlets.join(timeout=longer_s)
    runner.stop()
    rows = JOB.rows
    return {
        "begin_unix": begin_unix,
        "seconds": step["seconds"] if is_open else JOB.ended_s or clock() - JOB.begin,
        "lasted_s": clock() - JOB.begin,
        "cpu_s": time.process_time() - used,
        "planned_s": [row[0] for row in rows],
        "latency_ms": [row[1] for row in rows],
        "late_ms": [row[2] for row in rows],
        "status": [row[3] for row in rows],
        "error": [row[4] for row in rows],
        "request": [row[5] for row in rows],
    }


def main() -> None:
    global JOB
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints, it does not print into the answers
    logging.disable(logging.CRITICAL)
    JOB = _Job(json.loads(sys.stdin.readline()))
    environment = Environment(user_classes=[Waiting, Arriving], host=JOB.host, stop_timeout=JOB.timeout_s)
    environment.create_local_runner()
    environment.events.request.add_listener(_record)  # type: ignore[no-untyped-call]
    answers.write('{"ready": true}\n')
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(_run(environment, json.loads(line))) + "\n")
        answers.flush()
    os._exit(0)  # greenlets of locust's own still run, and nothing of them is wanted


if __name__ == "__main__":
    main()
