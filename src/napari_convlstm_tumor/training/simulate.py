"""Patients with known growth.

A lesion is an arrival field A (mm): the way a tissue-aware front travels from its seed, quick in white matter, slow in
grey, stopped by fluid, as a Fisher-KPP front does with v = 2 sqrt(D rho) (Konukoglu et al. 2010, doi
10.1109/TMI.2009.2026413). At radius r the tumor is {A < r}. A visit's radius follows from a speed in mm per month and
the days; a negative speed shrinks it. Real tumors use their signed distance as A and a smooth warp of the real image.

Everything after the arrival field is torch on whatever grid it is given: the training crops and the patients written to
disk are made by the same functions. Same generator seed, same patient.

This module holds growth; appearance, head and scene hold the rest and are offered here too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.series import DAYS_PER_MONTH
from napari_convlstm_tumor.training.appearance import (
    Look,
    ct_scanner,
    draw_look,
    heterogeneous,
    paint,
    scanner,
    target_mask,
    with_thin_rim,
)
from napari_convlstm_tumor.training.head import head_background
from napari_convlstm_tumor.training.scene import Scene, scene_of, smooth_noise

__all__ = [
    "Course",
    "Look",
    "Scene",
    "arrival_field",
    "ct_scanner",
    "draw_course",
    "draw_look",
    "head_background",
    "heterogeneous",
    "level_fields",
    "paint",
    "scanner",
    "scene_of",
    "seed_in",
    "smooth_noise",
    "target_mask",
    "warp_coordinates",
    "with_thin_rim",
]

# Front speed relative to white matter, from D(white)/D(grey) of 5-10 and v ~ sqrt(D); fluid stops the front.
SPEED_GREY, SPEED_FLUID = 0.4, 0.04
UNREACHED_MM = 120.0


@dataclass(frozen=True)
class Course:
    """What happens over the visits: days (T,), radii_mm (L, T) per lesion, the speeds (L,) in mm per month."""

    days: tuple[int, ...]
    radii_mm: npt.NDArray[np.float32]
    speeds: tuple[float, ...]


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
    kind = rng.choice(4, p=(0.34, 0.2, 0.12, 0.34))
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
