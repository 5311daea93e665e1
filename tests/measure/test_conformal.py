"""Bands: they hold what they promise on data made for it, and nothing is promised where nothing is known."""

import json
import math

import numpy as np
import pytest

from napari_convlstm_tumor.errors import InputError, ModelError
from napari_convlstm_tumor.measure.conformal import (
    FRONT_POINTS,
    LEVEL,
    SMALLEST_VOLUME_MM3,
    Calibration,
    Limits,
    abstain,
    band,
    band_scale_mm,
    conformal_quantile,
    front_errors,
    limits,
    load_calibration,
    log_volume_error,
    to_json,
    volume_scale,
)
from napari_convlstm_tumor.measure.distance import signed_distance_mm
from napari_convlstm_tumor.measure.forecast import MODELS, NETWORK, expected_front, forecast

SHAPE, SPACING = (48, 48, 24), (1.0, 1.0, 2.0)
LIMITS = Limits(2.0, 3.0, 2.0, 4.0, 200, 200, 0.9, 0.9, 0.7, 5.0, 1.8)
CALIBRATION = Calibration(0.9, 200, 4.0, "net (sha256 0123)", {"linear": LIMITS, NETWORK: LIMITS})


def ball(radius, centre=(0.0, 0.0, 0.0)):
    axes = [(np.arange(n) - (n - 1) / 2) * s - c for n, s, c in zip(SHAPE, SPACING, centre, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return (x**2 + y**2 + z**2 <= radius**2).astype(np.uint8)


def still(radius, motion=0.0):
    """The forecast of a sphere whose front was moving by ``motion`` mm over the horizon."""
    return expected_front(signed_distance_mm(ball(radius), SPACING), 0.0, SPACING, 30.44, motion, "linear")


# ---- quantile ----


@pytest.mark.parametrize(
    ("count", "level", "rank"),
    [
        (9, 0.9, 9),  # ceil(0.9 x 10)
        (19, 0.95, 19),
        (99, 0.9, 90),
        (100, 0.9, 91),  # ceil(90.9)
        (120, 0.95, 115),
    ],
)
def test_the_rank_is_that_of_one_patient_more(count, level, rank):
    assert conformal_quantile(np.arange(1, count + 1)[::-1], level) == rank


def test_too_few_patients_know_no_bound():
    assert conformal_quantile(np.arange(8.0), 0.9) == math.inf


def test_a_patient_with_many_points_counts_as_one():
    scores = np.arange(1.0, 41)
    assert conformal_quantile(np.repeat(scores[:, None], 7, axis=1), 0.9) == conformal_quantile(scores, 0.9)


def test_a_new_patient_is_covered_as_often_as_promised():
    # The mean over many small calibrations: 0.9 at least, and no more than 0.9 + 1 / (n + 1).
    rng = np.random.default_rng(1)
    draws = rng.standard_exponential((4000, 30))
    covered = [draw[-1] <= conformal_quantile(draw[:-1], 0.9) for draw in draws]
    assert 0.885 < np.mean(covered) < 0.95


def test_points_of_a_front_are_covered_as_often_as_promised():
    # Points of one patient go together: covered is the mean share.
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(400):
        points = rng.normal(0, 2, (60, 1)) + rng.normal(0, 1, (60, 21))
        shares.append(np.mean(points[-1] <= conformal_quantile(points[:-1], 0.9)))
    assert np.mean(shares) == pytest.approx(0.905, abs=0.03)


# ---- errors ----


@pytest.mark.parametrize(("true", "off"), [(10, 0), (12, 2), (7, -3)])
def test_front_errors_of_spheres(true, off):
    errors = front_errors(still(10), ball(10), ball(true))
    assert errors.shape == (FRONT_POINTS,)
    assert np.all(np.diff(errors) >= 0)
    assert np.median(errors) == pytest.approx(off, abs=0.25)
    assert np.ptp(errors) < 2.1  # a slice is 2 mm


def test_front_errors_of_a_shifted_sphere_have_both_signs():
    errors = front_errors(still(10), ball(10), ball(10, (3, 0, 0)))
    assert errors[0] == pytest.approx(-3, abs=0.6)
    assert errors[-1] == pytest.approx(3, abs=0.6)


def test_a_tumor_that_vanished_withdrew_to_the_middle():
    errors = front_errors(still(8), ball(8), np.zeros(SHAPE))
    assert np.all(errors == errors[0])
    assert errors[0] == pytest.approx(-6.8, abs=0.5)  # the voxel nearest to the middle is 1.2 mm from it


def test_new_lesions_are_no_front():
    old, new = ball(5, (-15, 0, 0)), ball(4, (16, 0, 0))
    foreseen = expected_front(signed_distance_mm(old, SPACING), 0.0, SPACING, 30, 0.0)
    np.testing.assert_allclose(front_errors(foreseen, old, old | new), front_errors(foreseen, old, old))


def test_volume_errors_are_logarithms():
    foreseen = still(10)
    assert log_volume_error(foreseen, foreseen.volume_mm3) == 0
    twice = 2 * (foreseen.volume_mm3 + SMALLEST_VOLUME_MM3) - SMALLEST_VOLUME_MM3
    assert log_volume_error(foreseen, twice) == pytest.approx(math.log(2))
    assert math.isfinite(log_volume_error(foreseen, 0))


# ---- bands ----


def test_a_band_is_two_spheres_and_two_volumes():
    found = band(still(10), CALIBRATION)
    inner, outer = found.masks
    assert inner.sum() * 2 == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.08)
    assert outer.sum() * 2 == pytest.approx(4 / 3 * np.pi * 13**3, rel=0.08)
    middle, radius = still(10).volume_mm3 + 100, 10.08  # of the sphere, 0.1 mL added
    assert found.volume_low_mm3 == pytest.approx(middle * math.exp(-2 / radius) - 100, rel=0.01)
    assert found.volume_high_mm3 == pytest.approx(middle * math.exp(4 / radius) - 100, rel=0.01)


@pytest.mark.parametrize(("motion", "scale"), [(0, 1), (3, math.sqrt(10)), (-3, math.sqrt(10))])
def test_a_band_is_wider_for_a_faster_front(motion, scale):
    assert band_scale_mm(still(10, motion)) == pytest.approx(scale)
    found = band(still(10, motion), CALIBRATION)
    assert np.allclose(found.phi_inner - found.phi_outer, 5 * scale, atol=1e-4)


def test_millimetres_matter_more_to_a_small_tumor():
    small, large = (volume_scale(still(radius)) for radius in (5, 10))
    assert small == pytest.approx(1 / 5.3, rel=0.05)
    assert large == pytest.approx(1 / 10.08, rel=0.02)


def test_a_small_tumor_may_be_gone():
    assert band(still(3, motion=12), CALIBRATION).volume_low_mm3 == 0
    assert band(still(3, motion=12), CALIBRATION).masks[0].sum() == 0


def test_a_biased_model_keeps_its_own_forecast_in_the_band():
    biased = Calibration(0.9, 200, 4, "", {"linear": Limits(-1.0, 3.0, -1.0, 4.0, 9, 9, 0.9, 0.9, 0.7, 2.0, 1.2)})
    found, middle = band(still(10), biased), still(10)
    np.testing.assert_array_equal(found.masks[0], middle.mask)
    assert found.volume_low_mm3 == pytest.approx(middle.volume_mm3)


def test_no_band_without_calibration_or_motion():
    masks = [ball(8), ball(9), ball(10)]
    with pytest.raises(InputError, match=r"'gompertz' has no calibrated band. Calibrated: linear, network"):
        band(forecast(masks, (0, 30, 60), SPACING, 30, "gompertz"), CALIBRATION)
    apart = [ball(4, (-16, 0, 0)), ball(5, (16, 0, 0))]
    unknown = Calibration(0.9, 200, 4, "", {"exponential": LIMITS})
    with pytest.raises(InputError, match="not followed"):
        band(forecast(apart, (0, 30), SPACING, 30, "exponential"), unknown)


def test_limits_cover_other_patients_as_often_as_promised():
    rng = np.random.default_rng(3)
    front = rng.normal(0.3, 1, (2, 400, 1)) + rng.normal(0, 0.5, (2, 400, FRONT_POINTS))
    volume = rng.normal(-0.2, 0.5, (2, 400))
    found = limits(list(front), list(volume), [np.ones(400), np.full(400, 0.1)])
    assert found.front_coverage == pytest.approx(LEVEL, abs=0.03)
    assert found.volume_coverage == pytest.approx(LEVEL, abs=0.04)
    assert found.outer > found.inner  # the true front lies further out on the whole
    assert found.shrink > found.grow
    assert found.width_mm == pytest.approx(found.inner + found.outer)
    assert found.volume_ratio == pytest.approx(math.exp(0.1 * (found.shrink + found.grow)))
    assert (found.calibrated_on, found.tested_on) == (400, 400)


def test_limits_of_too_few_patients_are_refused():
    with pytest.raises(InputError, match="18 patients are too few"):
        limits([np.zeros((18, 5))] * 2, [np.zeros(18)] * 2, [np.ones(18)] * 2)


# ---- abstaining ----


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({}, ""),
        ({"days": (0,), "volumes_mm3": (5,), "registered": (True,)}, "single visit"),
        ({"dated": False}, "no dates"),
        ({"volumes_mm3": (5, 6, 0)}, "no tumor at the last visit"),
        ({"volumes_mm3": (5, 0, 6)}, "no tumor at the visit before the last"),
        ({"volumes_mm3": (0, 5, 6)}, ""),
        ({"registered": (True, True, False)}, "registration of visit 3"),
        ({"registered": (True, False, False)}, "registration of visit 2"),
        ({"registered": (False, True, True)}, ""),
        ({"horizon_days": 201}, "201 days ahead is further than the 200 days"),
        ({"horizon_days": 200, "days": (0, 10, 100)}, ""),
        ({"days": (0, 10, 25), "horizon_days": 61}, "15 days apart, too short to look 61 days ahead"),
        ({"days": (0, 10, 25), "horizon_days": 60}, ""),
        ({"days": (0, 10, 250)}, "240 days ahead"),  # the last gap is the horizon
        ({"days": (0, 10, 250), "calibration": None}, ""),
    ],
)
def test_no_forecast_where_it_would_not_be_honest(case, words):
    usual = {"days": (0, 40, 90), "dated": True, "volumes_mm3": (5, 6, 7), "registered": (True, True, True)}
    reason = abstain(**{**usual, "calibration": CALIBRATION, **case})
    assert (words in reason) if words else reason == ""
    assert reason == "" or reason.startswith("No forecast: ")


# ---- the file ----


def test_the_shipped_calibration_covers_what_it_says():
    shipped = load_calibration()
    assert shipped.level == LEVEL
    assert set(shipped.models) == {*MODELS, NETWORK}
    assert shipped.longest_horizon_days >= 90
    for name, found in shipped.models.items():
        assert found.tested_on >= 100, name
        assert 0.87 <= found.front_coverage <= 0.93, name
        assert 0.87 <= found.volume_coverage <= 0.93, name


def test_a_calibration_comes_back_from_its_file(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({**to_json(CALIBRATION), "seed": 1}))
    assert load_calibration(path) == CALIBRATION


@pytest.mark.parametrize(("text", "words"), [("{", "damaged"), ('{"level": 0.9}', "damaged"), (None, "missing")])
def test_a_bad_file_is_refused_by_name(tmp_path, text, words):
    path = tmp_path / "c.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ModelError, match=rf"c\.json, is {words}") as caught:
        load_calibration(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "weights", "known"),
    [
        ("linear", "", True),
        ("gompertz", "", False),
        (NETWORK, "net (sha256 0123)", True),
        (NETWORK, "net (sha256 9999)", False),
    ],
)
def test_the_network_is_known_by_its_weights(model, weights, known):
    assert CALIBRATION.knows(model, weights) is known
