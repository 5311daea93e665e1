"""What the network is fed and judged by, from images and truth of a sequence: prompts, likeness, distance maps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.measure.distance import signed_distance_mm
from napari_convlstm_tumor.model import prompts
from napari_convlstm_tumor.series import DAYS_PER_MONTH, MODALITIES

# Distance maps are clipped here: the forecast is about the front.
LARGEST_DISTANCE_MM = 30.0
# The likeness to the prompted tissue is left out this often: not all of a tumor looks like the place that was clicked.
ALIKE_DROPPED = 0.25
# So often one of the visits that nothing points at is a poor image: blurred, and with so much more noise. What was seen
# before has to help. On CT tissues differ less, in units of the network, than on MR.
POOR_SHARE, POOR_NOISE, POOR_NOISE_CT = 0.2, (0.1, 0.4), 0.3
PROMPT_MODES = ("click", "click all", "box", "mask", "none", "scribble", "mask all")
WHOLE_TUMOR = ("none", "mask", "mask all")  # all lesions are meant; with the others one
SHOWN_AT_ALL = ("click all", "mask all")  # visits; the others at the first alone


def sequence_of(
    images: Tensor,
    modalities: tuple[str, ...],
    masks: Tensor,
    days: tuple[int, ...],
    spacing: tuple[float, float, float],
    levels: Tensor,
) -> dict[str, Tensor]:
    """Images (T, C, I, J, K), masks and levels (T, I, J, K) of one sequence, before any prompt is drawn."""
    return {
        "images": images,
        "present": torch.tensor([m in modalities for m in MODALITIES]),
        "mask": masks,
        "days": torch.tensor(days, dtype=torch.float32),
        "spacing_mm": torch.tensor(spacing),
        "level": levels,
    }


def with_prompts(
    sequence: dict[str, Tensor], mode: str, rng: np.random.Generator, carried_share: float = 0.0
) -> dict[str, Tensor]:
    """Prompt channels and similarity; ``level`` (used to place clicks deep inside) is dropped.

    carried_share: so often the likeness to what the first visit shows is known at the others, as in model/visits.
    """
    level, masks, images = sequence.pop("level"), sequence["mask"], sequence["images"]
    prompt = torch.zeros(len(masks), prompts.PROMPT_CHANNELS, *masks.shape[1:])
    alike = torch.zeros_like(images)
    present = sequence["present"].reshape(-1, 1, 1, 1)
    alike_helps = rng.random() > ALIKE_DROPPED
    shown = len(masks) if mode in SHOWN_AT_ALL else 1
    if mode != "none" and len(masks) > shown and rng.random() < POOR_SHARE:
        poor = int(rng.integers(shown, len(masks)))
        images[poor] = _poor(images[poor], rng) * present
    for t in range(shown):
        core = _draw_prompt(prompt[t], mode, masks[t], level[t], sequence["spacing_mm"].tolist(), rng)
        if alike_helps:
            alike[t] = prompts.similarity(images[t], core) * present
    if alike_helps and rng.random() < carried_share:
        for t in range(shown, len(masks)):
            alike[t] = prompts.LIKENESS_CARRIED * prompts.similarity(images[t], core, images[0]) * present
    return {**sequence, "prompt": prompt, "alike": alike}


def _poor(visit: Tensor, rng: np.random.Generator) -> Tensor:
    """(C, I, J, K) blurred over 3 voxels and noisier."""
    blurred = F.avg_pool3d(visit[None], 3, 1, 1, count_include_pad=False)[0]
    noise = torch.from_numpy(rng.standard_normal(visit.shape, dtype=np.float32)) * float(rng.uniform(*POOR_NOISE))
    noise[MODALITIES.index("ct")] *= POOR_NOISE_CT
    return blurred + noise


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
    if mode == "scribble":
        return _scribble(prompt, inside, spacing, rng)
    if mode == "box":
        low, high = inside.amin(0).float(), inside.amax(0).float()
        loose = (high - low + 1) * 0.06
        low = low - torch.from_numpy(rng.normal(0.3, 0.7, 3)).float() * loose
        high = high + torch.from_numpy(rng.normal(0.3, 0.7, 3)).float() * loose
        return prompts.add_box(prompt, torch.minimum(low, high - 1).tolist(), high.tolist())
    drawn = level < float(rng.uniform(-1.0, 1.0))
    return prompts.add_mask(prompt, drawn if bool((drawn & mask).any()) else mask)


def _scribble(prompt: Tensor, inside: Tensor, spacing: list[float], rng: np.random.Generator) -> Tensor:
    """A line between two voxels of the mask, kept within it, as a few clicks in a row."""
    ends = inside[torch.from_numpy(rng.integers(len(inside), size=2))].float()
    core = torch.zeros(prompt.shape[1:], dtype=torch.bool)
    lesion = torch.zeros_like(core)
    lesion[tuple(inside.T)] = True
    for share in torch.linspace(0, 1, 6):
        where = torch.lerp(ends[0], ends[1], share)
        if lesion[tuple(where.round().int().tolist())]:
            core |= prompts.add_point(prompt, where.tolist(), spacing)
    return core


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
