"""Forecasts from masks alone: the baselines every learned forecast is shown beside. They are hard to beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.distance import (
    BoolVolume,
    FloatVolume,
    check_masks,
    far_components,
    front_area_mm2,
    signed_distance_mm,
)
from napari_convlstm_tumor.measure.growth import specific_growth_rate

BASELINES = ("persistence", "linear_pointwise", "linear_mean", "exponential")
# Around a thin rim thousands of voxels lie at one and the same distance: a volume between two such shells is
# reached by taking first those with most tumor around them. Far below the half voxel that separates shells.
TIE_BREAK_MM = 1e-3
TIE_BREAK_REACH_VOXELS = 2.0


def forecast_masks(
    masks: Sequence[npt.NDArray[Any]], days: Sequence[float], spacing_mm: Sequence[float], horizon_days: float
) -> dict[str, npt.NDArray[np.uint8]]:
    """Masks (I, J, K) uint8 expected ``horizon_days`` after the last visit, by the names of BASELINES.

    persistence: the last mask. linear_pointwise: the signed distance of the last two visits extrapolated
    voxel by voxel. linear_mean: the last boundary moved by the mean speed of its front; the best of the four
    on simulated patients. exponential: the last boundary moved evenly until the volume is V_last exp(SGR
    horizon), SGR over all visits.

    masks: one per visit on one grid; days: rising, or positions when undated (the horizon then counts
    visits). A baseline that has nothing to go by is left out: only persistence for one visit, after a visit
    without tumor, or when the last two masks have no lesion in common. Raises InputError for other shapes,
    days or a horizon below 0.
    """
    check_masks(masks, spacing_mm)
    if not (math.isfinite(horizon_days) and horizon_days >= 0):
        raise InputError(f"The horizon is a number of days, 0 or more, got {horizon_days}.")
    tumors = [np.asarray(m) != 0 for m in masks]
    last, voxels = tumors[-1], [float(np.count_nonzero(t)) for t in tumors]
    growth = specific_growth_rate(voxels, days)
    forecasts = {"persistence": last.astype(np.uint8)}
    if growth is None or last.all():
        return forecasts
    phi = signed_distance_mm(last, spacing_mm)
    moved, mean = _motion_mm(tumors[-2], last, phi, spacing_mm)
    if moved is not None:
        steps = horizon_days / (days[-1] - days[-2])
        forecasts["linear_pointwise"] = (phi < steps * moved).astype(np.uint8)
        forecasts["linear_mean"] = (phi < steps * mean).astype(np.uint8)
    log_voxels = math.log(voxels[-1]) + growth.value * horizon_days
    expected = round(math.exp(min(log_voxels, math.log(last.size))))
    nearness = ndimage.gaussian_filter(last.astype(np.float32), TIE_BREAK_REACH_VOXELS)
    forecasts["exponential"] = _lowest(phi - TIE_BREAK_MM * nearness, expected).astype(np.uint8)
    return forecasts


def _motion_mm(
    before: BoolVolume, last: BoolVolume, phi: FloatVolume, spacing_mm: Sequence[float]
) -> tuple[FloatVolume | None, float]:
    """How far the boundary moved outward in mm, at every voxel, and its mean over the last front.

    phi: signed distance of ``last``. New and vanished lesions do not count; (None, 0) if no other is left.
    """
    new = far_components(last, before, spacing_mm)
    start, end = before & ~far_components(before, last, spacing_mm), last & ~new
    if not start.any() or not end.any() or start.all():
        return None, 0.0
    end_phi = signed_distance_mm(end, spacing_mm) if new.any() else phi
    moved = signed_distance_mm(start, spacing_mm) - end_phi
    return moved, float(np.average(moved, weights=front_area_mm2(end, spacing_mm)))


def _lowest(phi: FloatVolume, count: int) -> BoolVolume:
    """The ``count`` voxels with the lowest phi, give or take those of one value, which stay together."""
    if count == 0:
        return np.zeros(phi.shape, dtype=bool)
    level = np.partition(phi, count - 1, axis=None)[count - 1]
    below: BoolVolume = phi < level
    up_to: BoolVolume = phi <= level
    fewer_is_nearer = count - np.count_nonzero(below) < np.count_nonzero(up_to) - count
    return below if fewer_is_nearer else up_to
