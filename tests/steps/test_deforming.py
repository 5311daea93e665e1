"""The map of a patient: tissue that swelled is found, and who cannot be registered gets nothing."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from scipy import ndimage

from napari_convlstm_tumor.series import Registration
from napari_convlstm_tumor.steps.deforming import expansion

make = run_path(str(Path(__file__).with_name("patient.py")))
GRID, ball, patient, returned = (make[n] for n in ("GRID", "ball", "patient", "returned"))
MIDDLE = (39.0, 35.0, 29.0)


def swelling(dated=True, **changes):
    """A textured body; between visits 1 and 2 what lies about its middle swells, visit 3 is like visit 2."""
    body = ball(GRID, MIDDLE, 34) > 0
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(GRID.shape), 1.5)
    before = np.where(body, 10 + texture / texture.std(), 0)
    away = GRID.to_mm(np.moveaxis(np.indices(GRID.shape), 0, -1)) - np.array(MIDDLE)
    u = -0.15 * away * np.exp(-(away**2).sum(axis=-1, keepdims=True) / (2 * 14.0**2))
    source = np.indices(GRID.shape) + np.moveaxis(u, -1, 0) / 2
    after = ndimage.map_coordinates(before, source, order=1, mode="nearest")
    _, aligned, _ = patient([ball(GRID, MIDDLE, 8)] * 3, days=(0, 61, 122) if dated else (0, 1, 2), dated=dated)
    return replace(aligned, data=np.stack([before, after, after])[:, None].astype(np.float32), **changes)


@pytest.fixture(scope="module")
def found():
    return returned(expansion(swelling()))


def test_the_middle_swelled_and_then_rested(found):
    middle = ball(GRID, MIDDLE, 8) > 0
    true = -3 * np.log(1 - 0.15) / (61 / 30.44)  # at the very middle
    assert np.isnan(found.rate[0]).all() and not found.reliable[0].any()
    assert 0.4 * true < found.rate[1][middle].mean() < true
    assert found.reliable[1][middle].mean() > 0.8
    assert np.nanmax(np.abs(found.rate[2])) < 1e-6
    assert not found.reliable[2].any()


def test_air_has_no_rate(found):
    air = ball(GRID, MIDDLE, 37) == 0
    assert np.isnan(found.rate[1][air]).all()
    assert not found.reliable[1][air].any()


def test_without_dates_the_rate_is_per_visit(found):
    per_visit = returned(expansion(swelling(dated=False)))
    np.testing.assert_allclose(per_visit.rate[1], found.rate[1] * 61 / 30.44, rtol=1e-5)


def test_visits_without_an_image_of_one_kind_have_an_empty_map():
    present = np.array([[True], [False], [True]])
    empty = returned(expansion(swelling(present=present)))
    assert np.isnan(empty.rate).all() and not empty.reliable.any()


def test_a_badly_registered_visit_and_what_no_image_covers_are_not_reliable():
    poor = [Registration(np.eye(4), q, q > 0.6) for q in (1.0, 0.3, 1.0)]
    inside = np.ones((3, *GRID.shape), bool)
    inside[1, :15] = False
    result = returned(expansion(swelling(registrations=tuple(poor), inside=inside)))
    assert np.isnan(result.rate[1][:15]).all()
    assert np.isfinite(result.rate[1]).any()
    assert not result.reliable.any()
