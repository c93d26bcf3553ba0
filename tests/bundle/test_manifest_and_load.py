"""bundle.json survives JSON; nothing that was changed, cut or moved is ever loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrail.bundle import Manifest, load_bundle, load_network, unlisted, verify_bundle
from medrail.bundle.manifest import LARGEST_MANIFEST_BYTES, sealed
from medrail.errors import BundleError, RunError
from medrail.types import Image


def edit(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = bundle / "bundle.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values | {"sha256": sealed(values)}), encoding="utf-8")


def test_a_whole_bundle_answers(bundle: Path, picture: Image) -> None:
    manifest = verify_bundle(bundle)
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict()))) == manifest
    predictor = load_bundle(bundle, threads=1)
    prediction = predictor(picture)
    assert prediction.bundle_id == manifest.bundle_id
    assert manifest.bundle_id.startswith("tiny/1@")
    np.testing.assert_allclose(
        list(prediction.probabilities.values()), np.exp([0, 2]) / np.exp([0, 2]).sum(), rtol=1e-6
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_is_noticed(bundle: Path, tmp_path: Path, data: st.DataObject) -> None:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bundle, copy)
    path = copy / data.draw(st.sampled_from(["model.onnx", "card.md", "bundle.json"]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    if path.name != "bundle.json":
        with pytest.raises(BundleError, match="SHA-256"):
            load_bundle(copy)
    elif json.loads((bundle / "bundle.json").read_bytes()) != _as_json(content):  # not a space for another
        with pytest.raises(BundleError):
            load_bundle(copy)


def _as_json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_what_bundle_json_says_is_what_was_written(bundle: Path) -> None:
    path = bundle / "bundle.json"
    text = path.read_text(encoding="utf-8")
    values = json.loads(text)
    path.write_text(json.dumps(dict(reversed(values.items())), indent=7), encoding="utf-8")
    load_bundle(bundle)
    values["spec"]["classes"].reverse()
    for edited in (values, values | {"sha256": None}, {key: values[key] for key in values if key != "sha256"}):
        path.write_text(json.dumps(edited), encoding="utf-8")
        with pytest.raises(BundleError, match=r"bundle\.json: the SHA-256 in bundle\.json is not that of what else"):
            verify_bundle(bundle)
    path.unlink()
    (bundle / "elsewhere").write_text(text, encoding="utf-8")
    path.symlink_to("elsewhere")
    with pytest.raises(BundleError, match="a link"):
        verify_bundle(bundle)
    path.unlink()
    path.write_text(text, encoding="utf-8")
    assert unlisted(bundle, verify_bundle(bundle)) == ["elsewhere"]


@pytest.mark.parametrize("name", ["model.onnx", "card.md"])
def test_a_cut_missing_or_linked_file_is_noticed(bundle: Path, tmp_path: Path, name: str) -> None:
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match="bytes") as caught:
        verify_bundle(bundle)
    assert caught.value.remedy
    (bundle / name).unlink()
    with pytest.raises(BundleError, match="missing"):
        verify_bundle(bundle)
    (tmp_path / "elsewhere").write_bytes(content)
    (bundle / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="plain file"):
        verify_bundle(bundle)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_manifest_is_noticed(bundle: Path, tmp_path: Path, share: float) -> None:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bundle, copy)
    content = (copy / "bundle.json").read_bytes().rstrip()
    (copy / "bundle.json").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BundleError):
        load_bundle(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(format=4),
        lambda values: values.pop("format"),
        lambda values: values.pop("spec"),
        lambda values: values.update(name="../../etc"),
        lambda values: values.update(version=""),
        lambda values: values.update(metrics=[]),
        lambda values: values["files"].pop("model.onnx"),
        lambda values: values["files"].update({"../outside": values["files"]["card.md"]}),
        lambda values: values["files"].update({"/etc/passwd": values["files"]["card.md"]}),
        lambda values: values["files"].update({"sub\\file": values["files"]["card.md"]}),
        lambda values: values["files"].update({"..": values["files"]["card.md"]}),
        lambda values: values["files"]["card.md"].update(sha256="short"),
        lambda values: values["files"]["card.md"].update(bytes="7"),
        lambda values: values["files"].update({"card.md": None}),
        lambda values: values["spec"].update(pipeline=[{"kind": "resize", "size": [9, 9]}]),
        lambda values: values["spec"].update(pipeline=[{"kind": "no such step"}]),
        lambda values: values["spec"].update(classes=["only one"]),
    ],
)
def test_an_unusable_manifest_is_refused(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError):
        load_bundle(bundle)


def test_a_bundle_of_format_1_goes_on_answering(bundle: Path, picture: Image) -> None:
    new = load_bundle(bundle)(picture)
    edit(bundle, lambda values: values.update(format=1))
    old = load_bundle(bundle)(picture)
    assert old.probabilities == new.probabilities
    assert (old.conformal_set, old.ood_score, old.unlike_training, old.decision) == (None, None, None, "")


def test_not_json_or_too_large_is_refused(bundle: Path) -> None:
    for content in (b"[1, 2]", b"\xff\xfe", b'{"format": NaN}', b"[" * 100_000, b" " * (LARGEST_MANIFEST_BYTES + 1)):
        (bundle / "bundle.json").write_bytes(content)
        with pytest.raises(BundleError, match=r"bundle\.json"):
            load_bundle(bundle)


def test_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="medrail export"):
        load_bundle(tmp_path)


def test_a_file_that_is_no_network_is_refused(bundle: Path) -> None:
    manifest = Manifest.read(bundle)
    (bundle / "model.onnx").write_bytes(b"not a network")
    manifest.write(bundle)
    with pytest.raises(BundleError, match="ONNX"):
        load_bundle(bundle)


def test_a_run_answers_too(run_folder: Path, picture: Image) -> None:
    predictor = load_network(run_folder, threads=1)
    assert predictor.bundle_id.startswith("tiny-001@")
    assert predictor(picture).class_name == "yes"


def test_a_run_with_another_network_is_refused(run_folder: Path) -> None:
    path = run_folder / "network.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match="medrail export"):
        load_network(run_folder)
    path.unlink()
    with pytest.raises(BundleError, match="missing"):
        load_network(run_folder)


def test_a_run_without_description_is_refused(run_folder: Path) -> None:
    path = run_folder / "network.json"
    for content in ("{}", "[]", '{"format": 1}', '{"format": 1, "bytes": "x", "sha256": 1, "spec": {}}'):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(BundleError):
            load_network(run_folder)
    path.unlink()
    with pytest.raises(RunError):
        load_network(run_folder)
