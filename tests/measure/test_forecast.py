"""The forecast baselines on spheres: what each must give, and when it must stay silent."""

import numpy as np
import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.forecast import BASELINES, forecast_masks

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
    assert tuple(found) == BASELINES
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
    for name in BASELINES:
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
