"""A patient made by hand (a ball that grows and drifts), and a display to draw on."""

import os
from pathlib import Path

import numpy as np
import pytest

from napari_convlstm_tumor.pipeline import Analysis
from napari_convlstm_tumor.series import Prediction, Report
from napari_convlstm_tumor.volume import Grid

DAYS = (0, 41, 97)
RADII_MM = (5.0, 7.0, 10.0)
SHAPE = (40, 48, 16)
# Spacing (1, 1, 3), RAS axes, the scanner's origin inside the grid.
AFFINE = np.array([[1.0, 0, 0, -20], [0, 1.0, 0, -30], [0, 0, 3.0, -12], [0, 0, 0, 1]])
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """The viewer needs a screen or xvfb; say so instead of aborting the whole run inside Qt."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.name == "nt":
        return
    reason = 'needs a display: run under xvfb-run -a -s "-screen 0 1600x1000x24"'
    for item in items:
        if Path(item.path).parent == HERE and {"qtbot", "make_napari_viewer"} & set(item.fixturenames):
            item.add_marker(pytest.mark.skip(reason=reason))


def ball(grid: Grid, centre_mm, radius_mm: float) -> np.ndarray:
    places = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    return (np.linalg.norm(places - np.asarray(centre_mm), axis=-1) <= radius_mm).astype(np.uint8)


def make_analysis(days=DAYS, dated=True, affine=AFFINE, forecast=True) -> Analysis:
    grid = Grid(SHAPE, affine)
    middle = grid.to_mm((np.array(SHAPE) - 1) / 2)
    masks = np.stack([ball(grid, middle + (t, 0, 0), r) for t, r in zip(range(len(days)), RADII_MM)])
    noise = np.random.default_rng(0).normal(100, 10, masks.shape).astype(np.float32)
    growth = np.full(masks.shape, np.nan, np.float32)
    for t in range(1, len(days)):
        growth[t][masks[t] > masks[t - 1]] = 2.0
        growth[t][masks[t] < masks[t - 1]] = -1.0
    rows = tuple(
        {"visit": t + 1, "day": day, "volume_mm3": float(masks[t].sum() * grid.voxel_mm3),
         "volume_change_percent": None if t == 0 else 50.0, "registration_quality": 0.97 - 0.5 * (t == 2),
         "warnings": "registration is poor" if t == 2 else ""}
        for t, day in enumerate(days)
    )  # fmt: skip
    warnings = ("Visit 3: the registration is poor (quality 0.47, at least 0.60 expected).",)
    later = ball(grid, middle, 12.0).astype(np.float32) if forecast else None
    prediction = Prediction(masks.astype(np.float32), days, grid, "made by hand", later, days[-1] + 56)
    return Analysis(
        patient="HAND-01", days=days, dated=dated, grid=grid, images={"t1c": noise + 60 * masks, "flair": noise},
        masks=masks, growth=growth, prediction=prediction, native_masks=tuple(masks),
        report=Report("HAND-01", rows, warnings),
    )  # fmt: skip


@pytest.fixture
def analysis() -> Analysis:
    return make_analysis()


@pytest.fixture
def analysis_of():
    return make_analysis
