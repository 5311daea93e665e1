"""An operation between two visits: tumor is taken out, a cavity of fluid is left, what was not reached grows on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_convlstm_tumor.series import DAYS_PER_MONTH
from napari_convlstm_tumor.training.appearance import Cavity
from napari_convlstm_tumor.training.scene import Scene, smooth_noise

# Level of a cavity that is not there yet.
NO_CAVITY_MM = 99.0
COMPLETE_SHARE = 0.35
COLLAPSE_MM_PER_MONTH, MOST_COLLAPSE_MM = 0.25, 2.0


@dataclass(frozen=True)
class Operation:
    """visit: the first (0-based) after it. margin_mm: of healthy tissue taken. left: share of the tumor left, 0..1.

    regrowth: mm per month of what is left.
    """

    visit: int
    margin_mm: float
    left: float
    regrowth: float


def draw_operation(visits: int, rng: np.random.Generator) -> Operation:
    """An operation before any visit but the first; about a third remove all that is seen."""
    complete = rng.random() < COMPLETE_SHARE
    return Operation(
        visit=int(rng.integers(1, visits)),
        margin_mm=float(rng.uniform(0.5, 3.0)),
        left=0.0 if complete else float(rng.uniform(0.05, 0.35)),
        regrowth=float(rng.uniform(0.3, 3.0)),
    )


def operate(
    levels: Tensor, days: tuple[int, ...], scene: Scene, operation: Operation, rng: np.random.Generator
) -> tuple[Tensor, list[Cavity | None]]:
    """Levels (T, I, J, K) with the tumor cut at the operation, and the cavity of every visit (None before).

    What is left grows by ``regrowth``, into the walls of the cavity too; the cavity slowly falls in.
    """
    first = operation.visit
    before = levels[first - 1]
    cut = before - operation.margin_mm
    if operation.left > 0:
        cut = torch.maximum(cut, _spared(before, scene, operation.left, rng))
    remains = torch.maximum(before, -cut)
    after = levels.clone()
    cavities: list[Cavity | None] = [None] * first
    uneven = 1 + 0.4 * smooth_noise(before.shape, 12 / min(scene.spacing_mm), rng).clamp(-2, 2)
    for t in range(first, len(days)):
        months = (days[t] - days[first]) / DAYS_PER_MONTH
        cavity = cut + min(COLLAPSE_MM_PER_MONTH * months, MOST_COLLAPSE_MM)
        after[t] = torch.maximum(remains - operation.regrowth * months * uneven, -cavity)
        cavities.append(Cavity(cavity, days[t] - days[first - 1]))
    return after, cavities


def _spared(before: Tensor, scene: Scene, share: float, rng: np.random.Generator) -> Tensor:
    """(I, J, K) mm, positive where the surgeon did not go: one side of the tumor, its deepest or least safe."""
    side = smooth_noise(before.shape, 25 / min(scene.spacing_mm), rng)
    inside = side[before < 0]
    if not inside.numel():
        return torch.full_like(before, -NO_CAVITY_MM)
    edge = np.quantile(inside.numpy(), 1 - share)
    return (side - float(edge)) * 12.0
