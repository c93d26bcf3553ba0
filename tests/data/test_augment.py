"""Augmentation: drawn first, recorded, applied purely; masks move as images do."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import interpolate, ndimage, stats

from medrail.config import AugmentConfig
from medrail.data import Compact, Draws, Levels, check_augment, draw, generator
from medrail.data import augment as augment_compact
from medrail.data.movement import CELLS, Grid, affine
from medrail.data.noise import FIELD, noise, windows
from medrail.errors import ConfigError

SIZES = {2: (12, 20), 3: (6, 12, 20)}
EVERYTHING = AugmentConfig(
    flip=("H", "W"), rotate_deg=20, scale=0.2, shift=0.1, intensity=0.3, gamma=0.4, noise=0.2, blur=1.0, elastic=0.03
)


def augment(
    images: torch.Tensor, labels: torch.Tensor | None, draws: Draws, spacing: tuple[float, ...] = ()
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Of images that are float32 already."""
    return augment_compact(Compact(images), labels, draws, spacing)


def pictures(dims: int, count: int = 3, channels: int = 2) -> torch.Tensor:
    return torch.randn(count, channels, *SIZES[dims], generator=torch.Generator().manual_seed(1))


def masks(dims: int, count: int = 3) -> torch.Tensor:
    return torch.randint(3, (count, *SIZES[dims]), generator=torch.Generator().manual_seed(2))


def nothing(dims: int, count: int = 1, **changes: Any) -> Draws:
    """Draws that change nothing, except for ``changes``."""
    draws = draw(AugmentConfig(), count, dims, generator(0))
    return dataclasses.replace(draws, **changes)


@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_configured_changes_not_a_bit(dims: int) -> None:
    images, labels = pictures(dims), masks(dims)
    moved, moved_labels = augment(images, labels, draw(AugmentConfig(), 3, dims, generator(0)))
    assert torch.equal(moved, images)
    assert moved_labels is not None
    assert torch.equal(moved_labels, labels)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_same_draws_give_the_same_bits_and_leave_their_input_alone(dims: int) -> None:
    images, labels = pictures(dims), masks(dims)
    before = images.clone(), labels.clone()
    draws = draw(EVERYTHING, 3, dims, generator(7, "augment", 0, 0))
    first, second = augment(images, labels, draws), augment(images, labels, draws)
    assert torch.equal(first[0], second[0])
    assert first[1] is not None
    assert second[1] is not None
    assert torch.equal(first[1], second[1])
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    assert not torch.equal(first[0], images)
    assert first[0].shape == images.shape
    assert first[1].dtype == labels.dtype
    assert set(first[1].unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("dims", [2, 3])
def test_draws_are_plain_values_that_survive_json(dims: int) -> None:
    draws = draw(EVERYTHING, 3, dims, generator(0))
    values = json.loads(json.dumps(draws.to_dict()))
    again = Draws(**{key: _tuples(value) for key, value in values.items()})
    assert again == draws
    assert torch.equal(augment(pictures(dims), None, again)[0], augment(pictures(dims), None, draws)[0])


def _tuples(value: Any) -> Any:
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value


@given(seed=st.integers(0, 10_000), dims=st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=50)
def test_everything_drawn_is_within_what_was_configured(seed: int, dims: int) -> None:
    draws = draw(EVERYTHING, 20, dims, generator(seed))
    assert all(abs(angle) <= 20 for angles in draws.rotate_deg for angle in angles)
    assert all(1 / 1.2 - 1e-9 <= factor <= 1.2 + 1e-9 for factor in draws.scale)
    assert all(abs(share) <= 0.1 for shares in draws.shift for share in shares)
    assert all(0.7 <= factor <= 1.3 for factor in draws.contrast)
    assert all(0 <= sd <= 0.2 for sd in draws.noise_sd)
    assert all(0 <= sd <= 1 for sd in draws.blur_px)
    assert all(0 <= share <= 0.03 for shares in draws.elastic for share in shares)
    assert all(len(flips) == dims and not (dims == 3 and flips[0]) for flips in draws.flip)
    assert len(set(draws.scale)) > 10


def test_switching_one_item_off_leaves_the_others_as_they_were_drawn() -> None:
    whole = draw(EVERYTHING, 5, 2, generator(3))
    without = draw(EVERYTHING.model_copy(update={"rotate_deg": 0.0}), 5, 2, generator(3))
    assert all(angles == (0.0,) for angles in without.rotate_deg)
    assert dataclasses.replace(without, rotate_deg=whole.rotate_deg) == whole


@pytest.mark.parametrize(("dims", "axis"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize("also_moved", [False, True])
def test_a_mirrored_axis_is_that_axis(dims: int, axis: int, also_moved: bool) -> None:
    flip = tuple(index == axis for index in range(dims))
    images, labels = pictures(dims, 1), masks(dims, 1)
    tiny = ((1e-9,) * dims,) if also_moved else ((0.0,) * dims,)  # takes the way through the sampling grid
    moved, moved_labels = augment(images, labels, nothing(dims, flip=(flip,), shift=tiny))
    torch.testing.assert_close(moved, images.flip(2 + axis), atol=1e-4, rtol=0)
    assert moved_labels is not None
    assert torch.equal(moved_labels, labels.flip(1 + axis))


@pytest.mark.parametrize(("dims", "axis"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_a_shift_is_a_share_of_that_axis(dims: int, axis: int) -> None:
    pixels = 2
    share = tuple(pixels / SIZES[dims][axis] if index == axis else 0.0 for index in range(dims))
    images = pictures(dims, 1)
    moved, _ = augment(images, None, nothing(dims, shift=(share,)))
    kept = moved.narrow(2 + axis, 0, SIZES[dims][axis] - pixels)
    wanted = images.narrow(2 + axis, pixels, SIZES[dims][axis] - pixels)
    torch.testing.assert_close(kept, wanted, atol=1e-4, rtol=0)


def test_a_quarter_turn_of_a_square_is_exact() -> None:
    images = torch.randn(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    moved, _ = augment(images, None, nothing(2, rotate_deg=((90.0,),)))
    turned = [torch.rot90(images, times, (2, 3)) for times in (1, 3)]
    assert any(torch.allclose(moved, one, atol=1e-4) for one in turned)


@pytest.mark.parametrize(("angles", "plane"), [((90, 0, 0), (2, 1)), ((0, 90, 0), (2, 0)), ((0, 0, 90), (1, 0))])
def test_each_angle_of_a_volume_turns_about_its_axis(angles: tuple[float, ...], plane: tuple[int, int]) -> None:
    images = torch.randn(1, 1, 7, 7, 7, generator=torch.Generator().manual_seed(0))
    moved, _ = augment(images, None, nothing(3, rotate_deg=(angles,)))
    axes = (2 + plane[0], 2 + plane[1])
    turned = [torch.rot90(images, times, axes) for times in (1, 3)]
    assert any(torch.allclose(moved, one, atol=1e-4) for one in turned)


def test_a_rotation_keeps_distances_in_mm_where_voxels_are_oblong() -> None:
    """The matrix in mm must be a rotation, whatever the sizes and spacings."""
    size, spacing = (6, 12, 20), (5.0, 0.7, 0.9)
    matrix = affine(nothing(3, rotate_deg=((10.0, 20.0, 30.0),)), size, spacing)[0, :, :3]
    half_mm = torch.tensor([n * mm / 2 for n, mm in zip(size, spacing, strict=True)]).flip(0).double()
    in_mm = torch.diag(half_mm) @ matrix @ torch.diag(1 / half_mm)
    torch.testing.assert_close(in_mm @ in_mm.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(in_mm) == pytest.approx(1)


def test_affine_sampling_agrees_with_scipy() -> None:
    """scipy.ndimage.affine_transform as the judge, away from the border."""
    noise = torch.randn(1, 1, 24, 40, generator=torch.Generator().manual_seed(0))
    image = torch.from_numpy(ndimage.gaussian_filter(noise.numpy(), (0, 0, 2, 2)))
    draws = nothing(2, rotate_deg=((17.0,),), scale=(1.1,), shift=((0.03, -0.05),), flip=((False, True),))
    moved, _ = augment(image, None, draws)
    matrix = affine(draws, (24, 40))[0].numpy()[::-1]  # rows y, x
    half = torch.tensor([12.0, 20.0]).double().numpy()
    linear = matrix[:, [1, 0]] * (half[:, None] / half[None, :])  # columns y, x
    centre = half - 0.5
    offset = centre - linear @ centre + matrix[:, 2] * half
    wanted = ndimage.affine_transform(image[0, 0].numpy(), linear, offset, order=1, mode="nearest")
    assert abs(moved[0, 0].numpy() - wanted).max() < 1e-4


def test_a_mask_moves_with_its_image() -> None:
    """An image that is its own mask stays so, up to interpolation at the outline."""
    labels = torch.zeros(4, 24, 40, dtype=torch.int64)
    labels[:, 6:18, 10:30] = 1
    config = AugmentConfig(flip=("H", "W"), rotate_deg=30, scale=0.2, shift=0.1)
    moved, moved_labels = augment(labels[:, None].float(), labels, draw(config, 4, 2, generator(5)))
    assert moved_labels is not None
    assert ((moved[:, 0] > 0.5).long() != moved_labels).float().mean() < 0.02
    assert moved_labels.sum(dim=(1, 2)).min() > 100


def test_thick_slices_are_turned_only_within_themselves() -> None:
    config = AugmentConfig(rotate_deg=20)
    thick = draw(config, 5, 3, generator(0), (5.0, 0.7, 0.9))
    even = draw(config, 5, 3, generator(0), (1.0, 0.7, 0.9))
    assert all(angles[1:] == (0, 0) and angles[0] != 0 for angles in thick.rotate_deg)
    assert all(0 not in angles for angles in even.rotate_deg)


def test_thick_slices_are_bent_only_within_themselves() -> None:
    config = AugmentConfig(elastic=0.05)
    thick = draw(config, 5, 3, generator(0), (5.0, 0.7, 0.9))
    even = draw(config, 5, 3, generator(0), (1.0, 0.7, 0.9))
    assert all(shares[0] == 0 and shares[1] == shares[2] > 0 for shares in thick.elastic)
    assert all(len(set(shares)) == 1 for shares in even.elastic)
    positions = Grid.of(thick, SIZES[3]).positions(slice(0, 5))
    straight = Grid.of(nothing(3, 5), SIZES[3]).positions(slice(0, 5))
    torch.testing.assert_close(positions[..., 2], straight[..., 2])


@pytest.mark.parametrize("dims", [2, 3])
def test_intensity_changes_mean_and_spread_as_drawn(dims: int) -> None:
    images = pictures(dims, 1, 1)
    moved, _ = augment(images, None, nothing(dims, contrast=(1.5,), brightness=(-0.4,)))
    assert moved.std(correction=0) == pytest.approx(1.5 * images.std(correction=0).item(), rel=1e-4)
    assert moved.mean() == pytest.approx((images.mean() - 0.4 * images.std(correction=0)).item(), abs=1e-4)


@pytest.mark.parametrize("log_gamma", [-0.7, 0.7])
def test_gamma_keeps_the_ends_and_the_order_of_values(log_gamma: float) -> None:
    images = pictures(2, 1, 1)
    moved, _ = augment(images, None, nothing(2, log_gamma=(log_gamma,)))
    torch.testing.assert_close(torch.stack([moved.min(), moved.max()]), torch.stack([images.min(), images.max()]))
    assert torch.equal(moved.flatten().argsort(), images.flatten().argsort())
    assert (moved.mean() > images.mean()) == (log_gamma < 0)


def test_noise_has_the_drawn_spread_and_another_seed_another_noise() -> None:
    images = pictures(2, 1, 1).repeat(1, 1, 8, 8)
    draws = nothing(2, noise_sd=(0.5,))
    moved, _ = augment(images, None, draws)
    assert (moved - images).std() == pytest.approx(0.5 * images.std().item(), rel=0.05)
    other, _ = augment(images, None, dataclasses.replace(draws, noise_seed=draws.noise_seed + 1))
    assert not torch.equal(moved, other)


@pytest.mark.parametrize("dims", [2, 3])
def test_blur_agrees_with_scipy_sample_by_sample(dims: int) -> None:
    images = pictures(dims, 2)
    moved, _ = augment(images, None, nothing(dims, 2, blur_px=(0.8, 1.3)))
    for sample, sd in enumerate((0.8, 1.3)):
        for channel in range(2):
            wanted = ndimage.gaussian_filter(images[sample, channel].numpy(), sd, mode="nearest", radius=4)
            assert abs(moved[sample, channel].numpy() - wanted).max() < 1e-4


def test_d_cannot_be_mirrored_where_it_is_the_batch() -> None:
    check_augment(AugmentConfig(flip=("D",)), 3)
    with pytest.raises(ConfigError, match=r"train\.augment\.flip"):
        check_augment(AugmentConfig(flip=("D", "H")), 2)


# --- positions


@given(seed=st.integers(0, 10_000), dims=st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=25)
def test_positions_are_those_of_the_affine_matrix(seed: int, dims: int) -> None:
    """torch's own affine_grid as the judge."""
    config = AugmentConfig(flip=("H", "W"), rotate_deg=180, scale=0.5, shift=0.3)
    draws, size = draw(config, 3, dims, generator(seed)), SIZES[dims]
    matrix = affine(draws, size, (5.0, 0.7, 0.9)[-dims:]).float()
    wanted = torch.nn.functional.affine_grid(matrix, [3, 1, *size], align_corners=False)
    found = Grid.of(draws, size, (5.0, 0.7, 0.9)[-dims:]).positions(slice(0, 3))
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-5)


@given(seed=st.integers(0, 10_000), dims=st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=25)
def test_a_bend_is_never_larger_than_drawn_and_never_folds_below_its_limit(seed: int, dims: int) -> None:
    largest = 1 / (2 * CELLS * dims)
    size = (24, 40) if dims == 2 else (12, 16, 20)
    draws = dataclasses.replace(
        draw(AugmentConfig(elastic=0.1), 1, dims, generator(seed)), elastic=((largest,) * dims,)
    )
    bent = Grid.of(draws, size).positions(slice(0, 1))[0].double()
    straight = Grid.of(nothing(dims), size).positions(slice(0, 1))[0].double()
    moved_by = (bent - straight).abs() / 2
    assert 0.1 * largest < moved_by.max() <= largest + 1e-6
    inner = (slice(None, -1),) * dims
    steps = [(bent.roll(-1, axis) - bent)[inner] * size[axis] / 2 for axis in range(dims)]
    assert torch.linalg.det(torch.stack(steps[::-1], dim=-1)).min() > 0


def test_splines_agree_with_scipy() -> None:
    """scipy.interpolate.BSpline as the judge of one sample's displacement along x."""
    draws = dataclasses.replace(draw(AugmentConfig(), 1, 2, generator(3)), elastic=((0.05, 0.05),))
    controls = torch.rand(
        1, 2, CELLS + 3, CELLS + 3, generator=torch.Generator().manual_seed(draws.elastic_seed), dtype=torch.float64
    )
    controls = ((2 * controls - 1) * 0.1)[0, 0].numpy()
    knots = [-1 + 2 * (index - 3) / CELLS for index in range(CELLS + 7)]
    y, x = ([(2 * index + 1) / length - 1 for index in range(length)] for length in (24, 40))
    wanted = interpolate.BSpline(knots, interpolate.BSpline(knots, controls, 3)(y).T, 3)(x).T
    found = Grid.of(draws, (24, 40)).positions(slice(0, 1))[0, ..., 0].numpy() - [x]
    assert abs(found - wanted).max() < 1e-6


@pytest.mark.parametrize("dims", [2, 3])
def test_a_bent_mask_stays_with_its_image(dims: int) -> None:
    size = (48, 80) if dims == 2 else (16, 24, 40)
    labels = torch.zeros(3, *size, dtype=torch.uint8)
    labels[(slice(None), *(slice(length // 4, 3 * length // 4) for length in size))] = 1
    draws = draw(AugmentConfig(elastic=0.05, rotate_deg=10), 3, dims, generator(5))
    moved, moved_labels = augment(labels[:, None].float(), labels, draws)
    assert moved_labels is not None
    assert moved_labels.dtype == torch.uint8
    assert not torch.equal(moved_labels, labels)
    assert ((moved[:, 0] > 0.5) != moved_labels.bool()).float().mean() < 0.03


# --- compact types


LEVELS = Levels(
    torch.tensor([[1 / 255, 3.0], [0.017, 1.0], [2.5, 0.3]]), torch.tensor([[0.1, -7.0], [0, 0], [-1.3, 2]])
)


@given(
    kind=st.sampled_from([torch.uint8, torch.int16, torch.float16, torch.float32]),
    dims=st.sampled_from([2, 3]),
    seed=st.integers(0, 1000),
    mirror=st.booleans(),
)
@settings(deadline=None, max_examples=50)
def test_stored_numbers_become_the_same_floats_as_in_numpy(
    kind: torch.dtype, dims: int, seed: int, mirror: bool
) -> None:
    source = torch.Generator().manual_seed(seed)
    values = (torch.rand(3, 2, *SIZES[dims], generator=source) * 255).to(kind)
    draws = draw(AugmentConfig(flip=("W",) if mirror else ()), 3, dims, generator(seed))
    images, _ = augment_compact(Compact(values, LEVELS), None, draws)
    subtract, multiply = (part.numpy().reshape(3, 2, *[1] * dims) for part in (LEVELS.subtract, LEVELS.multiply))
    wanted = torch.from_numpy((values.numpy().astype("float32") - subtract) * multiply)
    flipped = [image.flip(-1) if flip[-1] else image for image, flip in zip(wanted, draws.flip, strict=True)]
    assert images.dtype == torch.float32
    assert torch.equal(images, torch.stack(flipped))


def test_mirrored_twice_is_as_before() -> None:
    flips = nothing(2, 3, flip=((True, False), (True, True), (False, True)))
    images, labels = pictures(2), masks(2).to(torch.uint8)
    once = augment(images, labels, flips)
    twice = augment(*once, flips)
    assert not torch.equal(once[0], images)
    assert torch.equal(twice[0], images)
    assert twice[1] is not None
    assert torch.equal(twice[1], labels)


@pytest.mark.parametrize("dims", [2, 3])
def test_portions_change_nothing(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many samples go through together is a matter of speed alone."""
    images, labels = Compact((pictures(dims) * 50).to(torch.int16), LEVELS), masks(dims)
    draws = draw(EVERYTHING, 3, dims, generator(7))
    together = augment_compact(images, labels, draws)
    monkeypatch.setattr(sys.modules["medrail.data.augment"], "PORTION", 1)  # the package has a function of that name
    apart = augment_compact(images, labels, draws)
    torch.testing.assert_close(together[0], apart[0], atol=1e-4, rtol=1e-5)
    assert together[1] is not None
    assert apart[1] is not None
    assert (together[1] != apart[1]).float().mean() < 0.001


# --- noise


def test_noise_is_normal_and_each_image_has_its_own() -> None:
    places = windows(200, 4096, seed=1)
    drawn = noise(4096, places, 1)
    assert drawn.mean().abs() < 0.01
    assert drawn.std() == pytest.approx(1, abs=0.01)
    assert (drawn**4).mean() == pytest.approx(3, abs=0.1)
    assert stats.kstest(drawn[:20].flatten().numpy(), "norm").pvalue > 0.001
    assert len(set(places.tolist())) > 190
    assert not torch.equal(noise(4096, windows(200, 4096, seed=2), 2), drawn)
    neighbours = (drawn[:, 1:] * drawn[:, :-1]).mean()
    assert neighbours.abs() < 0.01


def test_no_number_of_an_image_s_noise_comes_twice() -> None:
    """Neither from the field (up to chance: float32 has few enough normal numbers to repeat some) nor beyond it."""
    one = noise(FIELD // 2, windows(1, FIELD // 2, 3), 3)[0]
    half = len(one) // 2
    assert all((one[:half] == one[half:].roll(shift)).float().mean() < 1e-4 for shift in (0, 1, 1000))


def test_images_larger_than_half_the_field_have_noise_of_their_own() -> None:
    size = FIELD // 2 + 1
    places = windows(2, size, seed=4)
    drawn = noise(size, places, 4)
    assert drawn.shape == (2, size)
    assert drawn.std() == pytest.approx(1, abs=0.01)
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(noise(size, places, 4), drawn)
