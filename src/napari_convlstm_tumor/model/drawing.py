"""What a person gave (clicks, boxes, scribbles, masks), drawn as the channels that the network reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from napari_convlstm_tumor.model import looks
from napari_convlstm_tumor.model import prompts as channels
from napari_convlstm_tumor.series import AlignedSeries, FloatVolume, Prompt
from napari_convlstm_tumor.volume import FloatArray, Grid, Volume

# How sharply the ellipsoid in a box ends, per its radius.
BOX_EDGE = 12.0
# The ellipsoid's radii as a share of the box's: a tumor touches the walls at single points. On the masks of the 19
# sarcomas trained on, ellipsoids of this size have a mean Dice of 0.761, those that touch the walls 0.749 (a scratch
# script).
BOX_FILLED = 0.95
# A scribbled line is drawn as clicks this far apart.
SCRIBBLE_STEP_MM = 4.0


def is_prompted(aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> bool:
    """Whether anything points at a tumor: a prompt, or a mask that is not empty."""
    return bool(visits_pointed_at(aligned, prompts))


def visits_pointed_at(aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> list[int]:
    """0-based visits with a prompt, or with a mask that is not empty."""
    masked = {visit for visit, mask in enumerate(aligned.masks) if mask is not None and mask.any()}
    return sorted({p.visit - 1 for p in prompts} | masked)


def draw_prompts(aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> dict[int, tuple[Tensor, Tensor]]:
    """0-based visit -> (prompt channels on the common grid, mean intensities (P, C) of the tissue of each prompt).

    One mean a prompt: the mean of a click in dark necrosis and one in a bright lesion is the intensity of neither.
    Infinite, and so like nothing, for a kind of image that the visit lacks.
    """
    drawn: dict[int, tuple[Tensor, Tensor]] = {}
    for visit, mask in enumerate(aligned.masks):
        here = [p for p in prompts if p.visit == visit + 1]
        if mask is None and not here:
            continue
        canvas = channels.empty_prompt(aligned.grid.shape)
        cores = [_draw_one(canvas, prompt, aligned) for prompt in here]
        if mask is not None:
            cores.append(channels.add_mask(canvas, torch.from_numpy(closed(mask, aligned.grid.spacing_mm))))
        means = torch.stack([_mean_in(core, aligned.data[visit]) for core in cores])
        drawn[visit] = (canvas, means.where(torch.from_numpy(aligned.present[visit]), torch.inf))
    return drawn


def _mean_in(core: Tensor, images: npt.NDArray[np.float32]) -> Tensor:
    """Mean (C,) of images (C, I, J, K) in a core; infinite, and so like nothing, where the core is empty."""
    values = torch.from_numpy(images)
    return values[:, core].mean(dim=1) if bool(core.any()) else values.new_full((len(values),), torch.inf)


def closed(mask: npt.NDArray[np.generic], spacing_mm: Sequence[float]) -> npt.NDArray[np.bool_]:
    """A mask with the holes of every slice filled: the network outlines a core with the necrosis that its rim encloses.

    Slices lie across the axis of the longest voxels, the last one of equals.
    """
    axis = 2 - int(np.argmax(np.round(spacing_mm, 2)[::-1]))
    slices = [ndimage.binary_fill_holes(piece) for piece in np.moveaxis(mask != 0, axis, 0)]
    return np.ascontiguousarray(np.moveaxis(np.stack(slices), 0, axis))


def _draw_one(canvas: Tensor, prompt: Prompt, aligned: AlignedSeries) -> Tensor:
    if prompt.type == "mask":
        assert prompt.mask is not None
        return channels.add_mask(canvas, torch.from_numpy(closed(prompt.mask.data, aligned.grid.spacing_mm)))
    assert prompt.ras_mm is not None
    index = aligned.grid.to_index(prompt.ras_mm)
    if prompt.type == "point":
        return channels.add_point(canvas, index.tolist(), aligned.grid.spacing_mm)
    if prompt.type == "scribble":
        core = torch.zeros(aligned.grid.shape, dtype=torch.bool)
        for place in aligned.grid.to_index(along(prompt.ras_mm)):
            core |= channels.add_point(canvas, place.tolist(), aligned.grid.spacing_mm)
        return core
    return channels.add_box(canvas, index.min(axis=0).tolist(), index.max(axis=0).tolist())


def along(line_mm: FloatArray) -> FloatArray:
    """Points (M, 3) at most SCRIBBLE_STEP_MM apart along a line of corners (N, 3)."""
    places = [line_mm[:1]]
    for a, b in pairwise(line_mm):
        steps = max(1, math.ceil(float(np.linalg.norm(b - a)) / SCRIBBLE_STEP_MM))
        places.append(a + (b - a) * np.linspace(0, 1, steps + 1)[1:, None])
    return np.concatenate(places)


def prompted_bounds(aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> tuple[FloatArray, FloatArray, float] | None:
    """(low, high) in mm from the grid's first corner, and the typical extent, of the boxes and masks that are given.

    None when only clicks are: they do not tell the size.
    """
    masks = [m > 0 for m in aligned.masks if m is not None and m.any()]
    masks += [p.mask.data > 0 for p in prompts if p.mask is not None and p.mask.data.any()]
    spacing = np.array(aligned.grid.spacing_mm)
    lows, highs, extents = [], [], []
    if masks:
        extents.append(looks.lesion_extent_mm(np.stack(masks), aligned.grid.spacing_mm))
        inside = np.argwhere(np.any(masks, axis=0))
        lows.append(inside.min(axis=0) * spacing)
        highs.append((inside.max(axis=0) + 1) * spacing)
    for prompt in prompts:
        if prompt.ras_mm is None:
            continue
        corners = np.atleast_2d(from_corner(prompt.ras_mm, aligned.grid))
        lows.append(corners.min(axis=0))
        highs.append(corners.max(axis=0))
        if prompt.type == "box":
            extents.append(float(np.exp(np.mean(np.log(np.maximum(highs[-1] - lows[-1], spacing))))))
    if not extents:
        return None
    return np.min(lows, axis=0), np.max(highs, axis=0), float(np.mean(extents))


def from_corner(ras_mm: FloatArray, grid: Grid) -> FloatArray:
    """Millimetres from the grid's first corner, along its axes."""
    return (grid.to_index(ras_mm) + 0.5) * np.array(grid.spacing_mm)


def box_as_mask(box: Prompt, probability: FloatVolume, grid: Grid) -> Prompt:
    """A box as a mask of its visit: where the network and an ellipsoid in the box agree on average.

    A person's box says more than the network makes of it: on seven sarcomas the mean of the two is nearer the truth
    than the network (docs/accuracy.md). As a mask it leads the network at every visit, so volumes stay comparable.
    """
    assert box.ras_mm is not None
    low, high = np.sort(grid.to_index(box.ras_mm), axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, channels.SMALLEST_HALF_WIDTH)
    axes = np.ogrid[tuple(slice(0, n) for n in grid.shape)]
    radius = np.sqrt(sum(((x - m) / h) ** 2 for x, m, h in zip(axes, middle, half, strict=True)))
    ellipsoid = 1 / (1 + np.exp(np.clip(BOX_EDGE * (radius - BOX_FILLED), -30, 30)))
    mask = probability[box.visit - 1] + ellipsoid >= 1
    if not mask.any():  # the network saw nothing there
        mask = radius <= 1
    return Prompt(box.visit, "mask", mask=Volume(mask.astype(np.uint8), grid))
