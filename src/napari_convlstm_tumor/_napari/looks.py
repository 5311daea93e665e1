"""How things look: contrast, colours, and the ends of the colour bar. Numbers in, numbers out; no patient, no space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Soft tissue in Hounsfield units: centre 40, width 400, the usual abdominal window.
CT_WINDOW = (-160.0, 240.0)
CT_AIR = -1000.0  # Hounsfield units of what no image covers
MR_RANGE = (0.0, 1.0)
# A single bright vessel or a coil's hot spot must not darken the rest of the picture.
ROBUST_PERCENTILES = (1.0, 99.5)
# The colours of the growth map end here, so that one stray voxel does not make the rest pale.
GROWTH_PERCENTILE = 98.0
# Ends of the growth colour bar are one of these times a power of ten, so that its ticks can be read.
ROUND_NUMBERS = np.array([1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0])
# Slower than any growth that can be measured between two visits; keeps a colour bar from ending at a rounding error.
SLOWEST = 0.01
# Percentiles of a regular subset of this many voxels differ from those of all by less than anyone can see.
PERCENTILE_SAMPLE = 500_000

TUMOR_COLOUR = "#ffd54a"
FORECAST_COLOUR = "#7df9ff"
CLICK_COLOUR = "#00e5ff"
# Blue shrinks, red grows (told apart by colour-blind people); clear in the middle, so that zero shows the image below.
GROWTH_COLOURS = (
    (0.10, 0.25, 0.95, 1.0),
    (0.30, 0.60, 1.00, 0.75),
    (1.00, 1.00, 1.00, 0.0),
    (1.00, 0.55, 0.20, 0.75),
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


def growth_limit(growth: npt.NDArray[np.floating[Any]]) -> float:
    """End of the colour bar: the robust largest speed, rounded up to a number that reads well; 1 when nothing moves."""
    speeds = np.abs(growth[np.isfinite(growth) & (growth != 0)])
    if not speeds.size:
        return 1.0
    largest = max(float(np.percentile(speeds, GROWTH_PERCENTILE)), SLOWEST)
    power = 10.0 ** np.floor(np.log10(largest))
    enough = largest / power * (1 - 1e-6) <= ROUND_NUMBERS
    return float(ROUND_NUMBERS[enough][0] * power)


def one_label(colour: str) -> Any:
    """Colours of a mask: label 1 in ``colour``; anything a person paints with another label in the default's grey."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict={None: "gray", 0: "transparent", 1: colour})


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
