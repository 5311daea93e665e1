"""Diameters on shapes of known size, on degenerate shapes, and against a brute-force search."""

from itertools import pairwise

import numpy as np
import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.diameters import MEASURABLE_MM, measure_diameters

ISO, THICK = (1.0, 1.0, 1.0), (0.9, 0.9, 6.5)


def points_mm(extent_mm, spacing, shift):
    """(I, J, K, 3) mm of voxel centres around the middle; shift in voxels."""
    axes = [
        (np.arange(int(extent_mm / s) + 4) - (int(extent_mm / s) + 3) / 2 + t) * s
        for s, t in zip(spacing, shift, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def ball(diameter, spacing, shift=(0.0, 0.0, 0.0)):
    return np.linalg.norm(points_mm(diameter + 4, spacing, shift), axis=-1) <= diameter / 2


def turned_ellipse(long, short, angle, shift):
    x = points_mm(long + 4, ISO, (*shift, 0.0))[:, :, :1]
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    return (x[..., :2] @ along / (long / 2)) ** 2 + (x[..., :2] @ across / (short / 2)) ** 2 <= 1


def brute_force(mask, spacing):
    """Longest distance of two voxel centres in a slice, and bounds on the longest across it.

    Across: two centres that lie at most half a voxel apart along the longest are found by every search in strips of one
    voxel, and none further apart than a voxel. Where several are longest, the bounds hold all of them.
    """
    best, widths = -1.0, []
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        p = np.argwhere(mask[:, :, k]) * np.array(spacing[:2])
        gap = p[:, None] - p[None]
        length = np.linalg.norm(gap, axis=-1)
        if length.max() > best + 1e-9:
            best, widths = length.max(), []
        for u in np.unique(np.round(gap[length > best - 1e-9] / best, 9), axis=0):
            along, across = np.abs(gap @ u), np.abs(gap @ np.array([-u[1], u[0]]))
            widths.append([across[along <= part * spacing[0]].max() for part in (0.5, 1.0)])
    return best, min(w[0] for w in widths), max(w[1] for w in widths)


@pytest.mark.parametrize("spacing", [ISO, (0.5, 0.5, 0.5), (0.7, 0.7, 1.0)])
@pytest.mark.parametrize("diameter", [10.0, 20.0, 30.0])
def test_a_sphere_reads_its_diameter(spacing, diameter):
    rng = np.random.default_rng(int(diameter))
    found = [measure_diameters(ball(diameter, spacing, rng.uniform(-0.5, 0.5, 3)), spacing) for _ in range(12)]
    longest = np.array([d.longest.length_mm for d in found]) - diameter
    across = np.array([d.perpendicular.length_mm for d in found]) - diameter
    in_space = np.array([d.longest_3d.length_mm for d in found]) - diameter
    assert np.abs(longest).max() <= 0.5 * max(spacing)
    assert abs(longest.mean()) <= 0.2 * max(spacing)
    assert np.abs(in_space).max() <= 0.5 * max(spacing)
    assert abs(across.mean()) <= 0.5 * max(spacing)


def test_thick_slices_miss_the_widest_place_by_what_geometry_says():
    rng = np.random.default_rng(3)
    d = [measure_diameters(ball(20, THICK, rng.uniform(-0.5, 0.5, 3)), THICK).longest.length_mm for _ in range(60)]
    missed = 6.5**2 / 12 / 10  # mean of h^2 / (4 R) x u^2 over u uniform in +-1
    assert np.mean(d) == pytest.approx(20 - missed, abs=0.2)


@pytest.mark.parametrize(("long", "short"), [(20, 16), (20, 10), (40, 16), (30, 6)])
def test_ellipses_are_measured_without_bias(long, short):
    rng = np.random.default_rng(long + short)
    found = [
        measure_diameters(turned_ellipse(long, short, rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5, 2)), ISO)
        for _ in range(80)
    ]
    assert np.mean([d.longest.length_mm for d in found]) == pytest.approx(long, abs=0.25)
    assert np.mean([d.perpendicular.length_mm for d in found]) == pytest.approx(short, abs=0.25)


def test_agrees_with_a_brute_force_search():
    rng = np.random.default_rng(0)
    for _ in range(25):
        mask = np.zeros((24, 24, 4), bool)
        for _ in range(4):  # a lobed lesion: notches, several components, slices of different width
            centre, radius = rng.uniform([6, 6, 0], [18, 18, 4]), rng.uniform(2, 6)
            x = np.moveaxis(np.indices(mask.shape), 0, -1) - centre
            mask |= np.linalg.norm(x * (1, 1, 2), axis=-1) <= radius
        spacing = (0.9, 0.9, 3.0)
        found = measure_diameters(mask, spacing)
        longest, at_least, at_most = brute_force(mask, spacing)
        # What the centres miss is added: 0.2 to 1 voxel along, 0.65 across.
        assert longest + 0.18 - 1e-9 <= found.longest.length_mm <= longest + 0.9 + 1e-9
        across = min(at_least + 0.585, found.longest.length_mm), at_most + 0.585
        assert across[0] - 1e-6 <= found.perpendicular.length_mm <= across[1] + 1e-6
        assert found.perpendicular.length_mm <= found.longest.length_mm
        p = np.argwhere(mask) * np.array(spacing)
        in_space = np.linalg.norm(p[:, None] - p[None], axis=-1).max()
        assert in_space <= found.longest_3d.length_mm <= in_space + 3.0


BLOCKS = [  # size in voxels, longest, perpendicular, longest in 3-D (mm, at 1 x 1 x 2 mm)
    ((1, 1, 1), 1, 1, 1),  # one voxel is one voxel long, in plane; in 3-D no direction is preferred over that
    ((5, 1, 1), 5, 1, 5),  # a line has as many mm as voxels
    ((1, 5, 1), 5, 1, 5),
    ((1, 1, 5), 1, 1, 10),  # along the slices
]


@pytest.mark.parametrize(("size", "longest", "across", "in_space"), BLOCKS)
def test_degenerate_lesions(size, longest, across, in_space):
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[tuple(slice(1, 1 + n) for n in size)] = 1
    found = measure_diameters(mask, (1, 1, 2))
    assert found.longest.length_mm == pytest.approx(longest)
    assert found.perpendicular.length_mm == pytest.approx(across)
    assert found.longest_3d.length_mm == pytest.approx(in_space)
    assert found.slices == size[2]


def test_a_diagonal_line_and_a_flat_oblique_plate():
    line = np.zeros((8, 8, 1), bool)
    line[range(8), range(8), 0] = True
    assert measure_diameters(line, ISO).longest.length_mm == pytest.approx(7 * np.sqrt(2) + 1)
    plate = np.zeros((6, 6, 6), bool)
    for n in range(6):
        plate[:, n, n] = True
    assert measure_diameters(plate, ISO).longest_3d.length_mm == pytest.approx(np.sqrt(75), abs=1)


def test_ends_of_the_lines_have_the_length_and_meet_at_a_right_angle():
    found = measure_diameters(ball(17, (0.8, 0.8, 3.0), (0.2, 0.4, 0.3)), (0.8, 0.8, 3.0))
    spacing = np.array([0.8, 0.8, 3.0])
    for line in (found.longest, found.perpendicular, found.longest_3d):
        assert np.linalg.norm(np.diff(line.ends, axis=0) * spacing) == pytest.approx(line.length_mm)
    a, b = (np.diff(s.ends, axis=0)[0] * spacing for s in (found.longest, found.perpendicular))
    assert a @ b == pytest.approx(0, abs=1e-6)
    assert set(found.longest.ends[:, 2]) == {found.slice_index}
    assert set(found.perpendicular.ends[:, 2]) == {found.slice_index}
    assert found.product_mm2 == pytest.approx(found.longest.length_mm * found.perpendicular.length_mm)


def test_slices_may_lie_across_any_axis():
    mask = ball(14, (1.0, 1.0, 2.0), (0.1, 0.2, 0.3))
    mask[:, : mask.shape[1] // 2] = False
    there = measure_diameters(mask, (1, 1, 2))
    here = measure_diameters(np.moveaxis(mask, 2, 0), (2, 1, 1), axis=0)
    assert here.longest.length_mm == pytest.approx(there.longest.length_mm)
    assert here.perpendicular.length_mm == pytest.approx(there.perpendicular.length_mm)
    np.testing.assert_allclose(here.longest.ends, there.longest.ends[:, [2, 0, 1]])


def test_measurable_slices_are_those_of_ten_by_ten():
    found = measure_diameters(ball(20, (1, 1, 3), (0, 0, 0.5)), (1, 1, 3))
    heights = np.arange(-3, 4) * 3.0
    widths = [2 * np.sqrt(max(0, 100 - z**2)) for z in heights]
    assert found.measurable_slices == sum(w >= MEASURABLE_MM for w in widths)
    assert measure_diameters(ball(9, ISO), ISO).measurable_slices == 0


def test_a_ring_is_measured_across_its_cavity():
    solid = ball(24, ISO)
    hollow = solid.copy()
    hollow[tuple(slice(n // 2 - 6, n // 2 + 6) for n in solid.shape)] = False
    a, b = measure_diameters(solid, ISO), measure_diameters(hollow, ISO)
    assert b.longest.length_mm == pytest.approx(a.longest.length_mm)
    assert b.perpendicular.length_mm == pytest.approx(a.perpendicular.length_mm)


def test_larger_spheres_never_read_smaller():
    found = [measure_diameters(ball(d, ISO), ISO) for d in range(4, 24)]
    assert all(a.longest.length_mm <= b.longest.length_mm for a, b in pairwise(found))


def test_empty_and_bad_masks():
    assert measure_diameters(np.zeros((4, 4, 4)), ISO) is None
    with pytest.raises(InputError, match="3-D"):
        measure_diameters(np.ones((4, 4)), ISO)
    with pytest.raises(InputError, match="voxel size"):
        measure_diameters(np.ones((4, 4, 4)), (1, 0, 1))
