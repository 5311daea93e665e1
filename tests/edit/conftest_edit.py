"""A patient of four visits on three kinds of grids, made by hand: two lesions, turned a little at every visit."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_convlstm_tumor import pipeline
from napari_convlstm_tumor.prepare.native import mask_to_grid
from napari_convlstm_tumor.prepare.preprocess import align
from napari_convlstm_tumor.prepare.resample import covered
from napari_convlstm_tumor.series import PatientFiles, Prediction, Registration, Series, Visit
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.steps.forecasting import look_ahead
from napari_convlstm_tumor.steps.measuring import measure
from napari_convlstm_tumor.volume import Grid, Volume

DAYS = (0, 60, 120, 180)
SHAPE = (56, 48, 40)


def finish(steps):
    """Run a generator to its end and take what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def ball(grid, centre_mm, radius_mm):
    places = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.linalg.norm(places - np.asarray(centre_mm), axis=-1) <= radius_mm


def turned(degrees, shift_mm):
    a = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    matrix[:3, 3] = shift_mm
    return matrix


def make_series(masks_at=()):
    """Visits with their own grids; a mask at the 0-based visits asked for."""
    visits = []
    for t, day in enumerate(DAYS):
        spacing = (1.0, 1.0, 1.0) if t != 2 else (1.0, 1.0, 2.0)
        shape = SHAPE if t != 2 else (56, 48, 20)
        grid = Grid(shape, turned(0.5 * t, (0.3 * t, 0, 0)) @ np.diag([*spacing, 1.0]))
        tumor = ball(grid, (22, 22, 20), 6 + 1.5 * t) | ball(grid, (42, 30, 22), 4 + 0.4 * t)
        noise = np.random.default_rng(t).normal(100, 10, shape).astype(np.float32)
        mask = Volume(tumor.astype(np.uint8), grid) if t in masks_at else None
        visits.append(Visit(f"v{t}", day, {"t1c": Volume(noise + 80 * tumor, grid)}, mask))
    return Series("HAND-02", tuple(visits))


def chances(aligned):
    """What a network would say: a soft edge."""
    masks = [ball(aligned.grid, (22, 22, 20), 6 + 1.5 * t) | ball(aligned.grid, (42, 30, 22), 4 + 0.4 * t)
             for t in range(len(DAYS))]  # fmt: skip
    return np.stack([ndimage.gaussian_filter(m.astype(np.float32), 0.8) for m in masks])


def moved(aligned, series):
    """As if registration had found a small turn at every visit, and was sure of it."""
    found = tuple(Registration(turned(0.3 * t, (0, 0.4 * t, 0)), 0.9, True) for t in range(len(DAYS)))
    inside = [covered(g, aligned.grid, r.ref_to_visit) for g, r in zip(aligned.native_grids, found, strict=True)]
    masks = [
        None if v.mask is None else mask_to_grid(v.mask, aligned.grid, r.ref_to_visit)
        for v, r in zip(series.visits, found, strict=True)
    ]
    return replace(aligned, registrations=found, inside=np.stack(inside), masks=tuple(masks))


def analysed(series, settings=None, links=()):
    """The way of the pipeline after segmentation."""
    settings = settings or Settings(register=False)
    aligned = moved(finish(align(series, settings)), series)
    chance = chances(aligned)
    for t, mask in enumerate(aligned.masks):
        chance[t] = chance[t] if mask is None else mask
    prediction = Prediction(chance, aligned.days, aligned.grid, "made by hand")
    measured = finish(measure(series, aligned, prediction, links, settings.log_growth))
    outlook = look_ahead(aligned, prediction, measured.volumes_mm3, settings)
    inputs = pipeline.Inputs(links=tuple(links))
    files = PatientFiles("HAND-02", ())
    return pipeline.finish(aligned, measured, outlook, inputs, settings, files, pipeline.Clock())


@pytest.fixture(scope="session")
def network_result():
    """A result whose every visit was outlined by a network."""
    return analysed(make_series(), settings=Settings(register=False, log_growth=True))


@pytest.fixture(scope="session")
def mixed_result():
    """A result with given masks at visits 1 and 3, a network's at 2 and 4."""
    return analysed(make_series((0, 2)))
