"""Curves of a report, and how any figure becomes a data URI. No display, no patient, no dates."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito 2008, those that stand out both on white paper and on a dark image.
LESION_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00")
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">")
BAND_COLOUR, FORECAST_COLOUR = "#56b4e9", "#0072b2"
INK, FAINT = "#1d2733", "#8a949e"
# Inches: a chart beside text and one for a phone, chosen by the page, so that letters stay the same size on both.
WIDE, NARROW = (7.2, 3.7), (3.9, 3.4)


@dataclass(frozen=True)
class Point:
    """A volume in mL at a day (or visit), with its interval when known."""

    x: float
    ml: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Curve:
    """Volumes over time under one name."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """One chart drawn twice, as data URIs: for a wide page and for a phone."""

    wide: str
    narrow: str


def volume_chart(
    total: Curve,
    lesions: Mapping[int, Curve],
    forecasts: Sequence[Curve] = (),
    dated: bool = True,
) -> Chart:
    """Volume in mL over days (visits when not dated): total, lesions by id, and forecasts.

    forecasts: each of one point; the first is drawn with its band and a dashed line from the last total, the others
    (what simpler rules say) as open marks.
    """
    wide, narrow = (svg_uri(volume_figure(size, total, lesions, forecasts, dated)) for size in (WIDE, NARROW))
    return Chart(wide, narrow)


def lesion_colour(lesion: int) -> str:
    """The colour of a lesion, the same in the curve and on the slices."""
    return LESION_COLOURS[(lesion - 1) % len(LESION_COLOURS)]


def volume_figure(
    size: tuple[float, float], total: Curve, lesions: Mapping[int, Curve], forecasts: Sequence[Curve], dated: bool
) -> Figure:
    """Volume over the days: total, lesions and forecasts with their bands; size in inches."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    _plot(axes, total, INK, "o", 2.2)
    for lesion, curve in lesions.items():
        _plot(axes, curve, lesion_colour(lesion), MARKERS[(lesion - 1) % len(MARKERS)], 1.3)
    for n, forecast in enumerate(forecasts):
        _plot_forecast(axes, total, forecast, MARKERS[n % len(MARKERS)], main=n == 0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("days since the first visit" if dated else "visit")
    axes.set_ylabel("volume in mL")
    if not dated:
        axes.set_xticks([p.x for p in total.points])
    axes.grid(color="#e3e7eb", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if lesions or forecasts:
        figure.legend(loc="outside lower center", ncols=max(1, int(size[0] / 1.9)), fontsize=9, frameon=False)
    return figure


def _plot(axes: Axes, curve: Curve, colour: str, marker: str, width: float) -> None:
    x, y = [p.x for p in curve.points], [p.ml for p in curve.points]
    axes.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=width, label=curve.label, zorder=3)
    _bars(axes, curve.points, colour)


def _plot_forecast(axes: Axes, total: Curve, forecast: Curve, marker: str, main: bool) -> None:
    point = forecast.points[0]
    if not main:
        axes.plot(
            point.x,
            point.ml,
            marker,
            markersize=6,
            markerfacecolor="white",
            color=FAINT,
            label=forecast.label,
            zorder=2,
        )
        return
    last = total.points[-1]
    if point.low is not None and point.high is not None:
        axes.fill_between(
            [last.x, point.x], [last.ml, point.low], [last.ml, point.high], color=BAND_COLOUR, alpha=0.25, linewidth=0
        )
    axes.plot([last.x, point.x], [last.ml, point.ml], "--", color=FORECAST_COLOUR, linewidth=1.6, zorder=3)
    axes.plot(
        point.x,
        point.ml,
        "o",
        markersize=7,
        markerfacecolor="white",
        color=FORECAST_COLOUR,
        label=forecast.label,
        zorder=4,
    )
    _bars(axes, forecast.points, FORECAST_COLOUR)


def _bars(axes: Axes, points: Sequence[Point], colour: str) -> None:
    for p in points:
        if p.low is not None and p.high is not None:
            axes.plot([p.x, p.x], [p.low, p.high], "_-", color=colour, linewidth=1, markersize=7, zorder=2)


# ---- data URIs ----


def png_uri(figure: Figure) -> str:
    """The figure as a PNG, without metadata."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi="figure", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def svg_uri(figure: Figure) -> str:
    """The figure as an SVG: letters as paths, no date inside, the same bytes every time."""
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": "report", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
