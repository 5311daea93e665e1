"""The forecast: every model beside the others, each with its calibrated band, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.measure.conformal import Band, Calibration, abstain, band, load_calibration
from napari_convlstm_tumor.measure.distance import box_around, signed_distance_mm, soft_mask
from napari_convlstm_tumor.measure.forecast import MODELS, NETWORK, Forecasts, MaskForecast, expected_front, forecasts
from napari_convlstm_tumor.measure.growth import front_speed, mean_front_speed
from napari_convlstm_tumor.model import predict
from napari_convlstm_tumor.series import DAYS_PER_MONTH, AlignedSeries, FloatVolume, Prediction
from napari_convlstm_tumor.settings import Settings

# On simulated patients no other model, the network's among them, was better beyond its interval (docs/forecast.md), and
# this one has a calibrated band with any weights.
DEFAULT_MODEL = "linear"
# The models look this far around the tumor; where one of them reaches further they look at the whole grid.
MARGIN_MM = 40.0
Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Outlook:
    """The prediction with the default model's forecast; rows of Report.forecasts; the band (see Analysis)."""

    prediction: Prediction
    rows: tuple[dict[str, Any], ...] = ()
    band: npt.NDArray[np.uint8] | None = None


def look_ahead(
    aligned: AlignedSeries, prediction: Prediction, volumes_mm3: Sequence[float], settings: Settings
) -> Outlook:
    """All forecasts of one patient, or the prediction with the reason why there is none.

    volumes_mm3: per visit, as the report gives them. Volumes ahead are in proportion to the last one, for the models
    count voxels of the common grid and the report those of the visit itself.
    """
    calibration, days = load_calibration(), aligned.days
    masks = [prediction.mask(t) for t in range(len(days))]
    seen = [float(np.count_nonzero(m)) for m in masks]
    registered = [r.good for r in aligned.registrations]
    reason = abstain(days, aligned.dated, seen, registered, settings.horizon_days, calibration)
    if reason:
        return Outlook(replace(prediction, forecast_note=reason))
    horizon = settings.horizon_days or days[-1] - days[-2]
    found, box = _baselines(masks, aligned, horizon, calibration)
    chosen = found.made.get(DEFAULT_MODEL)
    if chosen is None or chosen.motion_mm is None:
        reason = found.missing.get(DEFAULT_MODEL, "No forecast: no edge of the tumor could be followed.")
        return Outlook(replace(prediction, forecast_note=reason))
    made = {**found.made, **_by_network(aligned, prediction, horizon, settings)}
    scale = volumes_mm3[-1] / (seen[-1] * aligned.grid.voxel_mm3)
    bands = {name: _band(one, calibration, prediction.model) for name, one in made.items()}
    why_not = {
        **found.missing,
        **{name: _why_no_band(one, prediction.model, calibration) for name, one in made.items() if bands[name] is None},
    }
    rows = [_row(name, made.get(name), bands.get(name), scale, days[-1] + horizon, why_not) for name in _order()]
    forecast = np.zeros(aligned.grid.shape, np.float32)
    forecast[box] = soft_mask(chosen.phi)
    ahead = replace(
        prediction,
        forecast=forecast,
        forecast_day=days[-1] + horizon,
        forecast_note=_note(chosen, bands[DEFAULT_MODEL], calibration),
    )
    return Outlook(
        ahead, tuple(row for row in rows if row is not None), _band_map(bands[DEFAULT_MODEL], box, aligned.grid.shape)
    )


def network_forecast(
    aligned: AlignedSeries, prediction: Prediction, horizon_days: int, settings: Settings
) -> FloatVolume | None:
    """Probability (I, J, K) of tumor ``horizon_days`` after the last visit, from the network's expected front speed.

    None when the last two masks have no front in common.
    """
    front = _network_front(aligned, prediction, horizon_days, settings)
    return None if front is None else soft_mask(front.phi)


# ---- the models ----


def _order() -> list[str]:
    """The default first: the one to trust."""
    return [DEFAULT_MODEL, *(m for m in (NETWORK, *MODELS) if m != DEFAULT_MODEL)]


def _baselines(
    masks: Sequence[npt.NDArray[np.uint8]], aligned: AlignedSeries, horizon: float, calibration: Calibration
) -> tuple[Forecasts, Box]:
    """Forecasts from the masks alone, on the voxels of a box of the common grid, and that box."""
    spacing = aligned.grid.spacing_mm
    whole = tuple(slice(0, n) for n in aligned.grid.shape)
    for box in (box_around(np.logical_or.reduce(masks), spacing, MARGIN_MM), whole):
        found = forecasts([m[box] for m in masks], aligned.days, spacing, horizon)
        if box == whole or not any(_reaches_out(one, calibration, box, whole) for one in found.made.values()):
            break
    return found, box


def _reaches_out(one: MaskForecast, calibration: Calibration, box: Box, whole: Box) -> bool:
    """True when a forecast or its band meets a side of the box that is no side of the grid."""
    known = one.motion_mm is not None and calibration.knows(one.model)
    phi = band(one, calibration).phi_outer if known else one.phi
    sides = [
        np.take(phi, index, axis)
        for axis, (part, all_of_it) in enumerate(zip(box, whole, strict=True))
        for index, free in ((0, part.start > all_of_it.start), (-1, part.stop < all_of_it.stop))
        if free
    ]
    return any(bool((side < 0).any()) for side in sides)


def _by_network(
    aligned: AlignedSeries, prediction: Prediction, horizon: int, settings: Settings
) -> dict[str, MaskForecast]:
    """The network's forecast where it ran."""
    if prediction.features is None:
        return {}
    front = _network_front(aligned, prediction, horizon, settings)
    return {} if front is None else {NETWORK: front}


def _network_front(
    aligned: AlignedSeries, prediction: Prediction, horizon_days: int, settings: Settings
) -> MaskForecast | None:
    last, spacing = len(aligned.days) - 1, aligned.grid.spacing_mm
    mask, before = prediction.mask(last), prediction.mask(last - 1)
    gap = aligned.days[last] - aligned.days[last - 1]
    speed = front_speed(before, mask, spacing, gap, valid=aligned.inside[last] & aligned.inside[last - 1])
    mean = mean_front_speed(speed, mask, spacing)
    if mean is None:
        return None
    phi, phi_before = signed_distance_mm(mask, spacing), signed_distance_mm(before, spacing)
    expected = predict.expected_speed(prediction, phi, phi_before, mean, gap, horizon_days, settings)
    return expected_front(phi, expected, spacing, horizon_days, mean)


# ---- what is said of them ----


def _band(one: MaskForecast, calibration: Calibration, weights: str) -> Band | None:
    """The calibrated band; None for a model, or a network's weights, that were not calibrated."""
    known = one.motion_mm is not None and calibration.knows(one.model, weights)
    return band(one, calibration) if known else None


def _why_no_band(one: MaskForecast, weights: str, calibration: Calibration) -> str:
    if one.model == NETWORK and one.motion_mm is not None:
        return f"No band: its error was measured with {calibration.weights}, not with these weights, {weights}."
    return "No band: its error was not measured."


def _row(
    model: str, one: MaskForecast | None, around: Band | None, scale: float, day: int, why_not: Mapping[str, str]
) -> dict[str, Any] | None:
    """A row of Report.forecasts; None for the network where it did not run. why_not: no forecast, or no band."""
    if one is None and model not in why_not:
        return None
    return {
        "method": model,
        "day": day,
        "volume_mm3": None if one is None else one.volume_mm3 * scale,
        "volume_low_mm3": None if around is None else around.volume_low_mm3 * scale,
        "volume_high_mm3": None if around is None else around.volume_high_mm3 * scale,
        "note": why_not.get(model, ""),
    }


def _note(chosen: MaskForecast, around: Band | None, calibration: Calibration) -> str:
    assert chosen.motion_mm is not None
    speed = chosen.motion_mm / chosen.horizon_days * DAYS_PER_MONTH
    said = f"Mean speed of the front: {speed:+.2f} mm/month (the tables give the median); forecast: it moves on at "
    said += f"that mean for {chosen.horizon_days:.0f} days."
    if abs(chosen.motion_mm) < min(chosen.spacing_mm) / 2:
        said += (
            f" That is {abs(chosen.motion_mm):.1f} mm, less than half a voxel: its outline is that of the last visit."
        )
    if around is None:
        return said
    return f"{said} Band: {calibration.level:.0%}, calibrated on simulated patients."


def _band_map(around: Band | None, box: Box, shape: tuple[int, ...]) -> npt.NDArray[np.uint8] | None:
    if around is None:
        return None
    inner, outer = around.masks
    answer = np.zeros(shape, np.uint8)
    answer[box] = inner + outer
    return answer
