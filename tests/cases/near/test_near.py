"""Signatures and near duplicates: planted copies are found, different images are not, and both are laws."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.cases.near.pairs import NearPair, near_pairs, signature_of
from medrail.cases.near.signature import Signature, resampling
from medrail.cases.near.spectrum import spectra, symmetries
from medrail.errors import CaseError
from medrail.types import Image

Pixels = npt.NDArray[np.uint8]


def scene(seed: int, h: int = 120, w: int = 150) -> Pixels:
    """Blobs of many sizes, another for each seed."""
    draw = np.random.default_rng(seed)
    picture = np.zeros((h, w), np.float32)
    for size in (3, 6, 12, 24):
        noise = draw.standard_normal((h // size + 3, w // size + 3)).astype(np.float32)
        picture += size**0.5 * np.asarray(cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)
    picture -= picture.min()
    return (picture * (255 / picture.max())).astype(np.uint8)


def image(picture: npt.NDArray[np.generic]) -> Image:
    channels = picture[None] if picture.ndim == 2 else np.moveaxis(picture, -1, 0)
    return Image(np.ascontiguousarray(channels[:, None]))


def signature(picture: npt.NDArray[np.generic]) -> Signature:
    made = signature_of(image(picture))
    assert made is not None
    return made


def found(original: npt.NDArray[np.generic], copy: npt.NDArray[np.generic]) -> NearPair | None:
    """The pair, from among other images."""
    signatures = {f"other {seed}": signature(scene(seed)) for seed in range(100_000, 100_012)}
    pairs = near_pairs({"original": signature(original), **signatures, "copy": signature(copy)})
    assert {(pair.a, pair.b) for pair in pairs} <= {("original", "copy")}
    return pairs[0] if pairs else None


def encoded(picture: Pixels, quality: int) -> Pixels:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_signature_turns_with_its_image(seed: int, index: int) -> None:
    turn = symmetries(2)[index]
    picture = scene(seed)
    turned = signature(turn.of_pixels(picture[None])[0]).thumbnail.astype(int)
    expected = turn.of_pixels(signature(picture).thumbnail[None])[0].astype(int)
    assert np.abs(turned - expected).max() <= 1


@pytest.mark.parametrize("axes", [2, 3])
def test_turning_pixels_and_turning_spectra_agree(axes: int) -> None:
    side, k = 12, 5
    thumbnails = np.random.default_rng(0).random((3, *[side] * axes)).astype(np.float32)
    cosines = [np.cos(np.pi * np.arange(k)[:, None] * (np.arange(side) + 0.5) / side).astype(np.float32)] * axes
    for turn in symmetries(axes):
        of_turned = spectra(np.ascontiguousarray(turn.of_pixels(thumbnails)), cosines, 1.0)
        np.testing.assert_allclose(turn.of_spectra(spectra(thumbnails, cosines, 1.0)), of_turned, atol=2e-5)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000),
    st.tuples(*[st.sampled_from([0.0, 0.02, 0.05])] * 4),
    st.floats(0.6, 1.9),
    st.integers(60, 95),
    st.integers(0, 7),
    st.floats(0.85, 1.0),
)
def test_a_copy_is_found_whatever_was_done_to_it(
    seed: int, crop: tuple[float, ...], scale: float, quality: int, index: int, contrast: float
) -> None:
    original = scene(seed)
    h, w = original.shape
    part = original[round(h * crop[0]) : h - round(h * crop[1]), round(w * crop[2]) : w - round(w * crop[3])]
    resized = np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    changed = (encoded(resized, quality) * contrast + 5).clip(0, 255).astype(np.uint8)
    pair = found(original, symmetries(2)[index].of_pixels(changed[None])[0])
    assert pair is not None
    assert pair.sure
    assert ("cropped" in pair.how) or max(crop) <= 0.02


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda p: p, "same orientation"),
        (lambda p: p[:, ::-1], "mirrored left to right"),
        (lambda p: p[::-1], "mirrored top to bottom"),
        (lambda p: np.rot90(p), "rotated by 90 degrees"),
        (lambda p: np.rot90(p, 2), "rotated by 180 degrees"),
        (lambda p: np.rot90(p, 3), "rotated by 90 degrees"),
        (lambda p: p[6:-6, 7:-7], "same orientation, cropped"),
        (lambda p: np.repeat(p[..., None], 3, axis=2), "same orientation"),
    ],
)
def test_it_says_what_was_done(change: object, how: str) -> None:
    picture = scene(3)
    pair = found(picture, change(picture))  # type: ignore[operator]
    assert pair is not None
    assert pair.how == how


def test_grey_and_colour_of_the_same_are_a_pair() -> None:
    colour = np.stack([scene(1), scene(2), scene(1)[::-1]], axis=-1)
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    pair = found(colour, grey)
    assert pair is not None
    assert pair.sure
    assert signature(colour).colour > 50
    assert signature(grey).colour == signature(np.repeat(grey[..., None], 3, axis=2)).colour == 0


def test_different_images_are_no_pairs() -> None:
    assert near_pairs({str(seed): signature(scene(seed)) for seed in range(150)}) == []


def test_pairs_do_not_depend_on_which_image_is_the_first() -> None:
    signatures = {str(seed): signature(scene(seed)) for seed in range(20)}
    signatures["crop"] = signature(scene(4)[:, 8:])
    forth = near_pairs(signatures)
    back = near_pairs(dict(reversed(signatures.items())))
    assert [{pair.a, pair.b} for pair in forth] == [{pair.a, pair.b} for pair in back] == [{"4", "crop"}]
    assert forth[0].score == pytest.approx(back[0].score, abs=1e-3)


def letterboxed(picture: Pixels) -> Pixels:
    return np.pad(picture, ((40, 40), (25, 25)))


def test_padding_does_not_count() -> None:
    assert (signature(letterboxed(scene(3))).thumbnail == signature(scene(3)).thumbnail).all()


@pytest.mark.parametrize(
    "change",
    [
        letterboxed,
        lambda p: encoded(np.asarray(cv2.resize(letterboxed(p), (224, 224), interpolation=cv2.INTER_AREA)), 85),
        lambda p: (255 * (p / 255.0) ** 0.5).astype(np.uint8),
        lambda p: (255 * (p / 255.0) ** 2).astype(np.uint8),
        cv2.equalizeHist,
    ],
)
def test_padding_and_another_contrast_hide_no_copy(change: object) -> None:
    pair = found(scene(3), change(scene(3)))  # type: ignore[operator]
    assert pair is not None
    assert pair.sure


def test_different_images_that_are_padded_alike_are_no_pairs() -> None:
    assert near_pairs({str(seed): signature(letterboxed(scene(seed))) for seed in range(60)}) == []


@pytest.mark.parametrize("shape", [(30, 60, 50), (17, 40, 44)])
def test_a_volume_is_sure_when_cropped_resampled_or_windowed(shape: tuple[int, int, int]) -> None:
    def volume(seed: int) -> npt.NDArray[np.float32]:
        draw = np.random.default_rng(seed)
        layers = [cv2.resize(draw.random((8, 6)).astype(np.float32), shape[:0:-1]) for _ in range(shape[0] // 3)]
        stack = np.repeat(np.stack(layers).astype(np.float32), 3, axis=0)
        smooth: npt.NDArray[np.float32] = (stack[:-2] + stack[1:-1] + stack[2:]) / 3
        return smooth

    original = volume(0)
    cut = tuple(slice(round(n * 0.05), n - round(n * 0.05)) for n in original.shape)
    low, high = np.percentile(original, (1, 99))
    voxels = {"original": original, **{str(seed): volume(seed) for seed in range(1, 5)}}
    voxels |= {"cropped": original[cut], "coarse": original[:, ::2, ::2], "gamma": original**2}
    voxels |= {"8bit": np.rint(np.clip((original - low) / (high - low), 0, 1) * 255)}
    voxels |= {"padded": np.pad(original, [(0, 0), (9, 9), (0, 0)], constant_values=-1)}
    made = {name: signature_of(Image(np.ascontiguousarray(array)[None])) for name, array in voxels.items()}
    pairs = near_pairs({name: one for name, one in made.items() if one is not None})
    assert {pair.b for pair in pairs if pair.a == "original" and pair.sure} == set(voxels) - set("1234") - {"original"}
    assert not {name for pair in pairs for name in (pair.a, pair.b)} & set("1234")


def test_a_volume_is_found_flipped_turned_and_with_axes_in_another_order() -> None:
    def volume(seed: int) -> npt.NDArray[np.float32]:
        draw = np.random.default_rng(seed)
        layers = [np.asarray(cv2.resize(draw.random((5, 4)).astype(np.float32), (44, 36))) for _ in range(20)]
        return np.stack(layers).astype(np.float32) + np.arange(20, dtype=np.float32)[:, None, None] / 10

    original = volume(0)
    voxels = {"original": original, **{str(seed): volume(seed) for seed in range(1, 6)}}
    voxels |= {"flipped": original[:, ::-1], "turned": np.rot90(original, axes=(1, 2)), "cut": original[1:]}
    voxels |= {"reordered": original.transpose(2, 0, 1)[:, :, ::-1]}
    made = {name: signature_of(Image(np.ascontiguousarray(array)[None])) for name, array in voxels.items()}
    pairs = near_pairs({name: one for name, one in made.items() if one is not None})
    copies = {"original", "flipped", "turned", "cut", "reordered"}
    assert {name for pair in pairs for name in (pair.a, pair.b)} == copies
    assert all(pair.sure for pair in pairs if pair.a == "original" and pair.b != "cut")


def test_blank_images_have_no_signature_and_nan_is_no_trouble() -> None:
    assert signature_of(image(np.full((30, 40), 7, np.uint8))) is None
    broken = scene(0).astype(np.float32)
    broken[3, 5] = np.nan
    broken[9, 9] = np.inf
    assert found(scene(0), broken) is not None


@pytest.mark.parametrize("shape", [(1, 1, 1, 9), (1, 1, 3, 2), (2, 1, 50, 7), (5, 3, 4, 4), (1, 2, 1, 1)])
def test_odd_shapes_have_signatures(shape: tuple[int, ...]) -> None:
    made = signature_of(Image(np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)))
    assert made is not None
    assert near_pairs({"a": made, "b": made})[0].score > 0.9 or made.samples < 12


def test_text_and_back() -> None:
    margin = np.pad(scene(0), 20, constant_values=7)
    margin[20] = 7
    margin[20, ::5] = 90  # what is plain ends gradually: no padding
    for made in (
        signature(scene(0)),
        signature(margin),
        signature_of(Image(np.random.default_rng(0).random((1, 5, 7, 11)))),
    ):
        assert made is not None
        text = made.to_text()
        again = Signature.from_text(text)
        assert (again.thumbnail == made.thumbnail).all()
        assert (again.inner is None) == (made.inner is None)
        assert made.inner is None or (made.inner == again.inner).all()
        assert (again.samples, again.colour) == (made.samples, made.colour)
        assert len(text) < (6000 if made.thumbnail.ndim == 2 else 40_000)
        assert text.isascii()
        assert not set(text) & set("\"'\\ \n")


@pytest.mark.parametrize(
    "text", ["", "1:2", "1:2:5:0:!!", "2:7:5:0:abc", "1:2:9:0:c$@<O00001", "2:2:x:0:c$@<O00001", "2:2:9:0"]
)
def test_what_is_no_signature_is_refused_by_name(text: str) -> None:
    with pytest.raises(CaseError, match="signature"):
        Signature.from_text(text)


@given(st.integers(1, 60), st.integers(1, 60))
def test_resampling_keeps_constants_and_mirrors(size: int, side: int) -> None:
    matrix = resampling(size, side)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-5)


@pytest.mark.shared
def test_two_heads_are_no_copies_and_a_cropped_head_is_one(shared_data: Path) -> None:
    from medrail.read import read

    colin = read(shared_data / "brain/colin27/ch2.nii.gz").voxels[:, ::2, ::2, ::2]
    mni = read(shared_data / "brain/mni152/MNI152_T1_2mm.nii.gz").voxels
    cut = colin[:, 4:-4, 5:-5, 4:-4]
    made = {
        name: signature_of(Image(np.ascontiguousarray(one)))
        for name, one in {"colin": colin, "mni": mni, "cut": cut}.items()
    }
    pairs = near_pairs({name: one for name, one in made.items() if one is not None})
    assert [(pair.a, pair.b, pair.sure) for pair in pairs] == [("colin", "cut", False)]  # heads: a person decides


@pytest.mark.shared
def test_known_copies_between_train_and_val_of_the_chest_xrays(shared_data: Path) -> None:
    """The public set itself has two patients' images in two splits, re-encoded; nothing else of it is a pair."""
    from medrail.read import read

    files = sorted((shared_data / "chestxray").rglob("*.jpeg"))
    made = {str(file.relative_to(shared_data)): signature_of(read(file)) for file in files}
    pairs = near_pairs({name: one for name, one in made.items() if one is not None})
    assert len(pairs) == 3
    assert all(pair.sure for pair in pairs)
    assert {Path(pair.a).name == Path(pair.b).name for pair in pairs} == {True, False}
