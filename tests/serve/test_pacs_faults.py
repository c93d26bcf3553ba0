"""A PACS that is down, slow, lies or breaks off: named as such, bounded, and nothing of its words is passed on."""

from __future__ import annotations

import io
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from fake_pacs import BOUNDARY, Asked, FakePacs, Reply, fake_pacs, listed, objects, series_entry
from faults import good_series
from medrail.bundle import InputKind, NetworkSpec
from medrail.config import PacsConfig
from medrail.errors import ConfigError
from medrail.serve.pacs.address import Address
from medrail.serve.pacs.client import Pacs
from medrail.serve.pacs.multipart import Bounds, Parts, body_of, boundary_of
from medrail.serve.pacs.stored import Stored, stored_of
from medrail.serve.pacs.takes import why_not, why_not_so_many
from medrail.serve.problems import PROBLEMS, Refusal
from small_bundles import classifier_network, segmenter_network, write_bundle

STUDY, SERIES = "1.2.3", "1.2.3.4"
SECRET = b"Secretive^Sally"


def nothing(_: Asked) -> Reply:
    return listed()


@pytest.fixture
def fake() -> Iterator[FakePacs]:
    with fake_pacs(nothing) as one:
        yield one


@pytest.fixture
def client(fake: FakePacs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pacs]:
    """Of the fake; its pauses between tries take no time."""
    monkeypatch.setattr("medrail.serve.pacs.client._FIRST_PAUSE_S", 0.001)
    pacs = Pacs(PacsConfig(url=fake.root, max_series_mb=0.01))
    yield pacs
    pacs.close()


def refusal(call: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call()
    assert caught.value.kind in PROBLEMS
    assert "Sally" not in caught.value.detail + caught.value.remedy
    assert caught.value.__cause__ is None
    return caught.value


def pulled(client: Pacs, folder: Path, expected: int | None = None) -> list[bytes]:
    folder.mkdir(exist_ok=True)
    return [path.read_bytes() for path in client.pull(STUDY, SERIES, folder, expected=expected)]


# What an answer is


@pytest.mark.parametrize(
    ("status", "kind", "tries"),
    [
        *((status, "pacs-denied", 1) for status in (401, 403)),
        *((status, "pacs-not-found", 1) for status in (404, 410)),
        *((status, "pacs-unreachable", 3) for status in (429, 502, 503, 504)),
        *((status, "pacs-answer", 1) for status in (302, 307, 400, 500)),
    ],
)
def test_each_status_has_its_name(fake: FakePacs, client: Pacs, tmp_path: Path, status: int, kind: str, tries: int):
    elsewhere = {"Location": f"{fake.root}/elsewhere"}
    fake.answering = lambda asked: Reply(status, "text/plain", SECRET, elsewhere)
    listing = "pacs-answer" if kind == "pacs-not-found" else kind  # of all studies: then the address is wrong
    assert refusal(lambda: client.studies({})).kind == listing
    assert refusal(lambda: client.series(STUDY, {})).kind == kind
    assert refusal(lambda: pulled(client, tmp_path / "in")).kind == kind
    assert refusal(lambda: client.store(STUDY, {"1.2": b"x"})).kind == kind
    assert [one.path.removeprefix("/dicom-web") for one in fake.asked] == [
        *["/studies"] * tries,
        *[f"/studies/{STUDY}/series"] * tries,
        *[f"/studies/{STUDY}/series/{SERIES}"] * tries,
        *[f"/studies/{STUDY}"] * tries,
    ]


def test_what_passes_by_itself_is_asked_again(fake: FakePacs, client: Pacs, tmp_path: Path) -> None:
    whole = objects([b"one", b"two"])
    answers = iter([Reply(503), Reply(200, whole.kind, whole.content, cut=70), whole])
    fake.answering = lambda asked: next(answers)
    assert pulled(client, tmp_path / "in", 2) == [b"one", b"two"]
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["000001.dcm", "000002.dcm"]


def test_a_pacs_without_the_asterisk_sends_as_it_likes(fake: FakePacs, client: Pacs, tmp_path: Path) -> None:
    fake.answering = lambda asked: Reply(406) if "=*" in asked.headers["accept"] else objects([b"one"])
    assert pulled(client, tmp_path / "in") == [b"one"]
    fake.answering = lambda asked: Reply(406)
    assert refusal(lambda: pulled(client, tmp_path / "in")).kind == "pacs-answer"


def test_nothing_comes_from_the_environment_but_what_is_ours(
    fake: FakePacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login sally password geheim\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    pacs = Pacs(PacsConfig(url=fake.root, retries=0))
    assert pacs.studies({}) == []
    pacs.close()
    (asked,) = fake.asked
    assert "authorization" not in asked.headers
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["accept"] == "application/dicom+json"


def test_a_full_disk_has_a_name(fake: FakePacs, client: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device: Sally")

    fake.answering = lambda asked: objects([b"one"])
    monkeypatch.setattr(Path, "open", full)
    assert "may be full" in refusal(lambda: pulled(client, tmp_path / "in")).detail


def test_nobody_there(tmp_path: Path) -> None:
    with fake_pacs(nothing) as gone:
        root = gone.root
    pacs = Pacs(PacsConfig(url=root, retries=0))
    assert refusal(lambda: pacs.studies({})).kind == "pacs-unreachable"
    assert refusal(lambda: pulled(pacs, tmp_path / "in")).kind == "pacs-unreachable"
    pacs.close()


def test_silence_has_an_end(fake: FakePacs, tmp_path: Path) -> None:
    released = threading.Event()
    fake.answering = lambda asked: Reply(wait=released)
    hasty = Pacs(PacsConfig(url=fake.root, timeout_s=0.2))
    assert refusal(lambda: hasty.studies({})).kind == "pacs-slow"
    assert refusal(lambda: pulled(hasty, tmp_path / "in")).kind == "pacs-slow"
    released.set()
    hasty.close()
    assert len(fake.asked) == 2


def test_a_byte_now_and_then_has_an_end(tmp_path: Path) -> None:
    """Each piece comes in time, and all of them never do."""
    import socket

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Type: multipart/related; boundary={BOUNDARY}\r\n\r\n--{BOUNDARY}\r\n\r\n"
            )
            connection.sendall(head.encode())
            try:
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.02)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        root = f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
        pacs = Pacs(PacsConfig(url=root, timeout_s=5, pull_s=0.3))
        assert refusal(lambda: pulled(pacs, tmp_path / "in")).kind == "pacs-slow"
        pacs.close()
        thread.join(10)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(kind="text/html", content=b"<p>" + SECRET),
        Reply(content=b'{"00100010": '),
        Reply(content=b'{"00100010": "Secretive^Sally"}'),
        Reply(content=b'["Secretive^Sally"]'),
        Reply(content=b"[" * 100_000),
        Reply(content=b"[]", headers={"Content-Encoding": "gzip"}),
        Reply(content=b"[" + b" " * (33 << 20) + b"]"),
    ],
    ids=["html", "broken", "no list", "no entries", "deep", "compressed", "large"],
)
def test_lists_that_are_none(fake: FakePacs, client: Pacs, reply: Reply) -> None:
    fake.answering = lambda asked: reply
    assert refusal(lambda: client.studies({})).kind == "pacs-answer"


def test_no_content_is_an_empty_list(fake: FakePacs, client: Pacs) -> None:
    fake.answering = lambda asked: Reply(204)
    assert client.studies({}) == []


def _with(reply: Reply, **changes: Any) -> Reply:
    return Reply(**{**reply.__dict__, **changes})


WHOLE = objects([b"one" * 100, b"two" * 100])


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (_with(WHOLE, kind="application/dicom"), "pacs-answer"),
        (_with(WHOLE, kind="text/html"), "pacs-answer"),
        (_with(WHOLE, kind="multipart/related"), "pacs-answer"),
        (_with(WHOLE, kind="multipart/related; boundary=other"), "pacs-answer"),
        (_with(WHOLE, content=b"no multipart at all " + SECRET), "pacs-answer"),
        (objects([b"<p>Secretive^Sally"], "text/html"), "pacs-answer"),
        (_with(WHOLE, headers={"Content-Encoding": "gzip"}), "pacs-answer"),
        (_with(WHOLE, status=206), "pacs-incomplete"),
        (_with(WHOLE, cut=200), "pacs-incomplete"),
        (_with(WHOLE, cut=len(WHOLE.content) - len(f"--{BOUNDARY}--\r\n")), "pacs-incomplete"),
        (_with(WHOLE, headers={"Content-Length": "9000"}), "pacs-unreachable"),
        (_with(WHOLE, content=f"--{BOUNDARY}--\r\n".encode()), "pacs-incomplete"),
        (objects([b"x" * 11_000]), "pacs-too-large"),
    ],
    ids=[
        *("one object", "html", "no boundary", "other boundary", "no multipart", "html within", "compressed"),
        *("partial", "cut in a part", "cut before the end", "cut before the length", "empty", "large"),
    ],
)
def test_series_that_are_none(fake: FakePacs, client: Pacs, tmp_path: Path, reply: Reply, kind: str) -> None:
    fake.answering = lambda asked: reply
    assert refusal(lambda: pulled(client, tmp_path / "in")).kind == kind


def test_fewer_objects_than_the_pacs_counts_are_not_enough(fake: FakePacs, client: Pacs, tmp_path: Path) -> None:
    fake.answering = lambda asked: WHOLE
    assert refusal(lambda: pulled(client, tmp_path / "in", 3)).detail == "2 of 3 files arrived."
    assert len(pulled(client, tmp_path / "in", 2)) == 2
    assert len(pulled(client, tmp_path / "in", 1)) == 2  # more may have come meanwhile


def test_too_many_files_end_the_transfer(fake: FakePacs, tmp_path: Path) -> None:
    fake.answering = lambda asked: objects([b"x"] * 5)
    pacs = Pacs(PacsConfig(url=fake.root, max_series_files=4))
    assert refusal(lambda: pulled(pacs, tmp_path / "in")).kind == "pacs-too-large"
    pacs.close()


def test_a_transfer_ends_when_nobody_wants_it(fake: FakePacs, client: Pacs, tmp_path: Path) -> None:
    class Unwanted(Exception):
        pass

    def arrived(_: int) -> None:
        raise Unwanted

    fake.answering = lambda asked: WHOLE
    with pytest.raises(Unwanted):
        client.pull(STUDY, SERIES, tmp_path, arrived)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4096])
def test_parts_do_not_depend_on_how_the_stream_is_cut(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(size)
    contents = [rng.bytes(int(length)) for length in (1, 500, 0, 3000)] + [f"\r\n--{BOUNDARY}x".encode() * 3]
    content_type, body = body_of(contents)
    with Parts(boundary_of(content_type), tmp_path, Bounds(10_000, 5)) as parts:
        for start in range(0, len(body), size):
            parts.feed(body[start : start + size])
        parts.finish()
    assert [path.read_bytes() for path in parts.files] == contents


# Storing


def stow(failed: dict[str, int | None], kept: list[str]) -> Reply:
    def item(uid: str, code: int | None) -> dict[str, Any]:
        reason = {} if code is None else {"00081197": {"vr": "US", "Value": [code]}}
        return {"00081155": {"vr": "UI", "Value": [uid]}} | reason

    said = {
        "00081198": {"vr": "SQ", "Value": [item(uid, code) for uid, code in failed.items()]},
        "00081199": {"vr": "SQ", "Value": [item(uid, None) for uid in kept]},
    }
    return Reply(200 if not failed else 202 if kept else 409, content=json.dumps(said).encode())


def test_only_what_the_pacs_names_is_stored(fake: FakePacs, client: Pacs) -> None:
    fake.answering = lambda asked: stow({"1.2": 0x0122}, ["1.1"])
    assert client.store(STUDY, {"1.1": b"a", "1.2": b"b", "1.3": b"c"}) == [
        Stored("1.1", True),
        Stored("1.2", False, "it does not keep this kind of object (code 0122)"),
        Stored("1.3", False, "it does not keep this kind of object (code 0122)"),
    ]
    (sent,) = fake.asked
    assert sent.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    fake.answering = lambda asked: stow({}, [])
    assert client.store(STUDY, {"1.1": b"a"}) == [Stored("1.1", False, "it did not say why (status 200)")]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0xA700, "no room"),
        (0xA7FF, "no room"),
        (0xA900, "as its kind must be"),
        (0xC001, "understand"),
        (0xCFFF, "understand"),
        (0x0124, "may not store"),
        (0x7777, "it failed"),
    ],
)
def test_why_an_object_was_not_stored(code: int, words: str) -> None:
    (one,) = stored_of(["1"], 409, json.loads(stow({"1": code}, []).content))
    assert words in one.reason
    assert one.reason.endswith(f"(code {code:04X})")


# The whole way


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = NetworkSpec("segmentation", ("background", "low"), 3, 1, (), InputKind(False, 1, "HU"))
    return write_bundle(tmp_path_factory.mktemp("bundles"), "organ", segmenter_network(3, (-900.0,)), spec)


def slices_of(changed: Callable[[int, pydicom.Dataset], None] = lambda number, one: None) -> list[bytes]:
    contents = []
    for number, one in enumerate(good_series(np.random.default_rng(1))):
        one.StudyInstanceUID, one.SeriesInstanceUID = STUDY, SERIES
        changed(number, one)
        buffer = io.BytesIO()
        one.save_as(buffer, enforce_file_format=True)
        contents.append(buffer.getvalue())
    return contents


def answering(contents: list[bytes], store: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
    """A PACS with one series."""

    def answer(asked: Asked) -> Reply:
        if asked.method == "POST":
            return store(asked)
        if "?" in asked.path:
            return listed(series_entry(SERIES, len(contents)))
        return objects(contents)

    return answer


def accepted(asked: Asked) -> Reply:
    """A PACS that keeps everything."""
    parts = asked.body.split(b"--" + asked.headers["content-type"].rpartition("boundary=")[2].encode())[1:-1]
    contents = [part.split(b"\r\n\r\n", 1)[1][:-2] for part in parts]
    return stow({}, [str(pydicom.dcmread(io.BytesIO(one), stop_before_pixels=True).SOPInstanceUID) for one in contents])


def job(service: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """State and result."""
    state = service.client.post("/v1/pacs/predict", json={"study_uid": STUDY, "series_uid": SERIES}).json()
    last = time.monotonic() + 60
    while state["status"] in ("queued", "running") and time.monotonic() < last:
        time.sleep(0.02)
        state = service.client.get(state["links"]["self"]).json()
    return state, service.client.get(state["links"]["result"]).json()


def test_an_answer_that_is_not_stored_is_kept_and_said(start: Any, segmenter: Path, fake: FakePacs) -> None:
    contents = slices_of()
    service = start(segmenter, pacs=PacsConfig(url=fake.root, retries=0))
    lying: list[Path] = []

    def looked(asked: Asked) -> Reply:
        lying.extend(service.uploads.rglob("series"))
        return accepted(asked)

    ways: list[tuple[Callable[[Asked], Reply], bool, str]] = [
        (looked, True, ""),
        (lambda asked: Reply(403, "text/plain", SECRET), False, "It answered with the status 403."),
        (lambda asked: Reply(409, "text/plain", SECRET), False, "The PACS sent something else than DICOM JSON."),
        (lambda asked: stow({"9.9": 0xA700}, []), False, "it has no room left (code A700)"),
    ]
    for store, stored, reason in ways:
        fake.answering = answering(contents, store)
        state, answer = job(service)
        assert (state["status"], answer["stored"]) == ("done", stored)
        assert [one["kind"] for one in answer["objects"]] == ["seg", "sr"]
        assert {one["reason"] for one in answer["objects"]} == {reason or None}
        assert bool(answer["note"]) is not stored
        assert answer["volumes_ml"]["low"] > 0
        assert "Sally" not in json.dumps(answer)
        for one in answer["objects"]:
            file = service.client.get(one["file"])
            assert file.headers["content-type"] == "application/dicom"
            assert pydicom.dcmread(io.BytesIO(file.content)).SOPInstanceUID == one["sop_instance_uid"]
    assert not lying  # the patient's images are gone before the answer is on its way


def test_a_series_has_a_shadow(start: Any, segmenter: Path, fake: FakePacs, tmp_path: Path) -> None:
    spec = NetworkSpec("segmentation", ("background", "low"), 3, 1, (), InputKind(False, 1, "HU"))
    other = write_bundle(tmp_path, "organ", segmenter_network(3, (-700.0,)), spec, "2")
    fake.answering = answering(slices_of(), accepted)
    service = start(segmenter, other, pacs=PacsConfig(url=fake.root, retries=0))
    assert service.client.post("/v1/admin/models/organ/shadow", json={"version": "2"}).status_code == 200
    state, _ = job(service)
    assert state["status"] == "done"
    last = time.monotonic() + 30
    while '"shadow"' not in (log := service.log.read_text("utf-8")) and time.monotonic() < last:
        time.sleep(0.02)
    (found,) = [line for line in map(json.loads, log.splitlines()) if line["event"] == "shadow"]
    assert (found["version"], found["shadow"], found["same"]) == ("1", "2", False)


def test_an_answer_that_is_no_number_is_not_stored(start: Any, fake: FakePacs, tmp_path: Path) -> None:
    spec = NetworkSpec("classification", ("a", "b"), 3, 1, (), InputKind(False, 1, "HU"))
    bundle = write_bundle(tmp_path, "nan", classifier_network(2, 1, 3, scale=np.nan), spec)
    fake.answering = answering(slices_of(), accepted)
    state, problem = job(start(bundle, pacs=PacsConfig(url=fake.root)))
    assert (state["status"], problem["type"]) == ("failed", "urn:medrail:problem:model-failed")
    assert not [one for one in fake.asked if one.method == "POST"]


def _other(keyword: str, value: str) -> Callable[[int, pydicom.Dataset], None]:
    return lambda number, one: setattr(one, keyword, value) if number == 3 else None


@pytest.mark.parametrize(
    ("contents", "kind"),
    [
        (slices_of(_other("StudyInstanceUID", "1.2.4")), "pacs-answer"),
        (slices_of(_other("SeriesInstanceUID", "1.2.4")), "pacs-answer"),
        (slices_of(_other("PatientID", "Secretive^Sally")), "pacs-answer"),
        ([*slices_of(), b"GIF89a" + SECRET * 10], "pacs-answer"),
        ([*slices_of()[:-1], slices_of()[-1][:600]], "corrupt-file"),
        ([*slices_of()[:3], *slices_of()[4:]], "unfitting-geometry"),
    ],
    ids=["study", "series", "patient", "no dicom", "cut slice", "missing slice"],
)
def test_what_is_not_the_series_is_not_answered(
    start: Any, segmenter: Path, fake: FakePacs, contents: list[bytes], kind: str
) -> None:
    fake.answering = answering(contents, accepted)
    service = start(segmenter, pacs=PacsConfig(url=fake.root, retries=0))
    state, problem = job(service)
    assert state["status"] == "failed"
    assert problem["type"] == f"urn:medrail:problem:{kind}"
    assert "Sally" not in json.dumps([state, problem]) + service.log.read_text()
    assert not list(service.uploads.rglob("*.dcm"))
    assert not [one for one in fake.asked if one.method == "POST"]


def test_a_job_that_is_cancelled_stores_nothing(start: Any, segmenter: Path, fake: FakePacs) -> None:
    released, entered = threading.Event(), threading.Event()
    contents = slices_of()
    usual = answering(contents, accepted)

    def slow(asked: Asked) -> Reply:
        if asked.method == "POST" or "?" in asked.path:
            return usual(asked)
        entered.set()
        return _with(objects(contents), wait=released)

    fake.answering = slow
    service = start(segmenter, pacs=PacsConfig(url=fake.root))
    state = service.client.post("/v1/pacs/predict", json={"study_uid": STUDY, "series_uid": SERIES}).json()
    assert entered.wait(30)
    service.client.delete(state["links"]["self"])
    released.set()
    last = time.monotonic() + 30
    while list(service.uploads.rglob("series")) and time.monotonic() < last:
        time.sleep(0.02)
    assert service.client.get(state["links"]["self"]).json()["status"] == "cancelled"
    assert not list(service.uploads.rglob("*.dcm"))
    assert not [one for one in fake.asked if one.method == "POST"]


def test_nobody_leafs_through_patients(start: Any, segmenter: Path, fake: FakePacs) -> None:
    client = start(segmenter, pacs=PacsConfig(url=fake.root)).client
    for text in ("*", "SALLY*", "SALL?", "SALLY\\B", "SALLY,B", "SALLY\n", "", "SALLY" * 13):
        for name in ("patient_id", "accession_number"):
            refused = client.post("/v1/pacs/search", json={name: text})
            assert refused.status_code == 422, text
            assert "SALL" not in refused.text
    assert fake.asked == []


def test_more_listings_than_there_are_places_are_told_to_come_back(start: Any, segmenter: Path, fake: FakePacs) -> None:
    released, entered = threading.Event(), threading.Event()

    def slow(asked: Asked) -> Reply:
        entered.set()
        return _with(listed(), wait=released)

    fake.answering = slow
    service = start(segmenter, pacs=PacsConfig(url=fake.root, listings=1))
    statuses: list[int] = []
    first = threading.Thread(target=lambda: statuses.append(service.client.get("/v1/pacs/studies").status_code))
    first.start()
    assert entered.wait(30)
    second = service.client.get("/v1/pacs/studies")
    assert (second.status_code, second.headers["retry-after"]) == (429, "1")
    assert service.client.get("/healthz").status_code == 200
    released.set()
    first.join(30)
    assert statuses == [200]
    assert service.client.get("/v1/pacs/studies").status_code == 200


def test_strange_lists_are_listed_as_far_as_they_make_sense(start: Any, segmenter: Path, fake: FakePacs) -> None:
    strange = [
        {"0020000D": {"vr": "UI", "Value": ["1.2/../secret"]}},
        {"0020000D": {"vr": "UI"}},
        {"0020000D": "1.2"},
        {},
        {
            "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
            "00080061": {"vr": "CS", "Value": ["CT", None, "Secretive^Sally", {"x": 1}]},
            "00080020": {"vr": "DA", "Value": ["Sally"]},
            "00201208": {"vr": "IS", "Value": ["many"]},
        },
    ]
    fake.answering = lambda asked: listed(*strange)
    client = start(segmenter, pacs=PacsConfig(url=fake.root)).client
    (only,) = client.get("/v1/pacs/studies").json()["studies"]
    assert only == {
        "study_uid": "1.2.3",
        "date": None,
        "modalities": ["CT"],
        "series": None,
        "images": None,
        "takes": True,
    }
    fake.answering = lambda asked: listed(*[series_entry(f"1.{number}", 9) for number in range(150)])
    many = client.get("/v1/pacs/studies/1.2/series").json()
    assert (len(many["series"]), many["more"]) == (100, True)


# The address


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"url": "pacs.example.org/dicom-web"}, "no http"),
        ({"url": "ftp://localhost/dicom-web"}, "no http"),
        ({"url": "http://[::1"}, "no URL"),
        ({"url": "https://sally:ge-heim@pacs.example.org/"}, "user or a password"),
        ({"url": "https://pacs.example.org/?token=ge-heim"}, "query"),
        ({"url": "http://pacs.example.org/dicom-web"}, "http://"),
        ({"url": "http://10.0.0.1/dicom-web"}, "http://"),
        ({"url": "https://localhost", "credentials_file": "/nowhere"}, "cannot be read"),
        ({"url": "https://localhost", "ca_file": "/nowhere"}, "no certificates"),
        ({"url": "https://localhost", "client_certificate": "/nowhere"}, "no certificates"),
    ],
)
def test_addresses_that_are_refused(config: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Address.of(PacsConfig(**config), {})
    assert "ge-heim" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        PacsConfig(url="http://localhost:8042/dicom-web/"),
        PacsConfig(url="http://127.0.0.7:8042/dicom-web"),
        PacsConfig(url="http://[::1]:8042/dicom-web"),
        PacsConfig(url="https://pacs.example.org/dicom-web"),
        PacsConfig(url="http://pacs.example.org/dicom-web", plain_http=True),
    ],
)
def test_addresses_that_are_taken(config: PacsConfig) -> None:
    assert Address.of(config, {}).root == config.url.rstrip("/")


def test_who_the_service_is(tmp_path: Path) -> None:
    basic = "Basic bWVkcmFpbDpnZUBoZWltLzUwJXt4fQ=="
    here = {"url": "http://localhost/dicom-web"}
    file = tmp_path / "credentials"

    def said(environment: dict[str, str], **config: str) -> str:
        return Address.of(PacsConfig(**here, **config), environment).authorization

    assert said({}) == ""
    assert said({"MEDRAIL_PACS_USER": "medrail", "MEDRAIL_PACS_PASSWORD": "ge@heim/50%{x}"}) == basic
    assert said({"MEDRAIL_PACS_TOKEN": "abc.def"}) == "Bearer abc.def"
    file.write_text("medrail:ge@heim/50%{x}\n")
    assert said({}, credentials_file=str(file)) == basic
    file.write_text("bearer abc.def\n")
    assert said({}, credentials_file=str(file)) == "Bearer abc.def"
    wrong = [
        ({"MEDRAIL_PACS_USER": "medrail"}, ""),
        ({"MEDRAIL_PACS_PASSWORD": "geheim"}, ""),
        ({"MEDRAIL_PACS_TOKEN": "geheim", "MEDRAIL_PACS_USER": "a", "MEDRAIL_PACS_PASSWORD": "b"}, ""),
        ({"MEDRAIL_PACS_TOKEN": "geheim\r\nX-Evil: 1"}, ""),
        ({}, "geheim\nX-Evil: 1"),
        ({}, "geheim"),
        ({}, "Bearer "),
        ({}, ":geheim"),
    ]
    for environment, content in wrong:
        file.write_text(content)
        with pytest.raises(ConfigError) as caught:
            said(environment, **({"credentials_file": str(file)} if content else {}))
        assert "geheim" not in str(caught.value)
    one = Address.of(PacsConfig(**here), {"MEDRAIL_PACS_TOKEN": "geheim"})
    assert "geheim" not in repr(one)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-", "-out", "-"]
    try:
        made = subprocess.run([*command, *names], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl here")
    path.write_bytes(made.stdout)
    return path


def test_a_certificate_that_is_not_known_is_not_believed(certificate: Path) -> None:
    with fake_pacs(nothing, certificate) as fake:
        stranger = Pacs(PacsConfig(url=fake.root, retries=0))
        refused = refusal(lambda: stranger.studies({}))
        assert (refused.kind, "certificate" in refused.detail) == ("pacs-unreachable", True)
        assert fake.asked == []
        known = Pacs(PacsConfig(url=fake.root, ca_file=str(certificate)))
        assert known.studies({}) == []
        stranger.close()
        known.close()


# What a model takes


def _spec(unit: str, picture: bool | None = None, **more: Any) -> NetworkSpec:
    return NetworkSpec("classification", ("a", "b"), 2, 1, (), InputKind(picture, 1, unit), **more)


@pytest.mark.parametrize(
    ("unit", "takes"),
    [("HU", {"CT"}), ("SUV", {"PT"}), ("arbitrary", {"MR", "DX", "US"}), ("uint8", {"MR", "DX", "US"})],
)
def test_a_model_takes_the_modalities_of_its_unit(unit: str, takes: set[str]) -> None:
    modalities = {"CT", "PT", "MR", "DX", "US", "SEG", "SR", "PR", "RTSTRUCT", "SM"}
    assert {one for one in modalities if not why_not(_spec(unit), one)} == takes


@pytest.mark.parametrize(
    ("picture", "images", "frames", "fits"),
    [
        (None, 1, None, True),
        (None, 9, None, True),
        (True, 1, None, True),
        (True, 1, 4, False),
        (True, 9, None, False),
        (False, 1, None, False),
        (False, 1, 4, True),
        (False, 9, None, True),
        (False, None, None, True),
        (None, 0, None, False),
        (None, 101, None, False),
    ],
)
def test_a_model_takes_as_many_as_it_was_trained_on(
    picture: bool | None, images: int | None, frames: int | None, fits: bool
) -> None:
    assert (not why_not_so_many(_spec("HU", picture), images, frames, 100)) is fits


# What is said of the routes


def test_the_routes_are_described_and_there_only_with_a_pacs(start: Any, segmenter: Path, fake: FakePacs) -> None:
    with_one = start(segmenter, pacs=PacsConfig(url=fake.root)).client.get("/openapi.json").json()
    without = start(segmenter).client
    assert not [path for path in without.get("/openapi.json").json()["paths"] if "pacs" in path]
    assert without.get("/v1/pacs/studies").status_code == 404
    ours = {path: said for path, said in with_one["paths"].items() if path.startswith("/v1/pacs")}
    assert len(ours) == 6
    result = with_one["paths"]["/v1/jobs/{job_id}/result"]["get"]["responses"]["200"]["content"]["application/json"]
    assert {"$ref": "#/components/schemas/PacsAnswer"} in result["schema"]["anyOf"]
    assert set(re.findall(r"#/components/schemas/(\w+)", str(with_one))) == set(with_one["components"]["schemas"])
    told = set()
    for said in ours.values():
        for operation in said.values():
            assert operation["summary"]
            assert operation["description"]
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    told |= set(response["content"]["application/problem+json"]["examples"])
    of_jobs = {"pacs-too-large", "pacs-incomplete"}  # what a job failed of stands in its state
    assert told >= {kind for kind in PROBLEMS if kind.startswith("pacs-")} - of_jobs
