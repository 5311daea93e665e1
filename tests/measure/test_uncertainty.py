"""Error bars: known answers for their parts, and the trial that counts: an unchanged tumor, scanned again and again."""

import math
from collections import defaultdict

import numpy as np
import pytest
from scipy import ndimage, special
from scipy.spatial.transform import Rotation

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure import uncertainty
from napari_convlstm_tumor.measure.growth import specific_growth_rate
from napari_convlstm_tumor.measure.uncertainty import (
    BOUNDARY_SD_MM,
    SHARED_BOUNDARY_SD_MM,
    Interval,
    Size,
    change_percent,
    changes_from_baseline,
    changes_from_nadir,
    doubling_time,
    expansion_mm_per_year,
    growth_rate,
    lattice_sd_mm3,
    measure_lesion,
    measure_volume,
    ramp_sd_mm,
    summed,
    surface_mm2,
)

ISO, THICK = (1.0, 1.0, 1.0), (0.9, 0.9, 6.5)
Z = 1.959964


def positions(size_mm, spacing, shift=(0.0, 0.0, 0.0)):
    """(I, J, K, 3) mm of voxel centres around the middle of a field of this size; shift in mm."""
    counts = [math.ceil(size_mm / s) + 3 for s in spacing]
    axes = [(np.arange(n) - (n - 1) / 2) * s + t for n, s, t in zip(counts, spacing, shift, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def ball(radius, spacing, shift=(0.0, 0.0, 0.0)):
    return np.linalg.norm(positions(2 * radius + 2, spacing, shift), axis=-1) <= radius


# ---- the parts ----


@pytest.mark.parametrize("spacing", [ISO, (0.9, 0.9, 3.0), THICK])
@pytest.mark.parametrize("radius", [6.0, 10.0, 20.0])
def test_surface_of_a_sphere(spacing, radius):
    assert surface_mm2(ball(radius, spacing), spacing) == pytest.approx(4 * math.pi * radius**2, rel=0.1)


@pytest.mark.parametrize("spacing", [ISO, (0.9, 0.9, 3.0), THICK])
def test_lattice_error_is_that_of_random_shifts(spacing):
    rng = np.random.default_rng(5)
    voxel = math.prod(spacing)
    squares, expected = [], []
    for _ in range(250):  # the spectrum of a single sphere swings about its average: vary the radius too
        radius = rng.uniform(8, 14)
        volume = np.count_nonzero(ball(radius, spacing, rng.uniform(-0.5, 0.5, 3) * spacing)) * voxel
        squares.append((volume - 4 / 3 * math.pi * radius**3) ** 2)
        expected.append(lattice_sd_mm3(4 * math.pi * radius**2, spacing) ** 2)
    assert math.sqrt(np.mean(squares) / np.mean(expected)) == pytest.approx(1, abs=0.15)


def test_lattice_error_of_unit_voxels_is_the_known_constant():
    # The Epstein zeta sum of |k|^-4 over Z^3 is 16.5323; variance 0.0667 per mm2 of surface.
    assert lattice_sd_mm3(1.0, ISO) ** 2 == pytest.approx(16.5323 / (8 * math.pi**3), rel=0.05)


@pytest.mark.parametrize("spacing", [ISO, THICK])
@pytest.mark.parametrize("sd", [0.6, 1.2])
def test_the_ramp_gives_back_the_doubt_it_was_made_with(spacing, sd):
    p = special.ndtr((12 - np.linalg.norm(positions(44, spacing), axis=-1)) / sd)
    assert ramp_sd_mm(p >= 0.5, spacing, p) == pytest.approx(sd, rel=0.15)


def test_another_lesion_and_far_haze_are_not_doubt_about_this_one():
    r = np.linalg.norm(positions(60, ISO), axis=-1)
    p = special.ndtr((8 - r) / 0.8)
    own = ramp_sd_mm(p >= 0.5, ISO, p)
    crowded = np.where(r > 8 + 8, 0.3, p)
    crowded[:3] = 0.9
    assert ramp_sd_mm(p >= 0.5, ISO, crowded) == pytest.approx(own)


def test_a_crisp_probability_is_not_trusted_beyond_a_reader():
    mask = ball(8, ISO)
    assert measure_lesion(mask, ISO, mask.astype(float)).boundary_sd_mm == BOUNDARY_SD_MM
    assert measure_lesion(mask, ISO).boundary_sd_mm == BOUNDARY_SD_MM


def test_volume_interval_is_surface_times_displacement():
    mask, radius = ball(15, (0.5, 0.5, 0.5)), 15
    found = measure_lesion(mask, (0.5, 0.5, 0.5)).volume
    repeat, shared = 3 / radius * BOUNDARY_SD_MM, 3 / radius * SHARED_BOUNDARY_SD_MM
    assert found.repeat_log_sd == pytest.approx(repeat, rel=0.03)
    assert found.shared_log_sd == pytest.approx(shared, rel=0.03)
    assert found.high / found.value == pytest.approx(math.exp(Z * math.hypot(repeat, shared)), rel=0.01)
    assert found.interval == Interval(found.value, found.low, found.high)


def test_total_is_the_volume_of_all_lesions():
    pair = np.zeros((60, 30, 30), bool)
    one = ball(8, ISO)
    n = one.shape[0]
    pair[2 : 2 + n, 2 : 2 + n, 2 : 2 + n] = pair[32 : 32 + n, 2 : 2 + n, 2 : 2 + n] = one
    single, total = measure_volume(one, ISO), measure_volume(pair, ISO)
    assert total.value == 2 * single.value
    # One segmenter: the boundary errors add up, only the voxels' average out.
    assert 0.95 * single.repeat_log_sd < total.repeat_log_sd < single.repeat_log_sd
    assert total.shared_log_sd == pytest.approx(single.shared_log_sd, rel=1e-3)


def test_nothing_is_measured_in_an_empty_mask():
    empty = np.zeros((5, 5, 5))
    assert measure_lesion(empty, ISO) is None
    assert measure_volume(empty, ISO, empty) is None
    assert ramp_sd_mm(empty, ISO, empty) == 0


def test_a_single_voxel_has_a_wide_but_finite_interval():
    mask = np.zeros((3, 3, 3))
    mask[1, 1, 1] = 1
    found = measure_lesion(mask, THICK)
    assert 0 < found.volume.low < found.volume.value / 3 < found.volume.value * 3 < found.volume.high < math.inf


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 5)])
def test_a_probability_on_other_voxels_is_refused(shape):
    with pytest.raises(InputError, match="one grid"):
        measure_lesion(np.ones((4, 4, 4)), ISO, np.ones(shape))


# ---- changes and rates ----


def test_change_uses_only_what_differs_between_visits():
    a, b = Size(1000, 0.03, 0.5), Size(1200, 0.04, 0.5)
    found = change_percent(a, b)
    assert found.value == pytest.approx(20)
    assert found.low == pytest.approx(100 * (1.2 * math.exp(-Z * 0.05) - 1))
    assert found.high == pytest.approx(100 * (1.2 * math.exp(Z * 0.05) - 1))
    assert found.within_error is False
    assert change_percent(a, Size(1050, 0.04)).within_error is True


def test_change_of_what_came_or_went():
    size = Size(1000, 0.03)
    assert change_percent(None, size) is None
    assert change_percent(size, None) == Interval(-100.0)
    assert change_percent(size, None).within_error is None


def test_changes_from_baseline_and_nadir():
    sizes = [Size(v, 0.02) for v in (100, 60, 90, 50, 55)]
    base = [None if c is None else round(c.value) for c in changes_from_baseline(sizes)]
    nadir = [None if c is None else round(c.value) for c in changes_from_nadir(sizes)]
    assert base == [None, -40, -10, -50, -45]
    assert nadir == [None, -40, 50, -17, 10]  # against 100, 60, 60, 50
    assert [c is None for c in changes_from_nadir(sizes, baseline=2)] == [True, True, True, False, False]
    gone = changes_from_nadir([sizes[0], None, sizes[1]])
    assert gone[1] == Interval(-100.0)
    assert gone[2] is None  # it came back: new, no percentage


def test_sum_of_diameters():
    found = summed([Size(10, 0.1, 0.2), Size(30, 0.02, 0.04)])
    assert (found.value, found.repeat_log_sd) == (40, pytest.approx((1 + 0.6) / 40))
    with pytest.raises(InputError, match="at least one"):
        summed([])


def test_two_visits_have_an_interval_from_measurement_error():
    rate = growth_rate([Size(1000, 0.03), Size(1500, 0.04)], (0, 50))
    assert rate.value == pytest.approx(math.log(1.5) / 50)
    assert rate.standard_error == pytest.approx(0.05 / 50)
    assert rate.high - rate.value == pytest.approx(Z * 0.001)
    assert rate.within_error is False
    assert growth_rate([Size(1000, 0.03), None], (0, 50)) is None


def test_expansion_has_a_third_of_the_relative_error():
    rate = expansion_mm_per_year([Size(4000, 0.03), Size(4000, 0.03)], (0, 365.25))
    assert rate.value == 0
    assert rate.standard_error == pytest.approx(20 * 0.03 / 3 * math.sqrt(2))  # MTD of 4000 mm3 is 20 mm
    assert rate.within_error is True


def test_visits_on_a_line_prove_no_more_precision_than_the_measurement_has():
    volumes = [Size(1000 * math.exp(0.01 * t), 0.05) for t in (0, 30, 60)]
    rate = growth_rate(volumes, (0, 30, 60))
    assert rate.standard_error == pytest.approx(0.05 / math.sqrt(1800))
    assert rate.high - rate.value == pytest.approx(Z * rate.standard_error)


def test_scatter_beyond_the_measurement_widens_the_interval():
    v, days = (1000, 3000, 1200, 4000), (0, 30, 60, 90)
    alone = specific_growth_rate(v, days)
    both = specific_growth_rate(v, days, [0.01] * 4)
    assert both.standard_error == pytest.approx(alone.standard_error, rel=0.01)
    assert both.high == pytest.approx(alone.high, rel=0.01)  # the measurement is exact: the scatter decides
    assert specific_growth_rate(v, days, [3.0] * 4).high > both.high


def test_doubling_time_is_defined_only_away_from_zero():
    growing = growth_rate([Size(1000, 0.02), Size(2000, 0.02)], (0, 100))
    found = doubling_time(growing)
    assert found.value == pytest.approx(100)
    assert found.low == pytest.approx(math.log(2) / growing.high) and found.high > 100
    shrinking = doubling_time(growth_rate([Size(2000, 0.02), Size(1000, 0.02)], (0, 100)))
    assert shrinking.low < -100 < shrinking.high < 0
    assert doubling_time(growth_rate([Size(1000, 0.02), Size(1010, 0.02)], (0, 100))) is None
    without_errors = doubling_time(specific_growth_rate([1000.0, 1010.0], [0, 100]))
    assert without_errors.value > 6000 and (without_errors.low, without_errors.high) == (None, None)
    assert doubling_time(None) is None
    assert doubling_time(growth_rate([Size(5, 0.1), Size(5, 0.1)], (0, 1))) is None


@pytest.mark.parametrize("errors", [(0.1,), (0.1, -0.1), (0.1, math.nan)])
def test_bad_errors_are_refused(errors):
    with pytest.raises(InputError, match="Errors are"):
        specific_growth_rate((1, 2), (0, 1), errors)


@pytest.mark.parametrize("visits", [2, 3, 5])
def test_rates_of_an_unchanged_tumor_cover_zero(visits):
    rng = np.random.default_rng(visits)
    sds = rng.uniform(0.02, 0.2, (4000, visits))
    days = np.cumsum(rng.uniform(20, 120, visits))
    noisy = np.exp(rng.normal(0, sds)) * 1000
    rates = [specific_growth_rate(v, days, sd) for v, sd in zip(noisy, sds, strict=True)]
    # With 3 or more visits scatter can only widen the interval: it errs to the safe side.
    assert 0.94 < np.mean([r.within_error for r in rates]) < (0.96 if visits == 2 else 0.99)


# ---- calibration: repeated scans of an unchanged tumor ----

TRIALS = 480
SHAPES = ("sphere", "ellipsoid", "lobed")
REPOSITIONING_DEGREES = 3.0
# Roughness of an outline that averages out over the boundary (mm, correlated over a voxel); not part of the model.
ROUGHNESS_MM = 0.2


def draw_body(shape, size, rng):
    """Distance function (mm, negative inside) of a body about this large."""
    r = size / 2
    if shape == "ellipsoid":
        axes = r * np.array([1, rng.uniform(0.6, 1), rng.uniform(0.5, 0.9)])

        def ellipsoid(x):
            scaled = x / axes
            q, slope = np.linalg.norm(scaled, axis=-1), np.linalg.norm(scaled / axes, axis=-1)
            return q * (q - 1) / np.maximum(slope, 1e-9)

        return ellipsoid
    lobes = rng.normal(size=(3, 3))
    height = 0.15 if shape == "lobed" else 0.0
    lobes *= height ** (1 / 3) / np.linalg.norm(lobes, axis=1, keepdims=True)

    def lobed(x):
        d = np.linalg.norm(x, axis=-1) + 1e-9
        c = (x @ lobes.T) / d[..., None]
        return d - r * (1 - height + (c * c * c).sum(axis=-1))

    return lobed


def scan(body, size, turn, spacing, ramp_mm, boundary_sd, rng):
    """One visit: probability (I, J, K) of the body, repositioned, on voxels that fall anywhere, its outline moved."""
    x = positions(1.3 * size + 5 * ramp_mm, spacing, rng.uniform(-0.5, 0.5, 3) * spacing)
    repositioned = Rotation.from_rotvec(rng.normal(0, math.radians(REPOSITIONING_DEGREES), 3)) * turn
    rough = ndimage.gaussian_filter(rng.normal(size=x.shape[:3]), 1.0)
    moved = rng.normal(0, boundary_sd) + ROUGHNESS_MM * rough / rough.std()
    return special.ndtr((moved - body(x @ repositioned.as_matrix())) / ramp_mm)


def one_trial(k, rng):
    """Standardised change (z) of every size between two scans; None when one of them shows nothing."""
    spacing, given, shape = (ISO, THICK)[k % 2], (k // 2) % 2 == 0, SHAPES[(k // 4) % 3]
    size, turn = math.exp(rng.uniform(math.log(8), math.log(40))), Rotation.random(random_state=rng)
    ramp = rng.uniform(0.4, 1.2)
    sd = BOUNDARY_SD_MM if given else max(BOUNDARY_SD_MM, uncertainty.RAMP_SHARE * ramp)
    body, found = draw_body(shape, size, rng), []
    for _ in range(2):
        p = scan(body, size, turn, spacing, ramp, sd, rng)
        found.append(measure_lesion(p >= 0.5, spacing, None if given else p))
    return spacing, found


@pytest.fixture(scope="module")
def repeated():
    """name of a size -> (trial's slice thickness, change from one scan to the next)."""
    rng = np.random.default_rng(2024)
    changes = defaultdict(list)
    for k in range(TRIALS):
        spacing, (a, b) = one_trial(k, rng)
        if a is not None and b is not None:
            for name in ("volume", "longest_axial", "perpendicular", "product", "longest_3d"):
                changes[name].append((spacing[2], change_percent(getattr(a, name), getattr(b, name))))
    return changes


def covered(changes, thickness=None):
    return np.mean([c.within_error for t, c in changes if thickness in (None, t)])


def test_the_interval_of_volume_change_covers_zero(repeated):
    changes = repeated["volume"]
    assert len(changes) >= 400
    assert 0.93 <= covered(changes) <= 0.97
    for thickness in (1.0, 6.5):
        assert 0.91 <= covered(changes, thickness) <= 0.99


@pytest.mark.parametrize("name", ["longest_axial", "perpendicular", "product", "longest_3d"])
def test_the_intervals_of_diameters_cover_zero(repeated, name):
    assert len(repeated[name]) >= 400
    assert 0.93 <= covered(repeated[name]) <= 0.97
    for thickness in (1.0, 6.5):
        assert 0.89 <= covered(repeated[name], thickness) <= 0.99


def test_a_tumor_that_grew_is_told_from_one_that_did_not():
    rng = np.random.default_rng(7)
    found = []
    for k in range(24):
        spacing, turn = (ISO, THICK)[k % 2], Rotation.random(random_state=rng)
        a, b = (
            measure_volume(
                scan(draw_body("sphere", d, rng), d, turn, spacing, 0.5, BOUNDARY_SD_MM, rng) >= 0.5, spacing
            )
            for d in (24, 30)  # volume +95 %
        )
        found.append(change_percent(a, b))
    assert not any(c.within_error for c in found)
    assert np.mean([c.low <= 95.3 <= c.high for c in found]) > 0.8
