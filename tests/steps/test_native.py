"""Every tumor voxel of every visit belongs to a lesion, on turned, finer, thicker and smaller grids alike."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from napari_convlstm_tumor.series import Registration
from napari_convlstm_tumor.steps.measuring import axial_axis, measure
from napari_convlstm_tumor.steps.native import native_labels, native_visit, tracking_mask
from napari_convlstm_tumor.volume import Grid, Volume

make = run_path(str(Path(__file__).with_name("patient.py")))
GRID, ball, patient, turned, returned = (make[n] for n in ("GRID", "ball", "patient", "turned", "returned"))
ONE, TWO = (24.0, 30.0, 28.0), (56.0, 40.0, 30.0)

GRIDS = {
    "the common grid": (GRID, np.eye(4)),
    "finer and turned by 7 degrees": (Grid((90, 80, 60), np.diag([1.0, 1.0, 1.0, 1.0])), turned(7, (3, -4, 2))),
    "6.5 mm slices": (
        Grid((90, 80, 10), np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 6.5, -2], [0, 0, 0, 1.0]])),
        turned(0),
    ),
    "sagittal": (
        Grid((36, 60, 27), np.array([[0, 0, 3.0, 0], [2.0, 0, 0, 0], [0, -1.0, 0, 60], [0, 0, 0, 1]])),
        np.eye(4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
def test_every_voxel_takes_the_id_of_its_lesion(name):
    grid, ref_to_visit = GRIDS[name]
    back = np.linalg.inv(ref_to_visit)
    first, second = ball(grid, ONE, 8, back), ball(grid, TWO, 6, back)
    labels = (ball(GRID, ONE, 8) + 2 * ball(GRID, TWO, 6)).astype(np.uint16)
    series, aligned, prediction = patient(
        [labels > 0], native=[Volume(first | second, grid)], registrations=[Registration(ref_to_visit, 0.9, True)]
    )
    visit = native_visit(series, aligned, prediction, 0)
    found = native_labels(visit.measured, visit.box, labels, aligned, 0)
    assert np.array_equal(found, first + 2 * second.astype(np.uint16))


def test_a_piece_too_small_for_the_common_grid_is_still_a_lesion():
    fine = Grid((160, 144, 120), np.diag([0.5, 0.5, 0.5, 1.0]))
    speck = np.zeros(fine.shape, np.uint8)
    speck[42:44, 42:44, 42:44] = 1  # around (21.25, ...) mm: between the centres of 2 mm voxels
    drawn = ball(fine, TWO, 6) | speck
    series, aligned, prediction = patient([ball(GRID, TWO, 6)], native=[Volume(drawn, fine)])
    visit = native_visit(series, aligned, prediction, 0)
    mask = tracking_mask(visit, aligned, prediction, 0)
    assert mask[11, 11, 11] == 1
    measured = returned(measure(series, aligned, prediction))
    assert len(measured.lesions) == 2
    labels = measured.native_labels[0].data
    assert np.array_equal(labels > 0, drawn > 0)
    assert set(np.unique(labels[speck > 0])) == {2}
    assert not measured.labels[0][11, 11, 11]  # ids of the masks, and the mask has nothing there


def test_tumor_beyond_the_common_grid_is_counted_and_said():
    wide = Grid((60, 36, 30), np.diag([2.0, 2.0, 2.0, 1.0]))
    beyond = (90.0, 30.0, 28.0)
    series, aligned, prediction = patient(
        [ball(GRID, ONE, 8)], native=[Volume(ball(wide, ONE, 8) | ball(wide, beyond, 6), wide)]
    )
    measured = returned(measure(series, aligned, prediction))
    assert np.array_equal(measured.native_labels[0].data > 0, measured.native_masks[0].data > 0)
    assert measured.volumes_mm3[0] == pytest.approx(8 * (ball(wide, ONE, 8).sum() + ball(wide, beyond, 6).sum()))
    assert any("beyond the common grid" in w for w in measured.warnings[0])


@pytest.mark.parametrize(
    ("axes", "axial"),
    [
        (np.eye(3), 2),
        (np.diag([-1, -1, 1]), 2),
        (np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]]), 1),  # sagittal: j runs from head to foot
        (np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]), 1),  # coronal
        (np.array([[1, 0, 0], [0, 0.9397, -0.342], [0, 0.342, 0.9397]]), 2),  # 20 degrees oblique
    ],
)
def test_axial_slices_are_found_in_any_orientation(axes, axial):
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array([0.9, 0.9, 6.5])
    assert axial_axis(Grid((10, 10, 10), affine)) == axial


def test_diameters_are_axial_whatever_the_orientation():
    """An ellipsoid 40 mm long from foot to head and 20 mm across: 20 mm in axial slices, on sagittal images too."""
    grid, _ = GRIDS["sagittal"]
    for one in (GRID, grid):
        places = one.to_mm(np.moveaxis(np.indices(one.shape), 0, -1)) - np.array([40.0, 36.0, 30.0])
        drawn = (((places / np.array([10.0, 10.0, 20.0])) ** 2).sum(-1) <= 1).astype(np.uint8)
        common = GRID.to_mm(np.moveaxis(np.indices(GRID.shape), 0, -1)) - np.array([40.0, 36.0, 30.0])
        mask = ((common / np.array([10.0, 10.0, 20.0])) ** 2).sum(-1) <= 1
        series, aligned, prediction = patient([mask], native=[Volume(drawn, one)])
        size = returned(measure(series, aligned, prediction)).lesions[0].sizes[0]
        assert size.longest_axial.value == pytest.approx(20, abs=1.8)
        assert size.longest_3d.value == pytest.approx(40, abs=2.0)
