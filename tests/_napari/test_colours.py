"""Colours that must be told apart are, by the colour-blind, too. What they say is said in another way as well."""

from itertools import combinations
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

pytest.importorskip("napari")

import matplotlib

from napari_convlstm_tumor._napari import curve, linked, looks, parts, strip
from napari_convlstm_tumor.report import dicom_seg, figures, slices

sight = run_path(str(Path(__file__).with_name("colour_vision.py")))
VISION, difference = sight["VISION"], sight["difference"]
# CIELAB; about six times what is seen at all. Okabe and Ito's own colours come as near as 16 to each other.
FAR_ENOUGH = 15.0
LESIONS = {f"lesion {n}": colour for n, colour in enumerate(figures.LESION_COLOURS, start=1)}
GREY = slices.WITHIN_ERROR_COLOUR
BRAIN = (0.0, 0.25, 0.5, 0.75, 1.0)  # greys of the image under a colour that is partly clear


def over(colour, grey):
    """A colour (red, green, blue, opacity) drawn over a grey."""
    *rgb, opacity = colour
    return tuple(np.clip(opacity * np.array(rgb) + (1 - opacity) * grey, 0, 1))


def too_near(colours):
    pairs = combinations(colours.items(), 2)
    found = ((a, b, vision, difference(x, y, vision)) for (a, x), (b, y) in pairs for vision in VISION)
    return [(a, b, vision, round(far)) for a, b, vision, far in found if far < FAR_ENOUGH]


@pytest.mark.parametrize(
    "colours",
    [
        # Lines over the image. Lesions have numbers (status bar, table), and a marker of their own in the curve.
        {**LESIONS, "forecast": looks.FORECAST_COLOUR, "forecast band": looks.BAND_COLOUR},
        {**LESIONS, "forecast": looks.FORECAST_COLOUR, "clicks and boxes": looks.HINT_COLOUR},
        {**LESIONS, "crosshair": linked.CROSSHAIR_COLOUR},
        # The strip; the chosen visit is bold and framed, a doubtful registration begins with "!".
        {"ground": strip.GROUND, "faint": strip.FAINT, "bar": strip.BAR, "chosen": strip.CHOSEN},
        {"ground": strip.GROUND, "text": strip.TEXT, "faint": strip.FAINT, "caution": parts.CAUTION_COLOUR},
        # The curve; simpler forecasts (faint) are open marks without a line, and not in this list.
        {**LESIONS, "paper": curve.PAPER, "total": curve.LIGHT, "forecast": figures.FORECAST_COLOUR},
        {**LESIONS, "paper": "white", "total": figures.INK, "forecast": figures.FORECAST_COLOUR},
        # Marks of the report stand beside their word.
        {"text": "#1d2733", "alert": "#a34700", "paper": "white"},
    ],
    ids=["forecast", "hints", "crosshair", "strip", "cautions", "curve", "curve of the report", "words of the report"],
)
def test_colours_that_must_be_told_apart(colours):
    assert too_near(colours) == []


@pytest.mark.parametrize("grey", BRAIN)
def test_the_viewers_growth_map_over_any_tissue(grey):
    """From halfway outwards; nearer to zero the map fades into the image, as it should."""
    drawn = looks.growth_colormap().map(np.array(looks.GROWTH_CONTROLS))
    shrinks, shrinks_half, _, grows_half, grows = (over(colour, grey) for colour in drawn)
    assert too_near({"shrinks": shrinks, "grows": grows, "within error": GREY}) == []
    assert too_near({"shrinks": shrinks_half, "grows": grows_half, "within error": GREY}) == []


def test_the_reports_growth_map():
    shrinks, less, zero, more, grows = matplotlib.colormaps[slices.GROWTH_COLOURS](np.linspace(0, 1, 5))[:, :3]
    steps = {"shrinks": shrinks, "less": less, "zero": zero, "more": more, "grows": grows, "within error": GREY}
    assert too_near(steps) == []


def test_dicom_has_the_colours_of_the_report():
    assert [matplotlib.colors.to_hex(np.array(c) / 255) for c in dicom_seg.COLOURS] == list(figures.LESION_COLOURS)


def test_the_check_sees_what_it_is_for():
    brown, olive = "#b35900", "#6b7d00"
    assert difference(brown, olive, "common") > 2 * FAR_ENOUGH
    assert "deuteranopia" in [vision for _, _, vision, _ in too_near({"brown": brown, "olive": olive})]
