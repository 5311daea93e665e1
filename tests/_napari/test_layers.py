"""The one flip: radiological on the screen, and back to the right millimetre."""

import dataclasses

import numpy as np
import pytest

from napari_convlstm_tumor._napari import layers, looks
from napari_convlstm_tumor.volume import Grid

RAS = np.array([[1.0, 0, 0, -20], [0, 2.0, 0, -30], [0, 0, 3.0, -12], [0, 0, 0, 1]])
LPS = np.array([[-1.0, 0, 0, 20], [0, -2.0, 0, 30], [0, 0, 3.0, -12], [0, 0, 0, 1]])
# Sagittal acquisition: i runs to the back, j to the feet, k to the right.
PIR = np.array([[0, 0, 3.0, -20], [-1.0, 0, 0, 30], [0, -2.0, 0, 12], [0, 0, 0, 1]])
AFFINES = pytest.mark.parametrize("affine", [RAS, LPS, PIR], ids=["RAS", "LPS", "PIR"])
SHAPE = (7, 9, 5)


def shown(grid, days=(0, 41, 97), to_visit=None):
    to_visit = tuple(np.eye(4) for _ in days) if to_visit is None else to_visit
    return layers.Shown("image", "P", days, True, grid, to_visit)


@AFFINES
def test_axial_slice_is_radiological(affine):
    """Each voxel holds its own R, A or S: rows run from front to back, columns from right to left, slices down."""
    grid = Grid(SHAPE, affine)
    places = grid.to_mm(np.moveaxis(np.indices(SHAPE), 0, -1))
    right, front, head = (layers.to_display(places[..., axis], grid) for axis in range(3))
    assert np.all(np.diff(right, axis=2) < 0)
    assert np.all(np.diff(front, axis=1) < 0)
    assert np.all(np.diff(head, axis=0) < 0)
    for other in (np.diff(right, axis=1), np.diff(right, axis=0), np.diff(front, axis=2), np.diff(head, axis=2)):
        assert np.all(other == 0)


@AFFINES
def test_display_and_back(affine):
    data = np.random.default_rng(1).normal(size=(2, *SHAPE))
    grid = Grid(SHAPE, affine)
    np.testing.assert_array_equal(layers.from_display(layers.to_display(data, grid), grid), data)


@AFFINES
def test_world_of_every_voxel_is_its_ras_mm(affine):
    """napari's own transform of a display index, read as RAS, is where the voxel of that value lies."""
    from napari.layers import Image

    grid = Grid(SHAPE, affine)
    data = np.zeros((3, *SHAPE), np.float32)
    data[2, 1, 6, 3] = 1
    drawn = layers.to_display(data, grid)
    layer = Image(drawn, **layers.placement(grid))
    place = np.argwhere(drawn == 1)[0]
    world = layer.data_to_world(place)
    assert world[0] == 2
    np.testing.assert_allclose(layers.to_ras_mm(world), grid.to_mm((1, 6, 3)), atol=1e-6)
    np.testing.assert_allclose(layers.to_world(grid.to_mm((1, 6, 3))), world[1:], atol=1e-6)


def test_world_known_answer():
    np.testing.assert_array_equal(layers.to_ras_mm((1, 10.0, 20.0, -30.0)), (30.0, -20.0, -10.0))


def test_placement_says_units_and_axes_of_every_layer(analysis):
    for _, options, _ in layers.to_layers(analysis):
        assert options["units"] == ("pixel", "mm", "mm", "mm")
        assert options["axis_labels"] == ("visit", "z", "y", "x")
        assert options["scale"] == (1.0, 3.0, 1.0, 1.0)


def test_layers_of_a_result(analysis):
    by_name = {options["name"]: (data, options, kind) for data, options, kind in layers.to_layers(analysis)}
    assert list(by_name) == ["t1c", "flair", "front speed (mm/month)", "forecast day 153", "tumor"]
    assert [kind for _, _, kind in by_name.values()] == ["image", "image", "image", "labels", "labels"]
    assert by_name["tumor"][0].shape == (3, 16, 48, 40)
    assert by_name["forecast day 153"][1]["visible"] is False
    assert by_name["forecast day 153"][1]["translate"][0] == 2  # drawn at the last visit
    assert by_name["flair"][1]["visible"] is False
    growth, options, _ = by_name["front speed (mm/month)"]
    assert options["contrast_limits"] == (-2.0, 2.0)
    assert options["metadata"]["unit"] == "mm/month"
    assert np.nanmax(growth) == 2.0


def test_maps_asked_for_are_hidden_and_drawn_where_reliable(analysis):
    rate = np.full(analysis.masks.shape, 0.4, np.float32)
    asked = dataclasses.replace(analysis, log_jacobian=rate, log_jacobian_reliable=analysis.masks > 0)
    data, options, _ = next(la for la in layers.to_layers(asked) if la[1]["name"] == "log-Jacobian (1/month)")
    assert options["visible"] is False
    assert options["metadata"]["unit"] == "1/month"
    np.testing.assert_array_equal(np.isfinite(data), layers.to_display(analysis.masks, analysis.grid) > 0)


def test_undated_growth_is_per_visit(analysis_of):
    names = [
        options["name"] for _, options, _ in layers.to_layers(analysis_of(days=(0, 1, 2), dated=False, forecast=False))
    ]
    assert "front speed (mm/visit)" in names
    assert not any("month" in name for name in names)


def test_one_visit_has_no_growth_layer(analysis_of):
    result = layers.to_layers(analysis_of(days=(0,), forecast=False))
    assert [options["name"] for _, options, _ in result] == ["t1c", "flair", "tumor"]


def test_painting_leaves_the_result_alone(analysis):
    before = analysis.masks.copy()
    data, options, _ = next(layer for layer in layers.to_layers(analysis) if layer[1]["name"] == "tumor")
    assert not layers.is_painted(data, options["metadata"])
    data[0, 0, 0, 0] = 1
    assert layers.is_painted(data, options["metadata"])
    np.testing.assert_array_equal(analysis.masks, before)


def test_growth_colour_is_clear_at_zero_and_red_above():
    colours = looks.growth_colormap().map(np.array([0.0, 0.5, 1.0, np.nan]))
    assert colours[0, 2] > 0.9 > 0.2 > colours[0, 0]
    assert colours[1, 3] == 0
    assert colours[2, 0] > 0.85 > 0.2 > colours[2, 2]
    assert colours[3, 3] == 0


@pytest.mark.parametrize(
    ("largest", "limit"),
    [(0.0, 1.0), (0.0001, 0.01), (0.04, 0.04), (0.7, 0.8), (1.01, 1.5), (7.0, 8.0), (9.1, 10.0), (12.0, 15.0)],
)
def test_growth_limit_reads_well(largest, limit):
    assert looks.growth_limit(np.full(50, -largest, np.float32)) == pytest.approx(limit)


def test_ct_keeps_hounsfield_units_and_mr_visits_look_alike():
    grid = Grid(SHAPE, RAS)
    data = np.random.default_rng(0).uniform(0, 100, (2, *SHAPE)).astype(np.float32)
    data[1] = 40 * data[0]  # another scanner's gain
    ct, options, _ = layers.image_layer("ct", data, shown(grid, (0, 9)))
    assert options["contrast_limits"] == (-160.0, 240.0)
    np.testing.assert_array_equal(ct, layers.to_display(data, grid))
    mr, options, _ = layers.image_layer("t1c", data, shown(grid, (0, 9)))
    np.testing.assert_allclose(mr[0], mr[1], atol=1e-4)
    assert options["contrast_limits"] == (0.0, 1.0)


def test_clicks_become_prompts_in_the_visits_own_space():
    """A visit that lies 5 mm further to the right in its scanner: the click moves there too."""
    moved = np.eye(4)
    moved[0, 3] = 5.0
    what = shown(Grid(SHAPE, RAS), days=(0, 41), to_visit=(np.eye(4), moved))
    world = [(0, *layers.to_world((1.0, 2.0, 3.0))), (1.2, *layers.to_world((1.0, 2.0, 3.0)))]
    prompts = layers.to_prompts(world, what)
    assert [(p.visit, p.type, p.ras_mm.tolist()) for p in prompts] == [
        (1, "point", [1.0, 2.0, 3.0]),
        (2, "point", [6.0, 2.0, 3.0]),
    ]
    back = layers.from_prompts(prompts, what)
    np.testing.assert_allclose(layers.to_ras_mm(back), [(1, 2, 3), (1, 2, 3)])
    np.testing.assert_array_equal(back[:, 0], (0, 1))


def test_best_view_is_the_last_visit_with_tumor():
    masks = np.zeros((3, 4, 5, 6), np.uint8)
    masks[0, 1] = 1
    masks[1, 2, :3] = 1
    masks[1, 3, :1] = 1
    assert layers.best_view(masks) == (1, 2)
    assert layers.best_view(np.zeros_like(masks)) is None


def test_visit_text():
    what = shown(Grid(SHAPE, RAS))
    assert layers.visit_text(what, 1) == "visit 2/3, day 41"
    assert layers.visit_text(dataclasses.replace(what, dated=False), 0) == "visit 1/3 (no dates)"
