"""Each measure against an answer known by hand."""

import math

import numpy as np
import pytest
from scipy import ndimage

from napari_convlstm_tumor.measure.distance import signed_distance_mm
from napari_convlstm_tumor.measure.growth import front_speed
from napari_convlstm_tumor.training import scores

SHAPE = (24, 24, 24)


def ball(radius, centre=(12, 12, 12)):
    squared = sum((x - c) ** 2 for x, c in zip(np.ogrid[tuple(slice(n) for n in SHAPE)], centre, strict=True))
    return squared <= radius**2


EMPTY = np.zeros(SHAPE, bool)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(EMPTY, EMPTY, 1.0), (ball(4), EMPTY, 0.0), (ball(4), ball(4), 1.0), (ball(3), ball(3, (20, 12, 12)), 0.0)],
)
def test_dice(a, b, expected):
    assert scores.dice(a, b) == expected


def by_hand(guess, truth, spacing):
    """The slow way: all distances between the voxels of both surfaces."""
    surfaces = [np.argwhere(m & ~ndimage.binary_erosion(m)) * np.array(spacing) for m in (guess, truth)]
    distances = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=-1)
    return max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 2.0), (0.9, 0.9, 6.5)])
@pytest.mark.parametrize("guess", [np.roll(ball(5), 3, axis=2), ball(7), ball(3) | ball(2, (4, 4, 12))])
def test_hausdorff_agrees_with_the_slow_way(guess, spacing):
    expected = by_hand(guess, ball(5), spacing)
    assert scores.hausdorff95_mm(guess, ball(5), spacing) == pytest.approx(expected, rel=1e-5)


def test_hausdorff_of_nothing():
    assert scores.hausdorff95_mm(ball(5), ball(5), (1, 1, 2.0)) == 0
    assert scores.hausdorff95_mm(EMPTY, ball(5), (1, 1, 1)) == math.inf
    assert scores.hausdorff95_mm(ball(5), EMPTY, (1, 1, 1)) == math.inf
    assert math.isnan(scores.hausdorff95_mm(EMPTY, EMPTY, (1, 1, 1)))


def test_hausdorff_ignores_a_few_far_voxels_but_not_many():
    guess = ball(5)
    guess[0, 0, 0] = True
    assert scores.hausdorff95_mm(guess, ball(5), (1, 1, 1)) < 1
    guess[:4, :4, :4] = True
    assert scores.hausdorff95_mm(guess, ball(5), (1, 1, 1)) > 8


def test_volume_and_its_change():
    two, one = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    two[:2, :10], one[:1, :10] = True, True
    assert scores.log_volume_ratio(two, one) == pytest.approx(math.log(2))
    assert scores.log_volume_ratio(EMPTY, one) == -math.inf
    assert math.isnan(scores.log_volume_ratio(one, EMPTY))
    assert scores.change_error([one, two], [one, one]) == pytest.approx(math.log(2))
    assert scores.change_error([two, two], [one, one]) == pytest.approx(0)  # twice too large at both: no change
    assert scores.change_error([one, EMPTY], [one, one]) == math.inf
    assert math.isnan(scores.change_error([one, one], [one, EMPTY]))


def test_an_unchanged_tumor_has_no_spread():
    assert scores.volume_spread([ball(4)] * 3) == 0
    assert scores.neighbour_dice([ball(4)] * 3) == 1
    assert scores.volume_spread([ball(4), EMPTY, ball(4)]) == math.inf
    assert scores.neighbour_dice([EMPTY, EMPTY]) == 0  # nothing found twice is no agreement about a tumor
    counts = [np.count_nonzero(ball(4)), np.count_nonzero(ball(6))]
    assert scores.volume_spread([ball(4), ball(6)]) == pytest.approx(np.log(counts).std(ddof=1))


def test_average_precision_of_a_ranking():
    first, last = ball(4), ball(7)
    phi = signed_distance_mm(first, (1, 1, 1))
    assert scores.average_precision(phi, first, last) == pytest.approx(1, abs=0.02)
    worst = scores.average_precision(-phi, first, last)
    share = (last & ~first).sum() / (~first).sum()
    assert worst < share
    constant = scores.average_precision(np.zeros(SHAPE), first, last)
    assert constant == pytest.approx(share)  # ties count together: no ranking is chance
    assert math.isnan(scores.average_precision(phi, last, first))


def test_average_precision_by_hand():
    first, last = np.zeros((1, 1, 40), bool), np.zeros((1, 1, 40), bool)
    last[..., :10], last[..., 20:30] = True, True
    order = np.arange(40)[None, None]
    precisions = [1.0] * 10 + [(10 + n) / (20 + n) for n in range(1, 11)]
    assert scores.average_precision(order, first, last) == pytest.approx(np.mean(precisions))
    valid = order < 20
    assert math.isnan(scores.average_precision(order, first, last, valid))  # 10 grown voxels rank nothing


def test_a_faster_front_arrives_first_and_one_that_stands_still_last():
    phi = np.array([2.0, 2.0, 4.0, 1.0, 3.0], np.float32)
    speed = np.array([1.0, 2.0, 4.0, 0.0, -1.0], np.float32)
    months = scores.arrival_months(phi, speed)
    assert months[:3] == pytest.approx([2, 1, 1])
    assert months[3] < months[4] and months[3] > 1000


def test_speed_error_on_a_growing_ball():
    before, after = ball(4), ball(7)
    true = front_speed(before, after, (1, 1, 1), 30.44)
    assert scores.speed_error(3.0, true, before, (1, 1, 1)) < 0.4
    assert scores.speed_error(0.0, true, before, (1, 1, 1)) == pytest.approx(3, abs=0.4)
    assert math.isnan(scores.speed_error(0.0, np.full(SHAPE, np.nan, np.float32), before, (1, 1, 1)))
