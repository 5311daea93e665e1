"""The head around the tumor and what looks like tumor: in the background, the same for all modalities, in no mask."""

import dataclasses

import numpy as np
import pytest
import torch

from napari_convlstm_tumor.training import simulate
from napari_convlstm_tumor.training.anatomy import AIR
from napari_convlstm_tumor.training.appearance import (
    THIN_RIM_MM,
    Cavity,
    Look,
    ct_scanner,
    draw_look,
    heterogeneous,
    with_thin_rim,
)
from napari_convlstm_tumor.training.deform import LARGEST_PUSH_MM, push_aside, push_mm
from napari_convlstm_tumor.training.head import CT_AIR, clutter_of
from napari_convlstm_tumor.training.scene import Scene

SHAPE = (64, 64, 48)


def distance_from(centre, shape=SHAPE):
    axes = torch.meshgrid(*[torch.arange(n).float() for n in shape], indexing="ij")
    return torch.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))


def head(arrival=None) -> Scene:
    """A ball of white matter with a grey shell and a ventricle, 1 mm."""
    radius = distance_from((32, 32, 24))
    fluid, brain = radius < 7, radius < 22
    white, grey = (radius < 19) & ~fluid, brain & (radius >= 19)
    tissue = torch.stack([grey, white, fluid]).float()
    arrival = distance_from((32, 45, 24))[None] if arrival is None else arrival
    return Scene(arrival, tissue, (radius - 22).clamp(min=0), {}, (1.0, 1.0, 1.0))


def plain_look(**changes) -> Look:
    parts = dict.fromkeys(("t1", "t1c", "t2", "flair", "ct"), (3.0, -1.0, 2.0))
    return Look(**({"rim_mm": 99.0, "oedema_mm": 0.0, "parts": parts, "texture": 0.0, "enhancing": True} | changes))


def test_clutter_is_one_per_scene_and_within_the_brain():
    scene = head()
    first = clutter_of(scene)
    assert clutter_of(scene) is first
    again = clutter_of(head())
    for name in ("vessels", "choroid", "white_lesions"):
        weight = getattr(first, name)
        assert torch.equal(weight, getattr(again, name)), name
        assert weight.min() >= 0 and weight.max() <= 1, name
        assert weight[scene.outside > 0].max() < 1e-3, name
    other = clutter_of(head(distance_from((32, 20, 24))[None]))
    assert not torch.equal(other.vessels, first.vessels)


def test_choroid_lies_in_the_ventricle_and_white_lesions_in_white_matter():
    scene = head()
    clutter = clutter_of(scene)
    assert clutter.choroid[scene.tissue[2] == 0].max() == 0
    assert clutter.white_lesions[scene.tissue[1] == 0].max() == 0


@pytest.mark.parametrize("modality", ["t1", "t1c", "t2", "flair", "ct"])
def test_every_modality_has_air_bone_and_a_brain_of_its_own_contrast(modality):
    scene = head()
    means = []
    for seed in range(6):
        image = simulate.head_background(scene, modality, np.random.default_rng(seed), scalp=True)
        assert torch.isfinite(image).all()
        far = scene.outside > 26
        assert image[far].max() <= (CT_AIR if modality == "ct" else AIR + 1.2) + 1e-3
        means.append([image[scene.tissue[n] == 1].median().item() for n in range(3)])
    grey, white, fluid = np.mean(means, axis=0)
    assert (fluid > max(grey, white)) == (modality == "t2")
    assert (grey < white) == (modality in ("t1", "t1c"))


def test_ct_is_in_hounsfield_units():
    scene = head()
    hu = simulate.head_background(scene, "ct", np.random.default_rng(1), scalp=True) * 100 + 40
    assert 20 < hu[scene.tissue[1] == 1].median() < 45
    assert 0 <= hu[scene.tissue[2] == 1].median() < 22
    assert hu[(scene.outside > 3) & (scene.outside < 5)].median() > 300
    assert hu[scene.outside > 26].max() < -900
    noisy = ct_scanner(torch.zeros(SHAPE), np.random.default_rng(2))
    assert 0.2 < noisy.std() * 100 < 8


def test_paint_puts_the_tumor_where_the_level_is_negative_in_the_contrast_of_the_image():
    scene = head()
    level = scene.arrival[0] - 8
    flat = torch.zeros(SHAPE)
    painted = simulate.paint(flat, level, scene, plain_look(), "t1c", flat)
    assert painted[level < -2].mean() == pytest.approx(3.0, abs=0.02)
    assert painted[level > 2].abs().max() < 0.02
    halved = simulate.paint(flat, level, scene, plain_look(contrast={"t1c": (0.5, 0.1)}), "t1c", flat)
    assert torch.allclose(halved, painted * 0.5 + 0.1)


def test_a_ring_has_a_dark_middle_that_belongs_to_the_mask():
    scene = head()
    level = scene.arrival[0] - 12
    flat = torch.zeros(SHAPE)
    look = plain_look(rim_mm=4.0)
    painted = simulate.paint(flat, level, scene, look, "t1c", flat)
    assert painted[level < -8].mean() == pytest.approx(-1.0, abs=0.05)
    assert simulate.target_mask(level, scene, look, ("t1c",))[level < -8].all()


def test_a_thin_rim_surrounds_a_hollow_tumor_and_fades_on_coarse_voxels():
    look = with_thin_rim(plain_look(), np.random.default_rng(0))
    assert THIN_RIM_MM[0] <= look.rim_mm <= THIN_RIM_MM[1]
    brightest = []
    for spacing in (1.0, 4.0):
        level = spacing * distance_from((32, 32, 24)) - 16
        scene = dataclasses.replace(head(level[None] + 16), spacing_mm=(spacing,) * 3)
        flat = torch.zeros(SHAPE)
        painted = simulate.paint(flat, level, scene, look, "t1c", flat)
        assert painted[level < -10].mean() == pytest.approx(-1.0, abs=0.1)
        brightest.append(painted.max().item())
    assert 0.1 < brightest[1] < 0.8 * brightest[0]


def test_a_heterogeneous_tumor_has_rims_of_any_thickness_and_parts_without_contrast():
    scene = head()
    level, flat = scene.arrival[0] - 14, torch.zeros(SHAPE)
    dark_on_t1 = plain_look().parts | {"t1": (-0.8, -1.0, -0.5)}
    look = heterogeneous(plain_look(rim_mm=4.0, parts=dark_on_t1), np.random.default_rng(1))
    painted = simulate.paint(flat, level, scene, look, "t1c", flat)
    deep, edge = painted[level < -9], painted[(level < -1) & (level > -3)]
    assert deep.std() > 0.2  # a plain ring is dark all through
    assert edge.min() < 0.5 * edge.max()  # and as bright all around
    evenly = dataclasses.replace(look, pale_from=None)
    assert torch.equal(*(simulate.paint(flat, level, scene, a, "flair", flat) for a in (look, evenly)))
    assert not torch.equal(painted, simulate.paint(flat, level, scene, evenly, "t1c", flat))
    assert simulate.target_mask(level, scene, look, ("t1c",)).equal(level < 0)


def test_a_cavity_is_fluid_and_its_rim_fades():
    scene = head()
    flat = torch.zeros(SHAPE)
    hole = scene.arrival[0] - 9
    rims = []
    for days in (60, 700):
        painted = simulate.paint(flat, flat + 50, scene, plain_look(), "t1c", flat, Cavity(hole, days))
        assert painted[hole < -4].mean() == pytest.approx(-1.8, abs=0.05)
        rims.append(painted[hole.abs() < 0.5].mean().item())
    assert rims[0] > rims[1]


def test_looks_are_drawn_alike_for_the_same_seed_and_enhance_when_told():
    assert draw_look(np.random.default_rng(3)) == draw_look(np.random.default_rng(3))
    assert all(draw_look(np.random.default_rng(n), enhancing=True).enhancing for n in range(30))
    assert not all(draw_look(np.random.default_rng(n)).enhancing for n in range(30))


# ---- mass effect ----


def test_tissue_beside_the_tumor_moves_outward_by_the_push_and_the_skull_not():
    scene = head(distance_from((32, 32, 24))[None])
    level = scene.arrival[0] - 8
    place = torch.arange(64).float().reshape(64, 1, 1).expand(SHAPE).contiguous()
    moved = push_aside(place[None], level, scene, 4.0)[0]
    came_from = moved[32 + 9, 32, 24].item()  # a millimetre outside the edge, along +i
    assert 41 - came_from == pytest.approx(4.0, rel=0.35)
    assert moved[32 - 9, 32, 24].item() - 23 == pytest.approx(4.0, rel=0.35)
    skull = scene.outside > 4
    assert (moved - place)[skull].abs().max() < 0.3


def test_no_push_changes_nothing_and_no_push_is_larger_than_the_limit():
    scene = head()
    image = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(push_aside(image, scene.arrival[0] - 8, scene, 0.0), image)
    assert torch.equal(push_aside(image, scene.arrival[0] + 200, scene, 5.0), image)
    assert push_mm(4 / 3 * np.pi * 10**3, 0.3) == pytest.approx(3.0)
    assert push_mm(1e6, 0.9) == LARGEST_PUSH_MM
    assert push_mm(0.0, 0.3) == 0.0
