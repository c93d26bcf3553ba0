"""Invented files: images that look like none of a patient, and files that must be refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_SIDES_PX = (224, 500)
_GRIDS = ((40, 64, 56), (32, 72, 64), (48, 56, 60))


def _picture(rng: np.random.Generator, channels: int) -> npt.NDArray[np.uint8]:
    """Smooth spots with some noise, as compressible as a photograph: (H, W, C)."""
    height, width = rng.integers(_SIDES_PX[0], _SIDES_PX[1] + 1, size=2)
    rows, columns = np.mgrid[:height, :width]
    field = np.zeros((height, width, channels))
    for _ in range(6):
        y, x, size = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(20, 120)
        spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
        field += spot[:, :, None] * rng.uniform(20, 90, size=channels)
    field += rng.normal(0, 6, size=field.shape)
    picture: npt.NDArray[np.uint8] = np.clip(field + 30, 0, 255).astype(np.uint8)
    return picture


def jpeg(rng: np.random.Generator) -> bytes:
    from simplejpeg import encode_jpeg

    return bytes(encode_jpeg(_picture(rng, 3), quality=90))


def grey_jpeg(rng: np.random.Generator) -> bytes:
    from simplejpeg import encode_jpeg

    return bytes(encode_jpeg(_picture(rng, 1), quality=90, colorspace="GRAY"))


def nifti(rng: np.random.Generator) -> bytes:
    """A ball of tissue in air, int16, 3.0 x 2.0 x 2.5 mm."""
    import nibabel as nib

    grid = _GRIDS[int(rng.integers(len(_GRIDS)))]
    places = np.indices(grid).transpose(1, 2, 3, 0) - np.array(grid) / 2
    voxels = np.where(np.linalg.norm(places, axis=-1) < 0.4 * min(grid), 200.0, -900.0) + rng.normal(0, 20, grid)
    image = nib.Nifti1Image(voxels.astype(np.int16), np.diag([3.0, 2.0, 2.5, 1.0]))
    return bytes(image.to_bytes())


def roi(file: bytes) -> bytes:
    """A mask over the middle of a picture, as PNG."""
    from PIL import Image as Picture

    with Picture.open(io.BytesIO(file)) as picture:
        width, height = picture.size
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : -height // 4, width // 4 : -width // 4] = 1
    buffer = io.BytesIO()
    Picture.fromarray(mask).save(buffer, format="PNG")
    return buffer.getvalue()


def hostile() -> Iterator[bytes]:
    """Broken, disguised, empty, too large: what must be refused with 4xx, and must not cost the others."""
    rng = np.random.default_rng(0)
    whole = jpeg(rng)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("../../outside.dcm", b"\0" * 2_000_000)
    yield whole[: len(whole) // 2]
    yield b""
    yield b"<!doctype html><script>alert(1)</script>"
    yield b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield b"%PDF-1.7\n"
    yield rng.bytes(20_000)
    yield b"\0" * 128 + b"DICM" + rng.bytes(200)
    # The header of 65536 x 65536 values of 16 bits, and no pixels.
    yield b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x10\6\0\0\0\0\0\0\0"
    yield archive.getvalue()
