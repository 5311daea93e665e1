"""How far off a forecast may be: bands by split conformal prediction, and when to make no forecast at all.

A band is two surfaces and two volumes. What it promises, on patients like those it was calibrated on: a point of the
true boundary lies between the inner and the outer surface with probability ``level`` (over patients and over each
one's boundary, every patient counting the same), and the true volume lies between the two volumes with that
probability. It holds for finite samples: one patient more, infinitely far off, is counted with those measured
(Vovk 2005; Angelopoulos et al. 2022, "Conformal risk control", arXiv 2208.02814, for the share of a boundary).

Errors are counted in units of ``band_scale_mm``: fast tumors are forecast worse, in proportion to how far they move;
those of the volume in units of ``volume_scale``: the same millimetres change a small tumor's volume more.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.errors import InputError, ModelError
from napari_convlstm_tumor.measure.distance import FloatVolume, far_components
from napari_convlstm_tumor.measure.forecast import NETWORK, MaskForecast
from napari_convlstm_tumor.measure.growth import sphere_diameter_mm
from napari_convlstm_tumor.volume import FloatArray

CALIBRATION_FILE = Path(__file__).resolve().parent.parent / "weights" / "forecast-calibration.json"
LEVEL = 0.9
# A front that stands still is forecast with about this error; the band of a moving one grows with its motion. Measured:
# of 1, months, square root of months, tumor radius and mixtures of them, this scale gave the narrowest bands.
STANDING_ERROR_MM = 1.0
# Volumes are compared as ln(V + this), a sphere of 6 mm: near nothing a ratio says nothing.
SMALLEST_VOLUME_MM3 = 100.0
# The boundary of each patient is kept as this many values of equal area.
FRONT_POINTS = 101


@dataclass(frozen=True)
class Limits:
    """One model's band, and what it covered of patients it was not made from.

    inner, outer: how far the band reaches inward and outward of the forecast, per band_scale_mm. shrink, grow: the
    same for ln(V + SMALLEST_VOLUME_MM3), per volume_scale. calibrated_on, tested_on: patients. front_coverage,
    volume_coverage: shares found on the latter. whole_front: share of patients with at least ``level`` of their own
    front in the band. width_mm: median distance between its two surfaces. volume_ratio: median of the upper volume
    over the lower, SMALLEST_VOLUME_MM3 added to both.
    """

    inner: float
    outer: float
    shrink: float
    grow: float
    calibrated_on: int
    tested_on: int
    front_coverage: float
    volume_coverage: float
    whole_front: float
    width_mm: float
    volume_ratio: float


@dataclass(frozen=True)
class Calibration:
    """What ``benchmarks/calibrate_forecast.py`` measured: model -> Limits.

    longest_horizon_days, longest_steps: the longest horizon, in days and in units of the gap between the last two
    visits, that enough patients had. weights: id of the network's weights, name and sha256.
    """

    level: float
    longest_horizon_days: float
    longest_steps: float
    weights: str
    models: Mapping[str, Limits]

    def knows(self, model: str, weights: str = "") -> bool:
        """True when this model, and for the network these very weights (Prediction.model), were calibrated."""
        return model in self.models and (model != NETWORK or weights == self.weights)


@dataclass(frozen=True, eq=False)
class Band:
    """phi of the inner and of the outer surface, (I, J, K) mm, negative = tumor; volumes in mm3."""

    phi_inner: FloatVolume
    phi_outer: FloatVolume
    volume_low_mm3: float
    volume_high_mm3: float

    @property
    def masks(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Masks (I, J, K) of what is tumor at the inner and at the outer surface."""
        return (self.phi_inner < 0).astype(np.uint8), (self.phi_outer < 0).astype(np.uint8)


def band(forecast: MaskForecast, calibration: Calibration) -> Band:
    """The band of a forecast. Raises InputError for a model that was not calibrated, or a front that stood in no view.

    The forecast itself always lies in it, even where it was found to be off to one side.
    """
    if forecast.model not in calibration.models:
        known = ", ".join(calibration.models)
        raise InputError(f"The forecast '{forecast.model}' has no calibrated band. Calibrated: {known}.")
    limits, scale = calibration.models[forecast.model], band_scale_mm(forecast)
    middle, log_scale = forecast.volume_mm3 + SMALLEST_VOLUME_MM3, volume_scale(forecast)
    low = middle * math.exp(-max(limits.shrink, 0.0) * log_scale) - SMALLEST_VOLUME_MM3
    return Band(
        (forecast.phi + np.float32(max(limits.inner, 0.0) * scale)).astype(np.float32),
        (forecast.phi - np.float32(max(limits.outer, 0.0) * scale)).astype(np.float32),
        max(low, 0.0),
        middle * math.exp(max(limits.grow, 0.0) * log_scale) - SMALLEST_VOLUME_MM3,
    )


def band_scale_mm(forecast: MaskForecast) -> float:
    """The unit in which errors of a forecast are counted: hypot(STANDING_ERROR_MM, motion over the horizon).

    Raises InputError when the motion is not known: a forecast without it has no band.
    """
    if forecast.motion_mm is None:
        raise InputError("The front was not followed between the last two visits: its forecast has no band.")
    return math.hypot(STANDING_ERROR_MM, forecast.motion_mm)


def volume_scale(forecast: MaskForecast) -> float:
    """The unit of errors of ln V: band_scale_mm over the radius of a sphere of that volume, as d ln V = 3 dr / r.

    Counted in band_scale_mm alone the band held 89 % of all volumes, but only 56 % of those of shrinking tumors.
    """
    return band_scale_mm(forecast) / (sphere_diameter_mm(forecast.volume_mm3 + SMALLEST_VOLUME_MM3) / 2)


# ---- when not to forecast ----


def abstain(
    days: Sequence[float],
    dated: bool,
    volumes_mm3: Sequence[float],
    registered: Sequence[bool],
    horizon_days: float | None = None,
    calibration: Calibration | None = None,
) -> str:
    """Why a forecast would not be honest, a sentence for a person; empty when it may be made.

    volumes_mm3, registered (quality at or above the threshold): per visit. horizon_days: None = as long as the last
    gap. calibration: None = the horizon is not judged.
    """
    if len(days) < 2:
        return "No forecast: a single visit shows no growth."
    if not dated:
        return "No forecast: the visits have no dates."
    if volumes_mm3[-1] == 0:
        return "No forecast: no tumor at the last visit."
    if volumes_mm3[-2] == 0:
        return "No forecast: no tumor at the visit before the last, so how fast it grows is not known."
    bad = [visit for visit in (len(days) - 1, len(days)) if not registered[visit - 1]]
    if bad:
        return f"No forecast: the registration of visit {bad[0]} is below the threshold."
    gap = days[-1] - days[-2]
    return "" if calibration is None else _too_far(gap if horizon_days is None else horizon_days, gap, calibration)


def _too_far(horizon: float, gap: float, calibration: Calibration) -> str:
    if horizon > calibration.longest_horizon_days:
        return (
            f"No forecast: {horizon:.0f} days ahead is further than the {calibration.longest_horizon_days:.0f} days "
            "for which its error is known."
        )
    if horizon > calibration.longest_steps * gap:
        return (
            f"No forecast: the last two visits are {gap:.0f} days apart, too short to look {horizon:.0f} days ahead "
            f"(its error is known up to {calibration.longest_steps:.1f} times that gap)."
        )
    return ""


# ---- calibrating ----


def front_errors(forecast: MaskForecast, last: npt.NDArray[Any], truth: npt.NDArray[Any]) -> FloatArray:
    """(FRONT_POINTS,) mm from the forecast's boundary to the true one, rising; positive = the true one lies outside.

    The values are quantiles over the area of the true boundary. Lesions far from all tumor of the ``last`` visit are
    new and no front. Where nothing but those is left, the tumor withdrew to the deepest point of the forecast.
    """
    tumor = np.asarray(truth) != 0
    tumor &= ~far_components(tumor, last, forecast.spacing_mm)
    errors, areas = _on_faces(forecast.phi, tumor, forecast.spacing_mm)
    if not errors.size:
        return np.full(FRONT_POINTS, float(forecast.phi.min()))
    order = np.argsort(errors)
    passed = np.cumsum(areas[order])
    wanted = (np.arange(FRONT_POINTS) + 0.5) / FRONT_POINTS * passed[-1]
    return errors[order][np.searchsorted(passed, wanted)]


def _on_faces(
    phi: FloatVolume, tumor: npt.NDArray[np.bool_], spacing_mm: Sequence[float]
) -> tuple[FloatArray, FloatArray]:
    """phi halfway between the two voxels of every face of the tumor, and the area of the face in mm2."""
    values, areas = [], []
    for axis in range(3):
        low = np.moveaxis(phi, axis, 0)[:-1]
        high = np.moveaxis(phi, axis, 0)[1:]
        along = np.moveaxis(tumor, axis, 0)
        face = along[:-1] != along[1:]
        values.append((low[face].astype(np.float64) + high[face]) / 2)
        areas.append(np.full(values[-1].size, math.prod(spacing_mm) / spacing_mm[axis]))
    return np.concatenate(values), np.concatenate(areas)


def log_volume_error(forecast: MaskForecast, true_mm3: float) -> float:
    """ln of true over forecast volume, SMALLEST_VOLUME_MM3 added to both; positive = the true one is larger."""
    return math.log((true_mm3 + SMALLEST_VOLUME_MM3) / (forecast.volume_mm3 + SMALLEST_VOLUME_MM3))


def conformal_quantile(scores: FloatArray, level: float) -> float:
    """The value below which a new patient's scores lie with probability ``level`` at least.

    scores: (patients,) or (patients, points), each patient counting as one. The smallest value that holds although a
    patient more, infinitely far off, is counted: rank ceil(level (n + 1)) of n. Infinite when n is too small for that.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64), axis=None)
    points = values.size // len(scores)
    rank = math.ceil(round(level * (len(scores) + 1) * points, 6))
    return float(values[rank - 1]) if rank <= values.size else math.inf


def limits(
    front: Sequence[FloatArray], volume: Sequence[FloatArray], scales: Sequence[FloatArray], level: float = LEVEL
) -> Limits:
    """Limits from scaled errors of calibration and of test patients.

    front: two arrays (patients, FRONT_POINTS) of front_errors / band_scale_mm; volume: two arrays (patients,) of
    log_volume_error / volume_scale, calibration first. scales: band_scale_mm and volume_scale, each (patients,), of the
    test patients. Raises InputError when the calibration patients are too few for the level.
    """
    tail = (1 + level) / 2  # half of what may be missed on either side
    inner, outer = conformal_quantile(-front[0], tail), conformal_quantile(front[0], tail)
    shrink, grow = conformal_quantile(-volume[0], tail), conformal_quantile(volume[0], tail)
    if not math.isfinite(inner + outer + shrink + grow):
        raise InputError(f"{len(volume[0])} patients are too few to calibrate a band of {level:.0%}.")
    inside = ((front[1] >= -max(inner, 0)) & (front[1] <= max(outer, 0))).mean(axis=1)
    held = (volume[1] >= -max(shrink, 0)) & (volume[1] <= max(grow, 0))
    return Limits(
        inner,
        outer,
        shrink,
        grow,
        len(volume[0]),
        len(volume[1]),
        float(inside.mean()),
        float(held.mean()),
        float((inside >= level).mean()),
        float(np.median(scales[0]) * (max(inner, 0) + max(outer, 0))),
        float(np.exp(np.median(scales[1]) * (max(shrink, 0) + max(grow, 0)))),
    )


# ---- the file ----


def to_json(calibration: Calibration) -> dict[str, Any]:
    """Plain values, for the file."""
    return asdict(calibration)


@functools.lru_cache(maxsize=4)
def load_calibration(path: Path = CALIBRATION_FILE) -> Calibration:
    """The shipped calibration, or that of another file. Raises ModelError when it is missing or damaged."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        models = {
            name: Limits(**{key: entry[key] for key in Limits.__dataclass_fields__})
            for name, entry in read["models"].items()
        }
        level, horizon, steps = (float(read[key]) for key in ("level", "longest_horizon_days", "longest_steps"))
        return Calibration(level, horizon, steps, str(read["weights"]), models)
    except FileNotFoundError as error:
        raise ModelError(
            f"The calibration of the forecast, {path.name}, is missing. Install the package again."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"The calibration of the forecast, {path.name}, is damaged: {error!r}.") from error
