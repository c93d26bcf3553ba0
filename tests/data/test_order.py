"""Where random numbers come from, and the order of the samples."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.data import batches_per_epoch, generator
from medrail.data.order import epoch_batches


def drawn(*place: int | str) -> list[int]:
    return torch.randint(2**31, (4,), generator=generator(*place)).tolist()  # type: ignore[arg-type]


def test_a_place_always_draws_the_same_and_no_other_place_does() -> None:
    places = [(0, "order", 1), (0, "order", 2), (0, "augment", 1), (1, "order", 1), (0, "augment", 1, 1)]
    numbers = [drawn(*place) for place in places]
    assert numbers == [drawn(*place) for place in places]
    assert len({tuple(row) for row in numbers}) == len(places)


@given(count=st.integers(1, 70), batch=st.integers(1, 20), wanted=st.integers(0, 200), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=200)
def test_every_sample_comes_equally_often_in_batches_of_nearly_one_size(
    count: int, batch: int, wanted: int, seed: int
) -> None:
    batches = epoch_batches(count, batch, wanted, generator(seed, "order", 0))
    sizes = [len(indices) for indices in batches]
    assert len(batches) == batches_per_epoch(count, batch, wanted)
    assert sum(sizes) == (wanted or count)
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    times = torch.bincount(torch.cat(batches), minlength=count)
    assert times.max() - times.min() <= 1


def test_the_order_differs_between_epochs_and_seeds() -> None:
    orders = [
        torch.cat(epoch_batches(50, 8, 0, generator(seed, "order", epoch))) for seed in (0, 1) for epoch in (0, 1)
    ]
    assert all(not torch.equal(orders[i], orders[j]) for i in range(4) for j in range(i))
