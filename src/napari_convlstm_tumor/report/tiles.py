"""The pictures of a patient's page, all of one slice: a tile per visit with outlines, a tile per map between two."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.analysis import FRONT_SPEED, LOG_GROWTH, LOG_JACOBIAN, Analysis, ChangeMap
from napari_convlstm_tumor.report import slices
from napari_convlstm_tumor.report.figures import lesion_colour
from napari_convlstm_tumor.series import FloatVolume

# The image shown when there are several: where a tumor's edge is best seen comes first.
SHOWN_FIRST = ("t1c", "flair", "t2", "ct", "t1", "other")
MODALITY_NAMES = {"t1": "T1", "t1c": "T1 with contrast", "t2": "T2", "flair": "FLAIR", "ct": "CT", "other": "Image"}

# What a map is called, what it means ({} = month or visit) and its weakness, from docs/measurement.md.
MAP_WORDS = {
    FRONT_SPEED: (
        "Growth map",
        "Speed of the tumor's front since the visit before.",
        "it goes in steps of a voxel, coarse beside what a front moves; the median and the growth rate are sharper.",
    ),
    LOG_GROWTH: (
        "Log-growth map",
        "Growth of the tumor's volume around each place since the visit before: +0.10 is +10.5 % a {}. "
        "Left clear: too little tumor near by at one of the two visits to compare.",
        "it averages over about 12 mm, so it shows which side grows, and the depth of a large tumor seems to rest.",
    ),
    LOG_JACOBIAN: (
        "Log-Jacobian map",
        "Expansion of the tissue at each place since the visit before, by a deformable registration of the two images: "
        "+0.10 is +10.5 % a {}.",
        "it is pulled towards zero, a tumor that grows without pushing shows nothing, and about 5 % of unchanged "
        "tissue is coloured by chance.",
    ),
}


def pictures(analysis: Analysis) -> dict[str, Any]:
    """What the page's template needs: tiles of the visits and of the maps between them, all of one slice."""
    plane = slices.choose_plane(analysis.masks, analysis.grid)
    modality = _shown(analysis)
    return {
        "plane": plane,
        "slices": analysis.grid.shape[plane.axis],
        "modality": MODALITY_NAMES[modality],
        "tiles": [_visit_tile(analysis, plane, modality, t) for t in range(len(analysis.days))],
        "maps": [_map(analysis, one, plane, modality) for one in analysis.change_maps],
    }


def _shown(analysis: Analysis) -> str:
    """The modality of most visits; among those the first of SHOWN_FIRST."""
    there = {m: sum(_has_image(frame) for frame in images) for m, images in analysis.images.items()}
    return max(there, key=lambda m: (there[m], -SHOWN_FIRST.index(m)))


def _has_image(frame: npt.NDArray[Any]) -> bool:
    """False for the even frame that stands for an absent image."""
    return bool(frame.max() > frame.min())


def _visit_tile(analysis: Analysis, plane: slices.Plane, modality: str, t: int) -> dict[str, Any]:
    """src (None without an image), and what the reader would otherwise ask: is the tumor on this slice?"""
    frame, mask = analysis.images[modality][t], analysis.masks[t]
    note = "no tumor in the mask" if not mask.any() else "" if plane.whole(mask).any() else "tumor not on this slice"
    if not _has_image(frame):
        return {"src": None, "note": note}
    outlines = _outlines(analysis, plane, t)
    forecast = analysis.prediction.forecast
    if t == len(analysis.days) - 1 and forecast is not None:
        outlines.append(slices.Outline(plane.cut(forecast) >= 0.5, slices.FORECAST_OUTLINE, dashed=True))
    return {"src": slices.slice_png(frame, plane, modality == "ct", outlines), "note": note}


def _outlines(analysis: Analysis, plane: slices.Plane, t: int) -> list[slices.Outline]:
    """Every lesion in the colour of its curve, with its number where there are several; the whole mask where lesions
    are not known."""
    if analysis.lesions is None:
        return [slices.Outline(plane.cut(analysis.masks[t]) != 0, lesion_colour(1))]
    labels, several = plane.cut(analysis.lesions[t]), analysis.lesions.max() > 1
    return [
        slices.Outline(labels == n, lesion_colour(int(n)), name=str(n) if several else "")
        for n in np.unique(labels[labels > 0])
    ]


def _map(analysis: Analysis, one: ChangeMap, plane: slices.Plane, modality: str) -> dict[str, Any]:
    """A map's colour bar (None where nothing is known) and its tiles, one per visit but the first."""
    values = _painted(analysis, one)
    limit = slices.growth_limit(values)
    title, meaning, weakness = MAP_WORDS[one.name]
    return {
        "name": one.name,
        "title": title,
        "meaning": meaning.format("month" if analysis.dated else "visit"),
        "weakness": weakness,
        "clear_outside": one.name == LOG_JACOBIAN,
        "greyed": one.reliable is not None,
        "colour_bar": slices.colour_bar(limit, one.unit) if np.isfinite(values).any() else None,
        "tiles": [_map_tile(analysis, one, values[t], plane, modality, t, limit) for t in range(1, len(values))],
    }


def _painted(analysis: Analysis, one: ChangeMap) -> FloatVolume:
    """The values that are drawn. A log-Jacobian is known in the whole body: outside the tumor only what is reliable is,
    as grey for the rest would hide the image."""
    if one.name != LOG_JACOBIAN or one.reliable is None:
        return one.values
    tumor = analysis.masks != 0
    tumor[1:] |= tumor[:-1]
    return np.where(tumor | one.reliable, one.values, np.float32(np.nan))


def _map_tile(
    analysis: Analysis,
    one: ChangeMap,
    values: FloatVolume,
    plane: slices.Plane,
    modality: str,
    t: int,
    limit: float,
) -> dict[str, Any]:
    """values: (I, J, K), those that are drawn. share: how much of the tumor's map is reliable, in percent; of rates
    alone, as a speed is known at the front only."""
    shown, frame = plane.cut(values), analysis.images[modality][t]
    share = None if one.name == FRONT_SPEED else _reliable_percent(analysis, one, t)
    if not np.isfinite(shown).any():
        return {"src": None, "visit": t + 1, "share": share}
    trusted = None if one.reliable is None else plane.cut(one.reliable[t])
    fronts = [
        slices.Outline(plane.cut(analysis.masks[n]) != 0, slices.FRONT_OUTLINE, n < t, thick=False) for n in (t - 1, t)
    ]
    src = slices.slice_png(frame, plane, modality == "ct", fronts, shown, limit, trusted)
    return {"src": src, "visit": t + 1, "share": share}


def _reliable_percent(analysis: Analysis, one: ChangeMap, t: int) -> float | None:
    """Of the tumor of a visit (0-based) where the map is known; None where nowhere."""
    known = (analysis.masks[t] != 0) & np.isfinite(one.values[t])
    return 100 * float(one.reliable[t][known].mean()) if one.reliable is not None and known.any() else None
