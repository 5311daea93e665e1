"""The pictures of a patient's page, all of one slice: a tile per visit with outlines, a tile per growth between two."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.report import slices
from napari_convlstm_tumor.report.figures import lesion_colour

# The image shown when there are several: where a tumor's edge is best seen comes first.
SHOWN_FIRST = ("t1c", "flair", "t2", "ct", "t1", "other")
MODALITY_NAMES = {"t1": "T1", "t1c": "T1 with contrast", "t2": "T2", "flair": "FLAIR", "ct": "CT", "other": "Image"}


def pictures(analysis: Analysis, reliable: npt.NDArray[np.bool_] | None) -> dict[str, Any]:
    """What the page's template needs: tiles of the visits and of the growth between them, all of one slice.

    reliable: (T, I, J, K), False where the growth map is within its error, or None when not known.
    """
    plane = slices.choose_plane(analysis.masks, analysis.grid)
    modality = _shown(analysis)
    limit = slices.growth_limit(analysis.growth)
    count = len(analysis.days)
    return {
        "plane": plane,
        "slices": analysis.grid.shape[plane.axis],
        "modality": MODALITY_NAMES[modality],
        "tiles": [_visit_tile(analysis, plane, modality, t) for t in range(count)],
        "growth_tiles": [_growth_tile(analysis, plane, modality, t, limit, reliable) for t in range(1, count)],
        "colour_bar": slices.colour_bar(limit, analysis.growth_unit) if np.isfinite(analysis.growth).any() else None,
        "greyed": reliable is not None,
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
    """Every lesion in the colour of its curve; the whole mask where lesions are not known."""
    if analysis.lesions is None:
        return [slices.Outline(plane.cut(analysis.masks[t]) != 0, lesion_colour(1))]
    labels = plane.cut(analysis.lesions[t])
    return [slices.Outline(labels == n, lesion_colour(int(n))) for n in np.unique(labels[labels > 0])]


def _growth_tile(
    analysis: Analysis,
    plane: slices.Plane,
    modality: str,
    t: int,
    limit: float,
    reliable: npt.NDArray[np.bool_] | None,
) -> dict[str, Any]:
    growth, frame = plane.cut(analysis.growth[t]), analysis.images[modality][t]
    if not np.isfinite(growth).any():
        return {"src": None, "visit": t + 1}
    trusted = None if reliable is None else plane.cut(reliable[t])
    fronts = [
        slices.Outline(plane.cut(analysis.masks[n]) != 0, slices.FRONT_OUTLINE, n < t, thick=False) for n in (t - 1, t)
    ]
    src = slices.slice_png(frame, plane, modality == "ct", fronts, growth, limit, trusted)
    return {"src": src, "visit": t + 1}
