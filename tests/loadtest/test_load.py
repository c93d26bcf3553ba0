"""Load really sent, by locust, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from medrail.errors import ConfigError, LoadTestError
from medrail.loadtest import SCENARIOS, Plan, load_test
from medrail.loadtest.attack import Step, sending
from medrail.loadtest.material import Request, upload
from medrail.loadtest.target import Target

QUICK = {"seconds": 0.5, "least": 20, "timeout_s": 10.0}
IMAGE = {"image": (upload("image", "/v1/predict/image", b"content"),)}


def test_a_closed_loop_never_has_more_outstanding_than_users_and_an_open_one_counts_what_waits(serial):
    serial.wait_s = 0.02
    with sending(Target.of(serial.url), IMAGE, {"image": 1}, 30.0) as sender:
        closed = sender.run(Step(2, seconds=0.5, most_seconds=0.5))
        opened = sender.run(Step(0, rate=200.0, seconds=0.5, most_seconds=0.5))
    assert not any(closed.error + opened.error)
    finished = closed.planned_s + closed.latency_ms / 1e3
    assert all(np.sum((closed.planned_s <= at) & (finished > at)) <= 2 for at in closed.planned_s)
    # One after the other takes 2 s or more for the 100 that arrive in half a second, and the last waits for the rest.
    assert len(opened) > 50
    assert opened.latency_ms.max() >= 1e3 * (len(opened) * 0.02 - 0.5)
    assert opened.latency_ms.max() > 3 * np.median(closed.latency_ms)
    assert np.all(opened.latency_ms >= opened.late_ms)
    assert np.all(np.diff(opened.planned_s) >= 0)


def test_arrivals_of_an_open_loop_are_the_same_for_the_same_seed(pretended):
    with sending(Target.of(pretended.url), IMAGE, {"image": 1}, 30.0) as sender:
        step = Step(0, rate=60.0, seconds=1.0, most_seconds=1.0, seed=4)
        first, again = sender.run(step), sender.run(step)
    assert np.allclose(first.planned_s, again.planned_s, atol=1e-6)
    assert 25 <= len(first) <= 110  # Poisson, mean 60


def test_errors_are_told_apart_and_a_refusal_that_is_wanted_is_none(pretended):
    wanted = {"image": IMAGE["image"], "bad": (Request("bad", "POST", "/x", {}, b"x", (400, 499)),)}
    quick = Step(1, seconds=0.05, least=1, most_seconds=5.0)

    def found(status: int, body: bytes, kind: str) -> set[str]:
        pretended.status, pretended.body = status, body
        with sending(Target.of(pretended.url), {kind: wanted[kind]}, {kind: 1}, 5.0) as sender:
            return set(sender.run(quick).error)

    assert found(500, b"{}", "image") == {"500 "}
    assert found(429, b'{"type": "urn:medrail:problem:busy"}', "image") == {"429 busy"}
    assert found(415, b"{}", "bad") == {""}
    assert found(200, b"{}", "bad") == {"accepted what must be refused"}


def test_a_job_is_followed_to_its_result(pretended):
    pretended.status, pretended.headers = 202, {"Location": "/v1/jobs/7"}
    pretended.body = b'{"status": "queued", "links": {"self": "/v1/jobs/7"}}'
    states = iter([b'{"status": "running"}', b'{"status": "done", "links": {"result": "/v1/jobs/7/result"}}'])
    plain = pretended.answer

    def answer(path, headers):
        if path == "/v1/jobs/7":
            pretended.seen.append(path)
            return 200, next(states, b'{"status": "failed"}')
        return (200, b"mask") if path.endswith("/result") and not pretended.seen.append(path) else plain(path, headers)

    pretended.answer = answer
    with sending(Target.of(pretended.url), IMAGE, {"image": 1}, 10.0) as sender:
        sent = sender.run(Step(1, seconds=0.0, least=2, most_seconds=5.0))
    assert sent.error[:2] == ("", "job failed")
    assert pretended.seen[1:4] == ["/v1/jobs/7", "/v1/jobs/7", "/v1/jobs/7/result"]


def test_a_service_that_dies_ends_the_test_and_what_was_measured_is_kept(pretended):
    def die() -> None:
        while len(pretended.seen) < 60:
            time.sleep(0.01)
        pretended.end()

    killer = threading.Thread(target=die)
    killer.start()
    found = load_test(pretended.url, Plan(users=(1, 2, 4), **QUICK))
    killer.join()
    assert "stopped answering in step" in found.ended
    assert found.failed
    assert len(found.steps) < 3 or found.steps[-1].errors
    assert set(found.steps[-1].error_kinds) <= {"connection refused", "connection closed"}
    assert "NaN" not in str(found.to_json())


def test_the_ramp_ends_and_opens_its_loop_below_the_most_that_it_found(serial):
    serial.wait_s = 0.01
    found = load_test(serial.url, Plan("ramp", seconds=0.2, least=10, limit_ms=15.0, seed=1))
    closed = [step for step in found.steps if step.mode == "closed"]
    opened = [step for step in found.steps if step.mode == "open"]
    assert [step.users for step in closed] == [2**power for power in range(len(closed))]
    most = max(step.rps.value for step in closed)
    assert [step.planned_rps for step in opened] == pytest.approx([most * share for share in (0.5, 0.7, 0.8, 0.9, 1.1)])
    assert found.capacity.users < closed[-1].users
    assert any("shared one machine" in note for note in found.notes)


def test_a_plan_that_cannot_be_is_wrong_usage(pretended):
    for plan in (
        Plan("none"),
        Plan(users=(1,), rates=(1.0,)),
        Plan(every_s=1.0),
        Plan(users=(1,), every_s=1.0, think_s=1.0),
    ):
        with pytest.raises(ConfigError):
            load_test(pretended.url, plan)


def test_the_senders_end_is_told(pretended):
    with sending(Target.of(pretended.url), IMAGE, {"image": 1}, 10.0) as sender:
        sender._process.kill()
        with pytest.raises(LoadTestError, match="has ended"):
            sender.run(Step(1, seconds=0.1))


def test_medrails_own_process_is_not_patched_and_help_knows_every_scenario():
    code = (
        "import sys, medrail.loadtest, medrail.loadtest.write, medrail.arguments as words\n"
        "assert not {'locust', 'gevent', 'torch', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert words._SCENARIOS == tuple(medrail.loadtest.SCENARIOS)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(set(scenario.mixture) <= {"image", "volume", "list", "bad"} for scenario in SCENARIOS.values())
