"""Bytes behind a header: exact, bounded, and nothing of a parser's exception but its kind."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path

import pytest

from medrail.errors import CorruptFile
from medrail.read.guard import Guard
from medrail.read.payload import read_payload

RAW = bytes(range(256)) * 40
GZIP, ZLIB = gzip.compress(RAW, mtime=0), zlib.compress(RAW)


@pytest.mark.parametrize("size", [len(RAW), len(RAW) - 1, 1, 0])
@pytest.mark.parametrize(
    "content",
    [GZIP, ZLIB, GZIP + b"what follows", ZLIB + bytes(9), gzip.compress(RAW[:999]) + gzip.compress(RAW[999:])],
    ids=["gzip", "zlib", "gzip and more", "zlib and more", "two members"],
)
def test_a_stream_gives_as_much_as_is_declared(content, size, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"head" + content)
    with path.open("rb") as file:
        file.seek(4)
        assert read_payload(file, size, "deflate") == RAW[:size]
        file.seek(4)
        assert read_payload(file, max(size - 3, 0), "deflate", skip=3) == RAW[3 : max(size, 3)]


@pytest.mark.parametrize("content", [GZIP, ZLIB], ids=["gzip", "zlib"])
@pytest.mark.parametrize("spoilt", ["cut", "checksum", "data", "declared"])
def test_what_is_not_whole_is_refused(content, spoilt, tmp_path):
    path, size = tmp_path / "a.gz", len(RAW) + (spoilt == "declared")
    if spoilt == "cut":
        content = content[:-3]
    elif spoilt in ("checksum", "data"):
        at = len(content) - 6 if spoilt == "checksum" and content is GZIP else len(content) - 2
        at = 40 if spoilt == "data" else at
        content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    path.write_bytes(content)
    with pytest.raises(CorruptFile), Guard(path, "stream"), path.open("rb") as file:
        read_payload(file, size, "deflate")


def test_a_declared_size_that_the_file_cannot_hold_is_not_allocated(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(GZIP)
    tracemalloc.start()
    with pytest.raises(CorruptFile, match="truncated"), path.open("rb") as file:
        read_payload(file, 2**31, "deflate")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_whole_volume_is_held_once_beside_its_compressed_bytes(tmp_path):
    """Not twice, as a copy without the header's bytes would."""
    path, size = tmp_path / "a.gz", 20_000_000
    path.write_bytes(gzip.compress(bytes(size + 352), mtime=0))
    tracemalloc.start()
    with path.open("rb") as file:
        assert len(read_payload(file, size, "deflate", skip=352)) == size
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * size


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
