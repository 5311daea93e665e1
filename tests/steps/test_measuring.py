"""What is measured of lesions that grow, merge, vanish, and lie at the edge."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from scipy import ndimage

from napari_convlstm_tumor.io.links import Link
from napari_convlstm_tumor.series import Registration
from napari_convlstm_tumor.steps.measuring import measure
from napari_convlstm_tumor.volume import Grid, Volume

make = run_path(str(Path(__file__).with_name("patient.py")))
GRID, ball, patient, returned = (make[n] for n in ("GRID", "ball", "patient", "returned"))
ONE, TWO = (24.0, 30.0, 28.0), (56.0, 40.0, 30.0)


def cropped(mask, grid):
    """The mask on no more voxels than hold it."""
    box = ndimage.find_objects(mask)[0]
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_mm([s.start for s in box])
    data = np.ascontiguousarray(mask[box])
    return Volume(data, Grid(data.shape, affine))


def both(r1, r2):
    return ball(GRID, ONE, r1) | (ball(GRID, TWO, r2) if r2 else 0)


def test_each_lesion_has_its_own_sizes_and_their_sum_is_the_total():
    found = returned(measure(*patient([both(8, 6), both(11, 6), both(14, 0)])))
    assert [[None if s is None else s.volume.value for s in one.sizes] for one in found.lesions] == [
        [8.0 * ball(GRID, ONE, r).sum() for r in (8, 11, 14)],
        [8.0 * ball(GRID, TWO, 6).sum()] * 2 + [None],
    ]
    for t in range(3):
        whole = sum(one.sizes[t].volume.value for one in found.lesions if one.sizes[t])
        assert found.volumes_mm3[t] == pytest.approx(whole)
    assert found.lesions[1].lesion.states == ("baseline", "persistent", "vanished")
    assert [e["kind"] for e in found.events] == ["vanished"]


def test_each_front_has_its_own_speed_and_only_what_moved_is_reliable():
    found = returned(measure(*patient([both(8, 8), both(14, 8)])))
    fast, still = (one.front_speeds[1] for one in found.lesions)
    assert fast.low < 6 / 60 * 30.44 < fast.high
    assert fast.value == pytest.approx(6 / 60 * 30.44, rel=0.1)
    assert still.low < 0 < still.high and still.value == pytest.approx(0, abs=0.02)
    assert fast.high - fast.low > still.high - still.low  # by a part of the way
    reliable, growth = found.maps.reliable[1], found.maps.growth[1]
    near_two = ball(GRID, TWO, 12) > 0
    assert not reliable[near_two].any()
    assert reliable[np.isfinite(growth) & ~near_two].mean() > 0.5


def test_a_lesion_that_was_not_there_before_has_no_speed_however_near_another():
    near = (38.0, 30.0, 28.0)
    joined = ball(GRID, ONE, 9) | ball(GRID, near, 8)
    apart = ball(GRID, ONE, 6) | ball(GRID, near, 5)
    found = returned(measure(*patient([joined, apart]), links=[Link(2, near, 2)]))
    stays, child = (one.front_speeds[1] for one in found.lesions)
    assert stays.value < 0 and stays.low < stays.value < stays.high
    assert child is None
    beside = ball(GRID, ONE, 9) | ball(GRID, (44.0, 30.0, 28.0), 4)  # 7 mm away: not far enough to be no front
    old, new = returned(measure(*patient([ball(GRID, ONE, 9), beside]))).lesions
    assert (new.lesion.states[1], new.front_speeds[1]) == ("new", None)
    assert old.front_speeds[1].value == pytest.approx(0, abs=0.05)


def test_a_front_that_the_end_of_the_image_cuts_has_no_interval():
    cut = (8.0, 30.0, 28.0)
    masks = [ball(GRID, cut, r) | ball(GRID, TWO, 8) for r in (10, 14)]
    found = returned(measure(*patient(masks)))
    inside, at_the_end = sorted((one.front_speeds[1] for one in found.lesions), key=lambda speed: speed.value)
    assert inside.low < 0 < inside.high
    assert at_the_end.value > 1 and at_the_end.low is None and at_the_end.high is None
    assert found.front_speeds[1].low is None


def test_nothing_is_reliable_at_a_badly_registered_visit():
    poor = [Registration(np.eye(4), q, q > 0.6) for q in (1.0, 0.3)]
    found = returned(measure(*patient([both(8, 0), both(14, 0)], registrations=poor)))
    assert np.isfinite(found.maps.growth[1]).any()
    assert not found.maps.reliable.any()
    speed = found.lesions[0].front_speeds[1]
    assert speed.value > 2 and speed.low is None and speed.high is None


def test_log_growth_is_made_when_asked_for():
    given = patient([both(8, 0), both(14, 0)])
    assert returned(measure(*given)).maps.log_growth is None
    maps = returned(measure(*given, with_log_growth=True)).maps
    assert np.isnan(maps.log_growth[0]).all()
    assert np.nanmax(maps.log_growth[1]) > 0
    assert maps.log_growth_reliable[1].any()


def test_a_lesion_that_took_in_another_says_so_from_then_on():
    near = (38.0, 30.0, 28.0)
    apart = ball(GRID, ONE, 6) | ball(GRID, near, 5)
    joined = ball(GRID, ONE, 9) | ball(GRID, near, 8)
    found = returned(measure(*patient([apart, joined, joined])))
    keeper, other = found.lesions
    assert keeper.lesion.states[1] == "merged"
    assert [len(w) for w in keeper.warnings] == [0, 1, 1]
    assert "Since visit 2 lesion 1 holds what was lesion 2" in keeper.warnings[1][0]
    assert other.is_known(0)
    assert not other.is_known(1)
    assert other.warnings == ((), (), ())


def test_only_the_lesion_at_the_edge_is_cut():
    edge = ball(GRID, (0.0, 30.0, 28.0), 6)
    found = returned(measure(*patient([both(0, 6) | edge])))
    assert {one.cut[0] for one in found.lesions if one.sizes[0].diameters.longest.ends[:, 0].min() > 2} == {False}
    assert sum(one.cut[0] for one in found.lesions) == 1
    assert found.cut == (True,)


@pytest.mark.parametrize(("centre", "cut"), [(ONE, False), ((0.0, 30.0, 28.0), True)])
def test_a_mask_that_holds_the_tumor_alone_is_measured_as_on_the_whole_image(centre, cut):
    """As DICOM SEG leaves out empty frames, and 3D Slicer what lies around a segment."""
    whole = [ball(GRID, centre, r) for r in (8, 10)]
    series, aligned, prediction = patient(whole)
    visits = tuple(replace(v, mask=cropped(m, GRID)) for v, m in zip(series.visits, whole, strict=True))
    one, other = (returned(measure(s, aligned, prediction)) for s in (series, replace(series, visits=visits)))
    assert other.cut == one.cut == (cut, cut)
    assert [s.value for s in other.totals] == [s.value for s in one.totals]
    assert other.front_speeds[1] == one.front_speeds[1]
    assert (other.front_speeds[1].low is None) == cut
    assert all(np.array_equal(a.data, b.data) for a, b in zip(other.native_labels, one.native_labels, strict=True))


def test_a_place_that_a_visit_does_not_show_is_said():
    series, aligned, prediction = patient([both(8, 6), both(8, 0)])
    inside = aligned.inside.copy()
    inside[1, 22:] = False
    found = returned(measure(series, replace(aligned, inside=inside), prediction))
    assert found.lesions[1].lesion.states == ("baseline", "not covered")
    assert any("do not show the place of lesion 2" in w for w in found.warnings[1])


def test_the_networks_doubt_widens_the_interval():
    masks = np.stack([both(8, 0)] * 2)
    soft = np.where(masks, 0.7, 0.35).astype(np.float32) * (ball(GRID, ONE, 12) > 0)
    sure, unsure = (
        returned(measure(*patient(masks, probability=p.astype(np.float32)))).totals[0]
        for p in (masks.astype(np.float32), soft)
    )
    assert sure.value == unsure.value
    assert unsure.repeat_log_sd > 2 * sure.repeat_log_sd


def test_a_correction_by_hand_is_followed_downstream():
    found = returned(measure(*patient([both(8, 0), both(8, 0)]), links=[Link(2, ONE, 2)]))
    assert [one.lesion.states for one in found.lesions] == [("baseline", "vanished"), ("absent", "new")]
    assert set(np.unique(found.native_labels[1].data)) == {0, 2}


def test_no_tumor_at_all_is_no_error():
    found = returned(measure(*patient(np.zeros((2, *GRID.shape)))))
    assert found.volumes_mm3 == [0.0, 0.0]
    assert found.lesions == ()
    assert found.cut == (False, False)
