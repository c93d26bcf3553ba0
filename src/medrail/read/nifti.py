"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz, .hdr + .img), in both directions.

The header is nibabel's to parse; the voxels are read here, so that a size is checked before it is allocated and a
compressed stream is followed to its checksum. Definition: nifti1.h and nifti2.h of the NIfTI Data Format Working Group.
"""

from __future__ import annotations

import gzip
import itertools
import os
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import CorruptFile, GeometryError, UnsupportedFormat
from medrail.read.guard import Guard
from medrail.read.limits import check_voxels
from medrail.read.payload import read_payload
from medrail.read.scaling import native, rescale
from medrail.read.space import geometry_of
from medrail.types import READ_AS_STORED, Defect, Geometry, Image, ReadOptions

_GZIP = b"\x1f\x8b"
_GZIP_LEVEL = 5
_HEADER_BYTES = 540
# The qform keeps its rotation as three float32 numbers: it cannot repeat the sform to the last digit.
_FORMS_TOLERANCE_VOXELS = 0.1
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}  # the rest is mm, or does not say


def read_nifti(path: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """A NIfTI file -> (C, D, H, W): D, H, W are the file's k, j, i; C its fourth (time) or fifth (vector) dimension.

    Integers stay integers unless scl_slope or scl_inter says otherwise. RGB voxels become C = 3. The geometry is the
    sform's, else the qform's; when neither is set the file declares no orientation and its axes are taken as R, A, S.

    Raises
    ------
    ReadError
        CorruptFile, UnsupportedFormat (complex voxels, more than five dimensions), or too large.
    GeometryError
        If its affine is no grid, or sform and qform contradict each other about left and right (which
        ``options.on_defect: accept`` reads by the sform). Any other disagreement is said in ``Image.defects``.
    """
    with Guard(path, "NIfTI"):
        header = _read_header(path)
        shape = tuple(int(extent) for extent in header.get_data_shape())
        dtype = header.get_data_dtype()
        _check_kind(dtype, shape)
        size = check_voxels(shape, dtype.itemsize)
        stored = np.frombuffer(_read_voxels(path, header, size), dtype).reshape(shape, order="F")
        planes = _to_planes(_native_colour(stored))
        slope, intercept = header.get_slope_inter()
        slope, intercept = (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0))
        planes = rescale(planes, [slope] * len(planes), [intercept] * len(planes))
        geometry = _geometry(header)
        defects = _disagreement(header, shape, options)
        return Image(planes, geometry, source=str(path), defects=defects)


def _native_colour(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(i, j, k...) of any data type -> native numbers; RGB(A) records become a last axis of 3, the alpha dropped."""
    if stored.dtype.names is None:
        return native(stored)
    return np.stack([stored[name] for name in ("R", "G", "B")], axis=-1)


def _read_header(path: Path) -> Any:
    import nibabel  # slow to load, and only NIfTI needs it

    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
    with gzip.open(path) if compressed else path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    kind: Any
    second = head[4:8] in (b"n+2\0", b"ni2\0")
    if second:
        single = head[4:8] == b"n+2\0"
        kind = nibabel.Nifti2Header if single else nibabel.nifti2.Nifti2PairHeader
    else:
        single = head[344:348] == b"n+1\0"
        kind = nibabel.Nifti1Header if single else nibabel.nifti1.Nifti1PairHeader
    # The extensions between header and voxels are not needed: only the fixed part is given to the parser.
    return kind(head[: 540 if second else 348], check=True)


def nifti_data_file(path: Path) -> Path | None:
    """The .img file of a pair, or None where the voxels follow the header.

    Raises
    ------
    CorruptFile
        If the header is that of a pair and there is no such file beside it.
    """
    return _image_beside(path) if _is_pair(_read_header(path)) else None


def _is_pair(header: Any) -> bool:
    return bytes(header["magic"].tobytes()).startswith(b"ni")


def _read_voxels(path: Path, header: Any, size: int) -> bytearray:
    offset = int(header["vox_offset"])
    if _is_pair(header):
        path = _image_beside(path)
    elif offset < header.sizeof_hdr:
        raise CorruptFile(f"its voxels begin at byte {offset}, inside the header", remedy="Write it again.")
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
        file.seek(0)
        return read_payload(file, size, "deflate" if compressed else "raw", skip=offset)


def _image_beside(path: Path) -> Path:
    stem = path.name.removesuffix(".gz").removesuffix(".hdr")
    for name in (f"{stem}.img", f"{stem}.img.gz"):
        if (path.parent / name).is_file():
            return path.parent / name
    raise CorruptFile(
        "is the header of a NIfTI pair", needed=f"{stem}.img beside it", where=str(path), remedy="Copy both files."
    )


def _check_kind(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if (
        dtype.kind == "c"
        or dtype.itemsize == 16
        or (dtype.names is not None and not {"R", "G", "B"} <= set(dtype.names))
    ):
        raise UnsupportedFormat(
            f"holds voxels of type {dtype.name}",
            needed="integers, floating point numbers or RGB",
            remedy="Write magnitude and phase as two images.",
        )
    extra = [extent for extent in shape[3:] if extent != 1]
    if len(extra) > 1 or (extra and dtype.names is not None):
        raise UnsupportedFormat(
            f"has {len(shape)} dimensions ({' x '.join(map(str, shape))})",
            needed="three in space and one more",
            remedy="Split it into one file a time point or vector component.",
        )


def _to_planes(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(i[, j[, k[, ..., c]]]) -> (c, k, j, i), without copying."""
    spatial = stored.shape[:3] + (1,) * (3 - len(stored.shape[:3]))
    return stored.reshape((*spatial, -1), order="F").transpose(3, 2, 1, 0)


def _geometry(header: Any) -> Geometry:
    unit_mm = _MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)
    if not (header["sform_code"] or header["qform_code"]):
        i, j, k = (float(abs(size)) * unit_mm or 1.0 for size in header["pixdim"][1:4])
        return Geometry.from_spacing((k, j, i))
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    return geometry_of(affine[:3, [2, 1, 0]] * unit_mm, affine[:3, 3] * unit_mm, "RAS")


def _disagreement(header: Any, shape: tuple[int, ...], options: ReadOptions) -> tuple[Defect, ...]:
    """What is to be said where both forms are set and a corner of the grid differs by more than a tenth of a voxel."""
    if not (header["sform_code"] and header["qform_code"]):
        return ()
    sform, qform = header.get_sform(), header.get_qform()
    corners = np.array(list(itertools.product(*((0, max(extent - 1, 1)) for extent in (*shape, 1, 1)[:3]))))
    apart = np.linalg.norm(corners @ (sform - qform)[:3, :3].T + (sform - qform)[:3, 3], axis=1).max()
    smallest = np.linalg.norm(sform[:3, :3], axis=0).min()
    if apart <= _FORMS_TOLERANCE_VOXELS * smallest:
        return ()
    codes = f"sform (code {int(header['sform_code'])}) and qform (code {int(header['qform_code'])})"
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    evidence = f"{codes} place a corner of the image {apart:.3g} mm apart" + (", mirrored" if mirrored else "")
    if mirrored and options.on_defect == "refuse":
        raise GeometryError(
            f"sform_qform_disagree: {evidence}",
            needed="one answer to which side is left",
            remedy="Convert it again from its source, or set data.on_defect: accept to go by the sform.",
        )
    return (Defect("sform_qform_disagree", evidence, "the sform is used"),)


def write_nifti(image: Image, path: str | Path, pixel_mm: tuple[float, float] | None = None) -> None:
    """(C, D, H, W) -> NIfTI-1 (W, H, D[, C]) in ``path``, whole or not at all, with the same bytes each time.

    Without geometry the file gets the codes that say "no orientation known", and pixels of ``pixel_mm`` (along H, W),
    else of 1 mm.

    Raises
    ------
    UnsupportedFormat
        If the name does not end in .nii or .nii.gz, or NIfTI has no such data type.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise UnsupportedFormat("another ending", needed=".nii or .nii.gz", where=str(path))
    with Guard(path, "NIfTI to be written"):
        content = _encode(image, pixel_mm)
        if path.name.endswith(".gz"):
            content = gzip.compress(content, _GZIP_LEVEL, mtime=0)
        _write_whole(path, content)


def _encode(image: Image, pixel_mm: tuple[float, float] | None) -> bytes:
    import nibabel

    voxels = image.voxels.transpose(3, 2, 1, 0)
    if image.channels == 1:
        voxels = voxels[..., 0]
    if voxels.dtype.kind == "b":
        voxels = voxels.astype(np.uint8)
    elif voxels.dtype == np.float16:
        voxels = voxels.astype(np.float32)
    elif voxels.dtype.kind not in "iuf":
        raise UnsupportedFormat(f"voxels of type {voxels.dtype.name}", needed="integers or floating point numbers")
    height_mm, width_mm = pixel_mm or (1.0, 1.0)
    affine = np.diag([width_mm, height_mm, 1.0, 1.0])
    if image.geometry is not None:
        affine = image.geometry.affine_ras_mm[:, [2, 1, 0, 3]]
    nifti = nibabel.Nifti1Image(native(voxels), affine, dtype=voxels.dtype)
    code = "unknown" if image.geometry is None else "scanner"
    nifti.set_sform(affine, code)
    nifti.set_qform(affine, code)
    nifti.header.set_xyzt_units("mm")
    stream = BytesIO()
    nifti.to_stream(stream)
    return stream.getvalue()


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
