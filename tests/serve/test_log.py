"""The log tells what happened, and never about whom."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from medrail.errors import ServeError
from medrail.serve import Settings, create_app
from medrail.serve.log import LOG_FILE, ServiceLog


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_one_line_a_request(start, classifier, blob_png) -> None:
    service = start(classifier)
    answer = service.predict(blob_png).json()
    service.client.get("/v1/models/nobody/card")
    service.client.get("/v1/models")
    service.client.get("/healthz")
    written = lines(service.log)
    assert [line["event"] for line in written] == ["model", "start", "request", "request", "request"]
    first, second, _ = written[2:]
    assert first["request_id"] == answer["request_id"]
    assert first["route"] == "/v1/predict/image"
    assert (first["model"], first["version"], first["status"]) == ("chest", "1", 200)
    assert first["bundle_id"] == answer["bundle_id"]
    assert first["input_sha256"] == hashlib.sha256(blob_png).hexdigest()
    assert first["input_bytes"] == len(blob_png)
    assert first["timings_ms"] == answer["timings_ms"]
    assert first["result"] == {name: answer[name] for name in ("class_name", "confidence", "abstain")}
    assert first["time"].endswith("Z")
    assert (second["route"], second["status"], second["problem"]) == ("/v1/models/{name}/card", 404, "unknown-model")


def test_no_identifier_reaches_the_log(start, classifier, make_dicom, identifiers, capfd) -> None:
    service = start(classifier, log_to_stderr=True, max_megavoxels=0.1)
    whole = make_dicom()
    requests = [
        whole,
        whole[: len(whole) // 2],
        whole[:-100],
        make_dicom(Rows=1000, Columns=1000),
        whole.replace(b"19610423", b"JaneJane"),
        make_dicom(RescaleSlope="0"),
        whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"),
        make_dicom(PhotometricInterpretation="DOE_JANE"),
        b"Patient: Doe^Jane^Quincy, PID-7719-XQ",
    ]
    name = "Doe^Jane^Quincy_PID-7719-XQ.dcm"
    for content in requests:
        for model in ("", "Doe^Jane^Quincy"):
            response = service.client.post(
                "/v1/predict/image",
                files={"file": (name, content)},
                params={"model": model, "patient": "PID-7719-XQ", "preview": "Doe" if not model else "true"},
                headers={"User-Agent": "Doe^Jane^Quincy", "X-Request-ID": "PID-7719-XQ"},
            )
            for value in identifiers.values():
                assert value not in response.text
        assert service.predict(content).status_code in (200, 413, 415, 422)
    service.client.get("/patients/PID-7719-XQ")
    service.client.get("/static/Doe^Jane^Quincy")
    service.client.get("/v1/models/PID-7719-XQ/card")
    assert service.client.request("PID-7719-XQ", "/").status_code in (400, 405)
    printed = capfd.readouterr()
    everything = service.log.read_text() + printed.err + printed.out
    assert everything.count('"event": "request"') > 20
    for value in [*identifiers.values(), "Jane", "Quincy", "Doe", "7719", name]:
        assert value not in everything


def test_log_rotates(tmp_path: Path) -> None:
    log = ServiceLog(Settings(log_dir=tmp_path, log_to_stderr=False, log_file_mb=0.001, log_files=3))
    for number in range(200):
        log.event("request", number=number)
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [LOG_FILE, f"{LOG_FILE}.1", f"{LOG_FILE}.2"]
    assert lines(tmp_path / LOG_FILE)[-1]["number"] == 199


def test_two_services_do_not_share_a_log(tmp_path: Path) -> None:
    one = ServiceLog(Settings(log_dir=tmp_path / "one", log_to_stderr=False))
    two = ServiceLog(Settings(log_dir=tmp_path / "two", log_to_stderr=False))
    one.event("first")
    two.event("second")
    assert [line["event"] for line in lines(tmp_path / "one" / LOG_FILE)] == ["first"]
    assert [line["event"] for line in lines(tmp_path / "two" / LOG_FILE)] == ["second"]
    one.close()
    two.close()


def test_a_full_disk_costs_the_line_not_the_request(start, classifier, blob_png, monkeypatch, capfd) -> None:
    service = start(classifier)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device: Jane")

    monkeypatch.setattr("medrail.serve.log._RotatingFile.shouldRollover", full)
    assert service.predict(blob_png).status_code == 200
    printed, last = "", time.monotonic() + 20
    while "log-not-written" not in printed and time.monotonic() < last:  # the line comes after the answer
        time.sleep(0.02)
        printed += capfd.readouterr().err
    assert "log-not-written" in printed
    assert "Jane" not in printed


def test_log_folder_that_cannot_be_written(classifier, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServeError, match="cannot be written"):
        create_app(classifier, Settings(log_dir=tmp_path / "file" / "logs"))
