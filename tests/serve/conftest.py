"""Real bundles with small ONNX networks, and the service running on a loopback port."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image as Picture

from medrail.bundle import InputKind, NetworkSpec
from medrail.bundle.usual import Shares, Usual
from medrail.read import write_nifti
from medrail.serve import Settings, create_app
from medrail.serve.connection import uvicorn_options
from medrail.types import Geometry, Image
from small_bundles import classifier_network, evidence_network, segmenter_network, write_bundle
from small_calibrations import small_calibration

REQUEST_TIMEOUT_S = 60


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of a picture, grey or colour."""
    spec = NetworkSpec(
        task="classification",
        classes=("normal", "bacterial pneumonia", "viral pneumonia"),
        dims=2,
        channels=3,
        pipeline=(
            {"kind": "grey_to_rgb"},
            {"kind": "resize", "size": [32, 32]},
            {"kind": "normalise", "method": "custom", "mean": [128], "std": [64]},
        ),
        input_kind=InputKind(picture=None, channels=0, unit=""),
        grid=(32, 32),
    )
    return write_bundle(tmp_path_factory.mktemp("bundles"), "chest", classifier_network(3), spec)


@pytest.fixture(scope="session")
def findings_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels of a picture, of which it may have any number."""
    spec = NetworkSpec(
        task="classification",
        classes=("effusion", "mass", "nodule"),
        dims=2,
        channels=3,
        pipeline=(
            {"kind": "grey_to_rgb"},
            {"kind": "resize", "size": [32, 32]},
            {"kind": "normalise", "method": "custom", "mean": [128], "std": [64]},
        ),
        input_kind=InputKind(picture=None, channels=0, unit=""),
        grid=(32, 32),
        multi_label=True,
    )
    return write_bundle(tmp_path_factory.mktemp("bundles"), "findings", classifier_network(3), spec)


@pytest.fixture(scope="session")
def picture_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``classifier``, trained on 8-bit pictures only."""
    spec = NetworkSpec(
        task="classification",
        classes=("normal", "pneumonia"),
        dims=2,
        channels=3,
        pipeline=({"kind": "grey_to_rgb"}, {"kind": "resize", "size": [32, 32]}),
        input_kind=InputKind(picture=True, channels=1, unit="uint8"),
        grid=(32, 32),
    )
    return write_bundle(tmp_path_factory.mktemp("bundles"), "photo", classifier_network(2), spec)


@pytest.fixture(scope="session")
def calibrated_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ "yes" is the brighter, the more probable, from 0.8 on; images of a mean far from 0 are unlike the training."""
    spec = NetworkSpec(
        task="classification",
        classes=("no", "yes"),
        dims=2,
        channels=1,
        pipeline=({"kind": "normalise", "method": "custom", "mean": [128], "std": [20]},),
        input_kind=InputKind(picture=True, channels=1, unit="uint8"),
    )
    root = tmp_path_factory.mktemp("bundles")
    return write_bundle(root, "bright", evidence_network(), spec, calibration=small_calibration(1))


@pytest.fixture(scope="session")
def drifting_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``calibrated_classifier``, and knows that images are usually bright and mostly "yes"."""
    spec = NetworkSpec(
        task="classification",
        classes=("no", "yes"),
        dims=2,
        channels=1,
        pipeline=({"kind": "normalise", "method": "custom", "mean": [128], "std": [20]},),
        input_kind=InputKind(picture=True, channels=1, unit="uint8"),
    )
    usual = Usual(
        100,
        {
            "classes": Shares((20, 80), names=("no", "yes")),
            "ood_score": Shares((50, 50), edges=(1.0,)),
            "input_mean": Shares((10, 90), edges=(0.0,)),
        },
    )
    root = tmp_path_factory.mktemp("bundles")
    return write_bundle(root, "drifting", evidence_network(), spec, calibration=small_calibration(1, usual=usual))


BRAIN = NetworkSpec(
    task="segmentation",
    classes=("background", "brain", "ventricle"),
    dims=3,
    channels=1,
    pipeline=(
        {"kind": "orient", "axes": "RAS"},
        {"kind": "resample", "spacing_mm": [2.0, 2.0, 2.0]},
        {"kind": "normalise", "method": "zscore"},
    ),
    input_kind=InputKind(picture=False, channels=1, unit="arbitrary"),
    patch=(16, 16, 16),
)


@pytest.fixture(scope="session")
def volume_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two organs of a volume, resampled and in patches."""
    return write_bundle(tmp_path_factory.mktemp("bundles"), "brain", segmenter_network(3, (0.2, 2.2)), BRAIN)


@pytest.fixture(scope="session")
def picture_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bright part of a grey picture."""
    spec = NetworkSpec(
        task="segmentation",
        classes=("background", "nucleus"),
        dims=2,
        channels=1,
        pipeline=({"kind": "rgb_to_grey"}, {"kind": "normalise", "method": "minmax"}),
        input_kind=InputKind(picture=True, channels=1, unit="uint8"),
        patch=(32, 32),
    )
    return write_bundle(tmp_path_factory.mktemp("bundles"), "nuclei", segmenter_network(2, (0.6,)), spec)


@pytest.fixture(scope="session")
def roi_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of crops to a region of interest."""
    spec = NetworkSpec(
        task="classification",
        classes=("benign", "malignant"),
        dims=2,
        channels=3,
        pipeline=({"kind": "grey_to_rgb"}, {"kind": "crop_roi"}, {"kind": "resize", "size": [32, 32]}),
        input_kind=InputKind(picture=True, channels=1, unit="uint8"),
        grid=(32, 32),
    )
    return write_bundle(tmp_path_factory.mktemp("bundles"), "lesion", classifier_network(2), spec)


@pytest.fixture(scope="session")
def other_volume_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 2 of ``volume_segmenter``: it draws the borders elsewhere."""
    root = tmp_path_factory.mktemp("bundles")
    return write_bundle(root, "brain", segmenter_network(3, (0.5, 1.8)), BRAIN, version="2")


@pytest.fixture(scope="session")
def other_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 2 of ``classifier``, which knows two of its classes and counts the colours the other way round."""
    spec = NetworkSpec(
        task="classification",
        classes=("viral pneumonia", "normal"),
        dims=2,
        channels=3,
        pipeline=(
            {"kind": "grey_to_rgb"},
            {"kind": "resize", "size": [32, 32]},
            {"kind": "normalise", "method": "custom", "mean": [128], "std": [64]},
        ),
        input_kind=InputKind(picture=None, channels=0, unit=""),
        grid=(32, 32),
    )
    root = tmp_path_factory.mktemp("bundles")
    return write_bundle(root, "chest", classifier_network(2), spec, version="2")


@pytest.fixture(scope="session")
def ct_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is dense in CT, a slice or a volume, slice by slice."""
    spec = NetworkSpec(
        task="segmentation",
        classes=("background", "dense"),
        dims=2,
        channels=1,
        pipeline=({"kind": "normalise", "method": "minmax"},),
        input_kind=InputKind(picture=None, channels=1, unit="HU"),
        patch=(16, 16),
    )
    return write_bundle(tmp_path_factory.mktemp("bundles"), "dense", segmenter_network(2, (0.5,)), spec)


def encoded(array: np.ndarray, form: str = "PNG") -> bytes:
    """(H, W[, 3]) uint8 as the bytes of a picture file."""
    buffer = io.BytesIO()
    Picture.fromarray(array).save(buffer, format=form)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture(scope="session")
def blob() -> np.ndarray:
    """(60, 80) uint8: a bright disc on a dark slope."""
    rows, columns = np.mgrid[:60, :80]
    disc = (rows - 25) ** 2 + (columns - 50) ** 2 < 15**2
    return np.where(disc, 220, 20 + columns // 2).astype(np.uint8)


@pytest.fixture(scope="session")
def blob_png(blob: np.ndarray) -> bytes:
    return encoded(blob)


@pytest.fixture(scope="session")
def head() -> Image:
    """A ball within a ball, (1, 24, 40, 32) voxels of 4.0 x 2.5 x 3.0 mm, turned against the axes."""
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2] = -4.0, -2.5, 3.0
    affine[:3, 3], affine[3, 3] = (-45, 50, 48), 1
    d, h, w = np.mgrid[:24, :40, :32]
    distance = np.sqrt(((d - 12) * 4.0) ** 2 + ((h - 20) * 2.5) ** 2 + ((w - 16) * 3.0) ** 2)
    voxels = np.select([distance < 15, distance < 38], [900.0, 500.0], 10.0).astype(np.float32)
    return Image(voxels[np.newaxis], Geometry(affine))


@pytest.fixture(scope="session")
def head_nifti(head: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / "head.nii.gz"
    write_nifti(head, path)
    return path


@contextmanager
def running(app: FastAPI, **options: Any) -> Iterator[str]:
    """The app behind uvicorn on a free loopback port; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=5,
        **options,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


@pytest.fixture(scope="session")
def run_app() -> Callable[[FastAPI], AbstractContextManager[str]]:
    """``with run_app(app) as url``: for a service that all tests of a module share."""
    return running


@dataclass
class Served:
    """A running service and a client of it."""

    app: FastAPI
    client: httpx.Client
    uploads: Path
    log: Path

    def predict(self, content: bytes, roi: bytes | None = None, **more: Any) -> httpx.Response:
        """POST the bytes as the field `file`."""
        files = {"file": ("x", content)} | ({"roi": ("r", roi)} if roi is not None else {})
        return self.client.post("/v1/predict/image", files=files, **more)

    @property
    def audit(self) -> Path:
        """The audit log."""
        return self.log.with_name("audit.jsonl")

    def left_over(self) -> list[Path]:
        """What lies in the folder for uploads once no request is in work."""
        deadline = time.monotonic() + 5
        while (
            found := [path for path in self.uploads.glob("*/*") if path.name != "jobs"]
        ) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


StartService = Callable[..., Served]


@contextmanager
def served(folder: Path, *bundles: Path, **settings: Any) -> Iterator[Served]:
    """These bundles with these settings, writing below ``folder``."""
    uploads = folder / "uploads"
    uploads.mkdir(parents=True)
    values = {"temp_dir": uploads, "log_dir": folder / "logs", "log_to_stderr": False, "threads": 1}
    chosen = Settings(**(values | settings))
    app = create_app(bundles, chosen)
    with (
        running(app, **uvicorn_options(chosen)) as url,
        httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False) as client,
    ):
        yield Served(app, client, uploads, folder / "logs" / "service.jsonl")


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """``with serving(folder, *bundles, **settings) as service:``, for fixtures of a module."""
    return served


@contextmanager
def starting(folder: Path) -> Iterator[StartService]:
    """(bundles, settings fields) -> Served; several may run at a time, each below ``folder``."""
    with ExitStack() as stack:

        def begin(*bundles: Path, **settings: Any) -> Served:
            own = folder / f"service-{len(list(folder.glob('service-*')))}"
            return stack.enter_context(served(own, *bundles, **settings))

        yield begin


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartService]:
    """A service of one test."""
    with starting(tmp_path) as begin:
        yield begin


@pytest.fixture(scope="module")
def start_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartService]:
    """A service that the tests of a file share."""
    with starting(tmp_path_factory.mktemp("services")) as begin:
        yield begin


IDENTIFIERS = {
    "PatientName": "Doe^Jane^Quincy",
    "PatientID": "PID-7719-XQ",
    "PatientBirthDate": "19610423",
    "AccessionNumber": "ACC-55021",
    "InstitutionName": "Saint Elsewhere Hospital",
    "ReferringPhysicianName": "House^Gregory",
    "StudyDescription": "Jane Doe follow up",
    "OtherPatientIDs": "SSN-123-45-6789",
}


@pytest.fixture(scope="session")
def identifiers() -> dict[str, str]:
    """What the DICOM files of these tests say about their patient."""
    return IDENTIFIERS


@pytest.fixture(scope="session")
def make_dicom() -> Callable[..., bytes]:
    """(elements to change) -> a CT slice of 24 x 32 pixels as the bytes of a DICOM file."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    def make(**changes: Any) -> bytes:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_ = Dataset()
        slice_.file_meta = meta
        values = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.1",
            "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2",
            "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.3",
            "Modality": "CT",
            "Rows": 24,
            "Columns": 32,
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "PixelSpacing": [0.7, 0.9],
            "SliceThickness": 5,
            "ImagePositionPatient": [0, 0, 0],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            **IDENTIFIERS,
            **changes,
        }
        for name, value in values.items():
            setattr(slice_, name, value)
        rows, columns = np.mgrid[:24, :32]
        slice_.PixelData = (1000 + 10 * rows + columns).astype("<i2").tobytes()
        buffer = io.BytesIO()
        slice_.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return make
