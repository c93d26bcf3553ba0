"""Freed memory goes back to the system."""

from __future__ import annotations

import sys

import pytest

from medrail.machine import give_back_memory, memory_of


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
def test_freed_memory_is_given_back():
    kept = [bytearray(50_000) for _ in range(2000)]  # small enough for the heap, 100 MB together
    last = bytearray(50_000)  # lies behind them, so that the heap does not shrink by itself
    kept.clear()
    before = memory_of()
    give_back_memory()
    after = memory_of()
    assert last
    assert before is not None
    assert after is not None
    assert after.now_bytes <= before.now_bytes - 50e6
