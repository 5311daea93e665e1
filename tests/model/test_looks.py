"""Looks: the working grid follows the size of the lesion, and leads back to where it came from."""

import numpy as np
import pytest

from napari_convlstm_tumor.model import looks
from napari_convlstm_tumor.model.drawing import along
from napari_convlstm_tumor.series import AlignedSeries, Look, Registration
from napari_convlstm_tumor.volume import Grid


def grid_of(shape, spacing):
    return Grid(shape, np.diag([*spacing, 1.0]))


def aligned_of(image, grid):
    """One visit of one image."""
    return AlignedSeries(
        patient="p",
        data=image[None, None].astype(np.float32),
        present=np.ones((1, 1), bool),
        inside=np.ones((1, *grid.shape), bool),
        modalities=("t1c",),
        days=(0,),
        dated=True,
        grid=grid,
        centre=np.zeros((1, 1), np.float32),
        scale=np.ones((1, 1), np.float32),
        masks=(None,),
        registrations=(Registration(np.eye(4), 1.0, True),),
        native_grids=(grid,),
    )


@pytest.mark.parametrize(
    ("extent", "spacing", "expected", "reason"),
    [
        (28.0, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), "28 voxels of 1 mm"),
        (84.0, (1.5, 1.5, 3.3), (3.0, 3.0, 3.3), "the thick axis is thick enough"),
        (300.0, (1.0, 1.0, 1.0), (5.0, 5.0, 5.0), "never coarser than the coarsest"),
        (6.0, (0.5, 0.5, 5.0), (1.0, 1.0, 5.0), "nor finer than the finest"),
        (6.0, (1.5, 1.5, 1.5), (0.75, 0.75, 0.75), "a few voxels are too little"),
        (14.0, (1.5, 1.5, 1.5), (1.5, 1.5, 1.5), "small, but of enough voxels"),
        (6.0, (1.9, 1.9, 1.9), (0.95, 0.95, 0.95), "no finer than half of the grid's"),
        (6.0, (1.5, 1.5, 4.0), (0.75, 0.75, 4.0), "what lies between thick slices is not known"),
        (6.0, (0.9, 0.9, 6.5), (0.9, 0.9, 6.5), "not worth averaging"),
    ],
)
def test_voxels_suit_the_lesion(extent, spacing, expected, reason):
    grid = grid_of((200, 200, 60), spacing)
    middle = np.array(grid.shape) * spacing / 2
    look = looks.look_at(grid, middle - 5, middle + 5, extent)
    assert looks.look_grid(look, grid).spacing_mm == pytest.approx(expected, rel=0.06), reason


def test_a_look_that_may_not_be_finer_keeps_the_grids_own_voxels():
    grid = grid_of((100, 100, 60), (1.5, 1.5, 3.0))
    middle = np.array(grid.shape) * grid.spacing_mm / 2
    finer = looks.look_at(grid, middle - 3, middle + 3, 6.0)
    own = looks.look_at(grid, middle - 3, middle + 3, 6.0, finer=False)
    assert looks.look_grid(own, grid).spacing_mm == pytest.approx(grid.spacing_mm)
    assert looks.own_voxels(own) is None
    same_place = looks.own_voxels(finer)
    assert same_place.box == finer.box and looks.look_grid(same_place, grid).spacing_mm == pytest.approx((1.5, 1.5, 3))
    coarse = looks.look_at(grid, middle - 40, middle + 40, 84.0)
    assert looks.own_voxels(coarse) is None  # averaged, so that its voxels suit the lesion


@pytest.mark.parametrize("sizes", [(80, 60, 30), (52, 54, 36), (26, 90, 36)])
def test_a_ball_keeps_its_place_on_finer_voxels(sizes):
    grid = grid_of((60, 66, 40), (1.5, 1.5, 3.0))
    axes = np.ogrid[:60, :66, :40]
    ball = sum(((x - c) * s) ** 2 for x, c, s in zip(axes, (28, 35, 18), (1.5, 1.5, 3.0), strict=True)) < 15**2
    look = Look((slice(4, 56), slice(9, 63), slice(2, 38)), sizes)
    small = looks.look_grid(look, grid)
    middle = small.to_mm(np.argwhere(looks.shrink_mask(ball, look)).mean(axis=0))
    assert middle == pytest.approx(grid.to_mm([28, 35, 18]), abs=0.4)
    back = looks.grow(looks.shrink(ball, look), look, grid) >= 0.5
    assert 2 * (back & ball).sum() / (back.sum() + ball.sum()) > 0.94


def test_a_part_with_as_many_voxels_as_the_grid_is_not_taken_for_the_grid():
    grid = grid_of((40, 40, 40), (1.5, 1.5, 1.5))
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None], grid.shape)
    aligned = aligned_of(ramp, grid)
    look = Look((slice(10, 30),) * 3, grid.shape)
    seen = looks.seen_through(look, aligned)
    assert seen.grid.spacing_mm == pytest.approx((0.75,) * 3)
    assert seen.data[0, 0, :, 0, 0] == pytest.approx(np.clip((np.arange(40) + 0.5) / 2 - 0.5 + 10, 10, 29))
    assert looks.seen_through(Look((slice(0, 40),) * 3, grid.shape), aligned) is aligned


def test_a_ball_keeps_its_place_and_size_there_and_back():
    grid = grid_of((60, 66, 40), (1.5, 1.5, 3.0))
    axes = np.ogrid[:60, :66, :40]
    ball = sum(((x - c) * s) ** 2 for x, c, s in zip(axes, (28, 35, 18), (1.5, 1.5, 3.0), strict=True)) < 25**2
    look = Look((slice(4, 56), slice(9, 63), slice(2, 38)), (26, 27, 36))
    small = looks.look_grid(look, grid)
    inside = np.argwhere(looks.shrink_mask(ball, look))
    middle = small.to_mm(inside.mean(axis=0))
    assert middle == pytest.approx(grid.to_mm([28, 35, 18]), abs=0.3)
    back = looks.grow(looks.shrink(ball, look), look, grid) >= 0.5
    assert 2 * (back & ball).sum() / (back.sum() + ball.sum()) > 0.96
    assert not looks.grow(np.ones(look.shape, np.float32), look, grid)[:4].any()


def test_a_thin_mask_is_not_lost():
    grid = grid_of((40, 40, 20), (1.0, 1.0, 1.0))
    thin = np.zeros(grid.shape, bool)
    thin[20, 5:35, 10] = True
    look = Look((slice(0, 40), slice(0, 40), slice(0, 20)), (10, 10, 5))
    assert looks.shrink_mask(thin, look).any()


def found_in(look, low, high):
    mask = np.zeros((2, *look.shape), bool)
    mask[0][tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


@pytest.mark.parametrize(
    ("low", "high", "better", "reason"),
    [
        ((20, 20, 20), (46, 46, 46), None, "26 voxels: as it should be"),
        ((30, 30, 30), (34, 34, 34), "finer", "4 voxels of 3 mm"),
        ((5, 5, 5), (62, 62, 62), "coarser", "57 voxels"),
    ],
)
def test_the_next_look_suits_what_was_found(low, high, better, reason):
    grid = grid_of((204, 204, 204), (1.0, 1.0, 1.0))
    look = looks.first_look(grid)
    assert look.shape == (68, 68, 68)
    answer = looks.next_look(look, grid, found_in(look, low, high), [])
    if better is None:
        assert answer is None, reason
        return
    step = looks.look_grid(answer, grid).spacing_mm[0]
    assert (step < 2.9) == (better == "finer"), reason
    if better == "finer":  # the lesion of 90..102 mm lies within the look
        assert all(b.start < 90 and b.stop > 102 for b in answer.box)


def test_a_lesion_that_runs_out_of_the_look_is_looked_at_again():
    grid = grid_of((200, 200, 200), (1.0, 1.0, 1.0))
    look = looks.look_at(grid, np.full(3, 80.0), np.full(3, 110.0), 28.0)
    whole = found_in(look, (0, 20, 20), (30, 45, 45))
    wider = looks.next_look(look, grid, whole, [])
    assert wider.box[0].start < look.box[0].start
    assert looks.next_look(look, grid, found_in(look, (16, 16, 16), (42, 42, 42)), []) is None


def test_without_a_prompt_everything_is_looked_at_finely_and_coarsely():
    grid = grid_of((200, 200, 200), (1.0, 1.0, 1.0))
    fine, coarse = looks.search_looks(grid)
    assert looks.look_grid(fine, grid).spacing_mm == pytest.approx((2.2, 2.2, 2.2), abs=0.01)
    assert coarse == looks.first_look(grid)
    thick = grid_of((40, 40, 20), (3.0, 3.0, 6.0))
    assert looks.search_looks(thick) == [looks.first_look(thick)]  # no finer one than the voxels themselves


def test_where_a_click_shows_nothing_it_is_looked_at_closely():
    grid = grid_of((200, 200, 200), (1.0, 1.0, 1.0))
    look = looks.first_look(grid)
    nothing = np.zeros((1, *look.shape), bool)
    assert looks.next_look(look, grid, nothing, []) is None
    close = looks.next_look(look, grid, nothing, [np.array([50.0, 60.0, 70.0])])
    assert looks.look_grid(close, grid).spacing_mm == pytest.approx((1, 1, 1))
    assert all(b.start < c < b.stop for b, c in zip(close.box, (50, 60, 70), strict=True))


def test_a_click_where_nothing_was_found_is_looked_at_beside_what_was():
    grid = grid_of((200, 200, 200), (1.0, 1.0, 1.0))
    look = looks.first_look(grid)
    found = found_in(look, (10, 10, 10), (14, 14, 14))
    assert looks.next_look(look, grid, found, []).box[0].stop < 70
    far = looks.next_look(look, grid, found, [np.array([36.0, 36, 36]), np.array([90.0, 40, 40])])
    assert far.box[0].start < 30 and far.box[0].stop > 90


def test_a_scribble_is_drawn_without_gaps():
    points = along(np.array([[0.0, 0, 0], [10, 0, 0], [10, 0, 3]]))
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).max() <= 4.0
    assert points[0].tolist() == [0, 0, 0] and points[-1].tolist() == [10, 0, 3]
