"""Volumes and rates against hand-computed values; front speed on spheres of known growth."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.front import front_motion
from napari_convlstm_tumor.measure.growth import (
    DAYS_PER_MONTH,
    DAYS_PER_YEAR,
    diameter_rate,
    front_speed,
    mean_front_speed,
    mean_tumor_diameter_mm,
    specific_growth_rate,
    sphere_diameter_mm,
    vde_mm_per_year,
    vdt_days,
    volume_mm3,
)

# The tolerances that ../shared/clinical.md states for these spheres and speeds.
SPEED_TOLERANCE_MM_PER_DAY = 0.017
GROWTH_RATE_TOLERANCE = 0.03

volumes = st.floats(1.0, 1e6)
gaps = st.integers(1, 1000)


def ball(radius, spacing, centre=(0.0, 0.0, 0.0), extent_mm=36.0):
    """Voxels whose centre lies in a ball; centre in mm from the middle of the array."""
    shape = tuple(math.ceil(extent_mm / s) for s in spacing)
    axes = [(np.arange(n) - (n - 1) / 2) * s - c for n, s, c in zip(shape, spacing, centre, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return (x**2 + y**2 + z**2 <= radius**2).astype(np.uint8)


# ---- volume, diameter, rates ----


def test_volume_counts_voxels_in_mm3():
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[1, 1, :3] = 1
    mask[2, 2, 2] = 7  # any label counts
    assert volume_mm3(mask, 0.9 * 0.9 * 6.5) == pytest.approx(4 * 5.265)


def test_diameters_of_a_known_sphere():
    volume = 4 / 3 * math.pi * 5**3
    assert sphere_diameter_mm(volume) == pytest.approx(10)
    assert mean_tumor_diameter_mm(volume) == pytest.approx(10.155, abs=1e-3)  # (2 * 523.6)^(1/3)
    assert sphere_diameter_mm(113.1) == pytest.approx(6, abs=1e-3)  # the 6 mm nodule of clinical.md


@pytest.mark.parametrize(
    ("v", "days", "sgr", "vdt"),
    [
        ((1000, 2000), (0, 100), math.log(2) / 100, 100),  # doubled in 100 days
        ((2000, 1000), (0, 100), -math.log(2) / 100, -100),  # halved: negative doubling time
        ((1000, 1000 * math.e), (20, 70), 1 / 50, 50 * math.log(2)),  # only the difference of days counts
        ((1000, 1000), (0, 50), 0.0, None),  # equal volumes: no doubling time
        ((100, 200, 400, 800), (0, 10, 20, 30), math.log(2) / 10, 10),  # exactly exponential
        ((100, 400, 200), (0, 1, 2), math.log(2) / 2, 2),  # slope of 0, 2, 1 is 1/2
    ],
)
def test_growth_rate_and_doubling_time(v, days, sgr, vdt):
    rate = specific_growth_rate(v, days)
    assert rate.value == pytest.approx(sgr, abs=1e-12)
    assert vdt_days(rate.value) == (None if vdt is None else pytest.approx(vdt))


def test_interval_of_a_slope_is_that_of_the_textbook():
    # ln V = 0, 2, 1 on t = 0, 1, 2: slope 1/2, residual sum 3/2, one degree of freedom,
    # so the error is sqrt(3)/2 and t = 12.706.
    rate = specific_growth_rate((1, math.e**2, math.e), (0, 1, 2))
    assert rate.standard_error == pytest.approx(math.sqrt(3) / 2)
    assert rate.low == pytest.approx(0.5 - 12.7062 * math.sqrt(3) / 2, rel=1e-5)
    assert rate.high == pytest.approx(0.5 + 12.7062 * math.sqrt(3) / 2, rel=1e-5)


def test_two_visits_have_no_interval():
    rate = specific_growth_rate((1000, 1500), (0, 60))
    assert (rate.standard_error, rate.low, rate.high) == (None, None, None)


@pytest.mark.parametrize("v", [(1000,), (0, 1000), (1000, 0), (10, 0, 10), (0, 0)])
def test_no_rate_without_two_visits_that_have_tumor(v):
    days = range(len(v))
    assert specific_growth_rate(v, days) is None
    assert diameter_rate(v, days) is None
    assert vde_mm_per_year(v, days) is None
    assert vdt_days(None) is None


def test_expansion_of_one_year():
    # MTD 20 -> 24.1 mm in a year: the 4.1 mm/year of Mandonnet 2003
    v = [20**3 / 2, 24.1**3 / 2]
    assert vde_mm_per_year(v, (0, DAYS_PER_YEAR)).value == pytest.approx(4.1)
    assert diameter_rate(v, (0, 1)).value == pytest.approx(4.1)  # undated: mm per visit


def test_expansion_interval_scales_with_the_unit():
    v, days = (1000, 1300, 1500), (0, 30, 70)
    per_day, per_year = diameter_rate(v, days), vde_mm_per_year(v, days)
    for name in ("value", "standard_error", "low", "high"):
        assert getattr(per_year, name) == pytest.approx(getattr(per_day, name) * 365.25)


@pytest.mark.parametrize(
    ("v", "days", "words"),
    [
        ((1, 2), (0,), "2 volumes for 1 days"),
        ((1, 2), (5, 5), "Days must rise"),
        ((1, 2), (5, 4), "Days must rise"),
        ((1, -2), (0, 1), "not negative"),
        ((1, math.nan), (0, 1), "finite"),
    ],
)
def test_bad_series_are_refused(v, days, words):
    with pytest.raises(InputError, match=words):
        specific_growth_rate(v, days)


@given(volumes, volumes, gaps)
def test_growth_back_is_minus_growth(v1, v2, dt):
    forth, back = specific_growth_rate((v1, v2), (0, dt)), specific_growth_rate((v2, v1), (0, dt))
    assert forth.value == pytest.approx(-back.value, abs=1e-12)


@given(st.lists(volumes, min_size=3, max_size=6), st.integers(2, 10), st.floats(0.1, 10))
def test_time_and_volume_scaling(v, slower, unit):
    days = [7 * n for n in range(len(v))]
    rate = specific_growth_rate(v, days)
    stretched = specific_growth_rate([x * unit for x in v], [d * slower for d in days])
    assert stretched.value == pytest.approx(rate.value / slower, abs=1e-9)
    assert stretched.high == pytest.approx(rate.high / slower, abs=1e-9)
    assert rate.low <= rate.value <= rate.high


# ---- front speed ----

SPACINGS = [(1.0, 1.0, 1.0), (0.9, 0.9, 3.0), (0.9, 0.9, 6.5)]
CENTRES = [(0.0, 0.0, 0.0), (0.3, -0.2, 1.1)]  # on and off the voxel lattice
CHANGES = [(-0.1, 60), (-0.1, 30), (0.05, 60), (0.1, 45), (0.2, 30)]  # mm/day, days
SPHERES = [
    (spacing, centre, radius, speed, days)
    for spacing, centre, radius, (speed, days) in product(SPACINGS, CENTRES, (10.0, 12.0), CHANGES)
    if radius + speed * days >= spacing[2]  # thinner than two slices, a sphere has no shape left to measure
]


@pytest.mark.parametrize(("spacing", "centre", "radius", "speed", "days"), SPHERES)
def test_speed_of_a_growing_sphere(spacing, centre, radius, speed, days):
    end = radius + speed * days
    before, after = ball(radius, spacing, centre), ball(end, spacing, centre)
    measured = front_motion(before, after, spacing).median_speed(days, ()).value
    # A tenth of it: where half the radius comes on, in slices of which the ball has four.
    assert measured == pytest.approx(speed, abs=SPEED_TOLERANCE_MM_PER_DAY, rel=0.1)


@pytest.mark.parametrize("spacing", SPACINGS[:2])
@pytest.mark.parametrize(("speed", "days"), [(-0.1, 60), (0.1, 45), (0.2, 30)])
def test_volume_growth_of_a_growing_sphere(spacing, speed, days):
    radii = 11.0, 11.0 + speed * days
    voxel = math.prod(spacing)
    v = [volume_mm3(ball(r, spacing, (0.1, 0.2, 0.3)), voxel) for r in radii]
    true = 3 * math.log(radii[1] / radii[0]) / days
    assert specific_growth_rate(v, (0, days)).value == pytest.approx(true, rel=GROWTH_RATE_TOLERANCE)


def test_an_unchanged_tumor_stands_still_exactly():
    mask = ball(9, (1, 1, 2))
    speed = front_speed(mask, mask, (1, 1, 2), 30)
    assert np.nanmax(np.abs(speed)) == 0


def test_speed_is_known_in_the_band_only():
    before, after = ball(8, (1, 1, 1)), ball(12, (1, 1, 1))
    speed = front_speed(before, after, (1, 1, 1), 30)
    assert speed.shape == before.shape
    assert speed.dtype == np.float32
    middle, edge = tuple(n // 2 for n in speed.shape), (0, 0, 0)
    assert np.isnan(speed[middle])
    assert np.isnan(speed[edge])
    assert np.all(speed[(after > 0) & (before == 0)] > 0)


def test_planes_that_move_by_whole_voxels_are_exact():
    before, after = np.zeros((12, 5, 5), np.uint8), np.zeros((12, 5, 5), np.uint8)
    before[:4], after[:7] = 1, 1
    speed = front_speed(before, after, (2.0, 1.0, 1.0), DAYS_PER_MONTH)
    np.testing.assert_allclose(speed[3:8], 6.0, rtol=1e-6)  # 3 voxels of 2 mm in one month
    assert np.all(np.isnan(speed[:3]))
    assert np.all(np.isnan(speed[8:]))
    np.testing.assert_allclose(front_speed(after, before, (2.0, 1.0, 1.0), DAYS_PER_MONTH)[3:8], -6.0, rtol=1e-6)


def test_front_is_weighted_by_the_area_of_its_faces():
    # A bar of 1 x 1 x 10 mm voxels grows along i only: that end face is 10 mm2, the sides stood still.
    before, after = np.zeros((9, 3, 3), np.uint8), np.zeros((9, 3, 3), np.uint8)
    before[:3, 1, 1], after[:5, 1, 1] = 1, 1
    speed = np.where(after == 1, np.float32(0), np.float32(np.nan))
    speed[4, 1, 1] = 6  # touches the end (10 mm2), two sides (10 mm2 each) and top and bottom (1 mm2 each)
    # The four voxels behind it touch 22 mm2 each.
    assert mean_front_speed(speed, after, (1, 1, 10)) == pytest.approx(6 * 32 / (32 + 4 * 22))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_mean_speed_of_a_growing_sphere(spacing):
    before, after = ball(10, spacing), ball(14, spacing)
    measured = mean_front_speed(front_speed(before, after, spacing, 40), after, spacing) / DAYS_PER_MONTH
    assert measured == pytest.approx(0.1, abs=SPEED_TOLERANCE_MM_PER_DAY)


def test_half_the_time_is_twice_the_speed_and_undated_is_per_visit():
    before, after = ball(8, (1, 1, 1)), ball(10, (1, 1, 1))
    slow, fast = (front_speed(before, after, (1, 1, 1), d) for d in (60, 30))
    np.testing.assert_allclose(fast, 2 * slow, rtol=1e-6)
    per_visit = front_speed(before, after, (1, 1, 1), 1, dated=False)
    np.testing.assert_allclose(per_visit, slow * 60 / DAYS_PER_MONTH, rtol=1e-5)


@given(st.tuples(*[st.integers(-3, 3)] * 3))
def test_translation_of_the_patient_changes_nothing(shift):
    before, after = (ball(r, (2.0, 2.0, 3.0), extent_mm=42) for r in (6, 9))
    speed = front_speed(before, after, (2.0, 2.0, 3.0), 40)
    moved = front_speed(*(np.roll(m, shift, (0, 1, 2)) for m in (before, after)), (2.0, 2.0, 3.0), 40)
    # Which of two equally near voxels is found depends on the place; the speed itself does not.
    there = np.roll(speed, shift, (0, 1, 2))
    np.testing.assert_array_equal(np.isnan(moved), np.isnan(there))
    assert np.nanmedian(moved) == pytest.approx(np.nanmedian(speed), rel=1e-5)


@pytest.mark.parametrize("which", ["new", "vanished", "never there"])
def test_no_speed_to_or_from_an_empty_mask(which):
    tumor, empty = ball(6, (1, 1, 1)), np.zeros_like(ball(6, (1, 1, 1)))
    before, after = {"new": (empty, tumor), "vanished": (tumor, empty), "never there": (empty, empty)}[which]
    speed = front_speed(before, after, (1, 1, 1), 30)
    assert np.all(np.isnan(speed))
    assert mean_front_speed(speed, after, (1, 1, 1)) is None


@pytest.mark.parametrize(("gap_mm", "is_front"), [(9, True), (11, False)])
def test_a_distant_new_lesion_is_not_a_fast_front(gap_mm, is_front):
    before = np.zeros((40, 9, 9), np.uint8)
    before[2:6, 3:6, 3:6] = 1
    after = before.copy()
    after[5 + gap_mm : 8 + gap_mm, 3:6, 3:6] = 1
    lesion = (slice(5 + gap_mm, 8 + gap_mm), slice(3, 6), slice(3, 6))
    speed = front_speed(before, after, (1, 1, 1), 30)
    assert np.isfinite(speed[lesion]).any() == is_front
    assert np.isfinite(speed[2:6, 3:6, 3:6]).any()
    if not is_front:  # the old lesion alone did not move
        assert mean_front_speed(speed, after, (1, 1, 1)) == 0
        back = front_speed(after, before, (1, 1, 1), 30)
        assert np.isnan(back[lesion]).all()  # nor did it rush back


def test_the_edge_of_the_image_is_not_a_boundary():
    # A tumor cut off by the field of view: only its inner face is a front.
    before, after = np.zeros((8, 6, 6), np.uint8), np.zeros((8, 6, 6), np.uint8)
    before[:3], after[:5] = 1, 1
    speed = front_speed(before, after, (1, 1, 1), DAYS_PER_MONTH)
    assert np.isnan(speed[0]).all()
    np.testing.assert_allclose(speed[2:6], 2.0, rtol=1e-6)


def test_what_a_visit_did_not_see_has_no_speed_and_makes_none():
    # The image of one visit ends inside the tumor: the cut must not look like a boundary.
    before, after = ball(8, (1, 1, 1)), ball(10, (1, 1, 1))
    valid = np.zeros(before.shape, bool)
    valid[:, :, : before.shape[2] // 2] = True
    cut = before * valid, after * valid
    speed = front_speed(*cut, (1, 1, 1), DAYS_PER_MONTH, valid)
    assert np.isnan(speed[~valid]).all()
    assert np.nanmin(speed) > 1
    assert np.isnan(speed[18, 18, before.shape[2] // 2 - 1])  # deep inside, next to the cut


def test_a_tumor_that_fills_the_image_has_no_front():
    full = np.ones((5, 5, 5), np.uint8)
    part = full.copy()
    part[3:] = 0
    assert np.isnan(front_speed(full, full, (1, 1, 1), 30)).all()
    assert np.isnan(front_speed(part, full, (1, 1, 1), 30)).all()


@pytest.mark.parametrize(
    ("shapes", "spacing", "days", "words"),
    [
        (((4, 4, 4), (4, 4, 5)), (1, 1, 1), 30, "share one grid"),
        (((4, 4), (4, 4)), (1, 1, 1), 30, "3-D"),
        (((4, 4, 4), (4, 4, 4)), (1, 1, 0), 30, "three positive numbers"),
        (((4, 4, 4), (4, 4, 4)), (1, 1), 30, "three positive numbers"),
        (((4, 4, 4), (4, 4, 4)), (1, 1, 1), 0, "must be positive"),
        (((4, 4, 4), (4, 4, 4)), (1, 1, 1), math.nan, "must be positive"),
    ],
)
def test_bad_masks_spacing_and_time_are_refused(shapes, spacing, days, words):
    before, after = (np.zeros(s, np.uint8) for s in shapes)
    with pytest.raises(InputError, match=words):
        front_speed(before, after, spacing, days)
