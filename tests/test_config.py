"""medrail.yaml: what is written comes back, and every mistake is reported at once."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from medrail.config import Config, ServeConfig, load, parse, serve_settings
from medrail.errors import ConfigError, Problem
from medrail.types import ReadOptions

VALID = {
    "task": "segmentation",
    "data": {"kind": "csv", "path": "table.csv", "classes": ["background", "brain"]},
    "model": {"name": "unet", "dims": 2},
}

names = st.text("abcABC_- äß脑", min_size=1, max_size=12)
configs = st.fixed_dictionaries(
    {
        "task": st.just("classification"),
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "data": st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["class_folders", "csv", "pairs", "dicom_folders", "medmnist"]),
                "path": names,
                "patient_pattern": names,
                "classes": st.lists(names, unique=True, max_size=4),
            }
        ),
        "split": st.fixed_dictionaries({"val": st.floats(0, 0.4), "test": st.floats(0, 0.4), "seed": st.integers(0)}),
        "model": st.fixed_dictionaries(
            {"name": st.sampled_from(["resnet18", "tiny_cnn"]), "dims": st.sampled_from([2, 3])}
        ),
        "train": st.fixed_dictionaries({"lr": st.floats(1e-9, 10), "epochs": st.integers(1, 9999)}),
    }
)


@given(configs)
def test_a_config_survives_the_way_through_yaml(values):
    config = parse(values)
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(config.to_dict(), text)
    assert parse(YAML(typ="safe", pure=True).load(text.getvalue())) == config


@given(configs, configs)
def test_equal_fingerprints_mean_equal_values(first, second):
    one, other = parse(first), parse(second)
    for stage in Config.model_fields:
        assert (one.fingerprint(stage) == other.fingerprint(stage)) == (one.to_dict()[stage] == other.to_dict()[stage])


def write(folder: Path, text: str) -> Path:
    (folder / "medrail.yaml").write_text(text, encoding="utf-8")
    return folder / "medrail.yaml"


def test_all_mistakes_come_at_once_with_suggestions(tmp_path):
    path = write(
        tmp_path,
        "task: segmentaton\nmodl: {}\ndata: {kind: cvs, path: x, pattren: y}\nmodel: {name: unet, dims: 2}\n"
        "train: {lr: -1, epochs: many}\n",
    )
    with pytest.raises(ConfigError) as raised:
        load(path, ["train.patience=-2", "nonsense"], step_check=lambda steps: [Problem("prepare.steps.0", "wrong")])
    text = str(raised.value)
    for expected in (
        "'segmentation'",
        "Did you mean 'model'?",
        "Did you mean 'csv'?",
        "Did you mean 'pattern'?",
        "train.lr",
        "train.epochs",
        "train.patience",
        "--set nonsense",
        "prepare.steps.0: wrong",
        str(path),
    ):
        assert expected in text
    assert len(raised.value.problems) == 9


def test_set_overrides_with_yaml_values(tmp_path):
    steps = "prepare: {steps: [{kind: resample, spacing_mm: 1}]}"
    path = write(
        tmp_path, f"task: classification\ndata: {{kind: csv, path: t.csv}}\nmodel: {{name: resnet18, dims: 2}}\n{steps}"
    )
    config = load(
        path,
        ["train.lr=1e-3", "data.classes=[a, b]", "prepare.steps.0.spacing_mm=2", "train.augment.flip=[W]", "name=no"],
    )
    assert config.train.lr == 1e-3
    assert config.data.classes == ("a", "b")
    assert config.prepare.steps[0]["spacing_mm"] == 2
    assert config.train.augment.flip == ("W",)
    assert config.name == "no"  # YAML 1.2: not False


@pytest.mark.parametrize(
    "entry", ["prepare.steps.5.kind=x", "task.deeper=1", "=1", "train.lr", "train.lr=[1"], ids=lambda entry: entry
)
def test_a_set_that_cannot_be_applied_is_a_problem(tmp_path, entry):
    path = write(tmp_path, "task: classification\ndata: {kind: csv, path: t.csv}\nmodel: {name: resnet18, dims: 2}\n")
    with pytest.raises(ConfigError, match="--set"):
        load(path, [entry])


def test_a_mistake_on_the_command_line_is_not_blamed_on_the_file(tmp_path):
    path = write(tmp_path, "task: classification\ndata: {kind: csv, path: t.csv}\nmodel: {name: resnet18, dims: 2}\n")
    for entry in ("slim.margin=0", "train.lr", "prepare.steps.5.kind=x"):
        with pytest.raises(ConfigError) as caught:
            load(path, [entry])
        assert caught.value.where == "the command line", entry
    write(tmp_path, "task: classification\ndata: {kind: csv, path: t.csv}\nmodel: {name: resnet, dims: 2}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, ["slim.margin=0"])
    assert caught.value.where == str(path), "there is one in the file, too"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("task: [", "line"), ("- a\n- b\n", "keys and values"), ("", "keys and values"), ("a: 1\na: 2\n", "duplicate")],
)
def test_a_file_that_is_no_configuration_says_where(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=expected):
        load(write(tmp_path, text))


def test_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match="medrail init"):
        load(tmp_path)
    (tmp_path / "medrail.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read as text"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": {"kind": "csv", "path": "t", "classes": ["one"]}}, "at least two"),
        ({"data": {"kind": "csv", "path": "t", "classes": ["a", "b"], "mask_values": [0]}}, "mask_values"),
        ({"data": {"kind": "csv", "path": "t", "classes": list("abc"), "foreground_nonzero": True}}, "exactly two"),
        ({"model": {"name": "unet", "dims": 3, "patch": [8, 8]}}, "patch"),
        ({"model": {"name": "unet", "dims": 3}, "prepare": {"steps": [{"kind": "slices"}]}}, "step slices"),
        ({"split": {"val": 0.6, "test": 0.5}}, "nothing is left"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, expected):
    with pytest.raises(ConfigError, match=expected):
        parse({**VALID, **change})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(max_examples=200)
def test_whatever_stands_in_a_section_ends_in_a_config_error(value):
    with pytest.raises(ConfigError):
        parse({**VALID, "train": {"lr": 0}, "prepare": value, "data": value})


RESIZE = {"kind": "resize", "size": [64, 48]}


@pytest.mark.parametrize(
    ("steps", "least_px"),
    [
        ([RESIZE], (128, 96)),
        ([{"kind": "orient"}, {"kind": "rgb_to_grey"}, RESIZE, {"kind": "normalise"}], (128, 96)),
        ([{"kind": "grey_to_rgb"}, {**RESIZE, "keep_aspect": True}], (128, 96)),
        ([{"kind": "resize", "size": [1, 64, 48]}], (128, 96)),
        ([{**RESIZE, "antialias": False}], None),
        ([{"kind": "normalise"}, RESIZE], None),
        ([{"kind": "crop_foreground"}, RESIZE], None),
        ([RESIZE, {"kind": "crop_roi"}], None),
        ([{"kind": "rgb_to_grey"}], None),
        ([], None),
        ([{"kind": "resize"}], None),
        ([{"kind": "resize", "size": 64}], None),
    ],
)
def test_jpegs_are_reduced_only_before_a_resize_that_shrinks_them(steps, least_px):
    values = {"task": "classification", "data": {"kind": "csv", "path": "a.csv", "voi_lut": "apply"}}
    values |= {"model": {"name": "tiny_cnn", "dims": 2}, "prepare": {"steps": steps}}
    config = parse(values)
    assert config.read_options == ReadOptions(voi_lut="apply", jpeg_least_px=least_px)
    assert config.data.read_options == ReadOptions(voi_lut="apply"), "pictures are looked at at their full size"
    full = parse({**values, "data": {**values["data"], "jpeg": "full"}})
    masks = parse({**VALID, "prepare": {"steps": steps}})
    assert full.read_options == full.data.read_options
    assert masks.read_options == masks.data.read_options, "a mask must come back to the raw grid"


def test_settings_of_the_service_are_overridden_and_mistakes_are_all_told() -> None:
    found = serve_settings(ServeConfig(host="0.0.0.0"), ["serve.port=8001", "serve.engine=openvino"])
    assert (found.host, found.port, found.engine) == ("0.0.0.0", 8001, "openvino")
    with pytest.raises(ConfigError) as caught:
        serve_settings(ServeConfig(), ["serve.prot=1", "train.lr=1", "port=8001", "serve.port=99999", "serve.threads"])
    assert {problem.key for problem in caught.value.problems} == {
        "serve.prot",
        "--set train.lr",
        "--set port",
        "serve.port",
        "--set serve.threads",
    }
    assert "Did you mean 'port'?" in str(caught.value)
