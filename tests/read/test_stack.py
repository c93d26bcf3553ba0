"""The laws of ordering frames: any order gives the same grid, and a removed slice is always missed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.errors import GeometryError
from medrail.read.dicom.header import Plane
from medrail.read.dicom.stack import lay_out, stack


def planes_of(count, spacing_mm, seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    row, column = rotation[:, 0], rotation[:, 1]
    origin = rng.uniform(-300, 300, 3)
    normal = np.cross(row, column)
    orientation = tuple(float(x) for x in (*row, *column))
    return [
        Plane(tuple(float(x) for x in origin + index * spacing_mm * normal), orientation, (0.7, 0.9))
        for index in range(count)
    ]


volumes = st.tuples(st.integers(4, 60), st.floats(0.3, 10), st.integers(0, 10**6))


@settings(max_examples=50, deadline=None)
@given(volumes, st.randoms())
def test_any_order_gives_the_same_grid(volume, random):
    planes = planes_of(*volume)
    shuffled = planes.copy()
    random.shuffle(shuffled)
    order, geometry = stack(shuffled)
    assert [shuffled[index] for index in order] == planes
    for index, plane in enumerate(planes):
        found = geometry.affine_ras_mm @ [index, 0, 0, 1]
        np.testing.assert_allclose(found[:3], np.array(plane.position_lps_mm) * [-1, -1, 1], atol=1e-6)
    assert geometry.spacing_mm == pytest.approx((volume[1], 0.7, 0.9), rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(volumes, st.data())
def test_a_removed_slice_is_missed(volume, data):
    planes = planes_of(*volume)
    del planes[data.draw(st.integers(1, len(planes) - 2))]
    with pytest.raises(GeometryError, match="missing slices: 1 "):
        stack(planes)


@settings(max_examples=50, deadline=None)
@given(volumes, st.data())
def test_a_copied_slice_is_noticed(volume, data):
    planes = planes_of(*volume)
    planes.append(planes[data.draw(st.integers(0, len(planes) - 1))])
    with pytest.raises(GeometryError, match="duplicate slices: 1 of"):
        stack(planes)


@settings(max_examples=50, deadline=None)
@given(volumes, st.data())
def test_positions_rounded_by_the_scanner_are_accepted(volume, data):
    planes = planes_of(volume[0], max(volume[1], 0.6), volume[2])
    rounded = [
        Plane(tuple(round(x, 2) for x in plane.position_lps_mm or ()), plane.orientation, plane.spacing_mm)
        for plane in planes
    ]
    order, _ = stack(rounded)
    assert order == list(range(len(planes)))


def test_a_single_plane_is_as_thick_as_told():
    (plane, *_) = planes_of(4, 2.0, 0)
    assert stack([plane], 3.0)[1].spacing_mm == pytest.approx((3.0, 0.7, 0.9))
    assert stack([plane])[1].spacing_mm == pytest.approx((1.0, 0.7, 0.9))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-1e5, 1e5)] * 3), min_size=1, max_size=12),
    st.sampled_from(["refuse", "resample", "accept"]),
    st.integers(0, 10**6),
)
def test_any_positions_have_a_layout_of_bounded_size(positions, on_defect, seed):
    """Hostile headers neither fail nor ask for memory."""
    (plane,) = planes_of(1, 1.0, seed)
    planes = [replace(plane, position_lps_mm=position) for position in positions]
    layout = lay_out(planes, 1.0, on_defect)
    assert layout.targets_mm.size <= 2 * len(planes) + 2
    assert sorted(index for place in layout.places for index in place) == list(range(len(planes)))
    assert np.isfinite(layout.geometry.affine_ras_mm).all()


@pytest.mark.parametrize(("degrees", "count", "names"), [(0.45, 300, ["gantry_tilt"]), (0.45, 60, []), (0.02, 300, [])])
def test_a_long_stack_may_not_lean_far_in_all(degrees, count, names):
    """A small angle moves the last of many slices by millimetres; of few, or a smaller one, by less than one."""
    orientation = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    side = np.tan(np.radians(degrees))
    planes = [Plane((0.0, round(index * side, 3), float(index)), orientation, (0.7, 0.9)) for index in range(count)]
    layout = lay_out(planes)
    assert [defect.name for defect in layout.defects] == names
    straight = lay_out(planes, on_defect="resample")
    if names:
        np.testing.assert_allclose(straight.shifts_px[-1, 0] * 0.7, side * (count - 1), atol=0.01)
