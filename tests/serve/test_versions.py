"""Versions side by side: which one answers, and that no request is lost when that changes."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrail.bundle import InputKind, NetworkSpec, load_bundle
from medrail.errors import ServeError
from medrail.serve import Settings
from medrail.serve.gate import Gate
from medrail.serve.loading import Loader
from medrail.serve.problems import Refusal
from medrail.serve.registry import Registry
from medrail.serve.state import STATE_FILE, State
from medrail.serve.versions import Traffic, version_key
from medrail.serve.watch import is_models_folder
from medrail.types import Image
from small_bundles import classifier_network, write_bundle

SPEC = NetworkSpec(
    task="classification",
    classes=("no", "yes"),
    dims=2,
    channels=1,
    pipeline=({"kind": "resize", "size": [16, 16]},),
    input_kind=InputKind(picture=True, channels=1, unit="uint8"),
    grid=(16, 16),
)
QUICK = {"watch_s": 0.05, "queue": 200}


def add_version(folder: Path, version: str, name: str = "chest") -> Path:
    """As a person would: whole, under a hidden name, and then renamed."""
    made = write_bundle(folder.parent / f"made-{version}-{time.monotonic_ns()}", name, _network(version), SPEC, version)
    target = folder / "bundles" / name / version
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(made, target))


def _network(version: str) -> bytes:
    """Another network for each version, so that another bundle id, too."""
    return classifier_network(2, channels=1) + b"" if version == "1" else _renamed(version)


def _renamed(version: str) -> bytes:
    import onnx

    model = onnx.load_from_string(classifier_network(2, channels=1))
    model.graph.name = f"version {version}"
    return bytes(model.SerializeToString())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models folder with chest/1."""
    folder = tmp_path / "models"
    add_version(folder, "1")
    return folder


def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """Wait for what the service does by itself."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    assert found
    return found


def traffic(service: Any) -> dict[str, Any]:
    answer = service.client.get("/v1/admin/models")
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["models"]
    return dict(found)


def refused(service: Any) -> list[dict[str, str]]:
    return list(service.client.get("/v1/models").json()["refused"])


def order(service: Any, what: str, **body: Any) -> httpx.Response:
    return service.client.post(f"/v1/admin/models/chest/{what}", json=body)


def answered_by(service: Any, content: bytes, count: int = 1, model: str = "") -> Counter[str]:
    def one(_: int) -> str:
        answer = service.predict(content, params={"model": model})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["model_version"])

    return Counter(map(one, range(count)))


def events(service: Any, name: str) -> list[dict[str, Any]]:
    lines = map(json.loads, service.log.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["event"] == name]


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.booleans()), min_size=2, max_size=8, unique=True))
def test_versions_are_ordered_by_their_numbers(parts: list[tuple[int, int, bool]]) -> None:
    """A candidate for a release comes before it, 1.9 before 1.10, and the order does not depend on the list's."""
    names = [f"{major}.{minor}" + ("" if final else "-rc1") for major, minor, final in parts]
    assert sorted(names, key=version_key) == [
        f"{major}.{minor}" + ("" if final else "-rc1") for major, minor, final in sorted(parts)
    ]


@given(share=st.floats(0, 1), count=st.integers(1, 300))
def test_of_n_requests_the_canary_gets_its_share(share: float, count: int) -> None:
    """For every n, as evenly as can be: never one more or less than n x share."""
    traffic = Traffic(canary="2", share=share)
    taken = 0
    for number in range(count):
        taken += traffic.to_canary(number)
        assert abs(taken - (number + 1) * share) < 1 + 1e-6
    assert taken == count if share == 1 else taken <= count


@given(st.lists(st.sampled_from(["1", "2", "3"]), max_size=20))
def test_what_a_rollback_goes_back_to_answered_before(versions: list[str]) -> None:
    traffic = Traffic()
    for version in versions:
        traffic = traffic.took_over(version)
    while traffic.before:
        back = traffic.before[-1]
        assert back != traffic.active
        before = traffic
        traffic = traffic.rolled_back(back)
        assert (traffic.pinned, traffic.active) == (back, back)
        assert len(traffic.before) < len(before.before)
    assert Traffic.from_dict(json.loads(json.dumps(traffic.to_dict()))) == traffic


def test_no_request_is_lost_in_a_swap(start, models: Path, blob_png: bytes) -> None:
    """Eight clients ask all the time, three versions come one after the other, and one is rolled back."""
    service = start(models, **QUICK)
    stop = threading.Event()
    seen: list[tuple[int, str]] = []

    def client(_: int) -> None:
        while not stop.is_set():
            answer = service.predict(blob_png)
            seen.append((answer.status_code, answer.json().get("model_version")))

    def more_are_answered(count: int = 40) -> None:
        before = len(seen)
        until(lambda: len(seen) >= before + count or any(each.done() for each in clients), 60)

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number) for number in range(8)]
        try:
            for version in ("2", "3", "4"):
                more_are_answered()
                add_version(models, version)
                until(lambda version=version: traffic(service)["answers"] == version)
            more_are_answered()
            assert order(service, "rollback").json()["answers"] == "3"
            more_are_answered()
        finally:
            stop.set()
        for each in clients:
            each.result()
    assert Counter(status for status, _ in seen) == {200: len(seen)}
    assert {version for _, version in seen} == {"1", "2", "3", "4"}
    assert answered_by(service, blob_png) == {"3": 1}
    assert not service.left_over()


def test_a_half_copied_bundle_waits_until_it_is_whole(start, models: Path, blob_png: bytes, tmp_path: Path) -> None:
    whole = write_bundle(tmp_path / "elsewhere", "chest", _network("2"), SPEC, "2")
    service = start(models, **QUICK)
    target = models / "bundles" / "chest" / "2"
    target.mkdir()
    shutil.copy(whole / "bundle.json", target)
    content = (whole / "model.onnx").read_bytes()
    (target / "model.onnx").write_bytes(content[:100])
    until(lambda: refused(service))
    assert answered_by(service, blob_png, 3) == {"1": 3}
    (target / "model.onnx").write_bytes(content)
    shutil.copy(whole / "card.md", target)
    until(lambda: traffic(service)["answers"] == "2")
    until(lambda: not refused(service))


def _truncated(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-5])


def _tampered(folder: Path) -> None:
    path = folder / "model.onnx"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def _without_network(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def _edited(folder: Path) -> None:
    path = folder / "bundle.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"yes"', '"no!"'), encoding="utf-8")


def _no_json(folder: Path) -> None:
    (folder / "bundle.json").write_text("{", encoding="utf-8")


def _json_of_another_kind(folder: Path) -> None:
    (folder / "bundle.json").write_text("[1, 2]", encoding="utf-8")


def _network_that_is_none(folder: Path) -> None:
    from medrail.bundle import Manifest

    (folder / "model.onnx").write_bytes(b"not a network")
    Manifest("chest", "2", SPEC).write(folder)


def _other_network(folder: Path) -> None:
    from medrail.bundle import Manifest

    (folder / "model.onnx").write_bytes(classifier_network(2, channels=3))
    Manifest("chest", "2", SPEC).write(folder)


BROKEN = [
    _truncated,
    _tampered,
    _without_network,
    _edited,
    _no_json,
    _json_of_another_kind,
    _network_that_is_none,
    _other_network,
]


def test_a_broken_bundle_never_replaces_a_good_one(start, models: Path, blob_png: bytes, tmp_path: Path) -> None:
    """Of every kind, one after the other; each is told once, with a reason and without a path."""
    service = start(models, **QUICK)
    target = models / "bundles" / "chest" / "2"
    for count, break_it in enumerate(BROKEN, 1):
        made = write_bundle(tmp_path / f"made-{count}", "chest", _network("2"), SPEC, "2")
        break_it(made)
        shutil.rmtree(target, ignore_errors=True)
        until(lambda: not refused(service))
        shutil.move(made, target)
        (found,) = until(lambda: refused(service))
        assert (found["name"], found["version"]) == ("chest", "2")
        assert found["reason"]
        assert str(tmp_path) not in found["reason"]
        assert answered_by(service, blob_png) == {"1": 1}, break_it
        assert len(events(service, "refused")) == count, break_it
    assert str(tmp_path) not in json.dumps(events(service, "refused"))
    shutil.rmtree(target)
    add_version(models, "2")
    until(lambda: traffic(service)["answers"] == "2")
    assert not refused(service)


def test_what_is_loaded_needs_no_folder(start, models: Path, blob_png: bytes) -> None:
    service = start(models, **QUICK)
    add_version(models, "2")
    until(lambda: traffic(service)["answers"] == "2")
    away = models.rename(models.with_name("away"))
    until(lambda: [event for event in events(service, "models-folder") if not event["there"]])
    assert answered_by(service, blob_png) == {"2": 1}
    assert answered_by(service, blob_png, model="chest/1") == {"1": 1}
    assert order(service, "rollback").json()["answers"] == "1"
    assert answered_by(service, blob_png) == {"1": 1}
    away.rename(models)
    until(lambda: [event for event in events(service, "models-folder") if event["there"]])
    shutil.rmtree(models / "bundles" / "chest" / "2")
    found = service.client.post("/v1/admin/models/reload").json()
    assert found["models"][0]["loaded"] == ["1"]


def test_pin_canary_and_rollback(start, models: Path, blob_png: bytes) -> None:
    add_version(models, "2")
    service = start(models, **QUICK)
    assert answered_by(service, blob_png) == {"2": 1}
    assert order(service, "canary", version="2", share=0.5).status_code == 409
    assert order(service, "pin", version="1").json()["answers"] == "1"
    assert order(service, "canary", version="2", share=0.25).json()["canary"] == "2"
    assert answered_by(service, blob_png, 20) == {"1": 15, "2": 5}
    assert answered_by(service, blob_png, 3, "chest/1") == {"1": 3}
    assert answered_by(service, blob_png, 3, "chest/latest") == {"2": 3}
    assert order(service, "canary", version="2", share=0).json()["canary"] is None
    assert answered_by(service, blob_png, 4) == {"1": 4}
    assert order(service, "pin", version="latest").json()["answers"] == "2"
    found = order(service, "rollback").json()
    assert (found["answers"], found["pinned"], found["before"]) == ("1", "1", ["2"])
    orders = [event["order"] for event in events(service, "traffic")]
    assert orders == ["pin", "canary", "canary", "pin", "rollback"]


def test_orders_that_cannot_be_followed_change_nothing(start, models: Path) -> None:
    service = start(models, **QUICK)
    before = traffic(service)
    assert order(service, "rollback").status_code == 409
    assert order(service, "pin", version="7").status_code == 404
    assert order(service, "canary", version="7", share=0.5).status_code == 404
    assert order(service, "shadow", version="1").status_code == 409
    assert order(service, "canary", version="1", share=2).status_code == 422
    assert order(service, "pin", version="../../etc").status_code == 422
    assert order(service, "pin", version="1", more=1).status_code == 422
    assert service.client.post("/v1/admin/models/nobody/rollback").status_code == 404
    assert traffic(service) == before


def test_a_restart_knows_what_was_pinned(start, models: Path, blob_png: bytes) -> None:
    add_version(models, "2")
    first = start(models, **QUICK)
    order(first, "pin", version="1")
    order(first, "canary", version="2", share=0.5)
    second = start(models, **QUICK)
    assert answered_by(second, blob_png, 4) == {"1": 2, "2": 2}
    # and the first hears of what the second is told, as several processes do of each other
    order(second, "pin", version="2")
    until(lambda: traffic(first)["answers"] == "2")
    assert answered_by(first, blob_png, 4) == {"2": 4}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 9}', b'{"format": 1, "models": {"chest": {"share": 7}}}']
)
def test_a_state_file_that_is_none_is_passed_over(start, models: Path, blob_png: bytes, content: bytes) -> None:
    (models / STATE_FILE).write_bytes(content)
    service = start(models, **QUICK)
    assert answered_by(service, blob_png) == {"1": 1}
    add_version(models, "2")
    until(lambda: traffic(service)["answers"] == "2")
    assert order(service, "pin", version="1").json()["answers"] == "1"
    assert State(models / STATE_FILE).read()["chest"].pinned == "1"


def test_a_shadow_answers_and_is_only_logged(start, models: Path, blob_png: bytes) -> None:
    add_version(models, "2")
    service = start(models, **QUICK)
    assert order(service, "shadow", version="1").json()["shadow"] == "1"
    answers = [service.predict(blob_png).json() for _ in range(3)]
    assert {answer["model_version"] for answer in answers} == {"2"}
    found = until(lambda: len(each) == 3 and each if (each := events(service, "shadow")) else None)
    assert {(each["version"], each["shadow"], each["same"], each["max_difference"]) for each in found} == {
        ("2", "1", True, 0.0)
    }
    assert {each["request_id"] for each in found} == {answer["request_id"] for answer in answers}
    order(service, "shadow")
    service.predict(blob_png)
    time.sleep(0.1)
    assert len(events(service, "shadow")) == 3


def test_a_shadow_that_fails_is_nobodys_error(start, models: Path, blob_png: bytes, monkeypatch) -> None:
    add_version(models, "2")
    service = start(models, **QUICK)
    order(service, "shadow", version="1")

    def broken(batch: Any) -> Any:
        raise RuntimeError("Jane Doe")

    until(lambda: len(traffic(service)["loaded"]) == 2)
    monkeypatch.setattr(service.app.state.service.registry.find("chest/1").predictor, "backend", broken)
    assert service.predict(blob_png).status_code == 200
    (found,) = until(lambda: events(service, "shadow"))
    assert found["failed"] == "RuntimeError"
    assert "Jane" not in service.log.read_text(encoding="utf-8")


def test_only_the_newest_versions_and_those_asked_for_are_kept(start, models: Path, blob_png: bytes) -> None:
    for version in ("2", "3", "4", "5"):
        add_version(models, version)
    service = start(models, keep_versions=2, **QUICK)
    until(lambda: traffic(service)["loaded"] == ["5", "4"])
    assert order(service, "pin", version="2").json()["answers"] == "2"
    until(lambda: traffic(service)["loaded"] == ["2", "5", "4"])
    time.sleep(0.2)
    assert traffic(service)["loaded"] == ["2", "5", "4"]
    assert answered_by(service, blob_png) == {"2": 1}


def test_the_same_version_written_anew_takes_over(start, models: Path) -> None:
    service = start(models, **QUICK)

    def bundle_id() -> str:
        return str(service.client.get("/v1/models").json()["models"][0]["bundle_id"])

    before = bundle_id()
    shutil.rmtree(models / "bundles" / "chest" / "1")
    made = write_bundle(models.parent / "anew", "chest", _network("another"), SPEC, "1")
    shutil.move(made, models / "bundles" / "chest" / "1")
    until(lambda: bundle_id() != before)


@pytest.fixture
def several(tmp_path: Path) -> tuple[Path, Path]:
    made = [write_bundle(tmp_path / "given", "chest", _network(version), SPEC, version) for version in ("1", "2")]
    return made[0], made[1]


def test_of_bundles_that_are_given_the_first_answers(start, several: tuple[Path, Path], blob_png: bytes) -> None:
    service = start(*several)
    assert answered_by(service, blob_png) == {"1": 1}
    assert order(service, "pin", version="2").json()["answers"] == "2"
    assert answered_by(service, blob_png) == {"2": 1}
    assert order(service, "rollback").json()["answers"] == "1"


def test_a_version_that_left_goes_when_the_last_request_has_let_go_of_it(start, models: Path, blob_png: bytes) -> None:
    service = start(models, keep_versions=1, **QUICK)
    held: Any = service.app.state.service.registry.choose("").model
    gone = weakref.ref(held.predictor)
    for version in ("2", "3"):
        add_version(models, version)
        until(lambda version=version: traffic(service)["answers"] == version)
    until(lambda: traffic(service)["loaded"] == ["3", "2"])  # 2 is what a rollback goes back to
    image = Image(np.zeros((1, 1, 20, 20), np.uint8), None, unit="uint8")
    assert held.predictor(image).bundle_id == held.manifest.bundle_id
    del held
    until(lambda: gc.collect() is not None and gone() is None)


def opened(models: Path, **settings: Any) -> Registry:
    """Without HTTP; what is in the folder is looked at when ``watcher.look`` is called."""
    return Registry.load([models], Settings(log_to_stderr=False, threads=1, **settings))


def versions_of(registry: Registry, name: str = "chest") -> set[str]:
    return {model.version for model in registry.models if model.name == name}


def test_a_rollback_after_a_restart_goes_where_it_went_before_it(models: Path) -> None:
    """Not to the canary, which is newer than the pinned version and is loaded, too, but was never pinned after it."""
    add_version(models, "2")
    add_version(models, "3")
    first = opened(models)
    first.pin("chest", "1")
    first.pin("chest", "2")
    before = first.canary("chest", "3", 0.5)
    second = opened(models)
    assert second.find("chest").version == "2"
    assert second.traffic("chest") == State(models / STATE_FILE).read()["chest"] == before
    assert second.rollback("chest").pinned == "1"


def test_a_process_that_is_behind_does_not_rewrite_who_answered(models: Path) -> None:
    """The other one has not loaded the pinned version yet, looks, and loads a newer one at the same time."""
    add_version(models, "2")
    first, second = opened(models), opened(models)
    pinned = first.pin("chest", "1")
    second.refresh()
    assert second.find("chest").version == "2"
    assert State(models / STATE_FILE).read()["chest"] == pinned
    add_version(models, "3")
    assert second.watcher is not None
    second.watcher.look()
    assert versions_of(second) == {"1", "2", "3"}
    assert second.find("chest").version == "1"
    assert State(models / STATE_FILE).read()["chest"] == pinned


def test_latest_ends_the_canary_and_the_shadow_that_it_is(models: Path) -> None:
    add_version(models, "2")
    registry = opened(models)
    registry.pin("chest", "1")
    registry.canary("chest", "2", 0.5)
    registry.shadow("chest", "2")
    found = registry.pin("chest", "latest")
    assert (found.canary, found.share, found.shadow) == ("", 0.0, "")


def test_a_share_of_nothing_ends_a_canary_whoever_answers(models: Path) -> None:
    add_version(models, "2")
    registry = opened(models)
    registry.canary("chest", "1", 0.5)
    assert registry.canary("chest", "2", 0).canary == ""
    registry.canary("chest", "1", 0.5)
    assert registry.canary("chest", "7", 0).canary == ""


def test_a_version_that_is_pinned_while_another_is_loaded_stays(models: Path) -> None:
    add_version(models, "0")
    registry = opened(models, keep_versions=1)
    add_version(models, "3")
    assert registry.watcher is not None
    assert versions_of(registry) == {"1"}

    def told(event: str, **values: Any) -> None:
        if event == "model" and values["version"] == "3":
            registry.pin("chest", "0")

    registry.tell = told
    registry.watcher.look()
    assert registry.find("chest").version == "0"
    assert versions_of(registry) == {"0", "1", "3"}  # 1 is what a rollback goes back to


def test_a_version_that_fails_in_any_way_when_it_is_loaded_is_not_pinned(models: Path, monkeypatch) -> None:
    add_version(models, "2")
    registry = opened(models)

    def load(self: Loader, folder: Path) -> Any:
        raise RuntimeError("Jane Doe")

    monkeypatch.setattr(Loader, "load", load)
    with pytest.raises(Refusal) as refused:
        registry.pin("chest", "1")
    assert refused.value.kind == "unknown-model"
    assert "Jane" not in refused.value.detail
    assert registry.find("chest").version == "2"
    assert registry.traffic("chest").pinned == ""


def test_a_model_without_any_folder_goes_when_that_is_asked_for(models: Path) -> None:
    add_version(models, "1", name="aorta")
    first, named = opened(models), opened(models, default_model="chest")
    shutil.rmtree(models / "bundles" / "aorta")
    first.reload()
    assert {model.name for model in first.models} == {"chest"}
    assert first.default.name == "chest"
    add_version(models, "2", name="aorta")
    _truncated(models / "bundles" / "chest" / "1")
    named.reload()
    assert versions_of(named) == {"1"}  # what cannot be read yet does not end what answers
    shutil.rmtree(models / "bundles" / "chest")
    named.reload()
    assert {model.name for model in named.models} == {"aorta"}
    assert not any(map(named.is_default, named.models))
    with pytest.raises(Refusal) as refused:
        named.find("")
    assert (refused.value.kind, refused.value.detail) == ("unknown-model", "Served here: aorta/2.")


def test_two_threads_lose_nothing_of_the_state(tmp_path: Path, monkeypatch) -> None:
    """One has seen that the file is new and not read it yet, when the other changes it."""
    path = tmp_path / STATE_FILE
    State(path).change("chest", lambda traffic: traffic.took_over("1"))
    state, entered, released = State(path), threading.Event(), threading.Event()
    read_text = Path.read_text

    def slow(self: Path, *rest: Any, **more: Any) -> str:
        if threading.current_thread() is reader:
            entered.set()
            released.wait(30)
        return read_text(self, *rest, **more)

    reader = threading.Thread(target=state.read)
    writer = threading.Thread(target=state.change, args=("brain", lambda traffic: traffic.took_over("2")))
    monkeypatch.setattr(Path, "read_text", slow)
    reader.start()
    assert entered.wait(30)
    writer.start()
    writer.join(0.2)
    released.set()
    for thread in (reader, writer):
        thread.join(30)
    monkeypatch.undo()
    found = State(path).read()
    assert {name: traffic.active for name, traffic in found.items()} == {"chest": "1", "brain": "2"}


def test_a_file_of_v2_has_a_shadow_and_a_tensor_none(start, models: Path, blob_png: bytes) -> None:
    add_version(models, "2")
    service = start(models, **QUICK)
    order(service, "shadow", version="1")
    headers = {"Inference-Header-Content-Length": "0"}
    tensor = np.zeros((1, 1, 16, 16), np.float32).tobytes()
    for name, content in (("chest", tensor), ("chest:file", blob_png)):
        answer = service.client.post(f"/v2/models/{name}/infer", content=content, headers=headers)
        assert (answer.status_code, answer.json()["model_version"]) == (200, "2"), answer.text
    (found,) = until(lambda: events(service, "shadow"))
    assert (found["version"], found["shadow"], found["same"]) == ("2", "1", True)
    assert found["request_id"] == answer.headers["x-request-id"]


def test_what_a_models_folder_is(models: Path, tmp_path: Path) -> None:
    bundle = models / "bundles" / "chest" / "1"
    assert is_models_folder(models)
    assert is_models_folder(models / "bundles")
    assert not is_models_folder(bundle)
    assert not is_models_folder(bundle.parent)
    assert not is_models_folder(tmp_path / "nothing")
    hidden = tmp_path / "hidden" / "chest" / ".1-being-written"
    shutil.copytree(bundle, hidden)
    assert not is_models_folder(tmp_path / "hidden")


def test_a_models_folder_of_broken_bundles_alone_is_an_error_at_start(models: Path) -> None:
    _truncated(models / "bundles" / "chest" / "1")
    with pytest.raises(ServeError, match="bytes"):
        Registry.load([models], Settings(log_to_stderr=False))


def test_the_default_model_can_be_named(models: Path) -> None:
    add_version(models, "1", name="aorta")
    quiet = {"log_to_stderr": False, "threads": 1}
    assert Registry.load([models], Settings(**quiet)).default.name == "aorta"
    assert Registry.load([models], Settings(default_model="chest", **quiet)).default.name == "chest"
    with pytest.raises(ServeError, match="no model is called"):
        Registry.load([models], Settings(default_model="nobody", **quiet))


@pytest.mark.parametrize(
    ("one_s", "all_s", "threads"), [(0.02, 0.01, 1), (0.5, 0.2, 4), (0.5, 0.45, 1)], ids=["quick", "slow", "no gain"]
)
def test_threads_are_chosen_by_measurement(models, monkeypatch, one_s: float, all_s: float, threads: int) -> None:
    loaded: dict[int, int] = {}

    def load(folder: Path, count: int, engine: str) -> Any:
        predictor = load_bundle(folder, 1, engine)
        loaded[id(predictor.backend)] = count
        kept.append(predictor)
        return predictor

    kept: list[Any] = []
    monkeypatch.setattr("medrail.serve.gate.processors", lambda: 4)
    monkeypatch.setattr("medrail.serve.loading.load_bundle", load)
    monkeypatch.setattr(
        "medrail.serve.loading._seconds", lambda backend, _: one_s if loaded[id(backend)] == 1 else all_s
    )
    settings = Settings()
    loader = Loader(settings, Gate.of(settings))
    assert loader._quickest(models / "bundles" / "chest" / "1")[1] == threads
