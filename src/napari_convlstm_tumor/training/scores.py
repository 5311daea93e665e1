"""Measures of agreement between a mask and the truth, a forecast and what came, and masks of one tumor over visits.

Masks are (I, J, K), non-zero = tumor, spacing_mm the voxel size. A number that does not exist is NaN (nothing to
measure: left out of the tables) or infinite (there was a tumor and nothing was outlined: it counts as worse than any).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics import compute_hausdorff_distance
from scipy import ndimage

from napari_convlstm_tumor.measure.distance import front_area_mm2
from napari_convlstm_tumor.series import FloatVolume

Mask = npt.NDArray[np.bool_]
PERCENTILE = 95.0
# A front that does not advance reaches a voxel after all that it reaches at all, the near ones first.
NEVER_MONTHS = 1e6
# Growth of fewer voxels than this ranks nothing.
FEWEST_GROWN_VOXELS = 20


def dice(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Overlap of two masks in 0..1; two empty masks agree."""
    a, b = a > 0, b > 0
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else float(2 * np.count_nonzero(a & b) / total)


def filled(mask: npt.NDArray[Any]) -> Mask:
    """Holes filled in every slice along the last axis, as a reader closes a rim."""
    return np.stack([ndimage.binary_fill_holes(mask[..., k] > 0) for k in range(mask.shape[-1])], axis=-1)


def hausdorff95_mm(guess: npt.NDArray[Any], truth: npt.NDArray[Any], spacing_mm: Sequence[float]) -> float:
    """95th percentile of the distances between the two surfaces in mm, the larger of both ways (as MONAI).

    NaN when neither has a voxel, infinite when one has none.
    """
    guess, truth = guess > 0, truth > 0
    if not guess.any() or not truth.any():
        return math.nan if guess.any() == truth.any() else math.inf
    (box,) = ndimage.find_objects((guess | truth).astype(np.uint8))
    pair = [torch.from_numpy(np.pad(mask[box], 1)[None, None]) for mask in (guess, truth)]
    spacing = [float(s) for s in spacing_mm]
    return float(compute_hausdorff_distance(*pair, include_background=True, percentile=PERCENTILE, spacing=spacing))


def log_volume_ratio(guess: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """ln(V / V_true) of two masks on the same voxels; -inf when a tumor was missed, NaN when there is none."""
    found, true = int(np.count_nonzero(guess)), int(np.count_nonzero(truth))
    if true == 0:
        return math.nan
    return math.log(found / true) if found else -math.inf


def change_error(guesses: Sequence[npt.NDArray[Any]], truths: Sequence[npt.NDArray[Any]]) -> float:
    """|ln(V2/V1) - truth| of two visits; NaN without tumor at both, infinite when one of them was missed."""
    first, second = (log_volume_ratio(g, t) for g, t in zip(guesses, truths, strict=True))
    if math.isnan(first) or math.isnan(second):
        return math.nan
    return abs(second - first) if math.isfinite(first) and math.isfinite(second) else math.inf


# ---- one tumor that did not change ----


def volume_spread(masks: Sequence[npt.NDArray[Any]]) -> float:
    """Standard deviation of ln V over the visits of a tumor that did not change; infinite when it was missed once."""
    counts = np.array([np.count_nonzero(m) for m in masks], dtype=np.float64)
    return float(np.log(counts).std(ddof=1)) if counts.all() else math.inf


def neighbour_dice(masks: Sequence[npt.NDArray[Any]]) -> float:
    """Mean Dice of each visit's mask with the next one's; 0 for a pair without any mask: nothing agreed upon."""
    return float(np.mean([dice(a, b) if a.any() or b.any() else 0.0 for a, b in pairwise(masks)]))


# ---- forecasts ----


def arrival_months(phi: FloatVolume, speed_mm_per_month: FloatVolume) -> npt.NDArray[np.float64]:
    """When a front at signed distance phi (mm, > 0 outside) arrives at its local speed; late where it never does.

    The number orders voxels; those never reached come last, ordered by distance.
    """
    phi = phi.astype(np.float64)
    coming = speed_mm_per_month > 0
    months = np.divide(phi, speed_mm_per_month, out=np.full(phi.shape, np.inf), where=coming)
    return np.where(months < NEVER_MONTHS, months, NEVER_MONTHS + phi)


def average_precision(
    order: npt.NDArray[Any], first: npt.NDArray[Any], last: npt.NDArray[Any], valid: npt.NDArray[Any] | None = None
) -> float:
    """Of the voxels outside the first mask, taken in rising ``order``: how well those of the last mask come first.

    Average precision (area under precision over recall), as van Garderen et al. 2021, arXiv 2103.11651; voxels of one
    rank count together. NaN when fewer than FEWEST_GROWN_VOXELS came. valid: where both visits have an image.
    """
    asked = (first == 0) if valid is None else (first == 0) & (valid != 0)
    grown = last[asked] != 0
    if np.count_nonzero(grown) < FEWEST_GROWN_VOXELS:
        return math.nan
    ranks = order[asked]
    sorting = np.argsort(ranks, kind="stable")
    ranks, hits = ranks[sorting], np.cumsum(grown[sorting])
    ends = np.flatnonzero(np.append(ranks[1:] != ranks[:-1], True))
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float(np.sum(precision * np.diff(recall, prepend=0.0)))


def speed_error(
    expected: FloatVolume | float, true_speed: FloatVolume, mask: npt.NDArray[Any], spacing_mm: Sequence[float]
) -> float:
    """Mean |expected - true| in mm/month over the front of ``mask``, each voxel weighted by its boundary in mm2.

    true_speed: (I, J, K) of measure.growth.front_speed, NaN away from the front. NaN where no front was followed.
    """
    area = front_area_mm2(mask, spacing_mm)
    known = (area > 0) & np.isfinite(true_speed)
    if not known.any():
        return math.nan
    error = np.abs(expected - true_speed)[known]
    return float(np.average(error, weights=area[known]))
