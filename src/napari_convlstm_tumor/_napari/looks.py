"""How things look: contrast, colours, and the ends of the colour bar. Numbers in, numbers out; no patient, no space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.report.figures import lesion_colour
from napari_convlstm_tumor.report.slices import CT_WINDOW, ROBUST_PERCENTILES, WITHIN_ERROR_COLOUR, growth_limit

CT_AIR = -1000.0  # Hounsfield units of what no image covers
MR_RANGE = (0.0, 1.0)
# Windows a radiologist names. CT in Hounsfield units; MR as a share of each visit's own robust range.
CT_PRESETS = {
    "soft tissue": CT_WINDOW,
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1050.0),
    "brain": (0.0, 80.0),
    "liver": (-15.0, 135.0),
}
MR_PRESETS = {
    "robust range": MR_RANGE,
    "bright (enhancement)": (0.4, 1.1),
    "dark (oedema, cysts)": (0.0, 0.6),
    "full range": (0.0, 1.6),
}
# Percentiles of a regular subset of this many voxels differ from those of all by less than anyone can see.
PERCENTILE_SAMPLE = 500_000

__all__ = ["CT_WINDOW", "WITHIN_ERROR_COLOUR", "growth_limit", "lesion_colour"]

# Ids above this share the colour of id 1; no patient is read by colour alone with that many.
COLOURED_LESIONS = 64
# Told apart from each other and from every lesion by the colour-blind, too (tests/_napari/test_colours.py).
FORECAST_COLOUR = "#7df9ff"
BAND_COLOUR = "#3050c8"
HINT_COLOUR = "#ffff00"  # what a person points with: clicks and boxes
# Blue shrinks, red grows; clear in the middle, so that zero shows the image below. Halfway red is light: a darker one
# is the grey of what is within error to those who see no red.
GROWTH_COLOURS = (
    (0.10, 0.25, 0.95, 1.0),
    (0.30, 0.60, 1.00, 0.75),
    (1.00, 1.00, 1.00, 0.0),
    (1.00, 0.50, 0.40, 0.85),
    (0.90, 0.05, 0.10, 1.0),
)
GROWTH_CONTROLS = (0.0, 0.35, 0.5, 0.65, 1.0)


def scaled(visit: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """One visit's MR image, 0 and 1 at the robust ends of its values; voxels at zero are background, not counted."""
    image = np.ascontiguousarray(visit, dtype=np.float32)
    sample = image.ravel()[:: max(1, image.size // PERCENTILE_SAMPLE)]
    sample = sample[np.isfinite(sample) & (sample != 0)]
    if not sample.size:
        return image
    low, high = np.percentile(sample, ROBUST_PERCENTILES)
    low = 0.0 if sample.min() >= 0 else low
    return (image - np.float32(low)) / np.float32(max(high - low, np.finfo(np.float32).tiny))


def one_label(colour: str) -> Any:
    """Colours of a mask: label 1 in ``colour``; anything a person paints with another label in the default's grey."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict={None: "gray", 0: "transparent", 1: colour})


def labels_in(colour: str) -> Any:
    """Every label in one colour; an outline then runs between labels too (the two surfaces of a band)."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict={None: colour, 0: "transparent"})


def by_lesion() -> Any:
    """Colours of lesions by id, those of the curve and of the report."""
    from napari.utils.colormaps import DirectLabelColormap

    colours = {n: lesion_colour(n) for n in range(1, COLOURED_LESIONS + 1)}
    return DirectLabelColormap(color_dict={None: lesion_colour(1), 0: "transparent", **colours})


def growth_colormap() -> Any:
    """Blue - clear - red; NaN is clear."""
    from napari.utils.colormaps import Colormap

    return Colormap(
        GROWTH_COLOURS,
        name="growth",
        display_name="shrinks - grows",
        controls=GROWTH_CONTROLS,
        nan_color="transparent",
    )
