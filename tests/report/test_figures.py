"""Slices and curves of the report: which slice, which way round, which numbers."""

import base64
import io

import matplotlib.image
import numpy as np
import pytest

from napari_convlstm_tumor.report.figures import Curve, Point, lesion_colour, volume_chart, volume_figure
from napari_convlstm_tumor.report.slices import (
    SMALLEST_FIELD_MM,
    WITHIN_ERROR_COLOUR,
    Outline,
    choose_plane,
    colour_bar,
    growth_limit,
    slice_png,
)
from napari_convlstm_tumor.volume import Grid

# Scanner axes of the array: +1, +2, +3 = right, anterior, superior; negative = the other way.
ORIENTATIONS = [(1, 2, 3), (-1, -2, 3), (-1, 2, -3), (2, 1, 3), (3, -1, -2), (-2, 3, 1), (-3, -2, -1)]


def grid_along(axes, shape_ras=(60, 70, 50), spacing=(2.0, 2.0, 2.0)):
    """A grid whose array axes run along these scanner axes; shape_ras is that of the body."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, axis in enumerate(axes):
        affine[abs(axis) - 1, column] = np.sign(axis) * spacing[abs(axis) - 1]
    return Grid(tuple(shape_ras[abs(a) - 1] for a in axes), affine)


def along(body, axes):
    """A (R, A, S) array in the order and direction of the axes."""
    turned = body.transpose([abs(a) - 1 for a in axes])
    return np.flip(turned, [n for n, a in enumerate(axes) if a < 0])


def pixels(uri):
    kind, data = uri.split(",", 1)
    assert kind == "data:image/png;base64"
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(data)), format="png")[..., :3]


def svg(uri):
    kind, data = uri.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode()


# ---- which slice, which way round ----


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_axial_with_right_at_the_left_and_front_at_the_top(axes):
    body = np.zeros((60, 70, 50))
    body[50, 60, 20] = 1  # right, front
    mask = np.zeros(body.shape, np.uint8)
    mask[28:33, 33:38, 20] = 1
    mask[30, 35, 10] = 1
    plane = choose_plane(along(mask, axes)[None], grid_along(axes))
    picture = plane.whole(along(body, axes))
    row, column = np.argwhere(picture)[0]
    assert (plane.name, plane.letters) == ("axial", ("R", "A"))
    assert row < picture.shape[0] / 2 and column < picture.shape[1] / 2
    assert plane.cut(along(mask, axes)).sum() == 25


@pytest.mark.parametrize(
    ("spacing", "name", "letters"),
    [
        ((1, 1, 1), "axial", ("R", "A")),
        ((1, 1, 1.4), "axial", ("R", "A")),
        ((1.4, 1, 1), "axial", ("R", "A")),  # not thick enough to be the way it was sliced
        ((6.5, 1, 1), "sagittal", ("A", "S")),
        ((1, 6.5, 1), "coronal", ("R", "S")),
        ((1, 1, 6.5), "axial", ("R", "A")),
    ],
)
def test_the_plane_lies_across_thick_slices(spacing, name, letters):
    mask = np.zeros((1, 60, 70, 50), np.uint8)
    plane = choose_plane(mask, grid_along((1, 2, 3), spacing=spacing))
    assert (plane.name, plane.letters) == (name, letters)
    assert plane.index == mask.shape[1 + plane.axis] // 2  # no tumor: the middle


def test_the_slice_of_the_largest_area_at_any_visit():
    masks = np.zeros((2, 60, 70, 50), np.uint8)
    masks[0, 10:14, 10:14, 7] = 1
    masks[1, 10:20, 10:20, 31] = 1
    assert choose_plane(masks, grid_along((1, 2, 3))).index == 31


@pytest.mark.parametrize("corner", [0, 30, 55])
def test_the_field_holds_the_tumor_and_stays_in_the_image(corner):
    masks = np.zeros((1, 120, 140, 50), np.uint8)
    masks[0, corner : corner + 5, corner : corner + 5, 10] = 1
    grid = grid_along((1, 2, 3), shape_ras=(120, 140, 50))
    plane = choose_plane(masks, grid)
    assert plane.cut(masks[0]).sum() == 25
    assert plane.cut(masks[0]).shape == (SMALLEST_FIELD_MM / 2, SMALLEST_FIELD_MM / 2)


# ---- slices ----


@pytest.fixture
def scene():
    """A bright square left of the middle (the patient's right) on grey, 2 mm voxels."""
    image = np.full((60, 60, 20), 50, np.float32)
    image[35:50, 25:40, 10] = 100
    mask = (image > 60).astype(np.uint8)
    return image, mask, choose_plane(mask[None], grid_along((1, 2, 3), shape_ras=(60, 60, 20)))


def test_an_outline_has_its_colour_and_lies_around_the_tumor(scene):
    image, mask, plane = scene
    bare = pixels(slice_png(image, plane, False))
    drawn = pixels(slice_png(image, plane, False, [Outline(plane.cut(mask) != 0, "#ff0000")]))
    red = (drawn[..., 0] > 0.8) & (drawn[..., 1] < 0.3)
    assert not ((bare[..., 0] > 0.8) & (bare[..., 1] < 0.3)).any()
    rows, columns = (np.flatnonzero(red.any(axis=a))[[0, -1]] for a in (1, 0))
    scale = drawn.shape[0] / plane.cut(mask).shape[0]
    ends = [np.flatnonzero(plane.cut(mask).any(axis=a))[[0, -1]] + (0, 1) for a in (1, 0)]
    assert np.allclose([rows / scale, columns / scale], ends, atol=0.5)


def test_the_name_of_an_outline_is_written_beside_it(scene):
    image, mask, plane = scene
    cut = plane.cut(mask) != 0
    plain, named = (pixels(slice_png(image, plane, False, [Outline(cut, "#ff0000", name=n)])) for n in ("", "7"))
    changed = np.argwhere(np.abs(plain - named).max(axis=2) > 0.1) * cut.shape[0] / plain.shape[0]
    assert len(changed) > 20
    assert changed[:, 1].min() >= np.nonzero(cut)[1].max()  # to the right of the tumor


def test_growth_is_red_shrinkage_blue_and_what_is_unsure_grey(scene):
    image, mask, plane = scene
    growth = np.where(plane.cut(mask) != 0, 4.0, np.nan)
    middle = tuple(int(n) for n in np.argwhere(np.isfinite(growth)).mean(axis=0))

    def colour(values, reliable=None):
        picture = pixels(slice_png(image, plane, False, growth=values, limit=5.0, reliable=reliable))
        return picture[tuple(int((m + 0.5) * picture.shape[0] / growth.shape[0]) for m in middle)]

    grows, shrinks = colour(growth), colour(-growth)
    unsure = colour(growth, np.zeros(growth.shape, bool))
    assert grows[0] > grows[2] + 0.3 and shrinks[2] > shrinks[0] + 0.3
    assert np.allclose(unsure, int(WITHIN_ERROR_COLOUR[1:3], 16) / 255, atol=0.01)


@pytest.mark.parametrize("image", [np.zeros((30, 30, 9)), np.full((30, 30, 9), np.nan), np.full((30, 30, 9), -5.0)])
def test_an_image_without_contrast_is_drawn_all_the_same(image):
    plane = choose_plane(np.zeros((1, 30, 30, 9), np.uint8), grid_along((1, 2, 3), (30, 30, 9)))
    assert pixels(slice_png(image.astype(np.float32), plane, False)).shape[2] == 3


@pytest.mark.parametrize(
    ("values", "limit"),
    [([], 1.0), ([np.nan, 0.0], 1.0), ([1.2, -0.5], 1.5), ([-7.1], 8.0), ([0.0003], 0.01), ([23.0], 30.0)],
)
def test_the_colour_bar_ends_at_a_round_number(values, limit):
    assert growth_limit(np.array(values, dtype=np.float32)) == pytest.approx(limit)


# ---- curves ----

TOTAL = Curve("total", (Point(0, 1.0, 0.8, 1.2), Point(60, 2.0, 1.7, 2.3)))
LESIONS = {1: Curve("lesion 1", (Point(0, 1.0),)), 7: Curve("lesion 7", (Point(60, 0.5),))}
AHEAD = (Curve("network", (Point(120, 4.0, 3.0, 6.0),)), Curve("persistence", (Point(120, 2.0),)))


def lines(forecasts=AHEAD, dated=True):
    axes = volume_figure((6, 4), TOTAL, LESIONS, forecasts, dated).axes[0]
    return axes, {line.get_label(): line for line in axes.lines}


def test_the_curve_holds_the_numbers():
    axes, drawn = lines()
    assert drawn["total"].get_xydata().tolist() == [[0, 1.0], [60, 2.0]]
    assert drawn["network"].get_xydata().tolist() == [[120, 4.0]]
    assert drawn["lesion 7"].get_color() == lesion_colour(7)
    bars = [line.get_xydata().tolist() for line in axes.lines if line.get_label().startswith("_")]
    assert [[0, 0.8], [0, 1.2]] in bars and [[120, 3.0], [120, 6.0]] in bars
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (2.0, 6.0)
    assert axes.get_ylim()[0] == 0


def test_a_forecast_without_interval_has_no_band():
    axes, _ = lines(forecasts=(Curve("forecast", (Point(120, 4.0),)),))
    assert not axes.collections


def test_undated_visits_are_numbered():
    axes, _ = lines(forecasts=(), dated=False)
    assert axes.get_xlabel() == "visit" and list(axes.get_xticks()) == [0, 60]


def test_charts_are_the_same_every_time_and_hold_no_date_or_address():
    first, second = (volume_chart(TOTAL, LESIONS, AHEAD) for _ in range(2))
    assert first == second and first.wide != first.narrow
    for text in (svg(first.wide), svg(colour_bar(5.0, "mm/month"))):
        body = text.split("<defs>", 1)[1]
        assert "http" not in body and "metadata" not in text and "dc:date" not in text
