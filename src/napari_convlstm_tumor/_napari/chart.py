"""The chart of report.html with the numbers needed to click on it, in colours for a dark ground. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from napari_convlstm_tumor._napari.curve import GRID, LIGHT, PAPER
from napari_convlstm_tumor.report.figures import INK, NARROW, Curve, Point, volume_figure
from napari_convlstm_tumor.series import Report

# More curves than this cannot be told apart; the largest lesions are drawn (as in report.html).
MOST_CURVES = 8
LEFT_OUT = ("absent", "speck")


@dataclass(frozen=True, eq=False)
class LiveChart:
    """A figure; x of every visit; and (x, mL, 0-based visit, lesion id or None) of every point on it."""

    figure: Figure
    axes: Axes
    times: list[float]
    places: list[tuple[float, float, int, int | None]]


def chart_of(report: Report) -> LiveChart | None:
    """The growth curve of a report; None with a single visit."""
    if len(report.visits) < 2:
        return None
    dated = all(row["day"] is not None for row in report.visits)
    time = "day" if dated else "visit"
    lesions = _largest(report)
    total = _curve("total", report.visits, time)
    curves = {n: _curve(f"lesion {n}", rows, time) for n, rows in lesions.items()} if len(lesions) > 1 else {}
    ahead = [_curve(str(row["method"]), [row], time) for row in report.forecasts] if dated else []
    figure = volume_figure(NARROW, total, curves, [c for c in ahead if c.points], dated)
    _darken(figure)
    times = [float(row[time]) for row in report.visits]
    numbered = [(total, None), *((curve, n) for n, curve in curves.items())]
    places = [(p.x, p.ml, times.index(p.x), n) for curve, n in numbered for p in curve.points]
    return LiveChart(figure, figure.axes[0], times, places)


def _largest(report: Report) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for row in report.lesions:
        if row["state"] not in LEFT_OUT:
            found.setdefault(int(row["lesion"]), []).append(row)
    order = sorted(found, key=lambda n: -max(row["volume_mm3"] or 0.0 for row in found[n]))
    return {n: found[n] for n in sorted(order[:MOST_CURVES])}


def _curve(label: str, rows: Sequence[Mapping[str, Any]], time: str) -> Curve:
    points = []
    for row in rows:
        volume, *ends = (row.get(name) for name in ("volume_mm3", "volume_low_mm3", "volume_high_mm3"))
        if volume is not None:
            low, high = (None if end is None else end / 1000 for end in ends)
            points.append(Point(float(row[time]), volume / 1000, low, high))
    return Curve(label, tuple(points))


def _darken(figure: Figure) -> None:
    """Ink becomes light, paper dark."""
    figure.patch.set_facecolor(PAPER)
    axes = figure.axes[0]
    axes.set_facecolor(PAPER)
    axes.tick_params(colors=LIGHT)
    axes.grid(color=GRID)
    for part in (axes.xaxis.label, axes.yaxis.label, *(t for legend in figure.legends for t in legend.get_texts())):
        part.set_color(LIGHT)
    for spine in axes.spines.values():
        spine.set_color(LIGHT)
    handles = [line for legend in figure.legends for line in legend.get_lines()]
    for line in (*axes.lines, *handles):
        if same_color(line.get_color(), INK):
            line.set_color(LIGHT)
        if same_color(line.get_markerfacecolor(), INK):
            line.set_markerfacecolor(LIGHT)
