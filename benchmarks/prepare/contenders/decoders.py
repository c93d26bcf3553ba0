"""The limit of compressed series: each decoder alone, on the codestreams of all slices in memory, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import generate_frames

SIDE = 512


def _packbits(data: bytes) -> Any:
    """Two segments, the high bytes first (PS3.5 G), unpacked by imagecodecs."""
    _, first, second = np.frombuffer(data, "<u4", 3)
    planes = np.empty((SIDE * SIDE, 2), np.uint8)
    for byte, segment in ((1, data[first:second]), (0, data[second:])):
        planes[:, byte] = np.frombuffer(imagecodecs.packbits_decode(segment), np.uint8)[: SIDE * SIDE]
    return planes.view("<u2").reshape(SIDE, SIDE)


def _dicomrle(data: bytes) -> Any:
    return np.frombuffer(imagecodecs.dicomrle_decode(data, "<u2"), "<u2").reshape(SIDE, SIDE)


def _pylibjpeg_rle(data: bytes) -> Any:
    import rle.utils

    return np.frombuffer(rle.utils.decode_frame(data, SIDE * SIDE, 16, "<"), "<u2").reshape(SIDE, SIDE)


def _pyjpegls(data: bytes) -> Any:
    import jpeg_ls

    return np.frombuffer(jpeg_ls.decode_buffer(data)[0], "<u2").reshape(SIDE, SIDE)


def _pylibjpeg_openjpeg(data: bytes) -> Any:
    import openjpeg

    return openjpeg.decode(data, j2k_format=0)


DECODERS: dict[str, dict[str, Callable[[bytes], Any]]] = {
    "rle": {
        "imagecodecs dicomrle": _dicomrle,
        "imagecodecs packbits": _packbits,
        "pylibjpeg-rle": _pylibjpeg_rle,
    },
    "jpeg_ls": {"imagecodecs CharLS": imagecodecs.jpegls_decode, "pyjpegls CharLS": _pyjpegls},
    "jpeg_2000": {
        "imagecodecs OpenJPEG": lambda data: imagecodecs.jpeg2k_decode(data, numthreads=1),
        "pylibjpeg-openjpeg": _pylibjpeg_openjpeg,
    },
}


@contextmanager
def alone(options: Mapping[str, Any]) -> Iterator[Any]:
    decode = DECODERS[options["syntax"]][options["decoder"]]

    def work(paths: Sequence[Path], out: Path) -> float:
        total = 0.0
        for path in paths:
            read = [pydicom.dcmread(file) for file in sorted(path.glob("IM*"))]
            streams = [next(generate_frames(data.PixelData, number_of_frames=1)) for data in read]
            begin = time.perf_counter()
            for stream in streams:
                cells = decode(stream)
            total += time.perf_counter() - begin
            np.save(out / f"{path.name}.npy", cells)
        return total

    yield work
