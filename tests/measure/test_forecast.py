"""The forecasts from masks, on spheres and curves: what each must give, and when it must stay silent."""

import numpy as np
import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.distance import signed_distance_mm
from napari_convlstm_tumor.measure.forecast import (
    BASELINES,
    MODELS,
    expected_front,
    forecast,
    forecast_masks,
    forecasts,
)
from napari_convlstm_tumor.measure.gompertz import Gompertz, fit_gompertz

SHAPE = (44, 44, 22)
SPACING = (1.0, 1.0, 2.0)


def ball(radius, centre=(0.0, 0.0, 0.0)):
    axes = [(np.arange(n) - (n - 1) / 2) * s - c for n, s, c in zip(SHAPE, SPACING, centre, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return (x**2 + y**2 + z**2 <= radius**2).astype(np.uint8)


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize(("radii", "expected"), [((9, 11), 13.0), ((13, 11), 9.0)])
def test_a_steady_sphere_is_foreseen(radii, expected):
    found = forecast_masks([ball(r) for r in radii], (0, 30), SPACING, 30)
    assert tuple(found) == BASELINES[:-1]  # two visits show no fading
    truth = ball(expected)
    np.testing.assert_array_equal(found["persistence"], ball(radii[1]))
    assert dice(found["linear_mean"], truth) > 0.95
    assert dice(found["linear_pointwise"], truth) > 0.93
    assert dice(found["persistence"], truth) < 0.85
    assert all(m.dtype == np.uint8 and m.shape == SHAPE for m in found.values())


def test_exponential_reaches_the_extrapolated_volume():
    masks = [ball(8), ball(9), ball(10)]
    v = [m.sum() for m in masks]
    slope = np.polyfit((0, 20, 50), np.log(v), 1)[0]
    found = forecast_masks(masks, (0, 20, 50), SPACING, 40)["exponential"]
    assert found.sum() == pytest.approx(v[-1] * np.exp(slope * 40), rel=0.02)


def test_exponential_reaches_the_volume_of_a_thin_rim():
    # Nearly all voxels around a rim are at one distance: without a tie-break whole shells are added.
    thin, thick = ball(9) - ball(7.5), ball(9) - ball(7)
    found = forecast_masks([thin, thick], (0, 30), SPACING, 20)["exponential"]
    expected = thick.sum() * (thick.sum() / thin.sum()) ** (20 / 30)
    assert found.sum() == pytest.approx(expected, rel=0.02)
    assert np.all(found >= thick)


def test_a_horizon_of_zero_is_the_last_mask():
    last = ball(10)
    for name, mask in forecast_masks([ball(8), last], (0, 30), SPACING, 0).items():
        np.testing.assert_array_equal(mask, last, err_msg=name)


def test_only_the_ratio_of_horizon_and_interval_counts():
    masks = [ball(8), ball(10)]
    in_days, in_visits = (
        forecast_masks(masks, (0, 60), SPACING, 60),
        forecast_masks(masks, (0, 1), SPACING, 1),
    )
    for name in BASELINES[:-1]:
        np.testing.assert_array_equal(in_days[name], in_visits[name], err_msg=name)


def test_a_forecast_never_overflows_the_image():
    found = forecast_masks([ball(3), ball(12)], (0, 1), SPACING, 10_000)
    assert found["exponential"].all()
    assert forecast_masks([ball(12), ball(3)], (0, 1), SPACING, 10_000)["exponential"].sum() == 0


EMPTY = np.zeros(SHAPE, np.uint8)
FULL = np.ones(SHAPE, np.uint8)


@pytest.mark.parametrize(
    ("masks", "names"),
    [
        ([ball(9)], {"persistence"}),  # one visit: nothing to extrapolate
        ([EMPTY, ball(9)], {"persistence"}),  # new: no rate
        ([ball(9), EMPTY], {"persistence"}),  # vanished
        ([ball(9), FULL], {"persistence"}),  # no boundary in view
        ([FULL, ball(9)], {"persistence", "exponential"}),  # only the volumes are known
        ([ball(4, (-16, 0, 0)), ball(5, (16, 0, 0))], {"persistence", "exponential"}),  # no lesion in common
    ],
)
def test_a_baseline_with_nothing_to_go_by_is_left_out(masks, names):
    assert set(forecast_masks(masks, range(len(masks)), SPACING, 1)) == names


def test_a_new_lesion_does_not_speed_up_the_old_one():
    old, new = ball(5, (-14, 0, 0)), ball(5, (15, 0, 0))
    found = forecast_masks([old, old | new], (0, 30), SPACING, 30)
    np.testing.assert_array_equal(found["linear_mean"], old | new)


@pytest.mark.parametrize("horizon", [-1, float("nan"), float("inf")])
def test_bad_horizons_are_refused(horizon):
    with pytest.raises(InputError, match="horizon"):
        forecast_masks([ball(5)], (0,), SPACING, horizon)


# ---- what a forecast carries ----


@pytest.mark.parametrize("model", MODELS)
def test_a_forecast_is_a_boundary_and_a_volume(model):
    found = forecast([ball(8), ball(9), ball(10)], (0, 30, 60), SPACING, 15, model)
    assert found.mask.shape == SHAPE
    assert found.volume_mm3 == pytest.approx(found.mask.sum() * 2.0, rel=0.01)
    assert found.motion_mm == pytest.approx(0.5, abs=0.15)  # 1 mm in 30 days, half of that ahead
    assert (found.model, found.horizon_days, found.spacing_mm) == (model, 15, SPACING)


def test_every_model_names_itself_or_its_reason():
    found = forecasts([ball(8), ball(10)], (0, 30), SPACING, 30)
    assert tuple(found.made) == MODELS[:-1]
    assert found.missing == {"gompertz": "No gompertz forecast: a curve that levels off needs 3 visits, there are 2."}


@pytest.mark.parametrize(
    ("masks", "model", "reason"),
    [
        ([ball(9)], "linear", "a single visit shows no growth"),
        ([ball(9)], "gompertz", "a single visit shows no growth"),
        ([EMPTY, ball(9)], "linear", "no edge of the tumor could be followed"),
        ([EMPTY, ball(9)], "exponential", "no volume at one of the visits"),
        ([ball(9), FULL], "exponential", "no edge of the tumor is in view"),
        ([ball(4, (-16, 0, 0)), ball(5, (16, 0, 0))], "linear pointwise", "no edge of the tumor could be followed"),
    ],
)
def test_a_missing_forecast_says_why(masks, model, reason):
    found = forecasts(masks, range(len(masks)), SPACING, 1, (model,))
    assert not found.made
    assert reason in found.missing[model]
    assert forecast(masks, range(len(masks)), SPACING, 1, model) is None


def test_the_motion_of_a_lesion_that_was_not_followed_is_unknown():
    assert forecast([ball(4, (-16, 0, 0)), ball(5, (16, 0, 0))], (0, 30), SPACING, 30, "exponential").motion_mm is None


def test_unknown_models_are_refused():
    with pytest.raises(InputError, match="Unknown forecast model 'crystal ball'"):
        forecast([ball(5)], (0,), SPACING, 1, "crystal ball")


@pytest.mark.parametrize("days", [(0, 0), (30, 0), (0,)])
def test_bad_days_are_refused(days):
    with pytest.raises(InputError):
        forecast([ball(5), ball(6)], days, SPACING, 1, "linear")


@pytest.mark.parametrize(("speed", "radius"), [(3.0, 13.0), (-3.0, 7.0), (-20.0, 0.0)])
def test_a_front_moves_as_fast_as_expected(speed, radius):
    found = expected_front(signed_distance_mm(ball(10), SPACING), speed, SPACING, 30.44, last_mean_speed=2.0)
    assert found.volume_mm3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.06)
    assert found.motion_mm == pytest.approx(2.0)
    assert np.isfinite(found.phi).all()


# ---- Gompertz ----


@pytest.mark.parametrize(
    ("start", "limit", "decay", "days"),
    [
        (1000, 40_000, 0.01, (0, 60, 150)),  # three visits pass through the curve
        (1000, 40_000, 0.01, (0, 20, 60, 110, 300)),
        (500, 900, 0.05, (0, 14, 28)),  # nearly levelled off
        (30_000, 4_000, 0.012, (0, 45, 100, 160)),  # shrinks towards a rest
        (2000, 10**7, 0.001, (0, 30, 90)),  # nearly exponential
    ],
)
def test_gompertz_finds_the_curve_again(start, limit, decay, days):
    def volume(t):
        return limit * np.exp(-np.log(limit / start) * np.exp(-decay * t))

    curve = fit_gompertz([volume(t) for t in days], days)
    assert curve.decay == pytest.approx(decay, rel=1e-3)
    assert curve.log_limit == pytest.approx(np.log(limit), rel=2e-3)
    assert np.exp(curve.log_volume(days[-1] + 90)) == pytest.approx(volume(days[-1] + 90), rel=1e-3)


@pytest.mark.parametrize("rate", [0.02, -0.02])
def test_gompertz_of_an_exponential_is_one(rate):
    days = (0, 30, 75, 90)
    curve = fit_gompertz([1000 * np.exp(rate * t) for t in days], days)
    assert np.exp(curve.log_volume(180)) == pytest.approx(1000 * np.exp(rate * 180), rel=1e-3)


def test_growth_that_speeds_up_is_no_more_than_exponential():
    curve = fit_gompertz([1000, 1100, 2000], (0, 30, 60))
    slope = np.polyfit((0, 30, 60), np.log([1000, 1100, 2000]), 1)[0]
    assert curve.decay == pytest.approx(0, abs=1e-6)
    assert curve.rate == pytest.approx(slope, rel=1e-3)
    assert curve.log_limit > 50


def test_a_volume_that_has_stopped_stays():
    curve = fit_gompertz([1000, 3000, 3000, 3000], (0, 30, 60, 90))
    assert np.exp(curve.log_volume(1000)) == pytest.approx(3000, rel=0.01)
    flat = fit_gompertz([3000, 3000, 3000], (0, 30, 60))
    assert np.exp(flat.log_volume(1000)) == pytest.approx(3000)
    assert flat.log_limit == pytest.approx(np.log(3000))


def test_gompertz_depends_on_neither_the_unit_of_time_nor_of_volume():
    curve = fit_gompertz([1000, 1800, 2300, 2500], (0, 30, 80, 130))
    other = fit_gompertz([1.0, 1.8, 2.3, 2.5], (5, 6, 5 + 80 / 30, 5 + 130 / 30))
    assert other.decay == pytest.approx(30 * curve.decay, rel=1e-4)
    assert other.log_volume(6) - np.log(2.5) == pytest.approx(curve.log_volume(180) - np.log(2500), abs=1e-4)


@pytest.mark.parametrize(("volumes", "days"), [([5, 6], (0, 1)), ([5], (0,)), ([0, 5, 6], (0, 1, 2))])
def test_gompertz_does_not_guess(volumes, days):
    assert fit_gompertz(volumes, days) is None


def test_the_gompertz_mask_reaches_the_volume_of_the_curve():
    masks = [ball(7), ball(9), ball(10)]
    voxels = [float(m.sum()) for m in masks]
    found = forecast(masks, (0, 40, 80), SPACING, 40, "gompertz")
    curve = fit_gompertz(voxels, (0, 40, 80))
    assert found.volume_mm3 == pytest.approx(2 * np.exp(curve.log_volume(120)), rel=1e-6)
    assert found.mask.sum() * 2 == pytest.approx(found.volume_mm3, rel=0.02)
    slower = forecast(masks, (0, 40, 80), SPACING, 40, "exponential")
    assert masks[-1].sum() < found.mask.sum() < slower.mask.sum()


def test_a_curve_without_fading_has_no_limit():
    assert Gompertz(0.0, 0.1, 0.0).log_limit == np.inf
    assert Gompertz(0.0, -0.1, 0.0).log_limit == -np.inf
