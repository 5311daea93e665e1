"""The front between the voxels: known answers finer than a voxel, and an interval that holds the truth."""

import math

import numpy as np
import pytest
from scipy import ndimage, special

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.front import front_motion
from napari_convlstm_tumor.measure.uncertainty import BOUNDARY_SD_MM

ISO, MIDDLE, THICK = (1.0, 1.0, 1.0), (0.9, 0.9, 3.0), (0.9, 0.9, 6.5)
SDS = (BOUNDARY_SD_MM, BOUNDARY_SD_MM)
NO_MASK = (False, False)


def distance(spacing, shift_voxels=(0.0, 0.0, 0.0), extent_mm=44.0):
    """(I, J, K) mm from the middle of the grid, or from voxels beside it."""
    counts = [int(extent_mm / s) + 4 for s in spacing]
    axes = [(np.arange(n) - (n - 1) / 2 + t) * s for n, s, t in zip(counts, spacing, shift_voxels, strict=True)]
    return np.linalg.norm(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), axis=-1)


def median_mm(before, after, spacing, given=(True, True), sds=SDS, **options):
    return front_motion(before, after, spacing, given=given, **options).median_speed(1, sds)


@pytest.mark.parametrize("spacing", [ISO, MIDDLE, THICK])
@pytest.mark.parametrize(("radius", "moved"), [(10, 0.2), (10, 0.5), (10, 1), (12, -0.3), (12, -2), (8, 4)])
def test_balls_that_grow_by_less_and_more_than_a_voxel(spacing, radius, moved):
    rng = np.random.default_rng(3)
    found = {True: [], False: []}
    for _ in range(4):
        far = distance(spacing, rng.uniform(-0.5, 0.5, 3))
        masks = far <= radius, far <= radius + moved
        found[True].append(median_mm(*masks, spacing).value)
        ramps = (special.ndtr((r - far) / 0.6) for r in (radius, radius + moved))
        found[False].append(median_mm(*ramps, spacing, NO_MASK).value)
    tolerance = 0.08 * np.mean(spacing) + 0.05 * abs(moved)
    assert np.mean(found[True]) == pytest.approx(moved, abs=tolerance)
    assert np.mean(found[False]) == pytest.approx(moved, abs=tolerance)


@pytest.mark.parametrize("spacing", [ISO, MIDDLE, THICK])
@pytest.mark.parametrize(("radius", "moved"), [(5, 10), (12, -4), (18, -10), (20, -15)])
def test_a_long_way_stays_within_its_interval(spacing, radius, moved):
    rng = np.random.default_rng(1)
    for _ in range(3):
        far = distance(spacing, rng.uniform(-0.5, 0.5, 3), 50.0)
        found = median_mm(far <= radius, far <= radius + moved, spacing)
        assert found.low <= moved <= found.high
        tolerance = {ISO: 0.1, MIDDLE: max(0.25, 0.03 * abs(moved)), THICK: max(0.75, 0.1 * abs(moved))}[spacing]
        assert found.value == pytest.approx(moved, abs=tolerance)


def test_a_tumor_that_stays_stands_still_and_a_plane_is_exact():
    still = distance(MIDDLE) <= 9
    assert median_mm(still, still, MIDDLE).value == 0
    before, after = np.zeros((12, 5, 5)), np.zeros((12, 5, 5))
    before[:4], after[:7] = 1, 1
    assert median_mm(before, after, (2, 1, 1)).value == pytest.approx(6)
    assert median_mm(after, before, (2, 1, 1)).value == pytest.approx(-6)
    after[7] = before[4] = 0.25  # the zero of p - 0.5 between 1 and 0.25 lies at 2/3 of a voxel
    assert median_mm(before, after, (2, 1, 1), NO_MASK).value == pytest.approx(6)
    before[4] = 0
    assert median_mm(before, after, (2, 1, 1), NO_MASK).value == pytest.approx(6 + 2 * (2 / 3 - 1 / 2))


@pytest.mark.parametrize(("thick", "moved"), [(2, 0.3), (2, 1), (3, -0.5)])
def test_both_sides_of_a_thin_rim(thick, moved):
    far = abs(distance(ISO, extent_mm=40) - 13)
    found = median_mm(far <= thick / 2, far <= thick / 2 + moved, ISO).value
    assert found == pytest.approx(moved, abs=0.1)


def test_single_voxels_keep_a_front():
    before, after = np.zeros((9, 9, 9)), np.zeros((9, 9, 9))
    before[4, 4, 4] = after[4, 4, 4] = after[6, 6, 6] = 1
    motion = front_motion(before, after, ISO)
    assert len(motion.moved_mm) == 12  # six faces of either voxel
    assert set(map(tuple, motion.voxels)) == {(4, 4, 4), (6, 6, 6)}
    old = (motion.voxels == 4).all(axis=1)
    assert motion.median_speed(1, SDS, old).value == pytest.approx(0, abs=1e-6)
    assert motion.median_speed(1, SDS, np.zeros(12, bool)) is None


def test_the_interval_follows_from_boundary_voxels_and_time():
    motion = front_motion(distance(ISO) <= 10, distance(ISO) <= 12, ISO)
    one = motion.median_speed(1, (0.3, 0.4))
    assert one.high - one.value == pytest.approx(1.96 * math.sqrt(0.3**2 + 0.4**2 + 0.1**2 + (0.05 * 2) ** 2), rel=1e-2)
    assert one.value - one.low == pytest.approx(one.high - one.value)
    longer = motion.median_speed(2, (0.3, 0.4))
    assert (longer.value, longer.low, longer.high) == pytest.approx((one.value / 2, one.low / 2, one.high / 2))
    unsure = motion.median_speed(1, (0.3, None))
    assert (unsure.value, unsure.low, unsure.high) == (one.value, None, None)


def test_new_and_vanished_lesions_and_the_unseen_are_no_front():
    before, after = np.zeros((40, 9, 9)), np.zeros((40, 9, 9))
    before[2:6, 3:6, 3:6] = after[2:6, 3:6, 3:6] = 1
    after[20:24, 3:6, 3:6] = before[36:39, 3:6, 3:6] = 1
    motion = front_motion(before, after, ISO)
    assert motion.voxels[:, 0].max() == 5 and not motion.moved_mm.any()
    for empty in ((before, 0 * after), (0 * before, after), (0 * before, 0 * after)):
        assert median_mm(*empty, ISO) is None
    seen = np.ones(after.shape)
    seen[4:] = 0
    half = front_motion(before, after, ISO, seen)
    assert half.voxels[:, 0].max() == 3
    assert (motion.areas_mm2.sum(), half.areas_mm2.sum()) == (2 * 9 + 4 * 12, 9 + 2 * 12)  # the cut is no front


def test_masks_of_other_shapes_are_refused():
    with pytest.raises(InputError, match="share one grid"):
        front_motion(np.zeros((4, 4, 4)), np.zeros((4, 4, 5)), ISO)


# ---- calibration: scanned twice, registered, moved to the nearest voxel of one grid ----

TRIALS = 420
ROUGHNESS_MM = 0.2


def scanned_twice(spacing, given, moved_mm, rng):
    """The median of a ball and the ball a little larger, each outline drawn anew."""
    radius, ramp = math.exp(rng.uniform(math.log(4), math.log(18))), rng.uniform(0.4, 1.2)
    sd, found = BOUNDARY_SD_MM if given else max(BOUNDARY_SD_MM, ramp), []
    for outward, registration_mm in ((0, 0), (moved_mm, 0.5)):
        fall = rng.uniform(-0.5, 0.5, 3) * (given and registration_mm > 0)
        off = rng.normal(0, registration_mm / math.sqrt(3), 3) / spacing + fall
        far = distance(spacing, off, 2 * radius + 12)
        rough = ndimage.gaussian_filter(rng.normal(size=far.shape), 1.0)
        edge = radius + outward + rng.normal(0, sd) + ROUGHNESS_MM * rough / rough.std()
        p = special.ndtr((edge - far) / ramp)
        found.append(ndimage.shift((p >= 0.5).astype(float), fall, order=0) if given else p)
    return median_mm(*found, spacing, (given, given), (sd, sd))


@pytest.fixture(scope="module")
def repeated():
    """(slice thickness, mm moved, interval) of every trial."""
    rng, found = np.random.default_rng(2026), []
    for k in range(TRIALS):
        spacing, given, moved = (ISO, THICK)[k % 2], (k // 2) % 2 == 0, (0.0, 0.5, 2.0)[(k // 4) % 3]
        interval = scanned_twice(spacing, given, moved, rng)
        if interval is not None:
            found.append((spacing[2], moved, interval))
    return found


def test_the_interval_covers_how_far_the_front_moved(repeated):
    def covered(trials):
        return np.mean([i.low <= moved <= i.high for _, moved, i in trials])

    assert len(repeated) >= 400
    assert 0.93 <= covered(repeated) <= 0.97
    for thickness in (1.0, 6.5):
        assert 0.92 <= covered([r for r in repeated if r[0] == thickness]) <= 0.99
    for moved in (0.0, 0.5, 2.0):
        assert 0.91 <= covered([r for r in repeated if r[1] == moved]) <= 0.99


def test_the_median_is_not_biased(repeated):
    for thickness, limit in ((1.0, 0.15), (6.5, 0.2)):
        errors = [i.value - moved for t, moved, i in repeated if t == thickness]
        assert abs(np.mean(errors)) <= limit  # standard error of this mean: 0.06 mm
