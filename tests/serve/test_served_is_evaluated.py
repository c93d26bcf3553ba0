"""The law of the whole product: what the service answers for a file is what was evaluated for that case."""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from conftest import anisotropic_geometry
from medrail.bundle import InputKind, NetworkSpec, write_network
from medrail.cases import build_cases
from medrail.config import Config, parse
from medrail.evaluate import evaluate
from medrail.prepare import Pipeline, Store, prepare
from medrail.read import read, read_mask, write_nifti
from medrail.train.material import network_spec
from medrail.types import Case, Image, ReadOptions
from medrail.workspace import Workspace
from small_bundles import classifier_network, segmenter_network, write_bundle

MakeDicom = Callable[..., bytes]
COUNT = 4
SPLITS = ["train", *["test"] * (COUNT - 1)]


@dataclass(frozen=True)
class Kind:
    """What data lies in a project, and what network was trained on it."""

    write: Callable[[Path, MakeDicom], dict[str, Any]]
    network: bytes
    dims: int
    channels: int
    input_kind: InputKind
    steps: tuple[dict[str, Any], ...]
    patch: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()


def noise(number: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=shape)


def pictures(root: Path, _: MakeDicom) -> dict[str, Any]:
    """Colour pictures of different sizes with a bright disc, and their masks."""
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number in range(COUNT):
        height, width = 40 + 3 * number, 56 - 5 * number
        rows, columns = np.mgrid[:height, :width]
        disc = (rows - 20) ** 2 + (columns - 25) ** 2 < 12**2
        pixels = 60 + 120 * disc[..., np.newaxis] + 25 * noise(number, height, width, 3)
        Picture.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / f"p{number}.png")
        Picture.fromarray(np.where(disc, 255, 0).astype(np.uint8)).save(root / "masks" / f"p{number}.png")
    data = {"kind": "pairs", "path": "raw/images", "mask_path": "../masks", "foreground_nonzero": True}
    return {"task": "segmentation", "data": {**data, "classes": ["background", "disc"]}}


def volume(number: int, shift: float) -> Image:
    """(1, 9 to 11, 31, 40) voxels of 5.0 x 0.7 x 0.9 mm, oblique, with a bright ellipsoid."""
    shape = (9 + number, 31, 40)
    d, h, w = np.mgrid[: shape[0], :31, :40]
    inside = ((d - 4) / 3) ** 2 + ((h - 14) / 9) ** 2 + ((w - 18) / 12) ** 2 < 1
    voxels = (shift + 2 * inside + 0.6 * noise(number, *shape)).astype(np.float32)
    return Image(voxels[np.newaxis], anisotropic_geometry())


def volumes(root: Path, _: MakeDicom) -> dict[str, Any]:
    lines = ["path,mask,patient,split"]
    for number in range(COUNT):
        image = volume(number, 0)
        write_nifti(image, root / f"v{number}.nii.gz")
        mask = Image((image.voxels > 1).astype(np.uint8), image.geometry, unit="label")
        write_nifti(mask, root / f"m{number}.nii.gz")
        lines.append(f"v{number}.nii.gz,m{number}.nii.gz,p{number},{SPLITS[number]}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    data = {"kind": "csv", "path": "raw/table.csv", "classes": ["background", "organ"]}
    return {"task": "segmentation", "data": data}


def labelled_volumes(root: Path, _: MakeDicom) -> dict[str, Any]:
    lines = ["path,label,patient,split"]
    for number in range(COUNT):
        write_nifti(volume(number, 1.5 * number), root / f"v{number}.nii.gz")
        lines.append(f"v{number}.nii.gz,{('low', 'high')[number % 2]},p{number},{SPLITS[number]}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return {"task": "classification", "data": {"kind": "csv", "path": "raw/table.csv", "classes": ["low", "high"]}}


def dicom_files(root: Path, make_dicom: MakeDicom) -> dict[str, Any]:
    """A folder a patient with a series of one file."""
    lines = ["patient,label,split"]
    for number in range(COUNT):
        (root / f"p{number}").mkdir()
        uid = f"1.2.826.0.1.3680043.8.498.{number + 10}"
        elements = {"SOPInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "StudyInstanceUID": f"{uid}.2"}
        content = make_dicom(**elements, PatientID=f"ID{number}", RescaleIntercept=-1024 + 40 * number)
        (root / f"p{number}" / "image.dcm").write_bytes(content)
        lines.append(f"p{number},{('low', 'high')[number % 2]},{SPLITS[number]}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    data = {"kind": "dicom_folders", "labels": "raw/labels.csv", "classes": ["low", "high"]}
    return {"task": "classification", "data": data}


def photographs(root: Path, _: MakeDicom) -> dict[str, Any]:
    """JPEGs of odd sizes, one on its side, so large that they are decoded at a reduced size."""
    lines = ["path,label,patient,split"]
    for number in range(COUNT):
        height, width = 83 + 60 * number, 171 - 11 * number
        pixels = 90 + 20 * number + 25 * noise(number, height, width, 3).cumsum(axis=0) / 9
        exif = Picture.Exif()
        exif[0x0112] = 6 if number == 2 else 1
        Picture.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"p{number}.jpg", exif=exif)
        lines.append(f"p{number}.jpg,{('low', 'high')[number % 2]},p{number},{SPLITS[number]}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return {"task": "classification", "data": {"kind": "csv", "path": "raw/table.csv", "classes": ["low", "high"]}}


KINDS = {
    "JPEG, classification": Kind(
        photographs,
        classifier_network(2),
        dims=2,
        channels=3,
        input_kind=InputKind(picture=True, channels=3, unit="uint8"),
        steps=({"kind": "resize", "size": [16, 24]}, {"kind": "normalise", "method": "imagenet"}),
        grid=(16, 24),
    ),
    "pictures, 2-D segmentation": Kind(
        pictures,
        segmenter_network(2, (0.5,), reach=1),
        dims=2,
        channels=1,
        input_kind=InputKind(picture=True, channels=3, unit="uint8"),
        steps=(
            {"kind": "rgb_to_grey"},
            {"kind": "resize", "size": [48, 64]},
            {"kind": "normalise", "method": "minmax"},
        ),
        grid=(48, 64),
    ),
    "NIfTI, 3-D segmentation in patches": Kind(
        volumes,
        segmenter_network(3, (0.8,), reach=1),
        dims=3,
        channels=1,
        input_kind=InputKind(picture=False, channels=1, unit="arbitrary"),
        steps=(
            {"kind": "orient", "axes": "RAS"},
            {"kind": "resample", "spacing_mm": [2.0, 2.0, 2.0]},
            {"kind": "normalise", "method": "zscore"},
        ),
        patch=(8, 12, 16),
    ),
    "NIfTI, 3-D classification": Kind(
        labelled_volumes,
        classifier_network(2, channels=1, dims=3),
        dims=3,
        channels=1,
        input_kind=InputKind(picture=False, channels=1, unit="arbitrary"),
        steps=({"kind": "orient", "axes": "RAS"}, {"kind": "resize", "size": [16, 16, 8]}),
        grid=(16, 16, 8),
    ),
    "DICOM, classification": Kind(
        dicom_files,
        classifier_network(2),
        dims=2,
        channels=3,
        input_kind=InputKind(picture=True, channels=1, unit="HU"),
        steps=(
            {"kind": "window", "preset": "soft_tissue"},
            {"kind": "grey_to_rgb"},
            {"kind": "resize", "size": [16, 16]},
        ),
        grid=(16, 16),
    ),
}


def prepared_as_served(config: Config, workspace: Workspace, cases: Sequence[Case], spec: NetworkSpec) -> None:
    """What was trained on is what the service makes of the same files."""
    exported = network_spec(config, Pipeline.from_dict(spec.pipeline), spec.classes, spec.grid, spec.input_kind)
    assert exported.read_options == spec.read_options
    assert prepare(config, workspace, cases).failed == ()
    store = Store(workspace, Pipeline.from_dict(spec.pipeline))
    for case in cases:
        served = store.pipeline(read(case.paths[0], case.item, spec.read_options))
        np.testing.assert_array_equal(store.load(case.id)[0].voxels, served.voxels)


def test_jpegs_are_reduced_in_this_law(make_dicom: MakeDicom, tmp_path: Path) -> None:
    photographs(tmp_path, make_dicom)
    for path in tmp_path.glob("*.jpg"):
        reduced = read(path, options=ReadOptions(jpeg_least_px=(32, 48)))
        assert 2 * min(reduced.grid[1:]) <= min(read(path).grid[1:]) + 1


@pytest.mark.parametrize("name", KINDS)
def test_the_served_answer_is_the_evaluated_one(name: str, start: Any, make_dicom: MakeDicom, tmp_path: Path) -> None:
    kind = KINDS[name]
    workspace = Workspace(tmp_path / "project")
    raw = workspace.root / "raw"
    raw.mkdir(parents=True)
    values = kind.write(raw, make_dicom)
    config = parse(
        {
            "name": "law",
            **values,
            "data": {"path": "raw", **values["data"]},
            "model": {"name": "unet" if values["task"] == "segmentation" else "tiny_cnn", "dims": kind.dims},
            "prepare": {"steps": list(kind.steps)},
            "split": {"by": "given"} if any(raw.glob("*.csv")) else {"val": 0, "test": 0.5},
            "evaluate": {"resamples": 200},
            "serve": {"threads": 1},
        }
    )
    spec = NetworkSpec(
        config.task,
        tuple(config.data.classes),
        kind.dims,
        kind.channels,
        tuple(Pipeline.from_dict(kind.steps).to_dict()),
        kind.input_kind,
        patch=kind.patch,
        grid=kind.grid,
        read_options=config.read_options,
    )
    run = workspace.run("law-001")
    run.folder.mkdir(parents=True)
    run.network.write_bytes(kind.network)
    write_network(run.folder, spec, {"cases": 1})
    cases = build_cases(config, workspace)
    evaluation = evaluate(run, config, cases)
    assert evaluation.failed == ()
    prepared_as_served(config, workspace, cases, spec)
    with (run.evaluation / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}

    service = start(write_bundle(workspace.bundles, "law", kind.network, spec))
    different = set()
    for case in [case for case in cases if case.id in rows]:
        path = Path(case.paths[0])
        (sent,) = path.iterdir() if path.is_dir() else [path]
        response = service.predict(sent.read_bytes())
        assert response.status_code == 200, response.text
        answer = response.json()
        if spec.task == "classification":
            assert answer["class_name"] == rows[case.id]["predicted"]
            evaluated = {label: float(rows[case.id][f"p/{label}"]) for label in spec.classes}
            assert answer["probabilities"] == pytest.approx(evaluated, abs=2e-6)
            different.add(rows[case.id][f"p/{spec.classes[0]}"])
        else:
            (tmp_path / "answered").write_bytes(base64.b64decode(answer["mask"]["data"]))
            served = read_mask(tmp_path / "answered")
            (file_name,) = (run.evaluation / "predictions").glob(f"{case.id}.*")
            mask = read_mask(file_name)
            assert 0 < served.voxels.mean() < 1
            np.testing.assert_array_equal(served.voxels, mask.voxels)
            assert (served.geometry is None) == (mask.geometry is None)
            different.add(served.voxels.tobytes())
    assert len(different) == len(rows) > 0, "every case has its own answer"
