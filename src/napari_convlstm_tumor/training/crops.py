"""Where and at what resolution a training sample looks: a crop that follows the lesion's size, or a whole head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.training.anatomy import Anatomy
from napari_convlstm_tumor.volume import FloatArray

# The lesion spans this many voxels of a crop: the grid of model/looks follows the size of the lesion.
SPAN_VOXELS = (10.0, 46.0)
# A lesion is mostly seen with so much around it, as the program looks at it, and not cut by the crop on all sides.
ROOM_VOXELS, ROOM_SHARE = 16.0, 0.6
SPACING_MM = (0.8, 5.5)
# The first look after a click shows about a whole head. Without a prompt a half of the crops does, the others show a
# part of it at a finer resolution, as automatic mode looks for small tumors (model/looks).
HEAD_CROP, HEAD_SPACING_MM, SEARCH_SPACING_MM = (64, 80, 48), (2.4, 3.4), (1.8, 2.4)
# The same of a limb or trunk.
WIDE_CROP, WIDE_SPACING_MM = (64, 64, 64), (2.5, 3.5)
# From this spacing on, samples are read from anatomies at half the resolution: averaged, and quick.
COARSE = 1.7
THICK_MM = 2.0  # an image with slices from here on keeps them thick

Crop = tuple[tuple[int, int, int], tuple[float, float, float], int]


def half(anatomy: Anatomy) -> Anatomy:
    """The anatomy averaged to half its resolution; a thick axis is kept."""
    i, j, k = (2 if s < 1.5 * min(anatomy.spacing_mm) else 1 for s in anatomy.spacing_mm)
    steps, (x, y, z) = (i, j, k), anatomy.spacing_mm

    def pool(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        small = F.avg_pool3d(torch.from_numpy(volume.astype(np.float32))[None, None], steps, steps)
        pooled: npt.NDArray[Any] = small[0, 0].numpy().astype(volume.dtype)
        return pooled

    return replace(
        anatomy,
        spacing_mm=(x * i, y * j, z * k),
        images={m: pool(image) for m, image in anatomy.images.items()},
        tissue=None if anatomy.tissue is None else np.stack([pool(t) for t in anatomy.tissue]),
        outside=None if anatomy.outside is None else pool(anatomy.outside),
        distance=None if anatomy.distance is None else pool(anatomy.distance),
    )


def draw_crop(extent_mm: float, rng: np.random.Generator, native_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> Crop:
    """Crop sizes (multiples of 16), spacing mm, and over how many thin slices a thick one averages.

    The spacing makes a lesion of extent_mm span SPAN_VOXELS.
    """
    low, high = np.log(SPAN_VOXELS)
    spacing = extent_mm / float(np.exp(rng.uniform(low, high)))
    spacing = float(np.clip(spacing, max(SPACING_MM[0], 0.8 * native_mm[0]), SPACING_MM[1]))
    if native_mm[2] >= THICK_MM:  # real thick slices stay as they are, or become coarser with the rest
        return _sized(extent_mm, spacing, max(spacing, native_mm[2]) * float(rng.uniform(0.9, 1.2)), 1, rng)
    if rng.random() < 0.4:
        thick = max(float(rng.uniform(2.5, 6.5)), spacing)
        return _sized(extent_mm, spacing, thick, max(1, min(3, round(thick / spacing))), rng)
    return _sized(extent_mm, spacing, spacing * float(rng.uniform(0.9, 1.2)), 1, rng)


def _sized(extent_mm: float, in_plane: float, through: float, average: int, rng: np.random.Generator) -> Crop:
    """Fewer slices where they are thick, so that a crop is about as wide as it is high."""
    ratio = through / in_plane
    if ratio > 2.6:
        return (80, 80, 16), (in_plane, in_plane, through), average
    if ratio > 1.5:
        return (64, 64, 32), (in_plane, in_plane, through), average
    crop = ((48, 48, 48), (64, 64, 48), (64, 64, 64))[int(rng.choice(3, p=(0.55, 0.35, 0.1)))]
    if extent_mm / in_plane + ROOM_VOXELS > min(crop) and rng.random() < ROOM_SHARE:
        crop = (64, 64, 64)
    return crop, (in_plane, in_plane, through), average


def head_crop(rng: np.random.Generator, search: bool = False) -> Crop:
    """A whole head, coarse; with slices of up to 6.5 mm now and then. search: or a part of it, finer."""
    finer = search and rng.random() < 0.5
    spacing = float(rng.uniform(*(SEARCH_SPACING_MM if finer else HEAD_SPACING_MM)))
    if rng.random() < 0.3:
        return (64, 80, 32), (spacing, spacing, float(rng.uniform(4, 6.5))), 1
    return HEAD_CROP, (spacing, spacing, spacing * float(rng.uniform(0.95, 1.15))), 1


def wide_crop(rng: np.random.Generator, native_mm: Sequence[float]) -> Crop:
    """About all of an image of a limb or trunk, coarse; slices thicker than that stay as they are."""
    spacing = float(rng.uniform(*WIDE_SPACING_MM))
    return WIDE_CROP, (spacing, spacing, max(spacing, native_mm[2]) * float(rng.uniform(0.95, 1.1))), 1


def away_from(
    lesion_mm: FloatArray | None, half_mm: FloatArray, whole_mm: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Middle (mm) of a crop that has a lesion anywhere, now and then beyond its border; anywhere without a lesion."""
    away = rng.uniform(-1, 1, 3)
    return (away + 1) / 2 * whole_mm if lesion_mm is None else lesion_mm + away * half_mm


def in_view(middle_mm: FloatArray, half_mm: FloatArray, whole_mm: FloatArray) -> FloatArray:
    """The middle of a crop of half sizes ``half_mm`` moved so that it leaves as little as possible of the image."""
    moved = np.clip(middle_mm, half_mm, np.maximum(whole_mm - half_mm, half_mm))
    return np.where(2 * half_mm >= whole_mm, whole_mm / 2, moved)


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


def within(source: Tensor, points: Tensor) -> Tensor:
    """(...) bool: where points (..., 3) lie in the image; beyond it there is nothing, as in a real field of view."""
    last = torch.tensor(source.shape[1:]) - 1
    return ((points >= 0) & (points <= last)).all(dim=-1)


def grid_step(points: Tensor, shift: Tensor) -> Tensor:
    """points (I, J, K, 3) moved by shift (3, I, J, K) crop voxels along the crop's own axes."""
    origin = points[0, 0, 0]
    rows = (points[1, 0, 0] - origin, points[0, 1, 0] - origin, points[0, 0, 1] - origin)
    return points + sum(shift[axis][..., None] * row for axis, row in enumerate(rows))
