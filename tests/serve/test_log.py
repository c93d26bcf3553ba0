"""The logs tell what happened, and never about whom."""

from __future__ import annotations

import hashlib
import json
import mmap
import time
from pathlib import Path

import pytest
from fastapi import Request

from medrail.audit import Span, find_logs, records, summarise
from medrail.audit.logs import Found
from medrail.errors import ServeError
from medrail.serve import Settings, create_app
from medrail.serve.audit import FIELDS, job_line
from medrail.serve.log import AUDIT_FILE, LOG_FILE, ServiceLog


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def waited(path: Path, count: int) -> list[dict]:
    """The lines, once there are so many: a request's line comes after its answer."""
    last = time.monotonic() + 20
    while len(found := lines(path)) < count and time.monotonic() < last:
        time.sleep(0.02)
    return found


def test_one_line_a_request(start, classifier, blob_png) -> None:
    service = start(classifier)
    answer = service.predict(blob_png).json()
    service.client.get("/v1/models/nobody/card")
    service.client.get("/v1/models")
    for quiet in ("/healthz", "/readyz", "/metrics"):
        assert service.client.get(quiet).status_code == 200
    first, second, third = waited(service.audit, 3)
    assert first["request_id"] == answer["request_id"]
    assert (first["event"], first["route"], first["method"]) == ("request", "/v1/predict/image", "POST")
    assert (first["model"], first["version"], first["status"]) == ("chest", "1", 200)
    assert (first["key_id"], first["address"]) == (None, "127.0.0.1")
    assert first["bundle_id"] == answer["bundle_id"]
    assert first["input_sha256"] == hashlib.sha256(blob_png).hexdigest()
    assert first["input_bytes"] == len(blob_png)
    assert first["timings_ms"] == answer["timings_ms"]
    result = first["result"]
    assert (result["class_name"], result["abstain"]) == (answer["class_name"], False)
    assert result["confidence"] == pytest.approx(answer["confidence"], abs=1e-6)
    assert first["time"].endswith("Z")
    assert (second["route"], second["status"], second["problem"]) == ("/v1/models/{name}/card", 404, "unknown-model")
    assert (third["route"], third["status"]) == ("/v1/models", 200)
    short = waited(service.log, 5)
    assert [line["event"] for line in short] == ["model", "start", "request", "request", "request"]
    assert [line["level"] for line in short[2:]] == ["info", "warning", "info"]
    assert [line["request_id"] for line in short[2:]] == [line["request_id"] for line in (first, second, third)]
    assert not {"input_sha256", "address", "result"} & short[2].keys()


def test_volumes_of_a_segmentation_are_its_result(start, volume_segmenter, picture_segmenter, head_nifti, blob_png):
    service = start(volume_segmenter, picture_segmenter)
    answer = service.predict(head_nifti.read_bytes()).json()
    service.predict(blob_png, params={"model": "nuclei"})
    volume, picture = (line["result"] for line in waited(service.audit, 2))
    expected = {entry["name"]: entry["volume_ml"] for entry in answer["mask"]["classes"][1:]}
    assert volume["volumes_ml"] == pytest.approx(expected, abs=1e-3)
    assert set(picture["voxels"]) == {"nucleus"}


def test_memory_of_a_call_is_only_told_of_one_that_was_alone(start, classifier, blob_png) -> None:
    service = start(classifier)
    service.predict(blob_png)
    memory = service.app.state.telemetry.memory
    with memory.working():
        service.predict(blob_png)
        alone, beside = waited(service.audit, 2)
    assert alone["process_peak_mb"] >= alone["call_peak_mb"] > alone["call_added_mb"] >= 0
    assert beside["process_peak_mb"] > 0
    assert "call_peak_mb" not in beside


def test_what_a_call_held_is_told() -> None:
    from medrail.serve.memory import ProcessMemory

    memory = ProcessMemory()
    call = memory.begin()
    with mmap.mmap(-1, 64 * 2**20) as held:
        for start in range(0, len(held), mmap.PAGESIZE):
            held[start] = 1
    large = memory.end(call)
    small = memory.end(memory.begin())
    assert 60 < large["call_added_mb"] < 100
    assert small["call_added_mb"] < 10
    assert small["process_peak_mb"] >= large["call_peak_mb"] > small["call_peak_mb"]


def test_only_the_table_s_fields_reach_the_audit_log(start, classifier, blob_png) -> None:
    service = start(classifier)

    @service.app.post("/careless")
    async def careless(request: Request) -> None:
        request.state.record.update(model="chest", patient="Doe^Jane", file_name="Doe.dcm")

    assert service.client.post("/careless").status_code == 200
    (line,) = waited(service.audit, 1)
    assert (line["route"], line["model"]) == ("/careless", "chest")
    own = {"time", "event", "request_id", "address", "method", "route", "status", "total_ms", "process", "job_status"}
    memory = {"process_peak_mb", "call_peak_mb", "call_added_mb"}
    assert line.keys() <= {*FIELDS, *own, *memory}
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "audit.md").read_text(encoding="utf-8")
    assert [name for name in (*FIELDS, *own, *memory) if f"`{name}`" not in page] == []


def test_the_end_of_a_job_is_audited(tmp_path: Path) -> None:
    log = ServiceLog(Settings(log_dir=tmp_path, log_to_stderr=False))
    record = {"job_id": "j", "model": "brain", "result": {"volumes_ml": {"brain": 1.0}}, "patient": "Doe^Jane"}
    log.job(job_line("r", "done", record | {"key_id": "ward"}))
    log.job(job_line("r", "failed", record | {"problem": "corrupt-file"}))
    log.close()
    done, failed = lines(tmp_path / AUDIT_FILE)
    assert (done["event"], done["job_status"], done["request_id"], done["key_id"]) == ("job", "done", "r", "ward")
    assert done["result"] == {"volumes_ml": {"brain": 1.0}}
    assert (failed["job_status"], failed["problem"], failed["key_id"]) == ("failed", "corrupt-file", None)
    short = lines(tmp_path / LOG_FILE)
    assert [(line["event"], line["level"], line["job_id"]) for line in short] == [
        ("job", "info", "j"),
        ("job", "warning", "j"),
    ]
    assert "Jane" not in (tmp_path / AUDIT_FILE).read_text() + (tmp_path / LOG_FILE).read_text()


# Every element that says who, where or when, and the UIDs, which are known to the archive.
MORE_IDENTIFIERS = {
    "OtherPatientNames": "Smith^Janet",
    "PatientBirthName": "Maidenname^Jane",
    "PatientMotherBirthName": "Motherling^Ann",
    "PatientAddress": "12 Elm Street Springfield",
    "PatientTelephoneNumbers": "+1-555-0173-9",
    "PatientComments": "was seen with her sister",
    "MedicalRecordLocator": "MRL-33-871",
    "EthnicGroup": "Elbonian",
    "Occupation": "Lighthousekeep",
    "AdditionalPatientHistory": "fell off a ladder",
    "StudyDate": "20190827",
    "SeriesDate": "20190828",
    "AcquisitionDate": "20190829",
    "ContentDate": "20190830",
    "StudyTime": "134501.123",
    "StudyID": "STUDY-8841",
    "PerformingPhysicianName": "Strange^Stephen",
    "OperatorsName": "Ratched^Mildred",
    "RequestingPhysician": "Grey^Meredith",
    "InstitutionAddress": "1 Hospital Hill",
    "InstitutionalDepartmentName": "Dept of Mysteries",
    "StationName": "CT-ROOM-17B",
    "DeviceSerialNumber": "SN-0091-7766",
    "SeriesDescription": "Thorax of Mrs Doe",
    "ProtocolName": "PROT-DOE-9",
    "ImageComments": "left arm of Jane",
    "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.771001",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.771002",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.771003",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.771004",
}


def test_no_identifier_reaches_the_logs_or_the_metrics(start, classifier, make_dicom, identifiers, capfd) -> None:
    service = start(classifier, log_to_stderr=True, max_megavoxels=0.1, log_level="debug")

    def made(**changes) -> bytes:
        return make_dicom(**(MORE_IDENTIFIERS | changes))

    whole = made()
    for value in [*identifiers.values(), *MORE_IDENTIFIERS.values()]:
        assert value.encode() in whole
    requests = [
        whole,
        whole[: len(whole) // 2],
        whole[:-100],
        made(Rows=1000, Columns=1000),
        whole.replace(b"19610423", b"JaneJane"),
        made(RescaleSlope="0"),
        whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"),
        made(PhotometricInterpretation="DOE_JANE"),
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
    service.client.post("/v1/predict/image", files={"Doe^Jane^Quincy": (name, whole)})
    service.client.get("/patients/PID-7719-XQ")
    service.client.get("/static/Doe^Jane^Quincy")
    service.client.get("/v1/models/PID-7719-XQ/card")
    assert service.client.request("PID-7719-XQ", "/").status_code in (400, 405)
    assert service.client.request("JANEDOE", "/").status_code in (400, 405)
    metrics = service.client.get("/metrics").text
    assert len(waited(service.audit, 30)) > 30
    printed = capfd.readouterr()
    everything = service.audit.read_text() + service.log.read_text() + printed.err + printed.out + metrics
    assert everything.count('"event": "request"') > 90
    assert "medrail_requests_total{" in metrics
    hidden = [*identifiers.values(), *MORE_IDENTIFIERS.values(), "Jane", "JANE", "Quincy", "Doe", "7719", "7710", name]
    assert [value for value in hidden if value in everything] == []


def test_the_logs_rotate(tmp_path: Path) -> None:
    settings = Settings(
        log_dir=tmp_path,
        log_to_stderr=False,
        log_file_mb=0.001,
        log_files=3,
        audit_file_mb=0.001,
        audit_files=2,
    )
    log = ServiceLog(settings)
    for number in range(200):
        log.event("step", number=number)
        log.request({"status": 200, "number": number})
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert files == [AUDIT_FILE, f"{AUDIT_FILE}.1", LOG_FILE, f"{LOG_FILE}.1", f"{LOG_FILE}.2"]
    assert lines(tmp_path / AUDIT_FILE)[-1]["number"] == 199


def test_the_level_thins_the_service_log_and_not_the_audit(tmp_path: Path, capsys) -> None:
    log = ServiceLog(Settings(log_dir=tmp_path, log_level="warning"))
    log.event("start")
    for status in (200, 404, 500):
        log.request({"request_id": "x", "status": status})
    log.close()
    assert [line["level"] for line in lines(tmp_path / LOG_FILE)] == ["warning", "error"]
    assert [line["status"] for line in lines(tmp_path / AUDIT_FILE)] == [200, 404, 500]
    assert capsys.readouterr().err == (tmp_path / LOG_FILE).read_text()


def test_without_a_folder_standard_error_has_the_whole_line(capsys) -> None:
    ServiceLog(Settings()).request({"event": "request", "status": 200, "input_sha256": "ab", "address": "::1"})
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["input_sha256"], line["address"]) == ("request", "ab", "::1")


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

    with monkeypatch.context() as patched:
        patched.setattr("medrail.serve.linefile.LineFile._append", full)
        for _ in range(3):
            assert service.predict(blob_png).status_code == 200
        failures = ""
        last = time.monotonic() + 20
        while f'medrail_log_failures_total{{file="{AUDIT_FILE}"}} 3.0' not in failures and time.monotonic() < last:
            failures = service.client.get("/metrics").text
    assert f'medrail_log_failures_total{{file="{AUDIT_FILE}"}} 3.0' in failures
    printed = capfd.readouterr().err
    assert printed.count("log-not-written") == 2  # once a file, not once a line
    assert "Jane" not in printed
    service.predict(blob_png)
    gap, request = waited(service.audit, 2)
    assert (gap["event"], gap["lost"], request["status"]) == ("gap", 3, 200)


def test_log_folder_that_cannot_be_written(classifier, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServeError, match="cannot be written"):
        create_app(classifier, Settings(log_dir=tmp_path / "file" / "logs"))


def test_what_the_service_writes_can_be_read_back(start, classifier, blob_png) -> None:
    service = start(classifier)
    for _ in range(3):
        service.predict(blob_png)
    service.predict(b"no image")
    waited(service.audit, 4)
    found = Found()
    summary = summarise(records(find_logs([service.audit.parent]), Span(), found))
    assert summary.requests == 4
    assert summary.by_model["chest/1"] == {"200": 3, "415": 1}
    assert summary.latency_ms["model"]["n"] == summary.answered["chest/1"] == 3
    assert summary.problems == {"unsupported-format": 1}
    assert found.broken == 0
