"""Log-Jacobian against fields whose determinant is known, and where nothing is claimed."""

import numpy as np
import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.jacobian import inverse_error_voxels, jacobian_determinant, log_jacobian

SHAPE, SPACING = (12, 10, 8), (1.0, 2.0, 3.0)


def linear_field(matrix, shape=SHAPE):
    """u(x) = M x in mm."""
    places = np.moveaxis(np.indices(shape), 0, -1) * np.array(SPACING)
    return (places @ np.asarray(matrix, dtype=float).T).astype(np.float32)


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((3, 3)), np.diag([0.1, 0.2, -0.3]), [[0.1, 0.3, 0], [-0.2, 0, 0.1], [0.4, 0, 0.2]], np.diag([-2, 0, 0])],
)
def test_determinant_of_a_linear_field(matrix):
    known = np.linalg.det(np.eye(3) + matrix)
    np.testing.assert_allclose(jacobian_determinant(linear_field(matrix), SPACING), known, atol=1e-4)


def test_one_slice_expands_in_its_plane():
    field = linear_field(np.diag([0.1, 0.2, 0.5]), (12, 10, 1))
    np.testing.assert_allclose(jacobian_determinant(field, SPACING), 1.1 * 1.2, atol=1e-4)


def test_there_and_back_leads_to_the_same_place():
    there = np.zeros((*SHAPE, 3), np.float32)
    there[..., 1] = 2.0
    np.testing.assert_allclose(inverse_error_voxels(there, -there, SPACING), 0, atol=1e-6)
    np.testing.assert_allclose(inverse_error_voxels(there, 0 * there, SPACING), 1, atol=1e-6)  # 2 mm are one voxel


def made(centre=0.5, error=0.0, registered=True, periods=2.0):
    """A body with noise of 2 % in its volumes, in which 4 x 4 x 4 voxels were ``centre`` of their volume before."""
    determinant = np.exp(np.random.default_rng(0).normal(0, 0.02, (20, 20, 20))).astype(np.float32)
    determinant[8:12, 8:12, 8:12] = centre
    body = np.ones(determinant.shape, bool)
    body[:2] = False
    return log_jacobian(determinant, np.full(determinant.shape, error, np.float32), body, periods, registered)


def test_what_doubled_in_two_months_grew_by_half_of_ln_2_a_month():
    rate, reliable = made()
    np.testing.assert_allclose(rate[8:12, 8:12, 8:12], np.log(2) / 2, rtol=1e-6)
    assert reliable[8:12, 8:12, 8:12].all()
    assert 0.02 < reliable[2:].mean() < 0.09  # 5 % of noise, and the 64 voxels
    assert np.isnan(rate[:2]).all() and not reliable[:2].any()


@pytest.mark.parametrize("folded", [0.0, -0.4])
def test_a_fold_has_no_rate(folded):
    rate, reliable = made(folded)
    assert np.isnan(rate[8:12, 8:12, 8:12]).all()
    assert not reliable[8:12, 8:12, 8:12].any()


def test_nothing_is_reliable_without_consistency_or_registration():
    for rate, reliable in (made(error=1.1), made(registered=False)):
        assert np.isfinite(rate[2:]).all()  # the value may still be looked at
        assert not reliable.any()


def test_nothing_that_moved_is_reliably_nothing():
    still = np.ones((5, 5, 5), np.float32)
    rate, reliable = log_jacobian(still, 0 * still, still, 1.0)
    assert not rate.any() and not reliable.any()
    rate, reliable = log_jacobian(still, 0 * still, 0 * still, 1.0)
    assert np.isnan(rate).all() and not reliable.any()


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"shape \(I, J, K, 3\), got \(2, 2, 2\)"):
        jacobian_determinant(np.zeros((2, 2, 2)), SPACING)
    with pytest.raises(InputError, match="there and back have the shapes"):
        inverse_error_voxels(np.zeros((2, 2, 2, 3)), np.zeros((2, 2, 3, 3)), SPACING)
    with pytest.raises(InputError, match="must be positive, got 0"):
        made(periods=0)
