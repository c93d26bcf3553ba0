"""NRRD: its three frames, its encodings, and the axis that is not in space."""

from __future__ import annotations

import nrrd
import numpy as np
import pytest
import SimpleITK

from medrail.errors import GeometryError, ReadError
from medrail.read import read

VOXELS = np.arange(24, dtype=np.int16).reshape(4, 3, 2)  # (x, y, z), as pynrrd has it
DIRECTIONS = np.array([[0.9, 0.1, 0.0], [0.0, 0.7, 0.2], [0.3, 0.0, 5.0]])  # a row an axis
ORIGIN = np.array([1.0, 2.0, 3.0])


def save(path, data=VOXELS, **header):
    nrrd.write(str(path), data, header)
    return path


def in_space(space, **header):
    return {"space": space, "space directions": DIRECTIONS, "space origin": ORIGIN} | header


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
    ],
)
def test_every_frame_ends_in_ras(space, signs, tmp_path):
    image = read(save(tmp_path / "a.nrrd", **in_space(space)))
    np.testing.assert_array_equal(image.voxels[0], VOXELS.transpose(2, 1, 0))
    for index in ((0, 0, 0), (3, 2, 1), (1, 2, 0)):
        expected = (ORIGIN + np.array(index) @ DIRECTIONS) * signs
        found = image.geometry.affine_ras_mm @ [*index[::-1], 1]
        np.testing.assert_allclose(found[:3], expected, atol=1e-12)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("ending", [".nrrd", ".nhdr"])
def test_encodings_here_and_beside(encoding, ending, tmp_path):
    path = save(tmp_path / f"a{ending}", encoding=encoding, **in_space("LPS"))
    np.testing.assert_array_equal(read(path).voxels[0], VOXELS.transpose(2, 1, 0))
    for data in tmp_path.iterdir():
        if ending == ".nrrd" or data.suffix != ".nhdr":
            data.write_bytes(data.read_bytes()[:-3])
    with pytest.raises(ReadError):
        read(path)


@pytest.mark.parametrize("axis", [0, 3])
def test_the_axis_that_is_not_in_space_is_the_channel(axis, tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (4, 3, 2, 3), dtype=np.uint8)
    directions = [*DIRECTIONS.tolist()]
    directions.insert(axis, [np.nan] * 3)
    header = in_space("LPS") | {"space directions": np.array(directions)}
    image = read(save(tmp_path / "a.nrrd", np.moveaxis(data, 3, axis), **header))
    np.testing.assert_array_equal(image.voxels, data.transpose(3, 2, 1, 0))
    np.testing.assert_allclose(image.geometry.spacing_mm, np.linalg.norm(DIRECTIONS, axis=1)[::-1])


def test_itk_reads_colour_alike(tmp_path):
    itk = SimpleITK.GetImageFromArray(
        np.random.default_rng(0).integers(0, 255, (2, 3, 4, 3), dtype=np.uint8), isVector=True
    )
    SimpleITK.WriteImage(itk, str(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(
        read(tmp_path / "a.nrrd").voxels, SimpleITK.GetArrayFromImage(itk).transpose(3, 0, 1, 2)
    )


def test_spacings_without_orientation(tmp_path):
    geometry = read(save(tmp_path / "a.nrrd", spacings=[0.9, 0.7, 5.0])).geometry
    assert geometry.spacing_mm == pytest.approx((5.0, 0.7, 0.9))
    assert geometry.axis_codes == ("S", "A", "R")


def test_without_any_space_there_is_no_geometry(tmp_path):
    assert read(save(tmp_path / "a.nrrd")).geometry is None
    assert read(save(tmp_path / "b.nrrd", VOXELS[..., 0])).voxels.shape == (1, 1, 3, 4)


def test_space_units(tmp_path):
    image = read(save(tmp_path / "a.nrrd", **in_space("LPS", **{"space units": ["um"] * 3})))
    np.testing.assert_allclose(image.geometry.spacing_mm, np.linalg.norm(DIRECTIONS, axis=1)[::-1] / 1000)
    with pytest.raises(GeometryError, match="units"):
        read(save(tmp_path / "b.nrrd", **in_space("LPS", **{"space units": ["furlong"] * 3})))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"sizes: 4 3 2", b"sizes: 4 3 2000"),
        (b"sizes: 4 3 2", b"sizes: 40000 30000 20000"),
        (b"sizes: 4 3 2", b"sizes: 4 3"),
        (b"sizes: 4 3 2", b"sizes: 4 3 0"),
        (b"type: int16", b"type: block"),
        (b"type: int16", b"tYpe: int16"),
        (b"encoding: raw", b"encoding: hex"),
        (b"endian: little", b"endian: sideways"),
        (b"space origin: (1,2,3)", b"space origin: (1,2"),
        (b"dimension: 3", b"data file: ../other.raw\ndimension: 3"),
        (b"dimension: 3", b"data file: LIST\ndimension: 3"),
    ],
)
def test_broken_headers_are_named(old, new, tmp_path):
    path = save(tmp_path / "a.nrrd", encoding="raw", **in_space("LPS"))
    content = path.read_bytes()
    assert old in content, content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(ReadError):
        read(path)
