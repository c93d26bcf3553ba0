"""A network trained elsewhere becomes a bundle that answers as its file, whatever its layout, type and ending."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import PIL.Image
import pytest

from medrail.adopt import Given, Label, adopt
from medrail.adopt import adopt as adopt_function
from medrail.adopt import trial as trial_room
from medrail.bundle import load_bundle
from medrail.cli import main
from medrail.errors import BundleError, ConfigError, InputError
from medrail.read import read, write_nifti
from medrail.types import Geometry, Image
from strangers_networks import SIZE, answer, network

CLASSES = ("a", "b", "c")
adopt_room: Any = sys.modules["medrail.adopt.adopt"]


@pytest.fixture(autouse=True)
def _looked_at_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a process of its own: how that one ends is tested with the hostile files."""
    monkeypatch.setattr(
        adopt_room, "look_at", lambda content, free, layout, where: trial_room._looked(content, free, layout)
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def adopted(tmp_path: Path, content: bytes, given: Given, *tried: Image, name: str = "theirs") -> Any:
    path = tmp_path / f"{name}.onnx"
    path.write_bytes(content)
    return adopt(path, given, tmp_path / "bundles", Label(name), tried)


def given(layout: str = "NHWC", classes: tuple[str, ...] = CLASSES, **more: Any) -> Given:
    return Given(classes, layout, **({"scale": "0..1"} | more))


def softmax(z: np.ndarray, axis: int = 1) -> np.ndarray:
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("ending", ["logits", "softmax", "log_softmax", "identity", "own"])
def test_it_answers_as_plain_onnx_runtime(tmp_path: Path, picture: Path, layout: str, ending: str) -> None:
    content = network(ending, layout)
    one = adopted(tmp_path, content, given(layout))
    pixels = np.asarray(PIL.Image.open(picture), dtype=np.float32)[None] / 255
    theirs = answer(content, pixels if layout == "NHWC" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))[0]
    expected = theirs if ending in ("softmax", "identity", "own") else softmax(theirs, 0)
    prediction = load_bundle(one.folder, 1)(read(picture))
    assert list(prediction.probabilities) == list(CLASSES)
    assert list(prediction.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("ending", "answers"), [("sigmoid", "auto"), ("logits", "auto"), ("squashed", "probabilities")]
)
def test_a_single_output_is_how_probable_the_second_class_is(
    tmp_path: Path, picture: Path, ending: str, answers: Any
) -> None:
    content = network(ending, classes=1)
    one = adopted(tmp_path, content, given(classes=("no", "yes"), answers=answers))
    theirs = float(answer(content, np.asarray(PIL.Image.open(picture), dtype=np.float32)[None] / 255)[0, 0])
    if ending == "logits":
        theirs = 1 / (1 + np.exp(-theirs))
    assert load_bundle(one.folder, 1)(read(picture)).probabilities["yes"] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(("ending", "answers"), [("sigmoid", "auto"), ("squashed", "probabilities")])
def test_several_labels_keep_their_own_probabilities(tmp_path: Path, picture: Path, ending: str, answers: Any) -> None:
    content = network(ending)
    one = adopted(tmp_path, content, given(multi_label=True, answers=answers))
    theirs = answer(content, np.asarray(PIL.Image.open(picture), dtype=np.float32)[None] / 255)[0]
    prediction = load_bundle(one.folder, 1)(read(picture))
    assert list(prediction.probabilities.values()) == pytest.approx(theirs.tolist(), abs=1e-6)
    assert prediction.findings == tuple(name for name, p in zip(CLASSES, theirs, strict=True) if p >= 0.5)


SCALED: dict[str, Any] = {
    "0..255": lambda x: x,
    "0..1": lambda x: x / 255,
    "-1..1": lambda x: x / 127.5 - 1,
    "imagenet": lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    "caffe": lambda x: x[..., ::-1] - [103.939, 116.779, 123.68],  # as keras.applications.vgg16.preprocess_input
    "zscore": lambda x: (x - x.mean((0, 1))) / x.std((0, 1)),
}


@pytest.mark.parametrize("scale", SCALED)
def test_each_scale_is_what_its_name_says(tmp_path: Path, picture: Path, scale: str) -> None:
    content = network("softmax")
    one = adopted(tmp_path, content, given(scale=scale))
    pixels = np.asarray(PIL.Image.open(picture), dtype=np.float64)
    theirs = answer(content, SCALED[scale](pixels).astype(np.float32)[None])[0]
    found = load_bundle(one.folder, 1)(read(picture)).probabilities
    assert list(found.values()) == pytest.approx(theirs.tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", ["float16", "uint8", "float64"])
def test_other_types_of_input_are_given_what_they_want(tmp_path: Path, picture: Path, kind: str) -> None:
    content = network("softmax", kind=kind)
    one = adopted(tmp_path, content, given(scale="0..255", color="bgr"))
    theirs = answer(content, np.asarray(PIL.Image.open(picture))[None, :, :, ::-1].astype(kind))[0]
    found = load_bundle(one.folder, 1)(read(picture)).probabilities
    assert list(found.values()) == pytest.approx(theirs.tolist(), abs=1e-6)


@pytest.mark.parametrize(("opset", "as_inputs"), [(8, True), (11, False), (12, False), (13, False), (21, False)])
def test_old_and_new_opsets(tmp_path: Path, opset: int, as_inputs: bool) -> None:
    content = network("softmax", opset=opset, as_inputs=as_inputs)
    one = adopted(tmp_path, content, given())
    assert one.manifest.provenance["imported"]["opset"] == opset
    assert one.manifest.parity["max_abs_difference"] < 1e-6


@pytest.mark.parametrize(("layout", "ending"), [("NHWC", "softmax"), ("NCHW", "logits"), ("NHWC", "own")])
def test_maps_of_the_image_are_segmentations(tmp_path: Path, picture: Path, layout: str, ending: str) -> None:
    content = network(ending, layout, maps=True)
    one = adopted(tmp_path, content, given(layout))
    pixels = np.asarray(PIL.Image.open(picture), dtype=np.float32)[None] / 255
    theirs = answer(content, pixels if layout == "NHWC" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))[0]
    mask = load_bundle(one.folder, 1)(read(picture)).mask
    assert mask is not None
    np.testing.assert_array_equal(mask.voxels[0, 0], theirs.argmax(2 if layout == "NHWC" else 0))


def test_one_map_for_two_classes(tmp_path: Path, picture: Path) -> None:
    content = network("sigmoid", maps=True, classes=1)
    one = adopted(tmp_path, content, given(classes=("background", "lesion")))
    theirs = answer(content, np.asarray(PIL.Image.open(picture), dtype=np.float32)[None] / 255)[0, :, :, 0]
    mask = load_bundle(one.folder, 1)(read(picture)).mask
    assert mask is not None
    np.testing.assert_array_equal(mask.voxels[0, 0], theirs > 0.5)


def test_a_network_of_volumes_with_steps_of_its_own(tmp_path: Path) -> None:
    content = network("softmax", "NDHWC", channels=1, size=(4, 6, 8))
    window = {"kind": "window", "center_hu": 0.0, "width_hu": 400.0}
    steps = (window, {"kind": "resize", "size": [4, 6, 8]})
    one = adopted(tmp_path, content, given("NDHWC", scale="", steps=steps, unit="HU"))
    voxels = np.random.default_rng(0).uniform(-150, 150, (1, 4, 6, 8)).astype(np.float32)
    image = Image(voxels, Geometry.from_spacing((3.0, 1.0, 0.8)), unit="HU")
    theirs = answer(content, (np.moveaxis(voxels, 0, -1)[None] + 200) / 400)[0]
    found = load_bundle(one.folder, 1)(image).probabilities
    assert list(found.values()) == pytest.approx(theirs.tolist(), abs=1e-6)
    write_nifti(image, tmp_path / "volume.nii.gz")
    with pytest.raises(InputError, match="a picture"):
        load_bundle(one.folder, 1)(Image(voxels[:, :1], unit="HU"))


def test_one_image_at_a_time_where_the_file_says_so(tmp_path: Path, picture: Path) -> None:
    """A reshape to a batch of one: the number of images cannot be left free."""
    model = onnx.load_model_from_string(network("softmax", batch=1))
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 3], np.int64), "one"))
    reshape = onnx.helper.make_node("Reshape", [flatten.input[0], "one"], list(flatten.output))
    flatten.CopyFrom(reshape)
    one = adopted(tmp_path, model.SerializeToString(), given())
    assert "it takes one image at a time" in one.manifest.provenance["imported"]["changes"]
    load_bundle(one.folder, 1)(read(picture))
    free = adopted(tmp_path, network("softmax", batch=1), given(), name="free")
    assert "it takes one image at a time" not in free.manifest.provenance["imported"]["changes"]


def test_other_sizes_are_resized_and_grey_becomes_colour(tmp_path: Path) -> None:
    content = network("softmax", size=("h", "w"))
    one = adopted(tmp_path, content, given(size=(10, 12)))
    grey = Image(np.random.default_rng(0).integers(0, 256, (1, 1, 31, 50), dtype=np.uint8), unit="uint8")
    assert sum(load_bundle(one.folder, 1)(grey).probabilities.values()) == pytest.approx(1)
    with pytest.raises(BundleError, match=r"leaves H free.*--size"):
        adopted(tmp_path, content, given())


def test_what_was_not_known_stands_on_the_card_and_what_was_personal_nowhere(tmp_path: Path, picture: Path) -> None:
    one = adopted(tmp_path, network("softmax"), given(), read(picture))
    assert [prediction.class_name in CLASSES for prediction in one.tried] == [True]
    card = (one.folder / "card.md").read_text(encoding="utf-8")
    for said in ("Not a medical device", "not evaluated here", "no calibration", "a softmax, is left out", "NHWC"):
        assert said in card
    assert not any(b"somebody" in path.read_bytes() for path in one.folder.iterdir())
    assert one.manifest.metrics == {}
    pixels = np.asarray(PIL.Image.open(picture))
    reference = np.load(one.folder / "reference.npz")["inputs"].astype(np.float32)
    own = pixels.transpose(2, 0, 1).astype(np.float32) / 255
    assert not any(np.allclose(own, kept, atol=1e-2) for kept in reference), "no real image travels in a bundle"


@pytest.mark.parametrize(
    ("content", "said", "expected"),
    [
        (network("softmax"), {"classes": ("a", "b")}, "2 classes were named, and the output answer tells of 3"),
        (network("sigmoid"), {}, "--multi-label"),
        (network("softmax"), {"multi_label": True}, "ends in a softmax"),
        (network("softmax"), {"answers": "logits"}, "ends in a softmax"),
        (network("logits"), {"answers": "probabilities"}, "the answers are none"),
        (network("squashed", classes=1), {"classes": ("a", "b")}, "--answers logits or --answers probabilities"),
        (network("softmax"), {"layout": "NCHW"}, "layout NCHW"),
        (network("softmax", channels=5), {}, "5 channels"),
        (network("softmax"), {"output": "anser"}, "Did you mean 'answer'"),
        (network("softmax"), {"layout": "NDHWC"}, "5 axes"),
        (network("softmax"), {"size": (9, 9)}, "H is 6 in the file"),
        (network("softmax"), {"color": "grey"}, "three channels"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    tmp_path: Path, content: bytes, said: dict[str, Any], expected: str
) -> None:
    with pytest.raises((ConfigError, BundleError), match=expected):
        adopted(tmp_path, content, given(**said))
    assert not (tmp_path / "bundles").exists()


@pytest.mark.parametrize(
    "said",
    [
        {"layout": "HWC"},
        {"scale": "0-1"},
        {"scale": ""},
        {"scale": "0..1", "steps": ({"kind": "resize"},)},
        {"unit": "HU"},
        {"unit": "uint16", "scale": "0..1"},
        {"classes": ("a",)},
        {"classes": ("a", "a")},
        {"size": (1, 2, 3)},
    ],
)
def test_what_is_said_must_fit_together(said: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        given(**said)


def test_a_bundle_that_would_answer_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt_room, "largest_gap", lambda *_, **__: 1e-3)
    with pytest.raises(BundleError, match="otherwise than the file"):
        adopted(tmp_path, network("softmax"), given())
    assert not (tmp_path / "bundles").exists()


def test_a_network_without_numbers_and_a_place_that_is_taken_are_named(tmp_path: Path) -> None:
    nowhere = onnx.load_model_from_string(network("logits"))
    next(one for one in nowhere.graph.initializer).CopyFrom(
        onnx.numpy_helper.from_array(np.full((3, 3, 1, 1), np.nan, np.float32), "kernel")
    )
    with pytest.raises(BundleError, match="not finite"):
        adopted(tmp_path, nowhere.SerializeToString(), given())
    content = network("softmax")
    folder = adopted(tmp_path, content, given()).folder
    again = adopted(tmp_path, content, given(scale="-1..1"))
    assert again.folder == folder, "what was imported may be imported again"
    replace(again.manifest, provenance={"run": "theirs-001"}).write(folder)
    before = (folder / "bundle.json").read_bytes()
    with pytest.raises(BundleError, match=r"a bundle of a run.*--name or --version"):
        adopted(tmp_path, content, given())
    assert (folder / "bundle.json").read_bytes() == before


def test_the_command_imports_tries_verifies_and_shows(
    tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs.onnx").write_bytes(network("softmax"))
    Path("labels.txt").write_text("a\nb\nc\n")
    words = ["bundle", "import", "theirs.onnx", "--classes", "@labels.txt", "--layout", "NHWC", "--scale", "0..1"]
    assert main([*words, "--try", str(picture), "--about", "from a lab", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["bundle"] == str(Path("bundles/theirs/1"))
    assert sum(values["tried"][0]["probabilities"].values()) == pytest.approx(1)
    assert "from a lab" in Path("bundles/theirs/1/card.md").read_text()
    for subverb in ("verify", "show"):
        assert main(["bundle", subverb, "."]) == 0
    assert "not evaluated here" in capsys.readouterr().out
    Path("bundles/theirs/1/notes.txt").write_text("mine")
    assert main(["bundle", "verify", ".", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["unlisted"] == ["notes.txt"]
    assert "notes.txt is no part of the bundle" in told.err
    Path("bundles/theirs/1/card.md").write_text("tampered")
    assert main(["bundle", "verify", "bundles/theirs/1"]) == 1
    assert main([*words, "--name", "../x"]) == 2
    for absent in ("absent.onnx", "."):
        assert main(["bundle", "import", absent, *words[3:]]) == 2
        assert f"{absent}: there is no such file" in capsys.readouterr().err


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "theirs.onnx").write_bytes(network("softmax"))
    words = ["bundle", "import", "theirs.onnx", "--classes", "a,b,c", "--layout", "NHWC", "--scale", "0..1"]
    code = (
        f"import sys\nfrom medrail.cli import main\ncode = main({words!r})\n"
        "assert not {'torch', 'monai'} & set(sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundles" / "theirs" / "1" / "bundle.json").is_file()


@pytest.mark.slow
def test_a_network_of_pytorch_as_the_how_to_writes_it(tmp_path: Path, picture: Path) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter about torch
        torch.onnx.export(
            model.eval(),
            (torch.zeros(2, 3, *SIZE),),
            path,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    one = adopt_function(path, given("NCHW"), tmp_path / "bundles", Label("model"))
    pixels = torch.from_numpy(np.array(PIL.Image.open(picture))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        theirs = model(pixels).softmax(1)[0].tolist()
    assert list(load_bundle(one.folder, 1)(read(picture)).probabilities.values()) == pytest.approx(theirs, abs=1e-5)
