"""Patients with known growth.

A lesion is an arrival field A (mm): the way a tissue-aware front travels from its seed, quick in white matter, slow in
grey, stopped by fluid, as a Fisher-KPP front does with v = 2 sqrt(D rho) (Konukoglu et al. 2010, doi
10.1109/TMI.2009.2026413). At radius r the tumor is {A < r}. A visit's radius follows from a speed in mm per month and
the days; a negative speed shrinks it. Real tumors use their signed distance as A and a smooth warp of the real image.

Everything after the arrival field is torch on whatever grid it is given: the training crops and the patients written to
disk are made by the same functions. Same generator seed, same patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.series import DAYS_PER_MONTH
from napari_convlstm_tumor.training.anatomy import AIR, Anatomy

# Front speed relative to white matter, from D(white)/D(grey) of 5-10 and v ~ sqrt(D); fluid stops the front.
SPEED_GREY, SPEED_FLUID = 0.4, 0.04
UNREACHED_MM = 120.0

# Mean and spread of normalised intensity per modality: (grey, white, fluid) of the painted template.
TISSUE_LOOK = {
    "t1": (-0.2, 0.9, -2.2),
    "t1c": (-0.1, 0.8, -1.8),
    "t2": (0.4, -0.5, 3.0),
    "flair": (0.5, -0.1, -2.0),
}
# Ranges of normalised intensity of tumor parts per modality: (enhancing or solid, necrosis, oedema).
TUMOR_LOOK = {
    "t1": ((-1.8, 0.2), (-2.5, -0.8), (-1.2, 0.0)),
    "t1c": ((1.2, 4.0), (-2.2, 0.2), (-1.2, 0.0)),
    "t2": ((0.3, 2.5), (1.0, 3.8), (1.0, 2.8)),
    "flair": ((0.4, 2.6), (-1.5, 2.4), (1.0, 3.4)),
}


@dataclass(frozen=True)
class Course:
    """What happens over the visits: days (T,), radii_mm (L, T) per lesion, the speeds (L,) in mm per month."""

    days: tuple[int, ...]
    radii_mm: npt.NDArray[np.float32]
    speeds: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """An anatomy sampled on some grid, ready to be painted; all tensors (..., I, J, K) float32.

    arrival: (L, ...) mm. tissue: (3, ...) 0..1 or None. outside: (...) mm or None. images: modality -> (...).
    """

    arrival: Tensor
    tissue: Tensor | None
    outside: Tensor | None
    images: dict[str, Tensor]
    spacing_mm: tuple[float, float, float]


# ---- growth ----


def arrival_field(
    tissue: npt.NDArray[np.uint8], seed: tuple[int, int, int], rng: np.random.Generator
) -> npt.NDArray[np.float16]:
    """Arrival (I, J, K) in mm of white-matter travel from a seed voxel, on a 1 mm grid; fast marching by SimpleITK."""
    import SimpleITK as sitk

    grey, white, fluid = tissue.astype(np.float32) / 255
    speed = white + SPEED_GREY * grey + SPEED_FLUID * fluid
    noise = smooth_noise(tissue.shape[1:], 12, rng).numpy()
    speed = speed * np.exp(rng.uniform(0.1, 0.5) * noise)
    speed[white + grey + fluid < 0.1] = 1e-3
    filter = sitk.FastMarchingImageFilter()
    filter.SetTrialPoints([tuple(int(i) for i in seed)])
    filter.SetStoppingValue(UNREACHED_MM)
    times = filter.Execute(sitk.GetImageFromArray(np.maximum(speed, 1e-3).transpose(2, 1, 0)))
    return np.minimum(sitk.GetArrayFromImage(times).transpose(2, 1, 0), UNREACHED_MM).astype(np.float16)


def seed_in(tissue: npt.NDArray[np.uint8], rng: np.random.Generator) -> tuple[int, int, int]:
    """A white or grey matter voxel to start from, white three times as likely."""
    weight = tissue[1].astype(np.float32) * 3 + tissue[0]
    weight[tissue[:2].sum(axis=0) < 128] = 0
    flat = np.cumsum(weight.ravel(), dtype=np.float64)
    i, j, k = np.unravel_index(int(np.searchsorted(flat, rng.uniform(0, flat[-1]))), tissue.shape[1:])
    return int(i), int(j), int(k)


def draw_course(
    rng: np.random.Generator, visits: int, lesions: int, start_mm: tuple[float, float] = (4.0, 20.0)
) -> Course:
    """Uneven days and a radius per lesion and visit: growing, stable, shrinking, new, vanishing."""
    gaps = np.clip(np.exp(rng.normal(np.log(60), 0.6, visits - 1)), 14, 240).astype(int)
    days = np.concatenate([[0], np.cumsum(gaps)])
    radii, speeds = [], []
    for n in range(lesions):
        speed = _draw_speed(rng)
        start = rng.uniform(*start_mm) if n == 0 else rng.uniform(-6, start_mm[1] * 0.7)
        uneven = np.exp(rng.normal(0, 0.25, visits - 1))
        steps = speed * gaps / DAYS_PER_MONTH * uneven
        radii.append(np.clip(start + np.concatenate([[0], np.cumsum(steps)]), -8, 42))
        speeds.append(speed)
    return Course(tuple(int(d) for d in days), np.array(radii, dtype=np.float32), tuple(speeds))


def _draw_speed(rng: np.random.Generator) -> float:
    """Millimetres per month: slow and fast growth, stability, shrinkage."""
    kind = rng.choice(4, p=(0.4, 0.25, 0.1, 0.25))
    low, high = ((0.3, 2.0), (2.0, 6.0), (-0.15, 0.15), (-4.0, -0.4))[kind]
    return float(rng.uniform(low, high))


def level_fields(scene: Scene, course: Course, rng: np.random.Generator, wobble: float = 0.15) -> Tensor:
    """(T, I, J, K) float32: about mm to the tumor's edge at each visit, negative inside.

    The front is pushed unevenly: arrival is scaled by a smooth field whose weight grows with time.
    """
    uneven = smooth_noise(scene.arrival.shape[1:], 12 / min(scene.spacing_mm), rng)
    span = max(course.days[-1], 1)
    levels = []
    for t, day in enumerate(course.days):
        bent = scene.arrival * (1 + wobble * uneven * (0.3 + day / span))
        radius = torch.from_numpy(course.radii_mm[:, t]).reshape(-1, 1, 1, 1)
        levels.append((bent - radius).amin(dim=0))
    return torch.stack(levels)


# ---- appearance ----


@dataclass(frozen=True)
class Look:
    """How the tumor of one patient looks, the same at every visit."""

    rim_mm: float
    oedema_mm: float
    parts: dict[str, tuple[float, float, float]]
    texture: float
    enhancing: bool


def draw_look(rng: np.random.Generator) -> Look:
    """Ring or solid, with or without oedema, enhancing or not."""
    enhancing = bool(rng.random() < 0.85)
    parts = {m: tuple(float(rng.uniform(*r)) for r in ranges) for m, ranges in TUMOR_LOOK.items()}
    if not enhancing:
        parts["t1c"] = parts["t1"]
    rim = float(rng.uniform(2, 7)) if rng.random() < 0.6 else 99.0
    oedema = float(rng.uniform(3, 18)) if rng.random() < 0.7 else 0.0
    return Look(rim, oedema, parts, float(rng.uniform(0.1, 0.6)), enhancing)  # type: ignore[arg-type]


def head_background(scene: Scene, modality: str, rng: np.random.Generator, scalp: bool) -> Tensor:
    """The brain without tumor (I, J, K): real, or painted from tissue; with skull and scalp on request."""
    assert scene.tissue is not None and scene.outside is not None
    if modality in scene.images:
        image = scene.images[modality].clone()
    else:
        means = torch.tensor(TISSUE_LOOK[modality]) + torch.from_numpy(rng.normal(0, 0.25, 3)).float()
        image = (scene.tissue * means.reshape(3, 1, 1, 1)).sum(dim=0)
        image = image + 0.15 * smooth_noise(image.shape, 3, rng)
    image[scene.outside > 0.5] = AIR + float(rng.uniform(0, 1.2))
    return _with_scalp(image, scene.outside, modality, rng) if scalp else image


def _with_scalp(image: Tensor, outside: Tensor, modality: str, rng: np.random.Generator) -> Tensor:
    """Dura, skull and scalp around the brain: bright rings that are not tumor. In place.

    Without them the network outlined the scalp of real heads (T1c, 74,000 voxels against 10,000 of tumor).
    """
    uneven = _uneven(image, rng)
    skull, skin = 1.5 + rng.uniform(0, 2.5), 5 + rng.uniform(0, 6)
    end = skin + rng.uniform(3, 12)
    image[(outside > 0.5) & (outside <= skull)] = float(
        rng.uniform(0.5, 3.0) if modality == "t1c" else rng.uniform(-2, 1)
    )
    bone = (outside > skull) & (outside <= skin)
    image[bone] = float(rng.uniform(-3.5, -1.0)) + float(rng.uniform(0, 1.5)) * uneven[bone]
    fat = (outside > skin) & (outside <= end)
    image[fat] = float(rng.uniform(0.5, 6.0)) * uneven[fat]
    return image


def _uneven(image: Tensor, rng: np.random.Generator) -> Tensor:
    """(I, J, K) about 1, smooth: how bright scalp and bone are here and there."""
    return (1 + 0.35 * smooth_noise(image.shape, 10, rng)).clamp(min=0)


def paint(background: Tensor, level: Tensor, scene: Scene, look: Look, modality: str, texture: Tensor) -> Tensor:
    """The background with the tumor of one visit painted in (I, J, K)."""
    solid, necrosis, oedema = look.parts[modality]
    image = background
    if look.oedema_mm > 0 and scene.tissue is not None:
        reach = look.oedema_mm * (0.25 + 0.75 * scene.tissue[1])
        image = torch.lerp(image, oedema + 0.3 * texture, _soft(level - reach, 1.0) * (scene.tissue[:2].sum(0) > 0.3))
    image = torch.lerp(image, solid + look.texture * texture, _soft(level, 0.6))
    if look.rim_mm < 50:
        rim = look.rim_mm * (1 + 0.4 * texture.clamp(-1, 1))
        image = torch.lerp(image, necrosis + 0.3 * texture, _soft(level + rim, 0.6))
    return image


def target_mask(level: Tensor, scene: Scene, look: Look, modalities: tuple[str, ...]) -> Tensor:
    """What a reader would outline, (I, J, K) bool: the core on T1c or CT, all that is abnormal on T2 or FLAIR."""
    core = level < 0
    shows_oedema = any(m in modalities for m in ("t2", "flair"))
    if ("t1c" in modalities and look.enhancing) or not shows_oedema or look.oedema_mm == 0 or scene.tissue is None:
        return core
    reach = look.oedema_mm * (0.25 + 0.75 * scene.tissue[1])
    return core | ((level < reach) & (scene.tissue[:2].sum(0) > 0.3))


def scanner(image: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """One acquisition of an image (I, J, K): bias field, contrast, noise, blur."""
    bias = torch.exp(strength * rng.uniform(0, 0.12) * smooth_noise(image.shape, max(image.shape) / 2, rng))
    image = (image - AIR) * bias + AIR
    image = image * float(np.exp(rng.normal(0, 0.15 * strength))) + float(rng.normal(0, 0.2 * strength))
    if rng.random() < 0.3 * strength:
        image = F.avg_pool3d(image[None, None], 3, 1, 1, count_include_pad=False)[0, 0] * 0.6 + image * 0.4
    noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    return image + noise * float(rng.uniform(0.02, 0.2) * strength)


# ---- real tumors ----


def warp_coordinates(distance: Tensor, spacing_mm: tuple[float, float, float], growth_mm: Tensor) -> Tensor:
    """Displacement (3, I, J, K) in voxels: where to look in the real image so that its front has moved by growth_mm.

    distance: (I, J, K) signed mm; growth_mm: (I, J, K), positive = grown. Fades away from the front.
    """
    smooth = F.avg_pool3d(distance[None, None], 5, 1, 2, count_include_pad=False)[0, 0]
    gradient = torch.stack(torch.gradient(smooth, spacing=list(spacing_mm)))
    normal = gradient / gradient.norm(dim=0, keepdim=True).clamp(min=0.3)
    fade = torch.exp(-((distance / 20.0) ** 2))
    millimetres = -growth_mm * fade * normal
    return millimetres / torch.tensor(spacing_mm).reshape(3, 1, 1, 1)


# ---- small helpers ----


def smooth_noise(shape: tuple[int, ...] | torch.Size, scale_voxels: float, rng: np.random.Generator) -> Tensor:
    """Gaussian noise (I, J, K), mean 0 and spread about 1, smooth over scale_voxels."""
    coarse = [max(2, round(n / max(scale_voxels, 1)) + 1) for n in shape]
    noise = torch.from_numpy(rng.standard_normal(coarse, dtype=np.float32))
    return F.interpolate(noise[None, None], size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def _soft(level: Tensor, width_mm: float) -> Tensor:
    """1 inside, 0 outside, over a width that blurs the edge as a voxel does."""
    return torch.sigmoid(-level / (width_mm / 2))


def scene_of(anatomy: Anatomy, arrival: npt.NDArray[np.float16], window: tuple[slice, ...]) -> Scene:
    """An anatomy cut to a window (its own voxels), with arrival (L, ...) already on that window."""
    return Scene(
        arrival=torch.from_numpy(arrival.astype(np.float32)),
        tissue=None if anatomy.tissue is None else _float(anatomy.tissue[:, *window]) / 255,
        outside=None if anatomy.outside is None else _float(anatomy.outside[window]),
        images={m: _float(image[window]) for m, image in anatomy.images.items()},
        spacing_mm=anatomy.spacing_mm,
    )


def _float(array: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).astype(np.float32))
