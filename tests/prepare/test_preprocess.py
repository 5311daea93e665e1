"""The common grid, intensities, and the way back."""

import threading

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_convlstm_tumor.errors import SeriesError
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.io.read import read_series
from napari_convlstm_tumor.prepare import preprocess
from napari_convlstm_tumor.prepare.native import mask_to_grid, to_common_mm, to_native, to_visit_mm
from napari_convlstm_tumor.prepare.preprocess import (
    LARGEST_GRID_VOXELS,
    SIGMAS_PER_UNIT,
    align,
    common_grid,
    normalisation,
)
from napari_convlstm_tumor.prepare.resample import covered
from napari_convlstm_tumor.series import Registration, Series, Visit
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Grid, Volume


def rigid(degrees, shift_mm):
    """(4, 4): turn by Euler angles, then shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


def run(steps):
    """What a generator returns."""
    while True:
        try:
            fraction = next(steps)
            assert 0 <= fraction <= 1
        except StopIteration as end:
            return end.value


def dice(a, b):
    return 2 * np.count_nonzero((a > 0) & (b > 0)) / (np.count_nonzero(a) + np.count_nonzero(b))


LPS = np.diag([-1.0, -1.0, 2.0, 1.0])
SAGITTAL = np.array([[0, 0, 3.0, -90], [1.0, 0, 0, -100], [0, 1.0, 0, -80], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("affine", "shape"), [(np.diag([1, 2, 3, 1.0]), (8, 9, 10)), (LPS, (8, 9, 10)), (SAGITTAL, (8, 9, 10))]
)
def test_an_axis_aligned_reference_keeps_its_very_voxels(affine, shape):
    grid, note = common_grid(Grid(shape, affine))
    assert note == ""
    assert np.all(np.diag(grid.affine)[:3] > 0)
    assert sorted(grid.shape) == sorted(shape)
    corners = Grid(shape, affine).to_mm([(0, 0, 0), [n - 1 for n in shape]])
    index = grid.to_index(corners)
    assert np.allclose(index, np.round(index), atol=1e-6)


def test_an_oblique_reference_is_covered():
    turn = np.array([[0.966, -0.259, 0], [0.259, 0.966, 0], [0, 0, 1]])
    turn, _ = np.linalg.qr(turn)
    oblique = np.eye(4)
    oblique[:3, :3] = turn @ np.diag([1.0, 1.0, 3.0])
    native = Grid((40, 50, 10), oblique)
    grid, _ = common_grid(native)
    assert grid.is_axis_aligned
    assert sorted(grid.spacing_mm) == pytest.approx([1, 1, 3])
    corners = grid.to_index(native.to_mm([(i, j, k) for i in (0, 39) for j in (0, 49) for k in (0, 9)]))
    assert corners.min() >= -0.51
    assert np.all(corners.max(axis=0) <= np.array(grid.shape) - 0.49)


def test_a_huge_image_is_made_coarser_and_says_so():
    grid, note = common_grid(Grid((1024, 1024, 200), np.diag([0.3, 0.3, 1.0, 1.0])))
    assert np.prod(grid.shape) <= LARGEST_GRID_VOXELS
    assert "coarser" in note


@pytest.mark.parametrize("spacing", [(2.0,), (2.0, 2.0, 4.0)])
def test_the_spacing_asked_for_is_used(spacing):
    grid, _ = common_grid(Grid((50, 50, 50), np.eye(4)), spacing)
    assert grid.spacing_mm == pytest.approx(spacing if len(spacing) == 3 else spacing * 3)


def test_ct_is_normalised_by_hounsfield_units():
    volume = Volume(np.full((4, 4, 4), 140, np.float32), Grid((4, 4, 4), np.eye(4)))
    centre, scale = normalisation(volume, "ct")
    assert (140 - centre) / scale == 1


def test_mr_is_normalised_in_the_body_whatever_the_padding(head):
    centre, scale = normalisation(head, "t1")
    padded = np.zeros((head.data.shape[0] * 2, *head.data.shape[1:]), np.float32)
    padded[: head.data.shape[0]] = head.data
    grid = Grid(padded.shape, head.grid.affine)
    assert normalisation(Volume(padded, grid), "t1") == pytest.approx((centre, scale), rel=0.1)


@pytest.mark.parametrize(("offset", "noise"), [(0, 0), (0, 8), (60, 8), (60, 3), (0, 30)])
def test_air_counts_not_as_body_where_it_is_noisy_or_above_zero(offset, noise):
    """Else the middle of all intensities is air, and the brain looks as bright as a tumor should."""
    rng = np.random.default_rng(0)
    distance = np.linalg.norm((np.indices((64, 64, 48)).T - (32, 32, 24)).T, axis=0)
    brain = distance < 20
    image = np.where(brain, rng.normal(200, 15, distance.shape), rng.rayleigh(noise, distance.shape))
    image = image + offset
    image[:2] = 0  # blank slices at the edge, as some tools write them
    volume = Volume(image.astype(np.float32), Grid(image.shape, np.eye(4)))
    centre, scale = normalisation(volume, "flair")
    assert centre == pytest.approx(200 + offset, abs=3)
    assert scale == pytest.approx(SIGMAS_PER_UNIT * 15, rel=0.2)


def head_with_scalp(intensity, thickness_mm):
    """A ball of brain of 70 mm under a dark skull and a scalp; the image ends below its middle, as at a neck."""
    rng = np.random.default_rng(1)
    radius = 2.0 * np.linalg.norm((np.indices((100, 100, 70)).T - (50, 50, 20)).T, axis=0)
    image = np.where(radius < 70, rng.normal(300, 20, radius.shape), 0)
    image[(radius >= 76) & (radius < 76 + thickness_mm)] = intensity
    return Volume(image.astype(np.float32), Grid(image.shape, np.diag([2.0, 2.0, 2.0, 1.0])))


@pytest.mark.parametrize(("intensity", "thickness_mm"), [(900, 4), (900, 12), (60, 12)])
def test_the_scalp_does_not_change_what_the_brain_looks_like(intensity, thickness_mm):
    """Else the same brain has another contrast at the next visit, where fat is suppressed, say."""
    bare = normalisation(head_with_scalp(0, 0), "t1c")
    assert normalisation(head_with_scalp(intensity, thickness_mm), "t1c") == pytest.approx(bare, rel=0.05)
    assert bare == pytest.approx((300, SIGMAS_PER_UNIT * 20), rel=0.05)


def test_a_body_too_thin_to_be_deep_is_normalised_as_a_whole():
    image = np.zeros((40, 40, 40), np.float32)
    image[16:24, 16:24] = np.linspace(100, 200, 40)
    centre, scale = normalisation(Volume(image, Grid(image.shape, np.eye(4))), "t1")
    assert centre == pytest.approx(150, rel=0.05)
    assert scale > 0


def test_aligned_values_and_the_way_back(head, moved_head):
    moving, ref_to_visit = moved_head
    mask = ndimage.binary_erosion(head.data > 280, iterations=3).astype(np.uint8)
    moved_mask = mask_to_grid(Volume(mask, head.grid), moving.grid, np.linalg.inv(ref_to_visit))
    series = Series(
        "p",
        (
            Visit("a", 0, {"t1": head}, Volume(mask, head.grid)),
            Visit("b", 50, {"t1": moving}, Volume(moved_mask, moving.grid)),
        ),
    )
    aligned = run(align(series, Settings()))
    assert aligned.data.shape == (2, 1, *head.grid.shape)
    assert np.allclose(aligned.raw(0, 0), head.data, atol=1e-2)
    assert dice(aligned.masks[0], aligned.masks[1]) > 0.95
    for t, truth in enumerate((mask, moved_mask)):
        assert dice(to_native(aligned.masks[t], aligned, t), truth) >= 0.97
    probability = aligned.masks[1].astype(np.float32)
    assert dice(to_native(probability, aligned, 1) >= 0.5, moved_mask) >= 0.97


def test_points_go_there_and_back():
    matrix = np.eye(4)
    matrix[:3, 3] = (1, 2, 3)
    point = np.array([10.0, 20, 30])
    assert np.allclose(to_common_mm(to_visit_mm(point, matrix), matrix), point)
    assert np.allclose(to_visit_mm(point, matrix), (11, 22, 33))


def test_a_missing_modality_is_marked_absent(head):
    series = Series("p", (Visit("a", 0, {"t1": head, "flair": head}), Visit("b", 9, {"t1": head})))
    aligned = run(align(series, Settings(register=False)))
    assert aligned.present.tolist() == [[True, True], [True, False]]
    assert not aligned.data[1, 1].any()


def test_a_reference_that_is_not_there_is_refused(head):
    series = Series("p", (Visit("a", 0, {"t1": head}),))
    with pytest.raises(SeriesError, match="no visit 3"):
        run(align(series, Settings(reference=3)))


def test_a_stop_leaves_the_registrations_that_have_not_begun(head, monkeypatch):
    begun, at_it, go_on = [], threading.Event(), threading.Event()

    def slowly(visit, *_):
        begun.append(visit.label)
        at_it.set()
        go_on.wait(20)
        return Registration(np.eye(4), 1.0, True, "")

    monkeypatch.setattr(preprocess, "_lay", slowly)
    series = Series("p", tuple(Visit(f"v{t}", 9 * t, {"t1": head}) for t in range(6)))
    steps = align(series, Settings())
    assert next(steps) == pytest.approx(0.1)  # the reference needs none
    assert at_it.wait(20)
    threading.Timer(0.2, go_on.set).start()
    steps.close()
    assert begun == ["v1"]


def test_an_image_that_reaches_less_far_says_where(head):
    half = Volume(head.data[:36], Grid((36, *head.data.shape[1:]), head.grid.affine))
    series = Series("p", (Visit("a", 0, {"t1": head}), Visit("b", 9, {"t1": half})))
    aligned = run(align(series, Settings(register=False)))
    assert aligned.inside[0].all()
    assert aligned.inside[1, :36].all()
    assert not aligned.inside[1, 36:].any()


@pytest.mark.parametrize("patient", ["GBM-01", "GBM-03", "GBM-05", "GBM-08", "GBM-09"])
def test_thin_rims_on_thick_slices_come_back(shared_data, patient):
    settings = Settings()
    series = read_series(find_patient(shared_data / "glioblastoma" / patient, settings), settings)
    aligned = run(align(series, settings))
    for t, visit in enumerate(series.visits):
        assert dice(to_native(aligned.masks[t], aligned, t, visit.mask.grid), visit.mask.data) >= 0.97


def slowly_covered(source, grid, grid_to_source):
    """Every voxel asked by itself."""
    answer = np.zeros(grid.shape, bool)
    for voxel in np.ndindex(*grid.shape):
        mm = grid_to_source[:3, :3] @ grid.to_mm(voxel) + grid_to_source[:3, 3]
        index = source.to_index(mm)
        answer[voxel] = np.all((index > -0.5 - 1e-6) & (index < np.array(source.shape) - 0.5 + 1e-6))
    return answer


@pytest.mark.parametrize("degrees", [(0, 0, 0), (20, -10, 5), (0, 0, 90)])
def test_what_an_image_covers_agrees_with_asking_every_voxel(degrees):
    source = Grid((10, 12, 6), np.diag([1.0, 1.2, 2.0, 1.0]))
    grid = Grid((11, 9, 14), np.diag([1.0, 1.3, 0.9, 1.0]))
    motion = rigid(degrees, (1.3, -2.1, 0.7))
    found = covered(source, grid, motion)
    assert found.any()
    assert not found.all()
    assert np.array_equal(found, slowly_covered(source, grid, motion))


@pytest.mark.parametrize("shift_mm", [0.0, 2.9, -2.9])
def test_a_mask_ends_at_the_sides_of_its_outer_voxels(shift_mm):
    """Not at their centres: half a slice of 6 mm at either end would be lost of a mask that holds the tumor alone."""
    grid = Grid((8, 8, 10), np.diag([1.0, 1.0, 6.0, 1.0]))
    affine = np.diag([1.0, 1.0, 6.0, 1.0])
    affine[:3, 3] = [2, 2, 18 + shift_mm]
    mask = Volume(np.ones((3, 3, 4), np.uint8), Grid((3, 3, 4), affine))
    assert mask_to_grid(mask, grid, np.eye(4)).sum() == mask.data.sum()
