"""Augmentation: drawn first, recorded, applied purely; masks move as images do."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medrail.config import AugmentConfig
from medrail.data import Draws, augment, check_augment, draw, generator
from medrail.data.augment import affine
from medrail.errors import ConfigError

SIZES = {2: (12, 20), 3: (6, 12, 20)}
EVERYTHING = AugmentConfig(
    flip=("H", "W"), rotate_deg=20, scale=0.2, shift=0.1, intensity=0.3, gamma=0.4, noise=0.2, blur=1.0
)


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
