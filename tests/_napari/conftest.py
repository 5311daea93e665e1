"""A patient made by hand (a ball that grows and drifts), and a display to draw on."""

import os
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_convlstm_tumor.measure.uncertainty import Interval
from napari_convlstm_tumor.pipeline import Analysis
from napari_convlstm_tumor.report.tables import build_report
from napari_convlstm_tumor.series import Prediction, Registration
from napari_convlstm_tumor.volume import Grid, Volume

DAYS = (0, 41, 97)
RADII_MM = (5.0, 7.0, 10.0)
SHAPE = (40, 48, 16)
# Spacing (1, 1, 3), RAS axes, the scanner's origin inside the grid.
AFFINE = np.array([[1.0, 0, 0, -20], [0, 1.0, 0, -30], [0, 0, 3.0, -12], [0, 0, 0, 1]])
HERE = Path(__file__).parent
THREADS_END_MS = 60_000


def pytest_collection_modifyitems(items):
    """The viewer needs a screen or xvfb; say so instead of aborting the whole run inside Qt."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.name == "nt":
        return
    reason = 'needs a display: run under xvfb-run -a -s "-screen 0 1600x1000x24"'
    for item in items:
        if Path(item.path).parent == HERE and {"qtbot", "make_napari_viewer"} & set(item.fixturenames):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish():
    """A thread that still keeps corrections when Python ends would abort it."""
    if "qtpy.QtCore" in sys.modules:
        sys.modules["qtpy.QtCore"].QThreadPool.globalInstance().waitForDone(THREADS_END_MS)


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    """Autosaves go to a folder of the test, not of the person who runs it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def ball(grid: Grid, centre_mm, radius_mm: float) -> np.ndarray:
    places = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    return (np.linalg.norm(places - np.asarray(centre_mm), axis=-1) <= radius_mm).astype(np.uint8)


def make_analysis(days=DAYS, dated=True, affine=AFFINE, forecast=True) -> Analysis:
    grid = Grid(SHAPE, affine)
    middle = grid.to_mm((np.array(SHAPE) - 1) / 2)
    masks = np.stack([ball(grid, middle + np.array((t, 0, 0)), RADII_MM[t]) for t in range(len(days))])
    noise = np.random.default_rng(0).normal(100, 10, masks.shape).astype(np.float32)
    growth = np.full(masks.shape, np.nan, np.float32)
    for t in range(1, len(days)):
        growth[t][masks[t] > masks[t - 1]] = 2.0
        growth[t][masks[t] < masks[t - 1]] = -1.0
    registrations = tuple(Registration(np.eye(4), quality, quality > 0.6) for quality in (1.0, 0.97, 0.47)[: len(days)])
    report = build_report(
        "HAND-01", days, dated, [float(m.sum() * grid.voxel_mm3) for m in masks],
        [None, Interval(1.5, 0.6, 2.4), Interval(1.8)][: len(days)], registrations,
    )  # fmt: skip
    later = ball(grid, middle, 12.0).astype(np.float32) if forecast else None
    prediction = Prediction(masks.astype(np.float32), days, grid, "made by hand", later, days[-1] + 56)
    return Analysis(
        patient="HAND-01", days=days, dated=dated, grid=grid, images={"t1c": noise + 60 * masks, "flair": noise},
        masks=masks, growth=growth, prediction=prediction, native_masks=tuple(Volume(m, grid) for m in masks),
        registrations=registrations, report=report,
    )  # fmt: skip


@pytest.fixture
def analysis() -> Analysis:
    return make_analysis()


@pytest.fixture
def analysis_of():
    return make_analysis


def write_patient(folder: Path, days=DAYS) -> Path:
    """HAND-01 as a person has it: one folder a visit, every visit on its own grid; a bright ball in a noisy body."""
    for t, day in enumerate(days):
        affine = AFFINE.copy()
        affine[0, 3] += t  # the next visits lie 1 and 2 mm further to the right in the scanner
        grid = Grid(SHAPE, affine)
        image = np.random.default_rng(t).normal(100, 5, SHAPE) + 200 * ball(grid, (0, 0, 12), RADII_MM[t])
        image[:3] = 0
        place = folder / "HAND-01" / f"day-{day:03d}"
        place.mkdir(parents=True)
        nib.save(nib.Nifti1Image(image.astype(np.float32), affine), place / "t1c.nii.gz")
    return folder / "HAND-01"


@pytest.fixture
def patient(tmp_path) -> Path:
    return write_patient(tmp_path)


class BrightVoxels:
    """A stand-in for the network: bright is tumor. ``pause_s`` between its steps; ``seen`` is what it was given."""

    def __init__(self, pause_s: float = 0.0, error: Exception | None = None) -> None:
        self.pause_s, self.error, self.seen = pause_s, error, []

    def __call__(self, aligned, prompts, settings):
        self.seen.append((aligned, prompts, settings))
        for step in range(10):
            time.sleep(self.pause_s)
            yield step / 10
        if self.error:
            raise self.error
        bright = np.stack([aligned.raw(t, 0) > 200 for t in range(len(aligned.days))]).astype(np.float32)
        return Prediction(bright, aligned.days, aligned.grid, "bright voxels")


@pytest.fixture
def bright_voxels():
    return BrightVoxels
