"""What a sequence is trained for: masks at every visit whose truth is known, and where the front goes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.model.network import GrowthNet, forecast_geometry, pool_strides
from napari_convlstm_tumor.series import DAYS_PER_MONTH

FRONT_BAND_MM = 8.0  # the speed is judged this near to the front
# What a voxel weighs in the cross-entropy: tumor, and what is tumor at some visits and not at others (at each of them,
# so that neither growth nor shrinkage is favoured), against 1 for the rest.
TUMOR_WEIGHT = 2.0
CHANGING_WEIGHT = 4.0
# The place of a small tumor (where it is at any visit, and a voxel around) weighs at least as this share of the crop
# does, at every visit, as a larger one. A few voxels of 200,000 hardly count else: a small tumor that was missed, and a
# rest that was outlined where nothing is left, were both learned slowly (docs/training-log.md, runs 27 and 29).
PLACE_SHARE = 0.2


def sequence_losses(network: GrowthNet, sample: Mapping[str, Any]) -> dict[str, Tensor]:
    """Segmentation loss over the visits whose truth is known, and the forecast loss where there are distance maps."""
    spacing = [float(s) for s in sample["spacing_mm"][0]]
    strides = pool_strides(spacing, network.levels - 1)
    present = [bool(p) for p in sample["present"][0]]
    days, state = sample["days"], None
    judged = sample["judged"][0].tolist() if "judged" in sample else [True] * days.shape[1]
    changing, place = _changing(sample["mask"][:, judged]), _place(sample["mask"][:, judged])
    segmentation, forecasts, dices = [], [], []
    for t in range(days.shape[1]):
        gap = None if t == 0 else days[:, t] - days[:, t - 1]
        logits, coarse, features, state = network(
            sample["images"][:, t],
            sample["alike"][:, t],
            present,
            sample["prompt"][:, t],
            strides,
            state,
            gap,
        )
        truth = sample["mask"][:, t, None].float()
        if judged[t]:
            weights = _weights(truth, changing, place)
            pooled = [F.avg_pool3d(maps, strides[0]) for maps in (truth, weights)]
            segmentation.append(_mask_loss(logits, truth, weights) + 0.4 * _mask_loss(coarse, *pooled))
            dices.append(_dice(logits, truth))
        if "phi" in sample and t + 1 < days.shape[1]:
            forecasts.append(_forecast_loss(network, features, sample, t, strides[0]))
    losses = {"segmentation": torch.stack(segmentation).mean(), "dice": torch.stack(dices).mean()}
    losses["dice_" + ("prompted" if bool(sample["prompt"].any()) else "none")] = losses["dice"]
    if forecasts:
        losses["forecast"] = torch.stack(forecasts).mean()
    return losses


_soft_dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)


def _changing(masks: Tensor) -> Tensor:
    """(B, 1, I, J, K) bool: tumor at some of the visits of masks (B, T, I, J, K) and not at others."""
    return masks.bool().any(1, keepdim=True) & ~masks.bool().all(1, keepdim=True)


def _place(masks: Tensor) -> Tensor:
    """(B, 1, I, J, K) bool: within a voxel of what is tumor at some of the visits of masks (B, T, I, J, K)."""
    return F.max_pool3d(masks.float().amax(1, keepdim=True), 3, stride=1, padding=1) > 0


def _weights(truth: Tensor, changing: Tensor, place: Tensor) -> Tensor:
    """(B, 1, I, J, K) what every voxel of a visit weighs in the cross-entropy."""
    weights = torch.where(changing, CHANGING_WEIGHT, 1 + (TUMOR_WEIGHT - 1) * truth)
    least = PLACE_SHARE / place.float().mean().clamp(min=1 / place.numel())
    return torch.where(place, weights.clamp(min=least), weights)


def _mask_loss(logits: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    logits = logits.float()
    dice: Tensor = _soft_dice(logits, truth)
    return dice + F.binary_cross_entropy_with_logits(logits, truth, weights)


@torch.no_grad()
def _dice(logits: Tensor, truth: Tensor) -> Tensor:
    guess = (logits > 0).float()
    return (2 * (guess * truth).sum() + 1) / (guess.sum() + truth.sum() + 1)


def _forecast_loss(
    network: GrowthNet, features: Tensor, sample: Mapping[str, Any], t: int, stride: tuple[int, int, int]
) -> Tensor:
    phi, days = sample["phi"], sample["days"]
    before = phi[:, t - 1] if t > 0 else None
    months = (days[:, t] - days[:, t - 1 if t > 0 else t]).clamp(min=1).reshape(-1, 1, 1, 1) / DAYS_PER_MONTH
    horizon = days[:, t + 1] - days[:, t]
    geometry = forecast_geometry(phi[:, t], before, months, sample["mean_speed"][:, t], horizon)
    speed = network.speed(features, geometry, stride)[:, 0]
    ahead = horizon.reshape(-1, 1, 1, 1) / DAYS_PER_MONTH
    expected = phi[:, t] - speed * ahead
    band = ((phi[:, t].abs() < FRONT_BAND_MM) | (phi[:, t + 1].abs() < FRONT_BAND_MM)).float()
    error = F.smooth_l1_loss(expected, phi[:, t + 1], reduction="none") * band
    overlap: Tensor = _soft_dice(-expected[:, None], sample["mask"][:, t + 1, None].float())
    return 0.3 * error.sum() / band.sum().clamp(min=1) + overlap
