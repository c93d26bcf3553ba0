"""The Open Inference Protocol: the real tritonclient against a real server, and every wrong request against the law."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from medrail.bundle import load_bundle
from medrail.read import read
from medrail.serve import Settings, create_app
from medrail.types import Image

LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("v2-log")


@pytest.fixture(scope="module")
def url(
    run_app,
    classifier,
    volume_segmenter,
    calibrated_classifier,
    findings_classifier,
    roi_classifier,
    picture_segmenter,
    log,
) -> Iterator[str]:
    bundles = [classifier, volume_segmenter, calibrated_classifier, findings_classifier, roi_classifier]
    settings = Settings(log_to_stderr=False, threads=1, max_upload_mb=2, max_json_mb=1, log_dir=log, temp_dir=log)
    with run_app(create_app([*bundles, picture_segmenter], settings)) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        yield client


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        yield client


def image_input(values: np.ndarray, *, binary: bool = True, datatype: str = "FP32") -> triton.InferInput:
    given = triton.InferInput("image", list(values.shape), datatype)
    return given.set_data_from_numpy(values, binary_data=binary)


def file_input(content: bytes, name: str = "file") -> triton.InferInput:
    return triton.InferInput(name, [1], "BYTES").set_data_from_numpy(np.array([content], dtype=np.object_))


def prepared(bundle: Path, array: np.ndarray) -> tuple[Any, np.ndarray]:
    """The predictor, and (D, C, H, W) of a grey picture as its network takes it."""
    predictor = load_bundle(bundle, threads=1)
    image = predictor.prepare(Image(array[np.newaxis, np.newaxis], unit="uint8"))
    return predictor, np.ascontiguousarray(np.moveaxis(np.asarray(image.voxels, np.float32), 1, 0))


# What there is


def test_server_and_models(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "medrail"
    assert "binary_tensor_data" in metadata["extensions"]
    for name in ("chest", "chest:file"):
        assert client.is_model_ready(name)
        assert client.is_model_ready(name, "1")
        assert not client.is_model_ready(name, "2")
    assert not client.is_model_ready("nobody")
    names = {(entry["name"], entry["version"], entry["state"]) for entry in client.get_model_repository_index()}
    assert ("brain", "1", "READY") in names
    assert ("brain:file", "1", "READY") in names


def test_metadata_is_that_of_the_network(client) -> None:
    chest = client.get_model_metadata("chest", "1")
    assert chest["versions"] == ["1"]
    assert chest["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]
    assert chest["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    brain = client.get_model_metadata("brain")
    assert brain["inputs"][0]["shape"] == [-1, 1, 16, 16, 16]
    assert brain["outputs"][0]["shape"] == [-1, 3, 16, 16, 16]
    assert [output["name"] for output in client.get_model_metadata("bright")["outputs"]] == [
        "logits",
        "features",
        "evidence",
    ]
    assert [given["name"] for given in client.get_model_metadata("lesion:file")["inputs"]] == ["file", "roi"]


def test_configuration_is_that_of_the_triton_export(client) -> None:
    config = client.get_model_config("chest", "1")
    assert config["max_batch_size"] == 16
    assert config["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [3, 32, 32]}]
    assert client.get_model_config("chest:file")["input"] == [{"name": "file", "data_type": "TYPE_STRING", "dims": [1]}]


# The network


@pytest.mark.parametrize("compressed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_what_the_predictor_says(client, classifier, blob, binary: bool, compressed) -> None:
    predictor, values = prepared(classifier, blob)
    expected = predictor.answers(predictor.prepare(Image(blob[np.newaxis, np.newaxis], unit="uint8"))).logits
    result = client.infer(
        "chest",
        [image_input(values, binary=binary)],
        model_version="1",
        request_id="a 1",
        outputs=[triton.InferRequestedOutput("logits", binary_data=binary)],
        request_compression_algorithm=compressed,
    )
    np.testing.assert_array_equal(result.as_numpy("logits"), expected[np.newaxis])
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("chest", "1", "a 1")


def test_outputs_are_all_in_binary_where_none_is_named(client, calibrated_classifier, blob) -> None:
    predictor, values = prepared(calibrated_classifier, blob)
    answers = predictor.answers(predictor.prepare(Image(blob[np.newaxis, np.newaxis], unit="uint8")))
    result = client.infer("bright", [image_input(values)])
    np.testing.assert_array_equal(result.as_numpy("logits"), answers.logits[np.newaxis])
    np.testing.assert_array_equal(result.as_numpy("features"), answers.features[np.newaxis])
    np.testing.assert_array_equal(result.as_numpy("evidence")[0], answers.evidence[:, 0])


def test_a_batch_is_answered_image_by_image(client, classifier, blob) -> None:
    _, values = prepared(classifier, blob)
    many = np.concatenate([values * scale for scale in np.linspace(-1, 1, 35, dtype=np.float32)])
    together = client.infer("chest", [image_input(many)]).as_numpy("logits")
    alone = [client.infer("chest", [image_input(one[np.newaxis])]).as_numpy("logits")[0] for one in many]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    assert len(np.unique(together, axis=0)) == 35


def test_volumes_by_the_window(client, volume_segmenter) -> None:
    values = np.random.default_rng(5).normal(size=(3, 1, 16, 16, 16)).astype(np.float32)
    predictor = load_bundle(volume_segmenter, threads=1)
    found = client.infer("brain", [image_input(values)]).as_numpy("logits")
    np.testing.assert_array_equal(found, np.concatenate([predictor.backend(one[np.newaxis]) for one in values]))


def test_half_precision_is_taken_as_it_is(client, classifier, blob) -> None:
    _, values = prepared(classifier, blob)
    half = values.astype(np.float16)
    found = client.infer("chest", [image_input(half, datatype="FP16")]).as_numpy("logits")
    as_single = client.infer("chest", [image_input(half.astype(np.float32))]).as_numpy("logits")
    np.testing.assert_array_equal(found, as_single)


def test_classes_by_name(client, classifier, blob) -> None:
    _, values = prepared(classifier, blob)
    logits = client.infer("chest", [image_input(values)]).as_numpy("logits")[0]
    wanted = triton.InferRequestedOutput("logits", class_count=2)
    (best, second), *more = client.infer("chest", [image_input(values)], outputs=[wanted]).as_numpy("logits")
    assert not more
    value, index, label = best.decode().split(":")
    assert int(index) == np.argmax(logits)
    assert label == ("normal", "bacterial pneumonia", "viral pneumonia")[int(index)]
    assert float(value) == pytest.approx(logits.max(), abs=1e-6)
    assert float(second.decode().split(":")[0]) == pytest.approx(np.sort(logits)[-2], abs=1e-6)


def test_asynchronous_requests_share_the_service(client, classifier, blob) -> None:
    _, values = prepared(classifier, blob)
    pending = [client.async_infer("chest", [image_input(values * n)]) for n in range(6)]
    found = [request.get_result().as_numpy("logits")[0] for request in pending]
    for n, logits in enumerate(found):
        np.testing.assert_allclose(logits, n * found[1], rtol=1e-4, atol=1e-5)


def test_a_client_as_kserves(http, classifier, blob) -> None:
    """KServe's InferenceRESTClient reads these members of the health answers, and sends JSON or JSON and bytes."""
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/v2/models/chest/ready").is_success
    _, values = prepared(classifier, blob)
    entry = {"name": "image", "shape": list(values.shape), "datatype": "FP32"}
    in_json = http.post("/v2/models/chest/infer", json={"inputs": [entry | {"data": values.ravel().tolist()}]})
    assert in_json.headers["content-type"] == "application/json"
    nested = http.post("/v2/models/chest/infer", json={"inputs": [entry | {"data": values.tolist()}]})
    assert in_json.json() == nested.json()
    head = json.dumps({"inputs": [entry | {"parameters": {"binary_data_size": values.nbytes}}]}).encode()
    headers = {LENGTH: str(len(head)), "content-type": "application/octet-stream"}
    in_binary = http.post("/v2/models/chest/infer", content=head + values.tobytes(), headers=headers)
    assert in_binary.json() == in_json.json()
    nulls = {"id": None, "outputs": None, "parameters": None}
    flat = entry | {"data": values.ravel().tolist(), "parameters": {"binary_data_size": None}}
    assert http.post("/v2/models/chest/infer", json=nulls | {"inputs": [flat]}).json() == in_json.json()
    raw = http.post("/v2/models/chest/infer", content=values.tobytes(), headers={LENGTH: "0"})
    assert raw.json() == in_json.json()


# The whole way


def test_a_file_is_answered_as_by_the_predictor(client, http, classifier, blob, blob_png) -> None:
    predictor = load_bundle(classifier, threads=1)
    expected = predictor(Image(blob[np.newaxis, np.newaxis], unit="uint8"))
    result = client.infer("chest:file", [file_input(blob_png)], model_version="1")
    assert result.as_numpy("class_name")[0].decode() == expected.class_name
    np.testing.assert_array_equal(
        result.as_numpy("probabilities"), np.array([list(expected.probabilities.values())], np.float32)
    )
    assert result.as_numpy("confidence")[0] == np.float32(expected.confidence)
    assert result.as_numpy("abstain").tolist() == [False]
    answered = http.post("/v1/predict/image", files={"file": ("x", blob_png)}).json()
    assert answered["class_name"] == expected.class_name
    raw = http.post("/v2/models/chest:file/infer", content=blob_png, headers={LENGTH: "0"}).json()
    names = [output["name"] for output in raw["outputs"]]
    assert raw["outputs"][names.index("class_name")]["data"] == [expected.class_name]
    text = base64.b64encode(blob_png).decode()
    entry = {"name": "file", "shape": [1], "datatype": "BYTES", "data": [text]}
    assert http.post("/v2/models/chest:file/infer", json={"inputs": [entry]}).json() == raw


def test_calibration_and_findings(client, calibrated_classifier, blob, blob_png) -> None:
    bright = client.infer("bright:file", [file_input(blob_png)])
    expected = load_bundle(calibrated_classifier, threads=1)(Image(blob[np.newaxis, np.newaxis], unit="uint8"))
    assert bright.as_numpy("ood_score").tolist() == [expected.ood_score]
    assert bright.as_numpy("unlike_training").tolist() == [expected.unlike_training]
    assert bright.as_numpy("unlike_training").dtype == bool
    findings = client.infer("findings:file", [file_input(blob_png)])
    found = [name.decode() for name in findings.as_numpy("findings")]
    probabilities = findings.as_numpy("probabilities")[0]
    assert found == [
        name for name, value in zip(("effusion", "mass", "nodule"), probabilities, strict=True) if value >= 0.5
    ]


def test_a_mask_on_the_files_grid(client, volume_segmenter, head_nifti, tmp_path) -> None:
    expected = load_bundle(volume_segmenter, threads=1)(read(head_nifti))
    result = client.infer("brain:file", [file_input(head_nifti.read_bytes())])
    np.testing.assert_array_equal(result.as_numpy("mask"), expected.mask.voxels)
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(result.as_numpy("mask_file")[0])
    mask = read(path)
    np.testing.assert_allclose(mask.geometry.affine_ras_mm, expected.mask.geometry.affine_ras_mm, atol=1e-4)


def test_a_zip_of_dicom_is_taken_apart(client, make_dicom) -> None:
    slice_ = make_dicom()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Doe^Jane/IM1", slice_)
    alone, zipped = (client.infer("chest:file", [file_input(content)]) for content in (slice_, packed.getvalue()))
    np.testing.assert_array_equal(alone.as_numpy("probabilities"), zipped.as_numpy("probabilities"))


def test_a_region_of_interest_comes_with_the_file(client, blob_png, blob, encode) -> None:
    with pytest.raises(InferenceServerException, match="roi"):
        client.infer("lesion:file", [file_input(blob_png)])
    roi = encode((blob > 100).astype(np.uint8) * 255)
    result = client.infer("lesion:file", [file_input(blob_png), file_input(roi, "roi")])
    assert result.as_numpy("class_name")[0].decode() in ("benign", "malignant")


# What is refused


def body_of(entry: dict[str, Any], behind: bytes = b"", **more: Any) -> tuple[bytes, dict[str, str]]:
    head = json.dumps({"inputs": [entry], **more}).encode()
    return head + behind, {LENGTH: str(len(head))} if behind else {}


GOOD = {"name": "image", "shape": [1, 3, 32, 32], "datatype": "FP32"}
ZEROS = bytes(4 * 3 * 32 * 32)
BINARY = GOOD | {"parameters": {"binary_data_size": len(ZEROS)}}
WRONG = {
    "no JSON": (b"{", {}),
    "NaN in JSON": (json.dumps({"inputs": [GOOD | {"data": [float("nan")] * 3072}]}).encode(), {}),
    "a list": (b"[]", {}),
    "deep": (b"[" * 100_000, {}),
    "nothing": (b"", {}),
    "no inputs": (b"{}", {}),
    "inputs are text": (b'{"inputs": "image"}', {}),
    "an input is text": (b'{"inputs": ["image"]}', {}),
    "another name": body_of(BINARY | {"name": "x"}, ZEROS),
    "another datatype": body_of(BINARY | {"datatype": "UINT8"}, ZEROS),
    "a datatype that is no text": body_of(BINARY | {"datatype": ["FP32"]}, ZEROS),
    "another shape": body_of(BINARY | {"shape": [1, 3, 32, 31]}, ZEROS),
    "another rank": body_of(BINARY | {"shape": [3, 32, 32]}, ZEROS),
    "a negative shape": body_of(BINARY | {"shape": [-1, 3, 32, 32]}, ZEROS),
    "no images": body_of(BINARY | {"shape": [0, 3, 32, 32]}, ZEROS),
    "a shape of truths": body_of(BINARY | {"shape": [True, 3, 32, 32]}, ZEROS),
    "a shape of text": body_of(BINARY | {"shape": "1,3,32,32"}, ZEROS),
    "binary data that is missing": body_of(BINARY, ZEROS[:-1]),
    "binary data that is left": body_of(BINARY, ZEROS + b"\0"),
    "less binary data than the shape": body_of(GOOD | {"parameters": {"binary_data_size": 4}}, bytes(4)),
    "a negative size": body_of(GOOD | {"parameters": {"binary_data_size": -1}}, ZEROS),
    "a size that is text": body_of(GOOD | {"parameters": {"binary_data_size": "12288"}}, ZEROS),
    "parameters that are none": body_of(BINARY | {"parameters": 5}, ZEROS),
    "data twice": body_of(BINARY | {"data": [0.0] * 3072}, ZEROS),
    "no data": body_of(GOOD),
    "the same input twice": (json.dumps({"inputs": [GOOD | {"data": [0] * 3072}] * 2}).encode(), {}),
    "shared memory": body_of(GOOD | {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4}}),
    "too few values": body_of(GOOD | {"data": [0.0] * 3071}),
    "ragged": body_of(GOOD | {"data": [[0.0] * 3072, []]}),
    "nested otherwise": body_of(GOOD | {"data": [[[0.0] * 1536, [0.0] * 1536]]}),
    "nested unevenly": body_of(
        GOOD | {"data": [[[[0.0] * 33, [0.0] * 31, *[[0.0] * 32] * 30], *[[[0.0] * 32] * 32] * 2]]}
    ),
    "texts": body_of(GOOD | {"data": ["0"] * 3072}),
    "nulls": body_of(GOOD | {"data": [None] * 3072}),
    "truths": body_of(GOOD | {"data": [True] * 3072}),
    "too large for float32": body_of(GOOD | {"data": [1e39] * 3072}),
    "too large for any float": body_of(GOOD | {"data": [10**400, *[0] * 3071]}),
    "data that is text": body_of(GOOD | {"data": "0"}),
    "NaN": body_of(BINARY, np.full(3072, np.nan, "<f4").tobytes()),
    "infinity": body_of(BINARY, np.full(3072, np.inf, "<f4").tobytes()),
    "an id that is no text": body_of(BINARY, ZEROS, id=5),
    "another output": body_of(BINARY, ZEROS, outputs=[{"name": "probabilities"}]),
    "the same output twice": body_of(BINARY, ZEROS, outputs=[{"name": "logits"}] * 2),
    "outputs that are text": body_of(BINARY, ZEROS, outputs="logits"),
    "a class count below 0": body_of(BINARY, ZEROS, outputs=[{"name": "logits", "parameters": {"classification": -1}}]),
    "a flag that is text": body_of(BINARY, ZEROS, parameters={"binary_data_output": "yes"}),
    "a header that is no number": (body_of(BINARY, ZEROS)[0], {LENGTH: "-5"}),
    "a header beyond the body": (body_of(BINARY, ZEROS)[0], {LENGTH: "999999"}),
    "a header of many digits": (body_of(BINARY, ZEROS)[0], {LENGTH: "9" * 5000}),
    "raw data of another size": (ZEROS[:-4], {LENGTH: "0"}),
    "gzip that is none": (body_of(BINARY, ZEROS)[0], {"Content-Encoding": "gzip"}),
    "gzip that ends early": (gzip.compress(ZEROS)[:-4], {"Content-Encoding": "gzip", LENGTH: "0"}),
    "gzip with something behind": (gzip.compress(ZEROS) + b"x", {"Content-Encoding": "gzip", LENGTH: "0"}),
    "deflate without its envelope": (zlib.compress(ZEROS, wbits=-15), {"Content-Encoding": "deflate", LENGTH: "0"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests(http, name: str) -> None:
    content, headers = WRONG[name]
    response = http.post("/v2/models/chest/infer", content=content, headers=headers)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    assert len(response.json()["error"]) < 400


def test_a_right_request_beside_the_wrong_ones(http) -> None:
    content, headers = body_of(BINARY, ZEROS)
    assert http.post("/v2/models/chest/infer", content=content, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (bytes(3 * 2**20), {}, 413),
        (gzip.compress(bytes(2**26)), {"Content-Encoding": "gzip"}, 413),
        (b" " * (2**20 + 1), {}, 413),
        (b"{}", {"Content-Encoding": "br"}, 415),
        (*body_of(BINARY | {"shape": [2**62, 3, 32, 32]}, ZEROS), 413),
    ],
    ids=["too large", "a bomb", "too much JSON", "an unknown encoding", "an absurd shape"],
)
def test_too_much(http, content: bytes, headers: dict[str, str], status: int) -> None:
    response = http.post("/v2/models/chest/infer", content=content, headers=headers)
    assert response.status_code == status
    assert set(response.json()) == {"error"}


def test_a_bomb_in_chunks_of_unknown_length(http) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(2**16)

    assert http.post("/v2/models/chest/infer", content=chunks()).status_code == 413


def test_an_answer_too_large_for_json(client, http) -> None:
    values = np.zeros((5, 1, 16, 16, 16), np.float32)
    assert client.infer("brain", [image_input(values)]).as_numpy("logits").shape == (5, 3, 16, 16, 16)
    response = http.post("/v2/models/brain/infer", content=values.tobytes(), headers={LENGTH: "0"})
    assert response.status_code == 413
    assert "binary" in response.json()["error"]


def test_an_answer_larger_than_a_request_may_be(client) -> None:
    with pytest.raises(InferenceServerException, match="fewer images") as refused:
        client.infer("brain", [image_input(np.zeros((60, 1, 16, 16, 16), np.float32))])
    assert refused.value.status() == "413"


@pytest.mark.parametrize(
    "content",
    [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
    ids=["empty", "text", "half a PNG", "SVG"],
)
def test_files_that_are_none(client, content: bytes) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer("chest:file", [file_input(content)])
    assert refused.value.status() in ("400", "415", "422")


@pytest.mark.parametrize(
    "element", [b"", b"\1\0\0", struct.pack("<I", 5) + b"four", struct.pack("<I", 2**32 - 1), struct.pack("<I", 0) * 2]
)
def test_elements_that_are_not_one(http, element: bytes) -> None:
    entry = {"name": "file", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(element)}}
    head = json.dumps({"inputs": [entry]}).encode()
    response = http.post("/v2/models/chest:file/infer", content=head + element, headers={LENGTH: str(len(head))})
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/chest/versions/7", 404),
        ("POST", "/v2/models/nobody/infer", 404),
        ("GET", "/v2/models/chest/stats", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
        ("GET", "/v2/models/chest/infer", 405),
        ("GET", "/v2/nothing", 404),
    ],
)
def test_every_error_is_the_protocols(http, method: str, path: str, status: int) -> None:
    response = http.request(method, path)
    assert response.status_code == status
    assert ("allow" in response.headers) == (status == 405)
    assert list(response.json()) == ["error"]


def test_a_busy_service_says_so_in_the_protocols_form(start, classifier, blob_png, monkeypatch) -> None:
    service = start(classifier, workers=1, queue=0)
    predictor = service.app.state.service.registry.default.predictor
    inside, leave = threading.Event(), threading.Event()
    backend = predictor.backend

    def held(batch: np.ndarray) -> np.ndarray:
        inside.set()
        leave.wait(20)
        return backend(batch)

    monkeypatch.setattr(predictor, "backend", held)
    content, headers = body_of(BINARY, ZEROS)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.client.post, "/v2/models/chest/infer", content=content, headers=headers)
        inside.wait(10)
        refused = service.client.post("/v2/models/chest/infer", content=content, headers=headers)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert list(refused.json()) == ["error"]
        assert service.predict(blob_png).status_code == 429, "one line for all routes"
        assert service.client.get("/v2/health/ready").status_code == 200
        leave.set()
        assert first.result().status_code == 200
    assert not service.left_over()


def test_from_another_web_site(http) -> None:
    response = http.post("/v2/models/chest/infer", headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 403
    assert list(response.json()) == ["error"]


def answered_requests(log: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for path in log.glob("*.jsonl") for line in path.read_text().splitlines()]
    return [line for line in lines if line.get("status") == 200 and "input_sha256" in line]


def test_the_record_knows_the_input_however_it_was_wrapped(client, http, log, blob, blob_png, classifier) -> None:
    _, values = prepared(classifier, blob)
    name = "Doe-Jane-PID-7719"
    before = len(answered_requests(log))
    client.infer("chest", [image_input(values)], request_id=name)
    client.infer("chest", [image_input(values, binary=False)], request_compression_algorithm="gzip")
    client.infer("chest:file", [file_input(blob_png)])
    deadline = time.monotonic() + 5  # the line is written when the answer has gone
    while len(answered_requests(log)) < before + 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    answered = answered_requests(log)[before:]
    tensor = hashlib.sha256(values.tobytes()).hexdigest()
    assert [line["input_sha256"] for line in answered] == [tensor, tensor, hashlib.sha256(blob_png).hexdigest()]
    assert {line["route"] for line in answered} == {"/v2/models/{name}/infer"}
    assert all(line["model"] == "chest" and line["timings_ms"]["model"] > 0 for line in answered)
    assert answered[2]["result"]["class_name"]
    assert not [path for path in log.glob("*.jsonl*") if name in path.read_text()]


def test_nothing_is_left_of_requests(http, log) -> None:
    (uploads,) = log.glob("medrail-*")
    assert [path for path in uploads.rglob("*") if path.is_file()] == []


def test_the_openapi_document_has_the_protocol(http) -> None:
    schema = http.get("/openapi.json").json()
    infer = schema["paths"]["/v2/models/{name}/infer"]["post"]
    reference = infer["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert reference.rpartition("/")[2] in schema["components"]["schemas"]
    assert {"400", "404", "413", "415", "422", "429", "503"} <= set(infer["responses"])
    for status, response in infer["responses"].items():
        assert "application/problem+json" not in response["content"], status
