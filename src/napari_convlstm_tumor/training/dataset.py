"""Training samples: short sequences of crops with truth, drawn anew at every step. Sample n is always the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from napari_convlstm_tumor.measure.distance import signed_distance_mm
from napari_convlstm_tumor.model import prompts
from napari_convlstm_tumor.series import DAYS_PER_MONTH, MODALITIES
from napari_convlstm_tumor.training import simulate
from napari_convlstm_tumor.training.anatomy import Anatomy
from napari_convlstm_tumor.training.simulate import Scene

# Arrival fields are kept for a cube of this size around the seed (1 mm voxels): what a crop can see.
FIELD_SIZE = 128
# Distance maps are clipped here: the forecast is about the front.
LARGEST_DISTANCE_MM = 30.0
# A crop lies this far off a seed: far without a prompt, so that it shows skull and scalp, or no tumor at all.
NEAR_JITTER_MM, FAR_JITTER_MM = 7.0, 15.0
THICK_MM = 2.0  # an image with slices from here on keeps them thick
PROMPT_MODES = ("click", "click all", "box", "mask", "none")


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
    """What a stretch of training draws: visits (low, high) and the weight of each of PROMPT_MODES."""

    visits: tuple[int, int] = (2, 4)
    prompt_weights: tuple[float, ...] = (0.4, 0.12, 0.15, 0.13, 0.2)


class GrowthDataset(Dataset[dict[str, Tensor]]):
    """Sequence n as tensors: images, alike (T, C, ...), present (C,), prompt (T, 4, ...), mask (T, ...), days (T,),
    spacing_mm (3,), and for the forecast phi (T, ...) signed distance mm with mean_speed (T,) mm per month.

    simulated: share of simulated brains against real tumors. with_distance: compute phi (costs time).
    """

    def __init__(
        self,
        anatomies: Sequence[Anatomy],
        fields: Sequence[GrowthField],
        seed: int,
        stage: Stage = Stage(),
        simulated: float = 0.6,
        distance_share: float = 0.35,
        length: int = 1_000_000,
    ) -> None:
        self.anatomies, self.fields, self.seed, self.stage = anatomies, fields, seed, stage
        self.real = [a for a in anatomies if a.distance is not None]
        self.simulated = simulated if self.real else 1.0
        self.simulated = self.simulated if fields else 0.0
        self.distance_share, self.length = distance_share, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, n])
        visits = int(rng.integers(self.stage.visits[0], self.stage.visits[1] + 1))
        brain = rng.random() < self.simulated
        weights = np.array(self.stage.prompt_weights) * ([1, 1, 1, 1, 1] if brain else [1, 1, 1, 1, 0])
        mode = PROMPT_MODES[int(rng.choice(len(PROMPT_MODES), p=weights / weights.sum()))]
        sequence = self._brain(rng, visits, mode) if brain else self._real(rng, visits)
        sample = _finish(sequence, mode, rng)
        if visits > 1 and rng.random() < self.distance_share:
            sample |= distances(sample["mask"], sample["days"], sample["spacing_mm"])
        return sample

    def _brain(self, rng: np.random.Generator, visits: int, mode: str) -> dict[str, Tensor]:
        """A click or box shows one lesion, so there is one; without a prompt, or with a mask, there may be more."""
        field = self.fields[int(rng.integers(len(self.fields)))]
        anatomy = self.anatomies[field.anatomy]
        arrival = field.arrival if mode in ("none", "mask") else field.arrival[: 1 if rng.random() < 0.9 else None]
        scene = simulate.scene_of(anatomy, arrival, field.window)
        jitter = FAR_JITTER_MM if mode == "none" else NEAR_JITTER_MM
        crop, spacing, average = draw_crop(rng)
        seeds = torch.nonzero(scene.arrival[0 if mode != "none" else int(rng.integers(len(scene.arrival)))] < 3)
        centre = seeds[int(rng.integers(len(seeds)))].float() + torch.from_numpy(rng.normal(0, jitter, 3)).float()
        points = crop_points(crop, spacing, average, centre, anatomy.spacing_mm, rng)
        scene = _resample(scene, points, (spacing[0], spacing[1], spacing[2] / average))
        course = simulate.draw_course(rng, visits, len(scene.arrival), (3.0, 24.0))
        levels = simulate.level_fields(scene, course, rng)
        look, modalities = simulate.draw_look(rng), draw_modalities(rng)
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
        return _sequence(images, modalities, masks, course.days, spacing, levels=_thick4(levels, average))

    def _real(self, rng: np.random.Generator, visits: int) -> dict[str, Tensor]:
        anatomy = self.real[int(rng.integers(len(self.real)))]
        assert anatomy.distance is not None
        (modality,) = anatomy.images
        crop, spacing, average = draw_crop(rng, anatomy.spacing_mm)
        inside = np.argwhere(anatomy.distance < 0)
        centre = torch.from_numpy(inside[int(rng.integers(len(inside)))]).float()
        centre = centre + torch.from_numpy(rng.normal(0, 8, 3)).float() / torch.tensor(anatomy.spacing_mm)
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
        for t in range(visits):
            shift = simulate.warp_coordinates(distance, thin, float(growth[t]) * uneven)
            moved = _grid_step(points, shift)
            level, image = sample_at(source, moved)
            levels.append(level)
            image = simulate.scanner(_jitter(_thick(image, average), rng), rng, strength=0.6)
            images[t, MODALITIES.index(modality)] = image
        stacked = _thick4(torch.stack(levels), average)
        return _sequence(images, (modality,), stacked < 0, course.days, spacing, stacked)


# ---- crops ----


def draw_crop(
    rng: np.random.Generator, native_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[tuple[int, int, int], tuple[float, float, float], int]:
    """Crop sizes (multiples of 16), spacing mm, and over how many thin slices a thick one averages."""
    in_plane = native_mm[0] * float(np.exp(rng.uniform(np.log(0.8), np.log(1.8))))
    if native_mm[2] >= THICK_MM:
        return (64, 64, 32), (in_plane, in_plane, native_mm[2] * float(rng.uniform(0.8, 1.3))), 1
    if rng.random() < 0.45:
        return (80, 80, 16), (in_plane, in_plane, float(rng.uniform(2.5, 6.5))), 3
    crop = ((48, 48, 48), (64, 64, 48), (80, 80, 32))[int(rng.choice(3, p=(0.5, 0.35, 0.15)))]
    return crop, (in_plane, in_plane, in_plane * float(rng.uniform(0.9, 1.2))), 1


def crop_points(
    crop: Sequence[int],
    spacing: Sequence[float],
    average: int,
    centre: Tensor,
    native_mm: Sequence[float],
    rng: np.random.Generator,
) -> Tensor:
    """Source voxel index (I, J, K * average, 3) of every crop voxel: small turn, flips, own spacing."""
    sizes = (crop[0], crop[1], crop[2] * average)
    steps = (spacing[0], spacing[1], spacing[2] / average)
    axes = [(torch.arange(n) - (n - 1) / 2) * s for n, s in zip(sizes, steps, strict=True)]
    millimetres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    turned = millimetres @ torch.from_numpy(_rotation(rng)).float().T
    return turned / torch.tensor(native_mm) + centre


def _rotation(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Up to about 12 degrees around each axis, flipped left-right and front-back half of the time."""
    a, b, c = rng.normal(0, 0.1, 3)
    generator = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    turn = np.eye(3) + generator + generator @ generator / 2
    left, _, right = np.linalg.svd(turn)
    flip = np.diag([rng.choice((-1.0, 1.0)), rng.choice((-1.0, 1.0)), 1.0])
    turned: npt.NDArray[np.float64] = left @ right @ flip
    return turned


def sample_at(source: Tensor, points: Tensor) -> Tensor:
    """source (C, I, J, K) read at voxel indices points (..., 3), linear, edges repeated -> (C, ...)."""
    sizes = torch.tensor(source.shape[1:])
    unit = (points / (sizes - 1).clamp(min=1) * 2 - 1).flip(-1)
    return F.grid_sample(source[None], unit[None], mode="bilinear", padding_mode="border", align_corners=True)[0]


def _grid_step(points: Tensor, shift: Tensor) -> Tensor:
    """points (I, J, K, 3) moved by shift (3, I, J, K) crop voxels along the crop's own axes."""
    origin = points[0, 0, 0]
    rows = (points[1, 0, 0] - origin, points[0, 1, 0] - origin, points[0, 0, 1] - origin)
    return points + sum(shift[axis][..., None] * row for axis, row in enumerate(rows))


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


# ---- prompts and distances ----


def _sequence(
    images: Tensor,
    modalities: tuple[str, ...],
    masks: Tensor,
    days: tuple[int, ...],
    spacing: tuple[float, float, float],
    levels: Tensor,
) -> dict[str, Tensor]:
    return {
        "images": images,
        "present": torch.tensor([m in modalities for m in MODALITIES]),
        "mask": masks,
        "days": torch.tensor(days, dtype=torch.float32),
        "spacing_mm": torch.tensor(spacing),
        "level": levels,
    }


def _finish(sequence: dict[str, Tensor], mode: str, rng: np.random.Generator) -> dict[str, Tensor]:
    """Prompt channels and similarity; ``level`` (used to place clicks deep inside) is dropped."""
    level, masks, images = sequence.pop("level"), sequence["mask"], sequence["images"]
    prompt = torch.zeros(len(masks), prompts.PROMPT_CHANNELS, *masks.shape[1:])
    alike = torch.zeros_like(images)
    for t in range(len(masks) if mode == "click all" else 1):
        core = _draw_prompt(prompt[t], mode, masks[t], level[t], sequence["spacing_mm"].tolist(), rng)
        alike[t] = prompts.similarity(images[t], core) * sequence["present"].reshape(-1, 1, 1, 1)
    return {**sequence, "prompt": prompt, "alike": alike}


def _draw_prompt(
    prompt: Tensor, mode: str, mask: Tensor, level: Tensor, spacing: list[float], rng: np.random.Generator
) -> Tensor | None:
    inside = torch.nonzero(mask)
    if mode == "none" or len(inside) == 0:
        return None
    if mode.startswith("click"):
        depth = level[mask]
        deep = inside[depth <= depth.min() * float(rng.uniform(0.1, 0.9))] if rng.random() < 0.8 else inside
        where = deep[int(rng.integers(len(deep)))] if len(deep) else inside[int(rng.integers(len(inside)))]
        return prompts.add_point(prompt, where.tolist(), spacing)
    if mode == "box":
        low, high = inside.amin(0).float(), inside.amax(0).float()
        loose = (high - low + 1) * 0.06
        low = low - torch.from_numpy(rng.normal(0.3, 0.7, 3)).float() * loose
        high = high + torch.from_numpy(rng.normal(0.3, 0.7, 3)).float() * loose
        return prompts.add_box(prompt, torch.minimum(low, high - 1).tolist(), high.tolist())
    drawn = level < float(rng.uniform(-1.0, 1.0))
    return prompts.add_mask(prompt, drawn if bool((drawn & mask).any()) else mask)


def distances(masks: Tensor, days: Tensor, spacing_mm: Tensor) -> dict[str, Tensor]:
    """phi (T, I, J, K), signed distance mm, clipped; mean_speed (T,) of the front since the visit before, mm/month."""
    spacing = tuple(float(s) for s in spacing_mm)
    phi = torch.stack([torch.from_numpy(signed_distance_mm(m.numpy(), spacing)).float() for m in masks]).clamp(
        -LARGEST_DISTANCE_MM, LARGEST_DISTANCE_MM
    )
    return {"phi": phi, "mean_speed": mean_speeds(phi, days)}


def mean_speeds(phi: Tensor, days: Tensor) -> Tensor:
    """(T,) mean of (phi before - phi now) / months over the present front; 0 at the first visit."""
    speeds = torch.zeros(len(phi))
    for t in range(1, len(phi)):
        front = phi[t].abs() < 2.0
        if bool(front.any()):
            months = (days[t] - days[t - 1]) / DAYS_PER_MONTH
            speeds[t] = ((phi[t - 1] - phi[t])[front].mean() / months).clamp(-8, 8)
    return speeds
