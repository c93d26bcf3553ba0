"""one_thread: batches are made by one torch thread, whatever the network is computed with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes with one thread; after it with as many as before.

    Torch's threads wait for each other at the end of each operation. For the short ones of a batch two threads give
    half as much again on an idle machine, and a thirtieth beside a busy neighbour (measured). So what is made does not
    depend on the number of threads either.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
