"""Prompts as channels: where a person pointed, as maps on the voxel grid that the network reads.

PROMPT_CHANNELS maps (near, far, box, mask), all 0 when there is no prompt:
  near  exp(-(d / 4 mm)^2 / 2) around a click        far  exp(-d / 30 mm) around a click
  box   1 - r / 2 inside the box, r = 1 on the ellipsoid inscribed in it       mask  1 inside a given mask
and, per modality, the similarity of each voxel to the prompted tissue, exp(-((I - I_prompt) / 0.35)^2) on normalised
intensities: without it the network first learns to paint a fixed ball at the click.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PROMPT_CHANNELS = 4
NEAR, FAR, BOX, MASK = range(PROMPT_CHANNELS)
NEAR_MM = 4.0
FAR_MM = 30.0
SIMILARITY_WIDTH = 0.35
# The prompted tissue is what lies this near to a click, or in the inner part of a box or mask.
CLICK_RADIUS_MM = 2.0
BOX_CORE = 0.6  # elliptical radius within which a box is taken to be tumor
SMALLEST_HALF_WIDTH = 0.5  # voxels; a box drawn in one slice still has a body
# At a visit that nobody pointed at, the likeness to the tissue pointed at at another one counts so much. The network
# was not trained with it. On the heads of benchmarks/development_set.py, clicked at visit 1, Dice was 0.568 without it,
# 0.624 with half and 0.579 with all on T1c (n = 5; all of it one lost tumor found again), 0.900, 0.901 and 0.900 on
# FLAIR (n = 6). Where the program clicked by itself it lost (FLAIR 0.883 to 0.856), so only for a person's prompt.
LIKENESS_CARRIED = 0.5


def empty_prompt(shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """(PROMPT_CHANNELS, I, J, K) zeros."""
    return torch.zeros((PROMPT_CHANNELS, *shape), device=device)


def add_point(prompt: Tensor, index: Sequence[float], spacing_mm: Sequence[float]) -> Tensor:
    """Draw a click at a (fractional) voxel index into prompt, in place. Returns the core (I, J, K) bool."""
    squared = _squared_distance_mm(prompt, index, spacing_mm)
    prompt[NEAR] = torch.maximum(prompt[NEAR], torch.exp(-squared / (2 * NEAR_MM**2)))
    prompt[FAR] = torch.maximum(prompt[FAR], torch.exp(-squared.sqrt() / FAR_MM))
    nearest = squared.min()
    return squared <= torch.clamp(nearest, min=CLICK_RADIUS_MM**2)


def add_box(prompt: Tensor, low: Sequence[float], high: Sequence[float]) -> Tensor:
    """Draw a box with corners at voxel indices low <= high into prompt, in place. Returns the core (I, J, K) bool."""
    radius = torch.zeros(())
    inside = torch.ones((), dtype=torch.bool, device=prompt.device)
    for axis, (a, b) in enumerate(zip(low, high, strict=True)):
        half = max((b - a) / 2, SMALLEST_HALF_WIDTH)
        offset = (_axis(prompt, axis) - (a + b) / 2).abs() / half
        inside = inside & (offset <= 1)
        radius = radius.to(prompt.device) + offset**2
    radius = radius.sqrt()
    prompt[BOX] = torch.maximum(prompt[BOX], (1 - radius / 2) * inside)
    return (radius <= BOX_CORE) & inside


def add_mask(prompt: Tensor, mask: Tensor) -> Tensor:
    """Draw a mask (I, J, K) into prompt, in place. Returns the core: the mask itself."""
    core = mask > 0.5
    prompt[MASK] = torch.maximum(prompt[MASK], core.to(prompt.dtype))
    return core


def similarity(image: Tensor, core: Tensor | None, pointed_at: Tensor | None = None) -> Tensor:
    """Likeness (C, I, J, K) in 0..1 of every voxel of image (C, I, J, K) to the mean of the core; 0 without core.

    pointed_at: the image (C, I, J, K) of another visit, in which the core is.
    """
    if core is None or not bool(core.any()):
        return torch.zeros_like(image)
    shown = image if pointed_at is None else pointed_at
    return torch.stack(
        [likeness(channel, other[core].mean()[None]) for channel, other in zip(image, shown, strict=True)]
    )


def likeness(channel: Tensor, references: Tensor) -> Tensor:
    """exp(-((I - reference) / 0.35)^2) of one channel (I, J, K), to the nearest of the references (P,)."""
    nearest = torch.stack([(channel - reference).abs() for reference in references]).amin(dim=0)
    return torch.exp(-((nearest / SIMILARITY_WIDTH) ** 2))


def _axis(prompt: Tensor, axis: int) -> Tensor:
    """Voxel index along one axis, shaped to broadcast over (I, J, K)."""
    size = prompt.shape[axis + 1]
    shape = [1, 1, 1]
    shape[axis] = size
    return torch.arange(size, dtype=prompt.dtype, device=prompt.device).reshape(shape)


def _squared_distance_mm(prompt: Tensor, index: Sequence[float], spacing_mm: Sequence[float]) -> Tensor:
    total = torch.zeros((), device=prompt.device)
    for axis in range(3):
        total = total + ((_axis(prompt, axis) - index[axis]) * spacing_mm[axis]) ** 2
    return total
