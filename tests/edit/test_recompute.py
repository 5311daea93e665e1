"""After a stroke: the same numbers as the pipeline would give, and nothing else touched."""

import dataclasses
import re

import numpy as np
import pytest
from conftest_edit import SHAPE, analysed, ball, make_series

from napari_convlstm_tumor.edit.recompute import PENDING, Numbers, recompute
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.links import Link
from napari_convlstm_tumor.results import LINKS_FILE, load, save
from napari_convlstm_tumor.series import Visit
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Grid, Volume

NUMBER = re.compile(r"\d+(?:\.\d+)?")


def stroke(analysis, visit, centre_mm=(33, 24, 20), radius_mm=4.0):
    """The mask of a visit with a ball painted into it."""
    return analysis.masks[visit] | ball(analysis.grid, centre_mm, radius_mm)


def same_arrays(a, b):
    for name in ("masks", "growth", "reliable", "lesions", "log_growth", "log_growth_reliable"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=name)
    for name in ("native_masks", "native_lesions"):
        for one, other in zip(getattr(a, name), getattr(b, name), strict=True):
            np.testing.assert_array_equal(one.data, other.data, err_msg=name)


def same_numbers(a, b, path="", rel=1e-9):
    """Rows are equal; numbers within rounding."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same_numbers(a[key], b[key], f"{path}.{key}", rel)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for n, (x, y) in enumerate(zip(a, b, strict=True)):
            same_numbers(x, y, f"{path}[{n}]", rel)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=rel, nan_ok=True), path
    elif isinstance(a, str) and rel > 1e-9:  # a sentence has its numbers rounded, one way or the other
        same_numbers([float(n) for n in NUMBER.findall(a)], [float(n) for n in NUMBER.findall(b)], path, rel)
        assert NUMBER.sub("#", a) == NUMBER.sub("#", b), path
    else:
        assert a == b, path


def same_report(a, b, rel=1e-9):
    for name in ("visits", "lesions", "events", "responses", "forecasts"):
        one, other = getattr(a.report, name), getattr(b.report, name)
        kind = dict if name == "responses" else list
        same_numbers(kind(one), kind(other), name, rel)


def with_given(series, analysis, visit, mask):
    """The series with a painted mask as a file of the person would bring it: in the visit's scanner space."""
    affine = analysis.registrations[visit].ref_to_visit @ analysis.grid.affine
    visits = list(series.visits)
    old = visits[visit]
    visits[visit] = Visit(old.label, old.day, old.images, Volume(mask.astype(np.uint8), Grid(mask.shape, affine)))
    return dataclasses.replace(series, visits=tuple(visits))


@pytest.mark.parametrize("visit", range(4))
def test_a_stroke_gives_the_numbers_of_the_pipeline(network_result, visit):
    mask = stroke(network_result, visit)
    quick = Numbers(network_result)
    quick.update({visit: mask})
    quick = quick.ahead()
    settings = Settings(register=False, log_growth=True)
    whole = analysed(with_given(make_series(), network_result, visit, mask), settings=settings)
    same_arrays(quick, whole)
    same_report(quick, whole)
    np.testing.assert_allclose(quick.prediction.forecast, whole.prediction.forecast, atol=1e-6)


def test_many_strokes_give_what_measuring_anew_gives(mixed_result):
    numbers = Numbers(mixed_result)
    masks = {}
    for visit, centre in ((1, (30, 22, 20)), (3, (12, 12, 12)), (1, (48, 40, 33)), (0, (22, 22, 26))):
        masks[visit] = stroke(numbers.analysis, visit, centre)
        numbers.update({visit: masks[visit]})
    last = numbers.ahead()
    anew = recompute(mixed_result, masks)
    same_arrays(last, anew)
    same_report(last, anew)


def test_nothing_painted_changes_no_number(mixed_result):
    again = Numbers(mixed_result)
    again.update({})
    same_arrays(again.ahead(), mixed_result)
    same_report(again.analysis, mixed_result)


def test_a_result_read_back_gives_the_same(network_result, tmp_path):
    save(network_result, tmp_path / "HAND-02")
    mask = stroke(network_result, 2)
    one, other = Numbers(load(tmp_path / "HAND-02")), Numbers(network_result)
    same_report(one.update({2: mask}), other.update({2: mask}), rel=5e-3)  # affines are stored in single precision


def test_the_analysis_it_began_with_stays_as_it_was(network_result):
    before = network_result.masks.copy(), network_result.growth.copy(), network_result.prediction.probability.copy()
    Numbers(network_result).update({1: stroke(network_result, 1)})
    for old, now in zip(before, (network_result.masks, network_result.growth, network_result.prediction.probability),
                        strict=True):  # fmt: skip
        np.testing.assert_array_equal(old, now)


def test_the_volume_is_that_of_the_painted_voxels(network_result):
    mask = stroke(network_result, 2)
    found = Numbers(network_result).update({2: mask})
    assert found.report.visits[2]["volume_mm3"] == pytest.approx(mask.sum() * network_result.grid.voxel_mm3)
    assert any(w.startswith("Corrected by hand: the mask of visit 3") for w in found.report.warnings)


def test_an_erased_visit_is_empty_not_an_error(network_result):
    found = Numbers(network_result).update({3: np.zeros(SHAPE, np.uint8)})
    assert found.report.visits[3]["volume_mm3"] == 0
    assert np.isnan(found.growth[3]).all()
    assert not found.native_masks[3].data.any()


def test_everything_erased(network_result):
    found = Numbers(network_result).update({t: np.zeros(SHAPE, np.uint8) for t in range(4)})
    assert [v["volume_mm3"] for v in found.report.visits] == [0, 0, 0, 0]
    assert found.report.lesions == ()


def test_the_forecast_is_left_out_until_asked_for(network_result):
    numbers = Numbers(network_result)
    found = numbers.update({3: stroke(network_result, 3)})
    assert found.prediction.forecast is None and found.prediction.forecast_note == PENDING
    assert found.report.forecasts == ()
    assert numbers.ahead().prediction.forecast is not None


def test_getting_ready_changes_nothing_and_the_first_stroke_comes_out_the_same(network_result):
    ready, unready = Numbers(network_result), Numbers(network_result)
    report = ready.analysis.report
    assert ready.prepare().report is report and ready.analysis.prediction.forecast is not None
    mask = stroke(network_result, 1)
    first, other = ready.update({1: mask}), unready.update({1: mask})
    same_arrays(first, other)
    same_report(first, other)


def test_links_are_followed_and_kept(network_result):
    numbers = Numbers(network_result)
    place = (42.0, 30.0, 22.0)
    found = numbers.update({}, [Link(4, place, 2, same=False)])
    i, j, k = np.rint(network_result.grid.to_index(place)).astype(int)
    assert found.lesions[3, i, j, k] == 3  # no longer lesion 2
    assert LINKS_FILE in found.attachments
    erased = found.masks[3] & ~ball(found.grid, place, 12)
    assert numbers.update({3: erased}).attachments == {}  # its lesion is gone, and so is the link


def test_a_link_that_cannot_be_changes_nothing(network_result):
    numbers = Numbers(network_result)
    before = numbers.update({}).report
    with pytest.raises(InputError, match="there are lesions 1 to 2"):
        numbers.update({1: stroke(network_result, 1)}, [Link(2, (22.0, 22.0, 20.0), 9)])
    after = numbers.update({})
    same_numbers(list(before.visits), list(after.report.visits))
    assert numbers.links == () and not numbers.corrected


def test_a_mask_of_another_shape_is_refused(network_result):
    with pytest.raises(InputError, match="visit 2 has shape"):
        Numbers(network_result).update({1: np.zeros((3, 3, 3), np.uint8)})
