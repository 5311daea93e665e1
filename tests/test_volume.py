"""Grid and Volume: geometry of known grids, and every refusal with its words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_convlstm_tumor.errors import GeometryError, InputError, TumorError
from napari_convlstm_tumor.volume import Grid, Volume


def affine(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), rotation=None):
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if rotation is None else rotation) @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


def turn_z(degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def changed(row, column, value):
    matrix = np.eye(4)
    matrix[row, column] = value
    return matrix


def test_spacing_and_voxel_volume():
    grid = Grid((256, 256, 22), affine((0.9, 0.9, 6.5), rotation=turn_z(20)))
    assert grid.spacing_mm == pytest.approx((0.9, 0.9, 6.5))
    assert grid.voxel_mm3 == pytest.approx(5.265)


def test_a_mirrored_grid_has_a_positive_voxel_volume():
    assert Grid((2, 2, 2), np.diag([-1.0, -1.0, 2.0, 1.0])).voxel_mm3 == pytest.approx(2)
    assert Grid((2, 2, 2), np.diag([-1.0, 1.0, 2.0, 1.0])).voxel_mm3 == pytest.approx(2)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.eye(3), r"4x4 matrix, got shape \(3, 3\)"),
        (np.eye(4)[:3], r"got shape \(3, 4\)"),
        (changed(0, 0, np.nan), "not finite"),
        (changed(1, 3, np.inf), "not finite"),
        (changed(2, 2, 0.0), r"outside 0.01-200.0 mm"),  # a singular affine of one flat axis
        (changed(2, 2, 250.0), r"\(1.0, 1.0, 250.0\) mm is outside"),
        (np.diag([1e-4, 1.0, 1.0, 1.0]), "another unit"),  # metres taken for millimetres
        (changed(0, 1, 0.2), r"sheared or singular \(cosine 0.196"),  # gantry tilt
        (changed(0, 1, 0.01), "sheared"),  # 0.6 degrees
        (
            np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
            "sheared or singular",
        ),  # two axes alike
    ],
)
def test_an_affine_that_makes_no_sense_is_refused(matrix, words):
    with pytest.raises(GeometryError, match=words):
        Grid((4, 4, 4), matrix)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4, 1), (0, 4, 4), (4, -1, 4), ()])
def test_a_shape_that_is_not_three_positive_sizes_is_refused(shape):
    with pytest.raises(GeometryError, match="three positive sizes, got"):
        Grid(shape, np.eye(4))


def test_shear_below_the_tolerance_is_rounding():
    Grid((4, 4, 4), changed(0, 1, 0.0005))


def test_errors_of_geometry_are_input_errors():
    assert issubclass(GeometryError, InputError)
    assert issubclass(InputError, TumorError)


def test_a_grid_keeps_its_own_read_only_affine():
    matrix = affine()
    grid = Grid((2, 2, 2), matrix)
    matrix[0, 3] = 99
    assert grid.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 1


def test_sizes_of_any_integer_type_become_plain():
    assert Grid(tuple(np.array([2, 3, 4])), np.eye(4)).shape == (2, 3, 4)
    assert all(type(n) is int for n in Grid(tuple(np.array([2, 3, 4])), np.eye(4)).shape)


@pytest.mark.parametrize(
    ("matrix", "aligned"),
    [
        (affine((0.9, 0.9, 6.5), (-100, 20, 3)), True),
        (np.diag([-1.0, -1.0, 1.0, 1.0]), True),
        (
            np.array([[0, 0, 2, 0], [1, 0, 0, 0], [0, -3, 0, 0], [0, 0, 0, 1.0]]),
            True,
        ),  # axes permuted and flipped
        (affine(rotation=turn_z(90)), True),
        (affine(rotation=turn_z(0.01)), True),  # rounding of a header
        (affine(rotation=turn_z(1)), False),
        (affine(rotation=turn_z(45)), False),
    ],
)
def test_axis_aligned(matrix, aligned):
    assert Grid((4, 4, 4), matrix).is_axis_aligned is aligned


@pytest.mark.parametrize(
    ("shape", "matrix", "same"),
    [
        ((10, 10, 10), affine(), True),
        ((10, 10, 11), affine(), False),
        ((10, 10, 10), affine(origin=(0.009, 0, 0)), True),
        ((10, 10, 10), affine(origin=(0.011, 0, 0)), False),
        ((10, 10, 10), affine((1.001, 1, 1)), True),  # 0.009 mm at the far corner
        ((10, 10, 10), affine((1.002, 1, 1)), False),  # 0.018 mm there, although 0 at the origin
        ((10, 10, 10), np.diag([-1.0, 1.0, 1.0, 1.0]), False),
    ],
)
def test_matches_is_judged_at_every_corner(shape, matrix, same):
    here, there = Grid((10, 10, 10), np.eye(4)), Grid(shape, matrix)
    assert here.matches(there) is same
    assert there.matches(here) is same


def test_matches_with_a_wider_tolerance():
    assert Grid((4, 4, 4), np.eye(4)).matches(Grid((4, 4, 4), affine(origin=(0.3, 0, 0))), tolerance_mm=0.5)


def test_index_to_mm_of_a_known_grid():
    grid = Grid((10, 10, 10), affine((0.9, 0.9, 6.5), (-100, 20, 3)))
    np.testing.assert_allclose(grid.to_mm((1, 2, 3)), [-99.1, 21.8, 22.5])
    np.testing.assert_allclose(grid.to_index((-99.1, 21.8, 22.5)), [1, 2, 3])


@given(
    st.tuples(*[st.floats(0.5, 5)] * 3),
    st.tuples(*[st.floats(-300, 300)] * 3),
    st.floats(-180, 180),
    st.lists(st.tuples(*[st.floats(-50, 50)] * 3), min_size=1, max_size=4),
)
def test_mm_and_index_are_inverse(spacing, origin, degrees, points):
    grid = Grid((8, 8, 8), affine(spacing, origin, turn_z(degrees)))
    back = grid.to_index(grid.to_mm(points))
    assert back.shape == (len(points), 3)
    np.testing.assert_allclose(back, points, atol=1e-6)
    assert grid.spacing_mm == pytest.approx(spacing)
    assert grid.voxel_mm3 == pytest.approx(np.prod(spacing))


def test_a_volume_needs_an_array_of_its_grid():
    grid = Grid((2, 3, 4), np.eye(4))
    assert Volume(np.zeros((2, 3, 4)), grid).grid is grid
    with pytest.raises(GeometryError, match=r"shape \(4, 3, 2\), its grid \(2, 3, 4\)"):
        Volume(np.zeros((4, 3, 2)), grid)
    with pytest.raises(GeometryError):
        Volume(np.zeros((2, 3, 4, 1)), grid)
