"""Training samples: short sequences of crops with truth, drawn anew at every step. Sample n is always the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from napari_convlstm_tumor.series import MODALITIES
from napari_convlstm_tumor.training import simulate
from napari_convlstm_tumor.training.anatomy import AIR, Anatomy
from napari_convlstm_tumor.training.crops import (
    COARSE,
    away_from,
    crop_points,
    draw_crop,
    grid_step,
    half,
    head_crop,
    in_view,
    sample_at,
    wide_crop,
    within,
)
from napari_convlstm_tumor.training.sequences import (
    LARGEST_DISTANCE_MM,
    PROMPT_MODES,
    WHOLE_TUMOR,
    distances,
    sequence_of,
    with_prompts,
)
from napari_convlstm_tumor.training.simulate import Scene
from napari_convlstm_tumor.training.transplant import draw_graft, host_of, lay_into, surroundings

# Arrival fields are kept for a cube of this size around the seed (1 mm voxels): what a crop can see.
FIELD_SIZE = 128
# A crop lies this far off the lesion: the reader of a prompt looks at the lesion, not at its exact middle.
JITTER_VOXELS = 6.0
# So many of the simulated tumors are hollow but for a thin rim: real ones were missed on T1c.
THIN_RIM_SHARE = 0.35
# So many are uneven as real gliomas are: of the others' cores a click outlined half (docs/training-log.md, run 22).
HETEROGENEOUS_SHARE = 0.55
# So many more take up no contrast than draw_look gives: of 12 simulated gliomas on T1c, without a prompt, the three
# large dark ones were not seen at all.
PLAIN_SHARE = 0.3
# Real tumors are never outlined without a prompt; a mask or box at the first visit is to be left where the image says
# so: growthnet-6 holds on to it (docs/accuracy.md, warped sarcomas).
REAL_FAVOURED = {"none": 0.0, "mask": 1.5}
# Of the real tumors with a click so many are seen on about all of the image, as on the first look of model/looks:
# there a click leaked into the whole limb.
WIDE_SHARE = 0.4
# So many of the real tumors shown by themselves lie in another's image: there are few, and clicks leaked.
TRANSPLANTED_SHARE = 0.4
# On CT tissues differ less, in units of the network, than on MR.
CT_PATCHES = 0.3
# In so many of the sequences the tumor is gone from a later visit on, where its place can be shown without it: the
# radius of a simulated tumor is then this (below 0: no tumor, and at last no oedema), of a real one only the image of
# the other patient that it was laid into is seen.
GONE_SHARE, GONE_RADIUS_MM = 0.4, (-30.0, -2.0)
# A simulated crop is not much finer than the voxels of some image would be: small tumors are few voxels there, as on
# the images of the program. With 10 voxels or more of each, those of 0.1 mL were lost at later visits.
OWN_VOXEL_MM = (0.9, 2.0)


@dataclass(frozen=True, eq=False)
class GrowthField:
    """Arrival maps (L, n, n, n) of one to three lesions in a window of an anatomy."""

    anatomy: int
    window: tuple[slice, slice, slice]
    arrival: npt.NDArray[np.float16]


def make_field(anatomies: Sequence[Anatomy], index: int, rng: np.random.Generator) -> GrowthField:
    """A window around a random seed, and up to two more seeds within it."""
    tissue = anatomies[index].tissue
    assert tissue is not None
    centre = simulate.seed_in(tissue, rng)
    window = tuple(
        slice(start, start + min(FIELD_SIZE, n))
        for c, n in zip(centre, tissue.shape[1:], strict=True)
        for start in [int(np.clip(c - FIELD_SIZE // 2, 0, max(n - FIELD_SIZE, 0)))]
    )
    local = tissue[:, *window]
    seeds = [tuple(c - w.start for c, w in zip(centre, window, strict=True))]
    seeds += [simulate.seed_in(local, rng) for _ in range(rng.choice(3, p=(0.65, 0.25, 0.1)))]
    arrival = np.stack([simulate.arrival_field(local, seed, rng) for seed in seeds])  # type: ignore[arg-type]
    return GrowthField(index, window, arrival)  # type: ignore[arg-type]


def make_fields(anatomies: Sequence[Anatomy], count: int, seed: int, cache: Path | None = None) -> list[GrowthField]:
    """``count`` fields over the brains among ``anatomies``; read from and kept in ``cache`` (.npz files)."""
    brains = [n for n, a in enumerate(anatomies) if a.tissue is not None]
    fields = []
    for n in range(count if brains else 0):
        rng = np.random.default_rng([seed, n])
        index = brains[int(rng.integers(len(brains)))]
        path = None if cache is None else cache / f"{anatomies[index].name}-{seed}-{n}.npz"
        if path is not None and path.exists():
            stored = np.load(path)
            window = tuple(slice(int(a), int(b)) for a, b in stored["window"])
            fields.append(GrowthField(index, window, stored["arrival"]))  # type: ignore[arg-type]
            continue
        field = make_field(anatomies, index, rng)
        fields.append(field)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, window=[(w.start, w.stop) for w in field.window], arrival=field.arrival)
    return fields


@dataclass(frozen=True)
class Stage:
    """What a stretch of training draws: visits (low, high) and the weight of each of PROMPT_MODES.

    distance_share: of the sequences, also teach the forecast; backward_share: run to earlier visits, as model/predict
    does after a late prompt (where dataset and truth allow it). head_share: of what is not a person's own, sequences of
    whole simulated heads, where a run has any. carried_share: of the sequences, know the tissue pointed at again.
    vanishing: tumors that vanish are drawn more often than they are met.
    """

    visits: tuple[int, int] = (2, 4)
    prompt_weights: tuple[float, ...] = (0.28, 0.18, 0.14, 0.1, 0.25, 0.05, 0.0)
    distance_share: float = 0.35
    backward_share: float = 0.35
    head_share: float = 0.4
    carried_share: float = 0.5
    vanishing: bool = True


class GrowthDataset(Dataset[dict[str, Tensor]]):
    """Sequence n as tensors: images, alike (T, C, ...), present (C,), prompt (T, 4, ...), mask (T, ...), days (T,),
    spacing_mm (3,), and for the forecast phi (T, ...) signed distance mm with mean_speed (T,) mm per month.

    simulated: share of simulated brains against real tumors.
    """

    def __init__(
        self,
        anatomies: Sequence[Anatomy],
        fields: Sequence[GrowthField],
        seed: int,
        stage: Stage = Stage(),
        simulated: float = 0.5,
        length: int = 1_000_000,
    ) -> None:
        self.anatomies, self.fields, self.seed, self.stage = anatomies, fields, seed, stage
        self.real = [(a, half(a)) for a in anatomies if a.distance is not None]
        self.hosts = [host_of(fine, coarse) for fine, coarse in self.real]
        self.halves = [half(a) if a.tissue is not None else None for a in anatomies]
        self.simulated = simulated if self.real else 1.0
        self.simulated = self.simulated if fields else 0.0
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, n])
        visits = int(rng.integers(self.stage.visits[0], self.stage.visits[1] + 1))
        brain = rng.random() < self.simulated
        favoured = {} if brain else REAL_FAVOURED
        pairs = zip(self.stage.prompt_weights, PROMPT_MODES, strict=True)
        weights = np.array([w * favoured.get(mode, 1.0) for w, mode in pairs])
        mode = PROMPT_MODES[int(rng.choice(len(PROMPT_MODES), p=weights / weights.sum()))]
        sequence = self._brain(rng, visits, mode) if brain else self._real(rng, visits, mode)
        sample = with_prompts(sequence, mode, rng, self.stage.carried_share)
        if visits > 1 and rng.random() < self.stage.distance_share:
            sample |= distances(sample["mask"], sample["days"], sample["spacing_mm"])
        return sample

    def _brain(self, rng: np.random.Generator, visits: int, mode: str) -> dict[str, Tensor]:
        """A click or box shows one lesion, so there is one; without a prompt, or with a mask, there may be more."""
        field = self.fields[int(rng.integers(len(self.fields)))]
        anatomy = self.anatomies[field.anatomy]
        arrival = field.arrival if mode in WHOLE_TUMOR else field.arrival[: 1 if rng.random() < 0.9 else None]
        course = simulate.draw_course(rng, visits, len(arrival), (2.0, 24.0))
        course.radii_mm[:, self._gone_from(visits, rng) :] = rng.uniform(*GONE_RADIUS_MM)
        seed = np.argwhere(arrival[0] < 3)
        centre = torch.from_numpy(seed[int(rng.integers(len(seed)))]).float()
        if mode == "none":
            crop, spacing, average = head_crop(rng, search=True)
        else:
            extent = max(2.0 * float(course.radii_mm[0].max()), 4.0)
            crop, spacing, average = draw_crop(extent, rng, (rng.uniform(*OWN_VOXEL_MM),) * 3)
        centre = centre + torch.from_numpy(rng.normal(0, JITTER_VOXELS, 3)).float() * torch.tensor(spacing) / (
            torch.tensor([1.0, 1.0, float(max(1, round(spacing[2] / spacing[0])))])
        )
        if min(spacing[0], spacing[2] / average) > COARSE:
            scene, centre, native = self._half_scene(field, arrival, centre), centre / 2, (2.0, 2.0, 2.0)
            start = [w.start / 2 for w in field.window]
            centre = centre + torch.tensor(start)
            if mode == "none":
                half_mm, whole_mm = np.array(crop) * spacing / 2, np.array(scene.arrival.shape[1:]) * native
                middle = in_view(away_from(centre.numpy() * native, half_mm, whole_mm, rng), half_mm, whole_mm)
                centre = torch.from_numpy(middle / native + rng.normal(0, 6, 3)).float()
        else:
            scene, native = simulate.scene_of(anatomy, arrival, field.window), anatomy.spacing_mm
        points = crop_points(crop, spacing, average, centre, native, rng)
        scene = _resample(scene, points, (spacing[0], spacing[1], spacing[2] / average))
        levels = simulate.level_fields(scene, course, rng)
        look, modalities = simulate.draw_look(rng, False if rng.random() < PLAIN_SHARE else None), draw_modalities(rng)
        look = simulate.with_thin_rim(look, rng) if rng.random() < THIN_RIM_SHARE else look
        look = simulate.heterogeneous(look, rng) if rng.random() < HETEROGENEOUS_SHARE else look
        scalp = bool(rng.random() < 0.7)
        images = torch.zeros(visits, len(MODALITIES), *crop)
        for modality in modalities:
            channel = MODALITIES.index(modality)
            background = simulate.head_background(scene, modality, rng, scalp)
            texture = simulate.smooth_noise(background.shape, 3, rng)
            for t in range(visits):
                painted = simulate.paint(background, levels[t], scene, look, modality, texture)
                images[t, channel] = simulate.scanner(_jitter(_thick(painted, average), rng), rng)
        masks = torch.stack(
            [_thick(simulate.target_mask(level, scene, look, modalities).float(), average) > 0.5 for level in levels]
        )
        return sequence_of(images, modalities, masks, course.days, spacing, levels=_thick4(levels, average))

    def _half_scene(self, field: GrowthField, arrival: npt.NDArray[np.float16], centre: Tensor) -> Scene:
        """The whole anatomy at half resolution, with the arrival maps of the window laid into it."""
        anatomy = self.halves[field.anatomy]
        assert anatomy is not None and anatomy.outside is not None
        whole = torch.full((len(arrival), *anatomy.outside.shape), simulate.UNREACHED_MM)
        small = arrival[:, ::2, ::2, ::2].astype(np.float32)
        corner = [round(w.start / 2) for w in field.window]
        room = [min(n, m - c) for n, m, c in zip(small.shape[1:], whole.shape[1:], corner, strict=True)]
        there = tuple(slice(c, c + n) for c, n in zip(corner, room, strict=True))
        whole[:, *there] = torch.from_numpy(small[:, : room[0], : room[1], : room[2]])
        everything = tuple(slice(0, n) for n in anatomy.outside.shape)
        return replace(simulate.scene_of(anatomy, arrival[:, :1, :1, :1], everything), arrival=whole)

    def _real(self, rng: np.random.Generator, visits: int, mode: str) -> dict[str, Tensor]:
        # a kind of image first, then a patient: there are few of some kinds
        kinds = sorted({m for a, _ in self.real for m in a.images})
        kind = kinds[int(rng.integers(len(kinds)))]
        choice = [n for n, (a, _) in enumerate(self.real) if kind in a.images]
        fine, coarse = self.real[choice[int(rng.integers(len(choice)))]]
        assert coarse.distance is not None
        (modality,) = fine.images
        inside = np.argwhere(coarse.distance < 0)
        extent = float(np.mean(np.ptp(inside, axis=0) * np.array(coarse.spacing_mm)))
        if mode.startswith("click") and rng.random() < WIDE_SHARE:
            crop, spacing, average = wide_crop(rng, fine.spacing_mm)
        else:
            crop, spacing, average = draw_crop(extent, rng, fine.spacing_mm)
        anatomy = coarse if spacing[0] > COARSE * fine.spacing_mm[0] else fine
        assert anatomy.distance is not None
        middle = inside.mean(axis=0) + rng.normal(0, 0.2, 3) * np.ptp(inside, axis=0)
        middle = middle * np.array(coarse.spacing_mm) / np.array(anatomy.spacing_mm)
        centre = torch.from_numpy(middle).float()
        points = crop_points(crop, spacing, average, centre, anatomy.spacing_mm, rng)
        source = torch.stack(
            [
                torch.from_numpy(anatomy.distance.astype(np.float32)),
                torch.from_numpy(anatomy.images[modality].astype(np.float32)),
            ]
        )
        thin = (spacing[0], spacing[1], spacing[2] / average)
        distance = sample_at(source[:1], points)[0]
        deepest = float(-distance.min())
        course = simulate.draw_course(rng, visits, 1, (0.0, 0.0))
        growth = np.clip(course.radii_mm[0], -0.5 * max(deepest, 0), 12.0)
        uneven = 1 + 0.5 * simulate.smooth_noise(distance.shape, 25 / min(thin), rng)
        images = torch.zeros(visits, len(MODALITIES), *crop)
        levels = []
        host, graft = None, draw_graft(rng)
        if mode not in WHOLE_TUMOR and rng.random() < TRANSPLANTED_SHARE:
            other = self.hosts[choice[int(rng.integers(len(choice)))]]
            host = surroundings(distance, (crop, spacing, average), other, rng)
        gone_from = visits if host is None else self._gone_from(visits, rng)
        patches = draw_patches(distance.shape, rng) * (CT_PATCHES if modality == "ct" else 1.0)
        for t in range(visits):
            shift = simulate.warp_coordinates(distance, thin, float(growth[t]) * uneven)
            moved = grid_step(points, shift)
            level, image = sample_at(source, moved)
            image = image + patches * torch.sigmoid(-level)
            image[~within(source, moved)] = AIR
            if host is not None and t >= gone_from:
                image, level = host, torch.full_like(level, LARGEST_DISTANCE_MM)
            elif host is not None:
                image = lay_into(host, image, level, spacing[0], *graft)
            levels.append(level)
            image = simulate.scanner(_jitter(_thick(image, average), rng), rng, strength=0.6)
            images[t, MODALITIES.index(modality)] = image
        stacked = _thick4(torch.stack(levels), average)
        return sequence_of(images, (modality,), stacked < 0, course.days, spacing, stacked)

    def _gone_from(self, visits: int, rng: np.random.Generator) -> int:
        """0-based visit from which the tumor is gone; ``visits`` where it stays."""
        gone = visits > 1 and self.stage.vanishing and rng.random() < GONE_SHARE
        return int(rng.integers(1, visits)) if gone else visits


# ---- small steps ----


def _resample(scene: Scene, points: Tensor, spacing_mm: tuple[float, float, float]) -> Scene:
    assert scene.tissue is not None and scene.outside is not None
    names = list(scene.images)
    stack = torch.cat([scene.arrival, scene.tissue, scene.outside[None], *[scene.images[m][None] for m in names]])
    read = sample_at(stack, points)
    lesions = len(scene.arrival)
    images = {m: read[lesions + 4 + n] for n, m in enumerate(names)}
    return Scene(read[:lesions], read[lesions : lesions + 3], read[lesions + 3], images, spacing_mm)


def _thick(volume: Tensor, average: int) -> Tensor:
    """Thin slices (I, J, K * average) averaged to thick ones (I, J, K)."""
    return volume if average == 1 else volume.reshape(*volume.shape[:2], -1, average).mean(-1)


def _thick4(volumes: Tensor, average: int) -> Tensor:
    return torch.stack([_thick(v, average) for v in volumes])


def _jitter(image: Tensor, rng: np.random.Generator) -> Tensor:
    """What registration leaves: up to 0.4 voxel of shift along each axis of the image, not of the truth."""
    for axis in range(3):
        part = float(rng.uniform(-0.4, 0.4))
        image = image * (1 - abs(part)) + torch.roll(image, 1 if part > 0 else -1, axis) * abs(part)
    return image


def draw_modalities(rng: np.random.Generator) -> tuple[str, ...]:
    """The sequences a patient comes with: often only T1c or FLAIR."""
    choices = (("t1c",), ("flair",), ("t1c", "flair"), ("t1", "t1c", "t2", "flair"), ("t2",), ("t1",))
    return choices[int(rng.choice(len(choices), p=(0.32, 0.3, 0.13, 0.12, 0.08, 0.05)))]


def draw_patches(shape: Sequence[int], rng: np.random.Generator) -> Tensor:
    """(I, J, K) what is added to a tumor's intensity: necrosis, bleeding, fat, lobes of another tissue.

    Large tumors are seldom of one kind of tissue, and there are few of them to learn from.
    """
    patches = torch.zeros(*shape)
    for _ in range(int(rng.choice(3, p=(0.3, 0.4, 0.3)))):
        field = simulate.smooth_noise(torch.Size(shape), float(rng.uniform(4, 20)), rng)
        edge, sharpness = float(rng.uniform(-0.6, 0.8)), float(rng.uniform(4, 20))
        patches = patches + float(rng.uniform(-2, 2)) * torch.sigmoid(sharpness * (field - edge))
    return patches
