"""At what resolution the network looks, and at what part of the common grid: both follow the size of the lesion.

A network sees a few dozen voxels around each voxel. A tumor of 150 mm on 1.5 mm voxels is more than it can take in, one
of 10 mm on 3 mm voxels is a dot. So it works on a grid where the lesion spans about SPAN_VOXELS, as nnInteractive's
zoom does (doi 10.48550/arXiv.2503.08373); training draws its crops the same way. A first look, coarse and wide or as
large as the box or mask that was given, shows how large the lesion is; at most LOOKS looks follow it.

Axes are averaged, never made finer, and keep half-voxel geometry: common voxel i lies at (i + 0.5) * n / length - 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional as F

from napari_convlstm_tumor.series import AlignedSeries, FloatVolume, Look, Prompt
from napari_convlstm_tumor.volume import FloatArray, Grid, Volume

SPAN_VOXELS = 28.0
# What a lesion may span before another look is worth its time.
SPAN_RANGE = (17.0, 46.0)
FIRST_SPACING_MM = 3.0
# Without a prompt the whole grid is looked at again, this finely: tumors below 5 mL are dots on a coarse look.
SEARCH_SPACING_MM = 2.2
FINEST_MM, COARSEST_MM = 1.0, 5.0
LOOKS = 3
# The look shows this many voxels around the lesion: what the network was trained to see around it.
MARGIN_VOXELS = 14.0
# A lesion this near to the border of the look (voxels) may go on beyond it.
BORDER_VOXELS = 3
# An axis is averaged only when that makes its voxels longer by more than this.
WORTH_AVERAGING = 1.3
# From the visit that was pointed at a lesion may reach this many times its own size (and so many mm) to each side at
# another visit; what goes beyond is a leak, and no reason to look there.
REACH, REACH_MM = 1.0, 10.0
# Where a click shows nothing on the first look, the lesion is taken to be this small.
UNSEEN_EXTENT_MM = 15.0


def first_look(grid: Grid) -> Look:
    """The whole common grid, coarse."""
    return _look(grid, np.zeros(3), np.array(grid.shape, dtype=np.float64), FIRST_SPACING_MM)


def search_looks(grid: Grid) -> list[Look]:
    """The whole common grid finely and, where that is another one, coarse."""
    fine = _look(grid, np.zeros(3), np.array(grid.shape, dtype=np.float64), SEARCH_SPACING_MM)
    coarse = first_look(grid)
    return [fine] if fine == coarse else [fine, coarse]


def look_at(grid: Grid, low_mm: FloatArray, high_mm: FloatArray, extent_mm: float) -> Look:
    """The part of the grid around low..high (mm from the grid's first corner) for lesions of ``extent_mm``."""
    spacing = float(np.clip(extent_mm / SPAN_VOXELS, FINEST_MM, COARSEST_MM))
    margin = MARGIN_VOXELS * np.maximum(spacing, grid.spacing_mm)
    size = np.array(grid.spacing_mm)
    return _look(grid, (low_mm - margin) / size, (high_mm + margin) / size, spacing)


def _look(grid: Grid, low: FloatArray, high: FloatArray, spacing_mm: float) -> Look:
    starts = np.clip(np.floor(low), 0, np.array(grid.shape) - 1).astype(int)
    stops = np.clip(np.ceil(high), starts + 1, grid.shape).astype(int)
    sizes = []
    for start, stop, own in zip(starts, stops, grid.spacing_mm, strict=True):
        averaged = spacing_mm > WORTH_AVERAGING * own
        sizes.append(max(1, round((stop - start) * own / spacing_mm)) if averaged else int(stop - start))
    i, j, k = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    return Look((i, j, k), (sizes[0], sizes[1], sizes[2]))


def next_look(
    look: Look, grid: Grid, found: npt.NDArray[np.bool_], points_mm: Sequence[FloatArray], closer: bool = False
) -> Look | None:
    """A better look at the lesions ``found`` (T, *look.shape), or None when this one does.

    closer: a finer look is better even where this one suits the size of what was found.

    points_mm: clicks, mm from the grid's first corner; where nothing was found, a small lesion is looked for there.
    """
    spacing = _spacing(look, grid)
    corner = np.array([b.start * s for b, s in zip(look.box, grid.spacing_mm, strict=True)])
    if not found.any():
        if not points_mm or min(spacing) <= FINEST_MM * WORTH_AVERAGING:
            return None
        half = UNSEEN_EXTENT_MM / 2
        better = look_at(grid, np.min(points_mm, axis=0) - half, np.max(points_mm, axis=0) + half, UNSEEN_EXTENT_MM)
        return None if better == look else better
    extent = lesion_extent_mm(found, spacing)
    low, high = _bounds(np.asarray(found.any(axis=0)))
    better = look_at(grid, corner + low * spacing, corner + high * spacing, extent)
    new_spacing = _spacing(better, grid)
    span = extent / min(spacing)
    finer_or_coarser = (
        not SPAN_RANGE[0] <= span <= SPAN_RANGE[1]
        and max(max(a / b, b / a) for a, b in zip(spacing, new_spacing, strict=True)) > WORTH_AVERAGING
    )
    finer = max(a / b for a, b in zip(spacing, new_spacing, strict=True)) > WORTH_AVERAGING
    wanted = finer_or_coarser or _runs_out(look, grid, low, high) or (closer and finer)
    return better if wanted else None


def within_reach(found: npt.NDArray[np.bool_], visit: int, spacing_mm: Sequence[float]) -> npt.NDArray[np.bool_]:
    """``found`` (T, I, J, K) without what lies further from the lesion of ``visit`` than it can have grown."""
    if not found[visit].any():
        return found
    low, high = _bounds(found[visit])
    reach = REACH * (high - low) + REACH_MM / np.array(spacing_mm)
    starts = np.maximum(np.floor(low - reach), 0).astype(int)
    box = tuple(slice(int(a), int(b)) for a, b in zip(starts, np.ceil(high + reach), strict=True))
    near = np.zeros_like(found)
    near[:, *box] = found[:, *box]
    return near


def _runs_out(look: Look, grid: Grid, low: FloatArray, high: FloatArray) -> bool:
    """True when the lesion reaches the border of the look where the images go on."""
    before = [a <= BORDER_VOXELS and b.start > 0 for a, b in zip(low, look.box, strict=True)]
    after = [
        n - a <= BORDER_VOXELS and b.stop < whole
        for a, n, b, whole in zip(high, look.shape, look.box, grid.shape, strict=True)
    ]
    return any(before) or any(after)


def lesion_extent_mm(masks: npt.NDArray[np.bool_], spacing_mm: Sequence[float]) -> float:
    """Typical length of the lesions in masks (T, I, J, K): geometric mean over axes and lesions, by their volume."""
    extents, weights = [], []
    for mask in masks:
        labels, _ = ndimage.label(mask)
        for label, box in enumerate(ndimage.find_objects(labels), start=1):
            lengths = [(b.stop - b.start) * s for b, s in zip(box, spacing_mm, strict=True)]
            extents.append(math.log(math.prod(lengths)) / 3)
            weights.append(float(np.count_nonzero(labels[box] == label)))
    return math.exp(float(np.average(extents, weights=weights)))


def _bounds(mask: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    inside = np.argwhere(mask)
    return inside.min(axis=0).astype(np.float64), inside.max(axis=0) + 1.0


def _spacing(look: Look, grid: Grid) -> list[float]:
    return [(b.stop - b.start) * s / n for b, s, n in zip(look.box, grid.spacing_mm, look.shape, strict=True)]


# ---- there and back ----


def seen_through(look: Look, aligned: AlignedSeries) -> AlignedSeries:
    """The series on the grid of a look; the same object when the look is the common grid itself."""
    if look.shape == aligned.grid.shape:
        return aligned
    visits, kinds = aligned.data.shape[:2]
    data = np.empty((visits, kinds, *look.shape), dtype=np.float32)
    for t in range(visits):
        for c in range(kinds):
            data[t, c] = shrink(aligned.data[t, c], look)
    return replace(
        aligned,
        data=data,
        inside=np.stack([shrink(inside, look) >= 0.5 for inside in aligned.inside]),
        masks=tuple(None if m is None else shrink_mask(m, look).astype(np.uint8) for m in aligned.masks),
        grid=look_grid(look, aligned.grid),
    )


def prompts_through(look: Look, prompts: tuple[Prompt, ...], grid: Grid) -> tuple[Prompt, ...]:
    """Prompts for the grid of a look: points and boxes are in mm and stay, masks are averaged."""
    if look.shape == grid.shape:
        return prompts
    small = look_grid(look, grid)
    return tuple(
        p if p.mask is None else replace(p, mask=Volume(shrink_mask(p.mask.data, look).astype(np.uint8), small))
        for p in prompts
    )


def look_grid(look: Look, grid: Grid) -> Grid:
    """The grid of a look within the common grid."""
    ratio = np.array([(b.stop - b.start) / n for b, n in zip(look.box, look.shape, strict=True)])
    start = np.array([b.start for b in look.box])
    affine = np.array(grid.affine)
    first = affine[:3, :3] @ (start + (ratio - 1) / 2) + affine[:3, 3]
    affine[:3, :3] = affine[:3, :3] * ratio
    affine[:3, 3] = first
    return Grid(look.shape, affine)


def shrink(volume: npt.NDArray[np.generic], look: Look) -> FloatVolume:
    """A volume of the common grid averaged to the grid of a look."""
    part = torch.from_numpy(np.ascontiguousarray(volume[look.box]).astype(np.float32))
    small: FloatVolume = F.adaptive_avg_pool3d(part[None, None], look.shape)[0, 0].numpy()
    return small


def shrink_mask(mask: npt.NDArray[np.generic], look: Look) -> npt.NDArray[np.bool_]:
    """A mask averaged; one too thin for the coarser voxels keeps every voxel it touches."""
    share = shrink(mask != 0, look)
    solid = share >= 0.5
    return solid if np.count_nonzero(solid) > 0 or not share.any() else share > 0


def grow(volume: FloatVolume, look: Look, grid: Grid, beyond: float = 0.0) -> FloatVolume:
    """A volume on the grid of a look, back on the common grid (linear); ``beyond`` outside the look."""
    sizes = [b.stop - b.start for b in look.box]
    part = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
    whole = np.full(grid.shape, beyond, dtype=np.float32)
    whole[look.box] = F.interpolate(part, size=sizes, mode="trilinear", align_corners=False)[0, 0].numpy()
    return whole
