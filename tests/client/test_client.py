"""The client against a service that is a stub: every route, what is sent, and what becomes of what comes back."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import zipfile
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from python_multipart.multipart import parse_options_header

from medrail.client import Classification, ClassificationDifference, MaskDifference, Segmentation
from medrail.errors import ConfigError, InputError, ServiceError, ServiceUnreachable, UnsupportedFormat
from medrail.read import read_mask, write_nifti
from medrail.types import Geometry, Image

COMMON = {
    "model_name": "chest",
    "model_version": "2",
    "bundle_id": "chest/2@0123",
    "inference_time_ms": 12.5,
    "timings_ms": {"model": 10.0},
    "request_id": "r",
    "disclaimer": "Not a medical device.",
}
CLASSIFICATION = COMMON | {
    "task": "classification",
    "class_name": "normal",
    "confidence": 0.75,
    "probabilities": {"normal": 0.75, "pneumonia": 0.25},
}
LABELS = Image(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(1, 2, 3, 4) % 3, Geometry(np.diag([4.0, 3, 2, 1])), "label")


@pytest.fixture(scope="module")
def nifti(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("mask") / "mask.nii.gz"
    write_nifti(LABELS, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def segmentation(nifti: bytes) -> dict[str, Any]:
    classes = [
        {"index": 0, "name": "background", "colour": None, "voxels": 8, "volume_ml": 0.192},
        {"index": 1, "name": "brain", "colour": "#e69f00", "voxels": 8, "volume_ml": 0.192},
    ]
    mask = {
        "shape": [2, 3, 4],
        "axes": ["D", "H", "W"],
        "spacing_mm": [2.0, 3.0, 4.0],
        "classes": classes,
        "encoding": "nifti.gz;base64",
        "data": base64.b64encode(nifti).decode(),
        "rle": None,
    }
    return COMMON | {"task": "segmentation", "mask": mask}


class Service:
    """Answers by the table; keeps what it was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers[f"{request.method} {request.url.path}"]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)


def parts(request: httpx.Request) -> list[tuple[str, bytes]]:
    """(field, content) of a multipart request."""
    _, options = parse_options_header(request.headers["content-type"])
    found = []
    for part in request.content.split(b"--" + options[b"boundary"])[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        _, disposition = parse_options_header(head.split(b"Content-Disposition: ")[1].split(b"\r\n")[0])
        assert disposition[b"filename"] == b"file"
        found.append((disposition[b"name"].decode(), content.removesuffix(b"\r\n")))
    return found


def test_models_and_card(stub) -> None:
    entry = {
        "name": "chest",
        "version": "2",
        "bundle_id": "chest/2@0123",
        "default": True,
        "task": "classification",
        "classes": ["normal", "pneumonia"],
        "news": [1, 2],
    }
    service = Service(
        {"GET /v1/models": {"models": [entry]}, "GET /v1/models/a b/c/card": httpx.Response(200, text="# A")}
    )
    client = stub(service)
    (model,) = client.models()
    assert (model.name, model.classes, model.default) == ("chest", ("normal", "pneumonia"), True)
    assert model.raw["news"] == [1, 2]
    assert client.card("a b/c") == "# A"
    assert service.requests[-1].url.raw_path == b"/v1/models/a%20b%2Fc/card"


def test_a_classification(stub) -> None:
    values = np.array([[[1.5, -2.0]]], "<f4")
    numbers = {"shape": [1, 1, 2], "data": base64.b64encode(zlib.compress(values.tobytes())).decode()}
    told = {"exact": True, "class_name": "normal", "overlay_png": base64.b64encode(b"PNG").decode(), "map": numbers}
    service = Service({"POST /v1/predict/image": CLASSIFICATION | {"evidence": told, "conformal_set": ["normal"]}})
    answer = stub(service).predict(b"bytes", "chest", "2", roi=b"roi", evidence=True, evidence_map=True)
    assert isinstance(answer, Classification)
    assert (answer.class_name, answer.confidence, answer.conformal_set) == ("normal", 0.75, ("normal",))
    assert answer.evidence is not None
    assert answer.evidence.overlay_png == b"PNG"
    np.testing.assert_array_equal(answer.evidence.map, values)
    (request,) = service.requests
    assert parts(request) == [("file", b"bytes"), ("roi", b"roi")]
    assert dict(request.url.params) == {
        "model": "chest/2",
        "mask": "file",
        "evidence": "true",
        "evidence_map": "true",
    }
    assert request.headers["accept"] == "application/json"
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.class_name = "other"  # type: ignore[misc]


def test_a_segmentation(stub, segmentation) -> None:
    answer = stub(Service({"POST /v1/predict/image": segmentation})).predict(b"bytes")
    assert isinstance(answer, Segmentation)
    assert answer.volumes_ml == {"brain": 0.192}
    mask = answer.mask.image()
    np.testing.assert_array_equal(mask.voxels, LABELS.voxels)
    np.testing.assert_array_equal(answer.mask.labels(), LABELS.voxels[0])
    np.testing.assert_allclose(mask.geometry.affine_ras_mm, LABELS.geometry.affine_ras_mm)
    without = json.loads(json.dumps(segmentation))
    without["mask"] |= {"encoding": None, "data": None}
    service = Service({"POST /v1/predict/image": without})
    bare = stub(service).predict(b"bytes", mask=False)
    assert isinstance(bare, Segmentation)
    assert service.requests[0].url.params["mask"] == "none"
    with pytest.raises(ServiceError, match="mask=True"):
        bare.mask.image()


def test_run_lengths(stub, segmentation) -> None:
    flat = LABELS.voxels.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=255))
    lengths = np.diff([*starts, len(flat)])
    told = json.loads(json.dumps(segmentation))
    runs = {"values": flat[starts].tolist(), "lengths": lengths.tolist()}
    told["mask"] |= {"encoding": None, "data": None, "rle": runs}
    service = Service({"POST /v1/predict/image": told})
    answer = stub(service).predict(b"bytes")
    assert isinstance(answer, Segmentation)
    np.testing.assert_array_equal(answer.mask.labels(), LABELS.voxels[0])
    for broken in (
        {"values": [1], "lengths": [5]},
        {"values": [1]},
        {"values": [300], "lengths": [24]},
        {"values": ["x"]},
    ):
        told["mask"]["rle"] = broken
        mask = stub(service).predict(b"bytes")
        assert isinstance(mask, Segmentation)
        with pytest.raises(ServiceError, match="run lengths"):
            mask.mask.labels()


def test_keys_of_tomorrow_are_no_error(stub) -> None:
    newer = CLASSIFICATION | {"news": {"a": 1}, "timings_ms": {"model": 1.0, "network": 2.0}}
    assert stub(Service({"POST /v1/predict/image": newer})).predict(b"x").raw["news"] == {"a": 1}


@pytest.mark.parametrize("name", ["mask.nii.gz", "MASK.PNG", "mask.dcm"])
def test_a_mask_is_written_in_the_form_of_its_name(stub, tmp_path, name) -> None:
    service = Service({"POST /v1/predict/image": httpx.Response(200, content=b"content")})
    path = stub(service).mask(b"x", tmp_path / name)
    assert path.read_bytes() == b"content"
    forms = {"gz": "application/x-nifti", "png": "image/png", "dcm": "application/dicom"}
    assert service.requests[0].headers["accept"] == forms[name.lower().rpartition(".")[2]]


def test_a_mask_as_an_image(stub, nifti) -> None:
    mask = stub(Service({"POST /v1/predict/image": httpx.Response(200, content=nifti)})).mask(b"x")
    np.testing.assert_array_equal(mask.voxels, LABELS.voxels)


def test_wrong_usage_is_told_before_anything_is_sent(stub, tmp_path) -> None:
    client = stub(Service({}))
    with pytest.raises(ConfigError, match=r"\.nii\.gz"):
        client.mask(b"x", tmp_path / "mask.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="folder"):
        client.volume(b"x", tmp_path / "file" / "mask.nii.gz")
    with pytest.raises(ConfigError, match="version"):
        client.predict(b"x", version="2")
    assert client.batch([]) == ()


# Sources


def sent(stub, source: Any) -> bytes:
    service = Service({"POST /v1/predict/image": CLASSIFICATION})
    stub(service).predict(source)
    ((_, content),) = parts(service.requests[0])
    return content


@pytest.mark.parametrize("array", [np.arange(12, dtype=np.uint8).reshape(3, 4), np.eye(5, dtype=np.uint16) * 60_000])
def test_an_array_becomes_a_picture(stub, array) -> None:
    from PIL import Image as Picture

    np.testing.assert_array_equal(np.asarray(Picture.open(io.BytesIO(sent(stub, array)))), array)


def test_colour_and_stored_pictures(stub) -> None:
    from PIL import Image as Picture

    colour = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
    image = Image(np.moveaxis(colour, -1, 0)[:, np.newaxis], unit="uint8")
    for source in (colour, image):
        np.testing.assert_array_equal(np.asarray(Picture.open(io.BytesIO(sent(stub, source)))), colour)


def test_an_image_with_a_place_becomes_a_nifti(stub, tmp_path) -> None:
    path = tmp_path / "back.nii.gz"
    path.write_bytes(sent(stub, LABELS))
    back = read_mask(path)
    np.testing.assert_array_equal(back.voxels, LABELS.voxels)
    np.testing.assert_allclose(back.geometry.affine_ras_mm, LABELS.geometry.affine_ras_mm)


def test_a_folder_becomes_a_zip_without_its_names(stub, tmp_path) -> None:
    (tmp_path / "Doe^Jane").mkdir()
    for number in range(3):
        (tmp_path / "Doe^Jane" / f"Doe{number}.dcm").write_bytes(bytes([number]) * 9)
    content = sent(stub, tmp_path)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [bytes([number]) * 9 for number in range(3)]
    assert b"Doe" not in content


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (np.zeros((3, 4), np.float32), InputError),
        (np.zeros((2, 3, 4), np.uint8), InputError),
        (np.zeros((3, 4, 3), np.uint16), InputError),
        ("no/such/file.png", UnsupportedFormat),
    ],
)
def test_what_cannot_be_sent(stub, source, error) -> None:
    with pytest.raises(error):
        stub(Service({})).predict(source)


def test_an_empty_folder_cannot_be_sent(stub, tmp_path) -> None:
    with pytest.raises(UnsupportedFormat, match="no file"):
        stub(Service({})).predict(tmp_path)


# Jobs


def job(status: str, progress: float = 0.0, **more: Any) -> dict[str, Any]:
    return {
        "job_id": "0123abcd",
        "status": status,
        "progress": progress,
        "links": {"self": "http://evil.test/x"},
    } | more


JOB = "GET /v1/jobs/0123abcd"


def begun(later: list[Any], **more: Any) -> Service:
    answers = {
        "POST /v1/predict/volume": httpx.Response(202, json=job("queued")),
        JOB: later,
        "DELETE /v1/jobs/0123abcd": {},
    }
    return Service(answers | more)


def test_a_volume_that_takes_long(stub, waits, segmentation) -> None:
    later = [job("queued"), job("running", 0.4), job("done", 1.0)]
    service = begun(later, **{f"{JOB}/result": segmentation})
    seen: list[tuple[float, str]] = []
    answer = stub(service).volume(b"x", on_progress=lambda *told: seen.append(told))
    assert isinstance(answer, Segmentation)
    assert seen == [(0.0, "queued"), (0.0, "queued"), (0.4, "running"), (1.0, "done")]
    assert waits == sorted(waits)
    assert {request.url.host for request in service.requests} == {"service.test"}
    assert [request.method for request in service.requests] == ["POST", "GET", "GET", "GET", "GET", "DELETE"]
    assert service.requests[0].headers["prefer"] == "respond-async"


def test_a_volume_that_is_answered_at_once(stub, segmentation, nifti, tmp_path) -> None:
    seen: list[tuple[float, str]] = []
    service = Service({"POST /v1/predict/volume": segmentation})
    assert isinstance(stub(service).volume(b"x", on_progress=lambda *told: seen.append(told)), Segmentation)
    assert seen == [(1.0, "done")]
    written = Service({"POST /v1/predict/volume": httpx.Response(200, content=nifti)})
    assert stub(written).volume(b"x", tmp_path / "m.nii.gz").read_bytes() == nifti
    assert "prefer" not in written.requests[0].headers


def test_a_jobs_mask_is_written(stub, waits, nifti, tmp_path) -> None:
    service = begun([job("done", 1.0)], **{f"{JOB}/result": httpx.Response(200, content=nifti)})
    assert stub(service).volume(b"x", tmp_path / "m.nii.gz").read_bytes() == nifti
    assert service.requests[-2].headers["accept"] == "application/x-nifti"


def test_a_job_that_fails_says_why(stub, waits, problem) -> None:
    told = json.loads(problem("corrupt-file", 422).content)
    with pytest.raises(ServiceError, match="needed: a picture") as raised:
        stub(begun([job("failed", problem=told)])).volume(b"x")
    assert (raised.value.kind, raised.value.status) == ("corrupt-file", 422)


def test_a_job_that_somebody_cancelled(stub, waits) -> None:
    with pytest.raises(ServiceError, match="cancelled"):
        stub(begun([job("cancelled")])).volume(b"x")


@pytest.mark.parametrize("ending", [KeyboardInterrupt, ValueError])
def test_who_stops_waiting_cancels_the_job(stub, waits, ending) -> None:
    def stop(progress: float, status: str) -> None:
        if status == "running":
            raise ending

    service = begun([job("running", 0.5)])
    with pytest.raises(ending):
        stub(service).volume(b"x", on_progress=stop)
    assert service.requests[-1].method == "DELETE"


def test_waiting_has_an_end(stub, segmentation) -> None:
    service = begun([job("running", 0.5)])
    with pytest.raises(ServiceUnreachable, match="wait_s"):
        stub(service).volume(b"x", wait_s=0.15)
    assert service.requests[-1].method == "DELETE"


@pytest.mark.parametrize("identity", [None, "", "../admin", "a/b", 5, "x" * 65])
def test_an_id_that_leads_elsewhere_is_not_followed(stub, waits, identity) -> None:
    service = Service({"POST /v1/predict/volume": httpx.Response(202, json=job("queued") | {"job_id": identity})})
    with pytest.raises(ServiceError, match="no id"):
        stub(service).volume(b"x")
    assert len(service.requests) == 1


# Several, and two


def test_a_batch_keeps_its_order(stub, problem) -> None:
    told = json.loads(problem("corrupt-file", 422).content)
    items = [
        {"index": 0, "status": 200, "answer": CLASSIFICATION, "problem": None},
        {"index": 1, "status": 422, "answer": None, "problem": told},
    ]
    service = Service({"POST /v1/predict/batch": {"items": items}})
    client = stub(service)
    first, second = client.batch([b"one", b"two"], "chest")
    assert isinstance(first, Classification)
    assert isinstance(second, ServiceError)
    assert second.kind == "corrupt-file"
    assert parts(service.requests[0]) == [("file", b"one"), ("file", b"two")]
    with pytest.raises(ServiceError, match="each image"):
        client.batch([b"one"])


def test_two_classifiers(stub) -> None:
    difference = {"kind": "classification", "same_decision": True, "probabilities": {"normal": 0.1}, "largest": 0.1}
    told = {"first": CLASSIFICATION, "second": CLASSIFICATION, "difference": difference, "request_id": "r"}
    service = Service({"POST /v1/compare": told})
    comparison = stub(service).compare("chest/1", "chest/2", b"x")
    assert isinstance(comparison.difference, ClassificationDifference)
    assert comparison.difference.largest == 0.1
    assert service.requests[0].url.params["first"] == "chest/1"


def test_two_segmenters_as_a_job(stub, waits, segmentation) -> None:
    each = {"name": "brain", "voxels": [8, 7], "volume_ml": [0.2, 0.1], "volume_difference_ml": -0.1, "dice": 0.9}
    difference = {
        "kind": "segmentation",
        "voxels": 1,
        "volume_ml": 0.02,
        "share": 0.1,
        "classes": [each],
        "map": segmentation["mask"],
    }
    told = {"first": segmentation, "second": segmentation, "difference": difference, "request_id": "r"}
    answers = {
        "POST /v1/compare": httpx.Response(202, json=job("queued")),
        JOB: job("done"),
        f"{JOB}/result": told,
        JOB.replace("GET", "DELETE"): {},
    }
    comparison = stub(Service(answers)).compare("brain/1", "brain/2", b"x")
    assert isinstance(comparison.difference, MaskDifference)
    assert comparison.difference.classes[0].voxels == (8, 7)
    assert comparison.difference.map.image().voxels.shape == (1, 2, 3, 4)


@pytest.mark.parametrize("missing", ["model_name", "probabilities"])
def test_an_answer_that_lacks_something(stub, missing) -> None:
    less = {name: value for name, value in CLASSIFICATION.items() if name != missing}
    with pytest.raises(ServiceError, match="lacks"):
        stub(Service({"POST /v1/predict/image": less})).predict(b"x")


def test_broken_parts_of_an_answer(stub) -> None:
    for map_ in ({"shape": [5], "data": "AAAA"}, {"shape": [1]}, {"shape": [1], "data": "no base64!"}):
        told = CLASSIFICATION | {"evidence": {"exact": True, "map": map_}}
        with pytest.raises(ServiceError, match="lacks"):
            stub(Service({"POST /v1/predict/image": told})).predict(b"x")
