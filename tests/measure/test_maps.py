"""Reliability of the growth maps: what is real is found, what is error is not, and nothing is claimed blindly."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.growth import front_speed
from napari_convlstm_tumor.measure.maps import VisitPair, front_error_mm, log_growth, reliable_speed
from napari_convlstm_tumor.measure.uncertainty import BOUNDARY_SD_MM
from napari_convlstm_tumor.series import DAYS_PER_MONTH

ISO, THICK = (1.0, 1.0, 1.0), (0.9, 0.9, 6.5)


def distance(spacing, shift=(0.0, 0.0, 0.0), extent_mm=48.0):
    """(I, J, K) mm from the middle; shift in mm."""
    counts = [int(extent_mm / s) + 4 for s in spacing]
    axes = [(np.arange(n) - (n - 1) / 2) * s + t for n, s, t in zip(counts, spacing, shift, strict=True)]
    return np.linalg.norm(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), axis=-1)


def grown(radii=(9, 13), spacing=ISO, days=30, **options):
    masks = [distance(spacing) <= r for r in radii]
    return VisitPair(*masks, spacing, days, **options)


def speed_of(pair):
    return front_speed(pair.before, pair.after, pair.spacing_mm, pair.days, pair.valid, pair.dated)


def unchanged(spacing, rng):
    """Two scans of one tumor: another outline, a registration error, voxels moved to the nearest of the common grid."""
    radius, masks = rng.uniform(6, 18), []
    centre = rng.uniform(-0.5, 0.5, 3) * spacing
    for _ in range(2):
        error, fall = rng.normal(0, 0.5 / math.sqrt(6), 3), rng.uniform(-0.5, 0.5, 3)
        mask = distance(spacing, centre + error + fall * spacing) <= radius + rng.normal(0, BOUNDARY_SD_MM)
        masks.append(ndimage.shift(mask.astype(np.uint8), fall, order=0))
    return VisitPair(*masks, spacing, 30)


@pytest.mark.parametrize(("spacing", "limit"), [(ISO, 0.05), (THICK, 0.12)])
def test_an_unchanged_tumor_is_mostly_within_error(spacing, limit):
    rng = np.random.default_rng(1)
    of_speed, of_growth = [], []
    for _ in range(30):
        pair = unchanged(spacing, rng)
        speed, (growth, reliable) = speed_of(pair), log_growth(pair)
        of_speed.append(reliable_speed(speed, pair).sum() / np.isfinite(speed).sum())
        of_growth.append(reliable.sum() / np.isfinite(growth).sum())
    assert np.mean(of_speed) <= limit
    assert np.mean(of_growth) <= limit


@pytest.mark.parametrize(("spacing", "radii"), [(ISO, (9, 13)), (ISO, (13, 9)), (THICK, (12, 18))])
def test_clear_growth_is_reliable_nearly_everywhere(spacing, radii):
    pair = grown(radii, spacing)
    speed, (growth, reliable) = speed_of(pair), log_growth(pair)
    found = reliable_speed(speed, pair)
    assert found.dtype == bool and found.shape == speed.shape
    assert not found[~np.isfinite(speed)].any()
    assert found.sum() / np.isfinite(speed).sum() > (0.95 if spacing == ISO else 0.5)
    assert np.all(np.sign(speed[found]) == np.sign(radii[1] - radii[0]))
    assert reliable.sum() / np.isfinite(growth).sum() > 0.8
    assert np.all(np.sign(growth[reliable]) == np.sign(radii[1] - radii[0]))


def test_a_speed_is_reliable_from_the_stated_error_on():
    pair = grown((9, 13), ISO)
    error = front_error_mm(pair)
    expected = 1.959964 * math.sqrt(2 * BOUNDARY_SD_MM**2 + 0.5**2 + 3 / 12)
    assert error == pytest.approx(np.full(error.shape, expected), rel=1e-4)
    below = np.full(error.shape, (expected - 0.01) * DAYS_PER_MONTH / 30, np.float32)
    above = np.full(error.shape, -(expected + 0.01) * DAYS_PER_MONTH / 30, np.float32)
    assert not reliable_speed(below, pair).any()
    assert reliable_speed(above, pair).all()


def test_thick_slices_are_less_certain_where_they_end():
    error = front_error_mm(grown((12, 12), THICK))
    i, j, k = (n // 2 for n in error.shape)
    side, top = error[i + 13, j, k], error[i, j, k + 2]
    assert top > 2 * side
    assert top == pytest.approx(1.96 * math.sqrt(2 * BOUNDARY_SD_MM**2 + 0.5**2 + 6.5**2 / 4), rel=0.05)


def test_more_doubtful_masks_and_longer_waits():
    pair = grown((10, 12))
    speed = speed_of(pair)
    sure = reliable_speed(speed, pair).sum()
    assert reliable_speed(speed, replace(pair, boundary_sds_mm=(1.0, 1.0))).sum() < sure
    assert reliable_speed(speed, replace(pair, days=90)).sum() >= sure  # the same speed for longer is a longer way
    assert reliable_speed(speed / 1000, pair).sum() == 0


def test_nothing_is_reliable_where_registration_or_image_is_missing():
    pair = grown()
    speed = speed_of(pair)
    lost = replace(pair, registered=False)
    assert not reliable_speed(speed, lost).any()
    growth, reliable = log_growth(lost)
    assert np.isfinite(growth).any() and not reliable.any()  # the value may still be looked at
    half = np.ones(pair.after.shape, np.uint8)
    half[: half.shape[0] // 2] = 0
    cut = replace(pair, valid=half)
    assert not reliable_speed(speed, cut)[half == 0].any()
    assert reliable_speed(speed, cut)[half == 1].any()
    assert np.isnan(log_growth(cut)[0][half == 0]).all()


def test_log_growth_of_tumors_far_apart_divides_by_nothing():
    """Between them a neighbourhood is empty to the last digit."""
    before = np.zeros((120, 12, 12), bool)
    before[2:6, 4:8, 4:8] = before[112:116, 4:8, 4:8] = True
    after = before.copy()
    after[60:64, 4:8, 4:8] = True
    with np.errstate(all="raise", under="ignore"):
        growth, _ = log_growth(VisitPair(before, after, (2.0, 2.0, 2.0), 30))
    assert np.isfinite(growth[before]).all()


def test_log_growth_of_a_small_tumor_is_its_growth_rate():
    small = grown((2.5, 3.5), (0.5, 0.5, 0.5), days=60)
    growth, _ = log_growth(small)
    volumes = [np.count_nonzero(m) for m in (small.before, small.after)]
    i, j, k = (n // 2 for n in growth.shape)
    # All of it lies well inside the 5 mm neighbourhood of its middle: weights between 1 and 0.78.
    assert growth[i, j, k] == pytest.approx(math.log(volumes[1] / volumes[0]) / 60 * DAYS_PER_MONTH, rel=0.1)


def test_log_growth_shows_the_side_that_grew_and_rests_in_the_depth():
    x = np.indices((60, 60, 60)) - 29.5
    before = np.linalg.norm(x, axis=0) <= 20
    after = before | (np.linalg.norm(x - np.array([5, 0, 0]).reshape(3, 1, 1, 1), axis=0) <= 20)
    growth, reliable = log_growth(VisitPair(before, after, ISO, DAYS_PER_MONTH))
    assert growth[51, 29, 29] > 0.2 and reliable[51, 29, 29]
    assert abs(growth[12, 29, 29]) < 0.01 and not reliable[12, 29, 29]
    assert abs(growth[29, 29, 29]) < 0.02 and not reliable[29, 29, 29]
    assert np.isnan(growth[~after]).all()


def test_undated_growth_is_per_visit():
    pair = grown(days=1, dated=False)
    dated = grown(days=DAYS_PER_MONTH)
    np.testing.assert_allclose(log_growth(pair)[0], log_growth(dated)[0])
    np.testing.assert_array_equal(reliable_speed(speed_of(pair), pair), reliable_speed(speed_of(dated), dated))


def test_new_and_vanished_lesions_have_no_log_growth():
    old, new = np.zeros((60, 30, 30), bool), np.zeros((60, 30, 30), bool)
    old[8:16, 10:18, 10:18] = True
    new[40:48, 10:18, 10:18] = True
    growth, reliable = log_growth(VisitPair(old, old | new, ISO, 30))
    assert np.isnan(growth[new]).all() and not reliable.any()
    assert growth[old] == pytest.approx(np.zeros(old.sum()))
    for before, after in ((old, new), (old, np.zeros_like(old)), (np.zeros_like(old), np.zeros_like(old))):
        growth, reliable = log_growth(VisitPair(before, after, ISO, 30))
        assert np.isnan(growth).all() and not reliable.any()
        assert not reliable_speed(growth, VisitPair(before, after, ISO, 30)).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"days": 0}, "must be positive"),
        ({"after": np.zeros((3, 3, 3))}, "share one grid"),
        ({"boundary_sds_mm": (0.3, math.nan)}, "finite and not negative"),
        ({"registration_sd_mm": -1.0}, "finite and not negative"),
        ({"spacing_mm": (1, 1, 0)}, "voxel size"),
    ],
)
def test_bad_pairs_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        replace(grown(), **change)
    with pytest.raises(InputError, match="The speed has shape"):
        reliable_speed(np.zeros((2, 2, 2), np.float32), grown())
