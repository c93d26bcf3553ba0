"""The Python client against the real service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi import FastAPI

import medrail
from medrail.bundle import load_bundle
from medrail.client import Classification, ClassificationDifference, Client, MaskDifference, Segmentation
from medrail.errors import ServiceBusy, ServiceError
from medrail.read import read
from medrail.serve import Settings, create_app


@pytest.fixture(scope="module")
def app(classifier, volume_segmenter, picture_segmenter, roi_classifier, tmp_path_factory) -> FastAPI:
    folder = tmp_path_factory.mktemp("client")
    settings = Settings(log_to_stderr=False, threads=1, max_upload_mb=1, temp_dir=folder)
    return create_app([classifier, volume_segmenter, picture_segmenter, roi_classifier], settings)


@pytest.fixture(scope="module")
def client(run_app, app) -> Iterator[Client]:
    with run_app(app) as url, medrail.Client(url) as client:
        yield client


@pytest.fixture
def needs(app) -> Callable[[str], None]:
    """Skip where the service has no such route."""

    def check(path: str) -> None:
        if path not in app.openapi()["paths"]:
            pytest.skip(f"this service has no {path}")

    return check


def test_models(client) -> None:
    models = client.models()
    assert [model.name for model in models] == ["chest", "brain", "nuclei", "lesion"]
    assert models[0].default
    assert models[1].classes == ("background", "brain", "ventricle")
    assert client.card("brain").startswith("# brain 1")


def test_an_array_is_answered_as_by_the_predictor(client, classifier, blob, blob_png, tmp_path) -> None:
    expected = load_bundle(classifier, threads=1)(medrail.Image(blob[np.newaxis, np.newaxis], unit="uint8"))
    path = tmp_path / "blob.png"
    path.write_bytes(blob_png)
    for source in (blob, blob_png, path, str(path)):
        answer = client.predict(source, "chest", "1")
        assert isinstance(answer, Classification)
        assert answer.class_name == expected.class_name
        assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-7)
        assert answer.bundle_id.startswith("chest/1@")
        assert set(answer.timings_ms) >= {"decode", "model"}


def test_a_region_of_interest(client, blob) -> None:
    with pytest.raises(ServiceError, match="region of interest"):
        client.predict(blob, "lesion")
    answer = client.predict(blob, "lesion", roi=(blob > 100).astype(np.uint8) * 255)
    assert isinstance(answer, Classification)


def test_masks_lie_where_the_image_lies(client, volume_segmenter, head, head_nifti, tmp_path) -> None:
    expected = load_bundle(volume_segmenter, threads=1)(read(head_nifti)).mask
    answer = client.predict(head_nifti, "brain")
    assert isinstance(answer, Segmentation)
    path = client.mask(head_nifti, tmp_path / "mask.nii.gz", "brain")
    for mask in (answer.mask.image(), client.mask(head, model="brain"), read(path)):
        np.testing.assert_array_equal(mask.voxels, expected.voxels)
        np.testing.assert_allclose(mask.geometry.affine_ras_mm, expected.geometry.affine_ras_mm, atol=1e-4)
    brain = int((expected.voxels == 1).sum())
    assert answer.volumes_ml["brain"] == pytest.approx(brain * 4.0 * 2.5 * 3.0 / 1000)


def test_a_folder_with_a_dicom_series(client, make_dicom, tmp_path) -> None:
    for index in range(3):
        uid = f"1.2.826.0.1.3680043.8.498.1.{index}"
        content = make_dicom(SOPInstanceUID=uid, ImagePositionPatient=[0, 0, 5.0 * index], InstanceNumber=index + 1)
        (tmp_path / f"slice-{index}.dcm").write_bytes(content)
    at_once = client.predict(tmp_path, "chest")
    assert at_once.probabilities == client.volume(tmp_path, model="chest").probabilities


def test_a_png_of_a_picture(client, blob, tmp_path) -> None:
    path = client.mask(blob, tmp_path / "mask.png", "nuclei")
    assert read(path).grid == (1, 60, 80)


@pytest.mark.parametrize(
    ("source", "model", "kind", "status"),
    [
        (b"no image", "", "unsupported-format", 415),
        (b"\x89PNG\r\n\x1a\n", "", "corrupt-file", 422),
        (bytes(2 * 2**20), "", "too-large", 413),
        (b"", "", "empty-file", 400),
        (b"x", "nobody", "unknown-model", 404),
    ],
)
def test_refusals_have_names(client, source, model, kind, status) -> None:
    with pytest.raises(ServiceError) as raised:
        client.predict(source, model)
    assert (raised.value.kind, raised.value.status) == (kind, status)
    assert raised.value.remedy


def test_a_volume_as_a_job(client, needs, head, volume_segmenter, head_nifti, tmp_path) -> None:
    needs("/v1/predict/volume")
    expected = load_bundle(volume_segmenter, threads=1)(read(head_nifti)).mask
    seen: list[tuple[float, str]] = []
    answer = client.volume(head, model="brain", on_progress=lambda *told: seen.append(told))
    assert isinstance(answer, Segmentation)
    np.testing.assert_array_equal(answer.mask.image().voxels, expected.voxels)
    assert seen[-1] == (1.0, "done")
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    path = client.volume(head_nifti, tmp_path / "mask.nii.gz", "brain")
    np.testing.assert_array_equal(read(path).voxels, expected.voxels)
    with pytest.raises(ServiceError) as raised:
        client.volume(b"no image", model="brain", on_progress=lambda *_: None)
    assert raised.value.kind == "unsupported-format"


def test_several_images(client, needs, blob) -> None:
    needs("/v1/predict/batch")
    alone = client.predict(blob)
    first, second, third = client.batch([blob, b"no image", blob])
    assert isinstance(first, Classification)
    assert isinstance(second, ServiceError)
    assert second.kind == "unsupported-format"
    assert isinstance(third, Classification)
    assert first.probabilities == alone.probabilities == third.probabilities


def test_two_models(client, needs, blob, head) -> None:
    needs("/v1/compare")
    same = client.compare("chest/1", "chest", blob)
    assert isinstance(same.difference, ClassificationDifference)
    assert same.difference.largest == 0
    volumes = client.compare("brain", "brain/1", head)
    assert isinstance(volumes.difference, MaskDifference)
    assert volumes.difference.voxels == 0
    assert not volumes.difference.map.labels().any()


def test_evidence_or_why_there_is_none(client, needs, blob) -> None:
    needs("/v1/predict/volume")  # they came together
    answer = client.predict(blob, evidence=True)
    assert isinstance(answer, Classification)
    assert answer.evidence is not None
    assert answer.evidence.exact is False
    assert answer.evidence.reason


def test_a_busy_service_is_waited_for(start, classifier, blob_png, monkeypatch) -> None:
    service = start(classifier, workers=1, queue=0)
    predictor = service.app.state.service.registry.default.predictor
    inside, leave = threading.Event(), threading.Event()
    backend = predictor.backend

    def held(batch):
        inside.set()
        leave.wait(20)
        return backend(batch)

    monkeypatch.setattr(predictor, "backend", held)
    url = str(service.client.base_url)
    with Client(url) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.predict, blob_png)
        inside.wait(10)
        with Client(url, retries=0) as hasty, pytest.raises(ServiceBusy, match="in work"):
            hasty.predict(blob_png)
        second = pool.submit(client.predict, blob_png)
        threading.Timer(0.2, leave.set).start()
        assert first.result().class_name == second.result().class_name
