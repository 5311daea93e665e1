"""A real tumor in another image: where it finds room, with its contrast; and what else is drawn of a sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_convlstm_tumor.series import MODALITIES, AlignedSeries, Registration
from napari_convlstm_tumor.training import dataset as samples
from napari_convlstm_tumor.training import own, sequences
from napari_convlstm_tumor.training.anatomy import Anatomy
from napari_convlstm_tumor.training.dataset import GrowthDataset, Stage
from napari_convlstm_tumor.training.transplant import APART_MM, DEPTH_VOXELS, draw_graft, host_of, lay_into, place_for
from napari_convlstm_tumor.volume import Grid

BACKGROUND, BODY, TUMOR = -3.0, 0.0, 1.0
CLICKS = Stage((2, 2), (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), carried_share=0.0)


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def limb(name: str, body: float = BODY) -> Anatomy:
    """A bright block (0.9 of each axis) in the dark, with a round tumor of radius 8 near one end of the first axis."""
    shape = (70, 56, 56)
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    distance = np.sqrt(sum((x - c) ** 2 for x, c in zip(axes, (16, 28, 28), strict=True))) - 8
    image = np.full(shape, BACKGROUND)
    image[tuple(slice(int(0.05 * n), int(0.95 * n)) for n in shape)] = body
    image[distance < 0] = body + TUMOR
    values = {"t1": image.astype(np.float16)}
    return Anatomy(name, (1.5, 1.5, 1.5), values, distance=(1.5 * distance).astype(np.float16))


def ball(radius: float) -> torch.Tensor:
    axes = torch.meshgrid(*[torch.arange(24.0) - 11.5] * 3, indexing="ij")
    return torch.sqrt(sum(x**2 for x in axes)) - radius


def grid() -> torch.Tensor:
    return torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij"), dim=-1)


def test_a_host_takes_a_tumor_deep_in_its_body_and_away_from_its_own():
    anatomy = limb("a")
    host = host_of(anatomy, anatomy)
    assert len(host.places) > 100
    low, high = host.places.min(axis=0), host.places.max(axis=0)
    assert np.all(low >= DEPTH_VOXELS) and np.all(high < np.array(anatomy.shape) - DEPTH_VOXELS)
    (image,) = anatomy.images.values()
    for i, j, k in host.places[::500]:
        around = image[tuple(slice(x - DEPTH_VOXELS, x + DEPTH_VOXELS + 1) for x in (i, j, k))]
        assert around.min() >= host.body
        assert anatomy.distance[i, j, k] > APART_MM


def test_a_tumor_comes_to_lie_in_the_body(rng):
    host = host_of(limb("a"), limb("a"))
    level = ball(5.0)
    points = place_for(level, grid() * 10, host, rng)  # wherever the crop was before
    assert points is None or torch.allclose(points[1:] - points[:-1], torch.tensor([10.0, 0, 0]))
    points = place_for(level, grid(), host, rng)
    image = torch.from_numpy(host.coarse.images["t1"].astype(np.float32))
    there = points[level < 0].round().long()
    assert (image[tuple(there.T)] > host.body).float().mean() > 0.85


def test_a_tumor_larger_than_the_body_finds_no_room(rng):
    host = host_of(limb("a"), limb("a"))
    assert place_for(ball(11.0), grid() * 8, host, rng) is None
    assert place_for(ball(0.5), grid(), host, rng) is None  # and one of few voxels is not laid anywhere


def test_a_place_without_room_has_no_host(rng):
    anatomy = limb("a")
    near = replace(anatomy, distance=np.minimum(anatomy.distance, APART_MM))  # its own tumor is near everywhere
    tight = host_of(near, near)
    assert len(tight.places) == 0
    assert place_for(ball(5.0), grid(), tight, rng) is None


def test_the_host_stays_as_it_is_and_the_tumor_keeps_its_contrast_or_part_of_it(rng):
    level = ball(6.0) * 2.0
    image = torch.where(level < 0, 3.0, 1.0)
    host = torch.full_like(image, -1.0)
    laid = lay_into(host, image, level, 1.0, *draw_graft(rng))
    assert torch.allclose(laid[level > 12], torch.tensor(-1.0), atol=1e-3)
    assert -1.0 + 0.5 * 2.0 - 0.01 <= float(laid[level < -4].mean()) <= -1.0 + 1.1 * 2.0 + 0.01
    assert torch.equal(lay_into(host, image, level + 100, 1.0, *draw_graft(rng)), host)  # nothing to lay


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_samples_show_the_tumor_where_it_is_true_in_either_image(share, monkeypatch):
    monkeypatch.setattr(samples, "TRANSPLANTED_SHARE", share)
    monkeypatch.setattr(samples, "WIDE_SHARE", 0.0)
    real = [limb("a"), limb("b", body=0.5)]
    dataset = GrowthDataset(real, [], 4, CLICKS)
    drawn = [dataset[n] for n in range(6)]
    channel = MODALITIES.index("t1")
    for sample in drawn:
        assert torch.isfinite(sample["images"]).all()
        assert sample["mask"].any()
        first, mask = sample["images"][0, channel], sample["mask"][0]
        body = ~mask & (first > -1.5)
        assert first[mask].median() > first[body].median() - 0.8  # patches and contrast are drawn, too
    again = dataset[3]
    assert all(torch.equal(again[name], drawn[3][name]) for name in again)


def test_transplanting_draws_other_images_of_the_same_tumor(monkeypatch):
    shown = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(samples, "TRANSPLANTED_SHARE", share)
        shown.append(GrowthDataset([limb("a"), limb("b", body=0.5)], [], 4, CLICKS)[1])
    assert not torch.equal(shown[0]["images"], shown[1]["images"])


def test_where_a_laid_in_tumor_is_gone_the_other_image_is_seen(monkeypatch):
    monkeypatch.setattr(samples, "TRANSPLANTED_SHARE", 1.0)
    monkeypatch.setattr(samples, "WIDE_SHARE", 0.0)
    monkeypatch.setattr(samples, "lay_into", lambda host, *_: torch.full_like(host, 100.0))
    gone = 0
    for share in (0.0, 1.0):
        monkeypatch.setattr(samples, "GONE_SHARE", share)
        dataset = GrowthDataset([limb("a"), limb("b", body=0.5)], [], 4, CLICKS)
        for sample in (dataset[n] for n in range(6)):
            laid = [bool(image.max() > 20) for image in sample["images"][:, MODALITIES.index("t1")]]
            if not laid[0]:  # it found no room there
                continue
            shown = sample["mask"].flatten(1).any(dim=1).tolist()
            assert laid == shown == [True, share == 0.0]
            gone += share == 1.0
    assert gone


@pytest.mark.parametrize(("mode", "poor"), [("click", True), ("click all", False), ("none", False)])
def test_only_visits_that_nothing_points_at_become_poor(mode, poor, monkeypatch, rng):
    monkeypatch.setattr(sequences, "POOR_SHARE", 1.0)
    masks = torch.zeros(2, 12, 12, 8, dtype=torch.bool)
    masks[:, 3:9, 3:9, 1:7] = True
    images = torch.zeros(2, len(MODALITIES), 12, 12, 8)
    images[:, 1] = torch.where(masks, 2.0, 0.0)
    levels = torch.where(masks, -1.0, 1.0)
    sequence = sequences.sequence_of(images.clone(), (MODALITIES[1],), masks, (0, 60), (1.0, 1.0, 1.0), levels)
    seen = sequences.with_prompts(sequence, mode, rng)["images"]
    assert torch.equal(seen[0], images[0])
    assert torch.equal(seen[1], images[1]) != poor
    assert not seen[:, [0, 2, 3, 4, 5]].any()  # what is absent stays absent


def test_patches_lie_in_the_core_alone(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(own, "PATCHED_SHARE", 0.0)
    patient = _kept(tmp_path, ("t1c",))
    plain = own._crop(patient, [0, 1], "mask", np.random.default_rng(3))
    monkeypatch.setattr(own, "PATCHED_SHARE", 1.0)
    monkeypatch.setattr(own, "draw_patches", lambda shape, rng: torch.full(tuple(shape), 10.0))
    patched = own._crop(patient, [0, 1], "mask", np.random.default_rng(3))
    channel = MODALITIES.index("t1c")
    difference = (patched["images"] - plain["images"])[:, channel]
    assert torch.equal(plain["mask"], patched["mask"])
    assert difference[plain["level"] < -6].min() > 5
    assert difference[plain["level"] > 6].abs().max() < 1
    other = own._crop(_kept(tmp_path / "other", ("flair",)), [0, 1], "mask", np.random.default_rng(3))
    assert other["images"].abs().max() < 10


def _kept(folder, modalities):
    """A patient with a cube of tumor at both visits, as training keeps it."""
    grid = Grid((40, 40, 40), np.diag([2.0, 2.0, 2.0, 1.0]))
    mask = np.zeros(grid.shape, np.uint8)
    mask[10:30, 10:30, 10:30] = 1
    aligned = AlignedSeries(
        patient="cube",
        data=np.stack([mask.astype(np.float32)[None]] * 2),
        present=np.ones((2, 1), bool),
        inside=np.ones((2, *grid.shape), bool),
        modalities=modalities,
        days=(0, 60),
        dated=True,
        grid=grid,
        centre=np.zeros((2, 1), np.float32),
        scale=np.ones((2, 1), np.float32),
        masks=(mask, mask),
        registrations=(Registration(np.eye(4), 1.0, True),) * 2,
        native_grids=(grid, grid),
    )
    own.keep_aligned(aligned, frozenset(), folder / "kept")
    return own.load_kept(folder / "kept")
