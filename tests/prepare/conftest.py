"""A head with a known shape, moved by known rigid transforms."""

import numpy as np
import pytest
from scipy import ndimage

from napari_convlstm_tumor.volume import Grid, Volume

SHAPE = (72, 84, 64)
SPACING_MM = 2.5


def rigid(degrees, shift_mm, centre_mm) -> np.ndarray:
    """(4, 4): turn by Euler angles about a point, then shift."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = np.asarray(centre_mm) - matrix[:3, :3] @ centre_mm + shift_mm
    return matrix


@pytest.fixture(scope="session")
def head() -> Volume:
    """An ellipsoid with folds inside, air around it."""
    rng = np.random.default_rng(3)
    grid = Grid(SHAPE, np.diag([SPACING_MM] * 3 + [1.0]))
    axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    radius = sum(((x - (n - 1) / 2) / (0.42 * n)) ** 2 for x, n in zip(axes, SHAPE, strict=True))
    folds = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.6)
    image = (radius < 1) * (300 + 80 * folds / folds.std()) + 400 * ((radius > 1.05) & (radius < 1.2))
    return Volume(ndimage.gaussian_filter(image, 0.7).astype(np.float32), grid)


@pytest.fixture(scope="session")
def moved_head(head):
    """(visit, ref_to_visit): the head as a later scan sees it, with another bias field and noise."""
    rng = np.random.default_rng(4)
    centre = head.grid.to_mm([(n - 1) / 2 for n in SHAPE])
    ref_to_visit = rigid((4, -3, 6), (5, -4, 3), centre)
    to_index = np.linalg.inv(head.grid.affine) @ np.linalg.inv(ref_to_visit) @ head.grid.affine
    image = ndimage.affine_transform(head.data, to_index[:3, :3], to_index[:3, 3], order=3, mode="constant")
    bias = 1 + 0.3 * np.linspace(-1, 1, SHAPE[0])[:, None, None]
    noisy = image * bias + rng.normal(0, 8, SHAPE)
    return Volume(noisy.astype(np.float32), head.grid), ref_to_visit
