"""Forecasts from masks alone, from anyone's tool: the baselines a learned forecast is shown beside. Hard to beat.

A forecast is a map phi in mm (negative = tumor) whose zero is the boundary expected, and a volume. Moving its
zero inward or outward gives the band of ``conformal``. Models:

persistence       the last mask stays
linear            the last boundary moves on at the mean speed of its front
linear pointwise  the signed distance of the last two visits is extrapolated voxel by voxel
exponential       V_last exp(SGR horizon), SGR over all visits (Mehrara 2007); the boundary moves evenly until it fits
gompertz          the same with a rate that fades: V = V_limit exp(-ln(V_limit / V_0) exp(-decay t)), 3 visits or more
network           made in model/, wrapped by ``expected_front``
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from napari_convlstm_tumor.measure.gompertz import GOMPERTZ_VISITS, fit_gompertz
from napari_convlstm_tumor.measure.growth import specific_growth_rate
from napari_convlstm_tumor.series import DAYS_PER_MONTH

# Names of ``forecast_masks``, which speaks of masks on a grid only, and the models they stand for.
BASELINES = ("persistence", "linear_pointwise", "linear_mean", "exponential", "gompertz")
_MODEL_OF = {"linear_pointwise": "linear pointwise", "linear_mean": "linear"}
MODELS = ("persistence", "linear", "linear pointwise", "exponential", "gompertz")
NETWORK = "network"
# Around a thin rim thousands of voxels lie at one and the same distance: a volume between two such shells is
# reached by taking first those with most tumor around them. Far below the half voxel that separates shells.
TIE_BREAK_MM = 1e-3
TIE_BREAK_REACH_VOXELS = 2.0


@dataclass(frozen=True, eq=False)
class MaskForecast:
    """What one model expects ``horizon_days`` after the last visit.

    phi: (I, J, K) float32 in mm, negative where tumor is expected. volume_mm3: expected volume within the field
    of view. motion_mm: how far the front moves outward in the horizon if it keeps the mean speed it had between
    the last two visits, None where that is not known; the width of the band follows it.
    """

    model: str
    phi: FloatVolume
    spacing_mm: tuple[float, float, float]
    horizon_days: float
    volume_mm3: float
    motion_mm: float | None

    @property
    def mask(self) -> npt.NDArray[np.uint8]:
        """Mask (I, J, K) of the tumor expected."""
        return (self.phi < 0).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Forecasts:
    """made: model -> forecast. missing: model -> why it has none, a sentence for a person."""

    made: Mapping[str, MaskForecast]
    missing: Mapping[str, str]


def forecast(
    masks: Sequence[npt.NDArray[Any]],
    days: Sequence[float],
    spacing_mm: Sequence[float],
    horizon_days: float,
    model: str,
) -> MaskForecast | None:
    """The forecast of one of MODELS, or None where it has nothing to go by (``forecasts`` says why).

    masks: (I, J, K) per visit on one grid, non-zero = tumor. days: rising, or positions when undated (the horizon
    then counts visits). Raises InputError for other shapes, days, an unknown model or a horizon below 0.
    """
    if model not in MODELS:
        raise InputError(f"Unknown forecast model '{model}'. Choose of: {', '.join(MODELS)}.")
    return forecasts(masks, days, spacing_mm, horizon_days, (model,)).made.get(model)


def forecasts(
    masks: Sequence[npt.NDArray[Any]],
    days: Sequence[float],
    spacing_mm: Sequence[float],
    horizon_days: float,
    models: Sequence[str] = MODELS,
) -> Forecasts:
    """The forecasts of several models, and for each of the others the reason; arguments as ``forecast``."""
    check_masks(masks, spacing_mm)
    if not (math.isfinite(horizon_days) and horizon_days >= 0):
        raise InputError(f"The horizon is a number of days, 0 or more, got {horizon_days}.")
    past = _Past.of(masks, days, spacing_mm)
    made: dict[str, MaskForecast] = {}
    missing: dict[str, str] = {}
    for model in models:
        found = _FORECASTERS[model](past, horizon_days)
        if isinstance(found, str):
            missing[model] = f"No {model} forecast: {found}."
        else:
            made[model] = past.wrap(model, *found, horizon_days)
    return Forecasts(made, missing)


def forecast_masks(
    masks: Sequence[npt.NDArray[Any]], days: Sequence[float], spacing_mm: Sequence[float], horizon_days: float
) -> dict[str, npt.NDArray[np.uint8]]:
    """Masks (I, J, K) uint8 by the names of BASELINES; a baseline with nothing to go by is left out."""
    made = forecasts(masks, days, spacing_mm, horizon_days).made
    chosen = {name: made.get(_MODEL_OF.get(name, name)) for name in BASELINES}
    return {name: found.mask for name, found in chosen.items() if found is not None}


def expected_front(
    phi: FloatVolume,
    speed_mm_per_month: FloatVolume | float,
    spacing_mm: Sequence[float],
    horizon_days: float,
    last_mean_speed: float,
    model: str = NETWORK,
) -> MaskForecast:
    """The forecast of a front that moves outward at ``speed_mm_per_month`` ((I, J, K) or one number).

    phi: signed distance of the last mask in mm. last_mean_speed: of the front between the last two visits, mm/month.
    """
    months = horizon_days / DAYS_PER_MONTH
    moved = np.asarray(phi - speed_mm_per_month * months, dtype=np.float32)
    x, y, z = (float(s) for s in spacing_mm)
    volume = float(np.count_nonzero(moved < 0)) * x * y * z
    return MaskForecast(model, moved, (x, y, z), float(horizon_days), volume, last_mean_speed * months)


# ---- the models ----


@dataclass(frozen=True, eq=False)
class _Past:
    """What the models share: phi of the last mask, how far its front moved (a map, and the mean) in the last gap."""

    days: tuple[float, ...]
    spacing_mm: tuple[float, float, float]
    voxels: tuple[float, ...]
    phi: FloatVolume
    last: BoolVolume
    moved: FloatVolume | None
    mean: float

    @classmethod
    def of(cls, masks: Sequence[npt.NDArray[Any]], days: Sequence[float], spacing_mm: Sequence[float]) -> _Past:
        tumors = [np.asarray(m) != 0 for m in masks]
        voxels = tuple(float(np.count_nonzero(t)) for t in tumors)
        specific_growth_rate(voxels, days)  # refuses days that do not rise, or are too many or too few
        phi = signed_distance_mm(tumors[-1], spacing_mm)
        moved, mean = None, 0.0
        if len(tumors) > 1 and voxels[-1] > 0 and voxels[-2] > 0 and not tumors[-1].all():
            moved, mean = _motion_mm(tumors[-2], tumors[-1], phi, spacing_mm)
        x, y, z = (float(s) for s in spacing_mm)
        return cls(tuple(days), (x, y, z), voxels, phi, tumors[-1], moved, mean)

    def wrap(self, model: str, phi: FloatVolume, voxels: float, horizon: float) -> MaskForecast:
        volume = voxels * math.prod(self.spacing_mm)
        motion = None if self.moved is None else self.mean * self.steps(horizon)
        return MaskForecast(model, phi.astype(np.float32), self.spacing_mm, float(horizon), volume, motion)

    def steps(self, horizon: float) -> float:
        """The horizon in units of the last gap."""
        return horizon / (self.days[-1] - self.days[-2])

    @property
    def no_curve(self) -> str:
        """Why no volume curve can be drawn, or an empty string."""
        if len(self.days) < 2:
            return "a single visit shows no growth"
        if min(self.voxels) == 0:
            return "the tumor has no volume at one of the visits"
        return "no edge of the tumor is in view at the last visit" if self.last.all() else ""

    def at_volume(self, log_growth: float) -> tuple[FloatVolume, float]:
        """phi moved evenly until the volume is V_last exp(log_growth), never more than the field of view."""
        voxels = math.exp(min(math.log(self.voxels[-1]) + log_growth, math.log(self.last.size)))
        nearness = ndimage.gaussian_filter(self.last.astype(np.float32), TIE_BREAK_REACH_VOXELS)
        return _holding(self.phi - TIE_BREAK_MM * nearness, round(voxels)), voxels


Answer = tuple[FloatVolume, float] | str  # phi and expected voxels, or why there is none


def _persistence(past: _Past, horizon: float) -> Answer:
    return past.phi, past.voxels[-1]


def _linear(past: _Past, horizon: float) -> Answer:
    return _moved_on(past, past.mean, horizon)


def _linear_pointwise(past: _Past, horizon: float) -> Answer:
    return _moved_on(past, past.moved, horizon)


def _moved_on(past: _Past, moved: FloatVolume | float | None, horizon: float) -> Answer:
    if len(past.days) < 2:
        return "a single visit shows no growth"
    if past.moved is None or moved is None:
        return "no edge of the tumor could be followed to the last visit"
    phi = past.phi - past.steps(horizon) * moved
    return phi, float(np.count_nonzero(phi < 0))


def _exponential(past: _Past, horizon: float) -> Answer:
    rate = specific_growth_rate(past.voxels, past.days)
    if past.no_curve or rate is None:
        return past.no_curve
    return past.at_volume(rate.value * horizon)


def _gompertz(past: _Past, horizon: float) -> Answer:
    if past.no_curve:
        return past.no_curve
    curve = fit_gompertz(past.voxels, past.days)
    if curve is None:
        return f"a curve that levels off needs {GOMPERTZ_VISITS} visits, there are {len(past.days)}"
    span = past.days[-1] - past.days[0]
    return past.at_volume(curve.log_volume(span + horizon) - curve.log_volume(span))


_FORECASTERS: Mapping[str, Callable[[_Past, float], Answer]] = {
    "persistence": _persistence,
    "linear": _linear,
    "linear pointwise": _linear_pointwise,
    "exponential": _exponential,
    "gompertz": _gompertz,
}


# ---- small steps ----


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


def _holding(phi: FloatVolume, count: int) -> FloatVolume:
    """phi less the level below which ``count`` voxels lie, give or take those of one value, which stay together."""
    value = np.partition(phi, max(count, 1) - 1, axis=None)[max(count, 1) - 1]
    below, above = phi < value, phi > value
    fewer = int(np.count_nonzero(below))
    take_it = phi.size - np.count_nonzero(above) - count <= count - fewer
    if take_it and count > 0:
        return phi - (value + np.min(phi, where=above, initial=value + 2)) / 2
    return phi - (value + np.max(phi, where=below, initial=value - 2)) / 2
