"""Geometry's laws: what it says about spacing, direction and letters is what the affine does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrail.errors import GeometryError
from medrail.types import Geometry, Image, Prediction

LETTER_OF_AXIS = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}

angles = st.floats(-np.pi, np.pi)
spacings = st.tuples(*[st.floats(0.05, 12.0)] * 3)


def rotation(a: float, b: float, c: float) -> np.ndarray:
    cos, sin = np.cos, np.sin
    x = np.array([[1, 0, 0], [0, cos(a), -sin(a)], [0, sin(a), cos(a)]])
    y = np.array([[cos(b), 0, sin(b)], [0, 1, 0], [-sin(b), 0, cos(b)]])
    z = np.array([[cos(c), -sin(c), 0], [sin(c), cos(c), 0], [0, 0, 1]])
    return x @ y @ z


@given(angles, angles, angles, spacings, st.tuples(*[st.floats(-500, 500)] * 3))
def test_neighbours_are_one_spacing_apart(a, b, c, spacing_mm, origin_mm):
    affine = np.eye(4)
    affine[:3, :3] = rotation(a, b, c) * np.array(spacing_mm)
    affine[:3, 3] = origin_mm
    geometry = Geometry(affine)
    first = affine @ [2, 3, 4, 1]
    for axis in range(3):
        step = np.zeros(4)
        step[axis] = 1
        distance_mm = np.linalg.norm((affine @ (np.array([2, 3, 4, 1]) + step) - first)[:3])
        assert distance_mm == pytest.approx(geometry.spacing_mm[axis], rel=1e-9)
    assert geometry.origin_mm == pytest.approx(origin_mm)
    assert np.allclose(np.linalg.norm(geometry.direction, axis=0), 1)


@given(angles, angles, angles, spacings)
def test_axis_codes_name_three_different_axes_and_the_direction_of_growth(a, b, c, spacing_mm):
    affine = np.eye(4)
    affine[:3, :3] = rotation(a, b, c) * np.array(spacing_mm)
    geometry = Geometry(affine)
    assert len({LETTER_OF_AXIS[code][0] for code in geometry.axis_codes}) == 3
    for axis, code in enumerate(geometry.axis_codes):
        world, sign = LETTER_OF_AXIS[code]
        assert geometry.direction[world, axis] * sign >= 0


def test_axis_codes_of_a_dicom_like_axial_volume(anisotropic_image):
    assert anisotropic_image.geometry.axis_codes == ("S", "P", "L")
    assert anisotropic_image.geometry.spacing_mm == pytest.approx((5.0, 0.7, 0.9))


@pytest.mark.parametrize(
    "affine",
    [np.eye(3), np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1, 0, 1]), np.diag([1.0, 1, 1, 2])],
    ids=["shape", "zeros", "nan", "flat", "last row"],
)
def test_an_affine_that_is_none_is_refused(affine):
    with pytest.raises(GeometryError):
        Geometry(affine)


def test_a_geometry_cannot_be_changed():
    geometry = Geometry.from_spacing((5.0, 0.7, 0.9))
    assert geometry.spacing_mm == (5.0, 0.7, 0.9)
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine_ras_mm[0, 0] = 7


@pytest.mark.parametrize("shape", [(5, 7, 11), (1, 0, 7, 11), (1, 1, 5, 7, 11)])
def test_an_image_is_c_d_h_w(shape):
    with pytest.raises(GeometryError, match="C, D, H, W"):
        Image(np.zeros(shape))


def test_the_first_of_equal_probabilities_is_the_class():
    prediction = Prediction("classification", ("a", "b"), "x", probabilities={"a": 0.5, "b": 0.5})
    assert (prediction.class_name, prediction.confidence) == ("a", 0.5)
