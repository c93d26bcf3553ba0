"""The bytes of the voxels behind a header: exactly as many as declared, from a plain or a compressed stream.

Nothing is allocated that the file cannot hold, and a compressed stream is followed to its checksum.
"""

from __future__ import annotations

import bz2
import os
import zlib
from io import BufferedReader
from typing import Literal

from medrail.errors import CorruptFile

Encoding = Literal["raw", "deflate", "bzip2"]

_CHUNK = 1 << 20
_MAX_DEFLATE_RATIO = 1040  # the format's own limit is 1032 : 1
_ANY_ZLIB_OR_GZIP_HEADER = zlib.MAX_WBITS | 32


def read_payload(file: BufferedReader, size: int, encoding: Encoding = "raw", skip: int = 0) -> bytearray:
    """The next ``size`` bytes of the (decoded) stream, after ``skip`` (decoded) bytes.

    Raises
    ------
    CorruptFile
        If the stream is shorter or its checksum is wrong.
    """
    if encoding == "raw":
        return _plain(file, size, skip)
    if encoding == "bzip2":
        return _bzip2(file, size, skip)
    return _inflate(file, size + skip)[skip:] if skip else _inflate(file, size)


def _left(file: BufferedReader) -> int:
    here = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(here)
    return end - here


def _truncated(found: int, needed: int) -> CorruptFile:
    return CorruptFile(
        f"truncated: holds {max(found, 0):,} bytes of voxels",
        needed=f"the {needed:,} bytes that its header declares",
        remedy="Copy or export it again.",
    )


def _plain(file: BufferedReader, size: int, skip: int) -> bytearray:
    left = _left(file) - skip
    if left < size:
        raise _truncated(left, size)
    file.seek(skip, os.SEEK_CUR)
    data = bytearray(size)
    if file.readinto(data) != size:
        raise _truncated(0, size)
    return data


def _bzip2(file: BufferedReader, size: int, skip: int) -> bytearray:
    with bz2.BZ2File(file) as stream:
        stream.seek(skip)
        data = bytearray(stream.read(size))
        stream.read(1)  # drives the decoder to its checksum
    if len(data) != size:
        raise _truncated(len(data), size)
    return data


def _inflate(file: BufferedReader, size: int) -> bytearray:
    """zlib or gzip (of one or more members, as pigz and bgzip write) -> the first ``size`` bytes, checksum included."""
    left = _left(file)
    if left * _MAX_DEFLATE_RATIO < size:
        raise _truncated(left, size)
    data = bytearray(size)
    filled = 0
    engine = zlib.decompressobj(_ANY_ZLIB_OR_GZIP_HEADER)
    pending = b""
    while True:
        pending = pending or file.read(_CHUNK)
        if engine.eof and filled == size:
            return data
        if not pending:
            raise _truncated(filled, size)
        if engine.eof:
            engine = zlib.decompressobj(_ANY_ZLIB_OR_GZIP_HEADER)
        # One byte more than is needed drives the engine to the checksum; a longer stream is not our concern.
        piece = engine.decompress(pending, min(_CHUNK * 4, size - filled + 1))
        if len(piece) > size - filled:
            data[filled:] = piece[: size - filled]
            return data
        data[filled : filled + len(piece)] = piece
        filled += len(piece)
        pending = engine.unused_data if engine.eof else engine.unconsumed_tail
