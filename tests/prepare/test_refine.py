"""The last millimetre, on an image with a known motion; what cannot be told is not guessed."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_convlstm_tumor.prepare.refine import refine
from napari_convlstm_tumor.volume import Grid, Volume

SHAPE = (48, 44, 40)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.5, 1.0]))


def motion(degrees, shift_mm):
    """(4, 4): turned about the middle of the grid, then shifted."""
    matrix, middle = np.eye(4), GRID.to_mm([(n - 1) / 2 for n in SHAPE])
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle + shift_mm
    return matrix


def folds():
    """Structure of about 8 mm, without a slow part."""
    noise = np.random.default_rng(5).standard_normal(SHAPE)
    return ndimage.gaussian_filter(noise, 1.5) - ndimage.gaussian_filter(noise, 4.0)


def seen_later(image, ref_to_visit):
    to_index = np.linalg.inv(GRID.affine) @ np.linalg.inv(ref_to_visit) @ GRID.affine
    moved = ndimage.affine_transform(image, to_index[:3, :3], to_index[:3, 3], order=3, mode="mirror")
    return Volume(moved.astype(np.float32), GRID)


def worst_mm(found, truth):
    corners = GRID.to_mm(np.argwhere(np.ones((2, 2, 2))) * (np.array(SHAPE) - 1))
    apart = (found - truth)[:3, :3] @ corners.T + (found - truth)[:3, 3:]
    return float(np.linalg.norm(apart, axis=0).max())


FIXED = Volume(folds().astype(np.float32), GRID)


@pytest.mark.parametrize(("degrees", "shift_mm"), [((0, 0, 0), (0, 0, 0)), ((1, -0.5, 0.8), (1.0, -0.7, 0.5))])
@pytest.mark.parametrize("gain", [1.0, 7.5])
def test_a_small_motion_is_found_to_a_twentieth_of_a_voxel(degrees, shift_mm, gain):
    truth = motion(degrees, shift_mm)
    later = seen_later(gain * folds(), truth)
    assert worst_mm(refine(later, FIXED, np.eye(4)), truth) < 0.1


def test_a_tumor_that_grew_does_not_pull():
    truth = motion((0.5, 0, -0.5), (0.8, 0.4, -0.6))
    later = seen_later(folds(), truth)
    later.data[20:32, 18:28, 15:25] += 20 * FIXED.data.std()
    assert worst_mm(refine(later, FIXED, np.eye(4)), truth) < 0.15


@pytest.mark.parametrize(
    ("later", "fixed", "reason"),
    [
        (np.zeros(SHAPE), folds(), "nothing is seen"),
        (folds(), np.zeros(SHAPE), "the reference has no edges"),
        (-folds(), folds(), "every edge runs the other way"),
        (np.tile(folds()[:, :1, :1], (1, *SHAPE[1:])),) * 2 + ("edges along one axis alone",),
    ],
)
def test_what_cannot_be_told_is_not_guessed(later, fixed, reason):
    images = (Volume(image.astype(np.float32), GRID) for image in (later, fixed))
    assert refine(*images, np.eye(4)) is None, reason


def test_two_slices_and_no_overlap_are_not_guessed():
    thin = Volume(FIXED.data[:, :, :2], Grid((*SHAPE[:2], 2), GRID.affine))
    assert refine(FIXED, thin, np.eye(4)) is None
    assert refine(FIXED, FIXED, motion((0, 0, 0), (500, 0, 0))) is None
