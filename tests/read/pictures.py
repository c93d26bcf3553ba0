"""DICOM pictures made for tests: an array of values, stored in any transfer syntax."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    JPEG2000,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from medrail.read.dicom.header import header_of
from medrail.read.dicom.pixels import decode
from medrail.types import READ_AS_STORED

ENCAPSULATED = "1.2.840.10008.1.2.1.98"


def picture(values, syntax, *, frames=None, modality="OT", bits=None, **elements):
    """A data set of ``values`` (N, H, W) or (N, H, W, 3), uncompressed unless ``frames`` are the streams."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Modality = modality
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = values.shape[:3]
    dataset.SamplesPerPixel = 3 if values.ndim == 4 else 1
    dataset.PhotometricInterpretation = "RGB" if values.ndim == 4 else "MONOCHROME2"
    if values.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * values.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.add_new("PixelData", "OW", b"".join(encode_native(values)) if frames is None else encapsulate(frames))
    dataset["PixelData"].is_undefined_length = frames is not None
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def encode_native(values):
    return [frame.astype(frame.dtype.newbyteorder("<")).tobytes() for frame in values]


def encode_rle(frame):
    """PackBits of each byte plane, the highest first (PS3.5 G)."""
    planes = []
    for sample in frame.reshape(*frame.shape[:2], -1).transpose(2, 0, 1):
        cells = np.ascontiguousarray(sample).astype(sample.dtype.newbyteorder(">")).view(np.uint8)
        planes += [cells.reshape(-1, sample.itemsize)[:, byte] for byte in range(sample.itemsize)]
    segments = [bytes(imagecodecs.packbits_encode(np.ascontiguousarray(plane).tobytes())) for plane in planes]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    starts = np.cumsum([64, *map(len, segments[:-1])])
    header = np.zeros(16, "<u4")
    header[0], header[1 : len(starts) + 1] = len(starts), starts
    return header.tobytes() + b"".join(segments)


def _unsigned(frame, bits):
    """JPEG has no sign: the same bits."""
    return frame.view(f"u{frame.itemsize}") & np.array((1 << bits) - 1, f"u{frame.itemsize}")


def encode_jpeg(predictor):
    def encode(frame, bits):
        return imagecodecs.jpeg8_encode(
            _unsigned(frame, bits), lossless=True, predictor=predictor, bitspersample=bits, colorspace=_space(frame)
        )

    return encode


def _space(frame):
    return "RGB" if frame.ndim == 3 else None


LOSSLESS = {
    JPEGLosslessSV1: encode_jpeg(1),
    JPEGLossless: encode_jpeg(6),
    JPEGLSLossless: lambda frame, bits: imagecodecs.jpegls_encode(_unsigned(frame, bits)),
    JPEG2000Lossless: lambda frame, bits: imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True),
    JPEG2000: lambda frame, bits: imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True),
    HTJ2KLossless: lambda frame, bits: imagecodecs.htj2k_encode(frame, reversible=True),
    RLELossless: lambda frame, bits: encode_rle(frame),
    ENCAPSULATED: lambda frame, bits: encode_native([frame])[0],
}


def extended(frames):
    """(Pixel Data, offset table, lengths) with an Extended Offset Table."""
    return encapsulate_extended(frames)


def decoded(dataset, options=READ_AS_STORED, frames=None):
    return decode(dataset, header_of(dataset, Path("picture.dcm")), frames, options)
