"""Pictures of every depth and kind; Pillow and OpenCV write, and the arrays are known."""

from __future__ import annotations

import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from medrail.errors import CorruptFile, ReadError, UnsupportedFormat
from medrail.read import read, read_mask

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (7, 11), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (7, 11), dtype=np.uint16)
RGB8 = RNG.integers(0, 256, (7, 11, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (7, 11, 3), dtype=np.uint16)
ALPHA16 = RNG.integers(0, 65536, (7, 11, 4), dtype=np.uint16)

# EXIF orientation -> what turns the stored picture upright, as the EXIF standard draws it.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(pixels, colour_type, extra=b""):
    """A 16 bit PNG of any colour type, by hand: no library at hand writes grey with alpha."""
    h, w = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pixels_of(path):
    image = read(path)
    assert image.geometry is None
    assert image.voxels.shape[1] == 1
    return image.unit, np.moveaxis(image.voxels[:, 0], 0, -1)


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_eight_bits(ending, tmp_path):
    for pixels in (GREY8, RGB8):
        Pillow.fromarray(pixels).save(tmp_path / f"a{ending}")
        unit, found = pixels_of(tmp_path / f"a{ending}")
        assert unit == "uint8"
        np.testing.assert_array_equal(found, pixels.reshape(7, 11, -1))


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_are_never_squeezed(ending, tmp_path):
    path = tmp_path / f"a{ending}"
    for pixels in (GREY16, RGB16, ALPHA16):
        assert cv2.imwrite(str(path), pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]] if pixels.ndim == 3 else pixels)
        unit, found = pixels_of(path)
        assert unit == "uint16"
        np.testing.assert_array_equal(found, pixels.reshape(7, 11, -1)[..., :3])


def test_sixteen_bit_grey_with_alpha(tmp_path):
    (tmp_path / "a.png").write_bytes(png16(ALPHA16[..., :2], 4))
    unit, found = pixels_of(tmp_path / "a.png")
    assert unit == "uint16"
    np.testing.assert_array_equal(found, ALPHA16[..., :1])


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["jpeg", "tiff16", "tiff16rgb", "png16rgb", "png8"])
def test_pictures_are_turned_upright(kind, orientation, tmp_path):
    path = tmp_path / "a"
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    tolerance = 0
    if kind == "jpeg":
        stored = (np.mgrid[0:16, 0:24][0] * 10 + np.mgrid[0:16, 0:24][1] * 3).astype(np.uint8)
        Pillow.fromarray(stored).save(path, "JPEG", exif=exif, quality=100)
        tolerance = 4
    elif kind == "tiff16":
        stored = GREY16
        Pillow.fromarray(stored).save(path, "TIFF", tiffinfo={274: orientation})
    elif kind == "tiff16rgb":
        stored = RGB16
        path.write_bytes(tiff_rgb16(stored, orientation))
    elif kind == "png16rgb":
        stored = RGB16
        path.write_bytes(png16(stored, 2, chunk(b"eXIf", exif.tobytes()[6:])))
    else:
        stored = RGB8
        Pillow.fromarray(stored).save(path, "PNG", exif=exif)
    _, found = pixels_of(path)
    expected = UPRIGHT[orientation](stored)
    assert found.shape[:2] == expected.shape[:2]
    assert np.abs(found.astype(int) - expected.reshape(*expected.shape[:2], -1)).max() <= tolerance


def tiff_rgb16(pixels, orientation):
    h, w, _ = pixels.shape
    entries = [
        (256, 3, 1, w),
        (257, 3, 1, h),
        (258, 3, 3, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 14),
        (274, 3, 1, orientation),
        (277, 3, 1, 3),
        (278, 3, 1, h),
        (279, 4, 1, pixels.nbytes),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return (
        b"II*\0" + struct.pack("<I", 14 + pixels.nbytes) + struct.pack("<3H", 16, 16, 16) + pixels.tobytes() + directory
    )


def test_palettes_are_colours_in_an_image_and_indices_in_a_mask(tmp_path):
    indices = (GREY8 % 4).astype(np.uint8)
    palette = Pillow.fromarray(indices).convert("P")
    palette.putdata(indices.ravel().tolist())
    colours = [10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200]
    palette.putpalette(colours)
    for name in ("a.png", "a.tif", "a.bmp"):
        palette.save(tmp_path / name)
        _, found = pixels_of(tmp_path / name)
        np.testing.assert_array_equal(found, np.array(colours, np.uint8).reshape(4, 3)[indices])
        mask = read_mask(tmp_path / name)
        assert mask.unit == "label"
        np.testing.assert_array_equal(mask.voxels[0, 0], indices)


def test_a_palette_with_transparency(tmp_path):
    palette = Pillow.new("P", (4, 3), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "a.png", transparency=b"\xff\x00")
    np.testing.assert_array_equal(read(tmp_path / "a.png").voxels[:, 0, 0, 0], [10, 20, 30])


def test_alpha_is_dropped(tmp_path):
    for mode, channels in (("RGBA", 3), ("LA", 1)):
        pixels = ALPHA16[..., : len(mode)].astype(np.uint8)
        Pillow.fromarray(pixels, mode).save(tmp_path / "a.png")
        np.testing.assert_array_equal(pixels_of(tmp_path / "a.png")[1], pixels[..., :channels])


def test_one_bit_is_black_and_white_or_zero_and_one(tmp_path):
    bits = GREY8 > 100
    for name in ("a.png", "a.tif", "a.bmp"):
        Pillow.fromarray(bits).save(tmp_path / name)
        np.testing.assert_array_equal(read(tmp_path / name).voxels[0, 0], bits * 255)
        np.testing.assert_array_equal(read_mask(tmp_path / name).voxels[0, 0], bits)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "float32"])
def test_other_tiff_samples_keep_their_values(dtype, tmp_path):
    pixels = (GREY16.astype(np.int64) * 50_000 - 2**20).astype(dtype) if dtype != "float32" else GREY16 / np.float32(7)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_grey(pixels))
    unit, found = pixels_of(path)
    assert unit == "arbitrary"
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[..., 0], pixels)


def tiff_grey(pixels, photometric=1):
    h, w = pixels.shape
    sample_format = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    entries = [
        (256, 3, 1, w),
        (257, 3, 1, h),
        (258, 3, 1, pixels.itemsize * 8),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 3, 1, h),
        (279, 4, 1, pixels.nbytes),
        (339, 3, 1, sample_format),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + pixels.nbytes) + pixels.tobytes() + directory


@pytest.mark.parametrize("pixels", [GREY8, GREY16], ids=["8", "16"])
def test_zero_may_be_white_in_a_tiff(pixels, tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff_grey(pixels, photometric=0))
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.tif")[1][..., 0], np.iinfo(pixels.dtype).max - pixels)


def test_cmyk_becomes_rgb(tmp_path):
    Pillow.new("CMYK", (4, 3), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red, green, blue = read(tmp_path / "a.jpg").voxels[:, 0, 1, 1].astype(int)
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("name", ["grey.jpg", "grey.png", "deep.png", "deep.tif", "grey.tif", "grey.bmp"])
def test_truncated_pictures_are_corrupt(name, tmp_path):
    pixels = RNG.integers(0, 256, (64, 48, 3)).astype(np.uint16 if name.startswith("deep") else np.uint8)
    path = tmp_path / name
    assert cv2.imwrite(str(path), pixels)
    content = path.read_bytes()
    for share in (0.2, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises((CorruptFile, UnsupportedFormat)):
            read(path)


def test_bombs_are_refused_by_their_declared_size(tmp_path):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))))
    with pytest.raises(ReadError, match="pixels"):
        read(tmp_path / "a.png")


def test_an_animation_is_refused(tmp_path):
    pages = [Pillow.fromarray(GREY8), Pillow.fromarray(GREY8[::-1])]
    pages[0].save(tmp_path / "a.png", save_all=True, append_images=pages[1:])
    with pytest.raises(UnsupportedFormat, match="animation of 2 frames"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_stack_of_tiff_pages_is_one_image(dtype, channels, compression, tmp_path):
    stack = np.random.default_rng(0).integers(0, 120, (5, 7, 11, channels)).astype(dtype)
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.tif", np.squeeze(stack), photometric=photometric, compression=compression, metadata=None
    )
    image = read(tmp_path / "a.tif")
    assert (image.voxels.dtype, image.voxels.shape) == (np.dtype(dtype), (channels, 5, 7, 11))
    np.testing.assert_array_equal(image.voxels, np.moveaxis(stack, -1, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint32"])
def test_colour_of_many_bits_keeps_its_values(dtype, tmp_path):
    colour = (np.random.default_rng(0).random((3, 7, 11)) * 1000).astype(dtype)
    for order, stored in (("separate", colour), ("contig", np.moveaxis(colour, 0, -1))):
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=order)
        np.testing.assert_array_equal(read(tmp_path / "a.tif").voxels[:, 0], colour)


def test_the_smaller_versions_of_a_pyramid_are_no_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY8, subifds=0)
        file.write(GREY8[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").voxels[0, 0], GREY8)


def test_pages_of_several_sizes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY8)
        file.write(GREY8[:-1])
    with pytest.raises(UnsupportedFormat, match="2 pages of different sizes"):
        read(tmp_path / "a.tif")


def test_a_stack_is_refused_by_its_declared_size(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY8)
        file.write(GREY8)
    content = (tmp_path / "a.tif").read_bytes()
    height, width = (struct.pack("<H", size) for size in GREY8.shape)
    for tag, size in ((256, width), (257, height)):
        entry = struct.pack("<HHI", tag, 4, 1)
        content = re.sub(re.escape(entry) + b"....", entry + struct.pack("<I", 60_000), content, flags=re.DOTALL)
        content = content.replace(struct.pack("<HHI", tag, 3, 1) + size + bytes(2), entry + struct.pack("<I", 60_000))
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ReadError, match=r"declares .* pixels"):
        read(tmp_path / "a.tif")


def test_masks_in_colours_are_refused_and_grey_rgb_is_not(tmp_path):
    Pillow.fromarray(RGB8).save(tmp_path / "a.png")
    with pytest.raises(ReadError, match="mask in colours"):
        read_mask(tmp_path / "a.png")
    Pillow.fromarray(np.repeat(GREY8[..., None], 3, axis=2)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png").voxels[0, 0], GREY8)
    assert cv2.imwrite(str(tmp_path / "c.png"), GREY16)
    np.testing.assert_array_equal(read_mask(tmp_path / "c.png").voxels[0, 0], GREY16)
