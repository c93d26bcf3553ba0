"""Bytes behind a header: exact, bounded, and nothing of a parser's exception but its kind."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from medrail.errors import CorruptFile
from medrail.read.guard import Guard
from medrail.read.payload import read_payload


class Panic(BaseException):
    """What a decoder in Rust raises."""


def test_a_stream_that_goes_on_is_not_followed(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\1" * 1000 + bytes(60_000_000)))
    tracemalloc.start()
    with path.open("rb") as file:
        assert read_payload(file, 1000, "deflate") == b"\1" * 1000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("error", [ValueError("Secretive^Sally"), Panic("Secretive^Sally")])
def test_only_the_kind_of_a_parsers_exception_is_passed_on(error):
    with pytest.raises(CorruptFile, match=type(error).__name__) as caught, Guard(Path("scan.dcm"), "DICOM"):
        raise error
    assert "Sally" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_interrupt_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt), Guard(Path("scan.dcm"), "DICOM"):
        raise KeyboardInterrupt
