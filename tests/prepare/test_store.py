"""The store: what goes in comes out, and what is broken is said to be broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medrail.errors import PrepareError, RunError
from medrail.prepare.arrays import TEMPORARY_PREFIX
from medrail.prepare.keeper import Keeper, Place, put, write_case
from medrail.prepare.manifest import ManifestWriter
from medrail.prepare.pipeline import Pipeline, Prepared
from medrail.prepare.store import Store
from medrail.types import Image
from medrail.workspace import Workspace


@pytest.fixture
def pipeline() -> Pipeline:
    steps = [{"kind": "orient"}, {"kind": "resample", "spacing_mm": 2}, {"kind": "window", "preset": "brain"}]
    return Pipeline.from_dict(steps)


def drop(store, case_id) -> None:
    with Keeper(store, 1) as keeper:
        keeper.remove(case_id)


def change_line(store, change) -> None:
    """Rewrite the line of with-mask."""
    entry = json.loads(json.dumps(store.entries["with-mask"]))
    change(entry)
    with ManifestWriter(store.manifest_file) as writer:
        writer.add(entry)


@pytest.fixture
def store(tmp_path, pipeline, volume, roi) -> Store:
    store = Store(Workspace(tmp_path), pipeline)
    prepared = pipeline.compact(volume)
    put(store, "with-mask", prepared, pipeline.replay(roi, prepared.image.history), "aa")
    put(store, "image.only", prepared, None, "bb")
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
    put(store, "a", pipeline.compact(Image(np.zeros((3, 1, 4, 5), np.uint8), unit="uint8")), None, "aa")
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
    prepared, mask = store.stored("with-mask")
    put(store, "with-mask", prepared, mask, "cc")
    assert both != store.fingerprint(["with-mask", "image.only"])
    with pytest.raises(RunError, match=r"case nobody is not prepared.*medrail prepare"):
        store.fingerprint(["nobody"])


def test_remove_leaves_nothing(store):
    drop(store, "with-mask")
    assert store.ids() == ("image.only",)
    assert not list(store.cases.glob("with-mask*"))
    drop(store, "with-mask")


def half_a_line(store):
    """Of the last case, as a kill leaves it."""
    lines = store.manifest_file.read_text().splitlines(keepends=True)
    ours = next(line for line in lines if '"with-mask"' in line)
    store.manifest_file.write_text("".join(line for line in lines if line != ours) + ours[: len(ours) // 2])


def break_record(store):
    def lose(entry):
        del entry["history"], entry["made_from"]

    change_line(store, lose)


def truncate_image(store):
    path = store.cases / "with-mask.image.npy"
    path.write_bytes(path.read_bytes()[:-7])


def lose_mask(store):
    (store.cases / "with-mask.mask.npy").unlink()


def swap_image(store):
    np.save(store.cases / "with-mask.image.npy", np.zeros((1, 2, 3, 4), np.float32))


def other_pipeline(store):
    change_line(store, lambda entry: entry.update(pipeline="0" * 12))


@pytest.mark.parametrize(
    "damage",
    [half_a_line, break_record, truncate_image, lose_mask, swap_image, other_pipeline],
    ids=lambda d: d.__name__,
)
def test_damage_is_told_and_counts_as_not_prepared(store, damage):
    damage(store)
    with pytest.raises(RunError):
        store.load("with-mask")
    assert store.source_fingerprint("with-mask") is None
    assert store.source_fingerprint("image.only") == "bb"
    assert store.sources() == {"image.only": "bb"}


@pytest.mark.parametrize("broken", ['{"case": "x", "im', "{}, {}", "", "[1", "\udcff"])
def test_a_broken_line_costs_no_other(store, broken):
    before, *after = store.manifest_file.read_text().splitlines()
    text = "\n".join([before, broken, *after, ""])
    store.manifest_file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert store.sources() == {"with-mask": "aa", "image.only": "bb"}


def test_a_changed_number_is_found(store):
    path = store.cases / "with-mask.image.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="not those that were written"):
        store.load("with-mask")


def test_an_interrupted_write_leaves_no_half_case(store, monkeypatch, pipeline, volume, roi):
    prepared = pipeline.compact(volume)

    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(ManifestWriter, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(store, "with-mask", prepared, pipeline.replay(roi, prepared.image.history), "dd")
    assert store.ids() == ("image.only",)
    assert store.source_fingerprint("with-mask") is None


def test_a_full_disk_leaves_no_temporary_file(store, monkeypatch, pipeline, volume):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "chmod", full)
    with pytest.raises(OSError, match="No space left"):
        put(store, "new", pipeline.compact(volume), None, "dd")
    assert not [path for path in store.cases.iterdir() if "new" in path.name or TEMPORARY_PREFIX in path.name]
    assert "new" not in store.ids()


def test_what_a_killed_process_was_writing_is_swept(store):
    (store.cases / f"{TEMPORARY_PREFIX}abc").write_bytes(b"half")
    drop(store, "nobody")
    assert not list(store.cases.glob(f"{TEMPORARY_PREFIX}*"))


def test_folder_of_another_pipeline_is_refused(store):
    (store.folder / "pipeline.json").write_text('{"fingerprint": "x", "steps": []}')
    with pytest.raises(RunError, match="holds another pipeline"):
        drop(store, "nobody")


def test_a_second_writer_is_refused(store):
    with Keeper(store, 1), pytest.raises(RunError, match=r"another `medrail prepare` \(process \d+\) is writing it"):
        drop(store, "nobody")


PICTURES = [{"kind": "resize", "size": [6, 7]}, {"kind": "normalise"}]


def pictures(count, masks=False, size=(12, 9)):
    pipeline = Pipeline.from_dict(PICTURES)
    for number in range(count):
        rng = np.random.default_rng(number)
        image = Image(rng.integers(0, 255, (3, 1, *size), np.uint8), unit="uint8", source=f"{number}.png")
        prepared = pipeline.compact(image)
        mask = Image(rng.integers(0, 3, (1, 1, *size), np.uint8), unit="label")
        yield f"c{number}", prepared, pipeline.replay(mask, prepared.image.history) if masks else None


@pytest.mark.parametrize("masks", [False, True])
def test_pictures_of_one_size_are_rows_of_one_array(tmp_path, masks):
    store = Store(Workspace(tmp_path), Pipeline.from_dict(PICTURES))
    made = list(pictures(20, masks))
    with Keeper(store, 20) as keeper:
        for case_id, prepared, mask in made:
            keeper.keep(case_id, write_case(keeper.place(case_id), prepared, mask, case_id))
    assert not list(store.cases.iterdir())
    rows = np.load(store.folder / "pictures.npy", mmap_mode="r")
    assert rows.shape == (20, 3, 6, 7)
    assert rows.dtype == np.uint8
    for case_id, prepared, mask in made:
        line = store.entries[case_id]
        assert np.array_equal(rows[line["image"]["row"]], prepared.image.voxels[:, 0])
        seen = (rows[line["image"]["row"]].astype(np.float32).T - np.float32(line["subtract"])) * np.float32(
            line["multiply"]
        )
        image, found = store.load(case_id)
        assert np.array_equal(image.voxels, prepared.decoded().voxels)
        np.testing.assert_array_equal(seen.T, image.voxels[:, 0])
        mapped, _ = store.stored(case_id, mapped=True)
        assert np.array_equal(mapped.image.voxels, prepared.image.voxels)
        assert found is None if mask is None else np.array_equal(found.voxels, mask.voxels)


def fill(store, made, expected=20):
    with Keeper(store, expected) as keeper:
        for case_id, prepared, mask in made:
            keeper.keep(case_id, write_case(keeper.place(case_id), prepared, mask, case_id))


def rows_in(store, name="pictures.npy") -> int:
    return np.load(store.folder / name, mmap_mode="r").shape[0]


def test_rows_at_the_end_are_cut_and_new_ones_are_added_there(tmp_path):
    """A row is never used for another case while a training may have it mapped."""
    store = Store(Workspace(tmp_path), Pipeline.from_dict(PICTURES))
    made = list(pictures(18))
    fill(store, made)
    for gone in ("c3", "c17"):
        drop(store, gone)
    assert rows_in(store) == 17
    put(store, "new", *made[5][1:], "x")
    assert store.entries["new"]["image"]["row"] == 17
    for case_id, prepared, _ in [*made[4:17], ("new", made[5][1], None)]:
        assert np.array_equal(store.load(case_id)[0].voxels, prepared.decoded().voxels)
    for case_id in store.ids():
        drop(store, case_id)
    assert not (store.folder / "pictures.npy").exists()


def test_pictures_of_other_sizes_have_arrays_of_their_own(tmp_path):
    store = Store(Workspace(tmp_path), Pipeline.from_dict([]))
    made = []
    for number, side in enumerate([5, *[8] * 10, *[9] * 10, 10, 11, 12]):
        voxels = np.full((3, 1, side, side), number, np.uint8)
        made.append((f"c{number}", Pipeline.from_dict([]).compact(Image(voxels, unit="uint8")), None))
    fill(store, made)
    assert [rows_in(store, name) for name in ("pictures.npy", "pictures-2.npy", "pictures-3.npy")] == [1, 10, 10]
    assert rows_in(store, "pictures-4.npy") == 1
    assert sorted(path.name for path in store.cases.iterdir()) == ["c22.image.npy", "c23.image.npy"]
    for case_id, prepared, _ in made:
        assert np.array_equal(store.load(case_id)[0].voxels, prepared.image.voxels)
    assert set(store.sources()) == {case_id for case_id, _, _ in made}


def test_lost_rows_lose_their_lines(tmp_path):
    store = Store(Workspace(tmp_path), Pipeline.from_dict(PICTURES))
    made = list(pictures(18, masks=True))
    fill(store, made)
    path = store.folder / "pictures.npy"
    path.write_bytes(path.read_bytes()[: 256 + 10 * 3 * 6 * 7 + 5])
    assert len(store.sources()) == 10
    fill(store, made[10:])
    assert len(store.sources()) == 18
    path.unlink()
    assert not store.sources()
    fill(store, made)
    for case_id, prepared, mask in made:
        image, found = store.load(case_id)
        assert np.array_equal(image.voxels, prepared.decoded().voxels)
        assert np.array_equal(found.voxels, mask.voxels)


def test_a_worker_that_is_late_changes_nothing(tmp_path):
    """It did a case that another one has kept meanwhile, and that somebody has changed since."""
    store = Store(Workspace(tmp_path), Pipeline.from_dict([]))
    old, new = (Pipeline.from_dict([]).compact(Image(np.full((1, 4, 5, 6), n, np.int16))) for n in (1, 2))
    late = write_case(Place(store, "a"), old, None, "old") if store.cases.mkdir(parents=True) is None else None
    put(store, "a", new, None, "new")
    assert store.load("a")[0].voxels.max() == 2
    with Keeper(store, 1) as keeper, pytest.raises(FileNotFoundError):
        keeper.keep("a", late)  # its file was swept


def test_broken_numbers_are_made_again(store, pipeline, volume):
    path = store.cases / "with-mask.image.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert store.source_fingerprint("with-mask") == "aa"
    with pytest.raises(RunError, match="not those that were written"):
        store.load("with-mask")
    assert store.source_fingerprint("with-mask") is None
    assert set(store.sources()) == {"image.only"}
    put(store, "with-mask", pipeline.compact(volume), None, "aa")
    assert set(store.sources()) == {"image.only", "with-mask"}
    store.load("with-mask")


def test_names_that_are_no_text_come_back(tmp_path):
    store = Store(Workspace(tmp_path), Pipeline.from_dict([]))
    source = b"/data/\xff\xfe.png".decode("utf-8", "surrogateescape")
    for _ in range(8):  # so that the manifest is written anew as well
        put(store, "a", Pipeline.from_dict([]).compact(Image(np.zeros((1, 4, 5, 6)), source=source)), None, "x")
    assert store.entries["a"]["source"] == source


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    store = Store(Workspace(tmp_path), Pipeline.from_dict([]))
    voxels = np.zeros((1, 4, 5, 6), np.float32)
    voxels[0, 2, 3, 4] = np.inf
    with pytest.raises(PrepareError, match="not finite"):
        put(store, "a", Prepared(Image(voxels)), None, "x")


def test_a_second_hand_in_the_manifest_is_noticed(tmp_path):
    with ManifestWriter(tmp_path / "manifest.jsonl") as writer:
        writer.add({"case": "a"})
        with (tmp_path / "manifest.jsonl").open("a") as other:
            other.write('{"case": "b"}\n')
        with pytest.raises(RunError, match="another process has written"):
            writer.add({"case": "c"})


def test_plain_store_holds_what_the_network_sees(tmp_path):
    store = Store(Workspace(tmp_path), Pipeline.from_dict(PICTURES), plain=True)
    made = list(pictures(17))
    with Keeper(store, 17) as keeper:
        for case_id, prepared, mask in made:
            keeper.keep(case_id, write_case(keeper.place(case_id), prepared, mask, case_id))
    assert store.folder.name.endswith("-npy")
    for case_id, prepared, _ in made:
        array = np.load(store.cases / f"{case_id}.image.npy")
        assert array.dtype == np.float32
        assert np.array_equal(array, prepared.decoded().voxels)
        assert np.array_equal(store.load(case_id)[0].voxels, array)


def test_the_manifest_drops_replaced_lines(store, pipeline, volume):
    for _ in range(5):
        put(store, "image.only", pipeline.compact(volume), None, "cc")
    assert len(store.manifest_file.read_text().splitlines()) <= 4
    assert store.ids() == ("image.only", "with-mask")
