"""Every transfer syntax gives back the values that were stored, whatever their bits, sign, colours and fragments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file, get_testdata_files
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGTransferSyntaxes,
    RLELossless,
)

from medrail.errors import CorruptFile, MedrailError, ReadError, UnsupportedFormat
from medrail.read.dicom.colour import to_rgb
from medrail.read.dicom.fragments import Frames
from medrail.read.dicom.header import header_of
from medrail.read.dicom.layout import Layout, values_of
from medrail.read.dicom.pixels import decode, parse, stored_values
from medrail.read.guard import Guard
from read.pictures import ENCAPSULATED, LOSSLESS, decoded, extended, picture

COMPRESSED = [uid for uid in sorted(LOSSLESS) if uid != ENCAPSULATED]


def noise(shape, dtype, bits, seed=0):
    """Values over the whole range of ``bits``, not only noise: half of each frame is flat."""
    low, high = (-(1 << bits - 1), 1 << bits - 1) if np.dtype(dtype).kind == "i" else (0, 1 << bits)
    values = np.random.default_rng(seed).integers(low, high, shape).astype(dtype)
    values[:, shape[1] // 2 :] = values[0, 0, 0]
    return values


@settings(max_examples=40, deadline=None)
@given(
    syntax=st.sampled_from(sorted(LOSSLESS)),
    kind=st.sampled_from([("u1", 8), ("u2", 10), ("u2", 12), ("u2", 16), ("i2", 16)]),
    size=st.tuples(st.integers(5, 20), st.integers(5, 20)),
    count=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_lossless_syntaxes_are_lossless(syntax, kind, size, count, seed):
    dtype, bits = kind
    values = noise((count, *size), dtype, bits, seed)
    dataset = picture(values, syntax, frames=[LOSSLESS[syntax](frame, bits) for frame in values], bits=bits)
    found = decoded(dataset)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values[None])
    np.testing.assert_array_equal(decoded(dataset, frames=[count - 1]), values[None, -1:])


@pytest.mark.parametrize("syntax", sorted(LOSSLESS))
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_lossless_colours(syntax, dtype):
    values = noise((2, 7, 11, 3), dtype, 8 * np.dtype(dtype).itemsize)
    frames = [LOSSLESS[syntax](frame, 8 * frame.itemsize) for frame in values]
    np.testing.assert_array_equal(decoded(picture(values, syntax, frames=frames)), np.moveaxis(values, -1, 0))


@pytest.mark.parametrize("bits", [10, 12, 13])
@pytest.mark.parametrize(
    "syntax", [uid for uid in sorted(LOSSLESS) if (uid[-10:] > "1.2.4.50" and "4.8" in uid) or "4.7" in uid]
)
def test_streams_without_a_sign_are_twos_complement_of_their_own_depth(syntax, bits):
    values = noise((1, 9, 13), "i2", bits)
    dataset = picture(values, syntax, frames=[LOSSLESS[syntax](values[0], bits)], bits=bits)
    np.testing.assert_array_equal(decoded(dataset), values[None])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("colour", [False, True])
def test_uncompressed(syntax, dtype, colour):
    if colour and dtype[0] == "i":
        pytest.skip("colours have no sign")
    values = noise((3, 5, 7, 3) if colour else (3, 5, 7), dtype, 8 * np.dtype(dtype).itemsize)
    dataset = picture(values, syntax)
    planar = np.moveaxis(values, -1, 1) if colour else values
    if colour:
        dataset.PlanarConfiguration = 1
    stored = planar.astype(planar.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes()
    if syntax == ExplicitVRBigEndian and values.itemsize == 1:
        stored = np.frombuffer(stored + b"\0" * (len(stored) % 2), "<u2").astype(">u2").tobytes()  # OW: in words
    dataset.PixelData = stored
    expected = np.moveaxis(values, -1, 0) if colour else values[None]
    np.testing.assert_array_equal(decoded(dataset), expected)
    np.testing.assert_array_equal(decoded(dataset, frames=[2, 0]), expected[:, [2, 0]])


def test_frames_of_single_bits_share_bytes():
    values = np.random.default_rng(0).integers(0, 2, (3, 5, 7)).astype(np.uint8)
    dataset = picture(values, ExplicitVRLittleEndian, BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset.PixelData = np.packbits(values.ravel(), bitorder="little").tobytes()
    np.testing.assert_array_equal(decoded(dataset), values[None])
    np.testing.assert_array_equal(decoded(dataset, frames=[1]), values[None, 1:2])


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floats(keyword, dtype):
    values = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(dtype)
    dataset = picture(values.astype("u4"), ExplicitVRLittleEndian)
    del dataset.PixelData
    dataset.BitsAllocated = 8 * values.itemsize
    setattr(dataset, keyword, values.tobytes())
    np.testing.assert_array_equal(decoded(dataset), values[None])
    setattr(dataset, keyword, values.tobytes()[:-8])
    with pytest.raises(CorruptFile, match="too early"):
        decoded(dataset)


@settings(max_examples=60, deadline=None)
@given(stored=st.integers(1, 16), above=st.integers(0, 15), signed=st.booleans(), seed=st.integers(0, 99))
def test_only_the_stored_bits_are_the_value(stored, above, signed, seed):
    """Law: whatever garbage stands beside the stored bits, wherever they stand, the value is the same."""
    high = min(stored - 1 + above, 15)
    rng = np.random.default_rng(seed)
    low = -(1 << stored - 1) if signed else 0
    values = rng.integers(low, low + (1 << stored), 200)
    values[0] = low + (1 << stored) - 1
    shift = high + 1 - stored
    garbage = rng.integers(0, 1 << 16, 200) & ~(((1 << stored) - 1) << shift) | (1 << 15 if high < 15 else 0)
    cells = ((values << shift) & (((1 << stored) - 1) << shift) | garbage).astype(np.uint16)
    layout = Layout(1, 200, 1, 16, stored, high, signed, "MONOCHROME2", planar=False)
    if shift and not (cells >> stored).any():
        return
    np.testing.assert_array_equal(values_of(cells.view(layout.dtype), layout), values)


def test_a_high_bit_that_the_values_contradict_is_refused():
    values = noise((1, 5, 7), "u2", 12)
    dataset = picture(values, ExplicitVRLittleEndian, bits=12, HighBit=15)
    with pytest.raises(CorruptFile, match="HighBit"):
        decoded(dataset)
    dataset.PixelData = (values << 4).tobytes()
    np.testing.assert_array_equal(decoded(dataset), values[None])


@pytest.mark.parametrize(
    ("elements", "error", "match"),
    [
        ({"BitsStored": 17}, CorruptFile, "contradict"),
        ({"HighBit": 3}, CorruptFile, "contradict"),
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, UnsupportedFormat, "cells of 12 bits"),
        ({"PhotometricInterpretation": "CMYK"}, UnsupportedFormat, "CMYK"),
        ({"PhotometricInterpretation": "RGB"}, CorruptFile, "1 sample"),
        ({"PhotometricInterpretation": ""}, CorruptFile, "no photometric"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, CorruptFile, "palette"),
        ({"Rows": 700}, CorruptFile, "declares"),
    ],
)
def test_contradictions_are_named(elements, error, match):
    with pytest.raises(error, match=match):
        decoded(picture(noise((1, 5, 7), "u2", 16), ExplicitVRLittleEndian, **elements))


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize(
    "elements", [{"Rows": 11}, {"Columns": 40}, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}]
)
def test_a_stream_of_another_size_than_its_header_is_refused(syntax, elements):
    values = noise((1, 21, 23), "u2", 16)
    dataset = picture(values, syntax, frames=[LOSSLESS[syntax](values[0], 16)], **elements)
    with pytest.raises(CorruptFile):
        decoded(dataset)


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("flat", [False, True])
def test_a_stream_that_ends_early_is_refused(syntax, share, flat):
    """Also with an end marker behind the cut, as a repaired file may have it."""
    values = np.random.default_rng(1).integers(0, 1 << 12, (1, 40, 50)).astype(np.uint16)
    if flat:
        values[:, 30:] = 7
    stream = LOSSLESS[syntax](values[0], 16)
    for tail in (b"", b"\xff\xd9"):
        dataset = picture(values, syntax, frames=[stream[: int(share * len(stream))] + tail])
        with pytest.raises(CorruptFile):
            decoded(dataset)


@pytest.mark.parametrize("name", ["SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_jpeg_lossy_gdcm.dcm", "JPEG-lossy.dcm"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_lossy_jpeg_that_ends_early_is_refused(name, share):
    dataset = pydicom.dcmread(get_testdata_file(name))
    stream = Frames(dataset.PixelData, 1)[0].rstrip(b"\0\xff")
    whole = decoded(dataset)
    dataset.PixelData = encapsulate([stream[:-2] if stream.endswith(b"\xff\xd9") else stream])
    np.testing.assert_array_equal(decoded(dataset), whole)  # only the end marker is lacking: nothing is missing
    dataset.PixelData = encapsulate([stream[: int(share * len(stream))] + b"\xff\xd9"])
    with pytest.raises(CorruptFile):
        decoded(dataset)


@settings(max_examples=60, deadline=None)
@given(
    frames=st.lists(st.binary(min_size=2, max_size=60).filter(lambda data: len(data) % 2 == 0), min_size=1, max_size=5),
    cuts=st.integers(1, 4),
    table=st.sampled_from(["basic", "none", "extended"]),
)
def test_fragments_are_put_together(frames, cuts, table):
    frames = [b"\xff\xd8\xff\xe0" + frame for frame in frames]
    if table == "extended":
        data, offsets, _ = extended(frames)
        found = Frames(data, len(frames), offsets)
    else:
        data = encapsulate(frames, fragments_per_frame=min(cuts, 2), has_bot=table == "basic")
        found = Frames(data, len(frames))
    assert [found[number] for number in range(len(frames))] == frames


def test_rle_segments_may_be_padded_and_not_longer():
    values = noise((1, 7, 9), "u2", 16)
    stream = bytearray(LOSSLESS[RLELossless](values[0], 16))
    for padding in (b"", b"\0", b"\0\x55"):  # nothing, half a packet, one byte too many
        dataset = picture(values, RLELossless, frames=[bytes(stream) + padding])
        np.testing.assert_array_equal(decoded(dataset), values[None])
    with pytest.raises(CorruptFile, match="another size"):
        decoded(picture(values, RLELossless, frames=[bytes(stream) + b"\x02\1\2\3"]))


def test_fragments_that_fit_no_frames_are_refused():
    data = encapsulate([b"\xff\xd8\xff\xe0"] * 3)
    with pytest.raises(CorruptFile, match="declares 2 frames"):
        Frames(data, 2)
    with pytest.raises(CorruptFile, match="declares 5 frames"):
        Frames(data, 5)
    with pytest.raises(CorruptFile, match="too early"):
        Frames(data[:-2], 3)
    with pytest.raises(CorruptFile, match="no list of items"):
        Frames(b"\1" + data, 3)
    with pytest.raises(CorruptFile, match="empty"):
        Frames(b"", 1)


def test_films_and_unknown_syntaxes_are_named():
    values = noise((2, 5, 7), "u1", 8)
    with pytest.raises(UnsupportedFormat, match="MPEG2 Main Profile"):
        decoded(picture(values, MPEG2MPML, frames=[b"ab"]))
    with pytest.raises(UnsupportedFormat, match="JPEG XL"):
        decoded(picture(values, "1.2.840.10008.1.2.4.110", frames=[b"ab", b"cd"]))
    with pytest.raises(UnsupportedFormat, match="an unknown transfer syntax"):
        decoded(picture(values, "1.2.3.4.5", frames=[b"ab", b"cd"]))
    with pytest.raises(ReadError, match="2 frame"):
        decoded(picture(values, ExplicitVRLittleEndian), frames=[2])


def test_ybr_full_422_shares_its_colours_between_neighbours():
    full = np.random.default_rng(0).integers(0, 256, (1, 4, 6, 3)).astype(np.uint8)
    full[:, :, 1::2, 1:] = full[:, :, ::2, 1:]
    dataset = picture(full, ExplicitVRLittleEndian, PhotometricInterpretation="YBR_FULL")
    expected = decoded(dataset)
    pairs = full.reshape(1, 4, 3, 2, 3)
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    np.testing.assert_array_equal(decoded(dataset), expected)  # as long as without subsampling: then there is none
    dataset.PixelData = np.concatenate([pairs[..., 0], pairs[..., 0, 1:]], axis=-1).tobytes()
    np.testing.assert_array_equal(decoded(dataset), expected)
    dataset.Columns, dataset.PixelData = 5, bytes(4 * 5 * 2)
    with pytest.raises(CorruptFile, match="5 columns"):
        decoded(dataset)


def test_ybr_is_turned_as_the_standard_says():
    ybr = np.random.default_rng(0).integers(0, 256, (50, 3)).astype(np.uint8)
    y, b, r = ybr.astype(float).T
    b, r = b - 128, r - 128
    expected = np.stack([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b], -1).round().clip(0, 255)
    np.testing.assert_allclose(to_rgb(ybr, "YBR_FULL", 8).astype(float), expected, atol=1)
    assert to_rgb(np.array([[235, 128, 128], [16, 128, 128]], np.uint8), "YBR_PARTIAL_422", 8).tolist() == [
        [255, 255, 255],
        [0, 0, 0],
    ]
    with pytest.raises(UnsupportedFormat):
        to_rgb(ybr.astype(np.int8), "YBR_FULL", 8)


def test_palettes_whole_and_segmented():
    values = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    dataset = picture(values, ExplicitVRLittleEndian, PhotometricInterpretation="PALETTE COLOR")
    ramp = (np.arange(12) * 20 + 3).astype("<u2")
    for colour in ("Red", "Green", "Blue"):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [12, 0, 16])
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", ramp.tobytes())
    np.testing.assert_array_equal(decoded(dataset), np.broadcast_to(ramp.reshape(1, 3, 4), (3, 1, 3, 4)))
    del dataset.BluePaletteColorLookupTableData
    with pytest.raises(CorruptFile, match="palette"):
        decoded(dataset)
    # One discrete entry, then a line of 11 to the last one (PS3.3 C.7.9.2).
    segments = np.array([0, 1, int(ramp[0]), 1, 11, int(ramp[-1])], "<u2").tobytes()
    for colour in ("Red", "Green", "Blue"):
        dataset.pop(f"{colour}PaletteColorLookupTableData", None)
        dataset.add_new(f"Segmented{colour}PaletteColorLookupTableData", "OW", segments)
    np.testing.assert_array_equal(decoded(dataset), np.broadcast_to(ramp.reshape(1, 3, 4), (3, 1, 3, 4)))


def test_a_palette_that_would_fill_the_memory_is_refused():
    dataset = picture(np.zeros((1, 3, 4), np.uint8), ExplicitVRLittleEndian, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        lines = np.array([0, 1, 7] + [1, 65_535, 9] * 5000, "<u2")
        dataset.add_new(f"Segmented{colour}PaletteColorLookupTableData", "OW", lines.tobytes())
    with pytest.raises(CorruptFile, match="more entries"):
        decoded(dataset)


TWINS = {
    "MR_small.dcm": (
        *("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_implicit.dcm"),
        *("MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_padded.dcm"),
    ),
    "rtdose.dcm": ("rtdose_rle.dcm", "rtdose_expb.dcm"),
    "SC_rgb_small_odd.dcm": ("SC_rgb_small_odd_big_endian.dcm",),
    "SC_rgb_jpeg_dcmd.dcm": ("SC_rgb_jpeg.dcm", "SC_jpeg_no_color_transform.dcm", "SC_rgb_jpeg_app14_dcmd.dcm"),
    "SC_rgb_rle.dcm": ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_gdcm_KY.dcm"),
}


@pytest.mark.parametrize(("first", "second"), [(first, second) for first, others in TWINS.items() for second in others])
def test_twins_are_equal(first, second):
    """The same picture in two transfer syntaxes, written by others."""
    images = []
    for name in (first, second):
        path = Path(get_testdata_file(name))
        with Guard(path, "DICOM"):
            dataset = parse(path)
            images.append(decode(dataset, header_of(dataset, path)).astype(int))
    lossy = first == "SC_rgb_jpeg_dcmd.dcm"
    assert np.abs(images[1] - images[0]).mean() <= (2 if lossy else 0)


def test_twelve_bit_jpeg_is_what_itk_reads():
    for name in ("JPEG-lossy.dcm", "JPGExtended.dcm"):
        path = Path(get_testdata_file(name))
        dataset = parse(path)
        found = decode(dataset, header_of(dataset, path))
        assert found.dtype == np.uint16
        assert found.max() > 255
        expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).astype(int)
        np.testing.assert_allclose(found.reshape(expected.shape).astype(int), expected, atol=1)


WITH_PIXELS = sorted({path for path in get_testdata_files("**/*") if path.endswith(".dcm")})


def compare_with_pydicom(path):
    """The stored values as RGB or grey, equal to what pydicom's own plugins make of them."""
    try:
        with Guard(path, "DICOM"):
            dataset = parse(path)
        header = header_of(dataset, path)
        found = stored_values(dataset, header)
    except MedrailError:
        return False
    syntax = dataset.file_meta.TransferSyntaxUID
    if not get_decoder(syntax).is_available or (syntax in JPEGTransferSyntaxes and header.bits_stored == 12):
        return False
    expected = dataset.pixel_array.reshape(found.shape)
    tolerance = 1 if syntax == JPEGBaseline8Bit or header.photometric.startswith("YBR") else 0
    np.testing.assert_allclose(found.astype(np.int64), expected.astype(np.int64), atol=tolerance)
    return True


@pytest.mark.parametrize("path", WITH_PIXELS, ids=lambda path: Path(path).name)
@pytest.mark.filterwarnings("ignore")
def test_pydicom_reads_the_same(path):
    compare_with_pydicom(Path(path))


@pytest.mark.filterwarnings("ignore")
def test_most_files_are_really_compared():
    """What medrail refuses, or pydicom has no decoder for, is passed over; that must not be most of them."""
    compared = sum(compare_with_pydicom(Path(path)) for path in WITH_PIXELS)
    assert compared > len(WITH_PIXELS) // 2, f"{compared} of {len(WITH_PIXELS)}"


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore")
def test_pydicom_reads_the_same_of_other_real_files(shared_data):
    files = sorted((shared_data / "dicom").rglob("*.dcm")) + sorted((shared_data / "dicom").rglob("CT.*"))
    assert len(files) > 60
    assert sum(compare_with_pydicom(path) for path in files) > 50


@pytest.mark.parametrize("syntax", sorted(LOSSLESS))
def test_damaged_streams_are_read_or_refused(syntax):
    """Short run of what benchmarks/fuzz does at length: nothing but our errors leaves the decoders."""
    values = noise((1, 33, 35), "u2", 16)
    stream, rng = LOSSLESS[syntax](values[0], 16), np.random.default_rng(5)
    refused, named = 0, True
    for _ in range(150):
        damaged = bytearray(stream)
        for at in rng.integers(0, min(len(damaged), 200 if rng.random() < 0.5 else len(damaged)), 4):
            damaged[at] = rng.integers(0, 256)
        try:
            found = decoded(picture(values, syntax, frames=[bytes(damaged)]))
            assert found.shape == (1, 1, 33, 35)
        except MedrailError as error:
            refused += 1
            named = named and bool(error.found)
    assert named
    assert refused > 0 or syntax == ENCAPSULATED


def test_a_lossless_stream_is_no_baseline_one():
    values = noise((1, 9, 9), "u1", 8)
    with pytest.raises(CorruptFile, match="not what its transfer syntax names"):
        decoded(picture(values, JPEGBaseline8Bit, frames=[LOSSLESS[JPEGLosslessSV1](values[0], 8)]))
