"""Several files in one form: an item each, in their order, answered or refused by itself."""

from __future__ import annotations

import errno
import json
import threading
from typing import Any

import httpx
import pytest

from medrail.serve.problems import Refusal
from medrail.serve.service import Janitor
from medrail.serve.several import _Folder

MOST = 5


@pytest.fixture(scope="module")
def served(start_once, classifier, picture_segmenter) -> Any:
    return start_once(classifier, picture_segmenter, max_batch_files=MOST, workers=2)


def ask(served: Any, *contents: bytes, **more: Any) -> httpx.Response:
    files = [("file", ("Doe^Jane.png", content)) for content in contents]
    return served.client.post("/v1/predict/batch", files=files, **more)


def test_each_file_is_answered_as_it_is_alone_and_in_its_place(served, blob, encode) -> None:
    contents = [encode(blob + number) for number in (0, 10, 20)]
    broken, empty = contents[0][:60], b""
    response = ask(served, contents[0], broken, contents[1], empty, contents[2])
    assert response.status_code == 200, response.text
    found = response.json()
    assert [item["index"] for item in found["items"]] == [0, 1, 2, 3, 4]
    assert [item["status"] for item in found["items"]] == [200, 422, 200, 400, 200]
    assert (found["answered"], found["refused"]) == (3, 2)
    for place, content in ((0, contents[0]), (2, contents[1]), (4, contents[2])):
        answer = found["items"][place]["answer"]
        assert answer["probabilities"] == served.predict(content).json()["probabilities"]
        assert found["items"][place]["problem"] is None
    assert found["items"][1]["problem"]["detail"] == served.predict(broken).json()["detail"]
    assert found["items"][3]["problem"]["type"] == "urn:medrail:problem:empty-file"
    assert found["items"][1]["answer"] is None
    assert not served.left_over()
    assert "Doe" not in served.log.read_text() + response.text


def test_masks_too(served, blob_png) -> None:
    found = ask(served, blob_png, blob_png, params={"model": "nuclei", "mask": "rle"}).json()
    alone = served.predict(blob_png, params={"model": "nuclei", "mask": "rle"}).json()["mask"]
    assert [item["answer"]["mask"] for item in found["items"]] == [alone, alone]


def test_what_is_wrong_with_the_request_itself(served, blob_png) -> None:
    too_many = ask(served, *[blob_png] * (MOST + 1))
    assert (too_many.status_code, too_many.json()["type"]) == (413, "urn:medrail:problem:too-many-files")
    assert ask(served, *[blob_png] * MOST).json()["answered"] == MOST
    form = {"other": ("x", blob_png)}
    assert served.client.post("/v1/predict/batch", files=form).json()["type"].endswith("unknown-field")
    nothing = served.client.post(
        "/v1/predict/batch",
        content=b"--b--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert nothing.status_code == 400
    assert ask(served, blob_png, headers={"Accept": "image/png"}).status_code == 406
    assert ask(served, blob_png, params={"model": "nobody"}).status_code == 404
    assert not served.left_over()


def test_one_files_failure_is_its_own(served, blob_png, encode, blob, monkeypatch) -> None:
    predictor = served.app.state.service.registry.default.predictor
    pipeline, lock, calls = predictor.pipeline, threading.Lock(), [0]

    def breaks_once(*given: Any) -> Any:
        with lock:
            calls[0] += 1
            if calls[0] == 1:
                raise ValueError("secret of Jane Doe")
        return pipeline(*given)

    monkeypatch.setattr(predictor, "pipeline", breaks_once)
    found = ask(served, blob_png, blob_png, blob_png).json()
    assert sorted(item["status"] for item in found["items"]) == [200, 200, 500]
    assert "secret" not in served.log.read_text()
    assert "ValueError" in served.log.read_text()


def test_a_full_disk_is_said_of_its_file(served, blob_png, monkeypatch) -> None:
    def full(*given: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(served.app.state.service.registry.default.predictor, "pipeline", full)
    (item,) = ask(served, blob_png).json()["items"]
    assert (item["status"], item["problem"]["type"]) == (507, "urn:medrail:problem:no-space")


def test_answers_together_are_bounded(start, picture_segmenter, blob_png) -> None:
    alone = ask(start(picture_segmenter), blob_png)
    assert int(alone.headers["content-length"]) == len(alone.content)
    each = len(json.dumps(alone.json()["items"][0], separators=(",", ":")))
    most = 12 * (len(blob_png) + 200)  # the form itself must fit
    assert each < most < 11 * each
    found = ask(start(picture_segmenter, max_upload_mb=most / 2**20), *[blob_png] * 12).json()
    statuses = [item["status"] for item in found["items"]]
    assert set(statuses) == {200, 413}
    assert (found["answered"], found["refused"]) == (statuses.count(200), statuses.count(413))
    assert found["answered"] == pytest.approx(most / each, abs=1)
    assert {item["problem"]["type"] for item in found["items"] if item["problem"]} == {"urn:medrail:problem:too-large"}


def test_where_the_time_went_is_told_of_all_files_together(served, blob_png) -> None:
    ask(served, blob_png, blob_png)
    line = json.loads(served.audit.read_text().splitlines()[-1])
    assert line["route"] == "/v1/predict/batch"
    assert line["timings_ms"]["model"] > 0
    assert line["timings_ms"]["upload"] <= line["total_ms"]


def test_the_folder_goes_when_the_last_work_in_it_has_ended(tmp_path) -> None:
    folder, janitor = tmp_path / "request", Janitor()
    (folder / "0").mkdir(parents=True)
    held = _Folder(folder, janitor)
    with held.inside():
        held.leave()
        (folder / "0" / "mask").touch()
        assert folder.is_dir()
    with pytest.raises(Refusal), held.inside():
        pass
    janitor.close()
    assert not folder.exists()
