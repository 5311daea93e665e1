"""Signed distance against a brute-force search, and the mask geometry around it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_convlstm_tumor.measure.distance import (
    far_components,
    front_area_mm2,
    signed_distance_mm,
    tumor_box,
)

small_masks = hnp.arrays(bool, st.tuples(*[st.integers(1, 6)] * 3))
spacings = st.sampled_from([(1.0, 1.0, 1.0), (0.9, 0.9, 6.5), (2.0, 1.0, 0.5)])


def slow_signed_distance(mask, spacing):
    """The definition, voxel by voxel: every equally near voxel of the other kind is an allowed answer."""
    allowed = np.empty(mask.shape, dtype=object)
    for here in np.ndindex(mask.shape):
        others = np.argwhere(mask != mask[here])
        sign = -1 if mask[here] else 1
        if not len(others):
            allowed[here] = [sign * np.inf]
            continue
        offset = np.abs(others - here)
        centres = np.linalg.norm(offset * spacing, axis=1)
        nearest = np.isclose(centres, centres.min())
        cosines = offset * spacing / centres[:, None]
        half_gap = cosines**3 @ np.array(spacing) / 2
        allowed[here] = sign * np.unique((centres - half_gap)[nearest])
    return allowed


@settings(max_examples=60)
@given(small_masks, spacings)
def test_distance_is_that_of_the_brute_force_search(mask, spacing):
    phi = signed_distance_mm(mask, spacing)
    allowed = slow_signed_distance(mask, spacing)
    assert phi.dtype == np.float32
    for here in np.ndindex(mask.shape):
        assert any(phi[here] == pytest.approx(a, rel=1e-5) for a in allowed[here]), here


@settings(max_examples=60)
@given(small_masks, spacings)
def test_inside_is_negative_and_the_complement_is_the_mirror(mask, spacing):
    phi = signed_distance_mm(mask, spacing)
    np.testing.assert_array_equal(phi < 0, mask)
    np.testing.assert_allclose(np.abs(phi), np.abs(signed_distance_mm(~mask, spacing)), rtol=1e-6)


def test_boundary_lies_halfway_between_voxels():
    mask = np.zeros((6, 1, 1), bool)
    mask[:2] = True
    np.testing.assert_allclose(signed_distance_mm(mask, (2, 1, 1)).ravel(), [-3, -1, 1, 3, 5, 7])


@pytest.mark.parametrize("normal", [(1, 0, 0), (1, 1, 0), (1, 1, 1)])
def test_oblique_planes_of_voxels_lie_halfway_too(normal):
    # Layers of voxels across the normal are 1 / |normal| mm apart; the boundary is half of that away.
    across = sum(n * (x - 10) for n, x in zip(normal, np.ogrid[:21, :21, :21], strict=True))
    phi = signed_distance_mm(across < 0, (1, 1, 1))
    inside = [tuple(10 + n * a for a in normal) for n in (-2, -1)]
    outside = [(9 + n * normal[0], 10 + n * normal[1], 10 + n * normal[2]) for n in (1, 2)]
    for here in inside + outside:  # the voxels that have their nearest unlike voxel along the normal
        assert phi[here] == pytest.approx((across[here] + 0.5) / np.linalg.norm(normal), abs=1e-5)


def test_labels_of_any_type_and_any_value_count_as_tumor():
    mask = np.zeros((3, 3, 3), np.int16)
    mask[1, 1, 1] = 4
    np.testing.assert_array_equal(signed_distance_mm(mask, (1, 1, 1)), signed_distance_mm(mask.astype(bool), (1, 1, 1)))


def test_empty_and_full_masks_have_no_boundary():
    assert np.all(signed_distance_mm(np.zeros((3, 4, 5), bool), (1, 1, 1)) == np.inf)
    assert np.all(signed_distance_mm(np.ones((3, 4, 5), bool), (1, 1, 1)) == -np.inf)


def test_unseen_tissue_is_neither_tumor_nor_healthy():
    mask, valid = np.zeros((8, 1, 1), bool), np.ones((8, 1, 1), bool)
    mask[2:6], valid[6:] = True, False
    phi = signed_distance_mm(mask, (1, 1, 1), valid).ravel()
    np.testing.assert_allclose(phi[:6], [1.5, 0.5, -0.5, -1.5, -2.5, -3.5])  # no boundary towards the unseen


@given(small_masks, spacings)
def test_front_area_is_that_of_the_faces_between_unlike_neighbours(mask, spacing):
    expected = np.zeros(mask.shape)
    for here in np.ndindex(mask.shape):
        for axis, step in ((a, s) for a in range(3) for s in (-1, 1)):
            there = tuple(n + step * (a == axis) for a, n in enumerate(here))
            if 0 <= there[axis] < mask.shape[axis] and mask[there] != mask[here]:
                expected[here] += np.prod(spacing) / spacing[axis]
    np.testing.assert_allclose(front_area_mm2(mask, spacing), expected, rtol=1e-5)


def test_front_area_counts_only_faces_between_known_voxels():
    mask, valid = np.zeros((8, 1, 1), bool), np.ones((8, 1, 1), bool)
    mask[2:6], valid[6:] = True, False
    np.testing.assert_allclose(front_area_mm2(mask, (1, 2, 3), valid).ravel(), [0, 6, 6, 0, 0, 0, 0, 0])


def test_far_components_uses_millimetres_and_corner_neighbours():
    here, there = np.zeros((30, 5, 5), bool), np.zeros((30, 5, 5), bool)
    here[0, 0, 0] = True
    there[5, 0, 0] = there[15, 0, 0] = there[16, 1, 1] = True  # two components
    np.testing.assert_array_equal(np.argwhere(far_components(there, here, (1, 1, 1))), [[15, 0, 0], [16, 1, 1]])
    assert far_components(there, here, (3, 1, 1)).sum() == 3  # 15 mm away now
    assert far_components(there, here, (0.5, 1, 1)).sum() == 0
    assert far_components(there, np.zeros_like(here), (1, 1, 1)).sum() == 3  # nothing was there: all is new
    assert far_components(np.zeros_like(here), here, (1, 1, 1)).sum() == 0


def test_tumor_box_is_one_voxel_wider_and_stays_inside():
    mask = np.zeros((10, 10, 10), bool)
    mask[0, 4:6, 3:9] = True
    assert tumor_box(mask) == (slice(0, 2), slice(3, 7), slice(2, 10))
    valid = np.ones_like(mask)
    valid[0, 3, 3] = False
    assert tumor_box(mask, valid) == (slice(0, 10),) * 3
    assert tumor_box(np.zeros_like(mask)) == (slice(0, 10),) * 3
