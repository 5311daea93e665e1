"""Places: prompts that mean lesions apart, how far these reach, and the answers of several put together."""

import numpy as np
import pytest

from napari_convlstm_tumor.model import looks
from napari_convlstm_tumor.model.answer import Answer, mean_of, together
from napari_convlstm_tumor.model.cautions import Doubts
from napari_convlstm_tumor.model.places import apart, points_of, within_reach
from napari_convlstm_tumor.series import Look, Prompt
from napari_convlstm_tumor.volume import Grid, Volume

GRID = Grid((120, 100, 80), np.diag([1.5, 1.5, 1.5, 1.0]))
WHOLE = Look(tuple(slice(0, n) for n in GRID.shape), GRID.shape)


def click(visit, *mm):
    return Prompt(visit, "point", np.array(mm, float))


def box(visit, low, high):
    return Prompt(visit, "box", np.array([low, high], float))


A, NEAR_A, B = click(1, 30, 30, 30), click(2, 45, 30, 30), click(2, 120, 90, 60)
MASK = Prompt(1, "mask", mask=Volume(np.ones(GRID.shape, np.uint8), GRID))


@pytest.mark.parametrize(
    ("prompts", "expected", "reason"),
    [
        ((A,), [[0]], "one click"),
        ((A, NEAR_A), [[0, 1]], "15 mm apart at another visit"),
        ((A, B), [[0], [1]], "far apart"),
        ((A, click(1, 55, 30, 30), click(1, 80, 30, 30)), [[0, 1, 2]], "each near to the next"),
        ((A, B, NEAR_A), [[0, 2], [1]], "in the order in which they were given"),
        ((A, MASK, B), [[0, 1, 2]], "a mask shows all that is meant"),
        ((box(1, (20, 20, 20), (110, 75, 60)), B), [[0, 1]], "near to the side of a box"),
        ((box(1, (20, 20, 20), (60, 60, 60)), B), [[0], [1]], "a box and a click far from it"),
    ],
)
def test_prompts_far_from_each_other_mean_lesions_apart(prompts, expected, reason):
    groups = apart(prompts, None, WHOLE, GRID)
    assert groups == [tuple(prompts[n] for n in group) for group in expected], reason


def test_clicks_in_one_large_tumor_stay_together_however_far_apart():
    found = np.zeros((2, *GRID.shape), bool)
    found[0, 15:60, 15:30, 15:30] = found[1, 55:85, 15:65, 15:45] = True
    assert apart((A, B), found, WHOLE, GRID) == [(A, B)]
    found[0] = False
    assert apart((A, B), found, WHOLE, GRID) == [(A,), (B,)]


def test_points_are_clicks_and_the_corners_of_scribbles():
    line = Prompt(3, "scribble", np.array([[15.0, 0, 0], [30, 0, 0]]))
    points = points_of((A, line, box(1, (0, 0, 0), (9, 9, 9)), MASK), GRID)
    assert [visit for visit, _ in points] == [0, 2, 2]
    assert points[1][1] == pytest.approx((15.75, 0.75, 0.75))


def blocks(*places, visits=2):
    """(T, I, J, K) with cubes of 10 voxels: (visit, middle voxel)."""
    found = np.zeros((visits, *GRID.shape), bool)
    for visit, middle in places:
        found[visit][tuple(slice(n - 5, n + 5) for n in middle)] = True
    return found


NO_DOUBTS = Doubts()
HERE, THERE, LEAK = (20, 20, 20), (80, 60, 40), (20, 80, 60)


@pytest.mark.parametrize(
    ("found", "prompts", "expected", "reason"),
    [
        (blocks((0, HERE), (1, HERE), (1, LEAK)), (A,), blocks((0, HERE), (1, HERE)), "a leak is too far away"),
        (blocks((0, HERE), (1, THERE)), (A, B), blocks((0, HERE), (1, THERE)), "clicked itself, at a later visit"),
        (blocks((0, HERE), (1, THERE), (1, LEAK)), (A, B), blocks((0, HERE), (1, THERE)), "and still no leak"),
        (blocks((0, THERE), (1, HERE)), (A,), blocks((1, HERE)), "nothing at the click, but later"),
        (blocks((0, THERE), (1, LEAK)), (A,), blocks(), "nothing of what was clicked"),
        (blocks((0, HERE), (1, HERE), (1, LEAK)), (), blocks((0, HERE), (1, HERE)), "a mask: all of its visit"),
    ],
)
@pytest.mark.parametrize("close", [False, True])
def test_what_is_out_of_reach_is_no_reason_to_look_there(found, prompts, expected, reason, close):
    points = points_of(prompts, GRID)
    look = WHOLE if not close else Look((slice(4, 120), slice(6, 100), slice(8, 80)), (116, 94, 72))
    part = (slice(None), *look.box)
    assert np.array_equal(within_reach(found[part], 0, points, look, GRID), expected[part]), reason


def answer_of(voxels, doubts=NO_DOUBTS, outlined=True):
    probability = np.zeros((1, 10, 10, 10), np.float32)
    probability[0, :voxels] = 0.8
    features = np.full((1, 1, 1, 1), voxels, np.float16)
    return Answer(probability, features, looks.first_look(GRID), voxels, doubts, probability / 2 if outlined else None)


@pytest.mark.parametrize("larger_first", [False, True])
def test_lesions_looked_at_one_by_one_are_put_together(larger_first):
    small, large = answer_of(2, Doubts(lost=(1, 2))), answer_of(5, Doubts(lost=(0, 2), joined=(3,)))
    small.probability[0, 9] = 0.6
    both = together(*((large, small) if larger_first else (small, large)))
    assert both.probability[0, :, 0, 0] == pytest.approx([0.8] * 5 + [0] * 4 + [0.6])
    assert both.outlined[0, :, 0, 0] == pytest.approx([0.4] * 5 + [0] * 5)
    assert both.features is large.features
    assert both.doubts == Doubts(lost=(0, 1, 2), joined=(3,))
    assert together(answer_of(2, outlined=False), answer_of(5, outlined=False)).outlined is None


def test_a_small_lesion_is_the_mean_of_two_looks():
    finer, own = answer_of(2), answer_of(5)
    mean = mean_of(finer, own)
    assert mean.probability[0, :, 0, 0] == pytest.approx([0.8] * 2 + [0.4] * 3 + [0] * 5)
    assert mean.outlined[0, :, 0, 0] == pytest.approx([0.4] * 2 + [0.2] * 3 + [0] * 5)
    assert mean.features is finer.features
    assert mean.probability.dtype == np.float32
    assert mean_of(answer_of(2, outlined=False), own).outlined is None
