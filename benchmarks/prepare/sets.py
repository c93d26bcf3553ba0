"""The data of the benchmark, made from one real volume: CT series as a scanner writes them, volumes, pictures.

The volume is the head of Colin27 that medrail ships (T1, 1 mm): its grey values become HU-like numbers of 12 bits, its
grid 300 x 512 x 512, and each series gets noise of its own, so that compressed files are as large as a scanner's.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

SLICES, SIDE = 300, 512
SLIDE_PX = 8192
NOISE_HU = 12.0  # standard deviation, as of a soft-tissue reconstruction of thin slices
_HEAD = Path(__file__).parents[2] / "src" / "medrail" / "demo" / "heads" / "colin27_t1.nii.gz"
Encode = Callable[[np.ndarray], bytes]


def head() -> np.ndarray:
    """(300, 512, 512) float32: air about -1000, head -100 to 1500."""
    import cv2

    from medrail.prepare import Pipeline
    from medrail.read import read

    steps = [{"kind": "orient"}, {"kind": "resize", "size": [SLICES, 217, 181]}]
    voxels = Pipeline.from_dict(steps)(read(_HEAD)).voxels[0]
    voxels = np.stack([cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for plane in voxels])
    low, high = 5.0, float(np.percentile(voxels, 99.5))
    share = np.clip((voxels - low) / (high - low), 0, 1)
    return np.where(share > 0.02, -100 + 1600 * share, -1000).astype(np.float32)


def series(volume: np.ndarray, number: int, slices: int = SLICES) -> np.ndarray:
    """(slices, 512, 512) uint16 stored values of one series: HU + 1024, 12 bits."""
    rng = np.random.default_rng(number)
    noise = rng.standard_normal((slices, SIDE, SIDE), dtype=np.float32) * NOISE_HU
    stored = np.roll(volume[:slices], number * 3, axis=2) + noise + 1024
    return np.clip(np.rint(stored), 0, 4095).astype(np.uint16)


def rle(plane: np.ndarray) -> bytes:
    """DICOM RLE of one slice: two PackBits segments, the high bytes first, rows packed by themselves (PS3.5 G)."""
    header, segments = np.zeros(16, "<u4"), []
    header[0], at = 2, 64
    for number, part in enumerate((plane >> 8, plane & 255)):
        rows = (bytes(imagecodecs.packbits_encode(row.tobytes())) for row in part.astype(np.uint8))
        segment = b"".join(rows)
        segment += b"\0" * (len(segment) % 2)
        header[1 + number], at = at, at + len(segment)
        segments.append(segment)
    return header.tobytes() + b"".join(segments)


ENCODERS: dict[str, tuple[str, Encode | None]] = {
    "uncompressed": (ExplicitVRLittleEndian, None),
    "rle": (RLELossless, rle),
    "jpeg_ls": (JPEGLSLossless, lambda plane: bytes(imagecodecs.jpegls_encode(plane))),
    "jpeg_2000": (
        JPEG2000Lossless,
        lambda plane: bytes(imagecodecs.jpeg2k_encode(plane, codecformat="J2K", reversible=True, bitspersample=12)),
    ),
}


@cache
def _scanner_header() -> Callable[[int, int], Any]:
    """What the benchmark of the index writes into each slice: 98 elements, private blocks, sequences."""
    path = Path(__file__).parents[1] / "index" / "bench.py"
    spec = importlib.util.spec_from_file_location("index_bench", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.header


def write_series(folder: Path, number: int, stored: np.ndarray, coding: str = "uncompressed") -> Path:
    """One DICOM series with a scanner's headers, 1 mm apart; names say nothing about the order."""
    syntax, encode = ENCODERS[coding]
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(number).permutation(len(stored))
    data = _scanner_header()(number, stored.shape[1])
    data.file_meta.TransferSyntaxUID = syntax
    uid = str(data.SOPInstanceUID).rsplit(".", 1)[0]
    for z, (plane, name) in enumerate(zip(stored, names, strict=True)):
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{1_000_000 + z}"
        data.ImagePositionPatient, data.InstanceNumber = ["-190.0", "-190.0", f"{z - 1000:.2f}"], z + 1
        if encode is None:
            data.PixelData = plane.astype("<u2").tobytes()
            data["PixelData"].VR, data["PixelData"].is_undefined_length = "OW", False
        else:
            data.PixelData = encapsulate([encode(plane)])
            data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        data.save_as(folder / f"IM{name:05}", enforce_file_format=True)
    return folder


def ct_set(root: Path, count: int, coding: str = "uncompressed") -> list[Path]:
    """``count`` series below ``root``, a folder each; made once."""
    folders = [root / coding / f"patient{number}" for number in range(count)]
    missing = [number for number, folder in enumerate(folders) if not (folder / ".made").is_file()]
    volume = head() if missing else np.empty(0)
    for number in missing:
        write_series(folders[number], number, series(volume, number), coding)
        (folders[number] / ".made").touch()
    return folders


def nifti_set(root: Path, count: int) -> list[Path]:
    """Volumes of 200 x 256 x 256 int16 as .nii.gz."""
    import nibabel

    paths = [root / f"volume{number}.nii.gz" for number in range(count)]
    if not all(path.is_file() for path in paths):
        root.mkdir(parents=True, exist_ok=True)
        volume = head()
        for number, path in enumerate(paths):
            voxels = series(volume, number, 200)[:, ::2, ::2].astype(np.int16) - 1024
            nibabel.save(nibabel.Nifti1Image(voxels.T, np.diag([-0.98, -0.98, 1.0, 1])), path)
    return paths


def picture_set(root: Path, count: int, ending: str) -> list[Path]:
    """Colour pictures of about 1000 x 1000: slices of the head in false colours, with a photograph's noise."""
    from PIL import Image

    paths = [root / f"picture{number:04}.{ending}" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    if not missing:
        return paths
    root.mkdir(parents=True, exist_ok=True)
    volume = head()

    def write(number: int) -> None:
        rng = np.random.default_rng(number)
        height, width = (int(size) for size in rng.integers(920, 1081, 2))
        plane = Image.fromarray(volume[40 + number % 220]).resize((width, height), Image.Resampling.BICUBIC)
        grey = np.clip((np.asarray(plane) + 1000) / 2500, 0, 1)
        colour = np.stack([grey**0.7, grey, grey**1.6], axis=-1) * 255
        colour += 4 * rng.standard_normal(colour.shape, dtype=np.float32)
        picture = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))
        part = paths[number].with_suffix(".part")
        picture.save(part, "JPEG", quality=90) if ending == "jpg" else picture.save(part, "PNG")
        part.replace(paths[number])

    with ThreadPoolExecutor() as pool:  # nearly all of it is done outside of Python's lock
        list(pool.map(write, missing))
    return paths


def slide_file(root: Path) -> Path:
    """A tiled pyramidal TIFF of JPEG tiles at 0.5 um a pixel, as scanners' software exports it."""
    import tifffile

    path = root / "slide.tif"
    if path.is_file():
        return path
    root.mkdir(parents=True, exist_ok=True)
    plane, part = _stained(head()[150]), path.with_suffix(".part")
    with tifffile.TiffWriter(part) as file:
        for factor in (1, 4, 16):
            small = plane[::factor, ::factor]
            file.write(
                small,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 85},
                subfiletype=int(factor > 1),
                resolution=(2e4 / factor, 2e4 / factor),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    part.replace(path)
    return path


def _stained(plane: np.ndarray) -> np.ndarray:
    """(SLIDE_PX, SLIDE_PX, 3): a slice of the head in pink and purple on glass, with a grain of a few pixels."""
    import cv2

    rng, size = np.random.default_rng(0), (SLIDE_PX, SLIDE_PX)
    large = cv2.resize(np.clip((plane + 1000) / 2500, 0, 1), size, interpolation=cv2.INTER_LINEAR)
    grain = rng.standard_normal((SLIDE_PX // 3, SLIDE_PX // 3), dtype=np.float32)
    depth = large * (1 + 0.3 * cv2.resize(grain, size, interpolation=cv2.INTER_LINEAR))
    colours = [243 - 70 * depth, 242 - 190 * depth, 244 - 90 * depth]
    return np.stack([np.clip(colour, 0, 255).astype(np.uint8) for colour in colours], axis=-1)


def read_all(paths: Sequence[Path]) -> int:
    """Read the bytes of all files, as the limit of any work on them."""
    total, buffer = 0, bytearray(1 << 20)
    view = memoryview(buffer)
    for path in paths:
        number = os.open(path, os.O_RDONLY)
        while count := os.readv(number, [view]):
            total += count
        os.close(number)
    return total


def files_of(folders: Sequence[Path]) -> list[Path]:
    """All files that the cases are made of."""
    parts = (sorted(place.glob("IM*")) if place.is_dir() else [place] for place in folders)
    return [path for part in parts for path in part]


def write_bytes(folder: Path, sizes: Sequence[int]) -> None:
    """Write files of these sizes anew, as the limit of any storing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(sizes):
        (folder / str(number)).write_bytes(bytes(size))
