"""What is known of a simulated patient is right: ids and events on hand-made masks, front speed on spheres, surgery."""

import numpy as np
import pytest
import torch

from napari_convlstm_tumor.measure.lesions import track
from napari_convlstm_tumor.training.scene import Scene
from napari_convlstm_tumor.training.surgery import Operation, operate
from napari_convlstm_tumor.training.truth import follow, front_speeds, without_specks
from napari_convlstm_tumor.volume import Grid

SHAPE = (48, 32, 32)


def radius_from(centre, shape=SHAPE):
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))


def balls(*given):
    """A mask of balls ((i, radius), ...) on the line j = k = 16."""
    mask = np.zeros(SHAPE, bool)
    for i, radius in given:
        mask |= radius_from((i, 16, 16)) < radius
    return mask


CASES = {
    "grows": ([[(15, 5)], [(15, 8)]], []),
    "new": ([[(12, 5)], [(12, 5), (36, 4)]], [(2, "new", (2,))]),
    "vanishes": ([[(12, 5), (36, 4)], [(12, 5)]], [(2, "vanished", (2,))]),
    "comes back": ([[(12, 5)], [], [(12, 3)]], [(2, "vanished", (1,)), (3, "reappeared", (1,))]),
    "comes back beside its place": ([[(12, 5)], [], [(20, 3)]], [(2, "vanished", (1,)), (3, "reappeared", (1,))]),
    "comes elsewhere": ([[(12, 5)], [], [(36, 3)]], [(2, "vanished", (1,)), (3, "new", (2,))]),
    "larger goes on": ([[(14, 5), (30, 7)], [(14, 9), (30, 10)]], [(2, "merged", (1, 2))]),
    "an id is not used again": (
        [[(14, 5), (26, 7)], [(20, 13)], [(20, 13), (42, 4)]],
        [(2, "merged", (1, 2)), (3, "new", (3,))],
    ),
    "splits": ([[(16, 8), (28, 8)], [(14, 4), (30, 4)]], [(2, "split", (1,))]),
    "splits, one piece goes": (
        [[(16, 8), (28, 8)], [(14, 4), (30, 4)], [(14, 4)]],
        [(2, "split", (1,))],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_lesions_are_followed_and_events_told(name):
    visits, expected = CASES[name]
    labels, events = follow(np.stack([balls(*v) for v in visits]))
    assert [(e.visit, e.kind, e.lesions) for e in events] == expected
    for mask, label in zip(visits, labels, strict=True):
        assert np.array_equal(label > 0, balls(*mask))


def test_the_larger_lesion_is_number_one_and_its_id_goes_on_after_a_merge():
    labels, _ = follow(np.stack([balls((14, 5), (30, 7)), balls((14, 9), (30, 10))]))
    assert labels[0][30, 16, 16] == 1 and labels[0][14, 16, 16] == 2
    assert set(np.unique(labels[1])) == {0, 1}


@pytest.mark.parametrize("name", ["new", "vanishes", "larger goes on", "an id is not used again", "splits"])
def test_the_tracker_of_measure_says_the_same(name):
    masks = np.stack([balls(*v) for v in CASES[name][0]])
    labels, events = follow(masks)
    found = track(masks, Grid(SHAPE, np.eye(4)), [1.0] * len(masks))
    assert [(e.visit, e.kind, e.lesions) for e in events] == [(e.visit, e.kind, e.lesions) for e in found.events]
    assert np.array_equal(labels, found.labels)


def test_no_tumor_at_all_has_no_lesions():
    labels, events = follow(np.zeros((2, *SHAPE), bool))
    assert not labels.any() and events == ()


def test_specks_are_no_truth():
    mask = balls((12, 5))
    kept = mask.copy()
    mask[40, 16, 10:13] = True
    assert np.array_equal(without_specks(mask, 1.0), kept)


@pytest.mark.parametrize(("speed", "spacing"), [(2.0, 1.0), (-1.5, 1.0), (0.0, 1.0), (2.0, 1.5)])
def test_the_front_of_a_sphere_moves_at_its_speed(speed, spacing):
    """Also where the level is steeper than one per millimetre, as in grey matter."""
    days = (0, 61)
    radius = torch.from_numpy(radius_from((24, 16, 16)).astype(np.float32)) * spacing
    moved = speed * 61 / 30.44
    levels = torch.stack([(radius - 10) * 2.5, (radius - 10 - moved) * 2.5])
    speeds = front_speeds(levels, days, (spacing,) * 3)
    assert torch.isnan(speeds[0]).all()
    front = (levels[1].abs() < 2.5) & torch.isfinite(speeds[1])
    assert speeds[1][front].mean() == pytest.approx(speed, abs=0.03)
    far = radius > 10 + max(moved, 0) + 8
    assert torch.isnan(speeds[1][far]).all()


def test_speed_is_unknown_where_there_was_no_tumor_before():
    radius = torch.from_numpy(radius_from((24, 16, 16)).astype(np.float32))
    speeds = front_speeds(torch.stack([radius + 3, radius - 6]), (0, 30), (1.0, 1.0, 1.0))
    assert torch.isnan(speeds).all()


def scene():
    arrival = torch.from_numpy(radius_from((24, 16, 16)).astype(np.float32))[None]
    return Scene(arrival, None, None, {}, (1.0, 1.0, 1.0))


def test_a_complete_operation_leaves_a_cavity_and_no_tumor_then_regrowth_at_its_wall():
    levels = torch.stack([scene().arrival[0] - r for r in (8, 9, 10, 11)])
    operation = Operation(visit=2, margin_mm=2.0, left=0.0, regrowth=2.0)
    after, cavities = operate(levels, (0, 60, 120, 220), scene(), operation, np.random.default_rng(1))
    assert torch.equal(after[:2], levels[:2])
    assert cavities[:2] == [None, None]
    assert not (after[2] < 0).any()
    assert (cavities[2].level < 0).sum() > (levels[1] < 0).sum()
    assert (after[3] < 0).any()
    assert not ((after[3] < 0) & (cavities[3].level < 0)).any()
    assert [c.days for c in cavities[2:]] == [60, 160]


def test_a_partial_operation_leaves_about_the_share_asked_for():
    levels = torch.stack([scene().arrival[0] - 12] * 2)
    operation = Operation(visit=1, margin_mm=1.0, left=0.25, regrowth=0.0)
    after, _ = operate(levels, (0, 60), scene(), operation, np.random.default_rng(2))
    share = (after[1] < 0).sum() / (levels[0] < 0).sum()
    assert 0.15 < share < 0.35
