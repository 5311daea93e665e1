"""Parts of a lesion that lie apart are measured one by one; gaps of the drawing and crumbs are none."""

import numpy as np
import pytest

from napari_convlstm_tumor.measure.parts import parts_apart
from napari_convlstm_tumor.measure.uncertainty import measure_lesion

ISO, THICK = (1.0, 1.0, 1.0), (0.9, 0.9, 6.5)


def balls(*centres_and_radii, spacing=ISO, extent_mm=70):
    axes = [np.arange(int(extent_mm / s)) * s for s in spacing]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return np.any([np.linalg.norm(places - c, axis=-1) <= r for c, r in centres_and_radii], axis=0)


@pytest.mark.parametrize("spacing", [ISO, THICK])
def test_the_diameters_of_two_parts_add_up(spacing):
    """Two balls of 7 mm radius, 22 mm apart: 28 mm and not the 36 mm of a line across the gap."""
    one, other = ((20.0, 30.0, 32.5), 7.0), ((42.0, 30.0, 32.5), 7.0)
    alone, both = (measure_lesion(balls(*which, spacing=spacing), spacing) for which in ((one,), (one, other)))
    for name in ("volume", "longest_axial", "perpendicular", "product", "longest_3d"):
        assert getattr(both, name).value == pytest.approx(2 * getattr(alone, name).value, rel=0.05), name
    assert both.longest_axial.value == pytest.approx(28, abs=1.5)
    assert both.longest_axial.repeat_log_sd == pytest.approx(alone.longest_axial.repeat_log_sd, rel=0.05)


def test_one_part_reads_as_before():
    found = measure_lesion(balls(((30.0, 30.0, 30.0), 9.0)), ISO)
    assert found.longest_axial.value == pytest.approx(found.diameters.longest.length_mm)
    assert found.product.value == pytest.approx(found.diameters.product_mm2)


@pytest.mark.parametrize(
    ("spacing", "gap", "axis", "count"),
    [(ISO, 1, 0, 1), (ISO, 2, 0, 1), (ISO, 3, 0, 2), ((0.5, 0.5, 0.5), 4, 1, 1), (THICK, 2, 2, 1), (THICK, 3, 2, 2)],
)
def test_a_gap_of_the_drawing_makes_no_two_parts(spacing, gap, axis, count):
    """A disc cut in two along its diameter would else read twice its length."""
    mask = np.ones((24, 24, 24), bool)
    np.moveaxis(mask, axis, 0)[10 : 10 + gap] = False
    assert len(parts_apart(mask, spacing)) == count


def test_crumbs_are_no_parts_unless_they_are_all():
    lesion = balls(((20.0, 30.0, 30.0), 8.0))
    whole = measure_lesion(lesion, ISO)
    lesion[50:52, 30:32, 30:32] = True  # 8 mm3
    found = measure_lesion(lesion, ISO)
    assert found.longest_axial.value == whole.longest_axial.value
    assert found.volume.value == whole.volume.value + 8
    crumbs = np.zeros((20, 20, 20), bool)
    crumbs[2, 2, 2] = crumbs[12, 12, 12] = True
    assert measure_lesion(crumbs, ISO).longest_axial.value == 1


def test_the_largest_part_comes_first_and_nothing_has_none():
    first, second = parts_apart(balls(((15.0, 30.0, 30.0), 5.0), ((50.0, 30.0, 30.0), 9.0)), ISO)
    assert first.sum() > second.sum() > 0
    assert parts_apart(np.zeros((4, 4, 4), bool), ISO) == []
