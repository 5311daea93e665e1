"""Lesions over visits: simulated patients whose every event is known, corrections by hand, and what is refused."""

import itertools
import re
from collections import namedtuple

import numpy as np
import pytest
from scipy import ndimage

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure import matching
from napari_convlstm_tumor.measure.components import find_components
from napari_convlstm_tumor.measure.lesions import track
from napari_convlstm_tumor.volume import Grid

FINE, THICK = (1.0, 1.0, 1.0), (0.9, 0.9, 6.5)
BOTH = pytest.mark.parametrize("spacing", [FINE, THICK], ids=["1 mm", "6.5 mm slices"])
CORNERS = np.ones((3, 3, 3))
BOX_MM = np.array((110.0, 110.0, 110.0))
Link = namedtuple("Link", "visit ras_mm lesion same", defaults=(True,))


def grid_of(spacing, box_mm=BOX_MM):
    return Grid(tuple(int(n) for n in np.ceil(box_mm / spacing)), np.diag((*spacing, 1)))


# ---- painting ----


def paint(mask, capsules, grid, shift=(0, 0, 0)):
    """Add the voxels whose centre lies within r of a segment from a to b: capsules [(a, b, r)] in mm."""
    for a, b, r in capsules:
        a, b = np.array(a, float) + shift, np.array(b, float) + shift
        low = np.floor(grid.to_index(np.minimum(a, b) - r)).astype(int).clip(0)
        high = np.minimum(np.ceil(grid.to_index(np.maximum(a, b) + r)).astype(int) + 1, grid.shape)
        if np.any(low >= high):
            continue
        box = tuple(slice(x, y) for x, y in zip(low, high, strict=True))
        points = grid.to_mm(np.stack(np.mgrid[box], axis=-1))
        along = b - a
        t = np.clip((points - a) @ along / max(along @ along, 1e-9), 0, 1)
        mask[box] |= np.linalg.norm(points - a - t[..., None] * along, axis=-1) <= r
    return mask


def ball(centre, r):
    return [(centre, centre, r)]


def stack(visits, grid, shifts=None):
    """Masks (T, I, J, K) of visits, each a list of capsules."""
    shifts = np.zeros((len(visits), 3)) if shifts is None else shifts
    return np.stack([paint(np.zeros(grid.shape, bool), v, grid, s) for v, s in zip(visits, shifts, strict=True)])


def told(tracking):
    return [(e.visit, e.kind, e.lesions) for e in tracking.events]


def followed(visits, spacing=FINE, shifts=None, **more):
    grid = grid_of(spacing)
    return track(stack(visits, grid, shifts), grid, (1.0,) * len(visits), **more)


# ---- random patients ----

# A site of a patient: parts[t] is {name: capsules} of what is a component of its own at visit t, named after the lesion
# it must be; events are (visit, kind, names).
Site = namedtuple("Site", "parts events")
SITE_MM = 38.0  # between the centres of two sites: the parts of two of them never meet
KINDS = ("persistent", "new", "vanished", "reappeared", "split", "merged", "satellite", "neighbours", "passing")


def direction(rng, thick):
    d = rng.normal(size=3) * (1, 1, 0 if thick else 1)
    return d / np.linalg.norm(d)


def random_site(rng, kind, centre, count, thick, growth):
    """One site. Thick slices need larger lesions: a smaller one may fall between two slices."""
    smallest = 4.5 if thick else 2.5
    r = rng.uniform(smallest + 1, smallest + 4)
    radii = r * np.cumprod(np.concatenate(([1], rng.uniform(*growth, count - 1))))
    v = int(rng.integers(1, count - 1)) if kind in ("reappeared", "passing") else int(rng.integers(1, count))
    whole = [{"a": ball(centre + rng.normal(size=3) * 0.3, radius)} for radius in radii]
    if kind == "persistent":
        return Site(whole, [])
    if kind == "new":
        return Site([p if t >= v else {} for t, p in enumerate(whole)], [(v + 1, "new", "a")])
    if kind == "vanished":
        return Site([p if t < v else {} for t, p in enumerate(whole)], [(v + 1, "vanished", "a")])
    if kind == "passing":
        return Site([p if t == v else {} for t, p in enumerate(whole)], [(v + 1, "new", "a"), (v + 2, "vanished", "a")])
    if kind == "reappeared":
        return Site(
            [p if t != v else {} for t, p in enumerate(whole)], [(v + 1, "vanished", "a"), (v + 2, "reappeared", "a")]
        )
    small = rng.uniform(smallest, smallest + 0.7)
    gap = rng.uniform(3.5, 6)
    far = centre + direction(rng, thick) * (r + small + gap)
    if kind in ("satellite", "neighbours"):
        born = v if kind == "satellite" else 0
        parts = [{"a": ball(centre, r), **({"b": ball(far, small)} if t >= born else {})} for t in range(count)]
        return Site(parts, [(v + 1, "new", "b")] if kind == "satellite" else [])
    joined = ball(centre, r) + ball(far, small) + [(centre, far, 0.8 * small)]
    apart = {"a": ball(centre, r), "b": ball(far, small)}
    if kind == "merged":
        return Site([apart if t < v else {"a": joined} for t in range(count)], [(v + 1, "merged", "ab")])
    pieces = {"a": apart["a"], "a'": apart["b"]}
    return Site([{"a": joined} if t < v else pieces for t in range(count)], [(v + 1, "split", "a")])


def visible(site, grid, shifts):
    """True when every part is one component at its visit and parts keep apart: slices may hide or join them."""
    for parts, shift in zip(site.parts, shifts, strict=True):
        alone = [paint(np.zeros(grid.shape, bool), p, grid, shift) for p in parts.values()]
        together = np.any([np.zeros(grid.shape, bool), *alone], axis=0)
        box = (ndimage.find_objects(together.astype(np.uint8)) or [...])[0]
        pieces = [ndimage.label(m[box], CORNERS)[1] for m in (*alone, together)]
        if pieces != [1] * len(alone) + [len(alone)]:
            return False
    return True


def random_patient(seed, spacing, shift_mm=2.0, sites=5, growth=(0.92, 1.1)):
    """(masks, truth, events, grid): truth[t] is [(name, voxels)], a name being (site, letter).

    Every visit lies up to shift_mm off, in any direction. growth: of the radius from visit to visit.
    """
    rng = np.random.default_rng(seed)
    thick, grid = spacing == THICK, grid_of(spacing)
    count = int(rng.integers(3, 6))
    shifts = np.array([direction(rng, False) * rng.uniform(0, shift_mm) for _ in range(count)])
    chosen, centres = [], []
    for centre in rng.uniform(26, BOX_MM - 26, (200, 3)):
        if len(chosen) == sites:
            break
        if any(np.linalg.norm(centre - c) < SITE_MM for c in centres):
            continue
        site = random_site(rng, KINDS[int(rng.integers(len(KINDS)))], centre, count, thick, growth)
        if visible(site, grid, shifts):
            chosen.append(site)
            centres.append(centre)
    truth = [
        [
            ((n, letter), paint(np.zeros(grid.shape, bool), part, grid, shift))
            for n, site in enumerate(chosen)
            for letter, part in ((name[0], part) for name, part in site.parts[t].items())
        ]
        for t, shift in enumerate(shifts)
    ]
    masks = np.stack([np.any([np.zeros(grid.shape, bool), *[m for _, m in visit]], axis=0) for visit in truth])
    events = {(v, kind, frozenset((n, x) for x in who)) for n, s in enumerate(chosen) for v, kind, who in s.events}
    return masks, truth, events, grid


def check_patient(masks, truth, expected, grid):
    tracking = track(masks, grid, (1.0,) * len(masks))
    names = {}
    for t, visit in enumerate(truth):
        for name, voxels in visit:
            found = np.unique(tracking.labels[t][voxels])
            assert len(found) == 1, f"visit {t + 1}: {name} is lesions {found}"
            assert names.setdefault(int(found[0]), name) == name, (
                f"visit {t + 1}: lesion {found[0]} is {names} and {name}"
            )
    assert len(set(names.values())) == len(names), f"a lesion has two ids: {names}"
    found = {(e.visit, e.kind, frozenset(names[n] for n in e.lesions)) for e in tracking.events}
    assert found == expected
    assert len(tracking.events) == len(expected)


@BOTH
@pytest.mark.parametrize("seed", range(50))
def test_random_patients(spacing, seed):
    check_patient(*random_patient(seed, spacing))


@BOTH
@pytest.mark.parametrize("seed", range(10))
def test_a_swarm_of_small_lesions_is_not_mixed_up_when_two_visits_lie_4_mm_apart(spacing, seed):
    """Lesions as small as the error of registration, 2.5 mm apart: one by one, each lies on another's place."""
    rng = np.random.default_rng(seed)
    r, gap, grid = (4.5, 2.5, grid_of(spacing)) if spacing == THICK else (2.2, 2.5, grid_of(spacing))
    centres = [np.array((55.0, 55, 55))]
    while len(centres) < 7:
        c = centres[int(rng.integers(len(centres)))] + direction(rng, spacing == THICK) * (2 * r + gap)
        if min(np.linalg.norm(c - d) for d in centres) > 2 * r + gap - 1e-6:
            centres.append(c)
    shift = direction(rng, spacing == THICK) * 2
    truth = [[paint(np.zeros(grid.shape, bool), ball(c, r), grid, s) for c in centres] for s in (shift, -shift, shift)]
    tracking = track(np.any(truth, axis=1), grid, (1, 1, 1))
    ids = [[int(np.unique(tracking.labels[t][m]).item()) for m in visit] for t, visit in enumerate(truth)]
    assert ids[0] == ids[1] == ids[2] and len(set(ids[0])) == 7
    assert tracking.events == ()


@BOTH
def test_visits_turned_by_a_degree_and_a_half(spacing):
    """2 mm at 76 mm from the middle, in another direction for every lesion: no common move undoes it."""
    grid, angle = grid_of(spacing, np.array((180.0, 180, 110))), np.radians(1.5)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    centres = np.array([(20, 30, 50), (160, 40, 55), (90, 90, 50), (30, 160, 60), (150, 150, 50), (60, 60, 80)])
    turned = (centres - 90) @ turn.T + 90
    visits = [[c for p in points for c in ball(p, 4.5)] for points in (centres, turned, centres)]
    tracking = track(stack(visits, grid), grid, (1, 1, 1))
    assert len(tracking.lesions) == 6 and tracking.events == ()


# ---- one rule at a time ----

A, B, C = (30, 40, 50), (50, 40, 50), (80, 80, 50)
BRIDGE = [(A, B, 4)]


def test_ids_follow_first_appearance_then_volume_and_labels_are_the_lesions_voxels():
    visits = [ball(A, 5) + ball(C, 9), ball(A, 5) + ball(C, 9) + ball((30, 90, 90), 12)]
    tracking = followed(visits)
    grid = grid_of(FINE)
    assert [tracking.labels[1][tuple(np.array(p))] for p in (C, A, (30, 90, 90))] == [1, 2, 3]
    assert tracking.labels.dtype == np.uint16
    np.testing.assert_array_equal(tracking.labels > 0, stack(visits, grid))
    for lesion in tracking.lesions:
        counts = (tracking.labels == lesion.id).sum(axis=(1, 2, 3))
        np.testing.assert_array_equal(lesion.volumes_mm3, counts)
        np.testing.assert_array_equal(np.array(lesion.pieces) > 0, counts > 0)
    assert [x.states for x in tracking.lesions] == [("baseline", "persistent")] * 2 + [("absent", "new")]


def test_the_smaller_lesion_is_merged_into_the_larger_and_a_later_split_keeps_that_id():
    apart, joined = ball(A, 8) + ball(B, 6), ball(A, 8) + ball(B, 6) + BRIDGE
    tracking = followed([apart, joined, joined, apart])
    assert told(tracking) == [(2, "merged", (1, 2)), (4, "split", (1,))]
    assert tracking.lesions[0].states == ("baseline", "merged", "persistent", "split")
    assert tracking.lesions[1].states == ("baseline", "merged into 1", "merged into 1", "merged into 1")
    assert tracking.lesions[0].pieces == (1, 1, 1, 2)
    assert "Lesions 1 and 2 (2.1 mL and 925 mm3) are one at visit 2, called lesion 1." in tracking.events[0].reason


def test_pieces_that_join_again_are_a_merge_of_one_lesion():
    joined, apart = ball(A, 8) + ball(B, 6) + BRIDGE, ball(A, 8) + ball(B, 6)
    tracking = followed([joined, apart, joined])
    assert told(tracking) == [(2, "split", (1,)), (3, "merged", (1,))]
    assert tracking.events[1].reason.startswith("Pieces of lesion 1 (2.1 mL and 925 mm3) are one at visit 3")


def test_three_merge_at_once():
    three = ball(A, 8) + ball(B, 6) + ball((30, 60, 50), 5)
    tracking = followed([three, three + BRIDGE + [(A, (30, 60, 50), 4)]])
    assert told(tracking) == [(2, "merged", (1, 2, 3))]


@pytest.mark.parametrize(
    ("radius", "events"),
    [
        (8, [(2, "merged", (1, 2)), (2, "split", (2, 1))]),  # B is most of lesion 2: both events are told
        (5, []),  # B is little of it: two lesions that both go on and exchange less than half have no event
    ],
)
def test_a_piece_that_joins_another_lesion_leaves_the_rest_its_id(radius, events):
    """Lesion 2 (A and B) splits, and its piece B is taken up by the larger lesion 1 beside it."""
    place = (75, 40, 50)
    parts = ball(A, 6) + ball(B, radius) + ball(place, 14)
    tracking = followed([parts + BRIDGE, [*parts, (B, place, 4)]])
    assert told(tracking) == events
    assert [x.pieces for x in tracking.lesions] == [(1, 1), (1, 1)]


def test_what_reappears_after_two_visits_is_the_same_lesion():
    tracking = followed([ball(A, 5) + ball(C, 8), ball(C, 8), ball(C, 8), ball(A, 4) + ball(C, 8)])
    assert told(tracking) == [(2, "vanished", (2,)), (4, "reappeared", (2,))]
    assert tracking.lesions[1].states == ("baseline", "vanished", "vanished", "reappeared")
    assert "last seen at visit 1" in tracking.events[1].reason


def test_a_lesion_that_moved_just_off_its_place_is_not_vanished_and_new():
    tracking = followed([ball(A, 2.5) + ball(C, 9), ball((30, 46.5, 50), 2.5) + ball(C, 9)])
    assert told(tracking) == []
    assert tracking.lesions[1].confidences[1] < 0.5


def test_a_speck_is_kept_and_told_but_is_no_new_lesion():
    tracking = followed([ball(C, 8), ball(C, 8) + ball(A, 1), ball(C, 8)])
    assert told(tracking) == [(2, "speck", (2,))]
    assert tracking.lesions[1].speck and tracking.lesions[1].states == ("absent", "speck", "absent")
    assert tracking.lesions[1].volumes_mm3 == (0, 7, 0)
    assert tracking.events[0].confidence < 0.5


def test_what_a_speck_is():
    """14 mm3 and 10 voxels by default."""
    visits = [ball(C, 8), ball(C, 8) + ball(A, 1.5)]  # 19 voxels
    assert told(followed(visits)) == [(2, "new", (2,))]
    assert told(followed(visits, speck_mm3=20)) == [(2, "speck", (2,))]
    masks, grid = np.zeros((2, 20, 20, 4), bool), Grid((20, 20, 4), np.diag((*THICK, 1)))
    masks[1, :3, :3, 1] = True  # 47 mm3, 9 voxels
    assert told(track(masks, grid, (1, 1))) == [(2, "speck", (1,))]
    masks[1, 3, 0, 1] = True
    assert told(track(masks, grid, (1, 1))) == [(2, "new", (1,))]


def test_specks_of_a_visit_are_told_together():
    tracking = followed([ball(C, 8), ball(C, 8) + ball(A, 1) + ball((10, 10, 10), 1.2)])
    assert told(tracking) == [(2, "speck", (2, 3))]
    assert tracking.events[0].reason.startswith("Lesions 2 and 3 are smaller than 14 mm3 (14 mm3 in all)")


def test_a_crumb_makes_no_split_and_no_merge():
    whole, crumbled = ball(A, 8), ball(A, 4) + ball((37, 40, 50), 1)
    tracking = followed([whole, crumbled, whole])
    assert told(tracking) == []
    assert tracking.lesions[0].pieces == (1, 2, 1)
    tracking = followed([crumbled, whole])
    assert told(tracking) == [(1, "speck", (2,))]
    assert tracking.lesions[1].states == ("speck", "absent")


def test_a_crumb_is_no_new_lesion_because_the_one_beside_it_grows_over_it():
    """Two voxels beside a clicked glioblastoma were a non-target lesion of its own (GBM-05)."""
    small, crumbled, whole = ball(A, 3), ball(A, 4) + ball((37, 40, 50), 1), ball(A, 8)
    assert told(followed([small, crumbled])) == told(followed([small, crumbled, whole])) == [(2, "speck", (2,))]


def test_a_small_component_that_stays_is_no_speck():
    tracking = followed([ball(C, 8) + ball(A, 1), ball(C, 8) + ball(A, 1)])
    assert told(tracking) == [] and not tracking.lesions[1].speck


def test_what_a_visit_does_not_show_is_neither_vanished_nor_new():
    both, inside = ball(A, 5) + ball(C, 8), np.ones((3, *grid_of(FINE).shape), bool)
    inside[1, :50] = False
    tracking = followed([both, ball(C, 8), both], inside=inside)
    assert told(tracking) == [(2, "not covered", (2,)), (3, "reappeared", (2,))]
    inside = np.ones_like(inside)
    inside[0, :50] = False
    tracking = followed([ball(C, 8), both, both], inside=inside)
    assert told(tracking) == [(2, "first seen", (2,))]
    assert "whether it is new is unknown" in tracking.events[0].reason


def test_confidence_falls_with_the_registration_and_says_so():
    visits, grid = [ball(A, 8) + ball(B, 6) + BRIDGE, ball(A, 8) + ball(B, 6) + ball(C, 5)], grid_of(FINE)
    masks = stack(visits, grid)
    falling = [track(masks, grid, (1, q)).events for q in (1.0, 0.8, 0.4, 0.0)]
    for better, worse in itertools.pairwise(falling):
        assert all(w.confidence < b.confidence for b, w in zip(better, worse, strict=True))
    assert all(0 <= e.confidence <= 1 for events in falling for e in events)
    assert all("Registration quality 0.40 (visit 2)." in e.reason for e in falling[2])
    unjudged = track(masks, grid, (1, np.nan)).events
    assert all("The registration of visit 2 could not be judged." in e.reason for e in unjudged)
    assert all(e.confidence <= 0.5 for e in unjudged)


@pytest.mark.parametrize(
    ("r", "distance", "faked"),
    [
        (6, 20, False),  # a piece 6 mm in radius stays in its place
        (2, 0, True),  # one of 2 mm, half beyond the end of the old lesion, does so no more 2 mm further out
    ],
)
def test_a_split_that_registration_could_fake_says_so(r, distance, faked):
    end = (B[0], B[1], B[2]) if distance else (B[0] + 5, B[1], B[2])
    start = ball(A, 8) + ball(B, 6) + [(A, B, 5)]
    tracking = followed([start, ball(A, 8) + ball(end, r)])
    assert told(tracking) == [(2, "split", (1,))]
    assert ("A registration error of 2 mm could fake this." in tracking.events[0].reason) == faked
    assert tracking.events[0].confidence < 0.5 or not faked


def test_empty_visits_and_a_single_visit():
    tracking = followed([[], ball(A, 5), []])
    assert told(tracking) == [(2, "new", (1,)), (3, "vanished", (1,))]
    assert followed([[], []]).lesions == ()
    assert [x.states for x in followed([ball(A, 5) + ball(C, 2)]).lesions] == [("baseline",)] * 2


def test_a_tracking_uid_is_valid_and_stays_over_runs_and_later_visits():
    visits = [ball(A, 5) + ball(C, 8), ball(A, 5) + ball(C, 8), ball(A, 6)]
    uids = [x.tracking_uid for x in followed(visits).lesions]
    assert uids == [x.tracking_uid for x in followed(visits).lesions]
    assert uids == [x.tracking_uid for x in followed([*visits, ball(A, 7)]).lesions]
    assert len(set(uids)) == 2 and all(re.fullmatch(r"2\.25\.[1-9]\d{1,38}", uid) for uid in uids)
    elsewhere = [x.tracking_uid for x in followed([ball((31, 40, 50), 5)]).lesions]
    assert elsewhere[0] not in uids


# ---- corrections by hand ----

TWO = [ball(A, 8) + ball(C, 6)] * 3


def test_a_link_renames_from_its_visit_on_and_moves_no_other_number():
    visits = [ball(A, 8) + ball(C, 6), ball(A, 8) + ball((80, 50, 50), 6), ball(A, 8) + ball((80, 50, 50), 6)]
    assert told(followed(visits)) == [(2, "vanished", (2,)), (2, "new", (3,))]
    tracking = followed(visits, links=[Link(2, (80, 50, 50), 2)])
    assert told(tracking) == []
    assert [x.id for x in tracking.lesions] == [1, 2]
    assert tracking.lesions[1].states == ("baseline", "persistent", "persistent")
    assert tracking.lesions[1].confidences[1] == 1.0


def test_is_not_makes_a_new_lesion_that_later_visits_follow():
    tracking = followed(TWO, links=[Link(2, C, 2, same=False)])
    assert told(tracking) == [(2, "vanished", (2,)), (2, "new", (3,))]
    assert tracking.events[1].confidence == 1.0 and "by hand" in tracking.events[1].reason
    assert tracking.lesions[2].states == ("absent", "new", "persistent")


def test_a_link_speaks_of_the_numbers_after_the_links_before_it():
    tracking = followed(TWO, links=[Link(2, C, 2, same=False), Link(3, C, 3, same=False), Link(3, C, 2)])
    assert tracking.lesions[1].states == ("baseline", "vanished", "reappeared")
    assert tracking.lesions[2].states == ("absent", "new", "vanished")


def test_a_merged_lesion_comes_back_by_hand():
    apart, joined = ball(A, 8) + ball(B, 6), ball(A, 8) + ball(B, 6) + BRIDGE
    tracking = followed([apart, joined, apart], links=[Link(3, B, 2)])
    assert told(tracking) == [(2, "merged", (1, 2)), (3, "reappeared", (2,))]
    assert tracking.lesions[1].states == ("baseline", "merged into 1", "reappeared")


def test_the_merged_may_be_named_after_the_smaller():
    apart, joined = ball(A, 8) + ball(B, 6), ball(A, 8) + ball(B, 6) + BRIDGE
    tracking = followed([apart, joined], links=[Link(2, B, 2)])
    assert told(tracking) == [(2, "merged", (2, 1))]
    assert tracking.lesions[0].states == ("baseline", "merged into 2")


def test_fragments_of_the_first_visit_may_be_called_one_lesion():
    tracking = followed([ball(A, 8) + ball(B, 6)] * 2, links=[Link(1, B, 1)])
    assert [x.id for x in tracking.lesions] == [1] and tracking.lesions[0].pieces == (2, 2)
    assert told(tracking) == []


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([Link(4, A, 1)], "Link 1 is for visit 4; this patient has visits 1 to 3."),
        ([Link(1, (60, 60, 60), 1)], "Link 1: there is no tumor at (60.0, 60.0, 60.0) mm at visit 1."),
        ([Link(1, (-500, 60, 60), 1)], "Link 1: there is no tumor at (-500.0, 60.0, 60.0) mm at visit 1."),
        ([Link(2, A, 4)], "Link 1 speaks of lesion 4; there are lesions 1 to 2, and a new one is number 3."),
        ([Link(2, A, 3, same=False)], "Link 1 speaks of lesion 3; there are lesions 1 to 2."),
        ([Link(2, A, 2), Link(2, (31, 40, 50), 1)], "Link 2 says that a component of visit 2 is lesion 1, an earlier"),
        (
            [Link(2, A, 2), Link(2, A, 2, same=False)],
            "Link 2 says that a component of visit 2 is not lesion 2, an earl",
        ),
    ],
)
def test_links_that_cannot_be(links, message):
    with pytest.raises(InputError, match=re.escape(message)):
        followed(TWO, links=links)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": np.zeros((4, 4, 4))}, "Masks are (visits, 4, 4, 4) on this grid, got (4, 4, 4)."),
        ({"masks": np.zeros((2, 4, 4, 5))}, "Masks are (visits, 4, 4, 4) on this grid, got (2, 4, 4, 5)."),
        ({"qualities": (1,)}, "1 registration qualities for 2 visits; give one per visit."),
        ({"qualities": (1, 1.2)}, "The registration quality of visit 2 is 1.2; it is 0 to 1, or NaN."),
        ({"inside": np.ones((2, 4, 4))}, "inside has shape (2, 4, 4), the masks (2, 4, 4, 4); they are the same."),
        ({"tolerance_mm": -1}, "The tolerance is -1 mm; it is between 0 and 20 mm."),
    ],
)
def test_what_is_refused(change, message):
    given = {"masks": np.zeros((2, 4, 4, 4)), "grid": Grid((4, 4, 4), np.eye(4)), "qualities": (1, 1), **change}
    with pytest.raises(InputError, match=re.escape(message)):
        track(**given)


# ---- slow reference ----


def slow_gap(a, b, spacing):
    """Free distance between two sets of cubes, pair by pair."""
    apart = np.maximum(np.abs(a[:, None] - b[None]) - 1, 0) * spacing
    return float(np.linalg.norm(apart, axis=-1).min())


@pytest.mark.parametrize("seed", range(12))
@BOTH
def test_components_overlaps_and_gaps_are_those_of_the_brute_force_search(spacing, seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((2, 12, 11, 6)) < 0.04
    frame, (before, after) = find_components(masks, spacing, 2.0)
    reference = [ndimage.label(m, CORNERS)[0] for m in masks]
    sets = []
    for found, labels in zip((before, after), reference, strict=True):
        sets.append([frame.ijk(found.voxels(n)) for n in range(len(found))])
        slow = [np.argwhere(labels == n) for n in range(1, labels.max() + 1)]
        assert {tuple(map(tuple, s)) for s in slow} == {tuple(sorted(map(tuple, s))) for s in sets[-1]}
        assert list(found.sizes) == sorted((len(s) for s in slow), reverse=True)
    move, everything = rng.integers(-1, 2, 3), [np.arange(len(s)) for s in sets]
    shares = matching._shares(before, everything[0], after, everything[1], move, frame)
    for (a, one), (b, other) in itertools.product(enumerate(sets[0]), enumerate(sets[1])):
        common = len({tuple(v + move) for v in one} & {tuple(v) for v in other})
        assert shares.get((a, b), 0) == pytest.approx(common / min(len(one), len(other)))
    for gap, _, b in matching.gaps(before, everything[0], after, everything[1], move, frame, 6.0):
        slow = min(slow_gap(one + move, sets[1][b], spacing) for one in sets[0])
        assert gap == pytest.approx(slow, abs=0.8 * min(spacing))  # cubes taken for balls: at most (3**0.5 - 1) of one
