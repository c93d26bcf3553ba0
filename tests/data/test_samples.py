"""Samples: what a batch holds, for slices, volumes and patches, in memory and beyond it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from medrail.config import AugmentConfig, TrainConfig
from medrail.data import Needs, Patches, Wholes, batches, generator, load_samples
from medrail.data.memory import kept
from medrail.data.rows import Apart, Together
from medrail.data.stored import Stored
from medrail.errors import CaseError, PrepareError, RunError
from medrail.prepare import Pipeline, Store
from medrail.prepare.keeper import put as keep
from medrail.prepare.pipeline import Prepared
from medrail.types import Case, Geometry, Image
from medrail.workspace import Workspace

GRID = (3, 8, 16)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Workspace(tmp_path), Pipeline.from_dict([]))


def put(store: Store, name: str, grid: tuple[int, ...] = GRID, channels: int = 1, **how: Any) -> Case:
    """A prepared case whose every voxel tells case, channel and place."""
    number = int(name.removeprefix("c"))
    voxels = np.arange(channels * int(np.prod(grid)), dtype=how.get("dtype", np.float32)).reshape(channels, *grid)
    voxels = (voxels + number * 1000).astype(voxels.dtype)
    mask = None
    if how.get("mask", True):
        labels = np.zeros((1, *grid), np.uint8)
        labels[0, :, 2:4, 3:6] = how.get("label", 1)
        mask = Image(labels, unit="label")
    geometry = Geometry.from_spacing(how["spacing_mm"]) if "spacing_mm" in how else None
    keep(store, name, Prepared(Image(how.get("voxels", voxels), geometry)), mask, f"source of {name}")
    return Case(name, name, (f"/raw/{name}.nii",), how.get("target", ("cat", "dog")[number % 2]), "train")


def needs(task: Any = "classification", dims: int = 2, **changes: Any) -> Needs:
    classes = ("cat", "dog") if task == "classification" else ("background", "organ")
    values: dict[str, Any] = {"task": task, "classes": classes, "network": "a network", "dims": dims, "channels": 1}
    return Needs(**{**values, **changes})


def all_of(samples: Any) -> tuple[torch.Tensor, torch.Tensor]:
    taken, targets = samples.take(torch.arange(samples.count), generator(0))
    return taken.floats(), targets


def test_two_dimensions_every_slice_of_every_case_is_a_sample(store: Store) -> None:
    cases = [put(store, "c1", (3, 8, 16)), put(store, "c2", (5, 8, 16))]
    samples = load_samples(store, cases, needs())
    images, targets = all_of(samples)
    assert (samples.count, samples.size, samples.class_counts) == (8, (8, 16), (5, 3))
    assert images.shape == (8, 1, 8, 16)
    assert images.dtype == torch.float32
    assert targets.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    second_slice = store.load("c2")[0].voxels[:, 1]
    np.testing.assert_array_equal(images[4].numpy(), second_slice)


def test_three_dimensions_every_volume_is_a_sample(store: Store) -> None:
    cases = [put(store, name, channels=2, spacing_mm=(5.0, 0.7, 0.9)) for name in ("c1", "c2", "c3")]
    samples = load_samples(store, cases, needs(dims=3, channels=2))
    images, targets = all_of(samples)
    assert images.shape == (3, 2, *GRID)
    assert samples.spacing_mm == pytest.approx((5.0, 0.7, 0.9))
    assert targets.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(images[2].numpy(), store.load("c3")[0].voxels)


@pytest.mark.parametrize(("dims", "shape"), [(2, (6, 8, 16)), (3, (2, 3, 8, 16))])
def test_masks_stay_beside_their_images(store: Store, dims: int, shape: tuple[int, ...]) -> None:
    cases = [put(store, "c1"), put(store, "c2")]
    images, targets = all_of(load_samples(store, cases, needs("segmentation", dims)))
    assert targets.shape == shape
    assert targets.dtype == torch.uint8
    assert images.shape[2:] == targets.shape[1:]
    mask = store.load("c2")[1]
    assert mask is not None
    np.testing.assert_array_equal(targets.numpy().reshape(2, *GRID)[1], mask.voxels[0])


def test_what_does_not_fit_in_memory_gives_the_same_batches(store: Store) -> None:
    cases = [put(store, "c1"), put(store, "c2")]
    for task in ("classification", "segmentation"):
        for changes in ({}, {"patch": (4, 8)}):
            within = load_samples(store, cases, needs(task, **changes))
            beyond = load_samples(store, cases, needs(task, **changes), budget_bytes=100)
            assert all(torch.equal(a, b) for a, b in zip(all_of(within), all_of(beyond), strict=True))
    assert not list(store.folder.glob("*tmp*"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_every_kind_of_prepared_number_keeps_its_value(store: Store, dtype: Any) -> None:
    value = 250 if dtype == np.uint8 else 30_000
    cases = [put(store, f"c{n}", voxels=np.full((1, *GRID), value + n, dtype)) for n in (1, 2)]
    images, _ = all_of(load_samples(store, cases, needs(dims=3)))
    assert images[:, 0, 0, 0, 0].tolist() == [value + 1, value + 2]


def test_numbers_of_different_kinds_are_not_cut_to_the_first_ones(store: Store) -> None:
    cases = [
        put(store, "c1", voxels=np.full((1, *GRID), 7, np.uint8)),
        put(store, "c2", voxels=np.full((1, *GRID), -1.5, np.float32)),
    ]
    images, _ = all_of(load_samples(store, cases, needs(dims=3)))
    assert images[:, 0, 0, 0, 0].tolist() == [7, -1.5]


# --- compact types, levels, and files used in place


@pytest.fixture
def compact(store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts cases whose stored numbers have levels, each its own; ``as_floats`` is what the network is to get."""

    class Compacts:
        levels: ClassVar[dict[str, tuple[float, float]]] = {}
        reads: ClassVar[list[str]] = []

        def put(self, name: str, subtract: float, multiply: float, **how: Any) -> Case:
            self.levels[name] = (subtract, multiply)
            return put(store, name, **how)

        def stored(self, store: Store, case_id: str) -> Stored:
            self.reads.append(case_id)
            image, mask = store.load(case_id)
            file = np.load(store.cases / f"{case_id}.image.npy", mmap_mode="r")
            subtract, multiply = (np.full(image.channels, value, np.float32) for value in self.levels[case_id])
            return Stored(file, subtract, multiply, None if mask is None else mask.voxels, image.geometry)

        def as_floats(self, name: str) -> np.ndarray:
            subtract, multiply = map(np.float32, self.levels[name])
            return (store.load(name)[0].voxels.astype(np.float32) - subtract) * multiply

    made = Compacts()
    made.levels.clear()
    made.reads.clear()
    monkeypatch.setattr("medrail.data.load.stored", made.stored)
    return made


@pytest.mark.parametrize("budget_bytes", [None, 1])
@pytest.mark.parametrize("dims", [2, 3])
def test_every_case_has_its_own_levels_whether_copied_or_used_in_place(
    store: Store, compact: Any, dims: int, budget_bytes: int | None
) -> None:
    grids = [(3, 8, 16), (5, 8, 16) if dims == 2 else (3, 8, 16)]
    cases = [
        compact.put("c1", 1 / 255, 0.1, voxels=np.arange(384).astype(np.uint8).reshape(1, *grids[0])),
        compact.put("c2", 0.017, -1024.0, grid=grids[1], dtype=np.int16),
    ]
    samples = load_samples(store, cases, needs(dims=dims), budget_bytes=budget_bytes)
    assert isinstance(samples, Wholes)
    assert isinstance(samples.images, Apart if budget_bytes else Together)
    assert compact.reads == ["c1", "c2"], "each case is read once"
    images, _ = all_of(samples)
    wanted = [compact.as_floats(name) for name in ("c1", "c2")]
    stacked = np.concatenate([np.moveaxis(one, 1, 0) for one in wanted]) if dims == 2 else np.stack(wanted)
    assert np.array_equal(images.numpy(), stacked)
    taken, _ = samples.take(torch.tensor([samples.count - 1, 0]), generator(0))
    assert taken.values.dtype == torch.int16
    assert np.array_equal(taken.floats().numpy(), stacked[[-1, 0]])


@pytest.mark.parametrize("budget_bytes", [None, 1])
def test_patches_have_the_levels_of_their_case(store: Store, compact: Any, budget_bytes: int | None) -> None:
    cases = [compact.put("c1", 0.5, 3.0, dtype=np.int16), compact.put("c2", 2.0, 0.25, dtype=np.float16)]
    samples = load_samples(store, cases, needs("segmentation", 3, patch=GRID), budget_bytes=budget_bytes)
    assert isinstance(samples, Patches)
    assert samples.kind == torch.float32  # neither int16 nor float16 holds both
    images, _ = all_of(samples)
    assert np.array_equal(images.numpy(), np.stack([compact.as_floats(name) for name in ("c1", "c2")]))


def test_a_file_is_kept_as_it_is_where_memory_does_not_suffice(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6))
    file = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert kept(file, tmp_path, 1) is file
    assert not isinstance(kept(file, tmp_path, 1000), np.memmap)
    assert np.array_equal(kept(np.arange(6), tmp_path, 1), file)


def test_what_is_added_around_a_small_case_is_zero_in_the_networks_eyes(store: Store, compact: Any) -> None:
    case = compact.put("c1", 0.5, 3.0, dtype=np.int16)
    (image,), _ = all_of(load_samples(store, [case], needs("segmentation", 3, patch=(8, 8, 16))))
    assert np.array_equal(image[:, 2:5].numpy(), compact.as_floats("c1"))
    assert not image[0, :2].any()
    assert not image[0, 5:].any()


def test_more_slices_than_the_first_case_promised_all_come(store: Store) -> None:
    depths = (1, 2, 9, 4, 30)
    cases = [put(store, f"c{number}", (depth, 8, 16)) for number, depth in enumerate(depths)]
    for budget_bytes in (None, 1):
        images, _ = all_of(load_samples(store, cases, needs(), budget_bytes=budget_bytes))
        wanted = [np.moveaxis(store.load(case.id)[0].voxels, 1, 0) for case in cases]
        assert np.array_equal(images.numpy(), np.concatenate(wanted))


# --- patches


@pytest.mark.parametrize(("dims", "patch"), [(2, (4, 8)), (3, (2, 4, 8))])
def test_patches_are_pieces_of_their_case_with_their_mask(store: Store, dims: int, patch: tuple[int, ...]) -> None:
    cases = [put(store, "c1", (6, 16, 24)), put(store, "c2", (5, 12, 16))]
    samples = load_samples(store, cases, needs("segmentation", dims, patch=patch))
    assert isinstance(samples, Patches)
    images, targets = all_of(samples)
    assert samples.size == patch
    assert images.shape[2:] == targets.shape[1:] == patch
    for image, target in zip(images, targets, strict=True):
        assert any(_holds(store, name, image[0].numpy(), target.numpy()) for name in ("c1", "c2"))


def _holds(store: Store, name: str, piece: np.ndarray, labels: np.ndarray) -> bool:
    """Whether the case has this piece, with this mask, where the piece's first voxel says (values are unique)."""
    whole, mask = store.load(name)
    assert mask is not None
    place = np.argwhere(whole.voxels[0] == piece.flat[0])
    pieces = [_piece(image, place[0], piece.shape) for image in (whole, mask)] if len(place) else [None, None]
    return np.array_equal(pieces[0], piece) and np.array_equal(pieces[1], labels)


def _piece(image: Image, start: Any, patch: tuple[int, ...]) -> np.ndarray:
    box = (1,) * (3 - len(patch)) + patch
    piece = image.voxels[0][tuple(slice(s, s + n) for s, n in zip(start, box, strict=True))]
    return piece[0] if len(patch) == 2 else piece


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_half_of_the_patches_are_centred_on_foreground_of_every_class_at_any_batch_size(
    store: Store, batch: int
) -> None:
    grid, labels = (16, 32, 64), np.zeros((1, 16, 32, 64), np.uint8)
    labels[0, 8, 16, 40], labels[0, 4, 8, 8:12] = 1, 2
    keep(store, "c1", Prepared(Image(np.zeros((1, *grid), np.float32))), Image(labels, unit="label"), "x")
    case = Case("c1", "c1", ("/raw/c1",), "mask", "train")
    want = needs("segmentation", 3, patch=(4, 8, 8), classes=("background", "a", "b"))
    samples = load_samples(store, [case], want)
    assert samples.count == 16 * 32 * 64 // (4 * 8 * 8)
    found = []
    for seed in range(240 // batch):
        _, targets = samples.take(torch.zeros(batch, dtype=torch.int64), generator(seed))
        found.append([set(target.unique().tolist()) - {0} for target in targets])
    together = [classes for one in found for classes in one]
    share = sum(map(bool, together)) / len(together)
    assert 0.42 < share < 0.62, "half are centred, and few others meet the foreground by chance"
    assert all(sum(map(bool, one)) >= batch // 2 for one in found)
    assert sum(1 in classes for classes in together) > 40
    assert sum(2 in classes for classes in together) > 40


def test_a_case_smaller_than_the_patch_gets_zeros_on_both_sides(store: Store) -> None:
    case = put(store, "c1", (3, 8, 16))
    samples = load_samples(store, [case], needs("segmentation", 3, patch=(8, 8, 16)))
    (image,), (target,) = all_of(samples)
    np.testing.assert_array_equal(image[0, 2:5].numpy(), store.load("c1")[0].voxels[0])
    assert not image[0, :2].any()
    assert not image[0, 5:].any()
    assert not target[:2].any()


def test_larger_cases_have_more_patches(store: Store) -> None:
    cases = [put(store, "c1", (8, 16, 16)), put(store, "c2", (4, 8, 8))]
    samples = load_samples(store, cases, needs("segmentation", 3, patch=(4, 8, 8)))
    assert isinstance(samples, Patches)
    assert torch.bincount(samples.case_of).tolist() == [8, 1]


# --- what does not suit


def test_different_sizes_name_the_case_and_the_step_that_mends_it(store: Store) -> None:
    cases = [put(store, "c1", (3, 8, 16)), put(store, "c2", (3, 8, 24))]
    with pytest.raises(PrepareError) as caught:
        load_samples(store, cases, needs("segmentation", size_factor=8))
    text = str(caught.value)
    assert all(part in text for part in ("case c2", "8 x 24", "8 x 16", "case c1", "resize, size: [8,", "crop_pad"))
    assert "model.patch" in text


def test_depth_may_differ_where_it_is_the_batch_but_not_in_three_dimensions(store: Store) -> None:
    cases = [put(store, "c1", (3, 8, 16)), put(store, "c2", (4, 8, 16))]
    assert load_samples(store, cases, needs()).count == 7
    with pytest.raises(PrepareError, match="4 x 8 x 16"):
        load_samples(store, cases, needs(dims=3))


@pytest.mark.parametrize(
    ("grid", "nearest"), [((1, 12, 16), "[16, 16]"), ((1, 17, 33), "[16, 32]"), ((1, 3, 200), "[8, 200]")]
)
def test_a_size_the_network_cannot_halve_is_refused_with_the_nearest(
    store: Store, grid: tuple[int, ...], nearest: str
) -> None:
    case = put(store, "c1", grid, voxels=np.zeros((1, *grid), np.float32), mask=False)
    with pytest.raises(PrepareError) as caught:
        load_samples(store, [case], needs(size_factor=8, smallest=8))
    text = str(caught.value)
    assert "case c1" in text
    assert "multiples of 8" in text
    assert f"{{kind: resize, size: {nearest}}}" in text


def test_a_patch_the_network_cannot_halve_is_refused_with_the_nearest(store: Store) -> None:
    case = put(store, "c1")
    with pytest.raises(PrepareError, match=r"model\.patch.*Set it to \[8, 16, 24\]"):
        load_samples(store, [case], needs("segmentation", 3, patch=(6, 16, 25), size_factor=8))


@pytest.mark.parametrize(("found", "wanted", "step"), [(3, 1, "rgb_to_grey"), (1, 3, "grey_to_rgb"), (2, 1, "")])
def test_other_channels_are_refused_with_what_to_set(store: Store, found: int, wanted: int, step: str) -> None:
    case = put(store, "c1", channels=found)
    with pytest.raises(PrepareError) as caught:
        load_samples(store, [case], needs(channels=wanted))
    text = str(caught.value)
    assert f"model.channels: {found}" in text
    assert ("{kind: " in text) == bool(step)
    assert step in text


def test_values_that_are_not_finite_name_their_case(store: Store) -> None:
    voxels = np.zeros((1, *GRID), np.float16)  # of float32 the store refuses them
    voxels[0, 1, 2, 3] = np.nan
    with pytest.raises(PrepareError, match=r"case c1.*not finite"):
        load_samples(store, [put(store, "c1", voxels=voxels)], needs())


def test_masks_that_are_missing_or_unknown_name_their_case(store: Store) -> None:
    with pytest.raises(CaseError, match=r"case c1: no mask"):
        load_samples(store, [put(store, "c1", mask=False)], needs("segmentation"))
    with pytest.raises(CaseError, match=r"case c2: the mask has the class index 5"):
        load_samples(store, [put(store, "c2", label=5)], needs("segmentation"))


def test_a_case_that_is_not_prepared_and_a_class_that_is_unknown(store: Store) -> None:
    with pytest.raises(RunError, match="not prepared"):
        load_samples(store, [Case("gone", "p", ("/x",), "cat", "train")], needs())
    with pytest.raises(CaseError, match="cow"):
        load_samples(store, [put(store, "c1", target="cow")], needs())


# --- an epoch


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("patch", [(), (4, 8)])
def test_an_epoch_is_the_same_whenever_it_is_asked_for_and_no_two_are(
    store: Store, task: Any, patch: tuple[int, ...]
) -> None:
    cases = [put(store, "c1"), put(store, "c2")]
    samples = load_samples(store, cases, needs(task, patch=patch))
    settings = TrainConfig(batch_size=2, seed=3, augment=AugmentConfig(rotate_deg=10, noise=0.1, flip=("W",)))
    first, again, next_one = ([*batches(samples, settings, epoch)] for epoch in (0, 0, 1))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, next_one, strict=True))
    assert sum(len(images) for images, _ in first) == samples.count
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in first)


def test_wholes_never_change_what_they_hold(store: Store) -> None:
    samples = load_samples(store, [put(store, "c1")], needs())
    assert isinstance(samples, Wholes)
    assert isinstance(samples.images, Together)
    before = samples.images.array.clone()
    [*batches(samples, TrainConfig(augment=AugmentConfig(intensity=0.5, noise=0.5)), 0)]
    assert torch.equal(samples.images.array, before)


@pytest.mark.parametrize("budget_bytes", [None, 1])
def test_a_batch_is_the_same_whatever_was_asked_for_before(store: Store, budget_bytes: int | None) -> None:
    cases = [put(store, f"c{number}") for number in range(4)]
    settings = TrainConfig(
        batch_size=3, seed=5, augment=AugmentConfig(rotate_deg=10, noise=0.1, elastic=0.03, intensity=0.2, blur=1)
    )
    samples = load_samples(store, cases, needs("segmentation"), budget_bytes=budget_bytes)
    whole = [*batches(samples, settings, 1)]
    next(batches(samples, settings, 0))
    torch.manual_seed(9)
    again = batches(load_samples(store, cases, needs("segmentation")), settings, 1)
    for (images, targets), (images_again, targets_again) in zip(whole, again, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(targets, targets_again)
        assert (images.dtype, targets.dtype) == (torch.float32, torch.int64)


def test_batches_do_not_depend_on_the_number_of_threads_which_stays_as_it_is(store: Store) -> None:
    samples = load_samples(store, [put(store, "c1"), put(store, "c2")], needs())
    settings = TrainConfig(augment=AugmentConfig(rotate_deg=10, noise=0.1, elastic=0.03, intensity=0.2, gamma=0.2))
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for images, _ in batches(samples, settings, 0):
                made.append(images)
                assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(made) == 2
    assert torch.equal(*made)
