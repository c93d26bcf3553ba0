"""With a real PACS (Orthanc): listed, pulled, answered, stored, and read there. Skips where there is none."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless, generate_uid

from dicom_objects import said, seg_voxels
from faults import good_series
from medrail.bundle import InputKind, NetworkSpec, load_bundle
from medrail.cli import main
from medrail.config import PacsConfig
from medrail.read import read, write_nifti
from orthanc_server import PASSWORD, USER, Orthanc, orthanc
from small_bundles import classifier_network, segmenter_network, write_bundle

PATIENT = {
    "PatientName": "Secretive^Sally",
    "PatientID": "PID-4711",
    "PatientBirthDate": "19610423",
    "AccessionNumber": "ACC-55021",
    "ReferringPhysicianName": "House^Gregory",
    "StudyDescription": "Sally follow up",
    "SeriesDescription": "Sally thorax",
    "InstitutionName": "Saint Elsewhere",
}


@pytest.fixture(scope="module")
def archive() -> Iterator[Orthanc]:
    with orthanc() as one:
        if one is None:
            pytest.skip("no Orthanc with DICOMweb here")
        yield one


@pytest.fixture
def pacs(archive: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Orthanc:
    """Empty, and the service knows who it is there."""
    archive.empty()
    monkeypatch.setenv("MEDRAIL_PACS_USER", USER)
    monkeypatch.setenv("MEDRAIL_PACS_PASSWORD", PASSWORD)
    return archive


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bands of CT numbers."""
    classes, kind = ("background", "low", "höher", "肿瘤"), InputKind(False, 1, "HU")
    spec = NetworkSpec("segmentation", classes, 3, 1, ({"kind": "orient", "axes": "RAS"},), kind)
    network = segmenter_network(3, (-900.0, -700.0, -500.0))
    return write_bundle(tmp_path_factory.mktemp("bundles"), "organ", network, spec)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = NetworkSpec("classification", ("no", "yes"), 3, 1, (), InputKind(False, 1, "HU"))
    return write_bundle(tmp_path_factory.mktemp("bundles"), "yesno", classifier_network(2, 1, 3), spec)


def content_of(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def ct_series(pacs: Orthanc, seed: int = 0, **changes: Any) -> list[Dataset]:
    """A series in the PACS."""
    slices = good_series(np.random.default_rng(seed))
    for one in slices:
        one.StudyDate, one.SeriesNumber, one.BodyPartExamined = "20260131", 3, "CHEST"
        for name, value in {**PATIENT, **changes}.items():
            setattr(one, name, value)
        pacs.put(content_of(one))
    return slices


def serving(start: Callable[..., Any], bundle: Path, pacs: Orthanc, **more: Any) -> Any:
    return start(bundle, pacs=PacsConfig(url=pacs.root, **more))


def done(client: httpx.Client, slices: list[Dataset], **wanted: Any) -> dict[str, Any]:
    """The job's last state."""
    body = {"study_uid": slices[0].StudyInstanceUID, "series_uid": slices[0].SeriesInstanceUID, **wanted}
    answer = client.post("/v1/pacs/predict", json=body)
    assert answer.status_code == 202, answer.text
    state: dict[str, Any] = answer.json()
    last = time.monotonic() + 60
    while state["status"] in ("queued", "running") and time.monotonic() < last:
        time.sleep(0.02)
        state = client.get(state["links"]["self"]).json()
    return state


def result(client: httpx.Client, slices: list[Dataset], **wanted: Any) -> dict[str, Any]:
    state = done(client, slices, **wanted)
    assert state["status"] == "done", state
    assert state["progress"] == 1
    found: dict[str, Any] = client.get(state["links"]["result"]).json()
    return found


def kept(pacs: Orthanc, modality: str) -> list[bytes]:
    """The objects of a modality that the PACS has."""
    found = pacs.find("Instance", Modality=modality)
    return [pacs.client.get(f"/instances/{one['ID']}/file").content for one in found]


def test_a_series_is_listed_segmented_and_stored_and_the_pacs_reads_it(
    start: Any, segmenter: Path, pacs: Orthanc, tmp_path: Path
) -> None:
    import highdicom

    slices = ct_series(pacs)
    client = serving(start, segmenter, pacs).client
    assert client.get("/v1/pacs").json() == {"answers": True, "problem": None, "detail": None}
    (study,) = client.get("/v1/pacs/studies").json()["studies"]
    assert study == {
        "study_uid": slices[0].StudyInstanceUID,
        "date": "2026-01-31",
        "modalities": ["CT"],
        "series": 1,
        "images": len(slices),
        "takes": True,
    }
    (series,) = client.get(f"/v1/pacs/studies/{study['study_uid']}/series").json()["series"]
    assert series == {
        "series_uid": slices[0].SeriesInstanceUID,
        "number": 3,
        "modality": "CT",
        "body_part": "CHEST",
        "images": len(slices),
        "description": None,
        "takes": True,
        "why_not": None,
    }
    answer = result(client, slices)
    assert answer["stored"] is True
    assert answer["note"] is None
    digests = sorted(hashlib.sha256(content_of(one)).hexdigest() for one in slices)
    assert answer["input_sha256"] == hashlib.sha256("".join(digests).encode()).hexdigest()  # not transcoded on the way

    (seg,), (sr,) = kept(pacs, "SEG"), kept(pacs, "SR")
    for content, told in zip((seg, sr), answer["objects"], strict=True):
        dataset = pydicom.dcmread(io.BytesIO(content))
        assert (dataset.SOPInstanceUID, dataset.SeriesInstanceUID) == (told["sop_instance_uid"], told["series_uid"])
        assert dataset.StudyInstanceUID == slices[0].StudyInstanceUID
        for name in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"):
            assert dataset.get(name) == PATIENT[name]
    read_again = highdicom.seg.segread(io.BytesIO(seg))
    assert [one.SegmentLabel for one in read_again.SegmentSequence] == ["low", "höher", "肿瘤"]
    assert read_again.ReferencedSeriesSequence[0].SeriesInstanceUID == slices[0].SeriesInstanceUID
    referenced = {str(one.ReferencedSOPInstanceUID) for one in read_again.ReferencedSeriesSequence[0][0x8114A]}
    assert referenced == {str(one.SOPInstanceUID) for one in slices}

    (tmp_path / "series").mkdir()
    for index, one in enumerate(slices):
        (tmp_path / "series" / f"{index}").write_bytes(content_of(one))
    prediction = load_bundle(segmenter)(read(tmp_path / "series"))
    write_nifti(prediction.mask, tmp_path / "mask.nii.gz")
    (tmp_path / "seg.dcm").write_bytes(seg)
    (tmp_path / "sr.dcm").write_bytes(sr)
    placed = seg_voxels(tmp_path / "seg.dcm", tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(placed, prediction.mask.voxels[0].T)
    assert said(tmp_path / "sr.dcm")["Volume"] == pytest.approx(list(answer["volumes_ml"].values()), rel=1e-4)

    listed = client.get(f"/v1/pacs/studies/{study['study_uid']}/series").json()["series"]
    assert {one["modality"]: one["why_not"] for one in listed} == {
        "CT": None,
        "SEG": "SEG holds no image.",
        "SR": "SR holds no image.",
    }


def test_a_classifier_stores_a_report(start: Any, classifier: Path, pacs: Orthanc, tmp_path: Path) -> None:
    slices = ct_series(pacs, 1)
    answer = result(serving(start, classifier, pacs).client, slices)
    assert [one["kind"] for one in answer["objects"]] == ["sr"]
    assert kept(pacs, "SEG") == []
    (tmp_path / "sr.dcm").write_bytes(*kept(pacs, "SR"))
    assert answer["class_name"] in [value for values in said(tmp_path / "sr.dcm").values() for value in values]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_nothing_is_stored_that_was_not_to_be(start: Any, classifier: Path, pacs: Orthanc) -> None:
    slices = ct_series(pacs, 1)
    answer = result(serving(start, classifier, pacs).client, slices, store=False)
    assert (answer["stored"], answer["note"]) == (False, "The answer was not to be stored.")
    assert len(pacs.ask("/instances")) == len(slices)


def test_compressed_images_come_as_they_are(start: Any, segmenter: Path, pacs: Orthanc) -> None:
    plain = ct_series(pacs, 2)
    packed = [pydicom.dcmread(io.BytesIO(content_of(one))) for one in plain]
    study, series = generate_uid(), generate_uid()
    for one in packed:
        one.compress(RLELossless, generate_instance_uid=True)
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        pacs.put(content_of(one))
    client = serving(start, segmenter, pacs).client
    first, second = result(client, plain), result(client, packed)
    assert first["volumes_ml"] == second["volumes_ml"]
    assert first["input_sha256"] != second["input_sha256"]


def test_nothing_that_identifies_is_listed_or_logged(
    start: Any, segmenter: Path, pacs: Orthanc, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    slices = ct_series(pacs, 3)
    service = start(segmenter, pacs=PacsConfig(url=pacs.root), log_to_stderr=True)
    client, study = service.client, slices[0].StudyInstanceUID
    answers = [
        client.get("/v1/pacs/studies"),
        client.get(f"/v1/pacs/studies/{study}/series"),
        client.get(f"/v1/pacs/studies/{study[:50]}.9/series"),
        client.get(f"/v1/pacs/studies/{study}x/series"),
        client.get("/v1/pacs/studies/Secretive^Sally/series"),
        client.post("/v1/pacs/search", json={"patient_id": "PID-4711"}),
        client.post("/v1/pacs/search", json={"accession_number": "Secretive^Sally*"}),
        client.post("/v1/pacs/predict", json={"study_uid": "Secretive^Sally", "series_uid": study}),
    ]
    assert [one.status_code for one in answers] == [200, 200, 404, 422, 422, 200, 422, 422]
    assert len(answers[5].json()["studies"]) == 1
    result(client, slices)
    unknown = done(client, slices, series_uid=f"{study[:50]}.77")
    assert (unknown["status"], unknown["problem"]["type"]) == ("failed", "urn:medrail:problem:pacs-not-found")
    shown = "".join(one.text for one in answers) + json.dumps(unknown)
    printed = capfd.readouterr()
    logged = service.log.read_text() + printed.err + printed.out + caplog.text
    assert logged.count('"event": "request"') > 20
    for value in [*PATIENT.values(), "Sally", "Secretive", "House", "4711", "55021", "Elsewhere"]:
        assert value not in shown
        assert value not in logged
    for uid in (study, slices[0].SeriesInstanceUID, slices[0].SOPInstanceUID, PASSWORD, pacs.root):
        assert uid not in logged
    assert service.left_over() == [] or all(path.name != "series" for path in service.uploads.rglob("*"))


def test_descriptions_are_listed_where_they_are_wanted(start: Any, segmenter: Path, pacs: Orthanc) -> None:
    study = ct_series(pacs)[0].StudyInstanceUID
    client = serving(start, segmenter, pacs, descriptions=True).client
    (series,) = client.get(f"/v1/pacs/studies/{study}/series").json()["series"]
    assert series["description"] == "Sally thorax"


def test_studies_are_found_by_what_is_known_of_them(start: Any, segmenter: Path, pacs: Orthanc) -> None:
    ct_series(pacs, 1)
    ct_series(pacs, 2, PatientID="OTHER", AccessionNumber="7", Modality="MR", StudyDate="20250601")
    client = serving(start, segmenter, pacs).client

    def dates(**query: Any) -> list[str]:
        return sorted(one["date"] for one in client.get("/v1/pacs/studies", params=query).json()["studies"])

    assert dates() == ["2025-06-01", "2026-01-31"]
    assert dates(modality="MR") == ["2025-06-01"]
    assert dates(date_from="2026-01-01") == ["2026-01-31"]
    assert dates(date_to="2025-12-31") == ["2025-06-01"]
    assert dates(date_from="2025-06-01", date_to="2026-12-31", modality="CT") == ["2026-01-31"]
    first = client.get("/v1/pacs/studies", params={"limit": 1}).json()
    second = client.get("/v1/pacs/studies", params={"limit": 1, "offset": 1}).json()
    third = client.get("/v1/pacs/studies", params={"limit": 1, "offset": 2}).json()
    assert {first["studies"][0]["date"], second["studies"][0]["date"]} == set(dates())
    assert (first["more"], third["more"], third["studies"]) == (True, False, [])
    found = client.post("/v1/pacs/search", json={"accession_number": "7"}).json()["studies"]
    assert [(one["date"], one["takes"]) for one in found] == [("2025-06-01", False)]
    assert client.post("/v1/pacs/search", json={"modality": "MR"}).status_code == 422


def test_what_the_model_cannot_take_is_marked_and_refused(start: Any, segmenter: Path, pacs: Orthanc) -> None:
    scout = ct_series(pacs, 1)[:1]
    study = scout[0].StudyInstanceUID
    alone = pydicom.dcmread(io.BytesIO(content_of(scout[0])))
    alone.SeriesInstanceUID, alone.SOPInstanceUID = generate_uid(), generate_uid()
    alone.file_meta.MediaStorageSOPInstanceUID = alone.SOPInstanceUID
    pacs.put(content_of(alone))
    echo = pydicom.dcmread(io.BytesIO(content_of(alone)))
    echo.SeriesInstanceUID, echo.SOPInstanceUID, echo.Modality = generate_uid(), generate_uid(), "MR"
    echo.file_meta.MediaStorageSOPInstanceUID = echo.SOPInstanceUID
    pacs.put(content_of(echo))
    client = serving(start, segmenter, pacs).client
    listed = client.get(f"/v1/pacs/studies/{study}/series").json()["series"]
    reasons = {one["series_uid"]: one["why_not"] for one in listed}
    assert reasons[scout[0].SeriesInstanceUID] is None
    assert reasons[alone.SeriesInstanceUID] == "The model was trained on volumes; this is one picture."
    assert reasons[echo.SeriesInstanceUID] == "The model was trained on CT in Hounsfield units."
    for one in (alone, echo):
        problem = done(client, [one])["problem"]
        assert problem["type"] == "urn:medrail:problem:unsuitable-image"
        assert problem["detail"] == reasons[one.SeriesInstanceUID]


def test_a_wrong_password_is_told_as_such(
    start: Any, segmenter: Path, pacs: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = ct_series(pacs)
    monkeypatch.setenv("MEDRAIL_PACS_PASSWORD", "wrong")
    client = serving(start, segmenter, pacs).client
    assert client.get("/v1/pacs").json()["problem"] == "pacs-denied"
    assert client.get("/v1/pacs/studies").status_code == 502
    assert done(client, slices)["problem"]["type"] == "urn:medrail:problem:pacs-denied"


def test_a_series_that_is_too_large(start: Any, segmenter: Path, pacs: Orthanc) -> None:
    slices = ct_series(pacs)
    few = done(serving(start, segmenter, pacs, max_series_files=len(slices) - 1).client, slices)
    assert few["problem"]["type"] == "urn:medrail:problem:unsuitable-image"
    small = done(serving(start, segmenter, pacs, max_series_mb=0.004).client, slices)
    assert small["problem"]["type"] == "urn:medrail:problem:pacs-too-large"
    voxels = done(start(segmenter, pacs=PacsConfig(url=pacs.root), max_megavoxels=1e-4).client, slices)
    assert voxels["problem"]["type"] == "urn:medrail:problem:too-many-voxels"


def test_the_commands_of_the_page_are_those_that_work(start: Any, segmenter: Path, pacs: Orthanc) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    slices = ct_series(pacs, AccessionNumber="A4711")
    client = serving(start, segmenter, pacs).client
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "pacs.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S) for line in block.split("\ncurl")]
    answers = []
    for line in lines:
        words = shlex.split("curl " + line.replace("\\\n", " ").removeprefix("curl"))
        for placeholder, meant in (
            ("http://127.0.0.1:8000", str(client.base_url).rstrip("/")),
            ("STUDY_UID", slices[0].StudyInstanceUID),
            ("SERIES_UID", slices[0].SeriesInstanceUID),
        ):
            words = [word.replace(placeholder, meant) for word in words]
        done = subprocess.run([*words, "-sS", "--noproxy", "*"], capture_output=True, text=True, check=True, timeout=60)
        answers.append(json.loads(done.stdout))
    found, searched, series, state = answers
    assert [one["studies"][0]["study_uid"] for one in (found, searched)] == [slices[0].StudyInstanceUID] * 2
    assert series["series"][0]["series_uid"] == slices[0].SeriesInstanceUID
    assert state["status"] in ("queued", "running", "done")
    last = time.monotonic() + 60
    while client.get(state["links"]["self"]).json()["status"] in ("queued", "running") and time.monotonic() < last:
        time.sleep(0.02)
    told = client.get(state["links"]["result"]).json()
    (example,) = re.findall(r"^```json\n(.*?)^```", page, re.M | re.S)
    shown = json.loads(example)
    assert shown.keys() <= told.keys()
    assert all(shown["objects"][0].keys() == one.keys() for one in told["objects"])
    assert shown["timings_ms"].keys() <= told["timings_ms"].keys()
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "service.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in reference for key in {*told, *told["timings_ms"]} - {"disclaimer"})


@pytest.mark.slow
def test_the_command_line_serves_with_a_pacs(segmenter: Path, pacs: Orthanc, tmp_path: Path) -> None:
    slices = ct_series(pacs)
    command = [Path(sys.executable).parent / "medrail", "serve", segmenter, "--pacs", pacs.root, "--port", "0"]
    options = ["--threads", "1", "--log-dir", tmp_path / "logs"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            lines = iter(running.stdout.readline, "")
            url = next(found[1] for line in lines if (found := re.search(r"PACS +(http://\S+)/v1/pacs$", line.strip())))
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                assert client.get("/v1/pacs").json()["answers"] is True
                assert result(client, slices)["stored"] is True
        finally:
            running.terminate()
            printed = "".join(running.communicate(timeout=60))
    assert len(kept(pacs, "SEG")) == 1
    logged = printed + "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert PASSWORD not in logged
    assert slices[0].StudyInstanceUID not in logged


def test_a_wrong_address_is_told_before_anything_is_served(
    segmenter: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MEDRAIL_PACS_{name}", raising=False)
    for url, words in (
        ("http://sally:ge-heim@127.0.0.1/dicom-web", "user or a password"),
        ("http://pacs.example.org/dicom-web", "https://"),
    ):
        assert main(["serve", str(segmenter), "--pacs", url, "--port", "0"]) == 2
        said = capsys.readouterr()
        assert words in said.err
        assert "ge-heim" not in said.err + said.out


@pytest.mark.shared
def test_a_real_series(start: Any, segmenter: Path, pacs: Orthanc, shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "dicom" / "ct_ge_17").iterdir())
    for path in paths:
        pacs.put(path.read_bytes())
    answer = result(serving(start, segmenter, pacs).client, [pydicom.dcmread(paths[0])])
    assert (answer["images"], answer["stored"]) == (17, True)
    prediction = load_bundle(segmenter)(read(shared_data / "dicom" / "ct_ge_17"))
    write_nifti(prediction.mask, tmp_path / "mask.nii.gz")
    (tmp_path / "seg.dcm").write_bytes(*kept(pacs, "SEG"))
    placed = seg_voxels(tmp_path / "seg.dcm", tmp_path / "mask.nii.gz", 0.2)
    np.testing.assert_array_equal(placed, prediction.mask.voxels[0].T)
