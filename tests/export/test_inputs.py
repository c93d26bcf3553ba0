"""What calibrates a network has its size and is drawn the same way every time; what is shipped is no patient's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from medrail.bundle import InputKind, NetworkSpec
from medrail.errors import ExportError
from medrail.export.inputs import LARGEST_MIXTURES_BYTES, MOST_MIXTURES, mixtures, network_inputs
from medrail.types import Case, Image

KIND = InputKind(picture=None, channels=1, unit="arbitrary")


@dataclass(frozen=True)
class Prepared:
    """A store whose images hold the number of their case, and their places; one voxel is labelled."""

    grid: tuple[int, int, int]
    labelled: tuple[int, int, int] | None = None

    def load(self, case_id: str) -> tuple[Image, Image | None]:
        voxels = np.arange(np.prod(self.grid), dtype=np.float32).reshape(1, *self.grid) + 1e6 * int(case_id)
        if self.labelled is None:
            return Image(voxels), None
        mask = np.zeros((1, *self.grid), np.uint8)
        mask[(0, *self.labelled)] = 1
        return Image(voxels), Image(mask, unit="label")


def cases(count: int) -> list[Case]:
    return [Case(f"{number:03}", f"p{number}", ("x",), None, "train") for number in range(count)]


def spec_of(dims: Any, **sizes: Any) -> NetworkSpec:
    return NetworkSpec("segmentation", ("background", "organ"), dims, 1, (), KIND, **sizes)


@pytest.mark.parametrize(
    ("spec", "grid", "shape"),
    [
        (spec_of(2, grid=(9, 11)), (5, 9, 11), (1, 9, 11)),
        (spec_of(2, patch=(4, 6)), (1, 9, 11), (1, 4, 6)),
        (spec_of(2, patch=(16, 6)), (3, 9, 11), (1, 16, 6)),
        (spec_of(3, grid=(5, 9, 11)), (5, 9, 11), (1, 5, 9, 11)),
        (spec_of(3, patch=(4, 4, 16)), (5, 9, 11), (1, 4, 4, 16)),
        (spec_of(2), (5, 9, 11), (1, 9, 11)),
    ],
)
def test_inputs_have_the_size_of_the_network_and_are_the_same_every_time(spec: Any, grid: Any, shape: Any) -> None:
    store: Any = Prepared(grid, (2, 4, 5) if grid[0] > 2 else None)
    found = network_inputs(spec, store, cases(7), 12)
    assert {one.shape for one in found} == {shape}
    assert len(found) == (7 if grid[0] == 1 or spec.grid == grid else 12)
    again = network_inputs(spec, store, cases(7)[::-1], 12)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


def test_they_come_from_cases_all_over_the_list() -> None:
    store: Any = Prepared((1, 4, 4))
    found = network_inputs(spec_of(2, grid=(4, 4)), store, cases(100), 5)
    assert [int(one.max() // 1e6) for one in found] == [0, 20, 40, 60, 80]


def test_every_second_window_holds_a_labelled_voxel() -> None:
    store: Any = Prepared((20, 30, 40), (17, 3, 38))
    labelled = (17 * 30 + 3) * 40 + 38
    found = network_inputs(spec_of(3, patch=(4, 5, 6)), store, cases(1), 10)
    holds = [labelled in one for one in found]
    assert all(holds[::2])
    assert not all(holds)


def test_without_cases_there_is_an_error() -> None:
    store: Any = Prepared((1, 4, 4))
    with pytest.raises(ExportError, match="no prepared case"):
        network_inputs(spec_of(2), store, [], 5)


def test_mixtures_are_like_the_images_and_are_none_of_them() -> None:
    source = np.random.default_rng(0)
    images = [10 + (3 + number % 3) * source.normal(size=(2, 20, 24)).astype(np.float32) for number in range(20)]
    mixed = mixtures(images)
    assert mixed.shape == (MOST_MIXTURES, 2, 20, 24)
    assert mixed.dtype == np.float32
    np.testing.assert_array_equal(mixed, mixtures(images))
    assert mixed.mean() == pytest.approx(10, abs=0.2)
    assert mixed.std(axis=(2, 3)) == pytest.approx(4, abs=0.8)
    turned = [np.flip(one, axes) for one in images for axes in ((), (1,), (2,), (1, 2))]
    for mixture in mixed:
        alike = max(np.corrcoef(mixture.ravel() - 10, one.ravel() - 10)[0, 1] for one in turned)
        assert alike < 0.55, "an eighth of the image each: a correlation of about 1 / sqrt(8)"


def test_few_images_and_flat_ones_are_mixed_too() -> None:
    flat = [np.full((1, 3, 4, 5), 7, np.float32)]
    np.testing.assert_allclose(mixtures(flat), 7)


def test_mixtures_of_large_volumes_are_few() -> None:
    assert len(mixtures([np.ones((1, 96, 96, 96), np.float32)])) == LARGEST_MIXTURES_BYTES // (2 * 96**3)
    assert len(mixtures([np.ones((4, 96, 96, 96), np.float32)])) == 1
