"""The store: what goes in comes out, and what is broken is said to be broken."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from medrail.errors import RunError
from medrail.prepare.pipeline import Pipeline
from medrail.prepare.store import Store
from medrail.types import Image
from medrail.workspace import Workspace


@pytest.fixture
def pipeline() -> Pipeline:
    steps = [{"kind": "orient"}, {"kind": "resample", "spacing_mm": 2}, {"kind": "window", "preset": "brain"}]
    return Pipeline.from_dict(steps)


@pytest.fixture
def store(tmp_path, pipeline, volume, roi) -> Store:
    store = Store(Workspace(tmp_path), pipeline)
    store.begin()
    prepared = pipeline(volume)
    store.write("with-mask", prepared, pipeline.replay(roi, prepared.history), "aa")
    store.write("image.only", prepared, None, "bb")
    return store


def test_what_goes_in_comes_out(store, pipeline, volume, roi):
    expected = pipeline(volume)
    image, mask = store.load("with-mask")
    assert np.array_equal(image.voxels, expected.voxels)
    assert image.voxels.dtype == np.float32
    assert np.array_equal(image.geometry.affine_ras_mm, expected.geometry.affine_ras_mm)
    assert (image.unit, image.source) == (expected.unit, expected.source)
    assert [dict(a.params) for a in image.history] == [dict(a.params) for a in expected.history]
    assert mask.voxels.dtype == np.uint8
    assert mask.unit == "label"
    assert store.load("image.only")[1] is None
    back = pipeline.invert(mask, image.history, labels=True)
    assert back.grid == volume.grid
    assert np.array_equal(back.geometry.affine_ras_mm, volume.geometry.affine_ras_mm)


def test_pictures_have_no_geometry(tmp_path):
    pipeline = Pipeline.from_dict([])
    store = Store(Workspace(tmp_path), pipeline)
    store.begin()
    store.write("a", pipeline(Image(np.zeros((3, 1, 4, 5), np.uint8), unit="uint8")), None, "aa")
    image, _ = store.load("a")
    assert image.geometry is None
    assert image.voxels.dtype == np.uint8


def test_a_person_can_read_it(store, pipeline):
    assert store.folder.name == pipeline.fingerprint[:12]
    record = json.loads((store.folder / "pipeline.json").read_text())
    assert record["steps"] == pipeline.to_dict()
    assert np.load(store.cases / "with-mask.image.npy").shape[0] == 1


def test_ids_and_fingerprint(store):
    assert store.ids() == ("image.only", "with-mask")
    both = store.fingerprint(["with-mask", "image.only"])
    assert both == store.fingerprint(["image.only", "with-mask"])
    assert both != store.fingerprint(["with-mask"])
    image, mask = store.load("with-mask")
    store.write("with-mask", image, mask, "cc")
    assert both != store.fingerprint(["with-mask", "image.only"])
    with pytest.raises(RunError, match=r"case nobody is not prepared.*medrail prepare"):
        store.fingerprint(["nobody"])


def test_remove_leaves_nothing(store):
    store.remove("with-mask")
    assert store.ids() == ("image.only",)
    assert not list(store.cases.glob("with-mask*"))
    store.remove("with-mask")


def break_json(store):
    (store.cases / "with-mask.json").write_text("{")


def break_record(store):
    path = store.cases / "with-mask.json"
    entry = json.loads(path.read_text())
    del entry["history"], entry["source_fingerprint"]
    path.write_text(json.dumps(entry))


def truncate_image(store):
    path = store.cases / "with-mask.image.npy"
    path.write_bytes(path.read_bytes()[:-7])


def lose_mask(store):
    (store.cases / "with-mask.mask.npy").unlink()


def swap_image(store):
    np.save(store.cases / "with-mask.image.npy", np.zeros((1, 2, 3, 4), np.float32))


def other_pipeline(store):
    path = store.cases / "with-mask.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pipeline": "0" * 64}))


@pytest.mark.parametrize(
    "damage",
    [break_json, break_record, truncate_image, lose_mask, swap_image, other_pipeline],
    ids=lambda d: d.__name__,
)
def test_damage_is_told_and_counts_as_not_prepared(store, damage):
    damage(store)
    with pytest.raises(RunError):
        store.load("with-mask")
    assert store.source_fingerprint("with-mask") is None
    assert store.source_fingerprint("image.only") == "bb"


def test_an_interrupted_write_leaves_no_half_case(store, monkeypatch, pipeline, volume, roi):
    prepared = pipeline(volume)

    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["medrail.prepare.store"], "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write("with-mask", prepared, pipeline.replay(roi, prepared.history), "dd")
    assert store.ids() == ("image.only",)
    assert store.source_fingerprint("with-mask") is None


def test_a_full_disk_leaves_no_temporary_file(store, monkeypatch, pipeline, volume):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        store.write("new", pipeline(volume), None, "dd")
    assert not [path for path in store.cases.iterdir() if "new" in path.name]


def test_folder_of_another_pipeline_is_refused(store):
    (store.folder / "pipeline.json").write_text('{"fingerprint": "x", "steps": []}')
    with pytest.raises(RunError, match="holds another pipeline"):
        store.begin()
