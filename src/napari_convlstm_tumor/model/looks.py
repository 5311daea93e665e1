"""At what resolution the network looks, and at what part of the common grid: both follow the size of the lesion.

A network sees a few dozen voxels around each voxel. A tumor of 150 mm on 1.5 mm voxels is more than it can take in, one
of 10 mm on 3 mm voxels is a dot. So it works on a grid where the lesion spans about SPAN_VOXELS, as nnInteractive's
zoom does (doi 10.48550/arXiv.2503.08373); training draws its crops the same way. A first look, coarse and wide or as
large as the box or mask that was given, shows how large the lesion is; at most LOOKS looks follow it.

A small lesion is looked at on voxels finer than the grid's, as a few voxels are too little for a network that sees a
few dozen; model/predict takes the mean with a look at the same place on the grid's own voxels.

Axes are averaged, or made finer (linearly), and keep half-voxel geometry: common voxel i lies at
(i + 0.5) * n / length - 0.5.
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
# A lesion that spans fewer voxels of the grid than this is seen on voxels down to FINEST_SMALL_MM, and of at least half
# the grid's: below 1 mL it is followed more often, while larger ones become too large (60 heads; docs/training-log.md).
# Slices from THICK_MM on stay as they are: what lies between two of them is not known.
SMALL_VOXELS, FINEST_SMALL_MM, MOST_FINER, THICK_MM = 9.0, 0.75, 2.0, 2.0
LOOKS = 3
# The look shows this many voxels around the lesion: what the network was trained to see around it.
MARGIN_VOXELS = 14.0
# A lesion this near to the border of the look (voxels) may go on beyond it.
BORDER_VOXELS = 3
# An axis is averaged or made finer only when that makes its voxels longer or shorter by more than this.
WORTH_CHANGING = 1.3
# Where a click shows nothing on the first look, the lesion is taken to be this small.
UNSEEN_EXTENT_MM = 15.0


def first_look(grid: Grid) -> Look:
    """The whole common grid, coarse."""
    return _over_everything(grid, FIRST_SPACING_MM)


def search_looks(grid: Grid) -> list[Look]:
    """The whole common grid finely and, where that is another one, coarse."""
    fine, coarse = _over_everything(grid, SEARCH_SPACING_MM), first_look(grid)
    return [fine] if fine == coarse else [fine, coarse]


def _over_everything(grid: Grid, spacing_mm: float) -> Look:
    return _look(grid, np.zeros(3), np.array(grid.shape, dtype=np.float64), np.maximum(spacing_mm, grid.spacing_mm))


def look_at(grid: Grid, low_mm: FloatArray, high_mm: FloatArray, extent_mm: float, finer: bool = True) -> Look:
    """The part of the grid around low..high (mm from the grid's first corner) for lesions of ``extent_mm``.

    finer: where these are small, its voxels may be finer than the grid's.
    """
    own = np.array(grid.spacing_mm)
    small = finer and extent_mm < SMALL_VOXELS * own.min()
    finest = np.where(small & (own < THICK_MM), own / MOST_FINER, own)
    lowest = FINEST_SMALL_MM if small else FINEST_MM
    spacing = np.maximum(np.clip(extent_mm / SPAN_VOXELS, lowest, COARSEST_MM), finest)
    margin = MARGIN_VOXELS * spacing
    return _look(grid, (low_mm - margin) / own, (high_mm + margin) / own, spacing)


def _look(grid: Grid, low: FloatArray, high: FloatArray, wanted_mm: FloatArray) -> Look:
    starts = np.clip(np.floor(low), 0, np.array(grid.shape) - 1).astype(int)
    stops = np.clip(np.ceil(high), starts + 1, grid.shape).astype(int)
    sizes = []
    for start, stop, own, wanted in zip(starts, stops, grid.spacing_mm, wanted_mm, strict=True):
        changed = max(wanted / own, own / wanted) > WORTH_CHANGING
        sizes.append(max(1, round((stop - start) * own / wanted)) if changed else int(stop - start))
    i, j, k = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    return Look((i, j, k), (sizes[0], sizes[1], sizes[2]))


def own_voxels(look: Look) -> Look | None:
    """The same part of the grid on the grid's own voxels where the look's are finer; None where none is."""
    i, j, k = (min(n, b.stop - b.start) for n, b in zip(look.shape, look.box, strict=True))
    return None if (i, j, k) == look.shape else Look(look.box, (i, j, k))


def next_look(
    look: Look,
    grid: Grid,
    found: npt.NDArray[np.bool_],
    points_mm: Sequence[FloatArray],
    closer: bool = False,
    finer: bool = True,
) -> Look | None:
    """A better look at the lesions ``found`` (T, *look.shape), or None when this one does.

    closer: a finer look is better even where this one suits the size of what was found.
    finer: as look_at has it.

    points_mm: clicks, mm from the grid's first corner, which are looked at too; where nothing was found, a small lesion
    is looked for there.
    """
    spacing = _spacing(look, grid)
    corner = corner_mm(look, grid)
    if not found.any():
        if not points_mm or min(spacing) <= FINEST_MM * WORTH_CHANGING:
            return None
        half = UNSEEN_EXTENT_MM / 2
        low, high = np.min(points_mm, axis=0) - half, np.max(points_mm, axis=0) + half
        better = look_at(grid, low, high, UNSEEN_EXTENT_MM, finer)
        return None if better == look else better
    extent = lesion_extent_mm(found, spacing)
    low, high = _bounds(np.asarray(found.any(axis=0)))
    shown = [corner + low * spacing, corner + high * spacing, *points_mm]
    better = look_at(grid, np.min(shown, axis=0), np.max(shown, axis=0), extent, finer)
    new_spacing = _spacing(better, grid)
    span = extent / min(spacing)
    finer_or_coarser = (
        not SPAN_RANGE[0] <= span <= SPAN_RANGE[1]
        and max(max(a / b, b / a) for a, b in zip(spacing, new_spacing, strict=True)) > WORTH_CHANGING
    )
    is_finer = max(a / b for a, b in zip(spacing, new_spacing, strict=True)) > WORTH_CHANGING
    wanted = finer_or_coarser or _runs_out(look, grid, low, high) or (closer and is_finer)
    return better if wanted else None


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
    if look == _whole(aligned.grid):
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
    if look == _whole(grid):
        return prompts
    small = look_grid(look, grid)
    return tuple(
        p if p.mask is None else replace(p, mask=Volume(shrink_mask(p.mask.data, look).astype(np.uint8), small))
        for p in prompts
    )


def corner_mm(look: Look, grid: Grid) -> FloatArray:
    """Where a look begins, mm from the grid's first corner."""
    return np.array([b.start * s for b, s in zip(look.box, grid.spacing_mm, strict=True)])


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
    """A volume of the common grid on the grid of a look."""
    return _resized(volume[look.box], look.shape)


def shrink_mask(mask: npt.NDArray[np.generic], look: Look) -> npt.NDArray[np.bool_]:
    """A mask averaged; one too thin for the coarser voxels keeps every voxel it touches."""
    share = shrink(mask != 0, look)
    solid = share >= 0.5
    return solid if np.count_nonzero(solid) > 0 or not share.any() else share > 0


def grow(volume: FloatVolume, look: Look, grid: Grid, beyond: float = 0.0) -> FloatVolume:
    """A volume on the grid of a look, back on the common grid; ``beyond`` outside the look."""
    whole = np.full(grid.shape, beyond, dtype=np.float32)
    whole[look.box] = _resized(volume, [b.stop - b.start for b in look.box])
    return whole


def _resized(volume: npt.NDArray[np.generic], shape: Sequence[int]) -> FloatVolume:
    """So many voxels over the same extent (I, J, K): averaged along axes with fewer, linear along those with more."""
    part = torch.from_numpy(np.ascontiguousarray(volume).astype(np.float32))[None, None]
    i, j, k = (min(a, b) for a, b in zip(volume.shape, shape, strict=True))
    part = F.adaptive_avg_pool3d(part, (i, j, k))
    resized: FloatVolume = F.interpolate(part, size=list(shape), mode="trilinear", align_corners=False)[0, 0].numpy()
    return resized


def _whole(grid: Grid) -> Look:
    """The look that is the common grid itself."""
    i, j, k = (slice(0, n) for n in grid.shape)
    return Look((i, j, k), grid.shape)
