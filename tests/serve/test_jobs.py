"""Jobs: accepted, followed, cancelled, kept for a while; over HTTP and below it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from medrail.bundle import load_bundle
from medrail.bundle.backend import fetch
from medrail.serve import Settings
from medrail.serve.answers import Answer
from medrail.serve.asked import wait_of
from medrail.serve.job import Job, State
from medrail.serve.jobs import Jobs
from medrail.serve.log import ServiceLog
from medrail.serve.metrics import Telemetry
from medrail.serve.problems import Refusal
from medrail.serve.schemas import Timings
from medrail.serve.wanted import Unwanted, Watch

AT_MOST_S = 60
TIMINGS = Timings(upload=0, queue=0, decode=0, prepare=0, model=0, post=0, preview=0)
ANSWER = Answer(b"{}", "application/json", TIMINGS, {"class_name": "a"})


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + AT_MOST_S
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@pytest.fixture
def make_jobs(tmp_path: Path) -> Iterator[Callable[..., Jobs]]:
    made: list[tuple[Jobs, ServiceLog]] = []

    def make(**settings: Any) -> Jobs:
        all_settings = Settings(log_dir=tmp_path / "logs", log_to_stderr=False, **settings)
        log = ServiceLog(all_settings)
        telemetry = Telemetry(all_settings)
        made.append((Jobs(all_settings, tmp_path / "jobs", log, telemetry), log))
        return made[-1][0]

    yield make
    for jobs, log in made:
        jobs.close(0)
        log.close()


class Held:
    """A task that goes on until it is let go, looking up all the time."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, watch: Watch) -> Answer:
        self.begun.set()
        while not self.go.wait(0.005):
            watch.network(1, 2)
        return ANSWER


def begin(jobs: Jobs, task: Callable[[Watch], Answer], owner: str = "") -> Job:
    job = jobs.open(owner, "id", "m", "1", caller=owner and f"key {owner}")
    (job.upload / "file").write_bytes(b"x")
    jobs.start(job, task, {"input_sha256": "ab"})
    jobs.accept(job)
    return job


def kind_of(call: Callable[[], Any]) -> str:
    with pytest.raises(Refusal) as refused:
        call()
    return refused.value.kind


def test_a_job_from_its_beginning_to_its_end(make_jobs, tmp_path) -> None:
    jobs, task = make_jobs(), Held()
    job = begin(jobs, task)
    job_id = job.state.job_id
    task.begun.wait(AT_MOST_S)
    until(lambda: jobs.find(job_id, "").progress == 0.5)
    assert jobs.find(job_id, "").status == "running"
    assert kind_of(lambda: jobs.result(job_id, "")) == "job-not-done"
    task.go.set()
    until(lambda: jobs.find(job_id, "").status == "done")
    state, path = jobs.result(job_id, "")
    assert (state.progress, path.read_bytes()) == (1.0, b"{}")
    assert not job.upload.exists()
    assert jobs.cancel(job_id, "") is None
    assert not list((tmp_path / "jobs").iterdir())
    assert kind_of(lambda: jobs.find(job_id, "")) == "unknown-job"
    (line,) = [json.loads(text) for text in (tmp_path / "logs" / "audit.jsonl").read_text().splitlines()]
    assert (line["event"], line["job_status"], line["job_id"], line["input_sha256"]) == ("job", "done", job_id, "ab")
    assert line["result"] == {"class_name": "a"}


def test_a_cancelled_job_stops_where_it_next_looks_up(make_jobs) -> None:
    jobs, task = make_jobs(), Held()
    job = begin(jobs, task)
    task.begun.wait(AT_MOST_S)
    assert jobs.cancel(job.state.job_id, "").status == "cancelled"
    outcome = job.future.result(AT_MOST_S)
    assert outcome.state.status == "cancelled"
    assert outcome.answer is None
    assert not job.upload.exists()
    assert kind_of(lambda: jobs.result(job.state.job_id, "")) == "job-cancelled"


def test_a_waiting_job_is_cancelled_before_it_begins(make_jobs) -> None:
    jobs, first, second = make_jobs(job_workers=1), Held(), Held()
    begin(jobs, first)
    waiting = begin(jobs, second)
    assert jobs.cancel(waiting.state.job_id, "").status == "cancelled"
    assert not waiting.upload.exists()
    first.go.set()
    assert not second.begun.is_set()


def test_another_process_knows_the_job_and_can_cancel_it(make_jobs) -> None:
    here, there = make_jobs(), make_jobs()
    task = Held()
    job = begin(here, task)
    task.begun.wait(AT_MOST_S)
    job_id = job.state.job_id
    assert there.find(job_id, "").status in ("queued", "running")
    assert there.cancel(job_id, "").status == "cancelled"
    assert job.future.result(AT_MOST_S).state.status == "cancelled"
    assert there.find(job_id, "").status == "cancelled"


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not asked there")
def test_the_job_of_a_process_that_died_has_failed(make_jobs) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    jobs = make_jobs()
    folder = jobs.folder / ("ab" * 16)
    folder.mkdir()
    state = State("ab" * 16, "", "id", "m", "1", "2026-01-01T00:00:00Z", gone.pid, "running", 0.3)
    (folder / "job.json").write_text(json.dumps(asdict(state)))
    assert jobs.find(state.job_id, "").status == "failed"
    assert kind_of(lambda: jobs.result(state.job_id, "")) == "not-ready"


def test_jobs_are_bounded_in_all_and_for_each_key(make_jobs) -> None:
    jobs = make_jobs(jobs=3, max_jobs_per_key=2, job_workers=1)
    tasks = [Held(), Held(), Held()]
    begin(jobs, tasks[0], "anna")
    second = begin(jobs, tasks[1], "anna")
    assert kind_of(lambda: jobs.open("anna", "", "m", "1", "key anna")) == "too-many-jobs"
    begin(jobs, tasks[2], "bert")
    assert kind_of(lambda: jobs.open("clara", "", "m", "1")) == "too-many-jobs"
    jobs.cancel(second.state.job_id, "anna")
    jobs.forget(jobs.open("clara", "", "m", "1"))
    for task in tasks:
        task.go.set()


def test_who_has_no_key_is_counted_by_the_address_and_this_machine_is_not(make_jobs) -> None:
    jobs = make_jobs(jobs=9, max_jobs_per_key=1)
    jobs.open("", "", "m", "1", "address 10.0.0.1")
    assert kind_of(lambda: jobs.open("", "", "m", "1", "address 10.0.0.1")) == "too-many-jobs"
    jobs.open("", "", "m", "1", "address 10.0.0.2")
    for _ in range(3):
        jobs.open("", "", "m", "1")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", b"7", b"\xff\xfe", b'{"problem": null}', b'{"problem": 3, "job_id": 1}', b"null", b"{" * 99],
)
def test_what_is_no_state_is_no_job_and_goes_in_its_time(make_jobs, content: bytes) -> None:
    jobs = make_jobs(job_keep_s=3600)
    folder = jobs.folder / ("cd" * 16)
    folder.mkdir()
    (folder / "job.json").write_bytes(content)
    other = begin(jobs, lambda watch: ANSWER)
    other.future.result(AT_MOST_S)
    assert kind_of(lambda: jobs.find(folder.name, "")) == "unknown-job"
    jobs.remove_old()
    assert folder.is_dir()
    os.utime(folder, (1, 1))
    jobs.remove_old()
    assert [path.name for path in jobs.folder.iterdir()] == [other.state.job_id]


def test_the_sweeper_goes_on_after_an_error(make_jobs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Jobs, "remove_old", lambda self: 1 / 0)
    jobs = make_jobs(job_keep_s=0.01)
    log = tmp_path / "logs" / "service.jsonl"
    until(lambda: log.read_text().count("ZeroDivisionError") > 1)
    assert jobs._sweeper.is_alive()


def test_a_job_that_went_between_two_looks_is_unknown(make_jobs, monkeypatch) -> None:
    jobs = make_jobs()
    state = State("ef" * 16, "", "id", "m", "1", "2026-01-01T00:00:00Z", os.getpid(), "running")
    monkeypatch.setattr(jobs, "find", lambda *_: state)
    assert kind_of(lambda: jobs.cancel(state.job_id, "")) == "unknown-job"


def test_a_failed_jobs_problem_says_when_to_come_back(make_jobs) -> None:
    jobs = make_jobs()

    def busy(watch: Watch) -> Answer:
        raise Refusal("too-late", retry_after_s=7)

    job = begin(jobs, busy)
    job.future.result(AT_MOST_S)
    with pytest.raises(Refusal) as refused:
        jobs.result(job.state.job_id, "")
    assert (refused.value.kind, refused.value.retry_after_s) == ("too-late", 7)


def test_a_job_counts_as_work_beside_others_once_its_request_is_answered(make_jobs) -> None:
    jobs, task = make_jobs(), Held()
    memory = jobs._telemetry.memory
    request = memory.begin()
    job = jobs.open("", "id", "m", "1")
    jobs.start(job, task, {})
    task.begun.wait(AT_MOST_S)
    assert request.alone == memory._can_restart  # the request waits for its own work
    jobs.accept(job)
    assert not request.alone
    memory.end(request)
    assert not memory.begin().alone
    task.go.set()
    job.future.result(AT_MOST_S)
    assert job.call is None


def test_a_job_is_its_owners_alone(make_jobs) -> None:
    jobs, task = make_jobs(), Held()
    job = begin(jobs, task, "anna")
    for call in (jobs.find, jobs.result, jobs.cancel):
        assert kind_of(lambda call=call: call(job.state.job_id, "bert")) == "unknown-job"
    assert jobs.find(job.state.job_id, "anna").status in ("queued", "running")
    task.go.set()


@pytest.mark.parametrize("job_id", ["", "..", "a" * 31, "../" * 8 + "job.json", "G" * 32])
def test_an_id_is_never_a_path(make_jobs, tmp_path, job_id: str) -> None:
    jobs = make_jobs()
    (tmp_path / "job.json").write_text("{}")
    assert kind_of(lambda: jobs.find(job_id, "")) == "unknown-job"


def test_ended_jobs_go_after_their_time_and_the_oldest_above_the_number_first(make_jobs) -> None:
    jobs = make_jobs(jobs_kept=2, job_keep_s=3600)
    done = [begin(jobs, lambda watch: ANSWER) for _ in range(4)]
    for job in done:
        job.future.result(AT_MOST_S)
    jobs.remove_old()
    assert {path.name for path in jobs.folder.iterdir()} == {job.state.job_id for job in done[2:]}
    done[2].write(ended_s=time.monotonic() - 3601)
    jobs.remove_old()
    assert [path.name for path in jobs.folder.iterdir()] == [done[3].state.job_id]


def test_a_short_life_ends_by_itself(make_jobs) -> None:
    jobs = make_jobs(job_keep_s=0.05)
    begin(jobs, lambda watch: ANSWER).future.result(AT_MOST_S)
    until(lambda: not list(jobs.folder.iterdir()))


def test_a_failure_is_the_jobs_own(make_jobs, tmp_path) -> None:
    jobs = make_jobs()

    def refused(watch: Watch) -> Answer:
        raise Refusal("corrupt-file", "It is cut off.")

    def broken(watch: Watch) -> Answer:
        raise ValueError("secret of Jane Doe")

    first, second = begin(jobs, refused), begin(jobs, broken)
    for job, kind in ((first, "corrupt-file"), (second, "internal")):
        assert job.future.result(AT_MOST_S).state.status == "failed"
        assert kind_of(lambda job=job: jobs.result(job.state.job_id, "")) == kind
    log = (tmp_path / "logs" / "service.jsonl").read_text()
    assert "ValueError" in log
    assert "Jane" not in log


def test_how_a_job_ended_is_known_where_it_cannot_be_written_down(make_jobs, monkeypatch) -> None:
    jobs, task = make_jobs(), Held()
    job = begin(jobs, task)
    task.begun.wait(AT_MOST_S)

    def full(*values: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        task.go.set()
        job.future.result(AT_MOST_S)
        assert jobs.find(job.state.job_id, "").status == "done"
    assert jobs.cancel(job.state.job_id, "") is None
    assert kind_of(lambda: jobs.find(job.state.job_id, "")) == "unknown-job"


def test_a_stopped_service_lets_jobs_finish_and_marks_the_rest(make_jobs) -> None:
    jobs, quick, endless = make_jobs(job_workers=2), Held(), Held()
    first, second, third = begin(jobs, quick), begin(jobs, endless), begin(jobs, lambda watch: ANSWER)
    quick.begun.wait(AT_MOST_S)
    endless.begun.wait(AT_MOST_S)
    threading.Timer(0.05, quick.go.set).start()
    jobs.close(drain_s=0.5)
    assert first.state.status == "done"
    assert (second.state.status, second.state.problem[0]) == ("failed", "not-ready")
    assert (third.state.status, third.state.problem[0]) == ("failed", "not-ready")


def test_a_watch_over_a_part_tells_its_share_of_the_whole() -> None:
    told: list[float] = []
    whole = Watch(told.append)
    part = whole.part(0.5, 1.0)
    part.network(0, 4)
    part.network(4, 4)
    assert told == pytest.approx([0.55, 0.95])
    whole.stop()
    with pytest.raises(Unwanted):
        part.decoded()


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        ("", 10),
        ("respond-async", 0),
        ("Respond-Async", 0),
        ("respond-async, wait=3", 3),
        ("wait=99", 10),
        ("wait=x", 10),
    ],
)
def test_how_long_a_client_waits(prefer: str, wait_s: float) -> None:
    assert wait_of(prefer, 10) == wait_s


@pytest.mark.parametrize("bundle", ["volume_segmenter", "ct_segmenter", "classifier"])
def test_a_prediction_tells_of_each_call_of_its_network(request, head, bundle: str) -> None:
    told: list[tuple[int, int]] = []
    predictor = load_bundle(request.getfixturevalue(bundle), threads=1)
    predictor(head, progress=lambda done, total, note="": told.append((done, total)))
    assert told == [(number, len(told)) for number in range(len(told))]
    assert len(told) > 1


@pytest.fixture(scope="module")
def served(start_once, volume_segmenter) -> Any:
    return start_once(volume_segmenter)


@pytest.fixture
def volume(head_nifti) -> bytes:
    return head_nifti.read_bytes()


def ask(served: Any, content: bytes, prefer: str = "respond-async", **more: Any) -> httpx.Response:
    headers = {"Prefer": prefer, **more.pop("headers", {})}
    return served.client.post("/v1/predict/volume", files={"file": ("x", content)}, headers=headers, **more)


def followed(served: Any, job: dict) -> dict:
    """How the job ended."""
    told = [0.0]

    def ended() -> bool:
        found = served.client.get(job["links"]["self"]).json()
        assert "progress" in found, found
        told.append(found["progress"])
        return found["status"] in ("done", "failed", "cancelled")

    until(ended)
    assert told == sorted(told)
    return served.client.get(job["links"]["self"]).json()


def folders(served: Any) -> list[Path]:
    return list(served.uploads.glob("*/jobs/*"))


def test_a_job_over_http_answers_as_the_image_route_does(served, volume) -> None:
    accepted = ask(served, volume)
    assert accepted.status_code == 202, accepted.text
    job = accepted.json()
    assert accepted.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['job_id']}"
    assert accepted.headers["preference-applied"] == "respond-async"
    assert int(accepted.headers["retry-after"]) > 0
    assert job["status"] in ("queued", "running", "done")
    assert followed(served, job)["status"] == "done"
    result = served.client.get(job["links"]["result"])
    assert result.status_code == 200
    assert result.json()["mask"] == served.predict(volume).json()["mask"]
    assert result.json()["request_id"] == accepted.headers["x-request-id"]
    assert served.client.delete(job["links"]["self"]).status_code == 204
    assert served.client.get(job["links"]["self"]).status_code == 404
    assert served.client.get(job["links"]["result"]).json()["type"].endswith("unknown-job")
    assert job["job_id"] not in [folder.name for folder in folders(served)]


def test_a_volume_that_is_quick_is_answered_at_once(served, volume) -> None:
    before = set(folders(served))
    answer = ask(served, volume, prefer="")
    assert answer.status_code == 200, answer.text
    assert answer.json()["mask"] == served.predict(volume).json()["mask"]
    assert "server-timing" in answer.headers
    until(lambda: set(folders(served)) <= before)


def test_the_result_has_the_form_that_was_asked_for(served, volume) -> None:
    job = ask(served, volume, headers={"Accept": "application/x-nifti"}).json()
    followed(served, job)
    result = served.client.get(job["links"]["result"])
    assert result.headers["content-type"] == "application/x-nifti"
    assert "mask.nii.gz" in result.headers["content-disposition"]
    at_once = ask(served, volume, prefer="", headers={"Accept": "application/x-nifti"})
    assert result.content == at_once.content


def test_a_broken_volume_is_a_problem_at_once_and_a_failed_job(served, volume) -> None:
    broken = volume[: len(volume) // 2]
    at_once = ask(served, broken, prefer="")
    assert at_once.status_code == 422
    job = ask(served, broken).json()
    ended = followed(served, job)
    assert ended["status"] == "failed"
    assert ended["problem"]["type"] == at_once.json()["type"]
    result = served.client.get(job["links"]["result"])
    assert (result.status_code, result.headers["content-type"]) == (422, "application/problem+json")
    assert result.json()["detail"] == at_once.json()["detail"]


def test_a_picture_is_no_volume(served, blob_png) -> None:
    response = ask(served, blob_png, prefer="")
    assert response.status_code == 415
    assert "/v1/predict/image" in response.json()["remedy"]


def test_a_result_that_was_just_dropped_is_unknown(served, volume, monkeypatch) -> None:
    job = ask(served, volume).json()
    followed(served, job)
    jobs = served.app.state.service.jobs
    found = jobs.result(job["job_id"], "")
    monkeypatch.setattr(jobs, "result", lambda *_: found)
    jobs._drop(job["job_id"])
    response = served.client.get(job["links"]["result"])
    assert (response.status_code, response.json()["type"]) == (404, "urn:medrail:problem:unknown-job")


def test_jobs_touch_the_disk_on_threads_alone(served, volume, monkeypatch) -> None:
    jobs, on_loop = served.app.state.service.jobs, []

    def watched(name: str) -> Callable[..., Any]:
        method = getattr(jobs, name)

        def call(*given: Any) -> Any:
            with suppress(RuntimeError):
                asyncio.get_running_loop()
                on_loop.append(name)
            called.add(name)
            return method(*given)

        return call

    called: set[str] = set()
    for name in ("open", "start", "accept", "forget", "find", "result", "cancel"):
        monkeypatch.setattr(jobs, name, watched(name))
    ask(served, volume, prefer="")
    job = ask(served, volume).json()
    followed(served, job)
    served.client.get(job["links"]["result"])
    served.client.delete(job["links"]["self"])
    assert called == {"open", "start", "accept", "forget", "find", "result", "cancel"}
    assert not on_loop


def test_an_upload_that_fails_leaves_no_job(served) -> None:
    before = set(folders(served))
    assert served.client.post("/v1/predict/volume", files={"other": ("x", b"x")}).status_code == 400
    assert served.client.post("/v1/predict/volume", content=b"x").status_code == 415
    assert set(folders(served)) <= before


class HeldNetwork:
    """A network whose calls wait, counted, until they are let go."""

    def __init__(self, predictor: Any) -> None:
        self.calls, self.begun, self.go = 0, threading.Event(), threading.Event()
        self._backend = predictor.backend

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.calls += 1
        self.begun.set()
        self.go.wait(AT_MOST_S)
        return fetch(self._backend, batch, ("logits",))["logits"]


@pytest.fixture
def held(served, monkeypatch) -> Iterator[HeldNetwork]:
    predictor = served.app.state.service.registry.default.predictor
    network = HeldNetwork(predictor)
    monkeypatch.setattr(predictor, "backend", network)
    yield network
    network.go.set()


def test_a_cancelled_volume_stops_before_its_next_window(served, volume, held) -> None:
    job = ask(served, volume).json()
    held.begun.wait(AT_MOST_S)
    cancelled = served.client.delete(job["links"]["self"])
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert served.client.delete(job["links"]["self"]).status_code in (200, 204)
    held.go.set()
    until(lambda: all(not (folder / "in").exists() for folder in folders(served)))
    assert held.calls == 1
    assert served.client.get(job["links"]["result"]).status_code in (404, 410)


def test_a_volume_that_takes_longer_becomes_a_job(served, volume, held) -> None:
    service = served.app.state.service
    served.app.state.service = replace(service, settings=service.settings.model_copy(update={"job_wait_s": 0.05}))
    try:
        accepted = ask(served, volume, prefer="")
    finally:
        served.app.state.service = service
    assert accepted.status_code == 202
    job = accepted.json()
    assert "preference-applied" not in accepted.headers
    assert served.client.get(job["links"]["result"]).status_code == 409
    held.go.set()
    assert followed(served, job)["status"] == "done"


def test_a_client_that_leaves_while_it_waits_takes_its_work_along(served, volume, held) -> None:
    with pytest.raises(httpx.ReadTimeout):
        ask(served, volume, prefer="", timeout=0.5)
    held.begun.wait(AT_MOST_S)
    until(
        lambda: (
            served.app.state.service.jobs._mine
            and all(job.watch.stopped for job in served.app.state.service.jobs._mine.values())
        )
    )
    held.go.set()
    until(lambda: not served.app.state.service.jobs._mine)
    assert held.calls == 1


def test_a_client_that_leaves_ends_its_work_without_a_job_too(served, volume, held) -> None:
    def gone() -> int:
        lines = [json.loads(line) for line in served.log.read_text().splitlines()]
        return sum(line.get("status") == 499 and line["route"] == "/v1/predict/image" for line in lines)

    with pytest.raises(httpx.ReadTimeout):
        served.predict(volume, timeout=0.5)
    held.begun.wait(AT_MOST_S)
    until(lambda: gone() == 1)
    held.go.set()
    assert not served.left_over()
    assert held.calls == 1
